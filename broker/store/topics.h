/* Topics of this broker: configuration, and the range of queue table slots in which each topic's queues stand. Loaded
 * from the image (warm) or config/topics.json (cold); every change goes to the image before anybody sees it, then to the
 * catalogue, to the name servers and, batched, to topics.json in Apache's format. */
#pragma once

#include "base/bytes.h"
#include "store.h"

struct topic {
    char *name;
    int32_t read_queues, write_queues, perm, sys_flag;
    bool order, multi_tag;
    uint32_t slot_base, slot_count, slot_generation; /* queue n: slot slot_base + n, n < slot_count */
    /* more private parts may follow in topics.c by containment */
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
bool topics_name_valid(struct bytes name);
bool topics_is_system(struct bytes name);

/* Implemented by the log half (consume_queue.c): a topic's queues moved to another slot range or got slots; copies what
 * the queue table says (old_count may be 0), makes the new slots' generation visible last. */
void consume_queues_slots_assigned(struct store *store, struct topic *topic, uint32_t old_base, uint32_t old_count);
