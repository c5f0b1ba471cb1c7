/* Looking at what is stored: VIEW_MESSAGE_BY_ID (a record by its log position) and QUERY_CONSUME_QUEUE (queue entries).
 * Both by a helper thread, because they read old bytes. */
#pragma once

#include "reply.h"
#include "wire/frame.h"

int view_message(struct front *front, struct channel *channel, const struct frame *frame);
int view_queue(struct front *front, struct channel *channel, const struct frame *frame);
/* QUERY_MESSAGE: says that there is no index yet. */
int view_by_key(struct front *front, struct channel *channel, const struct frame *frame);

/* Whether `data` is the whole of a record that begins at `pos`: magic, own position, sizes, CRC of the body. Pure. */
bool view_is_record(const uint8_t *data, size_t size, int64_t pos);
