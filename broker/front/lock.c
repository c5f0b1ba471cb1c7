/* LOCK_BATCH_MQ and UNLOCK_BATCH_MQ; the front's one thread. Queues of other brokers' names in the body are passed on
 * like ours: a client asks each broker for its own. The answer names the queues held now, so the request is kept
 * meanwhile. */
#include "lock.h"

#include <errno.h>
#include <stdlib.h>

#include "base/panic.h"
#include "pending.h"
#include "store_link.h"
#include "wire/codes.h"
#include "json/json_body.h"

/* A kept lock request: what the answer needs. */
struct lock_request {
    uint32_t size, count;
    uint8_t payload[]; /* struct msg_lock and its strings */
};

static struct bytes text_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_string(value))
        return (struct bytes){NULL, 0};
    return (struct bytes){(const uint8_t *)json_string_value(value), json_string_length(value)};
}

static const char *check(const json_t *json, struct bytes client_id, struct bytes group, size_t *ret_size)
{
    const json_t *queues = json_object_get(json, "mqSet");
    if (!client_id.size || client_id.size > MSG_CLIENT_ID_MAX)
        return "clientId is missing or too long";
    if (!group.size || group.size > MSG_GROUP_MAX)
        return "consumerGroup is missing or too long";
    if (json_array_size(queues) > MSG_LOCK_COUNT_MAX)
        return "too many queues";
    size_t size = sizeof(struct msg_lock) + 2 + client_id.size + 2 + group.size, index;
    json_t *queue;
    json_array_foreach(queues, index, queue)
    {
        struct bytes topic = text_of(queue, "topic");
        const json_t *id = json_object_get(queue, "queueId");
        if (!topic.size || topic.size > MSG_TOPIC_MAX || !json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) > INT32_MAX)
            return "a queue has no topic or queueId";
        size += 4 + 2 + topic.size;
    }
    *ret_size = size;
    return NULL;
}

static struct lock_request *build(const json_t *json, uint64_t connection, const char **ret_error)
{
    struct bytes client_id = text_of(json, "clientId"), group = text_of(json, "consumerGroup");
    const json_t *queues = json_object_get(json, "mqSet");
    size_t size = 0, index;
    *ret_error = check(json, client_id, group, &size);
    if (*ret_error)
        return NULL;
    struct lock_request *request = malloc(sizeof *request + size);
    if (!request)
        PANIC("out of memory");
    request->size = (uint32_t)size;
    request->count = (uint32_t)json_array_size(queues);
    struct msg_lock lock = {.connection = connection, .count = request->count};
    memcpy(request->payload, &lock, sizeof lock);
    struct cursor cursor = cursor_over(request->payload + sizeof lock, size - sizeof lock);
    cursor_put_string(&cursor, client_id);
    cursor_put_string(&cursor, group);
    json_t *queue;
    json_array_foreach(queues, index, queue)
    {
        cursor_put_i32(&cursor, (int32_t)json_integer_value(json_object_get(queue, "queueId")));
        cursor_put_string(&cursor, text_of(queue, "topic"));
    }
    pn_assert(!cursor.bad && cursor.pos == cursor.end);
    return request;
}

static struct lock_request *parse(struct bytes body, uint64_t connection, const char **ret_error)
{
    json_t *json = json_body_parse(body, ret_error);
    if (!json)
        return NULL;
    struct lock_request *request = build(json, connection, ret_error);
    json_decref(json);
    return request;
}

static int pass_on(struct front *front, struct channel *channel, const struct frame *frame, uint16_t kind)
{
    const char *error = NULL;
    struct lock_request *request = parse(frame->body, channel_id(channel), &error);
    if (!request) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "queue lock: %s", error);
        return 0;
    }
    if (request->size > store_link_control_max(front->link)) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "queue lock: too many queues in one request");
        free(request);
        return 0;
    }
    uint8_t *payload = store_link_reserve_control(front, kind, request->size);
    if (!payload) {
        free(request);
        return -EAGAIN;
    }
    memcpy(payload, request->payload, request->size);
    struct pending_request pending = {.channel = channel->ref,
                                      .opaque = frame->opaque,
                                      .kind = kind == MSG_QUEUE_LOCK ? PENDING_LOCK : PENDING_PLAIN,
                                      .extra = kind == MSG_QUEUE_LOCK ? request : NULL};
    uint64_t token = frame->flag & FRAME_FLAG_ONEWAY ? 0 : pending_add(front->pending, &pending);
    if (token)
        channel->outstanding++;
    if (!token || !pending.extra)
        free(request);
    ((struct msg_lock *)payload)->token = token;
    return 0;
}

int lock_batch(struct front *front, struct channel *channel, const struct frame *frame)
{
    return pass_on(front, channel, frame, MSG_QUEUE_LOCK);
}

int unlock_batch(struct front *front, struct channel *channel, const struct frame *frame)
{
    return pass_on(front, channel, frame, MSG_QUEUE_UNLOCK);
}

void lock_answered(struct reply_to to, const struct msg_lock_answer *answer, const void *extra)
{
    const struct lock_request *request = extra;
    const uint8_t *held = (const uint8_t *)(answer + 1);
    if (answer->code != RESPONSE_SUCCESS || answer->count != request->count) {
        reply_plain(to, answer->code ? answer->code : RESPONSE_SYSTEM_ERROR,
                    bytes_of("the queues could not be locked"));
        return;
    }
    struct cursor cursor =
        cursor_over(request->payload + sizeof(struct msg_lock), request->size - sizeof(struct msg_lock));
    cursor_get_string(&cursor); /* client id */
    cursor_get_string(&cursor); /* group */
    struct text text = {0};
    const char *separator = "";
    text_add(&text, "{\"lockOKMQSet\":[");
    for (uint32_t i = 0; i < request->count; i++) {
        int32_t queue_id = cursor_get_i32(&cursor);
        struct bytes topic = cursor_get_string(&cursor);
        if (!held[i])
            continue;
        text_add(&text, "%s{\"brokerName\":", separator);
        text_add_json_string(&text, bytes_of(to.channel->front->config.broker_name));
        text_add(&text, ",\"queueId\":%d,\"topic\":", queue_id);
        text_add_json_string(&text, topic);
        text_add(&text, "}");
        separator = ",";
    }
    text_add(&text, "]}");
    struct reply reply;
    if (reply_begin(&reply, to, RESPONSE_SUCCESS, (struct bytes){NULL, 0}, 0, 0))
        reply_end(&reply, (struct bytes){(const uint8_t *)text.data, text.size});
    text_free(&text);
}
