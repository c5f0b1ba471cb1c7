/* The way to the other fronts of this broker: questions to their clients, answers for theirs, and news for all of them.
 * It goes by the store (MSG_RELAY and its like); what finds no room in the ring waits here. Nothing of it is certain:
 * whoever asks has a time limit. */
#pragma once

#include "front.h"
#include "wire/frame.h"

struct relay_far;
struct relay_far *relay_far_new(void);
void relay_far_free(struct relay_far *far);

/* Another front's question, where its answer goes. */
struct relay_asker {
    uint32_t peer; /* 0: none */
    uint64_t generation, question;
};

/* A request for the front of this connection (0: for all others, without an answer). −EMSGSIZE: it does not fit. */
int relay_far_ask(struct front *front, uint64_t connection, uint64_t question, int32_t code,
                  const struct frame_field *fields, unsigned count, struct bytes body);
void relay_far_answer(struct front *front, const struct relay_asker *asker, int32_t code, struct bytes remark,
                      struct bytes body);
/* In each turn, before the rings are published. */
void relay_far_flush(struct front *front);

/* A checked MSG_RELAY_ASK. */
void relay_far_asked(struct front *front, const uint8_t *payload, uint32_t size);
