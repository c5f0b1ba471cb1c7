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
#include "msg/msg.h"

enum {
    LOG_FILES_MAX = 256,   /* maps kept */
    QUEUE_FILES_MAX = 512, /* descriptors kept */
    RECORD_SIZE_LEAST = 91,
    RECORD_OVERHEAD_MAX = 65536, /* a record is at most a body and this; maxMessageSize may have been larger than it is */
    HOT_WINDOW = 256 * 1024,     /* looked at with one mincore */
    COLD_READ = 256 * 1024,      /* brought in at once */
    PAGE = 4096,
};
#define MAGIC_V1 0xDAA320A7u
#define MAGIC_V2 0xDAA320ABu

struct log_file {
    UT_hash_handle hh;
    int64_t base_pos;
    struct read_log *log;
    int fd;
    const uint8_t *data;
    size_t size;
    unsigned references;
    uint64_t used;           /* for the LRU */
    size_t hot_from, hot_to; /* seen in the page cache lately, this turn */
    int64_t hot_turn_ms;
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
    struct log_file *files;
    struct queue_file *queue_files;
    struct queue_file *newest, *oldest;
    unsigned queue_file_count;
    uint64_t uses;
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
        return errno == ENOENT ? -ENOENT : -EIO;
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

/* An entry may lie across two pages of which only the first is in memory: what is hot then ends inside the entry. That is
 * not the end of the file, and taking it for that moved consumers past messages. */
static bool is_cut_by_cold_page(int fd, int64_t at, ssize_t n)
{
    struct stat status;
    return n >= 0 && n < QUEUE_ENTRY_SIZE && fstat(fd, &status) == 0 && at + QUEUE_ENTRY_SIZE <= status.st_size;
}

int read_log_entries(struct read_log *log, const struct queue_ref *queue, int64_t offset, unsigned count,
                     struct queue_entry *ret_entries, struct cold_range *ret_cold)
{
    enum { AT_ONCE = 128 };
    uint8_t bytes[AT_ONCE * QUEUE_ENTRY_SIZE];
    struct queue_file *file;
    ret_cold->fd = -1;
    int r = get_queue_file(log, queue, offset, &file);
    if (r < 0)
        return r;
    int64_t at = offset * QUEUE_ENTRY_SIZE % log->front->config.consume_queue_file_size;
    int64_t left = (log->front->config.consume_queue_file_size - at) / QUEUE_ENTRY_SIZE;
    if (count > AT_ONCE)
        count = AT_ONCE;
    if (count > left)
        count = (unsigned)left;
    ssize_t n = read_if_hot(file->fd, bytes, count * QUEUE_ENTRY_SIZE, at);
    if (n == -EAGAIN || is_cut_by_cold_page(file->fd, at, n)) {
        *ret_cold = (struct cold_range){dup(file->fd), at, count * QUEUE_ENTRY_SIZE};
        return ret_cold->fd < 0 ? -EIO : -EAGAIN;
    }
    if (n < QUEUE_ENTRY_SIZE) {
        /* Short: not the file that the queue table speaks of (the slot's queue was made anew). Open it again next time.
         */
        close_queue_file(log, file);
        return n < 0 ? -EIO : -ENOENT;
    }
    count = (unsigned)(n / QUEUE_ENTRY_SIZE);
    for (unsigned i = 0; i < count; i++) {
        const uint8_t *entry = bytes + i * QUEUE_ENTRY_SIZE;
        ret_entries[i] = (struct queue_entry){(int64_t)be64_load(entry), (int32_t)be32_load(entry + 8),
                                              (int64_t)be64_load(entry + 12)};
    }
    return (int)count;
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
    struct log_file *file = NULL;
    HASH_FIND(hh, log->files, &base_pos, sizeof base_pos, file);
    if (!file) {
        int r = open_log_file(log, base_pos, &file);
        if (r < 0)
            return r;
    }
    file->used = ++log->uses;
    *ret_file = file;
    return 0;
}

/* Is [at, at + size) in the page cache? One mincore looks at a window ahead and is believed for the rest of the turn.
 */
static bool is_hot(struct log_file *file, size_t at, size_t size)
{
    int64_t now_ms = file->log->front->now_ms;
    if (file->hot_turn_ms == now_ms && at >= file->hot_from && at + size <= file->hot_to)
        return true;
    unsigned char resident[HOT_WINDOW / PAGE + 2];
    size_t from = at & ~(size_t)(PAGE - 1), to = at + (size > HOT_WINDOW ? size : HOT_WINDOW);
    if (to > file->size)
        to = file->size;
    if (to - from > sizeof resident * PAGE) {
        to = from + sizeof resident * PAGE; /* a large record: its head stands for it */
        size = to - at;
    }
    size_t pages = (to - from + PAGE - 1) / PAGE, hot = 0;
    if (mincore((void *)(file->data + from), to - from, resident) < 0)
        return true;
    while (hot < pages && resident[hot] & 1)
        hot++;
    file->hot_turn_ms = now_ms;
    file->hot_from = from;
    file->hot_to = from + hot * PAGE;
    return at + size <= file->hot_to;
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
        *ret_cold = (struct cold_range){dup(file->fd), (int64_t)at, at + size > file->size ? file->size - at : size};
        return ret_cold->fd < 0 ? -EIO : -EAGAIN;
    }
    uint8_t head[8];
    if (!read_log_copy(head, file->data + at, sizeof head))
        return -EIO;
    uint32_t magic = be32_load(head + 4);
    if (be32_load(head) != (uint32_t)entry->size || (magic != MAGIC_V1 && magic != MAGIC_V2))
        return -EBADMSG;
    *ret_file = file;
    *ret_data = file->data + at;
    return 0;
}

static void set_low_pos(struct read_log *log)
{
    int64_t low = INT64_MAX;
    struct log_file *file, *next;
    HASH_ITER(hh, log->files, file, next)
    if (file->references && file->base_pos < low)
        low = file->base_pos;
    if (log->front->interest)
        atomic_store_explicit(&log->front->interest->read_low_pos, low, memory_order_release);
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
}
