/* Answers: written straight into the connection's output queue, sent at the end of the turn. Also the taker of reply
 * ring records: each goes to the module that made the request (table by pending kind) or to the catalogue. */
#include "reply.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin.h"
#include "base/panic.h"
#include "broker_stats.h"
#include "catalogue.h"
#include "lock.h"
#include "member.h"
#include "msg/msg.h"
#include "offset.h"
#include "pending.h"
#include "relay.h"
#include "send.h"
#include "store_link.h"
#include "wire/codes.h"

bool reply_begin(struct reply *reply, struct reply_to to, int32_t code, struct bytes remark, size_t text_bytes,
                 unsigned fields)
{
    if (to.oneway || !to.channel)
        return false;
    size_t size = frame_write_bound(text_bytes + remark.size, fields);
    uint8_t *room = connection_reserve(&to.channel->wire, size);
    if (!room)
        PANIC("out of memory");
    reply->to = to;
    frame_write_response(&reply->writer, room, size, code, to.opaque, remark);
    return true;
}

void reply_end_with_body_to_come(struct reply *reply, size_t body_size)
{
    ssize_t size = frame_write_finish(&reply->writer, body_size);
    pn_assert(size > 0);
    connection_commit(&reply->to.channel->wire, (size_t)size);
    board_add(reply->to.channel->front->board, COUNTER_RESPONSES, 1);
    channel_mark_dirty(reply->to.channel);
}

void reply_end(struct reply *reply, struct bytes body)
{
    reply_end_with_body_to_come(reply, body.size);
    if (!body.size)
        return;
    uint8_t *room = connection_reserve(&reply->to.channel->wire, body.size);
    if (!room)
        PANIC("out of memory");
    memcpy(room, body.data, body.size);
    connection_commit(&reply->to.channel->wire, body.size);
}

void reply_plain(struct reply_to to, int32_t code, struct bytes remark)
{
    struct reply reply;
    if (reply_begin(&reply, to, code, remark, 0, 0))
        reply_end(&reply, (struct bytes){NULL, 0});
}

void reply_error(struct channel *channel, const struct frame *frame, int32_t code, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    reply_plain(reply_to(channel, frame), code, bytes_of(text));
}

static void take_answer(struct front *front, const uint8_t *payload, uint32_t size)
{
    const struct msg_answer *answer = (const struct msg_answer *)payload;
    struct pending_request request;
    if (!pending_take(front->pending, answer->token, &request))
        return; /* answered before, by a predecessor of this store */
    if (request.kind == PENDING_ADMIN) {
        admin_answered(front, request.extra, answer->code,
                       (struct bytes){payload + sizeof *answer, answer->remark_size});
        return;
    }
    struct channel *channel = connections_find(front, request.channel);
    struct bytes remark = {payload + sizeof *answer, answer->remark_size};
    if (channel) {
        struct reply_to to = {channel, request.opaque, false};
        channel_answered(channel);
        if (request.kind == PENDING_HEARTBEAT) {
            channel->heartbeats--;
            catalogue_look_again(front->catalogue);
            member_heartbeat_answered(to, answer->code, remark, request.flags);
        } else if (request.kind == PENDING_OFFSET_QUERY)
            offset_query_answered(to, answer->code, remark, answer->value);
        else if (request.kind == PENDING_SEND)
            send_refused(to, answer->code, remark);
        else
            reply_plain(to, answer->code, remark);
    }
    free(request.extra);
}

void reply_take(struct front *front, uint16_t kind, const uint8_t *payload, uint32_t size)
{
    FAULT_POINT(FRONT_REPLY);
    struct pending_request request;
    switch (kind) {
    case MSG_SEND_ANSWER: {
        const struct msg_send_answer *answer = (const struct msg_send_answer *)payload;
        if (!pending_take(front->pending, answer->token, &request))
            return;
        struct channel *channel = connections_find(front, request.channel);
        if (channel) {
            channel_answered(channel);
            broker_stats_put_latency(front->stats, front->now_ms - request.since_ms);
            struct reply_to to = {channel, request.opaque, false};
            const uint8_t *remark = (const uint8_t *)(answer + 1) + answer->uniq_key_size;
            if (request.kind == PENDING_SEND_BACK) /* the group's name was no topic's: Apache looks for the group first */
                reply_plain(to, answer->code == RESPONSE_INVALID_PARAMETER ? RESPONSE_SUBSCRIPTION_GROUP_NOT_EXIST : answer->code,
                            (struct bytes){remark, answer->remark_size});
            else
                send_answered(front, to, answer);
        }
        free(request.extra);
        return;
    }
    case MSG_LOCK_ANSWER: {
        const struct msg_lock_answer *answer = (const struct msg_lock_answer *)payload;
        if (!pending_take(front->pending, answer->token, &request))
            return;
        pn_assert(request.kind == PENDING_LOCK);
        struct channel *channel = connections_find(front, request.channel);
        if (channel) {
            channel_answered(channel);
            lock_answered((struct reply_to){channel, request.opaque, false}, answer, request.extra);
        }
        free(request.extra);
        return;
    }
    case MSG_OFFSET_LIST_ANSWER: {
        const struct msg_offset_list_answer *answer = (const struct msg_offset_list_answer *)payload;
        if (!pending_take(front->pending, answer->token, &request))
            return;
        pn_assert(request.kind == PENDING_ADMIN);
        admin_listed(front, request.extra, payload, size);
        return;
    }
    case MSG_RELAY_ASK:
        relay_far_asked(front, payload, size);
        return;
    case MSG_RELAY_TOLD:
        relay_told(front, payload);
        return;
    case MSG_ANSWER:
        take_answer(front, payload, size);
        return;
    default:
        catalogue_take(front, kind, payload, size);
    }
}
