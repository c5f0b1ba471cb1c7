/* The clocks. Wall time only goes into records and answers; intervals and leases use the monotonic clock, which on Linux
 * is one for all processes of a host and so may stand in shared memory. */
#pragma once

#include <stdint.h>

int64_t clock_realtime_ms(void);
int64_t clock_monotonic_ms(void);
int64_t clock_monotonic_ns(void);
int64_t clock_thread_cpu_ns(void);
