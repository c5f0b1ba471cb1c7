/* From files and memory objects to a store that serves, and back to files that say so. The worker around it (grants, bus,
 * exit codes) is main's; tests use the same steps. */
#pragma once

#include "checkpoint.h"
#include "store.h"

/* Needs event, board, cause, generation, peers, configuration, and the memory objects. On an error *ret_what says which part
 * failed; lifecycle_free is due. `progress` (may be NULL) is told while long scans run. */
int lifecycle_recover(struct store *store, void (*progress)(struct store *store, int64_t pos, int64_t end),
                      struct checkpoint *ret_checkpoint, const char **ret_what);
/* After lifecycle_recover: threads, timers, the turn. */
int lifecycle_serve(struct store *store, const struct checkpoint *checkpoint, const char **ret_what);
/* Leaves the folder as a clean stop does: everything on the disk, queues cover the log, no abort file. */
int lifecycle_stop(struct store *store);
/* Everything but the worker's own; half-built stores too. */
void lifecycle_free(struct store *store);
