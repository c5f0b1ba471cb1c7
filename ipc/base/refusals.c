/* A small table of who was refused lately; see refusals.h. When all its rows are of this minute, further addresses are
 * not said: the minute has had its lines. */
#include "base/refusals.h"

#include <stdio.h>
#include <string.h>

bool refusals_say(struct refusals *refusals, const char *address, int64_t now_ms, unsigned *ret_unsaid)
{
    unsigned oldest = 0;
    *ret_unsaid = 0;
    for (unsigned i = 0; i < REFUSALS_PEERS; i++) {
        if (strncmp(refusals->peers[i].address, address, REFUSALS_ADDRESS_SIZE - 1) == 0 && address[0]) {
            if (now_ms - refusals->peers[i].said_ms < REFUSALS_QUIET_MS) {
                refusals->peers[i].unsaid++;
                return false;
            }
            *ret_unsaid = refusals->peers[i].unsaid;
            refusals->peers[i].unsaid = 0;
            refusals->peers[i].said_ms = now_ms;
            return true;
        }
        if (!refusals->peers[i].address[0] ||
            (refusals->peers[oldest].address[0] && refusals->peers[i].said_ms < refusals->peers[oldest].said_ms))
            oldest = i;
    }
    if (refusals->peers[oldest].address[0] && now_ms - refusals->peers[oldest].said_ms < REFUSALS_QUIET_MS)
        return false;
    snprintf(refusals->peers[oldest].address, REFUSALS_ADDRESS_SIZE, "%s", address);
    refusals->peers[oldest].said_ms = now_ms;
    refusals->peers[oldest].unsaid = 0;
    return true;
}
