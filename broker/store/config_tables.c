/* topics.json, subscriptionGroup.json and consumerOffset.json: see config_tables.h. Printing is on the way of the
 * single writer's turn, so it goes straight into one growing text; only entries with unknown parts take the way over
 * jansson. Reading happens at a cold start and is lenient as Java is: missing values are Java's defaults, numbers may
 * be text. */
#include "config_tables.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "groups.h"
#include "json_file.h"
#include "offsets.h"
#include "topics.h"

static void json_decref_p(json_t **json)
{
    json_decref(*json);
}

/* Printing. */

static void add(struct text *text, const char *literal)
{
    text_add_bytes(text, bytes_of(literal));
}

/* One member of an entry, three levels deep. */
static void add_int(struct text *text, const char *key, int64_t value)
{
    add(text, key);
    json_file_int(text, value);
}

static void add_bool(struct text *text, const char *key, bool value)
{
    add(text, key);
    add(text, value ? "true" : "false");
}

static void print_version(struct text *text, struct data_version version)
{
    add_int(text, "{\n\t\"dataVersion\":{\n\t\t\"counter\":", version.counter);
    add_int(text, ",\n\t\t\"stateVersion\":", version.state_version);
    add_int(text, ",\n\t\t\"timestamp\":", version.timestamp_ms);
    add(text, "\n\t},");
}

struct printing {
    struct text *text;
    bool more;
};

static void entry_begin(struct printing *printing, const char *key)
{
    add(printing->text, printing->more ? ",\n\t\t" : "\n\t\t");
    printing->more = true;
    text_add_json_string(printing->text, bytes_of(key));
    add(printing->text, ":");
}

/* The members that only the file knows, joined with ours and sorted. */
static void print_merged(struct text *text, const char *own, size_t own_size, const char *extra)
{
    PN_CLEANUP(json_decref_p) json_t *whole = json_loadb(own, own_size, 0, NULL);
    PN_CLEANUP(json_decref_p) json_t *more = json_loads(extra, 0, NULL);
    if (json_is_object(more))
        json_object_update(whole, more);
    json_file_print(text, whole, 2);
}

static void print_topic_members(struct text *text, const struct topic *topic)
{
    add_bool(text, "{\n\t\t\t\"attributes\":{},\n\t\t\t\"order\":", topic->order);
    add_int(text, ",\n\t\t\t\"perm\":", topic->perm);
    add_int(text, ",\n\t\t\t\"readQueueNums\":", topic->read_queues);
    add(text, topic->multi_tag ? ",\n\t\t\t\"topicFilterType\":\"MULTI_TAG\",\n\t\t\t\"topicName\":"
                               : ",\n\t\t\t\"topicFilterType\":\"SINGLE_TAG\",\n\t\t\t\"topicName\":");
    text_add_json_string(text, bytes_of(topic->name));
    add_int(text, ",\n\t\t\t\"topicSysFlag\":", topic->sys_flag);
    add_int(text, ",\n\t\t\t\"writeQueueNums\":", topic->write_queues);
    add(text, "\n\t\t}");
}

static int print_topic(struct topic *topic, void *context)
{
    struct printing *printing = context;
    entry_begin(printing, topic->name);
    if (!topic->extra) {
        print_topic_members(printing->text, topic);
        return 0;
    }
    struct text own = {NULL, 0, 0};
    print_topic_members(&own, topic);
    print_merged(printing->text, own.data, own.size, topic->extra);
    text_free(&own);
    return 0;
}

void config_tables_print_topics(struct store *store, struct text *text)
{
    struct printing printing = {text, false};
    print_version(text, topics_version(store->topics));
    add(text, "\n\t\"topicConfigTable\":{");
    topics_each(store->topics, print_topic, &printing);
    add(text, printing.more ? "\n\t}\n}" : "}\n}");
}

static void print_group_members(struct text *text, const struct group *group)
{
    add_int(text, "{\n\t\t\t\"attributes\":{},\n\t\t\t\"brokerId\":", group->broker_id);
    add_bool(text, ",\n\t\t\t\"consumeBroadcastEnable\":", group->broadcast_enable);
    add_bool(text, ",\n\t\t\t\"consumeEnable\":", group->consume_enable);
    add_bool(text, ",\n\t\t\t\"consumeFromMinEnable\":", group->from_min_enable);
    add_bool(text, ",\n\t\t\t\"consumeMessageOrderly\":", group->orderly);
    add_int(text, ",\n\t\t\t\"consumeTimeoutMinute\":", group->consume_timeout_minutes);
    add(text, ",\n\t\t\t\"groupName\":");
    text_add_json_string(text, bytes_of(group->name));
    add(text, ",\n\t\t\t\"groupRetryPolicy\":{\n\t\t\t\t\"type\":\"CUSTOMIZED\"\n\t\t\t}");
    add_int(text, ",\n\t\t\t\"groupSysFlag\":", group->sys_flag);
    add_bool(text, ",\n\t\t\t\"notifyConsumerIdsChangedEnable\":", group->notify_members_changed);
    add_int(text, ",\n\t\t\t\"retryMaxTimes\":", group->retry_max_times);
    add_int(text, ",\n\t\t\t\"retryQueueNums\":", group->retry_queues);
    add_int(text, ",\n\t\t\t\"whichBrokerWhenConsumeSlowly\":", group->which_broker_when_slow);
    add(text, "\n\t\t}");
}

static int print_group(struct group *group, void *context)
{
    struct printing *printing = context;
    entry_begin(printing, group->name);
    if (!group->extra) {
        print_group_members(printing->text, group);
        return 0;
    }
    struct text own = {NULL, 0, 0};
    print_group_members(&own, group);
    print_merged(printing->text, own.data, own.size, group->extra);
    text_free(&own);
    return 0;
}

void config_tables_print_groups(struct store *store, struct text *text)
{
    struct printing printing = {text, false};
    print_version(text, groups_version(store->groups));
    const char *forbidden_text = groups_forbidden(store->groups);
    PN_CLEANUP(json_decref_p) json_t *forbidden = *forbidden_text ? json_loads(forbidden_text, 0, NULL) : json_object();
    add(text, "\n\t\"forbiddenTable\":");
    json_file_print(text, forbidden, 1);
    add(text, ",\n\t\"subscriptionGroupTable\":{");
    groups_each(store->groups, print_group, &printing);
    add(text, printing.more ? "\n\t}\n}" : "}\n}");
}

struct offsets_printing {
    struct printing printing;
    const char *open; /* the key whose queues are being printed */
};

/* fastjson puts integer keys bare and on one line. */
static int64_t print_offset(const char *topic_at_group, int32_t queue_id, int64_t offset, void *context)
{
    struct offsets_printing *state = context;
    struct text *text = state->printing.text;
    if (state->open != topic_at_group) {
        if (state->open)
            add(text, "\n\t\t}");
        entry_begin(&state->printing, topic_at_group);
        add(text, "{");
        state->open = topic_at_group;
    } else {
        add(text, ",");
    }
    json_file_int(text, queue_id);
    add(text, ":");
    json_file_int(text, offset);
    return offset;
}

void config_tables_print_offsets(struct store *store, struct text *text)
{
    struct offsets_printing state = {{text, false}, NULL};
    print_version(text, offsets_version(store->offsets));
    add(text, "\n\t\"offsetTable\":{");
    offsets_each(store->offsets, print_offset, &state);
    if (state.open)
        add(text, "\n\t\t}");
    add(text, state.printing.more ? "\n\t}\n}" : "}\n}");
}

/* Reading. */

static int64_t number_of(json_t *value, int64_t default_value)
{
    if (json_is_integer(value))
        return json_integer_value(value);
    if (json_is_real(value))
        return (int64_t)json_real_value(value);
    if (!json_is_string(value))
        return default_value;
    char *end;
    errno = 0;
    int64_t number = strtoll(json_string_value(value), &end, 10);
    return errno || *end || end == json_string_value(value) ? default_value : number;
}

static int32_t take_i32(json_t *entry, const char *key, int32_t default_value)
{
    int64_t number = number_of(json_object_get(entry, key), default_value);
    json_object_del(entry, key);
    return number < INT32_MIN || number > INT32_MAX ? default_value : (int32_t)number;
}

static bool take_bool(json_t *entry, const char *key, bool default_value)
{
    json_t *value = json_object_get(entry, key);
    bool result = default_value;
    if (json_is_boolean(value))
        result = json_is_true(value);
    else if (json_is_string(value))
        result = strcmp(json_string_value(value), "true") == 0;
    json_object_del(entry, key);
    return result;
}

/* What is left of an entry when all known members are taken; "" if nothing that says anything. */
static char *take_extra(json_t *entry)
{
    json_t *attributes = json_object_get(entry, "attributes");
    if (attributes && json_object_size(attributes) == 0)
        json_object_del(entry, "attributes");
    return json_object_size(entry) ? json_dumps(entry, JSON_COMPACT | JSON_SORT_KEYS) : strdup("");
}

struct data_version config_tables_version(json_t *json)
{
    json_t *version = json_object_get(json, "dataVersion");
    return (struct data_version){
        .state_version = number_of(json_object_get(version, "stateVersion"), 0),
        .timestamp_ms = number_of(json_object_get(version, "timestamp"), 0),
        .counter = number_of(json_object_get(version, "counter"), 0),
    };
}

static void warn_of_kind(const char *name, json_t *entry)
{
    json_t *attributes = json_object_get(entry, "attributes");
    const char *type = json_string_value(json_object_get(attributes, "queue.type"));
    const char *policy = json_string_value(json_object_get(attributes, "cleanup.policy"));
    if ((type && strcmp(type, "BatchCQ") == 0) || (policy && strcmp(policy, "COMPACTION") == 0))
        log_warning("topic %s has %s queues in topics.json; it is served as an ordinary topic", name,
                    type && strcmp(type, "BatchCQ") == 0 ? "batch" : "compacted");
}

static int load_topic(struct store *store, const char *name, json_t *entry)
{
    if (!json_is_object(entry))
        return -EBADMSG;
    warn_of_kind(name, entry);
    const char *filter = json_string_value(json_object_get(entry, "topicFilterType"));
    struct topic_wish wish = {
        .name = bytes_of(name),
        .multi_tag = filter && strcmp(filter, "MULTI_TAG") == 0,
        .read_queues = take_i32(entry, "readQueueNums", 16),
        .write_queues = take_i32(entry, "writeQueueNums", 16),
        .perm = take_i32(entry, "perm", 6),
        .sys_flag = take_i32(entry, "topicSysFlag", 0),
        .order = take_bool(entry, "order", false),
    };
    json_object_del(entry, "topicFilterType");
    json_object_del(entry, "topicName");
    PN_FREE char *extra = take_extra(entry);
    wish.extra = extra;
    struct topic *topic;
    int r = topics_put(store, &wish, &topic);
    if (r == -EINVAL) {
        log_error("topics.json: topic %s is out of bounds", name);
        return -EBADMSG;
    }
    return r;
}

int config_tables_load_topics(struct store *store, json_t *json)
{
    json_t *table = json_object_get(json, "topicConfigTable"), *entry;
    const char *name;
    void *next;
    if (table && !json_is_object(table))
        return -EBADMSG;
    json_object_foreach_safe(table, next, name, entry)
    {
        int r = load_topic(store, name, entry);
        if (r < 0)
            return r;
    }
    struct data_version version = config_tables_version(json);
    topics_set_version(store->topics, &version);
    return 0;
}

static int load_group(struct store *store, const char *name, json_t *entry)
{
    if (!json_is_object(entry))
        return -EBADMSG;
    struct group wish = groups_default((char *)name);
    wish.broker_id = number_of(json_object_get(entry, "brokerId"), 0);
    wish.which_broker_when_slow = number_of(json_object_get(entry, "whichBrokerWhenConsumeSlowly"), 1);
    wish.retry_max_times = take_i32(entry, "retryMaxTimes", wish.retry_max_times);
    wish.retry_queues = take_i32(entry, "retryQueueNums", wish.retry_queues);
    wish.sys_flag = take_i32(entry, "groupSysFlag", 0);
    wish.consume_timeout_minutes = take_i32(entry, "consumeTimeoutMinute", wish.consume_timeout_minutes);
    wish.consume_enable = take_bool(entry, "consumeEnable", true);
    wish.from_min_enable = take_bool(entry, "consumeFromMinEnable", true);
    wish.broadcast_enable = take_bool(entry, "consumeBroadcastEnable", true);
    wish.orderly = take_bool(entry, "consumeMessageOrderly", false);
    wish.notify_members_changed = take_bool(entry, "notifyConsumerIdsChangedEnable", true);
    json_object_del(entry, "brokerId");
    json_object_del(entry, "whichBrokerWhenConsumeSlowly");
    json_object_del(entry, "groupName");
    PN_CLEANUP(json_decref_p) json_t *policy = json_pack("{ss}", "type", "CUSTOMIZED");
    if (json_equal(json_object_get(entry, "groupRetryPolicy"), policy))
        json_object_del(entry, "groupRetryPolicy");
    PN_FREE char *extra = take_extra(entry);
    wish.extra = extra;
    struct group *group;
    int r = groups_put(store, &wish, &group);
    if (r == -EINVAL) {
        log_error("subscriptionGroup.json: group %s is out of bounds", name);
        return -EBADMSG;
    }
    return r;
}

int config_tables_load_groups(struct store *store, json_t *json)
{
    json_t *table = json_object_get(json, "subscriptionGroupTable"), *entry;
    const char *name;
    void *next;
    if (table && !json_is_object(table))
        return -EBADMSG;
    json_object_foreach_safe(table, next, name, entry)
    {
        int r = load_group(store, name, entry);
        if (r < 0)
            return r;
    }
    json_t *forbidden = json_object_get(json, "forbiddenTable");
    if (json_object_size(forbidden)) {
        PN_FREE char *text = json_dumps(forbidden, JSON_COMPACT);
        groups_set_forbidden(store->groups, text, strlen(text));
    }
    struct data_version version = config_tables_version(json);
    groups_set_version(store->groups, &version);
    return 0;
}

int config_tables_load_offsets(struct store *store, json_t *json)
{
    json_t *table = json_object_get(json, "offsetTable"), *queues, *value;
    const char *key, *queue;
    if (table && !json_is_object(table))
        return -EBADMSG;
    json_object_foreach(table, key, queues)
    {
        if (!json_is_object(queues) || !strchr(key, '@'))
            return -EBADMSG;
        json_object_foreach(queues, queue, value)
        {
            char *end;
            long queue_id = strtol(queue, &end, 10);
            if (*end || end == queue || queue_id < 0 || queue_id > INT32_MAX)
                return -EBADMSG;
            offsets_set(store->offsets, bytes_of(key), (int32_t)queue_id, number_of(value, -1));
        }
    }
    struct data_version version = config_tables_version(json);
    offsets_set_version(store->offsets, &version);
    return 0;
}
