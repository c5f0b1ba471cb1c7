/* Both ends of a ring in one process, for tests: each end with its own map, as two processes have it. */
#pragma once

#include "shm/ring.h"

struct ring_pair {
    struct ring_fds fds; /* the test's own */
    struct ring_writer writer;
    struct ring_reader reader;
};

/* The descriptors again, for one more end. */
struct ring_fds ring_fds_dup(const struct ring_fds *fds);
void ring_pair_open(struct ring_pair *pair, size_t capacity);
void ring_pair_close(struct ring_pair *pair);
/* Times that a bell was rung since the last call. */
uint64_t ring_bell_count(int eventfd);

/* Bytes that depend on the position in the ring and in the record, so that no piece of one record passes for another's.
 */
void ring_fill(void *payload, size_t size, uint64_t pos);
int ring_filled(const void *payload, size_t size, uint64_t pos); /* 1 if it is what ring_fill made */
