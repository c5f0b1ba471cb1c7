/* Consumer offsets: 14 and 15 are passed on to the store, which owns them. */
#pragma once

#include "reply.h"

int offset_query(struct front *front, struct channel *channel, const struct frame *frame);
int offset_update(struct front *front, struct channel *channel, const struct frame *frame);
void offset_query_answered(struct reply_to to, int32_t code, struct bytes remark, int64_t offset);
/* The pull that is answered now sends its group to `offset`. -EAGAIN: no room. */
int offset_reset_seen(struct front *front, struct bytes group, struct bytes topic, int32_t queue_id, int64_t offset);
/* A commit that came with a pull; nobody waits for an answer. -EAGAIN: no room. */
int offset_commit(struct front *front, struct bytes group, struct bytes topic, int32_t queue_id, int64_t offset);
