/* Catalogue feeds: see catalogue.h. A record is encoded once and put behind what each fed front waits for, with that
 * front's next number. The numbers are the proof of completeness: whatever is lost shows as a gap, and the front asks
 * again. Nothing is fatal; a front that does not read for long gets a new snapshot instead of an endless queue. */
#include "catalogue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/panic.h"
#include "fault/fault.h"
#include "groups.h"
#include "members.h"
#include "msg/msg.h"
#include "offsets.h"
#include "run_time_config.h"
#include "shm/board.h"

enum {
    RECORD_MAX = sizeof(struct msg_cat_topic) + 64 + 3 * (2 + 65535), /* three strings at most */
    FEED_MAX = 64 << 20, /* a front that lets more wait than this and its snapshot has stopped reading */
};

/* In a feed: this, then the payload. */
struct feed_record {
    uint32_t size;
    uint32_t kind;
};

struct catalogue_feed {
    uint8_t *data;
    size_t start, end, room; /* [start, end) waits */
    size_t snapshot_size;
    uint64_t next_number;
    bool asked; /* wants a snapshot, as soon as all fronts have replayed */
    bool fed;   /* has a snapshot behind it: gets every change */
};

struct catalogue {
    struct cursor record; /* over scratch, while one is made */
    uint8_t scratch[RECORD_MAX];
};

int catalogue_new(struct catalogue **ret_catalogue)
{
    *ret_catalogue = calloc(1, sizeof **ret_catalogue);
    return *ret_catalogue ? 0 : -ENOMEM;
}

void catalogue_free(struct catalogue *catalogue)
{
    free(catalogue);
}

void catalogue_peer_added(struct store *store, struct peer *peer)
{
    if (peer->native || peer->feed)
        return;
    peer->feed = calloc(1, sizeof *peer->feed);
    pn_assert(peer->feed);
    peer->feed->next_number = 1;
}

void catalogue_peer_gone(struct store *store, struct peer *peer)
{
    if (peer->feed)
        free(peer->feed->data);
    free(peer->feed);
    peer->feed = NULL;
}

static bool is_front(const struct peer *peer)
{
    return peer->has_control && !peer->native;
}

bool catalogue_all_replayed(const struct store *store)
{
    for (unsigned i = 0; i < store->peers->count; i++)
        if (is_front(store->peers->list[i]) && !store->peers->list[i]->replayed)
            return false;
    return true;
}

/* Feeds. */

static uint8_t *feed_room(struct catalogue_feed *feed, size_t size)
{
    if (feed->room - feed->end >= size)
        return feed->data + feed->end;
    size_t used = feed->end - feed->start;
    if (feed->start > 0 && feed->start >= used) {
        memcpy(feed->data, feed->data + feed->start, used);
    } else if (feed->start > 0) {
        memmove(feed->data, feed->data + feed->start, used);
    }
    feed->start = 0;
    feed->end = used;
    if (feed->room - feed->end < size) {
        size_t room = feed->room ? feed->room : 4096;
        while (room - used < size)
            room *= 2;
        feed->data = realloc(feed->data, room);
        pn_assert(feed->data);
        feed->room = room;
    }
    return feed->data + feed->end;
}

static void feed_add(struct store *store, struct catalogue_feed *feed, enum msg_kind kind, const void *payload,
                     size_t size)
{
    struct feed_record header = {.size = (uint32_t)size, .kind = kind};
    struct msg_catalogue catalogue = {.epoch = store->generation, .number = feed->next_number++};
    uint8_t *place = feed_room(feed, sizeof header + size);
    memcpy(place, &header, sizeof header);
    memcpy(place + sizeof header, payload, size);
    memcpy(place + sizeof header, &catalogue, sizeof catalogue);
    feed->end += sizeof header + size;
}

/* One record is made in the scratch buffer: fixed part, then strings. */
static struct cursor *record_begin(struct catalogue *catalogue, const void *fixed, size_t size)
{
    catalogue->record = cursor_over(catalogue->scratch, sizeof catalogue->scratch);
    memcpy(cursor_take(&catalogue->record, size), fixed, size);
    return &catalogue->record;
}

static size_t record_size(const struct catalogue *catalogue)
{
    pn_assert(!catalogue->record.bad);
    return (size_t)(catalogue->record.pos - catalogue->scratch);
}

static struct msg_version wire_version(struct data_version version)
{
    return (struct msg_version){version.state_version, version.timestamp_ms, version.counter};
}

static void make_topic(struct store *store, const struct topic *topic)
{
    struct msg_cat_topic fixed = {
        .version = wire_version(topics_version(store->topics)),
        .read_queues = topic->read_queues,
        .write_queues = topic->write_queues,
        .perm = topic->perm,
        .topic_sys_flag = topic->sys_flag,
        .slot_base = topic->slot_base,
        .slot_generation = topic->slot_generation,
        .slot_count = topic->slot_count,
        .order = topic->order,
        .multi_tag = topic->multi_tag,
    };
    struct cursor *c = record_begin(store->catalogue, &fixed, sizeof fixed);
    cursor_put_string(c, bytes_of(topic->name));
    cursor_put_string(c, bytes_of(topic->extra ? topic->extra : ""));
}

static void make_drop(struct catalogue *catalogue, struct data_version version, const char *name)
{
    struct msg_cat_drop fixed = {.version = wire_version(version)};
    cursor_put_string(record_begin(catalogue, &fixed, sizeof fixed), bytes_of(name));
}

static void make_forbidden(struct store *store, const char *group, const char *topics)
{
    struct msg_cat_forbidden fixed = {.version = wire_version(groups_version(store->groups))};
    struct cursor *c = record_begin(store->catalogue, &fixed, sizeof fixed);
    cursor_put_string(c, bytes_of(group));
    cursor_put_string(c, bytes_of(topics));
}

static void make_reset(struct catalogue *catalogue, struct bytes group, struct bytes topic, int32_t queue_id,
                       int64_t offset)
{
    struct msg_cat_reset fixed = {.offset = offset, .queue_id = queue_id};
    struct cursor *c = record_begin(catalogue, &fixed, sizeof fixed);
    cursor_put_string(c, group);
    cursor_put_string(c, topic);
}

static void make_group(struct store *store, const struct group *group)
{
    struct msg_cat_group fixed = {
        .version = wire_version(groups_version(store->groups)),
        .broker_id = group->broker_id,
        .which_broker_when_slow = group->which_broker_when_slow,
        .retry_max_times = group->retry_max_times,
        .retry_queues = group->retry_queues,
        .group_sys_flag = group->sys_flag,
        .consume_timeout_minutes = group->consume_timeout_minutes,
        .consume_enable = group->consume_enable,
        .consume_from_min_enable = group->from_min_enable,
        .consume_broadcast_enable = group->broadcast_enable,
        .consume_orderly = group->orderly,
        .notify_members_changed = group->notify_members_changed,
    };
    struct cursor *c = record_begin(store->catalogue, &fixed, sizeof fixed);
    cursor_put_string(c, bytes_of(group->name));
    cursor_put_string(c, bytes_of(group->extra ? group->extra : ""));
}

static void make_member(struct catalogue *catalogue, const struct member *member)
{
    struct msg_cat_member fixed = {
        .connection = member_connection_id(member),
        .is_producer = member->is_producer,
        .consume_type = member->consume_type,
        .message_model = member->message_model,
        .from_where = member->from_where,
        .language = member->language,
        .version = member->version,
        .is_ipv6 = member->is_ipv6,
        .port = member->port,
    };
    memcpy(fixed.ip, member->ip, sizeof fixed.ip);
    struct cursor *c = record_begin(catalogue, &fixed, sizeof fixed);
    cursor_put_string(c, bytes_of(member->client_id));
    cursor_put_string(c, bytes_of(member_group_name(member)));
}

static void make_subscription(struct catalogue *catalogue, const char *group, const struct subscription *subscription)
{
    struct msg_cat_subscription fixed = {
        .version = subscription->version,
        .expression_type = subscription->expression_type,
    };
    struct cursor *c = record_begin(catalogue, &fixed, sizeof fixed);
    cursor_put_string(c, bytes_of(group));
    cursor_put_string(c, bytes_of(subscription->topic));
    cursor_put_string(c, bytes_of(subscription->expression));
}

static void make_config(struct catalogue *catalogue, const struct run_time_config *config)
{
    struct data_version version = run_time_config_version(config);
    struct msg_cat_config fixed = {
        .state_version = version.state_version,
        .timestamp_ms = version.timestamp_ms,
        .counter = version.counter,
    };
    cursor_put_string(record_begin(catalogue, &fixed, sizeof fixed), run_time_config_text(config));
}

/* Snapshots. */

struct snapshot {
    struct store *store;
    struct catalogue_feed *feed;
};

static void snapshot_add(const struct snapshot *snapshot, enum msg_kind kind)
{
    struct catalogue *catalogue = snapshot->store->catalogue;
    feed_add(snapshot->store, snapshot->feed, kind, catalogue->scratch, record_size(catalogue));
}

static int snapshot_topic(struct topic *topic, void *context)
{
    const struct snapshot *snapshot = context;
    make_topic(snapshot->store, topic);
    snapshot_add(snapshot, MSG_CAT_TOPIC);
    return 0;
}

static int snapshot_group(struct group *group, void *context)
{
    const struct snapshot *snapshot = context;
    make_group(snapshot->store, group);
    snapshot_add(snapshot, MSG_CAT_GROUP);
    return 0;
}

static void snapshot_forbidden(const char *group, const char *topics, void *context)
{
    const struct snapshot *snapshot = context;
    make_forbidden(snapshot->store, group, topics);
    snapshot_add(snapshot, MSG_CAT_FORBIDDEN);
}

static void snapshot_reset(const char *topic_at_group, int32_t queue_id, int64_t offset, void *context)
{
    const struct snapshot *snapshot = context;
    const char *at = strchr(topic_at_group, '@');
    struct bytes topic = {(const uint8_t *)topic_at_group, (size_t)(at - topic_at_group)};
    make_reset(snapshot->store->catalogue, bytes_of(at + 1), topic, queue_id, offset);
    snapshot_add(snapshot, MSG_CAT_RESET);
}

static int snapshot_member(struct member *member, void *context)
{
    const struct snapshot *snapshot = context;
    make_member(snapshot->store->catalogue, member);
    snapshot_add(snapshot, MSG_CAT_MEMBER);
    return 0;
}

static int snapshot_subscription(const char *group, const struct subscription *subscription, void *context)
{
    const struct snapshot *snapshot = context;
    make_subscription(snapshot->store->catalogue, group, subscription);
    snapshot_add(snapshot, MSG_CAT_SUBSCRIPTION);
    return 0;
}

static void snapshot_all(struct store *store, struct catalogue_feed *feed)
{
    struct snapshot snapshot = {store, feed};
    size_t waiting = feed->end - feed->start;
    struct msg_catalogue mark = {0};
    feed_add(store, feed, MSG_CAT_BEGIN, &mark, sizeof mark);
    make_config(store->catalogue, store->run_time_config);
    snapshot_add(&snapshot, MSG_CAT_CONFIG);
    topics_each(store->topics, snapshot_topic, &snapshot);
    groups_each(store->groups, snapshot_group, &snapshot);
    groups_each_forbidden(store->groups, snapshot_forbidden, &snapshot);
    offsets_each_reset(store->offsets, snapshot_reset, &snapshot);
    members_each(store->members, snapshot_member, &snapshot);
    members_each_subscription(store->members, snapshot_subscription, &snapshot);
    feed_add(store, feed, MSG_CAT_END, &mark, sizeof mark);
    feed->snapshot_size = feed->end - feed->start - waiting;
    feed->asked = false;
    feed->fed = true;
}

void catalogue_ask(struct store *store, struct peer *peer)
{
    pn_assert(peer->feed);
    peer->feed->asked = true;
    peer->feed->fed = false;
    catalogue_look(store);
}

void catalogue_look(struct store *store)
{
    if (!catalogue_all_replayed(store))
        return;
    for (unsigned i = 0; i < store->peers->count; i++) {
        struct peer *peer = store->peers->list[i];
        if (!peer->feed || !peer->feed->asked)
            continue;
        /* What still waits is of before the question; the front will find the gap at our mark, not behind it. */
        snapshot_all(store, peer->feed);
    }
}

/* Changes. */

/* The record in the scratch buffer goes to every fed front. */
static void spread(struct store *store, enum msg_kind kind)
{
    struct catalogue *catalogue = store->catalogue;
    size_t size = record_size(catalogue);
    for (unsigned i = 0; i < store->peers->count; i++) {
        struct catalogue_feed *feed = store->peers->list[i]->feed;
        if (!feed || !feed->fed)
            continue;
        feed_add(store, feed, kind, catalogue->scratch, size);
    }
}

/* Nobody can be fed before the peers are there. */
static bool is_spoken(const struct store *store)
{
    return store->catalogue && store->peers;
}

void catalogue_topic(struct store *store, const struct topic *topic)
{
    if (!is_spoken(store))
        return;
    make_topic(store, topic);
    spread(store, MSG_CAT_TOPIC);
}

void catalogue_group(struct store *store, const struct group *group)
{
    if (!is_spoken(store))
        return;
    make_group(store, group);
    spread(store, MSG_CAT_GROUP);
}

void catalogue_topic_drop(struct store *store, const struct topic *topic)
{
    if (!is_spoken(store))
        return;
    make_drop(store->catalogue, topics_version(store->topics), topic->name);
    spread(store, MSG_CAT_TOPIC_DROP);
}

void catalogue_group_drop(struct store *store, const char *group)
{
    if (!is_spoken(store))
        return;
    make_drop(store->catalogue, groups_version(store->groups), group);
    spread(store, MSG_CAT_GROUP_DROP);
}

void catalogue_forbidden(struct store *store, const char *group, const char *topics)
{
    if (!is_spoken(store))
        return;
    make_forbidden(store, group, topics);
    spread(store, MSG_CAT_FORBIDDEN);
}

void catalogue_reset(struct store *store, struct bytes group, struct bytes topic, int32_t queue_id, int64_t offset,
                     bool dropped)
{
    if (!is_spoken(store))
        return;
    make_reset(store->catalogue, group, topic, queue_id, offset);
    spread(store, dropped ? MSG_CAT_RESET_DROP : MSG_CAT_RESET);
}

void catalogue_config(struct store *store)
{
    if (!is_spoken(store))
        return;
    make_config(store->catalogue, store->run_time_config);
    spread(store, MSG_CAT_CONFIG);
}

void catalogue_member(struct store *store, const struct member *member, bool dropped)
{
    if (!is_spoken(store))
        return;
    make_member(store->catalogue, member);
    spread(store, dropped ? MSG_CAT_MEMBER_DROP : MSG_CAT_MEMBER);
}

void catalogue_subscription(struct store *store, const char *group, const struct subscription *subscription,
                            bool dropped)
{
    if (!is_spoken(store))
        return;
    make_subscription(store->catalogue, group, subscription);
    spread(store, dropped ? MSG_CAT_SUBSCRIPTION_DROP : MSG_CAT_SUBSCRIPTION);
}

/* Into the rings. */

/* Drops what a front has let wait for too long, skips a number so that it sees a gap, and begins again. */
static void start_over(struct store *store, struct peer *peer)
{
    struct catalogue_feed *feed = peer->feed;
    log_warning("%s has let %zu bytes of the catalogue wait: beginning again with a snapshot", peer->name,
                feed->end - feed->start);
    feed->start = feed->end = 0;
    feed->next_number++;
    snapshot_all(store, feed);
}

void catalogue_feed_peer(struct store *store, struct peer *peer)
{
    struct catalogue_feed *feed = peer->feed;
    if (!feed || !peer->has_control || feed->start == feed->end)
        return;
    while (feed->start < feed->end) {
        struct feed_record header;
        memcpy(&header, feed->data + feed->start, sizeof header);
        size_t need = (sizeof(struct ring_record) + header.size + 7) & ~(size_t)7;
        if (ring_room(&peer->control_out) < need + PEER_CONTROL_ANSWER_ROOM)
            break;
        void *place = ring_reserve(&peer->control_out, (uint16_t)header.kind, 0, header.size, NULL);
        if (!place)
            break;
        memcpy(place, feed->data + feed->start + sizeof header, header.size);
        feed->start += sizeof header + header.size;
        board_add(store->board, COUNTER_CATALOGUE_SENT, 1);
        FAULT_POINT(STORE_CATALOGUE);
    }
    if (feed->start == feed->end) {
        feed->start = feed->end = 0;
        if (feed->room > 1 << 20) { /* a snapshot's room is not kept for ever */
            free(feed->data);
            feed->data = NULL;
            feed->room = 0;
        }
    } else if (feed->end - feed->start > FEED_MAX + feed->snapshot_size) {
        start_over(store, peer);
    }
}

void catalogue_feed(struct store *store)
{
    for (unsigned i = 0; i < store->peers->count; i++)
        catalogue_feed_peer(store, store->peers->list[i]);
}
