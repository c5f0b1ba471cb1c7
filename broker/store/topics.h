/* Topics of this broker: configuration, and the range of queue table slots in which each topic's queues stand. Loaded
 * from the image (warm) or config/topics.json (cold); every change goes to the image before anybody sees it, then to
 * the catalogue, to the name servers and, batched, to topics.json in Apache's format. */
#pragma once

#include "base/bytes.h"
#include "data_version.h"
#include "image.h"
#include "msg/msg.h"
#include "store.h"

struct topic {
    char *name;
    int32_t read_queues, write_queues, perm, sys_flag;
    bool order, multi_tag;
    uint32_t slot_base, slot_count, slot_generation; /* queue n: slot slot_base + n, n < slot_count */
    char *extra; /* JSON object text of what else topics.json says of it (attributes, keys of others); NULL: nothing */
};

struct topic *topics_find(struct topics *topics, struct bytes name);
struct topic *topics_of_slot(struct topics *topics, uint32_t slot);
/* Calls back for each topic; stops at the first non-zero return and returns it. */
int topics_each(struct topics *topics, int (*visit)(struct topic *topic, void *context), void *context);

/* Send path: the rules of remoting facts 3.4. Returns a response code (0 = *ret_topic is there, made now or before). */
int32_t topics_auto_create(struct store *store, struct bytes name, struct bytes default_topic, int32_t queues,
                           bool unit_mode, struct topic **ret_topic, const char **ret_remark);
/* For recovery: a queue found in the log or on disk whose topic no file knows any more (queues at least this many). */
int topics_ensure_recovered(struct store *store, struct bytes name, int32_t queues, struct topic **ret_topic);
/* The record at `pos` of the log is of a topic that was dropped since, whether or not there is one of that name again. */
bool topics_was_dropped(struct topics *topics, struct bytes name, int64_t pos);
/* Names of topics that were dropped not long ago and are not there. */
void topics_each_dropped(struct topics *topics, void (*visit)(const char *name, void *context), void *context);

/* Implemented by the log half (consume_queue.c): a topic's queues moved to another slot range or got slots; copies what
 * the queue table says (old_count may be 0), makes the new slots' generation visible last. Called before the image
 * knows of the move, so that a store killed in between still has the old range whole; the old slots are freed
 * (generation 0) after it. Not called while store->consume_queues is NULL: what metadata_open() loads and makes, the
 * log half takes over with topics_each() when it opens its queues, and a slot whose generation in the queue table is
 * not the topic's is then to be set up anew. */
void consume_queues_slots_assigned(struct store *store, struct topic *topic, uint32_t old_base, uint32_t old_count);

/* Implemented by the log half: the topic's queues end and their files go away. Called behind the image record, before the
 * slots become free; not called while store->consume_queues is NULL, what it would have done is done by
 * consume_queues_open() with topics_each_dropped(). */
void consume_queues_topic_dropped(struct store *store, const struct topic *topic);

/* The rest is for the metadata half. */
int topics_new(struct topics **ret_topics);
void topics_free(struct topics *topics);
int topics_apply_image(struct store *store, enum image_type type, struct bytes payload);
/* A record of the metadata journal at a cold start: a topic's slots are its own matter, a drop leaves offsets to the caller. */
int topics_apply_journal(struct store *store, enum image_type type, struct bytes payload);
/* Whom a put or drop is about; empty if it makes no sense. */
struct bytes topics_image_name(enum image_type type, struct bytes payload);
/* A recovery from files has dispatched all that there is: new records may stand where dropped ones did. True: there were
 * any. */
bool topics_forget_dropped(struct topics *topics);
/* After the last image record or file entry: -EBADMSG if two topics hold one slot. */
int topics_loaded(struct store *store);
void topics_write_image(struct topics *topics, struct image *image);
int topics_make_system(struct store *store);
struct data_version topics_version(const struct topics *topics);
/* Something else that registrations carry has changed. Room in the image was made (one record). */
void topics_next_version(struct store *store);
void topics_set_version(struct topics *topics, const struct data_version *version);

/* What a topic is to look like; `least_slots` keeps room for queues that exist beyond both counts. */
struct topic_wish {
    struct bytes name;
    int32_t read_queues, write_queues, perm, sys_flag;
    bool order, multi_tag;
    const char *extra;
    int32_t least_slots;
};
/* Creates or changes, and tells everybody; a topic that is so already stays untouched. 0, -ENOSPC (image or queue table
 * full) or -EINVAL (a count or an extra part out of bounds). */
int topics_put(struct store *store, const struct topic_wish *wish, struct topic **ret_topic);
/* %RETRY%group, with its 1 … n queues and perm 6; nothing if it is there. */
int topics_ensure_retry(struct store *store, struct bytes group, int32_t queues, int32_t sys_flag);
/* MSG_TOPIC_PUT: the rules of UPDATE_AND_CREATE_TOPIC. */
int32_t topics_admin_put(struct store *store, const struct msg_topic_put *put, struct bytes name,
                         struct bytes attributes, const char **ret_remark);
/* MSG_TOPIC_DROP: the topic, its offsets, and the retry topics that pop consumers have for it. */
int32_t topics_admin_drop(struct store *store, struct bytes name, const char **ret_remark);
