/* Reading the store's files: commit log files mapped read-only, consume queue files through an LRU of descriptors. What
 * is below the watermarks of the queue table never changes, so the bytes go out as they lie. The loop never waits for a
 * disk: cold bytes are reported (-EAGAIN) and a helper brings them in. A page that the disk cannot give is an error
 * here (SIGBUS is caught), not a crash.
 *
 * A pull costs one sendmsg and little else: queue entries come in blocks that are kept (below a queue's end they never
 * change), what was seen in the page cache is believed for 100 ms, records are prefetched before they are sent. Tried
 * and left: vmsplice into the socket (four times the CPU), several turns in one pass of sd-event (no difference). */
#pragma once

#include "broker/format/layout.h"
#include "front.h"

#include <uthash.h>

struct log_file;

struct queue_entry {
    int64_t pos; /* in the commit log */
    int32_t size;
    int64_t tags_code;
};

/* Which queue: the slot says it shortly, topic and queue id name its folder. */
struct queue_ref {
    uint32_t slot, generation;
    const char *topic;
    int32_t queue_id;
};

/* Bytes that a helper should bring into the page cache; owns the descriptor. */
struct cold_range {
    int fd; /* -1: none */
    int64_t offset;
    size_t size;
    bool is_record; /* of the commit log, else of a queue file */
};

int read_log_new(struct front *front, struct read_log **ret_log);
void read_log_free(struct read_log *log);

/* Up to `count` entries from `offset` on, which is below `end`, the queue's max offset: how many were read (≥ 1, perhaps
 * fewer than there are), -EAGAIN and a range if they are cold, -ENOENT if there is no such file, -errno. */
int read_log_entries(struct read_log *log, const struct queue_ref *queue, int64_t offset, int64_t end, unsigned count,
                     struct queue_entry *ret_entries, struct cold_range *ret_cold);
/* What is kept of queue files, descriptors too, is got anew: a new store may have made them anew from its log. */
void read_log_forget_entries(struct read_log *log);

/* A record of the commit log: its bytes, and its file (kept mapped until released). Checked: it lies in one file, and
 * its own size and magic are what a record has. `may_be_cold`: the caller has waited for it, so it is not asked again.
 * -EAGAIN and a range if it is cold; -EBADMSG if it is no record; -ENOENT; -EIO. */
int read_log_record(struct read_log *log, const struct queue_entry *entry, bool may_be_cold, struct log_file **ret_file,
                    const uint8_t **ret_data, struct cold_range *ret_cold);
enum read_check {
    READ_GOOD = 1,
    READ_DAMAGED,  /* it is this queue's record of that offset, but not as it was written */
    READ_ASTRAY,   /* no record there, or another one: entry or record is damaged */
    READ_ERROR,    /* a page could not be read */
};
/* Judges the bytes that read_log_record gave: is it the whole record that `queue` has at `offset`, and do its CRCs hold?
 * They will be sent next, so the processor wants them in its cache anyway. */
enum read_check read_log_check(const struct read_log *log, const struct queue_ref *queue, int64_t offset,
                               const struct queue_entry *entry, const uint8_t *data);
/* The record will be sent soon: its bytes may come from memory into the processor's cache meanwhile. Many at once come
 * at little more than the price of one. */
void read_log_prefetch(const struct read_log *log, const struct queue_entry *entry);
/* Around a look into maps, up to the first log_file_hold: the store may have moved the log's begin meanwhile, and shortens
 * no file that somebody may be looking at. */
void read_log_begin(struct read_log *log);
void read_log_end(struct read_log *log);
/* One reference per piece under way. `context` of the release is the file. */
void log_file_hold(struct log_file *file);
void log_file_release(void *file);
/* Copies out of a map; false if a page could not be read. */
bool read_log_copy(void *to, const uint8_t *from, size_t size);

/* Files whose messages are gone are let go: as long as we hold them open, their room on the disk stays taken. */
void read_log_tidy(struct read_log *log);

/* "ROOT/consumequeue/TOPIC/QUEUE/FILE" and the log's; for helper threads, which open their own. */
int read_log_queue_path(const struct front_config *config, const char *topic, int32_t queue_id, int64_t offset,
                        char *path, size_t size);
int read_log_file_path(const struct front_config *config, int64_t pos, char *path, size_t size);
