/* Files of consume queues (see consume_queue_file.h, format/FORMAT.md). Deciding thread of the store. */
#include "consume_queue_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utlist.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/panic.h"
#include "file_layer.h"
#include "broker/format/layout.h"
#include "remover.h"

enum { BLOCK_ENTRIES = 512 };

unsigned consume_queue_file_fds_max(void)
{
    struct rlimit limit = {0};
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur < 128)
        return 32;
    return limit.rlim_cur / 2 > 4096 ? 4096 : (unsigned)(limit.rlim_cur / 2); /* the rest is for rings and log files */
}

static void path_make(const struct consume_queues *queues, const char *topic, int32_t queue_id, int64_t file_pos,
                      char *to, size_t size)
{
    int n = snprintf(to, size, "%s/%s/%d", queues->folder, topic, queue_id);
    if (file_pos >= 0 && n > 0 && n < (int)size)
        snprintf(to + n, size - (size_t)n, "/%0*" PRId64, FILE_NAME_DIGITS, file_pos);
}

bool consume_queue_file_topic_exists(struct consume_queues *queues, const char *topic)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", queues->folder, topic);
    return access(path, F_OK) == 0;
}

int consume_queue_file_abandon(struct consume_queues *queues, const char *topic)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", queues->folder, topic);
    return remover_take(queues->remover, path);
}

static int names_list(const char *path, int64_t **ret_list, size_t *ret_count)
{
    int64_t *list = NULL;
    size_t count = 0;
    DIR *dir = opendir(path);
    if (!dir)
        return -errno;
    int r = 0;
    struct dirent *entry;
    while (r == 0 && (entry = readdir(dir))) {
        char *end;
        int64_t value = strtoll(entry->d_name, &end, 10);
        if (*end != 0 || end == entry->d_name || value < 0)
            continue;
        int64_t *grown = realloc(list, (count + 1) * sizeof *list);
        if (!grown) {
            r = -ENOMEM;
            break;
        }
        list = grown;
        list[count++] = value;
    }
    closedir(dir);
    if (r < 0) {
        free(list);
        return r;
    }
    *ret_list = list;
    *ret_count = count;
    return 0;
}

int consume_queue_file_list_queues(struct consume_queues *queues, const char *topic, int32_t **ret_ids,
                                   unsigned *ret_count)
{
    char path[4096];
    PN_FREE int64_t *list = NULL;
    size_t count = 0;
    snprintf(path, sizeof path, "%s/%s", queues->folder, topic);
    int r = names_list(path, &list, &count);
    if (r == -ENOTDIR)
        return 0;
    if (r < 0 || count == 0)
        return r;
    int32_t *ids = calloc(count, sizeof *ids);
    if (!ids)
        return -ENOMEM;
    unsigned n = 0;
    for (size_t i = 0; i < count; i++)
        if (list[i] < QUEUE_TABLE_SLOTS)
            ids[n++] = (int32_t)list[i];
    *ret_ids = ids;
    *ret_count = n;
    return 0;
}

void consume_queue_file_close(struct consume_queues *queues, struct consume_queue *queue)
{
    if (queue->fd < 0)
        return;
    close(queue->fd);
    queue->fd = -1;
    DL_DELETE(queues->lru, queue);
    queues->fds_open--;
}

static void opened(struct consume_queues *queues, struct consume_queue *queue, int fd, int64_t file_pos)
{
    while (queues->fds_open >= queues->fds_max && queues->lru)
        consume_queue_file_close(queues, queues->lru);
    queue->fd = fd;
    queue->file_pos = file_pos;
    DL_APPEND(queues->lru, queue);
    queues->fds_open++;
}

/* Leaves a file; if it was written since the last sync, its descriptor stays for the next one. */
static void leave_file(struct consume_queues *queues, struct consume_queue *queue)
{
    if (queue->fd >= 0 && queue->dirty) {
        int fd = queues->rolled_count < ROLLED_MAX ? fcntl(queue->fd, F_DUPFD_CLOEXEC, 3) : -1;
        if (fd >= 0)
            queues->rolled_fds[queues->rolled_count++] = fd;
        else
            queues->names_changed = true; /* the next sync is one of everything */
    }
    consume_queue_file_close(queues, queue);
}

static int folders_make(struct consume_queues *queues, const char *topic, int32_t queue_id)
{
    char path[4096];
    int r = file_layer_mkdir_kept(queues->folder);
    snprintf(path, sizeof path, "%s/%s", queues->folder, topic);
    if (r == 0)
        r = file_layer_mkdir(path);
    path_make(queues, topic, queue_id, -1, path, sizeof path);
    return r == 0 ? file_layer_mkdir(path) : r;
}

static int file_make(struct consume_queues *queues, const struct consume_queue *queue, const char *topic,
                     const char *path)
{
    int fd = file_layer_open(path, O_RDWR | O_CREAT, 0644);
    queues->names_changed = true;
    if (fd == -ENOENT) {
        int r = folders_make(queues, topic, queue->queue_id);
        if (r < 0)
            return r;
        fd = file_layer_open(path, O_RDWR | O_CREAT, 0644);
    }
    if (fd < 0)
        return fd;
    int r = file_layer_ftruncate(fd, queues->file_size);
    if (r < 0) {
        close(fd);
        return r;
    }
    return fd;
}

/* Makes queue->fd the file that holds byte `pos` of the queue. */
static int file_use(struct consume_queues *queues, struct consume_queue *queue, const char *topic, int64_t pos,
                    bool make)
{
    int64_t file_pos = pos - pos % queues->file_size;
    if (queue->fd >= 0 && queue->file_pos == file_pos) {
        if (queues->lru->prev != queue) { /* not yet the most recently used */
            DL_DELETE(queues->lru, queue);
            DL_APPEND(queues->lru, queue);
        }
        return 0;
    }
    char path[4096];
    path_make(queues, topic, queue->queue_id, file_pos, path, sizeof path);
    int fd = file_layer_open(path, O_RDWR, 0);
    if (fd == -ENOENT && make)
        fd = file_make(queues, queue, topic, path);
    if (fd < 0)
        return fd;
    leave_file(queues, queue);
    opened(queues, queue, fd, file_pos);
    return 0;
}

static struct queue_entry entry_parse(const uint8_t *data, int64_t offset)
{
    return (struct queue_entry){.queue_offset = offset, .log_pos = (int64_t)be64_load(data), .size = be32_load(data + 8),
                                .tags_code = (int64_t)be64_load(data + 12)};
}

int consume_queue_file_read(struct consume_queues *queues, struct consume_queue *queue, const char *topic, int64_t offset,
                            struct queue_entry *ret_entry)
{
    uint8_t data[QUEUE_ENTRY_SIZE];
    int64_t pos = offset * QUEUE_ENTRY_SIZE;
    int r = file_use(queues, queue, topic, pos, false);
    if (r < 0)
        return r;
    ssize_t n = file_layer_pread(queue->fd, data, sizeof data, pos % queues->file_size);
    if (n != (ssize_t)sizeof data)
        return n < 0 ? (int)n : -EUCLEAN;
    *ret_entry = entry_parse(data, offset);
    return 0;
}

static bool entry_valid(const struct queue_entry *entry)
{
    return entry->log_pos >= 0 && (int32_t)entry->size > 0;
}

static bool entry_is_preblank(const struct queue_entry *entry)
{
    return entry->log_pos == 0 && entry->size == QUEUE_ENTRY_PREBLANK_SIZE;
}

static bool entry_before(const struct queue_entry *entry, int64_t log_pos)
{
    return entry_valid(entry) && (entry_is_preblank(entry) || entry->log_pos < log_pos);
}

/* The end of a range of one file, when entries behind a hole in it do not count. */
static int64_t range_clip(const struct consume_queues *queues, int fd, int64_t low, int64_t high)
{
    int64_t hole = lseek(fd, low * QUEUE_ENTRY_SIZE % queues->file_size, SEEK_HOLE);
    if (hole < 0)
        return high;
    int64_t entries = (hole - low * QUEUE_ENTRY_SIZE % queues->file_size + QUEUE_ENTRY_SIZE - 1) / QUEUE_ENTRY_SIZE;
    return entries < high - low ? low + entries : high;
}

/* The same in one read, when few are left. */
static int first_from_block(struct consume_queues *queues, struct consume_queue *queue, int64_t low, int64_t high,
                            int64_t log_pos, int64_t *ret_offset)
{
    uint8_t block[BLOCK_ENTRIES * QUEUE_ENTRY_SIZE];
    size_t size = (size_t)(high - low) * QUEUE_ENTRY_SIZE;
    ssize_t n = file_layer_pread(queue->fd, block, size, low * QUEUE_ENTRY_SIZE % queues->file_size);
    if (n != (ssize_t)size)
        return n < 0 ? (int)n : -EUCLEAN;
    for (const uint8_t *at = block; low < high; low++, at += QUEUE_ENTRY_SIZE) {
        struct queue_entry entry = entry_parse(at, low);
        if (!entry_before(&entry, log_pos))
            break;
    }
    *ret_offset = low;
    return 0;
}

/* Entries grow with their log position and end with zeros: halving finds the first one in [low, high), which lies in one
 * file, that is not valid, or that points at or behind `log_pos` (pre-blank ones point before everything). Most queues are
 * short: of a hundred thousand each may cost a start some ten system calls, not a hundred. */
static int first_from(struct consume_queues *queues, struct consume_queue *queue, const char *topic, int64_t low,
                      int64_t high, int64_t log_pos, int64_t *ret_offset)
{
    *ret_offset = low;
    if (low >= high)
        return 0;
    int r = file_use(queues, queue, topic, low * QUEUE_ENTRY_SIZE, false);
    if (r < 0)
        return r;
    high = range_clip(queues, queue->fd, low, high);
    while (high - low > BLOCK_ENTRIES) {
        int64_t middle = low + (high - low) / 2;
        struct queue_entry entry;
        r = consume_queue_file_read(queues, queue, topic, middle, &entry);
        if (r < 0)
            return r;
        if (entry_before(&entry, log_pos))
            low = middle + 1;
        else
            high = middle;
    }
    return first_from_block(queues, queue, low, high, log_pos, ret_offset);
}

/* The same over a row of files from `file` on. */
static int first_from_row(struct consume_queues *queues, struct consume_queue *queue, const char *topic, int64_t first,
                          int64_t high, int64_t log_pos, int64_t *ret_offset)
{
    int64_t per_file = queues->file_size / QUEUE_ENTRY_SIZE;
    *ret_offset = first;
    /* The last file whose first entry is before it, or the first one. */
    for (int64_t start = high > first ? (high - 1) / per_file * per_file : first; start >= first; start -= per_file) {
        struct queue_entry entry;
        int r = start > first ? consume_queue_file_read(queues, queue, topic, start, &entry) : 0;
        if (r < 0)
            return r;
        if (start > first && !entry_before(&entry, log_pos))
            continue;
        return first_from(queues, queue, topic, start, start + per_file < high ? start + per_file : high, log_pos,
                          ret_offset);
    }
    return 0;
}

static int compare_pos(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int files_list(struct consume_queues *queues, struct consume_queue *queue, const char *topic, int64_t **ret_list,
                      size_t *ret_count)
{
    char path[4096];
    path_make(queues, topic, queue->queue_id, -1, path, sizeof path);
    int r = names_list(path, ret_list, ret_count);
    if (r == -ENOENT) {
        *ret_count = 0;
        return 0;
    }
    if (r == 0 && *ret_count > 1)
        qsort(*ret_list, *ret_count, sizeof **ret_list, compare_pos);
    return r;
}

static int file_remove(struct consume_queues *queues, const struct consume_queue *queue, const char *topic, int64_t pos)
{
    char path[4096];
    path_make(queues, topic, queue->queue_id, pos, path, sizeof path);
    return file_layer_unlink(path);
}

/* Leaves a row of whole files. After an unclean stop a power cut may have kept a later file and not an earlier one: what
 * lies behind the hole was never promised and is made again from the log. */
static int files_check(struct consume_queues *queues, struct consume_queue *queue, const char *topic, const int64_t *list,
                       size_t *count)
{
    bool doubt = queues->trusted_pos != INT64_MAX;
    int r = 0;
    for (size_t i = 0; i < *count; i++) {
        char path[4096];
        struct stat st;
        if (list[i] % queues->file_size != 0)
            return -EUCLEAN;
        bool hole = i > 0 && list[i] != list[i - 1] + queues->file_size;
        path_make(queues, topic, queue->queue_id, list[i], path, sizeof path);
        if (stat(path, &st) < 0)
            return -errno;
        if (!hole && st.st_size == queues->file_size)
            continue;
        if (st.st_size > queues->file_size || (!doubt && (hole || i + 1 < *count)))
            return -EUCLEAN;
        if (!hole) { /* its maker died before it had its length */
            PN_CLOSE int fd = file_layer_open(path, O_RDWR, 0);
            r = fd < 0 ? fd : file_layer_ftruncate(fd, queues->file_size);
            i++;
        }
        for (size_t n = *count; r == 0 && n > i; n--)
            r = file_remove(queues, queue, topic, list[n - 1]);
        *count = i;
    }
    return r;
}

/* Is there nothing but zeros in [from, to) of the file? */
static int tail_is_zero(int fd, int64_t from, int64_t to)
{
    uint8_t block[8192];
    while (from < to) {
        int64_t data = lseek(fd, from, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            return 1;
        from = data > from ? data : from; /* a file system without holes: all is read */
        size_t part = to - from < (int64_t)sizeof block ? (size_t)(to - from) : sizeof block;
        ssize_t n = from < to ? file_layer_pread(fd, block, part, from) : 0;
        if (n < 0)
            return (int)n;
        for (ssize_t i = 0; i < n; i++)
            if (block[i])
                return 0;
        if (n == 0)
            return 1;
        from += n;
    }
    return 1;
}

static int files_remove_from(struct consume_queues *queues, struct consume_queue *queue, const char *topic, int64_t pos);

/* Nothing may stand behind the last entry that counts: it would count one day. */
static int tail_clear(struct consume_queues *queues, struct consume_queue *queue, const char *topic, int64_t end,
                      int64_t files_end)
{
    int64_t pos = end * QUEUE_ENTRY_SIZE, file_end = pos - pos % queues->file_size + queues->file_size;
    if (pos >= files_end)
        return 0;
    int r = file_use(queues, queue, topic, pos, false);
    if (r == 0)
        r = tail_is_zero(queue->fd, pos % queues->file_size, queues->file_size);
    if (r == 0)
        r = file_layer_zero(queue->fd, pos % queues->file_size, file_end - pos);
    if (r >= 0 && file_end < files_end)
        r = files_remove_from(queues, queue, topic, file_end);
    return r < 0 ? r : 0;
}

/* One behind the last entry that counts. Unclean: entries from before trusted_pos, which are all there; behind them anything
 * may lie, and halving finds the border all the same. Clean: the files end with zeros. */
static int end_find(struct consume_queues *queues, struct consume_queue *queue, const char *topic, const int64_t *list,
                    size_t count, int64_t *ret_end)
{
    int64_t first = list[0] / QUEUE_ENTRY_SIZE, per_file = queues->file_size / QUEUE_ENTRY_SIZE, end = first;
    int r = 0;
    if (queues->trusted_pos != INT64_MAX) {
        int64_t all = first + (int64_t)count * per_file;
        r = first_from_row(queues, queue, topic, first, all, queues->trusted_pos, &end);
        if (r == 0)
            r = tail_clear(queues, queue, topic, end, all * QUEUE_ENTRY_SIZE);
    }
    for (size_t i = count; queues->trusted_pos == INT64_MAX && r == 0 && i > 0; i--) {
        int64_t start = list[i - 1] / QUEUE_ENTRY_SIZE;
        r = first_from(queues, queue, topic, start, start + per_file, INT64_MAX, &end);
        if (end > start)
            break; /* files behind this one are empty */
    }
    *ret_end = end;
    return r;
}

int consume_queue_file_load(struct consume_queues *queues, struct consume_queue *queue, const char *topic)
{
    PN_FREE int64_t *list = NULL;
    size_t count = 0;
    int64_t end = 0;
    int r = files_list(queues, queue, topic, &list, &count);
    if (r == 0)
        r = files_check(queues, queue, topic, list, &count);
    if (r < 0 || count == 0)
        return r;
    queue->found_on_disk = true;
    int64_t first = list[0] / QUEUE_ENTRY_SIZE, per_file = queues->file_size / QUEUE_ENTRY_SIZE;
    r = end_find(queues, queue, topic, list, count, &end);
    int64_t min = first;
    if (r == 0 && end > first) {
        int64_t high = end < first + per_file ? end : first + per_file;
        r = first_from(queues, queue, topic, first, high, queues->log_min_pos, &min);
    }
    struct queue_entry last = {0};
    if (r == 0 && end > first)
        r = consume_queue_file_read(queues, queue, topic, end - 1, &last);
    if (r < 0)
        return r;
    queue->written_offset = queue->next_offset = end;
    queue->min_offset = min;
    queue->log_end = end > first && !entry_is_preblank(&last) ? last.log_pos + last.size : -1;
    if (queue->log_end > queues->log_end)
        queues->log_end = queue->log_end;
    consume_queue_file_close(queues, queue); /* most queues are quiet */
    return 0;
}

int consume_queue_file_remove_all(struct consume_queues *queues, struct consume_queue *queue, const char *topic)
{
    PN_FREE int64_t *list = NULL;
    size_t count = 0;
    consume_queue_file_close(queues, queue);
    int r = files_list(queues, queue, topic, &list, &count);
    for (size_t i = 0; r == 0 && i < count; i++) {
        char path[4096];
        path_make(queues, topic, queue->queue_id, list[i], path, sizeof path);
        r = file_layer_unlink(path);
    }
    queue->written_offset = queue->next_offset = queue->min_offset = 0;
    queue->log_end = -1;
    return r;
}

static int files_remove_from(struct consume_queues *queues, struct consume_queue *queue, const char *topic, int64_t pos)
{
    PN_FREE int64_t *list = NULL;
    size_t count = 0;
    int r = files_list(queues, queue, topic, &list, &count);
    for (size_t i = 0; r == 0 && i < count; i++) {
        char path[4096];
        if (list[i] < pos)
            continue;
        path_make(queues, topic, queue->queue_id, list[i], path, sizeof path);
        r = file_layer_unlink(path);
    }
    return r;
}

int consume_queue_file_cut(struct consume_queues *queues, struct consume_queue *queue, const char *topic,
                           int64_t log_end)
{
    struct queue_entry last = {0};
    if (queue->written_offset == 0 || queue->written_offset <= queue->min_offset)
        return 0;
    int r = consume_queue_file_read(queues, queue, topic, queue->written_offset - 1, &last);
    if (r < 0 || last.log_pos < log_end)
        return r;
    PN_FREE int64_t *list = NULL;
    size_t count = 0;
    int64_t end = 0;
    r = files_list(queues, queue, topic, &list, &count);
    if (r == 0)
        r = first_from_row(queues, queue, topic, count ? list[0] / QUEUE_ENTRY_SIZE : 0, queue->written_offset, log_end, &end);
    if (r < 0)
        return r;
    int64_t pos = end * QUEUE_ENTRY_SIZE;
    int64_t file_end = pos - pos % queues->file_size + queues->file_size;
    if (pos % queues->file_size != 0 || end == 0) {
        r = file_use(queues, queue, topic, pos, false);
        if (r == 0)
            r = file_layer_zero(queue->fd, pos % queues->file_size, file_end - pos);
    } else {
        file_end = pos;
        consume_queue_file_close(queues, queue);
    }
    if (r == 0)
        r = files_remove_from(queues, queue, topic, file_end);
    queue->written_offset = queue->next_offset = end;
    if (queue->min_offset > end)
        queue->min_offset = end;
    return r;
}

/* The first file of a queue that does not begin with its first message: what lies before is filled with entries that point
 * nowhere, as Apache does. */
static int preblank(struct consume_queues *queues, struct consume_queue *queue, const char *topic, int64_t queue_offset)
{
    int64_t pos = queue_offset * QUEUE_ENTRY_SIZE, from = pos - pos % queues->file_size;
    uint8_t block[QUEUE_ENTRY_SIZE * 200];
    for (size_t i = 0; i < sizeof block; i += QUEUE_ENTRY_SIZE) {
        be64_store(block + i, 0);
        be32_store(block + i + 8, QUEUE_ENTRY_PREBLANK_SIZE);
        be64_store(block + i + 12, 0);
    }
    int r = file_use(queues, queue, topic, pos, true);
    while (r == 0 && from < pos) {
        size_t part = pos - from < (int64_t)sizeof block ? (size_t)(pos - from) : sizeof block;
        r = file_layer_pwrite(queue->fd, block, part, from % queues->file_size);
        from += (int64_t)part;
    }
    queue->min_offset = queue_offset;
    return r;
}

int consume_queue_file_write(struct consume_queues *queues, struct consume_queue *queue, const char *topic,
                             int64_t queue_offset, const uint8_t *entries, size_t count)
{
    int r = 0;
    if (queue->written_offset == 0 && queue_offset > 0)
        r = preblank(queues, queue, topic, queue_offset);
    int64_t pos = queue_offset * QUEUE_ENTRY_SIZE;
    size_t size = count * QUEUE_ENTRY_SIZE;
    while (r == 0 && size > 0) {
        int64_t left = queues->file_size - pos % queues->file_size;
        size_t part = (int64_t)size < left ? size : (size_t)left;
        r = file_use(queues, queue, topic, pos, true);
        if (r == 0)
            r = file_layer_pwrite(queue->fd, entries, part, pos % queues->file_size);
        entries += part;
        pos += (int64_t)part;
        size -= part;
    }
    return r;
}

int consume_queue_file_dup(struct consume_queues *queues, struct consume_queue *queue, const char *topic)
{
    if (queue->written_offset == 0)
        return -ENOENT;
    int r = file_use(queues, queue, topic, (queue->written_offset - 1) * QUEUE_ENTRY_SIZE, false);
    if (r < 0)
        return r;
    int fd = fcntl(queue->fd, F_DUPFD_CLOEXEC, 3);
    return fd < 0 ? -errno : fd;
}
