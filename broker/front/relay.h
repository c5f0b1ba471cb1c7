/* Requests that a client is to answer, on behalf of an administrator: 307, 309 and 223. The client's answer comes on
 * its own connection, in its own time; who waits for it stands in a short list. A client of another front is asked by
 * that one (relay_far.h). */
#pragma once

#include "relay_far.h"
#include "reply.h"

int relay_new(struct front *front);
void relay_free(struct relay *relay);

int relay_running_info(struct front *front, struct channel *channel, const struct frame *frame);     /* 307 */
int relay_consume_directly(struct front *front, struct channel *channel, const struct frame *frame); /* 309 */
int relay_consumer_status(struct front *front, struct channel *channel, const struct frame *frame);  /* 223 */

/* A frame from a client that answers a request of ours. */
void relay_take(struct front *front, struct channel *channel, const struct frame *frame);

/* Another front asks a client of ours. */
void relay_asked(struct front *front, const struct relay_asker *far, uint64_t connection, const struct frame *frame);
/* A piece of another front's answer: a checked MSG_RELAY_TOLD. */
void relay_told(struct front *front, const uint8_t *payload);
