/* Walks every record of a commit log, also past what is damaged: where bytes are no record, the next one is searched
 * whose own position field says that it stands where it is found. */
#pragma once

#include "broker/format/record.h"
#include "log_files.h"

enum log_walk_kind {
    LOG_RECORD,
    LOG_BAD_BODY,  /* its parts fit, its body does not have the CRC that it had */
    LOG_NO_RECORD, /* `size` bytes that are none, with one behind them or known to have been one */
    LOG_TAIL,      /* the end: bytes that are no record, not zeros, and nothing is known to have been there */
    LOG_END,
};

struct log_item {
    enum log_walk_kind kind;
    int64_t pos, size;
    const uint8_t *data; /* of a record; until the next step */
    struct record record;
};

struct log_walk {
    struct log_files *files;
    int64_t pos;
    int64_t known_end; /* somebody (a consume queue) knows of records up to here */
    bool ended;
};

/* From `pos`, the start of a record. */
void log_walk_begin(struct log_walk *walk, struct log_files *files, int64_t pos, int64_t known_end);
/* 0, or negative errno. LOG_END comes once, as the last. */
int log_walk_next(struct log_walk *walk, struct log_item *ret_item);
