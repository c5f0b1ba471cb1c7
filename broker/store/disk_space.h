/* How full the store's disks are, and what follows: Apache's three levels (store facts 6) and two bounds of our own in
 * bytes. Deciding thread; statvfs answers from memory. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "store.h"

enum disk_level {
    DISK_PLENTY,
    DISK_CLEAN, /* expired files go at any hour */
    DISK_FORCE, /* the oldest files go, expired or not */
    DISK_FULL,  /* and sends are refused */
};

struct disk_space {
    enum disk_level level;
    unsigned used_percent; /* of the fuller one of the log's and the queues' file system, rounded up */
    int64_t free_bytes;    /* of the emptier one, without what is reserved for root */
    int64_t excess_bytes;  /* must go before the fullest one is below DISK_FORCE; 0 if it is */
};

/* -errno if a folder cannot be asked; *ret_space is untouched then. */
int disk_space_look(const struct store_config *config, struct disk_space *ret_space);
/* The rule alone. */
enum disk_level disk_space_level(const struct store_config *config, unsigned used_percent, int64_t free_bytes);
