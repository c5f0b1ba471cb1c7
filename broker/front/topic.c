/* Topic creation by administrators; the front's one thread. Names and numbers are judged by the store. */
#include "topic.h"

#include <errno.h>

#include "base/panic.h"
#include "msg/msg.h"
#include "pending.h"
#include "store_link.h"
#include "wire/codes.h"

int topic_update_and_create(struct front *front, struct channel *channel, const struct frame *frame)
{
    static const struct bytes none = {(const uint8_t *)"", 0};
    const struct bytes *topic = frame_get(frame, "topic"), *attributes = frame_get(frame, "attributes");
    const struct bytes *filter = frame_get(frame, "topicFilterType");
    struct msg_topic_put put = {0};
    bool order = false;
    if (frame_get_i32(frame, "readQueueNums", 0, &put.read_queues) < 0 ||
        frame_get_i32(frame, "writeQueueNums", 0, &put.write_queues) < 0 ||
        frame_get_i32(frame, "perm", 0, &put.perm) < 0 ||
        frame_get_i32(frame, "topicSysFlag", 0, &put.topic_sys_flag) < 0 ||
        frame_get_bool(frame, "order", false, &order) < 0) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "a header field is not a number");
        return 0;
    }
    if (!topic || !topic->size || topic->size > MSG_TOPIC_MAX || (attributes && attributes->size > UINT16_MAX)) {
        reply_error(channel, frame, RESPONSE_INVALID_PARAMETER, "the topic's name is missing or too long");
        return 0;
    }
    if (!attributes)
        attributes = &none;
    put.order = order;
    put.multi_tag = filter && bytes_equal_text(*filter, "MULTI_TAG");
    size_t size = sizeof put + 2 + topic->size + 2 + attributes->size;
    uint8_t *payload = store_link_reserve_control(front, MSG_TOPIC_PUT, size);
    if (!payload)
        return -EAGAIN;
    struct pending_request request = {.channel = channel->ref, .opaque = frame->opaque, .kind = PENDING_PLAIN};
    put.token = frame->flag & FRAME_FLAG_ONEWAY ? 0 : pending_add(front->pending, &request);
    if (put.token)
        channel->outstanding++;
    memcpy(payload, &put, sizeof put);
    struct cursor cursor = cursor_over(payload + sizeof put, size - sizeof put);
    cursor_put_string(&cursor, *topic);
    cursor_put_string(&cursor, *attributes);
    pn_assert(!cursor.bad);
    return 0;
}
