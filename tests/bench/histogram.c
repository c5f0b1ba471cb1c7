/*
 * The table has a row per power of two and 64 equal steps in each row. Row 0 holds the values below 128 exactly
 * (two "powers" share it), so the first row needs no special case when it is read back.
 * Used by the load generator only; single-threaded.
 */
#include "histogram.h"

#include <stddef.h>

static size_t bucket_index(uint64_t value)
{
    if (value < HISTOGRAM_SUB)
        return value;
    unsigned row = 63 - HISTOGRAM_SUB_BITS - (unsigned)__builtin_clzll(value);

    return ((size_t)row + 1) * HISTOGRAM_SUB + ((value >> row) & (HISTOGRAM_SUB - 1));
}

static int64_t bucket_upper_edge(size_t index)
{
    if (index < HISTOGRAM_SUB)
        return (int64_t)index;
    unsigned row = (unsigned)(index / HISTOGRAM_SUB) - 1;

    return (int64_t)(((HISTOGRAM_SUB + index % HISTOGRAM_SUB + 1) << row) - 1);
}

void histogram_record(struct histogram *h, int64_t value_ns)
{
    if (value_ns < 0)
        value_ns = 0;
    if (value_ns > h->max_ns)
        h->max_ns = value_ns;
    h->bucket_count[bucket_index((uint64_t)value_ns)]++;
    h->count++;
}

int64_t histogram_percentile(const struct histogram *h, double share)
{
    uint64_t wanted = (uint64_t)(share * (double)h->count + 0.5), seen = 0;

    if (h->count == 0)
        return 0;
    if (wanted == 0)
        wanted = 1;
    for (size_t i = 0; i < sizeof(h->bucket_count) / sizeof(h->bucket_count[0]); i++) {
        seen += h->bucket_count[i];
        if (seen >= wanted) {
            int64_t edge = bucket_upper_edge(i);
            return edge < h->max_ns ? edge : h->max_ns;
        }
    }
    return h->max_ns;
}
