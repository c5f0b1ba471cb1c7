/* Requests of administrators: what they share. A request that cannot be answered from the catalogue becomes a job: it
 * sends records to the store one after the other, or collects offsets that the store lists, or has a helper thread read
 * store times; each step says what comes next, and the last one answers. One outstanding step per job, so jobs cost the
 * store one small record at a time. */
#pragma once

#include "catalogue.h"
#include "helper.h"
#include "json/json_body.h"
#include "reply.h"

int admin_new(struct front *front);
void admin_free(struct admin *admin);
/* Each turn: jobs that found the ring full go on. */
void admin_turn(struct front *front);
bool admin_waiting(const struct front *front);

/* False: answered with NO_PERMISSION, the peer is not in `adminFrom`. */
bool admin_may(struct front *front, struct channel *channel, const struct frame *frame);

/* Offsets as the store listed them. */
struct listed_queue {
    int32_t queue_id;
    int64_t offset;
};
struct listed_offsets {
    char *topic, *group;
    unsigned count, room;
    struct listed_queue *queues; /* by queue id */
};
struct offset_list {
    struct listed_offsets *entries;
    unsigned count, room;
    struct msg_version version;
};
const struct listed_offsets *offset_list_find(const struct offset_list *list, const char *topic, const char *group);
int64_t listed_offset(const struct listed_offsets *entry, int32_t queue_id); /* −1: none; entry may be NULL */

/* One queue whose store times a helper thread looks up. */
struct queue_times {
    const char *topic; /* of the job's memory */
    int32_t queue_id;
    int64_t min_offset, max_offset, offset;      /* offset: the group's, or what is asked */
    int64_t first_ms, last_ms, before_ms, at_ms; /* of min, max − 1, offset − 1, offset; −1: no such message */
    int64_t found_offset;                        /* of search_ms */
};

struct admin_job;
/* The next step. It ends the job, or starts something and returns. */
typedef void (*admin_then)(struct front *front, struct admin_job *job);

struct admin_record {
    struct admin_record *next;
    uint16_t kind;
    uint32_t size;
    uint8_t payload[];
};

struct admin_job {
    struct helper_job helper; /* first: helpers know jobs by it */
    struct admin_job *next;   /* of those that wait for room */
    struct channel_ref channel;
    int32_t opaque;
    bool oneway, collecting;
    const struct front_config *config;
    admin_then then;
    struct admin_record *records, **records_end;

    /* What the request said, and what was found. */
    char *topic, *group, *text; /* group and text: also the filter of a listing */
    char *compare, *filter;
    bool flag;
    struct offset_list offsets;
    char *after; /* where the listing stands */
    int32_t after_queue;
    struct queue_times *rows;
    unsigned row_count, row_room;
    int64_t search_ms; /* −1: no search */
    struct text body;  /* of the answer */
};

/* So many jobs are under way that further requests have to wait. */
bool admin_is_full(const struct front *front);
/* A job for this request; it holds the channel open for its answer. */
struct admin_job *admin_begin(struct front *front, struct channel *channel, const struct frame *frame);
/* The answer; the job is gone. */
void admin_end(struct front *front, struct admin_job *job, int32_t code, const char *remark);
void admin_end_body(struct front *front, struct admin_job *job); /* code 0 and job->body */

/* A record for the store, whose first member is a token; strings follow its fixed part. */
void admin_add_record(struct admin_job *job, uint16_t kind, const void *fixed, size_t fixed_size,
                      const struct bytes *strings, unsigned count);
/* Sends them all, each when the one before was answered with code 0; another code ends the job with it. */
void admin_send(struct front *front, struct admin_job *job, admin_then then);
/* Lists offsets of the group and topic ("": of all) into job->offsets. */
void admin_collect(struct front *front, struct admin_job *job, struct bytes group, struct bytes topic, admin_then then);
struct queue_times *admin_add_row(struct admin_job *job, const char *topic, int32_t queue_id);
/* Store times of all rows, and offsets of search_ms, on a helper thread. */
void admin_look_up(struct front *front, struct admin_job *job, admin_then then);

/* What reply.c takes from the ring. */
void admin_answered(struct front *front, struct admin_job *job, int32_t code, struct bytes remark);
void admin_listed(struct front *front, struct admin_job *job, const uint8_t *payload, uint32_t size);

/* Sends a text as the whole body of an answer, and frees it. */
void admin_reply_body(struct channel *channel, const struct frame *frame, struct text *text);
/* As a C string; never NULL. */
char *admin_copy(struct bytes text);
/* "" if the field is not there. */
struct bytes admin_field(const struct frame *frame, const char *key);
/* Min and max offset of a queue now; false: it is not (any more) the topic's. */
bool admin_queue_range(struct front *front, const struct topic_entry *topic, int32_t queue_id, int64_t *ret_min,
                       int64_t *ret_max);

/* Texts in Apache's JSON. */
void admin_put_queue(struct text *text, const struct front *front, const char *topic, int32_t queue_id);
void admin_put_version(struct text *text, struct msg_version version);
void admin_put_subscription(struct text *text, const struct subscription_entry *subscription);
void admin_put_topic(struct text *text, const struct topic_entry *topic);
void admin_put_group(struct text *text, const struct group_entry *group);
/* "," but before the first. */
void admin_put_comma(struct text *text, bool *more);
/* Members of objects that clients sent: numbers and booleans may be text. */
int64_t admin_json_i64(const json_t *object, const char *key, int64_t missing);
bool admin_json_bool(const json_t *object, const char *key, bool missing);
