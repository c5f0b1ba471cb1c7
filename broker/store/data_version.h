/* Version of a table, as name servers and Apache's JSON files carry it: equal only if all three numbers are. */
#pragma once

#include <stdint.h>

#include "base/bytes.h"
#include "base/clock.h"

struct data_version {
    int64_t state_version, timestamp_ms, counter;
};

/* Each change: one more. The state version is the controller's epoch, 0 without one. */
static inline void data_version_next(struct data_version *version)
{
    version->timestamp_ms = clock_realtime_ms();
    version->counter++;
}

static inline void data_version_put(struct cursor *c, const struct data_version *version)
{
    cursor_put_i64(c, version->state_version);
    cursor_put_i64(c, version->timestamp_ms);
    cursor_put_i64(c, version->counter);
}

static inline struct data_version data_version_get(struct cursor *c)
{
    struct data_version version;
    version.state_version = cursor_get_i64(c);
    version.timestamp_ms = cursor_get_i64(c);
    version.counter = cursor_get_i64(c);
    return version;
}
