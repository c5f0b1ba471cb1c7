/* The clocks; see clock.h for which one to use. Linux always has these three, so a failure is a broken process. */
#include "base/clock.h"

#include <time.h>

#include "base/panic.h"

static int64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    pn_assert(clock_gettime(clock, &now) == 0);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t clock_realtime_ms(void)
{
    return clock_ns(CLOCK_REALTIME) / 1000000;
}

int64_t clock_monotonic_ms(void)
{
    return clock_ns(CLOCK_MONOTONIC) / 1000000;
}

int64_t clock_monotonic_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

int64_t clock_thread_cpu_ns(void)
{
    return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}
