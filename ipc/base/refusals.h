/* Which refusals of foreign peers are worth a log line: one per address and minute, and no more than a few addresses per
 * minute, so that nobody fills a disk by being refused. Counters have them all. No clock, no log of its own; for one
 * thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { REFUSALS_PEERS = 32, REFUSALS_ADDRESS_SIZE = 64, REFUSALS_QUIET_MS = 60000 };

struct refusals {
    struct {
        char address[REFUSALS_ADDRESS_SIZE]; /* "": free */
        int64_t said_ms;
        unsigned unsaid; /* since then */
    } peers[REFUSALS_PEERS];
};

/* One more of this address (without its port). True: say it; then *ret_unsaid is how many were not said before. */
bool refusals_say(struct refusals *refusals, const char *address, int64_t now_ms, unsigned *ret_unsaid);
