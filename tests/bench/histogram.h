/*
 * Latency histogram of the load generator: log-linear, so that one fixed table covers 1 ns to hours with an error under
 * 1/64, and recording is a shift and an increment. Owned by the one thread that records; nothing here can fail.
 */
#pragma once

#include <stdint.h>

#define HISTOGRAM_SUB_BITS 6
#define HISTOGRAM_SUB      (1u << HISTOGRAM_SUB_BITS)
#define HISTOGRAM_ROWS     (64 - HISTOGRAM_SUB_BITS)

struct histogram {
    uint64_t bucket_count[HISTOGRAM_ROWS * HISTOGRAM_SUB];
    uint64_t count;
    int64_t max_ns;
};

void histogram_record(struct histogram *h, int64_t value_ns);
/* The upper edge of the bucket that holds the given share (0.5, 0.99, ...) of all values; 0 when empty. */
int64_t histogram_percentile(const struct histogram *h, double share);
