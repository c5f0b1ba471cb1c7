/* QUERY_CONSUMER_OFFSET and UPDATE_CONSUMER_OFFSET; the front's one thread. Whether group and topic exist is for the
 * store to say. Every answer to 14 has a header: C++ clients take it without a look. */
#include "offset.h"

#include <errno.h>

#include "base/panic.h"
#include "msg/msg.h"
#include "pending.h"
#include "store_link.h"
#include "wire/codes.h"

#define VERSION_5_0_0 413 /* MQVersion: the ordinals of releases */

static struct bytes text_of(const struct frame *frame, const char *key)
{
    const struct bytes *value = frame_get(frame, key);
    return value ? *value : (struct bytes){NULL, 0};
}

static size_t record_size(struct bytes group, struct bytes topic)
{
    return sizeof(struct msg_offset) + 2 + group.size + 2 + topic.size;
}

static int put(struct front *front, uint16_t kind, const struct msg_offset *offset, struct bytes group,
               struct bytes topic)
{
    size_t size = record_size(group, topic);
    uint8_t *payload = store_link_reserve_control(front, kind, size);
    if (!payload)
        return -EAGAIN;
    memcpy(payload, offset, sizeof *offset);
    struct cursor cursor = cursor_over(payload + sizeof *offset, size - sizeof *offset);
    cursor_put_string(&cursor, group);
    cursor_put_string(&cursor, topic);
    return 0;
}

/* The fields of both requests. false: answered with an error. */
static bool take_fields(struct channel *channel, const struct frame *frame, struct bytes *ret_group,
                        struct bytes *ret_topic, int32_t *ret_queue_id)
{
    *ret_group = text_of(frame, "consumerGroup");
    *ret_topic = text_of(frame, "topic");
    if (frame_get_i32(frame, "queueId", -1, ret_queue_id) < 0) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "queueId is not a number");
        return false;
    }
    if (!ret_group->size || !ret_topic->size || ret_group->size > MSG_GROUP_MAX || ret_topic->size > MSG_TOPIC_MAX ||
        *ret_queue_id < 0) {
        reply_error(channel, frame, RESPONSE_INVALID_PARAMETER,
                    "consumerGroup, topic or queueId is missing or too long");
        return false;
    }
    return true;
}

int offset_commit(struct front *front, struct bytes group, struct bytes topic, int32_t queue_id, int64_t offset)
{
    if (group.size > MSG_GROUP_MAX || topic.size > MSG_TOPIC_MAX)
        return 0;
    struct msg_offset record = {.offset = offset, .queue_id = queue_id};
    int r = put(front, MSG_OFFSET_COMMIT, &record, group, topic);
    if (r == 0)
        board_add(front->board, COUNTER_OFFSETS_COMMITTED, 1);
    return r;
}

int offset_reset_seen(struct front *front, struct bytes group, struct bytes topic, int32_t queue_id, int64_t offset)
{
    struct msg_offset record = {.offset = offset, .queue_id = queue_id};
    return put(front, MSG_OFFSET_RESET_SEEN, &record, group, topic);
}

/* A request that the store answers: room for the record is made sure before it is counted as outstanding. */
static int pass_on(struct front *front, struct channel *channel, const struct frame *frame, uint16_t kind,
                   enum pending_kind pending_kind, struct msg_offset *record, struct bytes group, struct bytes topic)
{
    if (!store_link_control_has_room(front, record_size(group, topic) + 64))
        return -EAGAIN;
    if (!(frame->flag & FRAME_FLAG_ONEWAY)) {
        struct pending_request request = {
            .channel = channel->ref, .opaque = frame->opaque, .kind = (uint8_t)pending_kind};
        record->token = pending_add(front->pending, &request);
        if (!record->token) {
            reply_error(channel, frame, RESPONSE_SYSTEM_BUSY, "[REJECTREQUEST]too many requests are outstanding");
            return 0;
        }
        channel->outstanding++;
    }
    int r = put(front, kind, record, group, topic);
    pn_assert(r == 0); /* the room was there */
    return 0;
}

int offset_query(struct front *front, struct channel *channel, const struct frame *frame)
{
    struct bytes group, topic;
    struct msg_offset record = {0};
    bool zero_if_not_found = true;
    if (!take_fields(channel, frame, &group, &topic, &record.queue_id))
        return 0;
    if (frame->flag & FRAME_FLAG_ONEWAY)
        return 0;
    if (frame_get_bool(frame, "setZeroIfNotFound", true, &zero_if_not_found) < 0)
        zero_if_not_found = true;
    record.flags = zero_if_not_found ? 0 : MSG_OFFSET_ZERO_IF_NOT_FOUND_OFF;
    /* Brokers of 4.x answered 0 for an empty queue; a client of that age (Node's is) takes 22 for an error. */
    if (frame->version < VERSION_5_0_0)
        record.flags |= MSG_OFFSET_EMPTY_IS_ZERO;
    return pass_on(front, channel, frame, MSG_OFFSET_QUERY, PENDING_OFFSET_QUERY, &record, group, topic);
}

int offset_update(struct front *front, struct channel *channel, const struct frame *frame)
{
    struct bytes group, topic;
    struct msg_offset record = {0};
    if (!take_fields(channel, frame, &group, &topic, &record.queue_id))
        return 0;
    if (!frame_get(frame, "commitOffset") || frame_get_i64(frame, "commitOffset", 0, &record.offset) < 0) {
        reply_error(channel, frame, RESPONSE_INVALID_PARAMETER, "commitOffset is missing or no number");
        return 0;
    }
    int r = pass_on(front, channel, frame, MSG_OFFSET_COMMIT, PENDING_PLAIN, &record, group, topic);
    if (r == 0)
        board_add(front->board, COUNTER_OFFSETS_COMMITTED, 1);
    return r;
}

void offset_query_answered(struct reply_to to, int32_t code, struct bytes remark, int64_t offset)
{
    struct reply reply;
    if (!reply_begin(&reply, to, code, remark, 32, 1))
        return;
    frame_write_i64(&reply.writer, "offset", code == RESPONSE_SUCCESS ? offset : -1);
    reply_end(&reply, (struct bytes){NULL, 0});
}
