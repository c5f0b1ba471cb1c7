/* Bodies of heartbeats into MSG_MEMBER_PUT records. Enumerations come as names (Java, Go, Node) or ordinals (C++),
 * numbers as numbers or texts, absent sets as nothing: remoting facts 3.9. Pure data, no I/O. */
#include <errno.h>
#include <stdlib.h>

#include "base/panic.h"
#include "member.h"
#include "number.h"
#include "json/json_body.h"

static const char *const consume_types[] = {"CONSUME_ACTIVELY", "CONSUME_PASSIVELY", "CONSUME_POP", NULL};
static const char *const message_models[] = {"BROADCASTING", "CLUSTERING", NULL};
static const char *const from_wheres[] = {"CONSUME_FROM_LAST_OFFSET",
                                          "CONSUME_FROM_LAST_OFFSET_AND_FROM_MIN_WHEN_BOOT_FIRST",
                                          "CONSUME_FROM_MIN_OFFSET",
                                          "CONSUME_FROM_MAX_OFFSET",
                                          "CONSUME_FROM_FIRST_OFFSET",
                                          "CONSUME_FROM_TIMESTAMP",
                                          NULL};

static struct bytes text_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_string(value))
        return (struct bytes){NULL, 0};
    return (struct bytes){(const uint8_t *)json_string_value(value), json_string_length(value)};
}

static int64_t number_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    int64_t number = 0;
    if (json_is_integer(value))
        return json_integer_value(value);
    if (json_is_string(value) && number_parse_i64(text_of(object, key), &number) < 0)
        number = 0;
    return number;
}

static uint8_t ordinal_of(const json_t *object, const char *key, const char *const *names, uint8_t missing)
{
    const json_t *value = json_object_get(object, key);
    unsigned count = 0;
    while (names[count])
        count++;
    if (json_is_integer(value) && json_integer_value(value) >= 0 && json_integer_value(value) < count)
        return (uint8_t)json_integer_value(value);
    for (uint8_t i = 0; i < count; i++)
        if (bytes_equal_text(text_of(object, key), names[i]))
            return i;
    return missing;
}

static uint8_t expression_type(const json_t *subscription)
{
    struct bytes type = text_of(subscription, "expressionType");
    if (!type.size || bytes_equal_text(type, "TAG"))
        return MSG_EXPRESSION_TAG;
    return bytes_equal_text(type, "SQL92") ? MSG_EXPRESSION_SQL92 : MSG_EXPRESSION_OTHER;
}

static size_t subscriptions_size(const json_t *subscriptions)
{
    size_t size = 0, index;
    json_t *subscription;
    json_array_foreach(subscriptions, index, subscription) size +=
        8 + 1 + 2 + text_of(subscription, "topic").size + 2 + text_of(subscription, "subString").size;
    return size;
}

static const char *check_subscriptions(const json_t *subscriptions)
{
    size_t index;
    json_t *subscription;
    if (json_array_size(subscriptions) > UINT16_MAX)
        return "too many subscriptions";
    json_array_foreach(subscriptions, index, subscription)
    {
        struct bytes topic = text_of(subscription, "topic");
        if (!topic.size || topic.size > MSG_TOPIC_MAX)
            return "a subscription has no topic, or one that is too long";
        if (text_of(subscription, "subString").size > UINT16_MAX)
            return "a subscription's expression is too long";
    }
    return NULL;
}

static struct member *make_member(const struct msg_member_put *put, struct bytes client_id, struct bytes group,
                                  const json_t *subscriptions)
{
    size_t size = sizeof *put + 2 + client_id.size + 2 + group.size + subscriptions_size(subscriptions);
    struct member *member = malloc(sizeof *member + size);
    if (!member)
        PANIC("out of memory");
    *member = (struct member){.size = (uint32_t)size};
    memcpy(member->payload, put, sizeof *put);
    struct cursor cursor = cursor_over(member->payload + sizeof *put, size - sizeof *put);
    cursor_put_string(&cursor, client_id);
    cursor_put_string(&cursor, group);
    size_t index;
    json_t *subscription;
    json_array_foreach(subscriptions, index, subscription)
    {
        cursor_put_i64(&cursor, number_of(subscription, "subVersion"));
        cursor_put_u8(&cursor, expression_type(subscription));
        cursor_put_string(&cursor, text_of(subscription, "topic"));
        cursor_put_string(&cursor, text_of(subscription, "subString"));
    }
    pn_assert(!cursor.bad && cursor.pos == cursor.end);
    return member;
}

/* One set of the body; `list` grows at its head. */
static const char *take_set(const json_t *set, struct msg_member_put put, struct bytes client_id, struct member **list)
{
    size_t index;
    json_t *data;
    json_array_foreach(set, index, data)
    {
        struct bytes group = text_of(data, "groupName");
        if (!group.size || group.size > MSG_GROUP_MAX)
            return "a group has no name, or one that is too long";
        const json_t *subscriptions = put.is_producer ? NULL : json_object_get(data, "subscriptionDataSet");
        const char *error = check_subscriptions(subscriptions);
        if (error)
            return error;
        if (!put.is_producer) {
            put.consume_type = ordinal_of(data, "consumeType", consume_types, 1);
            put.message_model = ordinal_of(data, "messageModel", message_models, MESSAGE_MODEL_CLUSTERING);
            put.from_where = ordinal_of(data, "consumeFromWhere", from_wheres, 0);
            put.flags = json_is_true(json_object_get(data, "unitMode")) ? MSG_MEMBER_UNIT : 0;
            put.subscription_count = (uint16_t)json_array_size(subscriptions);
        }
        struct member *member = make_member(&put, client_id, group, subscriptions);
        member->next = *list;
        *list = member;
    }
    return NULL;
}

int heartbeat_parse(struct bytes body, const struct msg_member_put *from, struct heartbeat *ret_heartbeat,
                    const char **ret_error)
{
    *ret_heartbeat = (struct heartbeat){0};
    json_t *json = json_body_parse(body, ret_error);
    if (!json)
        return -EINVAL;
    struct bytes client_id = text_of(json, "clientID");
    struct msg_member_put put = *from;
    struct member *members = NULL;
    const char *error = NULL;
    if (!client_id.size || client_id.size > MSG_CLIENT_ID_MAX)
        error = "clientID is missing or too long";
    if (!error)
        error = take_set(json_object_get(json, "consumerDataSet"), put, client_id, &members);
    put.is_producer = 1;
    if (!error)
        error = take_set(json_object_get(json, "producerDataSet"), put, client_id, &members);
    ret_heartbeat->without_subscriptions = json_is_true(json_object_get(json, "withoutSub"));
    ret_heartbeat->fingerprint = number_of(json, "heartbeatFingerprint");
    ret_heartbeat->members = members;
    json_decref(json);
    if (!error)
        return 0;
    member_list_free(members);
    ret_heartbeat->members = NULL;
    *ret_error = error;
    return -EINVAL;
}

void member_list_free(struct member *members)
{
    while (members) {
        struct member *next = members->next;
        free(members);
        members = next;
    }
}

static const char *name_at(const char *const *names, uint8_t ordinal)
{
    for (uint8_t i = 0; names[i]; i++)
        if (i == ordinal)
            return names[i];
    return names[0];
}

const char *member_consume_type_name(uint8_t ordinal)
{
    return name_at(consume_types, ordinal);
}

const char *member_message_model_name(uint8_t ordinal)
{
    return name_at(message_models, ordinal);
}

const char *member_from_where_name(uint8_t ordinal)
{
    return name_at(from_wheres, ordinal);
}
