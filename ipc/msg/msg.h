/* Ring records between the store and its peers (fronts, native clients). Fixed part as a struct, then the variable parts
 * in the order given, without padding. Host byte order; a layout change is a new MSG_VERSION (attach refuses others).
 *
 * Every request begins with a msg_request: `token` is the peer's own and comes back in the answer; the ring position of
 * the request comes back too. A peer drops an answer whose token it no longer waits for: a restarted store may answer
 * twice. Sizes are checked by msg_check() once, on a copy where the peer is not trusted.
 *
 * Order: within one ring, requests take effect in order. Catalogue records come before the answers that depend on them:
 * the store publishes the control reply ring first; a front loads the data reply ring's write_pos, drains control, and
 * only then drains data up to that position. */
#pragma once

#include <stdint.h>

#include "base/bytes.h"

#define MSG_VERSION 2

enum msg_kind {
    /* data and native rings, peer → store */
    MSG_SEND = 1,
    /* control ring, front → store */
    MSG_MEMBER_PUT = 16,
    MSG_MEMBER_DROP,
    MSG_REPLAY_END,
    MSG_CATALOGUE_ASK,
    MSG_OFFSET_COMMIT,
    MSG_OFFSET_QUERY,
    MSG_QUEUE_LOCK,
    MSG_QUEUE_UNLOCK,
    MSG_TOPIC_PUT,
    MSG_TOPIC_DROP,
    MSG_GROUP_PUT,
    MSG_GROUP_DROP,
    MSG_GROUP_FORBID,
    MSG_OFFSET_LIST,
    MSG_OFFSET_RESET,
    MSG_OFFSET_RESET_SEEN,
    MSG_OFFSET_CLONE,
    MSG_CLEAN,
    MSG_CONFIG_PUT = 48,
    MSG_RELAY,
    MSG_RELAY_ANSWER,
    MSG_QUEUE_MEND,
    /* store → peer */
    MSG_SEND_ANSWER = 64,
    MSG_ANSWER,
    MSG_LOCK_ANSWER,
    MSG_OFFSET_LIST_ANSWER,
    MSG_RELAY_ASK,
    MSG_RELAY_TOLD,
    /* catalogue, control reply ring */
    MSG_CAT_BEGIN = 96, /* a snapshot follows: forget everything at MSG_CAT_END that was not in it */
    MSG_CAT_TOPIC,
    MSG_CAT_TOPIC_DROP,
    MSG_CAT_GROUP,
    MSG_CAT_GROUP_DROP,
    MSG_CAT_MEMBER,
    MSG_CAT_MEMBER_DROP,
    MSG_CAT_SUBSCRIPTION,
    MSG_CAT_SUBSCRIPTION_DROP,
    MSG_CAT_END,
    MSG_CAT_FORBIDDEN,
    MSG_CAT_RESET,
    MSG_CAT_RESET_DROP,
    MSG_CAT_CONFIG = 112,
};

struct msg_request {
    uint64_t token;
};

/* A client's connection, as everybody in a broker knows it: the front's peer id (fronts start alike, so their generations
 * say nothing), 24 bits of its generation, its own number of the connection, which it never uses again. */
#define MSG_CONNECTION_ID(peer_id, generation, number)                                                                 \
    ((uint64_t)(peer_id) << 56 | ((uint64_t)(generation) & 0xffffff) << 32 | (uint32_t)(number))
#define MSG_CONNECTION_PEER(id)       ((uint32_t)((id) >> 56))
#define MSG_CONNECTION_GENERATION(id) ((uint32_t)((id) >> 32) & 0xffffff)

/* MSG_SEND: one message, or a batch stream as clients send it (remoting facts 3.7). Then: topic, default topic, producer
 * group, properties (text form name 0x01 value 0x02 …), body. */
struct msg_send {
    uint64_t token;
    int64_t born_ms;
    uint32_t flags; /* MSG_SEND_* */
    int32_t queue_id; /* < 0: the store chooses */
    int32_t sys_flag;
    int32_t flag;
    int32_t reconsume_times;
    int32_t max_reconsume_times; /* −1: the group's */
    int32_t default_topic_queues;
    uint16_t topic_size;
    uint16_t default_topic_size;
    uint16_t group_size;
    uint16_t born_port;
    uint32_t properties_size;
    uint32_t body_size;
    uint8_t born_ip[16]; /* IPv4: first four bytes, network order */
    int32_t delay_level; /* MSG_SEND_BACK: of the next try; 0: by the number of tries, < 0: none, a dead letter */
};
_Static_assert(sizeof(struct msg_send) == 80, "layout");
enum {
    MSG_SEND_BATCH = 1,     /* the body is a batch stream */
    MSG_SEND_NO_ANSWER = 2, /* oneway */
    MSG_SEND_IPV6 = 4,      /* born_ip has 16 bytes */
    MSG_SEND_UNIT_MODE = 8,
    MSG_SEND_BACK = 16, /* a group could not consume it: topic is the group's retry topic, reconsume_times as it was */
};

/* MSG_SEND_ANSWER. Then: uniq key, remark, and for a batch count × u32 record sizes (positions follow from log_pos). */
struct msg_send_answer {
    uint64_t token;
    uint64_t request_pos;
    int64_t queue_offset; /* of the first message */
    int64_t log_pos;      /* of the first record */
    int64_t store_ms;
    int32_t code; /* enum response_code (ipc/wire/response_code.def): 0 stored; 10, 11, 12 stored but … */
    int32_t queue_id;
    uint32_t count;
    uint16_t uniq_key_size;
    uint16_t remark_size;
};
_Static_assert(sizeof(struct msg_send_answer) == 56, "layout");

/* MSG_MEMBER_PUT: one group of one heartbeat. Then cursor strings (u16 size, bytes): client id, group, and per
 * subscription: i64 version, u8 expression type, string topic, string expression. */
struct msg_member_put {
    uint64_t token;
    uint64_t connection; /* MSG_CONNECTION_ID */
    uint8_t is_producer;
    uint8_t consume_type;  /* ordinals of remoting facts 3.9 */
    uint8_t message_model;
    uint8_t from_where;
    uint8_t language;
    uint8_t flags; /* MSG_MEMBER_* */
    uint16_t subscription_count;
    int32_t version;
    uint16_t port; /* the client's address, as the front sees it */
    uint8_t is_ipv6;
    uint8_t reserved;
    uint8_t ip[16];
};
_Static_assert(sizeof(struct msg_member_put) == 48, "layout");
enum {
    MSG_MEMBER_ANSWER = 1, /* the last one of a heartbeat: answer when all are applied */
    MSG_MEMBER_UNIT = 2,
    MSG_MEMBER_REPLAY = 4, /* told again to a new store */
};
enum msg_expression { MSG_EXPRESSION_TAG = 0, MSG_EXPRESSION_SQL92 = 1, MSG_EXPRESSION_OTHER = 2 };

/* MSG_MEMBER_DROP. Then strings: group ("" = every group of the connection). Never answered if token is 0. */
struct msg_member_drop {
    uint64_t token;
    uint64_t connection;
    uint8_t is_producer; /* with a group: which kind */
    uint8_t reserved[7];
};
_Static_assert(sizeof(struct msg_member_drop) == 24, "layout");

/* MSG_REPLAY_END: this front has told the store of generation `store_generation` all its members.
 * MSG_CATALOGUE_ASK: send a snapshot. */
struct msg_replay {
    uint64_t token;
    uint64_t store_generation;
};

/* MSG_OFFSET_COMMIT, MSG_OFFSET_QUERY, MSG_OFFSET_RESET (the group goes on at `offset`: stored, and marked until a pull
 * has seen it), MSG_OFFSET_RESET_SEEN (a pull was answered with the mark `offset`), MSG_QUEUE_MEND (the entry at `offset` of
 * the queue does not lead to its message; no group, never answered). Then strings: group, topic. token 0: no answer wanted. */
struct msg_offset {
    uint64_t token;
    int64_t offset; /* commit only; −1 is stored as it is */
    int32_t queue_id;
    uint32_t flags; /* MSG_OFFSET_* */
};
_Static_assert(sizeof(struct msg_offset) == 24, "layout");
enum {
    MSG_OFFSET_ZERO_IF_NOT_FOUND_OFF = 1, /* setZeroIfNotFound=false: code 22 rather than a guess */
    MSG_OFFSET_EMPTY_IS_ZERO = 2,         /* the guess is 0 also for a queue that never had a message */
};

/* MSG_QUEUE_LOCK, MSG_QUEUE_UNLOCK. Then strings: client id, group, and count × (i32 queue id, string topic). */
struct msg_lock {
    uint64_t token;
    uint64_t connection;
    uint32_t count;
    uint32_t reserved;
};

/* MSG_OFFSET_LIST. Then strings: group, topic ("": of all), and the place where the answer before ended ("": begin). */
struct msg_offset_list {
    uint64_t token;
    int32_t after_queue; /* of the answer before; −1 at the beginning */
    uint32_t reserved;
};
_Static_assert(sizeof(struct msg_offset_list) == 16, "layout");

/* MSG_TOPIC_PUT: create or change. Then strings: topic, attributes text ("+k=v,-k" or ""). */
struct msg_topic_put {
    uint64_t token;
    int32_t read_queues, write_queues;
    int32_t perm;
    int32_t topic_sys_flag;
    uint8_t order;
    uint8_t multi_tag; /* topicFilterType MULTI_TAG */
    uint8_t reserved[6];
};
_Static_assert(sizeof(struct msg_topic_put) == 32, "layout");

/* MSG_TOPIC_DROP (string: topic), MSG_GROUP_DROP (string: group), MSG_GROUP_FORBID (strings: group, topic),
 * MSG_OFFSET_CLONE (strings: from group, to group, topic; "": all), MSG_CLEAN (no string). */
struct msg_admin {
    uint64_t token;
    uint32_t flags; /* MSG_ADMIN_* of the kind */
    uint32_t reserved;
};
_Static_assert(sizeof(struct msg_admin) == 16, "layout");
enum {
    MSG_ADMIN_CLEAN_OFFSETS = 1, /* GROUP_DROP: its offsets too */
    MSG_ADMIN_FORBIDDEN = 1,     /* GROUP_FORBID: may not read the topic from now on; else it may */
    MSG_ADMIN_UNUSED_QUEUES = 1, /* CLEAN: queue files of topics that are not */
    MSG_ADMIN_EXPIRED_QUEUES = 2, /* CLEAN: queue files whose messages are gone */
    MSG_ADMIN_EXPIRED_LOG = 4,    /* CLEAN: expired files of the commit log, at any hour */
};

/* MSG_GROUP_PUT: create or change. Then strings: group, JSON object of what else its configuration says ("": nothing).
 * MSG_GROUP_AUTO: only if it is not there and may be made; the rest is not looked at. */
struct msg_group_put {
    uint64_t token;
    int64_t broker_id, which_broker_when_slow;
    int32_t retry_max_times, retry_queues;
    int32_t group_sys_flag;
    int32_t consume_timeout_minutes;
    uint8_t consume_enable, consume_from_min_enable, consume_broadcast_enable, consume_orderly;
    uint8_t notify_members_changed;
    uint8_t flags; /* MSG_GROUP_* */
    uint8_t reserved[2];
};
_Static_assert(sizeof(struct msg_group_put) == 48, "layout");
enum { MSG_GROUP_AUTO = 1 };
/* MSG_CONFIG_PUT: msg_request, then string: properties text of what is to change in the broker's configuration. */

/* What one front asks or tells another, by way of the store, which looks at nothing but the addresses. MSG_RELAY (front →
 * store), MSG_RELAY_ASK (store → the front that has the connection). Then the request as a frame of the remoting protocol.
 * Connection 0: every other front is told, none answers. `token` is 0: the store's own words come as MSG_RELAY_TOLD. */
struct msg_relay {
    uint64_t token;
    uint64_t connection;
    uint64_t asker; /* its generation; from the store */
    uint64_t question; /* the asker's number */
    uint32_t asker_peer; /* from the store */
    uint32_t frame_size;
};
_Static_assert(sizeof(struct msg_relay) == 40, "layout");

/* MSG_RELAY_ANSWER (front → store), MSG_RELAY_TOLD (store → the front that asked): one piece of an answer, in order. Then:
 * remark (of the last piece), body. */
struct msg_relay_answer {
    uint64_t token; /* 0 */
    uint64_t asker;
    uint64_t question;
    uint32_t asker_peer;
    int32_t code;
    uint32_t flags; /* MSG_RELAY_* */
    uint32_t remark_size, body_size;
    uint32_t reserved;
};
_Static_assert(sizeof(struct msg_relay_answer) == 48, "layout");
enum { MSG_RELAY_MORE = 1 }; /* another piece follows */

/* MSG_ANSWER: to every control request. Then: remark (remark_size bytes). */
struct msg_answer {
    uint64_t token;
    uint64_t request_pos;
    int64_t value; /* MSG_OFFSET_QUERY: the offset */
    int32_t code;
    uint32_t remark_size;
};
_Static_assert(sizeof(struct msg_answer) == 32, "layout");

/* MSG_LOCK_ANSWER: then count × u8, 1 where this client holds the queue now, in the order asked. */
struct msg_lock_answer {
    uint64_t token;
    uint64_t request_pos;
    int32_t code;
    uint32_t count;
};
_Static_assert(sizeof(struct msg_lock_answer) == 24, "layout");

/* Apache's DataVersion of a table. */
struct msg_version {
    int64_t state_version, timestamp_ms, counter;
};

/* MSG_OFFSET_LIST_ANSWER: then count × (string topic@group, u32 queues, queues × (i32 queue id, i64 offset)), and a string:
 * the place to go on at. A key whose queues did not fit comes again in the next answer. */
struct msg_offset_list_answer {
    uint64_t token;
    uint64_t request_pos;
    struct msg_version version;
    int32_t code;
    uint32_t count;
    int32_t after_queue; /* for the next question */
    uint8_t more;        /* ask again */
    uint8_t start_over;  /* the place is gone: forget what was told and begin again */
    uint8_t reserved[2];
};
_Static_assert(sizeof(struct msg_offset_list_answer) == 56, "layout");

/* Every catalogue record. Numbers are consecutive within an epoch (= the store's generation), snapshots included;
 * anything else is a gap: ask for a snapshot, serve no pull meanwhile. */
struct msg_catalogue {
    uint64_t epoch;
    uint64_t number;
};

/* MSG_CAT_TOPIC_DROP, MSG_CAT_GROUP_DROP: then string: topic or group. */
struct msg_cat_drop {
    struct msg_catalogue catalogue;
    struct msg_version version;
};
_Static_assert(sizeof(struct msg_cat_drop) == 40, "layout");

/* Then strings: topic, JSON object of what else its configuration says (attributes, …; "": nothing). */
struct msg_cat_topic {
    struct msg_catalogue catalogue;
    struct msg_version version; /* of the whole table */
    int32_t read_queues, write_queues;
    int32_t perm;
    int32_t topic_sys_flag;
    uint32_t slot_base;       /* queue n stands in queue_table slot slot_base + n */
    uint32_t slot_generation;
    uint32_t slot_count;
    uint8_t order;
    uint8_t multi_tag;
    uint8_t reserved[2];
};
_Static_assert(sizeof(struct msg_cat_topic) == 72, "layout");

/* Then strings: group, JSON object of what else its configuration says ("": nothing). */
struct msg_cat_group {
    struct msg_catalogue catalogue;
    struct msg_version version; /* of the whole table */
    int64_t broker_id, which_broker_when_slow;
    int32_t retry_max_times, retry_queues;
    int32_t group_sys_flag;
    int32_t consume_timeout_minutes;
    uint8_t consume_enable, consume_from_min_enable, consume_broadcast_enable, consume_orderly;
    uint8_t notify_members_changed;
    uint8_t reserved[3];
};
_Static_assert(sizeof(struct msg_cat_group) == 80, "layout");

/* What a group may not read. Then strings: group, JSON object {topic: bits} ("": nothing is forbidden). */
struct msg_cat_forbidden {
    struct msg_catalogue catalogue;
    struct msg_version version; /* of the groups' table */
};
_Static_assert(sizeof(struct msg_cat_forbidden) == 40, "layout");

/* A reset mark: the group's next pull of the queue is sent to `offset`. Then strings: group, topic. _DROP: same layout. */
struct msg_cat_reset {
    struct msg_catalogue catalogue;
    int64_t offset;
    int32_t queue_id;
    uint32_t reserved;
};
_Static_assert(sizeof(struct msg_cat_reset) == 32, "layout");

/* Then strings: client id, group. MSG_CAT_MEMBER_DROP has the same layout. A front that sees a change of a consumer group
 * tells its own connections of the group (NOTIFY_CONSUMER_IDS_CHANGED). */
struct msg_cat_member {
    struct msg_catalogue catalogue;
    uint64_t connection;
    uint8_t is_producer, consume_type, message_model, from_where;
    uint8_t language;
    uint8_t is_ipv6;
    uint16_t port;
    int32_t version;
    uint32_t reserved;
    uint8_t ip[16];
};
_Static_assert(sizeof(struct msg_cat_member) == 56, "layout");

/* The subscription of a group that is in force. Then strings: group, topic, expression. _DROP: same layout. */
struct msg_cat_subscription {
    struct msg_catalogue catalogue;
    int64_t version;
    uint8_t expression_type; /* enum msg_expression */
    uint8_t reserved[7];
};
_Static_assert(sizeof(struct msg_cat_subscription) == 32, "layout");

/* The broker's configuration in force, with its data version. Then string: properties text, every key. */
struct msg_cat_config {
    struct msg_catalogue catalogue;
    int64_t state_version, timestamp_ms, counter;
};
_Static_assert(sizeof(struct msg_cat_config) == 40, "layout");

/* Limits that both sides hold to. */
enum {
    MSG_TOPIC_MAX = 255,
    MSG_GROUP_MAX = 255,
    MSG_CLIENT_ID_MAX = 1024,
    MSG_PROPERTIES_MAX = 32767,
    MSG_BODY_MAX = 4 * 1024 * 1024,  /* hard bound of a ring; maxMessageSize decides below it */
    MSG_BATCH_COUNT_MAX = 65536,     /* so that an answer's sizes fit half a reply ring */
    MSG_LOCK_COUNT_MAX = 16384,
    MSG_OFFSET_LIST_MAX = 32 * 1024, /* payload of one MSG_OFFSET_LIST_ANSWER */
    MSG_RELAY_MAX = 32 * 1024,       /* frame of a MSG_RELAY; remark and body of one piece of an answer */
    MSG_EXTRA_MAX = 32 * 1024,       /* JSON of a topic's or group's further settings */
    MSG_SEND_ANSWER_SMALL = 256,     /* room that an answer of one message needs at most, remark included */
};

const char *msg_kind_name(unsigned kind);
