/* Members of groups: heartbeats (34), unregistering (35), member lists (38), client configuration checks (46), and
 * notices of changes (40). A heartbeat is split into one record per group for the store; the records of each live
 * channel are kept and told again to a new store, which must know all members before it answers anything about groups.
 */
#pragma once

#include "catalogue.h"
#include "reply.h"

/* One group of one client on a channel: its MSG_MEMBER_PUT payload, ready to be sent again. */
struct member {
    struct member *next;
    uint32_t size;
    int64_t fingerprint;
    uint8_t payload[];
};

int members_new(struct members **ret_members);
void members_free(struct members *members);

int member_heartbeat(struct front *front, struct channel *channel, const struct frame *frame);
int member_unregister(struct front *front, struct channel *channel, const struct frame *frame);
int member_list(struct front *front, struct channel *channel, const struct frame *frame);
int member_check_config(struct front *front, struct channel *channel, const struct frame *frame);

enum { HEARTBEAT_SUB_UNCHANGED = 1 }; /* pending flags: the heartbeat's fingerprint is the one before */
void member_heartbeat_answered(struct reply_to to, int32_t code, struct bytes remark, unsigned flags);

/* NOTIFY_CONSUMER_IDS_CHANGED to our own connections of the group. */
void member_notify(struct front *front, const struct group_entry *group);

/* A closed channel leaves its groups; the store is told as soon as there is room. */
void members_drop_channel(struct front *front, struct channel *channel);
bool members_flush_drops(struct front *front); /* true: all told */
void members_replay_begin(struct front *front);
bool members_replay(struct front *front); /* true: all told */

/* A heartbeat's body as records; the list is the caller's (free_members). -EINVAL and an error text. */
struct heartbeat {
    bool without_subscriptions;
    int64_t fingerprint;
    struct member *members;
};
/* `from`: what the connection says of each member. */
int heartbeat_parse(struct bytes body, const struct msg_member_put *from, struct heartbeat *ret_heartbeat,
                    const char **ret_error);
/* Names of the numbers in a consumer's record. */
const char *member_consume_type_name(uint8_t ordinal);
const char *member_message_model_name(uint8_t ordinal);
const char *member_from_where_name(uint8_t ordinal);
void member_list_free(struct member *members);
