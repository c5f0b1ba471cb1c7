/* Windows over growing counts: what was counted in the last minute, hour and day, from samples taken every 10 s, 10 min
 * and hour. Pure data, no clock of its own. A sample is one column of all items, so an item costs about 1 KB and a tick
 * a few loads per item; nothing is done while nothing is counted. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

#include <uthash.h>

enum stats_window { STATS_MINUTE, STATS_HOUR, STATS_DAY, STATS_WINDOWS };

struct stats_value {
    uint64_t nums, bytes, calls;
};

enum { STATS_MINUTE_SAMPLES = 8, STATS_HOUR_SAMPLES = 8, STATS_DAY_SAMPLES = 26, STATS_SAMPLES_MAX = 26 };

struct stats_item {
    UT_hash_handle hh;
    struct stats_value now;  /* all since the item is there */
    struct stats_value seen; /* for who samples a count of somebody else: its last state */
    struct stats_value told; /* for who tells others: what they know of `now` */
    struct stats_value minute[STATS_MINUTE_SAMPLES], hour[STATS_HOUR_SAMPLES], day[STATS_DAY_SAMPLES];
    char key[];
};

struct stats {
    struct stats_item *items;
    int64_t sample_ms[STATS_WINDOWS][STATS_SAMPLES_MAX];
    unsigned head[STATS_WINDOWS]; /* the newest sample */
};

void stats_init(struct stats *stats, int64_t now_ms);
void stats_done(struct stats *stats);

struct stats_item *stats_find(const struct stats *stats, struct bytes key);
/* Made if need be, with zero in all its past. */
struct stats_item *stats_get(struct stats *stats, struct bytes key);
/* Takes the samples that are due. */
void stats_tick(struct stats *stats, int64_t now_ms);
/* Forgets items that counted nothing for a day. */
void stats_forget_idle(struct stats *stats);

/* What was counted in a window, and how long that window is (shorter after a start, up to one step longer). */
struct stats_sum {
    struct stats_value value;
    int64_t elapsed_ms; /* ≥ 1000 */
};
struct stats_sum stats_sum(const struct stats *stats, const struct stats_item *item, enum stats_window window,
                           int64_t now_ms);
