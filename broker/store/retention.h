/* Retention: which files of the commit log go and when (age, hour, fullness of the disk, command), what that means for the
 * queues, and whether the disk is too full to take messages. Belongs to the deciding thread. A file goes in steps, and a
 * store killed between any two of them begins again:
 *   1. log_min_pos in the queue table moves behind it: no reader begins there any more;
 *   2. a thread finds where each queue begins now; the queue table gets it;
 *   3. no front reads from it (a gauge on its interest page), or it has been waited for long enough;
 *   4. it is renamed out of the log's folder, which is the moment it is gone, and removed in pieces by the remover.
 * The last file never goes, nor one that is not flushed and dispatched. */
#pragma once

#include <stdbool.h>

#include "disk_space.h"
#include "store.h"

/* After the queues are open. Sets store->retention; looks at the disk once. */
int retention_start(struct store *store);
void retention_free(struct retention *retention);

/* Expired files go at any hour from now on, for 20 passes (Apache's DELETE_EXPIRED_COMMITLOG). */
void retention_clean_now(struct retention *retention);

/* Messages are to be refused. NULL: never. */
bool retention_disk_full(const struct retention *retention);
struct disk_space retention_space(const struct retention *retention);
