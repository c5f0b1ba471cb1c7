/* The consume queues of a store, read by somebody who is not it. Entries are looked at in the order of the log, so each
 * queue has a small window that moves forward. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>

#include "base/bytes.h"

struct queue_files;
struct queue_missing;

struct queue {
    UT_hash_handle hh;
    struct queue_files *all;
    char *topic;
    int32_t queue_id;
    bool on_disk;
    int64_t first_pos, end_pos; /* of its row of files, in bytes */
    int64_t next_offset;        /* expected of its next record; −1: none was seen yet */
    int64_t first_offset;       /* of the first record seen */
    int64_t written_offset;     /* one behind the last entry on the disk */
    uint64_t records, bytes;
    int64_t window_offset, window_count;
    uint8_t *window;
    struct queue_missing *missing; /* entries that the disk has not, in the order of the log */
    size_t missing_count, missing_room;
    char key[]; /* "TOPIC\0" and the queue's number: what the hash is of */
};

struct queue_files {
    char *folder;
    int64_t file_size; /* bytes; 0: no file was found */
    struct queue *queues;
};

struct queue_entry_bytes {
    int64_t log_pos, tags_code;
    int32_t size;
};

struct queue_missing {
    int64_t offset;
    struct queue_entry_bytes entry;
};
int queue_missing_add(struct queue *queue, int64_t offset, const struct queue_entry_bytes *entry);
/* Some queue of the same topic has files. */
bool queue_topic_on_disk(const struct queue *queue);

/* Lists folders and files. -EUCLEAN and *ret_problem (malloc'ed) for a row with a hole or a file of another length:
 * that queue is left out as if it were not on the disk, the others are there. */
int queue_files_open(const char *folder, struct queue_files *ret_files,
                     void (*problem)(void *context, const char *text), void *context);
void queue_files_close(struct queue_files *files);
/* Made if it is not there. NULL without memory. */
struct queue *queue_files_get(struct queue_files *files, struct bytes topic, int32_t queue_id);
/* False: there is no such entry on the disk (no file, or the file cannot be read). */
bool queue_entry_read(struct queue *queue, int64_t offset, struct queue_entry_bytes *ret_entry);
/* For a repair: writes it where it belongs; makes folders and a file of `file_size` bytes if need be. */
int queue_entry_write(struct queue *queue, int64_t offset, const struct queue_entry_bytes *entry);
/* End of the last record within the log's files that any queue knows; 0: none. */
int64_t queue_files_log_end(struct queue_files *files, int64_t files_end);
