/* Queue locks of orderly consumers: 41 and 42 are passed on to the store, which holds them with leases. */
#pragma once

#include "msg/msg.h"
#include "reply.h"

int lock_batch(struct front *front, struct channel *channel, const struct frame *frame);
int unlock_batch(struct front *front, struct channel *channel, const struct frame *frame);
/* `extra` is the payload of the request, kept to name the queues. */
void lock_answered(struct reply_to to, const struct msg_lock_answer *answer, const void *extra);
