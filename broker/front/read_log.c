/* Maps and descriptors of the store's files; see read_log.h. The front's one thread; the catching of SIGBUS works in
 * any. The store may unlink a file that is mapped here: its pages live on until the last piece is sent; which files
 * those are stands in the interest page (read_low_pos), so that the store waits for a while. */
#include "read_log.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/panic.h"
#include "broker/format/record.h"
#include "msg/msg.h"

enum {
    LOG_FILES_MAX = 256,   /* maps kept */
    QUEUE_FILES_MAX = 512, /* descriptors kept */
    RECORD_SIZE_LEAST = 91,
    RECORD_OVERHEAD_MAX = 65536, /* a record is at most a body and this; maxMessageSize may have been larger than it is */
    HOT_PART = 1 << 20,          /* looked at with at most one mincore */
    HOT_PARTS = 128,             /* remembered */
    HOT_MS = 100,                /* how long what was seen in the page cache is believed to be there still */
    COLD_READ = 256 * 1024,      /* brought in at once */
    PAGE = 4096,
    PART_PAGES = HOT_PART / PAGE,
    BLOCK_ENTRIES = 200, /* queue entries read at once */
    BLOCKS_LOG2 = 6,     /* kept: 64 blocks, 256 KiB */
    BLOCKS = 1 << BLOCKS_LOG2,
    CACHE_LINE = 64,
    PREFETCH_MAX = 2048, /* of one record; behind that the processor has understood */
};

struct log_file {
    UT_hash_handle hh;
    int64_t base_pos;
    struct read_log *log;
    int fd;
    const uint8_t *data;
    size_t size;
    unsigned references;
    uint64_t used; /* for the LRU */
};

/* Which pages of a MiB of the log were seen in the page cache lately. */
struct hot_part {
    int64_t pos; /* of its first byte in the log; −1: none */
    int64_t seen_ms;
    uint64_t pages[PART_PAGES / 64];
};

/* Entries of one queue as they lie in its file, all below the queue's max offset at that time, so they stay as they are.
 * Blocks begin at multiples of BLOCK_ENTRIES in their file, so that all readers of a queue find the same ones. */
struct entry_block {
    uint32_t slot, generation;
    int64_t offset; /* of its first entry in the queue */
    unsigned count; /* 0: none */
    uint8_t bytes[BLOCK_ENTRIES * QUEUE_ENTRY_SIZE];
};

struct queue_file_key {
    uint32_t slot, generation;
    int64_t number;
};

struct queue_file {
    UT_hash_handle hh;
    struct queue_file_key key;
    int fd;
    struct queue_file *newer, *older;
};

struct read_log {
    struct front *front;
    bool looking; /* between read_log_begin and read_log_end */
    struct log_file *files;
    struct log_file *last; /* used last; NULL when that was closed */
    struct queue_file *queue_files;
    struct queue_file *newest, *oldest;
    unsigned queue_file_count;
    uint64_t uses;
    struct hot_part parts[HOT_PARTS];
    struct entry_block blocks[BLOCKS];
};

static _Thread_local sigjmp_buf *bus_escape;

static void on_bus_error(int signal_number, siginfo_t *info, void *context)
{
    if (bus_escape)
        siglongjmp(*bus_escape, 1);
    signal(SIGBUS, SIG_DFL); /* not ours: die of it */
}

bool read_log_copy(void *to, const uint8_t *from, size_t size)
{
    sigjmp_buf escape;
    if (sigsetjmp(escape, 0) != 0) {
        bus_escape = NULL;
        return false;
    }
    bus_escape = &escape;
    atomic_signal_fence(memory_order_seq_cst);
    memcpy(to, from, size);
    atomic_signal_fence(memory_order_seq_cst);
    bus_escape = NULL;
    return true;
}

int read_log_new(struct front *front, struct read_log **ret_log)
{
    struct read_log *log = calloc(1, sizeof *log);
    if (!log)
        return -ENOMEM;
    log->front = front;
    for (unsigned i = 0; i < HOT_PARTS; i++)
        log->parts[i].pos = -1;
    /* NODEFER: the handler leaves by a jump that restores no mask. */
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGBUS, &action, NULL);
    *ret_log = log;
    return 0;
}

static void close_log_file(struct log_file *file)
{
    pn_assert(file->references == 0);
    HASH_DEL(file->log->files, file);
    if (file->log->last == file)
        file->log->last = NULL;
    munmap((void *)file->data, file->size);
    close(file->fd);
    free(file);
}

static void unlink_queue_file(struct read_log *log, struct queue_file *file)
{
    *(file->newer ? &file->newer->older : &log->newest) = file->older;
    *(file->older ? &file->older->newer : &log->oldest) = file->newer;
    file->newer = file->older = NULL;
}

static void link_newest(struct read_log *log, struct queue_file *file)
{
    file->older = log->newest;
    *(log->newest ? &log->newest->newer : &log->oldest) = file;
    log->newest = file;
}

static void close_queue_file(struct read_log *log, struct queue_file *file)
{
    HASH_DEL(log->queue_files, file);
    unlink_queue_file(log, file);
    log->queue_file_count--;
    close(file->fd);
    free(file);
}

void read_log_free(struct read_log *log)
{
    if (!log)
        return;
    while (log->oldest)
        close_queue_file(log, log->oldest);
    struct log_file *file, *next;
    HASH_ITER(hh, log->files, file, next)
    {
        file->references = 0;
        close_log_file(file);
    }
    free(log);
}

int read_log_queue_path(const struct front_config *config, const char *topic, int32_t queue_id, int64_t offset,
                        char *path, size_t size)
{
    int64_t at = offset * QUEUE_ENTRY_SIZE;
    int64_t base = at - at % config->consume_queue_file_size;
    int n = snprintf(path, size, "%s/consumequeue/%s/%d/%020lld", config->store_root, topic, queue_id, (long long)base);
    return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

int read_log_file_path(const struct front_config *config, int64_t pos, char *path, size_t size)
{
    int64_t base = pos - pos % config->commit_log_file_size;
    int n = snprintf(path, size, "%s/%020lld", config->commit_log_dir, (long long)base);
    return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

static int open_queue_file(struct read_log *log, const struct queue_ref *queue, int64_t offset, int64_t number,
                           struct queue_file **ret_file)
{
    char path[4096];
    int r = read_log_queue_path(&log->front->config, queue->topic, queue->queue_id, offset, path, sizeof path);
    if (r < 0)
        return r;
    if (log->queue_file_count == QUEUE_FILES_MAX)
        close_queue_file(log, log->oldest);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    struct queue_file *file = calloc(1, sizeof *file);
    if (!file)
        PANIC("out of memory");
    file->key = (struct queue_file_key){queue->slot, queue->generation, number};
    file->fd = fd;
    HASH_ADD(hh, log->queue_files, key, sizeof file->key, file);
    link_newest(log, file);
    log->queue_file_count++;
    *ret_file = file;
    return 0;
}

static int get_queue_file(struct read_log *log, const struct queue_ref *queue, int64_t offset,
                          struct queue_file **ret_file)
{
    struct queue_file_key key = {queue->slot, queue->generation,
                                 offset * QUEUE_ENTRY_SIZE / log->front->config.consume_queue_file_size};
    struct queue_file *file = NULL;
    HASH_FIND(hh, log->queue_files, &key, sizeof key, file);
    if (!file)
        return open_queue_file(log, queue, offset, key.number, ret_file);
    if (log->newest != file) {
        unlink_queue_file(log, file);
        link_newest(log, file);
    }
    *ret_file = file;
    return 0;
}

static ssize_t read_if_hot(int fd, void *to, size_t size, int64_t offset)
{
    struct iovec part = {to, size};
    ssize_t n = preadv2(fd, &part, 1, offset, RWF_NOWAIT);
    if (n < 0 && errno == EOPNOTSUPP) /* a file system that cannot say; those are in memory or a network away */
        n = pread(fd, to, size, offset);
    return n < 0 ? -errno : n;
}

/* Reads the block's entries from its file; what is hot, at least up to the entry `wanted`. */
static int fill_block(struct read_log *log, const struct queue_ref *queue, struct entry_block *block, unsigned count,
                      unsigned wanted, struct cold_range *ret_cold)
{
    struct queue_file *file;
    struct stat status;
    int r = get_queue_file(log, queue, block->offset, &file);
    if (r < 0)
        return r;
    int64_t at = block->offset * QUEUE_ENTRY_SIZE % log->front->config.consume_queue_file_size;
    ssize_t n = read_if_hot(file->fd, block->bytes, count * QUEUE_ENTRY_SIZE, at);
    if (n >= (ssize_t)(wanted + 1) * QUEUE_ENTRY_SIZE) {
        block->count = (unsigned)(n / QUEUE_ENTRY_SIZE);
        return 0;
    }
    if (n >= 0 && fstat(file->fd, &status) < 0)
        n = -errno;
    /* What is hot may end before or inside the entry. That is not the end of the file, and taking it for that moved
     * consumers past messages. */
    if (n == -EAGAIN || (n >= 0 && at + (wanted + 1) * QUEUE_ENTRY_SIZE <= status.st_size)) {
        *ret_cold = (struct cold_range){dup(file->fd), at, count * QUEUE_ENTRY_SIZE, false};
        return ret_cold->fd < 0 ? -errno : -EAGAIN;
    }
    /* Short: not the file that the queue table speaks of (the slot's queue was made anew). Open it again next time. */
    close_queue_file(log, file);
    return n < 0 ? (int)n : -ENOENT;
}

/* Readers that go through several queues at one pace must not take each other's place for long: hence not a plain sum. */
static struct entry_block *find_block(struct read_log *log, uint32_t slot, int64_t first_offset)
{
    uint64_t number = (uint64_t)first_offset / BLOCK_ENTRIES;
    return &log->blocks[(number << 20 ^ slot) * 0x9E3779B97F4A7C15u >> (64 - BLOCKS_LOG2)];
}

int read_log_entries(struct read_log *log, const struct queue_ref *queue, int64_t offset, int64_t end, unsigned count,
                     struct queue_entry *ret_entries, struct cold_range *ret_cold)
{
    int64_t per_file = log->front->config.consume_queue_file_size / QUEUE_ENTRY_SIZE;
    int64_t in_file = offset % per_file, first = in_file - in_file % BLOCK_ENTRIES;
    unsigned at = (unsigned)(in_file - first);
    struct entry_block *block = find_block(log, queue->slot, offset - at);
    ret_cold->fd = -1;
    pn_assert(offset < end);
    if (block->slot != queue->slot || block->generation != queue->generation || block->offset != offset - at ||
        at >= block->count) {
        int64_t room = per_file - first < BLOCK_ENTRIES ? per_file - first : BLOCK_ENTRIES;
        if (room > end - (offset - at))
            room = end - (offset - at);
        block->slot = queue->slot;
        block->generation = queue->generation;
        block->offset = offset - at;
        block->count = 0;
        int r = fill_block(log, queue, block, (unsigned)room, at, ret_cold);
        if (r < 0)
            return r;
    }
    if (count > block->count - at)
        count = block->count - at;
    for (unsigned i = 0; i < count; i++) {
        const uint8_t *entry = block->bytes + (at + i) * QUEUE_ENTRY_SIZE;
        ret_entries[i] = (struct queue_entry){(int64_t)be64_load(entry), (int32_t)be32_load(entry + 8),
                                              (int64_t)be64_load(entry + 12)};
    }
    return (int)count;
}

void read_log_forget_entries(struct read_log *log)
{
    for (unsigned i = 0; i < BLOCKS; i++)
        log->blocks[i].count = 0;
    while (log->oldest)
        close_queue_file(log, log->oldest);
}

static void evict_log_file(struct read_log *log)
{
    struct log_file *file, *next, *oldest = NULL;
    HASH_ITER(hh, log->files, file, next)
    if (!file->references && (!oldest || file->used < oldest->used))
        oldest = file;
    if (oldest)
        close_log_file(oldest);
}

static int open_log_file(struct read_log *log, int64_t base_pos, struct log_file **ret_file)
{
    char path[4096];
    struct stat status;
    int r = read_log_file_path(&log->front->config, base_pos, path, sizeof path);
    if (r < 0)
        return r;
    PN_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? -ENOENT : -EIO;
    if (fstat(fd, &status) < 0 || status.st_size != log->front->config.commit_log_file_size)
        return -EIO; /* log files have their full size from birth */
    if (HASH_COUNT(log->files) >= LOG_FILES_MAX)
        evict_log_file(log);
    void *data = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED)
        return -errno;
    struct log_file *file = calloc(1, sizeof *file);
    if (!file)
        PANIC("out of memory");
    *file = (struct log_file){.base_pos = base_pos, .log = log, .data = data, .size = (size_t)status.st_size};
    file->fd = TAKE_FD(fd);
    HASH_ADD(hh, log->files, base_pos, sizeof file->base_pos, file);
    *ret_file = file;
    return 0;
}

static int get_log_file(struct read_log *log, int64_t pos, struct log_file **ret_file)
{
    int64_t base_pos = pos - pos % log->front->config.commit_log_file_size;
    struct log_file *file = log->last;
    if (!file || file->base_pos != base_pos)
        HASH_FIND(hh, log->files, &base_pos, sizeof base_pos, file);
    if (!file) {
        int r = open_log_file(log, base_pos, &file);
        if (r < 0)
            return r;
    }
    file->used = ++log->uses;
    *ret_file = log->last = file;
    return 0;
}

static bool has_pages(const struct hot_part *part, size_t from, size_t to)
{
    for (size_t page = from; page < to; page++)
        if (!(part->pages[page / 64] >> page % 64 & 1))
            return false;
    return true;
}

/* Are the pages [from, to) of the file's part at `start` in the page cache? Asked of the kernel once for all from there
 * to the end of the part, but not beyond what may be read: at a log's end there is nothing behind it. */
static bool is_part_hot(struct log_file *file, size_t start, size_t from, size_t to)
{
    struct front *front = file->log->front;
    int64_t pos = file->base_pos + (int64_t)start;
    struct hot_part *part = &file->log->parts[pos / HOT_PART % HOT_PARTS];
    unsigned char resident[PART_PAGES];
    bool fresh = part->pos == pos && front->now_ms - part->seen_ms < HOT_MS;
    if (fresh && has_pages(part, from, to))
        return true;
    if (!fresh)
        *part = (struct hot_part){.pos = pos, .seen_ms = front->now_ms};
    int64_t readable = atomic_load_explicit(&front->queue_table->log_readable_pos, memory_order_acquire) - pos;
    size_t end = start + HOT_PART < file->size ? HOT_PART : file->size - start;
    if (readable < (int64_t)end)
        end = readable > 0 ? (size_t)readable : 0;
    size_t end_page = (end + PAGE - 1) / PAGE;
    if (end_page < to)
        end_page = to;
    if (mincore((void *)(file->data + start + from * PAGE), (end_page - from) * PAGE, resident) < 0)
        return true;
    for (size_t page = from; page < end_page; page++)
        if (resident[page - from] & 1)
            part->pages[page / 64] |= (uint64_t)1 << page % 64;
    return has_pages(part, from, to);
}

/* Is [at, at + size) in the page cache? */
static bool is_hot(struct log_file *file, size_t at, size_t size)
{
    for (size_t end = at + size, next; at < end; at = next) {
        size_t start = at - at % HOT_PART;
        next = start + HOT_PART < end ? start + HOT_PART : end;
        if (!is_part_hot(file, start, (at - start) / PAGE, (next - start + PAGE - 1) / PAGE))
            return false;
    }
    return true;
}

/* Only in the file that was used last: a hint, wrong once per file. */
void read_log_prefetch(const struct read_log *log, const struct queue_entry *entry)
{
    const struct log_file *file = log->last;
    if (!file || entry->size <= 0 || entry->pos < file->base_pos ||
        entry->pos - file->base_pos + entry->size > (int64_t)file->size)
        return;
    const uint8_t *data = file->data + (entry->pos - file->base_pos);
    int32_t size = entry->size < PREFETCH_MAX ? entry->size : PREFETCH_MAX;
    for (int32_t at = 0; at < size; at += CACHE_LINE)
        __builtin_prefetch(data + at, 0, 2);
}

int read_log_record(struct read_log *log, const struct queue_entry *entry, bool may_be_cold, struct log_file **ret_file,
                    const uint8_t **ret_data, struct cold_range *ret_cold)
{
    const struct front_config *config = &log->front->config;
    ret_cold->fd = -1;
    if (entry->pos < 0 || entry->size < RECORD_SIZE_LEAST ||
        entry->size > MSG_BODY_MAX + RECORD_OVERHEAD_MAX ||
        entry->pos % config->commit_log_file_size + entry->size > config->commit_log_file_size)
        return -EBADMSG;
    struct log_file *file;
    int r = get_log_file(log, entry->pos, &file);
    if (r < 0)
        return r;
    size_t at = (size_t)(entry->pos - file->base_pos);
    if (!may_be_cold && !is_hot(file, at, (size_t)entry->size)) {
        size_t size = (size_t)entry->size > COLD_READ ? (size_t)entry->size : COLD_READ;
        *ret_cold = (struct cold_range){dup(file->fd), (int64_t)at, at + size > file->size ? file->size - at : size, true};
        return ret_cold->fd < 0 ? -EIO : -EAGAIN;
    }
    uint8_t head[8];
    if (!read_log_copy(head, file->data + at, sizeof head))
        return -EIO;
    uint32_t magic = be32_load(head + 4);
    if (be32_load(head) != (uint32_t)entry->size || (magic != RECORD_MAGIC_V1 && magic != RECORD_MAGIC_V2))
        return -EBADMSG;
    *ret_file = file;
    *ret_data = file->data + at;
    return 0;
}

struct look {
    const struct queue_ref *queue;
    const struct queue_entry *entry;
    int64_t offset, file_left;
    const uint8_t *data;
};

/* Light queues of Apache (names with %LMQ%) point at records of other topics. */
static bool is_of_queue(const struct record *record, const struct look *look)
{
    return (record->queue_id == look->queue->queue_id && record->queue_offset == look->offset &&
            bytes_equal_text(record->topic, look->queue->topic)) ||
           strncmp(look->queue->topic, "%LMQ%", 5) == 0;
}

static enum read_check look_at(const struct look *look)
{
    struct record record;
    const size_t size = (size_t)look->entry->size;
    bool good = record_parse(look->data, size, look->entry->pos, look->file_left, true, &record) == RECORD_MESSAGE;
    if (!good && record_parse(look->data, size, look->entry->pos, look->file_left, false, &record) != RECORD_MESSAGE)
        return READ_ASTRAY;
    if (record.size != size || !is_of_queue(&record, look))
        return READ_ASTRAY;
    return good ? READ_GOOD : READ_DAMAGED;
}

enum read_check read_log_check(const struct read_log *log, const struct queue_ref *queue, int64_t offset,
                               const struct queue_entry *entry, const uint8_t *data)
{
    int64_t file_size = log->front->config.commit_log_file_size;
    const struct look look = {queue, entry, offset, file_size - entry->pos % file_size, data};
    sigjmp_buf escape;
    if (sigsetjmp(escape, 0) != 0) {
        bus_escape = NULL;
        return READ_ERROR;
    }
    bus_escape = &escape;
    atomic_signal_fence(memory_order_seq_cst);
    enum read_check check = look_at(&look);
    atomic_signal_fence(memory_order_seq_cst);
    bus_escape = NULL;
    return check;
}

static void set_low_pos(struct read_log *log)
{
    int64_t low = log->looking ? 0 : INT64_MAX;
    struct log_file *file, *next;
    HASH_ITER(hh, log->files, file, next)
    if (file->references && file->base_pos < low)
        low = file->base_pos;
    if (log->front->interest)
        atomic_store_explicit(&log->front->interest->read_low_pos, low, memory_order_release);
}

void read_log_begin(struct read_log *log)
{
    log->looking = true;
    if (!log->front->interest)
        return;
    atomic_store_explicit(&log->front->interest->read_low_pos, 0, memory_order_relaxed);
    /* With the store's, which moves log_min_pos and then looks here: it sees this, or what follows sees the new begin. */
    atomic_thread_fence(memory_order_seq_cst);
}

void read_log_end(struct read_log *log)
{
    log->looking = false;
    set_low_pos(log);
}

void log_file_hold(struct log_file *file)
{
    if (file->references++ == 0)
        set_low_pos(file->log);
}

void log_file_release(void *context)
{
    struct log_file *file = context;
    pn_assert(file->references > 0);
    if (--file->references == 0)
        set_low_pos(file->log);
}

void read_log_tidy(struct read_log *log)
{
    int64_t min_pos = atomic_load_explicit(&log->front->queue_table->log_min_pos, memory_order_acquire);
    struct log_file *file, *next;
    HASH_ITER(hh, log->files, file, next)
    if (!file->references && file->base_pos + (int64_t)file->size <= min_pos)
        close_log_file(file);
    for (struct queue_file *queue_file = log->oldest, *newer; queue_file; queue_file = newer) {
        struct stat status;
        newer = queue_file->newer;
        if (fstat(queue_file->fd, &status) < 0 || status.st_nlink == 0)
            close_queue_file(log, queue_file);
    }
}
