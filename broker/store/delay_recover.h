/* After a start from files: how far delayed messages are delivered, as the log proves. */
#pragma once

#include "store.h"

/* offsets[n]: of level n + 1, before which everything has its copy before `start_pos` or behind it; on return, how far the
 * log says that it went. Start only: waits for the disk. */
int delay_recover_log(struct store *store, int64_t start_pos, int64_t *offsets);
