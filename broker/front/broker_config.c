/* The broker's configuration over the wire; the front's one thread. What may be changed and to what is for the store to
 * say; who may is decided by the route table (adminFrom). */
#include "broker_config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/panic.h"
#include "catalogue.h"
#include "msg/msg.h"
#include "pending.h"
#include "store_link.h"
#include "wire/codes.h"

int broker_config_get(struct front *front, struct channel *channel, const struct frame *frame)
{
    struct config_entry config = catalogue_config(front->catalogue);
    struct reply reply;
    char version[160];
    int size = snprintf(version, sizeof version,
                        "{\"counter\":%" PRId64 ",\"stateVersion\":%" PRId64 ",\"timestamp\":%" PRId64 "}",
                        config.counter, config.state_version, config.timestamp_ms);
    if (!reply_begin(&reply, reply_to(channel, frame), RESPONSE_SUCCESS, (struct bytes){NULL, 0}, 2 * (size_t)size, 1))
        return 0;
    frame_write_text(&reply.writer, "version", bytes_of(version));
    reply_end(&reply, config.text);
    return 0;
}

int broker_config_update(struct front *front, struct channel *channel, const struct frame *frame)
{
    if (frame->body.size > UINT16_MAX) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "the body is longer than %d bytes", UINT16_MAX);
        return 0;
    }
    size_t size = sizeof(struct msg_request) + 2 + frame->body.size;
    uint8_t *payload = store_link_reserve_control(front, MSG_CONFIG_PUT, size);
    if (!payload)
        return -EAGAIN;
    struct pending_request request = {.channel = channel->ref, .opaque = frame->opaque, .kind = PENDING_PLAIN};
    struct msg_request put = {frame->flag & FRAME_FLAG_ONEWAY ? 0 : pending_add(front->pending, &request)};
    if (put.token)
        channel->outstanding++;
    memcpy(payload, &put, sizeof put);
    struct cursor cursor = cursor_over(payload + sizeof put, size - sizeof put);
    cursor_put_string(&cursor, frame->body);
    pn_assert(!cursor.bad);
    return 0;
}
