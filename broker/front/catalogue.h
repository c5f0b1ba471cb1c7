/* Catalogue: what the store tells this front of topics, groups, members and subscriptions, in numbered records. A
 * record out of sequence is a gap: the catalogue is no longer whole, a snapshot is asked for, and reads that need it
 * wait. A snapshot is collected beside the tables in force and takes their place at its end. */
#pragma once

#include "filter.h"
#include "front.h"
#include "msg/msg.h"

#include <jansson.h>
#include <uthash.h>

struct topic_entry {
    UT_hash_handle hh;
    char *name;
    int32_t read_queues, write_queues, perm, sys_flag;
    uint32_t slot_base, slot_generation, slot_count;
    bool order, multi_tag;
    char *extra; /* JSON object of what else its configuration says; NULL: nothing */
};

struct subscription_entry {
    UT_hash_handle hh;
    char *topic;
    int64_t version;
    enum msg_expression type;
    char *expression;
    struct tag_filter filter;
    bool unparsable;
};

struct member_entry {
    struct member_entry *next;
    uint64_t connection;
    bool is_producer, is_ipv6;
    uint8_t language;
    uint16_t port;
    uint8_t ip[16];
    int32_t version;
    int64_t told_ms; /* wall time at which we heard of it */
    char *client_id;
};

/* The group's next pull of this queue is sent elsewhere. */
struct reset_mark {
    struct reset_mark *next;
    int64_t offset;
    int32_t queue_id;
    char topic[];
};

struct group_entry {
    UT_hash_handle hh;
    char *name;
    bool known; /* its configuration is: the store has this group */
    bool consume_enable, consume_broadcast_enable, notify;
    bool consume_from_min_enable, consume_orderly;
    int32_t sys_flag, retry_max_times, retry_queues, consume_timeout_minutes;
    int64_t broker_id, which_broker_when_slow;
    char *extra;       /* JSON object of what else its configuration says; NULL: nothing */
    json_t *forbidden; /* {topic: bits}; NULL: nothing */
    struct reset_mark *resets;
    struct member_entry *members;
    unsigned consumers;
    uint8_t message_model, consume_type, from_where; /* of the consumer that came last */
    struct subscription_entry *subscriptions;
    bool changed; /* waits for its notice */
    struct group_entry *next_changed;
};

enum { MESSAGE_MODEL_BROADCASTING = 0, MESSAGE_MODEL_CLUSTERING = 1 };

enum { FORBIDDEN_READ = 4 }; /* Apache's bit: 1 << INDEX_PERM_READ */

struct catalogue *catalogue_new(void);
void catalogue_free(struct catalogue *catalogue);

bool catalogue_is_whole(const struct catalogue *catalogue);
/* There is a new store: what we know is old until its snapshot is here. */
void catalogue_forget(struct catalogue *catalogue);
/* One checked record. */
void catalogue_take(struct front *front, uint16_t kind, const uint8_t *payload, uint32_t size);
/* After a turn's records: requests that waited for a whole catalogue, notices to members of changed groups. */
void catalogue_settle(struct front *front);
/* What was held for a heartbeat's sake is to be looked at, though the heartbeat may have changed nothing. */
void catalogue_look_again(struct catalogue *catalogue);
/* A slot turned out to be somebody else's: what we know is not whole, whatever the numbers say. */
void catalogue_doubt(struct front *front);

/* The broker's configuration in force, as the store said last; empty text before the first snapshot. */
struct config_entry {
    struct bytes text; /* properties; valid until the next turn */
    int64_t state_version, timestamp_ms, counter;
};
struct config_entry catalogue_config(const struct catalogue *catalogue);

/* Changes whenever queues of a known topic moved, went, or a snapshot came. */
unsigned catalogue_topics_version(const struct catalogue *catalogue);

struct topic_entry *catalogue_topic(const struct catalogue *catalogue, struct bytes name);
struct group_entry *catalogue_group(const struct catalogue *catalogue, struct bytes name);
struct subscription_entry *catalogue_subscription(const struct group_entry *group, struct bytes topic);

/* Everything, for lists. */
struct topic_entry *catalogue_topics(const struct catalogue *catalogue); /* walk with hh.next */
struct group_entry *catalogue_groups(const struct catalogue *catalogue);
struct msg_version catalogue_topics_data_version(const struct catalogue *catalogue);
struct msg_version catalogue_groups_data_version(const struct catalogue *catalogue);

bool catalogue_is_forbidden(const struct group_entry *group, struct bytes topic);
const struct reset_mark *catalogue_reset(const struct group_entry *group, struct bytes topic, int32_t queue_id);
/* A pull is being answered with it; the store is told by the caller. */
void catalogue_reset_seen(struct group_entry *group, const struct reset_mark *mark);
