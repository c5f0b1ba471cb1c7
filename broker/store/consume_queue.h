/* Consume queues: for each queue of a topic the row of 20-byte entries that point into the commit log. Derived data: every
 * entry can be made again from the log. What the queue table says of a queue is its readable part; here stands what the
 * table does not say (next offset to give away, entries waiting to be written, descriptors). Deciding thread only. */
#pragma once

#include "store.h"

struct consume_queues;

struct queue_entry {
    int64_t queue_offset;
    int64_t log_pos;
    int64_t tags_code;
    int64_t store_ms;
    uint32_t size;
    uint32_t next_pending;
};

struct consume_queue {
    uint32_t slot;
    int32_t queue_id;
    int64_t next_offset;    /* the next message of this queue gets it */
    int64_t written_offset; /* one behind the last entry in the files */
    int64_t min_offset;
    int64_t last_store_ms;
    uint64_t put_bytes;
    int64_t log_end; /* end of the record of the last entry found at load; −1: none */
    uint32_t pending_first, pending_last, pending_count;
    bool touched, dirty, found_on_disk;
    bool has_suspect;
    int64_t scan_next;          /* recovery: behind the last entry of this scan; −1: none yet */
    struct queue_entry suspect; /* an entry that is not the next one, until it is known who is wrong */
    int fd; /* of the file used last */
    int64_t file_pos;
    struct consume_queue *prev, *next; /* least recently used descriptors first */
};

/* After metadata_open. `trusted_pos`: see recover_trusted_pos; entries behind it are taken away here. Warm: the queue table is believed where its generation is the topic's. Cold: everything is looked
 * up in the files. store->consume_queues is set by it. */
int consume_queues_open(struct store *store, bool warm, int64_t log_min_pos, int64_t trusted_pos);
void consume_queues_free(struct consume_queues *queues);

/* The queue of a slot that belongs to `topic`; NULL without memory. */
struct consume_queue *consume_queues_get(struct consume_queues *queues, uint32_t slot);

/* Recovery. */
/* End of the last record that any queue knows; −1: none. */
int64_t consume_queues_log_end(const struct consume_queues *queues);
bool consume_queues_damaged(const struct consume_queues *queues);
/* A scan writes entries wherever they belong, also over old ones. `whole`: it began with the first record of the log, so a
 * queue may begin late; else an entry that is not the next of its queue is left out and noted as a gap. */
enum consume_queues_mode { CONSUME_QUEUES_SERVE, CONSUME_QUEUES_SCAN, CONSUME_QUEUES_SCAN_WHOLE };
void consume_queues_set_mode(struct consume_queues *queues, enum consume_queues_mode mode);
/* A scan has passed bytes of the log that are no record: messages that come now may have lost their neighbours. Places of
 * lost ones get entries that say so. */
void consume_queues_log_damaged(struct consume_queues *queues, int64_t log_pos, int64_t size);
/* Entries before one that came are missing. */
bool consume_queues_gap(const struct consume_queues *queues);
/* The last record of a scan is added; before what waits is written. */
int consume_queues_scan_end(struct consume_queues *queues);
/* Removes entries at or behind log_end; publishes min and max of every queue. */
int consume_queues_cut(struct consume_queues *queues, int64_t log_end);

/* Adds an entry to those waiting. */
int consume_queue_add(struct consume_queues *queues, struct consume_queue *queue, const struct queue_entry *entry);
unsigned consume_queues_pending(const struct consume_queues *queues);
/* Writes what waits: one write per queue and file. */
int consume_queues_write(struct consume_queues *queues);
/* Makes the written entries readable; the slots are kept in a list until consume_queues_published. */
void consume_queues_publish(struct consume_queues *queues);
struct consume_queue *const *consume_queues_touched(const struct consume_queues *queues, unsigned *ret_count);
void consume_queues_published(struct consume_queues *queues);

/* An entry as it stands in the files, and in its place another one. */
int consume_queue_read(struct consume_queues *queues, struct consume_queue *queue, const char *topic, int64_t queue_offset,
                       struct queue_entry *ret_entry);
int consume_queue_rewrite(struct consume_queues *queues, struct consume_queue *queue, const char *topic,
                          const struct queue_entry *entry);

/* Administration. Queue folders of topics that are not: into the folder of removed ones. */
int consume_queues_clean_unused(struct store *store);
/* Files wholly below their queue's min offset; a thread takes them away. */
int consume_queues_clean_expired(struct store *store);

/* Entries before min_offset point at nothing any more; ignored if the slot is another queue's by now. */
void consume_queues_set_min(struct consume_queues *queues, uint32_t slot, uint32_t generation, int64_t min_offset);
struct remover *consume_queues_remover(struct consume_queues *queues);

/* Descriptors of files written since the last call, to be fdatasync'ed and closed by the caller; malloc'ed. Or `everything`
 * and no descriptors: the file system is to be synced, because names are new or the files are many. */
int consume_queues_take_dirty(struct consume_queues *queues, int **ret_fds, unsigned *ret_count, bool *ret_everything);
