/* The files beside the log: checkpoint, abort, lock. Formats in format/FORMAT.md. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* What of the index is on the disk; no pads, it is compared as bytes. */
struct checkpoint_index {
    int64_t name, count; /* of a file that is not full: entries below count; 0: none */
    int64_t full_name;   /* this file and all older ones, whole */
    int64_t full_ms;     /* index_ms as it was written with this */
};

struct checkpoint {
    int64_t physic_ms, logics_ms, index_ms, master_flushed_pos, confirm_pos;
    struct checkpoint_index index;
};

/* 0 also if there is none (all zero). */
int checkpoint_read(const char *root, struct checkpoint *ret_checkpoint);
int checkpoint_write(const char *root, const struct checkpoint *checkpoint);
/* Time before which log and queues are on the disk; 0: unknown. */
int64_t checkpoint_safe_ms(const struct checkpoint *checkpoint);

bool checkpoint_abort_exists(const char *root);
int checkpoint_abort_make(const char *root);
int checkpoint_abort_remove(const char *root);

/* The descriptor holds the folder's lock until it is closed. -EBUSY: another process has it. */
int checkpoint_lock_take(const char *root, int *ret_fd);
