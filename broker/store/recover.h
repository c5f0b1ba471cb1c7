/* From what a predecessor left to a store that can go on. Warm: the memory objects hold the truth, the files agree. Cold:
 * only files. The order in which main uses them: recover_is_warm, metadata_open, consume_queues_open, recover. */
#pragma once

#include "checkpoint.h"
#include "store.h"

/* Needs store->commit_log and store->ledger. */
bool recover_is_warm(struct store *store);
/* Finds the end of the log, untakes what is not in it, and seeks the peers' rings. Afterwards the queue table's positions
 * hold. A failure in a warm recovery makes the next one cold. */
int recover_warm(struct store *store);
/* After an unclean stop: what the checkpoint vouches for ends here, and a scan begins here. Where the log is in doubt, the
 * page cache is, too: what no disk holds is dropped from it. */
int recover_trusted_pos(struct store *store, const struct checkpoint *checkpoint, int64_t *ret_pos);
/* `trusted_pos`: that, or INT64_MAX after a clean stop. `progress` (may be NULL) is told while long scans run. */
int recover_cold(struct store *store, int64_t trusted_pos, int64_t durable_ms,
                 void (*progress)(struct store *store, int64_t pos, int64_t end));
