/* Bodies of administrators' requests and answers in fastjson's dialect: raw object keys, members in alphabetical order
 * (remoting facts 1.8, 2.4, 6.4). Pure texts, no I/O. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "admin.h"
#include "base/cleanup.h"
#include "base/panic.h"
#include "number.h"

static void json_decref_p(json_t **json)
{
    json_decref(*json);
}

static const char *boolean(bool value)
{
    return value ? "true" : "false";
}

void admin_put_comma(struct text *text, bool *more)
{
    if (*more)
        text_add(text, ",");
    *more = true;
}

void admin_put_queue(struct text *text, const struct front *front, const char *topic, int32_t queue_id)
{
    text_add(text, "{\"brokerName\":");
    text_add_json_string(text, bytes_of(front->config.broker_name));
    text_add(text, ",\"queueId\":%d,\"topic\":", queue_id);
    text_add_json_string(text, bytes_of(topic));
    text_add(text, "}");
}

void admin_put_version(struct text *text, struct msg_version version)
{
    text_add(text, "{\"counter\":%lld,\"stateVersion\":%lld,\"timestamp\":%lld}", (long long)version.counter,
             (long long)version.state_version, (long long)version.timestamp_ms);
}

/* Tags as the filter has split them. */
static void put_tags(struct text *text, const char *expression)
{
    bool more = false;
    for (const char *at = expression; *at;) {
        const char *end = strstr(at, "||");
        size_t size = end ? (size_t)(end - at) : strlen(at);
        const char *next = end ? end + 2 : at + size;
        while (size && *at == ' ') {
            at++;
            size--;
        }
        while (size && at[size - 1] == ' ')
            size--;
        if (size) {
            admin_put_comma(text, &more);
            text_add_json_string(text, (struct bytes){(const uint8_t *)at, size});
        }
        at = next;
    }
}

void admin_put_subscription(struct text *text, const struct subscription_entry *subscription)
{
    static const char *const types[] = {"TAG", "SQL92", "OTHER"};
    bool is_tags = subscription->type == MSG_EXPRESSION_TAG && !subscription->filter.all && !subscription->unparsable;
    text_add(text, "{\"classFilterMode\":false,\"codeSet\":[");
    for (unsigned i = 0; is_tags && i < subscription->filter.count; i++)
        text_add(text, "%s%d", i ? "," : "", subscription->filter.codes[i]);
    text_add(text, "],\"expressionType\":\"%s\",\"subString\":", types[subscription->type]);
    text_add_json_string(text, bytes_of(*subscription->expression ? subscription->expression : "*"));
    text_add(text, ",\"subVersion\":%lld,\"tagsSet\":[", (long long)subscription->version);
    if (is_tags)
        put_tags(text, subscription->expression);
    text_add(text, "],\"topic\":");
    text_add_json_string(text, bytes_of(subscription->topic));
    text_add(text, "}");
}

/* What only the store's file knows, joined with ours and sorted. */
static void put_merged(struct text *text, const struct text *own, const char *extra)
{
    PN_CLEANUP(json_decref_p) json_t *whole = json_loadb(own->data, own->size, 0, NULL);
    PN_CLEANUP(json_decref_p) json_t *more = json_loads(extra, 0, NULL);
    pn_assert(whole);
    if (json_is_object(more))
        json_object_update(whole, more);
    PN_FREE char *merged = json_dumps(whole, JSON_COMPACT | JSON_SORT_KEYS);
    pn_assert(merged);
    text_add_bytes(text, bytes_of(merged));
}

static void put_plain_topic(struct text *text, const struct topic_entry *topic)
{
    text_add(text, "{\"attributes\":{},\"order\":%s,\"perm\":%d,\"readQueueNums\":%d,\"topicFilterType\":\"%s\",",
             boolean(topic->order), topic->perm, topic->read_queues, topic->multi_tag ? "MULTI_TAG" : "SINGLE_TAG");
    text_add(text, "\"topicName\":");
    text_add_json_string(text, bytes_of(topic->name));
    text_add(text, ",\"topicSysFlag\":%d,\"writeQueueNums\":%d}", topic->sys_flag, topic->write_queues);
}

void admin_put_topic(struct text *text, const struct topic_entry *topic)
{
    if (!topic->extra) {
        put_plain_topic(text, topic);
        return;
    }
    struct text own = {0};
    put_plain_topic(&own, topic);
    put_merged(text, &own, topic->extra);
    text_free(&own);
}

static void put_plain_group(struct text *text, const struct group_entry *group)
{
    text_add(text, "{\"attributes\":{},\"brokerId\":%lld,\"consumeBroadcastEnable\":%s,\"consumeEnable\":%s,",
             (long long)group->broker_id, boolean(group->consume_broadcast_enable), boolean(group->consume_enable));
    text_add(text, "\"consumeFromMinEnable\":%s,\"consumeMessageOrderly\":%s,\"consumeTimeoutMinute\":%d,",
             boolean(group->consume_from_min_enable), boolean(group->consume_orderly), group->consume_timeout_minutes);
    text_add(text, "\"groupName\":");
    text_add_json_string(text, bytes_of(group->name));
    text_add(text, ",\"groupRetryPolicy\":{\"type\":\"CUSTOMIZED\"},\"groupSysFlag\":%d,", group->sys_flag);
    text_add(text, "\"notifyConsumerIdsChangedEnable\":%s,\"retryMaxTimes\":%d,\"retryQueueNums\":%d,",
             boolean(group->notify), group->retry_max_times, group->retry_queues);
    text_add(text, "\"whichBrokerWhenConsumeSlowly\":%lld}", (long long)group->which_broker_when_slow);
}

void admin_put_group(struct text *text, const struct group_entry *group)
{
    if (!group->extra) {
        put_plain_group(text, group);
        return;
    }
    struct text own = {0};
    put_plain_group(&own, group);
    put_merged(text, &own, group->extra);
    text_free(&own);
}

int64_t admin_json_i64(const json_t *object, const char *key, int64_t missing)
{
    const json_t *value = json_object_get(object, key);
    int64_t number = missing;
    if (json_is_integer(value))
        return json_integer_value(value);
    if (json_is_real(value))
        return (int64_t)json_real_value(value);
    if (json_is_string(value) && number_parse_i64(bytes_of(json_string_value(value)), &number) < 0)
        number = missing;
    return number;
}

bool admin_json_bool(const json_t *object, const char *key, bool missing)
{
    const json_t *value = json_object_get(object, key);
    if (json_is_boolean(value))
        return json_is_true(value);
    return json_is_string(value) ? strcmp(json_string_value(value), "true") == 0 : missing;
}
