/* A store that takes nothing. Sends that find its ring full wait as long as anything moves; only when nothing has moved
 * for waitTimeMillsInSendQueue they are refused, and told what is slow. Two seconds in which the store was stopped, died
 * or waited for its disk are no error to anybody. */
#pragma once

#include "front.h"

struct slow_store;
int slow_store_new(struct front *front, struct slow_store **ret_slow);
void slow_store_free(struct slow_store *slow);

/* The data ring was full for somebody: it is watched from now on until there is room. */
void slow_store_ring_full(struct front *front);
/* Waiting is in vain. */
bool slow_store_is_stuck(const struct front *front);
/* What is slow, for the refused and for the log. */
enum { SLOW_STORE_TEXT_SIZE = 400 };
void slow_store_text(const struct front *front, char ret_text[SLOW_STORE_TEXT_SIZE]);
