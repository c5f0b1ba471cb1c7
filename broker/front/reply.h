/* Answers to clients: always a JSON header (an answer never echoes the request's serialization, Node and C++ clients
 * could not read it), every field a string. Nothing is answered to a oneway request. */
#pragma once

#include "connections.h"

/* Whom to answer. */
struct reply_to {
    struct channel *channel;
    int32_t opaque;
    bool oneway;
};

static inline struct reply_to reply_to(struct channel *channel, const struct frame *frame)
{
    return (struct reply_to){channel, frame->opaque, (frame->flag & FRAME_FLAG_ONEWAY) != 0};
}

/* A whole answer in one go: code, remark (may be empty), fields by callback order of calls below.
 * reply_begin reserves room for `text_bytes` of field values (NULL if oneway or no memory), then frame_write_*, then
 * reply_end, then for a body: connection_add_foreign or reply_body. */
struct reply {
    struct reply_to to;
    struct frame_writer writer;
};
bool reply_begin(struct reply *reply, struct reply_to to, int32_t code, struct bytes remark, size_t text_bytes,
                 unsigned fields);
void reply_end(struct reply *reply, struct bytes body);
/* Ends the header of a frame whose body of `body_size` the caller adds piece by piece. */
void reply_end_with_body_to_come(struct reply *reply, size_t body_size);

/* Code and remark only. */
void reply_plain(struct reply_to to, int32_t code, struct bytes remark);
void reply_error(struct channel *channel, const struct frame *frame, int32_t code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
