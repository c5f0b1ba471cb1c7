/* The threads that wait for the disk: fdatasync of the commit log (group commit: always the newest end that was asked for);
 * and of consume queues, and the checkpoint file. They touch nothing of the store but what is handed over here. */
#pragma once

#include "checkpoint.h"
#include "store.h"

struct flush;

/* `done_pos`: everything before it is known to be on the disk. With `sync_all` the first checkpoint waits for a sync of the
 * whole file system: a predecessor was killed and nobody knows which queue files it wrote. */
int flush_start(struct store *store, int64_t done_pos, const struct checkpoint *checkpoint, bool sync_all,
                struct flush **ret_flush);
/* Finishes what was asked for, writes the checkpoint and ends the threads. NULL is accepted. `ret_queues_failed` (may
 * be NULL): a sync of queue files has failed, so the folder must not look like that of a clean stop. */
void flush_stop(struct flush *flush, bool *ret_queues_failed);

/* The log is to be on the disk up to `pos`; its last record was stored at store_ms. */
void flush_log(struct flush *flush, int64_t pos, int64_t store_ms);
/* Takes over an array of descriptors (malloc'ed) of queue files that hold every message before store_ms; `everything`: the
 * file system is synced instead of them. */
void flush_queues(struct flush *flush, int *fds, unsigned count, bool everything, int64_t store_ms);

/* An index file: once it is on the disk as it is now, the checkpoint says so. Oldest first. */
struct flush_index {
    int64_t name, count;
    int64_t full_ms; /* end of a full file, else −1 */
};
void flush_index(struct flush *flush, const char *path, const struct flush_index *what);
/* Name of the oldest file whose sync failed, once; 0: none. The checkpoint does not speak of it any more. */
int64_t flush_index_failed(struct flush *flush);

int64_t flush_done_pos(const struct flush *flush);
/* Negative errno of the first fdatasync that failed: what those pages hold is not known any more. */
int flush_error(const struct flush *flush);
/* Nothing from here on is known to be on the disk. */
int64_t flush_error_pos(const struct flush *flush);
