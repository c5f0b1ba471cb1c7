/* Looking at what is stored: VIEW_MESSAGE_BY_ID (a record by its log position) and QUERY_CONSUME_QUEUE (queue entries).
 * Both by a helper thread, because they read old bytes. */
#pragma once

#include "reply.h"
#include "wire/frame.h"

int view_message(struct front *front, struct channel *channel, const struct frame *frame);
int view_queue(struct front *front, struct channel *channel, const struct frame *frame);

/* For helper threads: the record at pos, whole and good, before end_pos. malloc'ed. -EBADMSG: no record begins there;
 * -EUCLEAN: one does, and is damaged. */
int view_read(const struct front_config *config, int64_t pos, int64_t end_pos, uint8_t **ret_record, size_t *ret_size);
/* Of a record whose head is good: false if its parts do not add up to `size` or the body's CRC is wrong. */
bool view_record_parts(const uint8_t *data, size_t size, struct bytes *ret_topic, struct bytes *ret_properties);
int64_t view_record_store_ms(const uint8_t *record);

/* Whether `data` is the whole of a record that begins at `pos`: magic, own position, sizes, CRC of the body. Pure. */
bool view_is_record(const uint8_t *data, size_t size, int64_t pos);
