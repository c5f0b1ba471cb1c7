/* Members of groups: see members.h. A heartbeat that says nothing new costs one look-up and a comparison; everything
 * that changes is told to the catalogue at once, in the order group, member, subscriptions. */
#include "members.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/log.h"
#include "base/panic.h"
#include "catalogue.h"
#include "groups.h"
#include "queue_locks.h"
#include "shm/board.h"
#include "topics.h"

enum { SYS_FLAG_UNIT_SUB = 2 };

struct connection_key {
    uint64_t connection;
    uint64_t peer; /* whole: an id has but 24 bits of a generation */
};

struct member_connection {
    struct connection_key key;
    struct member *members;
    UT_hash_handle hh;
};

struct member_group {
    bool is_producer;
    char *name;
    struct member *members;
    struct subscription *in_force; /* sorted by topic */
    unsigned in_force_count;
    UT_hash_handle hh;
};

struct members {
    struct member_connection *connections;
    struct member_group *consumer_groups, *producer_groups; /* by name */
    unsigned count;
};

int members_new(struct members **ret_members)
{
    *ret_members = calloc(1, sizeof **ret_members);
    return *ret_members ? 0 : -ENOMEM;
}

static void subscription_clear(struct subscription *subscription)
{
    free(subscription->topic);
    free(subscription->expression);
}

static void subscriptions_free(struct subscription *list, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        subscription_clear(&list[i]);
    free(list);
}

static void member_free(struct member *member)
{
    subscriptions_free(member->subscriptions, member->subscription_count);
    free(member->client_id);
    free(member);
}

static struct member_group **table_of(struct members *members, bool is_producer)
{
    return is_producer ? &members->producer_groups : &members->consumer_groups;
}

static void groups_table_free(struct member_group **table)
{
    struct member_group *group, *next;
    HASH_ITER(hh, *table, group, next)
    {
        struct member *member, *next_member;
        DL_FOREACH_SAFE2(group->members, member, next_member, group_next)
        member_free(member);
        subscriptions_free(group->in_force, group->in_force_count);
        HASH_DEL(*table, group);
        free(group->name);
        free(group);
    }
}

void members_free(struct members *members)
{
    if (!members)
        return;
    struct member_connection *connection, *next;
    HASH_ITER(hh, members->connections, connection, next)
    {
        HASH_DEL(members->connections, connection);
        free(connection);
    }
    groups_table_free(&members->consumer_groups);
    groups_table_free(&members->producer_groups);
    free(members);
}

const char *member_group_name(const struct member *member)
{
    return member->group->name;
}

uint64_t member_connection_id(const struct member *member)
{
    return member->connection->key.connection;
}

unsigned members_count(const struct members *members)
{
    return members->count;
}

static struct member_group *find_group(const struct members *members, struct bytes name, bool is_producer)
{
    struct member_group *group = NULL;
    struct member_group *table = *table_of((struct members *)members, is_producer);
    if (name.size)
        HASH_FIND(hh, table, name.data, name.size, group);
    return group;
}

static struct member_connection *find_connection(struct members *members, const struct peer *peer, uint64_t id)
{
    struct connection_key key = {.connection = id, .peer = peer->id};
    struct member_connection *connection = NULL;
    HASH_FIND(hh, members->connections, &key, sizeof key, connection);
    return connection;
}

bool members_has_client(const struct members *members, struct bytes group_name, struct bytes client_id)
{
    const struct member_group *group = find_group(members, group_name, false);
    const struct member *member;
    if (group)
        DL_FOREACH2(group->members, member, group_next)
    if (bytes_equal_text(client_id, member->client_id))
        return true;
    return false;
}

int members_each(struct members *members, int (*visit)(struct member *member, void *context), void *context)
{
    struct member_connection *connection, *next;
    HASH_ITER(hh, members->connections, connection, next)
    {
        struct member *member;
        DL_FOREACH2(connection->members, member, connection_next)
        {
            int r = visit(member, context);
            if (r != 0)
                return r;
        }
    }
    return 0;
}

int members_each_subscription(struct members *members,
                              int (*visit)(const char *group, const struct subscription *subscription, void *context),
                              void *context)
{
    struct member_group *group, *next;
    HASH_ITER(hh, members->consumer_groups, group, next)
    {
        for (unsigned i = 0; i < group->in_force_count; i++) {
            int r = visit(group->name, &group->in_force[i], context);
            if (r != 0)
                return r;
        }
    }
    return 0;
}

/* Subscriptions. */

/* Index of the first entry whose topic is not below `topic`. */
static unsigned place_of(const struct subscription *list, unsigned count, const char *topic)
{
    unsigned low = 0, high = count;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (strcmp(list[middle].topic, topic) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct subscription *find_subscription(struct subscription *list, unsigned count, const char *topic)
{
    unsigned place = place_of(list, count, topic);
    return place < count && strcmp(list[place].topic, topic) == 0 ? &list[place] : NULL;
}

static bool same_subscription(const struct subscription *a, const struct subscription *b)
{
    return a->version == b->version && a->expression_type == b->expression_type && strcmp(a->topic, b->topic) == 0 &&
           strcmp(a->expression, b->expression) == 0;
}

/* Sorted; of a topic that is named twice the higher version counts. -EBADMSG: bytes that are no text, or none. */
static int read_subscriptions(struct cursor *c, unsigned count, struct subscription **ret_list, unsigned *ret_count)
{
    struct subscription *list = calloc(count ? count : 1, sizeof *list);
    unsigned used = 0;
    if (!list)
        return -ENOMEM;
    for (unsigned i = 0; i < count; i++) {
        struct subscription one = {.version = cursor_get_i64(c), .expression_type = cursor_get_u8(c)};
        struct bytes topic = cursor_get_string(c), expression = cursor_get_string(c);
        if (c->bad || topic.size == 0 || topic.size > MSG_TOPIC_MAX || memchr(topic.data, 0, topic.size) ||
            (expression.size && memchr(expression.data, 0, expression.size))) {
            subscriptions_free(list, used);
            return -EBADMSG;
        }
        one.topic = strndup((const char *)topic.data, topic.size);
        one.expression = strndup((const char *)expression.data, expression.size);
        pn_assert(one.topic && one.expression);
        struct subscription *same = find_subscription(list, used, one.topic);
        if (same && same->version >= one.version) {
            subscription_clear(&one);
        } else if (same) {
            subscription_clear(same);
            *same = one;
        } else {
            unsigned place = place_of(list, used, one.topic);
            memmove(&list[place + 1], &list[place], (used - place) * sizeof *list);
            list[place] = one;
            used++;
        }
    }
    *ret_list = list;
    *ret_count = used;
    return 0;
}

/* The highest version wins; among equals the one in force stays, so that a rejoining member changes nothing. */
static const struct subscription *choose(const struct member_group *group, const struct subscription *current,
                                         const char *topic)
{
    const struct subscription *best = NULL;
    const struct member *member;
    DL_FOREACH2(group->members, member, group_next)
    {
        const struct subscription *one = find_subscription(member->subscriptions, member->subscription_count, topic);
        if (!one)
            continue;
        if (!best || one->version > best->version ||
            (one->version == best->version && current && same_subscription(one, current)))
            best = one;
    }
    return best;
}

static struct subscription *insert_in_force(struct member_group *group, const char *topic)
{
    unsigned place = place_of(group->in_force, group->in_force_count, topic);
    group->in_force = realloc(group->in_force, (group->in_force_count + 1) * sizeof *group->in_force);
    pn_assert(group->in_force);
    memmove(&group->in_force[place + 1], &group->in_force[place],
            (group->in_force_count - place) * sizeof *group->in_force);
    group->in_force[place] = (struct subscription){0};
    group->in_force_count++;
    return &group->in_force[place];
}

/* `changed` came or went. If it is older than what is in force, that belongs to somebody else and stays: a front's
 * death then looks through a group only for the few members that were ever the newest. */
static void refresh_topic(struct store *store, struct member_group *group, const struct subscription *changed)
{
    const char *topic = changed->topic;
    struct subscription *current = find_subscription(group->in_force, group->in_force_count, topic);
    if (current && changed->version < current->version)
        return;
    const struct subscription *best = choose(group, current, topic);
    if (!best) {
        if (!current)
            return;
        catalogue_subscription(store, group->name, current, true);
        subscription_clear(current);
        unsigned place = (unsigned)(current - group->in_force);
        group->in_force_count--;
        memmove(current, current + 1, (group->in_force_count - place) * sizeof *current);
        return;
    }
    if (current && same_subscription(current, best))
        return;
    struct subscription copy = *best;
    copy.topic = strdup(best->topic);
    copy.expression = strdup(best->expression);
    pn_assert(copy.topic && copy.expression);
    if (!current)
        current = insert_in_force(group, topic);
    subscription_clear(current);
    *current = copy;
    catalogue_subscription(store, group->name, current, false);
}

static void refresh_topics(struct store *store, struct member_group *group, const struct subscription *list,
                           unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        refresh_topic(store, group, &list[i]);
}

/* Coming. */

static struct member *find_member(struct member_connection *connection, struct bytes group, bool is_producer)
{
    struct member *member;
    if (connection)
        DL_FOREACH2(connection->members, member, connection_next)
    if (member->is_producer == is_producer && bytes_equal_text(group, member->group->name))
        return member;
    return NULL;
}

static struct member_connection *ensure_connection(struct members *members, const struct peer *peer, uint64_t id)
{
    struct member_connection *connection = find_connection(members, peer, id);
    if (connection)
        return connection;
    connection = calloc(1, sizeof *connection);
    pn_assert(connection);
    connection->key.connection = id;
    connection->key.peer = peer->id;
    HASH_ADD(hh, members->connections, key, sizeof connection->key, connection);
    return connection;
}

static struct member_group *ensure_group(struct members *members, struct bytes name, bool is_producer)
{
    struct member_group *group = find_group(members, name, is_producer);
    if (group)
        return group;
    group = calloc(1, sizeof *group);
    pn_assert(group);
    group->is_producer = is_producer;
    group->name = strndup((const char *)name.data, name.size);
    pn_assert(group->name);
    struct member_group **table = table_of(members, is_producer);
    HASH_ADD_KEYPTR(hh, *table, group->name, name.size, group);
    return group;
}

static struct member *add_member(struct store *store, struct peer *peer, uint64_t connection_id, struct bytes group,
                                 bool is_producer)
{
    struct member *member = calloc(1, sizeof *member);
    pn_assert(member);
    member->is_producer = is_producer;
    member->connection = ensure_connection(store->members, peer, connection_id);
    member->group = ensure_group(store->members, group, is_producer);
    DL_APPEND2(member->group->members, member, group_prev, group_next);
    DL_APPEND2(member->connection->members, member, connection_prev, connection_next);
    board_set(store->board, COUNTER_MEMBERS, ++store->members->count);
    return member;
}

/* Takes what `put` says of the member; true if something is new. */
static bool update_member(struct member *member, const struct msg_member_put *put, struct bytes client_id)
{
    bool same = member->client_id && bytes_equal_text(client_id, member->client_id) &&
                member->consume_type == put->consume_type && member->message_model == put->message_model &&
                member->from_where == put->from_where && member->language == put->language &&
                member->version == put->version;
    if (same)
        return false;
    free(member->client_id);
    member->client_id = strndup((const char *)client_id.data, client_id.size);
    pn_assert(member->client_id);
    member->consume_type = put->consume_type;
    member->message_model = put->message_model;
    member->from_where = put->from_where;
    member->language = put->language;
    member->version = put->version;
    /* Of the connection, so it never changes alone. */
    member->is_ipv6 = put->is_ipv6;
    member->port = put->port;
    memcpy(member->ip, put->ip, sizeof member->ip);
    return true;
}

static bool same_subscriptions(const struct member *member, const struct subscription *list, unsigned count)
{
    if (member->subscription_count != count)
        return false;
    for (unsigned i = 0; i < count; i++)
        if (!same_subscription(&member->subscriptions[i], &list[i]))
            return false;
    return true;
}

/* The group's own entry and its retry topic; false if the group may not be. */
static bool ensure_consumer_group(struct store *store, struct bytes name, bool unit_mode)
{
    const struct group *group = groups_ensure(store, name);
    if (!group)
        return false;
    int r = topics_ensure_retry(store, name, group->retry_queues, unit_mode ? SYS_FLAG_UNIT_SUB : 0);
    if (r < 0)
        log_error("cannot make the retry topic of group %s: %s", group->name, strerror(-r));
    return true;
}

int members_put(struct store *store, struct peer *peer, const void *payload, size_t size)
{
    struct msg_member_put put;
    pn_assert(size >= sizeof put);
    memcpy(&put, payload, sizeof put);
    struct cursor c = cursor_over((const uint8_t *)payload + sizeof put, size - sizeof put);
    struct bytes client_id = cursor_get_string(&c), name = cursor_get_string(&c);
    if (c.bad || client_id.size == 0 || name.size == 0 || memchr(client_id.data, 0, client_id.size) ||
        memchr(name.data, 0, name.size))
        return -EBADMSG;
    struct subscription *list = NULL;
    unsigned count = 0;
    int r = read_subscriptions(&c, put.subscription_count, &list, &count);
    if (r < 0)
        return r;
    if (!put.is_producer && !ensure_consumer_group(store, name, put.flags & MSG_MEMBER_UNIT)) {
        subscriptions_free(list, count);
        return 0;
    }
    struct member *member = find_member(find_connection(store->members, peer, put.connection), name, put.is_producer);
    if (!member)
        member = add_member(store, peer, put.connection, name, put.is_producer);
    if (update_member(member, &put, client_id))
        catalogue_member(store, member, false);
    if (same_subscriptions(member, list, count)) {
        subscriptions_free(list, count);
        return 0;
    }
    struct subscription *old_list = member->subscriptions;
    unsigned old_count = member->subscription_count;
    member->subscriptions = list;
    member->subscription_count = count;
    refresh_topics(store, member->group, list, count);
    refresh_topics(store, member->group, old_list, old_count);
    subscriptions_free(old_list, old_count);
    return 0;
}

/* Going. */

static void remove_member(struct store *store, struct member *member)
{
    struct members *members = store->members;
    struct member_group *group = member->group;
    struct member_connection *connection = member->connection;
    catalogue_member(store, member, true);
    DL_DELETE2(group->members, member, group_prev, group_next);
    DL_DELETE2(connection->members, member, connection_prev, connection_next);
    refresh_topics(store, group, member->subscriptions, member->subscription_count);
    struct bytes name = bytes_of(group->name), client_id = bytes_of(member->client_id);
    if (!member->is_producer && !members_has_client(members, name, client_id))
        queue_locks_client_gone(store, name, client_id);
    if (!group->members) {
        pn_assert(group->in_force_count == 0);
        struct member_group **table = table_of(members, group->is_producer);
        HASH_DEL(*table, group);
        free(group->in_force);
        free(group->name);
        free(group);
    }
    member_free(member);
    pn_assert(members->count > 0);
    board_set(store->board, COUNTER_MEMBERS, --members->count);
}

static void forget_if_empty(struct members *members, struct member_connection *connection)
{
    if (connection->members)
        return;
    HASH_DEL(members->connections, connection);
    free(connection);
}

void members_drop(struct store *store, struct peer *peer, uint64_t connection_id, struct bytes group, bool is_producer)
{
    struct member_connection *connection = find_connection(store->members, peer, connection_id);
    if (!connection)
        return;
    if (group.size == 0) {
        while (connection->members)
            remove_member(store, connection->members);
    } else {
        struct member *member = find_member(connection, group, is_producer);
        if (member)
            remove_member(store, member);
    }
    forget_if_empty(store->members, connection);
}

void members_drop_peer(struct store *store, struct peer *peer)
{
    struct member_connection *connection, *next;
    HASH_ITER(hh, store->members->connections, connection, next)
    {
        if (connection->key.peer != peer->id)
            continue;
        while (connection->members)
            remove_member(store, connection->members);
        forget_if_empty(store->members, connection);
    }
}
