/* Pulls (11, 361): looked up in the queue files, answered with mapped log bytes. A pull that finds nothing may be
 * parked (long_poll.h), one that finds cold bytes waits for a helper, one that finds the catalogue in doubt waits for a
 * snapshot; each is then kept as a struct pull and run again from the start. */
#pragma once

#include "read_log.h"
#include "reply.h"

struct pull {
    struct channel_ref channel;
    int32_t opaque;
    bool oneway;
    struct bytes group, topic, expression, expression_type;
    int32_t queue_id, max_count, sys_flag;
    int64_t requested_offset, commit_offset, suspend_ms, subscription_version;
    int64_t offset;      /* where to look on: behind what a parked poll has found unwanted meanwhile */
    int64_t deadline_ms; /* monotonic; when parked */
    bool again;          /* was run before: commits no offset */
    bool waited;         /* a helper brought its first bytes in */
    bool has_min_max;    /* it was parked once: what to say at its deadline */
    int64_t min_offset, max_offset;

    /* Links of a parked one (long_poll.c). */
    uint32_t slot;
    struct pull *slot_next, *slot_prev;
    struct pull *channel_next, *channel_prev;
    struct pull *wheel_next, *wheel_prev;
    unsigned wheel_bucket;
    char text[]; /* a kept one's strings */
};
enum { PULL_COUNT_MAX = 128, PULL_BYTES_MAX = 4 << 20 }; /* of one answer, whatever the configuration says */
enum {
    PULL_COMMIT_OFFSET = 1,
    PULL_SUSPEND = 2,
    PULL_SUBSCRIPTION = 4,
};

void pull_init(struct front *front);
void pull_done(struct front *front);
int pull_message(struct front *front, struct channel *channel, const struct frame *frame);
/* Runs a kept pull again; takes it. */
void pull_again(struct front *front, struct pull *pull);
/* "Nothing new": a parked poll's deadline. Takes it. */
void pull_give_up(struct front *front, struct pull *pull);

/* There is no place for one more to wait. Takes it. */
void pull_refuse(struct front *front, struct pull *pull, const char *remark);

/* What a lookup found: all of an answer but its opaque. */
struct pull_found {
    int32_t code;
    const char *remark;
    int64_t next_offset, min_offset, max_offset;
    int forbidden_type; /* 0: none */
    unsigned count, range_count;
    size_t size;
    struct {
        struct log_file *file;
        const uint8_t *data;
        size_t size;
    } ranges[PULL_COUNT_MAX];
    struct cold_range cold;
};
struct tag_filter;
/* -EAGAIN: `cold` is to be brought in first. -EINPROGRESS: the store makes the first entry again. Everything else is in ret_found. */
int pull_lookup(struct front *front, const struct pull *pull, const struct queue_ref *queue,
                const struct tag_filter *filter, struct pull_found *ret_found);
