/* Members of producer and consumer groups: which connection of which front is in which group, with its subscriptions.
 * Not in the image: the fronts own the connections and tell a new store all of them (replay). The subscription in force
 * for a group and topic is the one of the highest version among the members that have it. Store process, one thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>

#include "base/bytes.h"
#include "msg/msg.h"
#include "peers.h"
#include "store.h"

struct subscription {
    char *topic, *expression;
    int64_t version;
    uint8_t expression_type; /* enum msg_expression */
};

struct member {
    struct member_group *group;
    struct member_connection *connection;
    char *client_id;
    bool is_producer;
    uint8_t consume_type, message_model, from_where, language;
    bool is_ipv6;
    uint16_t port;
    uint8_t ip[16];
    int32_t version;
    struct subscription *subscriptions; /* sorted by topic, each topic once */
    unsigned subscription_count;
    struct member *group_next, *group_prev, *connection_next, *connection_prev;
};

int members_new(struct members **ret_members);
void members_free(struct members *members);

/* A checked MSG_MEMBER_PUT. A consumer of a group that may not be made is passed over (0). -ENOMEM, -EBADMSG. */
int members_put(struct store *store, struct peer *peer, const void *payload, size_t size);
/* group "": every group of the connection. */
void members_drop(struct store *store, struct peer *peer, uint64_t connection, struct bytes group, bool is_producer);
void members_drop_peer(struct store *store, struct peer *peer);

const char *member_group_name(const struct member *member);
uint64_t member_connection_id(const struct member *member);
bool members_has_client(const struct members *members, struct bytes group, struct bytes client_id);
unsigned members_count(const struct members *members);
int members_each(struct members *members, int (*visit)(struct member *member, void *context), void *context);
/* The subscriptions in force. */
int members_each_subscription(struct members *members,
                              int (*visit)(const char *group, const struct subscription *subscription, void *context),
                              void *context);
