/* Windows over growing counts; see stats.h. The front's one thread. A window begins at the newest sample that is at
 * least as old as the window is long: what was counted is then whole, and the time is that sample's age. */
#include "stats.h"

#include <stdlib.h>
#include <string.h>

#include "base/panic.h"

static const struct {
    unsigned count;
    int64_t step_ms, length_ms;
    size_t offset;
} windows[STATS_WINDOWS] = {
    [STATS_MINUTE] = {STATS_MINUTE_SAMPLES, 10 * 1000, 60 * 1000, offsetof(struct stats_item, minute)},
    [STATS_HOUR] = {STATS_HOUR_SAMPLES, 600 * 1000, 3600 * 1000, offsetof(struct stats_item, hour)},
    [STATS_DAY] = {STATS_DAY_SAMPLES, 3600 * 1000, 24 * 3600 * 1000, offsetof(struct stats_item, day)},
};
_Static_assert(STATS_DAY_SAMPLES <= STATS_SAMPLES_MAX, "the longest");

static struct stats_value *samples_of(const struct stats_item *item, enum stats_window window)
{
    return (struct stats_value *)((char *)item + windows[window].offset);
}

void stats_init(struct stats *stats, int64_t now_ms)
{
    *stats = (struct stats){0};
    for (unsigned w = 0; w < STATS_WINDOWS; w++)
        for (unsigned i = 0; i < windows[w].count; i++)
            stats->sample_ms[w][i] = now_ms;
}

void stats_done(struct stats *stats)
{
    struct stats_item *item, *next;
    HASH_ITER(hh, stats->items, item, next)
    {
        HASH_DEL(stats->items, item);
        free(item);
    }
}

struct stats_item *stats_find(const struct stats *stats, struct bytes key)
{
    struct stats_item *item = NULL;
    HASH_FIND(hh, stats->items, key.data, key.size, item);
    return item;
}

struct stats_item *stats_get(struct stats *stats, struct bytes key)
{
    struct stats_item *item = stats_find(stats, key);
    if (item)
        return item;
    item = calloc(1, sizeof *item + key.size + 1);
    if (!item)
        PANIC("out of memory");
    memcpy(item->key, key.data, key.size);
    HASH_ADD_KEYPTR(hh, stats->items, item->key, key.size, item);
    return item;
}

void stats_tick(struct stats *stats, int64_t now_ms)
{
    for (unsigned w = 0; w < STATS_WINDOWS; w++) {
        if (now_ms - stats->sample_ms[w][stats->head[w]] < windows[w].step_ms)
            continue;
        unsigned head = stats->head[w] = (stats->head[w] + 1) % windows[w].count;
        stats->sample_ms[w][head] = now_ms;
        for (struct stats_item *item = stats->items; item; item = item->hh.next)
            samples_of(item, w)[head] = item->now;
    }
}

void stats_forget_idle(struct stats *stats)
{
    struct stats_item *item, *next;
    unsigned oldest = (stats->head[STATS_DAY] + 1) % STATS_DAY_SAMPLES;
    HASH_ITER(hh, stats->items, item, next)
    {
        if (item->now.calls != item->day[oldest].calls)
            continue;
        HASH_DEL(stats->items, item);
        free(item);
    }
}

struct stats_sum stats_sum(const struct stats *stats, const struct stats_item *item, enum stats_window window,
                           int64_t now_ms)
{
    unsigned count = windows[window].count, at = stats->head[window];
    int64_t from_ms = now_ms - windows[window].length_ms;
    for (unsigned i = 1; i < count && stats->sample_ms[window][at] > from_ms; i++)
        at = (at + count - 1) % count;
    const struct stats_value *base = &samples_of(item, window)[at];
    int64_t elapsed_ms = now_ms - stats->sample_ms[window][at];
    int64_t longest_ms = windows[window].length_ms + windows[window].step_ms; /* before that it was idle: no samples */
    if (elapsed_ms > longest_ms)
        elapsed_ms = longest_ms;
    return (struct stats_sum){
        {item->now.nums - base->nums, item->now.bytes - base->bytes, item->now.calls - base->calls},
        elapsed_ms < 1000 ? 1000 : elapsed_ms};
}
