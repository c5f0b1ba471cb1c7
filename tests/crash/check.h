/* What must hold of a store that was recovered after a power cut. */
#pragma once

#include "stage.h"

/* What one life of a store wrote, whatever became of it: the log's bytes, and the entries of queues that follow. */
struct expected_entry {
    unsigned topic;
    int32_t queue_id;
    int64_t queue_offset, log_pos;
    uint32_t size;
    int64_t tags_code;
};
struct promise {
    size_t at;   /* changes recorded when it was given, or before */
    int64_t pos; /* the log is kept up to here */
};
struct promises {
    struct promise *list;
    size_t count, room;
};
struct expected {
    uint8_t *log;
    int64_t log_end;
    struct expected_entry *entries;
    size_t entry_count, entry_room;
    struct promises acknowledged; /* under SYNC_FLUSH, and what recoveries called flushed */
};

void expected_promise(struct expected *expected, size_t at, int64_t pos);
/* Reads the log's files, which end at log_end. */
void expected_load(struct expected *expected, const char *root, int64_t log_end);
void expected_free(struct expected *expected);

/* False: *ret_text says what does not hold. */
bool check_recovered(const struct expected *expected, struct stage *stage, size_t upto, char *ret_text, size_t size);
/* A number that changes with any byte of the log and the queues. */
uint64_t check_files_sum(const char *root);
