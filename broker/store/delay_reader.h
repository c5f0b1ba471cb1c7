/* The thread that reads what is due: queue entries of one level, then their records. One job at a time; the deciding thread
 * owns the job but between submit and take. */
#pragma once

#include "base/bytes.h"
#include "store.h"

enum { DELAY_READ_ENTRIES = 256, DELAY_READ_BYTES = 256 * 1024 };

struct delay_item {
    int64_t queue_offset;
    int64_t log_pos;
    size_t at, size; /* in the job's bytes; size 0: it is lost, and passed over */
};

struct delay_job {
    /* asked */
    unsigned level;
    int64_t from, until; /* offsets in its queue */
    int64_t delay_ms;
    int64_t log_min_pos;
    /* found */
    int error; /* the disk's; the items before it count */
    int64_t due_ms; /* of the first that is not among the items; INT64_MAX: there is none, 0: not looked at */
    unsigned count;
    struct delay_item items[DELAY_READ_ENTRIES];
    uint8_t *bytes;
    size_t used, capacity;
};

struct delay_entry {
    int64_t log_pos, tags_code;
    uint32_t size;
};
/* Entries of a level's queue from `offset` on, of one file: how many, or negative errno. Waits for the disk. */
int delay_read_entries(const struct store_config *config, unsigned level, int64_t offset, struct delay_entry *entries,
                       unsigned most);

struct delay_reader;
/* A job that is done ends the sleep of the event loop. */
int delay_reader_start(struct store *store, struct delay_reader **ret_reader);
void delay_reader_stop(struct delay_reader *reader);
/* The job to fill in, and then to be submitted; NULL: it is under way. */
struct delay_job *delay_reader_job(struct delay_reader *reader);
void delay_reader_submit(struct delay_reader *reader);
