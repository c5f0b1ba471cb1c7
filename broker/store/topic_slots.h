/* Which queue table slots are free: first fit among the gaps, else behind the last used one. Pure bookkeeping in
 * private memory, made anew at each start from the ranges that topics hold. Store process, one thread. */
#pragma once

#include <stdint.h>

struct topic_slots;

int topic_slots_new(uint32_t capacity, struct topic_slots **ret_slots);
void topic_slots_free(struct topic_slots *slots);

/* -ENOSPC: no run of `count` free slots. count 0 gives base 0. */
int topic_slots_take(struct topic_slots *slots, uint32_t count, uint32_t *ret_base);
/* A range that a topic is known to hold. -EEXIST: somebody else has part of it; -ERANGE: outside the table. */
int topic_slots_claim(struct topic_slots *slots, uint32_t base, uint32_t count);
void topic_slots_give(struct topic_slots *slots, uint32_t base, uint32_t count);
