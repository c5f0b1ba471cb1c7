/* Tables made of catalogue records; see catalogue.h. The front's one thread. Records were checked for their sizes; what
 * they mean is believed, the store is our own. Out of memory is fatal: a successor starts with a fresh snapshot. */
#include "catalogue.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/panic.h"
#include "broker_stats.h"
#include "connections.h"
#include "foreign.h"
#include "long_poll.h"
#include "member.h"
#include "pull.h"
#include "route.h"
#include "store_link.h"

struct tables {
    struct topic_entry *topics;
    struct group_entry *groups;
    unsigned members;
    struct msg_version topics_version, groups_version;
};

struct catalogue {
    struct tables now, next;
    bool whole, collecting;
    bool changed; /* since the last settle */
    unsigned topics_version;
    uint64_t epoch, number;             /* of the last record taken */
    struct config_entry config;         /* its text is owned */
    struct group_entry *changed_groups; /* of `now` */
};

static char *copy_text(struct bytes text)
{
    char *copy = strndup((const char *)text.data, text.size);
    if (!copy)
        PANIC("out of memory");
    return copy;
}

static void *allocate(size_t size)
{
    void *p = calloc(1, size);
    if (!p)
        PANIC("out of memory");
    return p;
}

static void free_topic(struct topic_entry *topic)
{
    free(topic->name);
    free(topic->extra);
    free(topic);
}

static void free_subscription(struct subscription_entry *subscription)
{
    tag_filter_free(&subscription->filter);
    free(subscription->topic);
    free(subscription->expression);
    free(subscription);
}

static void free_group(struct group_entry *group)
{
    struct subscription_entry *subscription, *next_subscription;
    HASH_ITER(hh, group->subscriptions, subscription, next_subscription)
    {
        HASH_DEL(group->subscriptions, subscription);
        free_subscription(subscription);
    }
    for (struct member_entry *member = group->members, *next; member; member = next) {
        next = member->next;
        free(member->client_id);
        free(member);
    }
    for (struct reset_mark *mark = group->resets, *next; mark; mark = next) {
        next = mark->next;
        free(mark);
    }
    json_decref(group->forbidden);
    free(group->extra);
    free(group->name);
    free(group);
}

static void tables_clear(struct tables *tables)
{
    struct topic_entry *topic, *next_topic;
    HASH_ITER(hh, tables->topics, topic, next_topic)
    {
        HASH_DEL(tables->topics, topic);
        free_topic(topic);
    }
    struct group_entry *group, *next_group;
    HASH_ITER(hh, tables->groups, group, next_group)
    {
        HASH_DEL(tables->groups, group);
        free_group(group);
    }
    *tables = (struct tables){0};
}

struct catalogue *catalogue_new(void)
{
    return calloc(1, sizeof(struct catalogue));
}

void catalogue_free(struct catalogue *catalogue)
{
    if (!catalogue)
        return;
    tables_clear(&catalogue->now);
    tables_clear(&catalogue->next);
    free((void *)catalogue->config.text.data);
    free(catalogue);
}

struct config_entry catalogue_config(const struct catalogue *catalogue)
{
    return catalogue->config;
}

bool catalogue_is_whole(const struct catalogue *catalogue)
{
    return catalogue->whole;
}

void catalogue_forget(struct catalogue *catalogue)
{
    catalogue->whole = false;
    catalogue->collecting = false;
    tables_clear(&catalogue->next);
}

void catalogue_doubt(struct front *front)
{
    if (!front->catalogue->whole)
        return;
    board_add(front->board, COUNTER_CATALOGUE_GAPS, 1);
    catalogue_forget(front->catalogue);
    store_link_ask_catalogue(front);
}

unsigned catalogue_topics_version(const struct catalogue *catalogue)
{
    return catalogue->topics_version;
}

struct topic_entry *catalogue_topic(const struct catalogue *catalogue, struct bytes name)
{
    struct topic_entry *topic = NULL;
    HASH_FIND(hh, catalogue->now.topics, name.data, name.size, topic);
    return topic;
}

struct group_entry *catalogue_group(const struct catalogue *catalogue, struct bytes name)
{
    struct group_entry *group = NULL;
    HASH_FIND(hh, catalogue->now.groups, name.data, name.size, group);
    return group;
}

struct subscription_entry *catalogue_subscription(const struct group_entry *group, struct bytes topic)
{
    struct subscription_entry *subscription = NULL;
    HASH_FIND(hh, group->subscriptions, topic.data, topic.size, subscription);
    return subscription;
}

struct topic_entry *catalogue_topics(const struct catalogue *catalogue)
{
    return catalogue->now.topics;
}

struct group_entry *catalogue_groups(const struct catalogue *catalogue)
{
    return catalogue->now.groups;
}

struct msg_version catalogue_topics_data_version(const struct catalogue *catalogue)
{
    return catalogue->now.topics_version;
}

struct msg_version catalogue_groups_data_version(const struct catalogue *catalogue)
{
    return catalogue->now.groups_version;
}

bool catalogue_is_forbidden(const struct group_entry *group, struct bytes topic)
{
    if (!group->forbidden)
        return false;
    const json_t *bits = json_object_getn(group->forbidden, (const char *)topic.data, topic.size);
    return json_integer_value(bits) & FORBIDDEN_READ;
}

static struct reset_mark **find_mark(const struct group_entry *group, struct bytes topic, int32_t queue_id)
{
    struct reset_mark **at = (struct reset_mark **)&group->resets;
    while (*at && ((*at)->queue_id != queue_id || !bytes_equal_text(topic, (*at)->topic)))
        at = &(*at)->next;
    return at;
}

const struct reset_mark *catalogue_reset(const struct group_entry *group, struct bytes topic, int32_t queue_id)
{
    return *find_mark(group, topic, queue_id);
}

static void drop_mark(struct group_entry *group, struct bytes topic, int32_t queue_id)
{
    struct reset_mark **at = find_mark(group, topic, queue_id), *mark = *at;
    if (!mark)
        return;
    *at = mark->next;
    free(mark);
}

void catalogue_reset_seen(struct group_entry *group, const struct reset_mark *mark)
{
    drop_mark(group, bytes_of(mark->topic), mark->queue_id);
}

static struct group_entry *group_get(struct tables *tables, struct bytes name)
{
    struct group_entry *group = NULL;
    HASH_FIND(hh, tables->groups, name.data, name.size, group);
    if (group)
        return group;
    group = allocate(sizeof *group);
    group->name = copy_text(name);
    group->notify = true;
    group->message_model = MESSAGE_MODEL_CLUSTERING;
    HASH_ADD_KEYPTR(hh, tables->groups, group->name, name.size, group);
    return group;
}

static void mark_changed(struct catalogue *catalogue, struct group_entry *group)
{
    /* Groups of a snapshot under way are compared with the old ones when it takes their place. */
    if (catalogue->collecting || group->changed)
        return;
    group->changed = true;
    group->next_changed = catalogue->changed_groups;
    catalogue->changed_groups = group;
}

static void take_extra(char **extra, struct bytes text)
{
    free(*extra);
    *extra = text.size ? copy_text(text) : NULL;
}

/* True: it was there before, with other queues. */
static bool take_topic(struct tables *tables, const uint8_t *payload, uint32_t size)
{
    const struct msg_cat_topic *record = (const struct msg_cat_topic *)payload;
    struct cursor cursor = cursor_over(record + 1, size - sizeof *record);
    struct bytes name = cursor_get_string(&cursor);
    struct topic_entry *topic = NULL;
    HASH_FIND(hh, tables->topics, name.data, name.size, topic);
    if (!topic) {
        topic = allocate(sizeof *topic);
        topic->name = copy_text(name);
        HASH_ADD_KEYPTR(hh, tables->topics, topic->name, name.size, topic);
    }
    bool moved = topic->slot_generation &&
                 (topic->slot_base != record->slot_base || topic->slot_generation != record->slot_generation ||
                  topic->read_queues != record->read_queues || topic->perm != record->perm);
    topic->read_queues = record->read_queues;
    topic->write_queues = record->write_queues;
    topic->perm = record->perm;
    topic->sys_flag = record->topic_sys_flag;
    topic->slot_base = record->slot_base;
    topic->slot_generation = record->slot_generation;
    topic->slot_count = record->slot_count;
    topic->order = record->order;
    topic->multi_tag = record->multi_tag;
    tables->topics_version = record->version;
    take_extra(&topic->extra, cursor_get_string(&cursor));
    if ((uint64_t)topic->slot_base + topic->slot_count > QUEUE_TABLE_SLOTS)
        PANIC("catalogue: topic %s has slots outside the queue table", topic->name);
    return moved;
}

static void drop_topic(struct tables *tables, const uint8_t *payload, uint32_t size)
{
    const struct msg_cat_drop *record = (const struct msg_cat_drop *)payload;
    struct cursor cursor = cursor_over(record + 1, size - sizeof *record);
    struct bytes name = cursor_get_string(&cursor);
    struct topic_entry *topic = NULL;
    tables->topics_version = record->version;
    HASH_FIND(hh, tables->topics, name.data, name.size, topic);
    if (!topic)
        return;
    HASH_DEL(tables->topics, topic);
    free_topic(topic);
    /* Its marks went with its offsets. */
    struct group_entry *group, *next;
    HASH_ITER(hh, tables->groups, group, next)
    {
        for (struct reset_mark **at = &group->resets; *at;) {
            struct reset_mark *mark = *at;
            if (bytes_equal_text(name, mark->topic)) {
                *at = mark->next;
                free(mark);
            } else {
                at = &mark->next;
            }
        }
    }
}

static void take_group(struct tables *tables, const uint8_t *payload, uint32_t size)
{
    const struct msg_cat_group *record = (const struct msg_cat_group *)payload;
    struct cursor cursor = cursor_over(record + 1, size - sizeof *record);
    struct group_entry *group = group_get(tables, cursor_get_string(&cursor));
    group->known = true;
    group->consume_enable = record->consume_enable;
    group->consume_broadcast_enable = record->consume_broadcast_enable;
    group->notify = record->notify_members_changed;
    group->sys_flag = record->group_sys_flag;
    group->consume_from_min_enable = record->consume_from_min_enable;
    group->consume_orderly = record->consume_orderly;
    group->retry_max_times = record->retry_max_times;
    group->retry_queues = record->retry_queues;
    group->consume_timeout_minutes = record->consume_timeout_minutes;
    group->broker_id = record->broker_id;
    group->which_broker_when_slow = record->which_broker_when_slow;
    tables->groups_version = record->version;
    take_extra(&group->extra, cursor_get_string(&cursor));
}

static void take_forbidden(struct tables *tables, const uint8_t *payload, uint32_t size)
{
    const struct msg_cat_forbidden *record = (const struct msg_cat_forbidden *)payload;
    struct cursor cursor = cursor_over(record + 1, size - sizeof *record);
    struct group_entry *group = group_get(tables, cursor_get_string(&cursor));
    struct bytes topics = cursor_get_string(&cursor);
    json_decref(group->forbidden);
    group->forbidden = topics.size ? json_loadb((const char *)topics.data, topics.size, 0, NULL) : NULL;
    tables->groups_version = record->version;
}

static void take_reset(struct catalogue *catalogue, struct tables *tables, const uint8_t *payload, uint32_t size,
                       bool drop)
{
    const struct msg_cat_reset *record = (const struct msg_cat_reset *)payload;
    struct cursor cursor = cursor_over(record + 1, size - sizeof *record);
    struct group_entry *group = group_get(tables, cursor_get_string(&cursor));
    struct bytes topic = cursor_get_string(&cursor);
    const struct reset_mark *known = catalogue_reset(group, topic, record->queue_id);
    if (drop && known && known->offset != record->offset)
        return; /* set again meanwhile */
    drop_mark(group, topic, record->queue_id);
    if (drop)
        return;
    struct reset_mark *mark = allocate(sizeof *mark + topic.size + 1);
    memcpy(mark->topic, topic.data, topic.size);
    mark->queue_id = record->queue_id;
    mark->offset = record->offset;
    mark->next = group->resets;
    group->resets = mark;
    catalogue->topics_version++; /* parked polls of the group are to see it */
}

/* Members may outlive a group's configuration, so only that is forgotten. */
static void drop_group(struct tables *tables, const uint8_t *payload, uint32_t size)
{
    const struct msg_cat_drop *record = (const struct msg_cat_drop *)payload;
    struct cursor cursor = cursor_over(record + 1, size - sizeof *record);
    struct bytes name = cursor_get_string(&cursor);
    struct group_entry *group = NULL;
    tables->groups_version = record->version;
    HASH_FIND(hh, tables->groups, name.data, name.size, group);
    if (group)
        group->known = false;
}

static void take_member(struct catalogue *catalogue, struct tables *tables, const uint8_t *payload, uint32_t size,
                        bool drop)
{
    const struct msg_cat_member *record = (const struct msg_cat_member *)payload;
    struct cursor cursor = cursor_over(record + 1, size - sizeof *record);
    struct bytes client_id = cursor_get_string(&cursor);
    struct group_entry *group = group_get(tables, cursor_get_string(&cursor));
    struct member_entry **at = &group->members;
    while (*at && ((*at)->connection != record->connection || (*at)->is_producer != record->is_producer ||
                   !bytes_equal_text(client_id, (*at)->client_id)))
        at = &(*at)->next;
    struct member_entry *member = *at;
    if (drop && !member)
        return;
    if (!drop && member) {
        member->version = record->version;
        member->language = record->language;
        return; /* no other member than before */
    }
    if (drop) {
        *at = member->next;
        group->consumers -= !member->is_producer;
        tables->members--;
        free(member->client_id);
        free(member);
    } else {
        member = allocate(sizeof *member);
        member->connection = record->connection;
        member->is_producer = record->is_producer;
        member->is_ipv6 = record->is_ipv6;
        member->language = record->language;
        member->port = record->port;
        memcpy(member->ip, record->ip, sizeof member->ip);
        member->version = record->version;
        member->told_ms = clock_realtime_ms();
        member->client_id = copy_text(client_id);
        *at = member;
        group->consumers += !member->is_producer;
        tables->members++;
    }
    if (!record->is_producer) {
        if (!drop) {
            group->message_model = record->message_model;
            group->consume_type = record->consume_type;
            group->from_where = record->from_where;
        }
        mark_changed(catalogue, group);
    }
}

static void take_subscription(struct catalogue *catalogue, struct tables *tables, const uint8_t *payload, uint32_t size,
                              bool drop)
{
    const struct msg_cat_subscription *record = (const struct msg_cat_subscription *)payload;
    struct cursor cursor = cursor_over(record + 1, size - sizeof *record);
    struct group_entry *group = group_get(tables, cursor_get_string(&cursor));
    struct bytes topic = cursor_get_string(&cursor), expression = cursor_get_string(&cursor);
    struct subscription_entry *subscription = catalogue_subscription(group, topic);
    if (subscription) {
        HASH_DEL(group->subscriptions, subscription);
        free_subscription(subscription);
    }
    if (!drop) {
        subscription = allocate(sizeof *subscription);
        subscription->topic = copy_text(topic);
        subscription->version = record->version;
        subscription->type = (enum msg_expression)record->expression_type;
        subscription->expression = copy_text(expression);
        if (subscription->type == MSG_EXPRESSION_TAG)
            subscription->unparsable = tag_filter_compile(expression, &subscription->filter) < 0;
        HASH_ADD_KEYPTR(hh, group->subscriptions, subscription->topic, topic.size, subscription);
    }
    mark_changed(catalogue, group);
}

/* One record is all of it, so it acts at once, in the middle of a snapshot too. */
static void take_config(struct front *front, const uint8_t *payload, uint32_t size)
{
    const struct msg_cat_config *record = (const struct msg_cat_config *)payload;
    struct config_entry *config = &front->catalogue->config;
    struct cursor cursor = cursor_over(record + 1, size - sizeof *record);
    struct bytes text = cursor_get_string(&cursor);
    free((void *)config->text.data);
    config->text = (struct bytes){(const uint8_t *)copy_text(text), text.size};
    config->state_version = record->state_version;
    config->timestamp_ms = record->timestamp_ms;
    config->counter = record->counter;
    front_config_apply(&front->config, text);
    foreign_configure(front);
}

static bool has_consumer(const struct group_entry *group, const struct member_entry *wanted)
{
    for (const struct member_entry *member = group->members; member; member = member->next)
        if (!member->is_producer && member->connection == wanted->connection &&
            strcmp(member->client_id, wanted->client_id) == 0)
            return true;
    return false;
}

static bool same_consumers(const struct group_entry *a, const struct group_entry *b)
{
    if (a->consumers != b->consumers)
        return false;
    for (const struct member_entry *member = a->members; member; member = member->next)
        if (!member->is_producer && !has_consumer(b, member))
            return false;
    return true;
}

/* The snapshot takes the place of the old tables; groups whose consumers are others now get their notice. */
static void finish_snapshot(struct front *front)
{
    struct catalogue *catalogue = front->catalogue;
    struct tables old = catalogue->now;
    catalogue->now = catalogue->next;
    catalogue->next = (struct tables){0};
    catalogue->collecting = false;
    catalogue->whole = true;
    catalogue->topics_version++;
    catalogue->changed_groups = NULL; /* they belonged to the old tables; the comparison finds them again */
    struct group_entry *group, *next_group;
    HASH_ITER(hh, catalogue->now.groups, group, next_group)
    {
        struct group_entry *before = NULL;
        HASH_FIND(hh, old.groups, group->name, strlen(group->name), before);
        if (!group->consumers && !before)
            continue;
        if (!before || before->changed || !same_consumers(group, before))
            mark_changed(catalogue, group);
    }
    tables_clear(&old);
    foreign_catalogue_whole(front);
}

/* Name servers are told of what changes; what a snapshot brings is seen at its end. */
static void tell_topic(struct front *front, const uint8_t *payload, uint32_t size)
{
    const struct msg_cat_topic *record = (const struct msg_cat_topic *)payload;
    struct cursor cursor = cursor_over(record + 1, size - sizeof *record);
    if (!front->catalogue->collecting)
        foreign_topic(front, cursor_get_string(&cursor));
}

static void apply(struct front *front, uint16_t kind, const uint8_t *payload, uint32_t size)
{
    struct catalogue *catalogue = front->catalogue;
    struct tables *tables = catalogue->collecting ? &catalogue->next : &catalogue->now;
    switch (kind) {
    case MSG_CAT_TOPIC:
        catalogue->topics_version += take_topic(tables, payload, size);
        tell_topic(front, payload, size);
        break;
    case MSG_CAT_TOPIC_DROP:
        drop_topic(tables, payload, size);
        catalogue->topics_version++;
        if (!catalogue->collecting)
            foreign_topic_gone(front);
        break;
    case MSG_CAT_CONFIG:
        take_config(front, payload, size);
        break;
    case MSG_CAT_GROUP:
        take_group(tables, payload, size);
        break;
    case MSG_CAT_GROUP_DROP:
        drop_group(tables, payload, size);
        break;
    case MSG_CAT_FORBIDDEN:
        take_forbidden(tables, payload, size);
        break;
    case MSG_CAT_RESET:
    case MSG_CAT_RESET_DROP:
        take_reset(catalogue, tables, payload, size, kind == MSG_CAT_RESET_DROP);
        break;
    case MSG_CAT_MEMBER:
    case MSG_CAT_MEMBER_DROP:
        take_member(catalogue, tables, payload, size, kind == MSG_CAT_MEMBER_DROP);
        break;
    case MSG_CAT_SUBSCRIPTION:
    case MSG_CAT_SUBSCRIPTION_DROP:
        take_subscription(catalogue, tables, payload, size, kind == MSG_CAT_SUBSCRIPTION_DROP);
        break;
    case MSG_CAT_END:
        if (catalogue->collecting)
            finish_snapshot(front);
        break;
    default:
        PANIC("reply ring: record of kind %u is no catalogue record", kind);
    }
}

void catalogue_take(struct front *front, uint16_t kind, const uint8_t *payload, uint32_t size)
{
    struct catalogue *catalogue = front->catalogue;
    struct msg_catalogue head;
    pn_assert(size >= sizeof head);
    memcpy(&head, payload, sizeof head);
    catalogue->changed = true;
    if (kind == MSG_CAT_BEGIN) {
        /* One that a dead store left in the ring would make its old tables whole again. */
        if (head.epoch != atomic_load_explicit(&front->queue_table->store_generation, memory_order_acquire))
            return;
        tables_clear(&catalogue->next);
        catalogue->collecting = true;
        catalogue->whole = false;
        catalogue->epoch = head.epoch;
        catalogue->number = head.number;
        return;
    }
    if (!catalogue->whole && !catalogue->collecting)
        return; /* of a sequence whose begin we missed; the snapshot that we asked for holds it */
    if (head.epoch != catalogue->epoch || head.number != catalogue->number + 1) {
        board_add(front->board, COUNTER_CATALOGUE_GAPS, 1);
        catalogue_forget(catalogue);
        store_link_ask_catalogue(front);
        return;
    }
    catalogue->number = head.number;
    apply(front, kind, payload, size);
}

void catalogue_look_again(struct catalogue *catalogue)
{
    catalogue->changed = true;
}

void catalogue_settle(struct front *front)
{
    struct catalogue *catalogue = front->catalogue;
    if (!catalogue->changed || !catalogue->whole)
        return;
    catalogue->changed = false;
    broker_stats_catalogue(front);
    board_set(front->board, COUNTER_MEMBERS, catalogue->now.members);
    struct group_entry *group = catalogue->changed_groups;
    catalogue->changed_groups = NULL;
    for (struct group_entry *next; group; group = next) {
        next = group->next_changed;
        group->changed = false;
        member_notify(front, group);
    }
    long_poll_catalogue_changed(front);
    held_requests_run(front);
}
