/* See queue_files.h. The inspecting program, its one thread. */
#include "queue_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "broker/format/layout.h"

enum { WINDOW_ENTRIES = 200 };

struct queue *queue_files_get(struct queue_files *files, struct bytes topic, int32_t queue_id)
{
    char key[512] = {0};
    size_t size = topic.size + 1 + sizeof queue_id;
    if (size > sizeof key)
        return NULL;
    memcpy(key, topic.data, topic.size);
    memcpy(key + topic.size + 1, &queue_id, sizeof queue_id);
    struct queue *queue = NULL;
    HASH_FIND(hh, files->queues, key, size, queue);
    if (queue)
        return queue;
    queue = calloc(1, sizeof *queue + size);
    if (!queue)
        return NULL;
    memcpy(queue->key, key, size);
    queue->topic = queue->key;
    queue->queue_id = queue_id;
    queue->all = files;
    queue->next_offset = queue->first_offset = -1;
    HASH_ADD(hh, files->queues, key, size, queue);
    return queue;
}

int queue_missing_add(struct queue *queue, int64_t offset, const struct queue_entry_bytes *entry)
{
    if (queue->missing_count == queue->missing_room) {
        size_t room = queue->missing_room ? queue->missing_room * 2 : 64;
        struct queue_missing *grown = realloc(queue->missing, room * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        queue->missing = grown;
        queue->missing_room = room;
    }
    queue->missing[queue->missing_count++] = (struct queue_missing){offset, *entry};
    return 0;
}

bool queue_topic_on_disk(const struct queue *queue)
{
    for (const struct queue *other = queue->all->queues; other; other = other->hh.next)
        if (other->on_disk && strcmp(other->topic, queue->topic) == 0)
            return true;
    return false;
}

static int compare_pos(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int numbers_list(const char *folder, int64_t **ret_list, size_t *ret_count)
{
    DIR *dir = opendir(folder);
    if (!dir)
        return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
    struct dirent *entry;
    int r = 0;
    while ((entry = readdir(dir))) {
        char *end;
        int64_t number = strtoll(entry->d_name, &end, 10);
        if (*end || end == entry->d_name || number < 0)
            continue;
        int64_t *grown = realloc(*ret_list, (*ret_count + 1) * sizeof **ret_list);
        if (!grown) {
            r = -ENOMEM;
            break;
        }
        *ret_list = grown;
        grown[(*ret_count)++] = number;
    }
    closedir(dir);
    if (*ret_count)
        qsort(*ret_list, *ret_count, sizeof **ret_list, compare_pos);
    return r;
}

static int file_path(const struct queue *queue, int64_t file_pos, char *to, size_t size)
{
    int n = snprintf(to, size, "%s/%s/%" PRId32 "/%0*" PRId64, queue->all->folder, queue->topic, queue->queue_id,
                     FILE_NAME_DIGITS, file_pos);
    return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

/* NULL, or what is wrong with the row of a queue's files. */
static const char *row_check(struct queue *queue, const int64_t *list, size_t count)
{
    struct queue_files *files = queue->all;
    for (size_t i = 0; i < count; i++) {
        char path[4096];
        struct stat st;
        if (file_path(queue, list[i], path, sizeof path) < 0 || stat(path, &st) < 0)
            return "a file cannot be looked at";
        if (files->file_size == 0)
            files->file_size = st.st_size;
        if (files->file_size <= 0 || files->file_size % QUEUE_ENTRY_SIZE)
            return "a file's length is no multiple of an entry's";
        if (st.st_size != files->file_size && (i + 1 < count || st.st_size > files->file_size))
            return "files of different length";
        if (list[i] % files->file_size || (i > 0 && list[i] != list[i - 1] + files->file_size))
            return "a hole in the row of files";
    }
    return NULL;
}

static bool entry_valid(const struct queue_entry_bytes *entry)
{
    return entry->log_pos >= 0 && entry->size > 0;
}

/* Entries end with zeros: halving finds where. */
static int64_t written_find(struct queue *queue)
{
    int64_t low = queue->first_pos / QUEUE_ENTRY_SIZE, high = queue->end_pos / QUEUE_ENTRY_SIZE;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        struct queue_entry_bytes entry;
        queue->window_count = 0;
        if (queue_entry_read(queue, middle, &entry) && entry_valid(&entry))
            low = middle + 1;
        else
            high = middle;
    }
    queue->window_count = 0;
    return low;
}

static int queue_load(struct queue_files *files, const char *topic, int32_t queue_id,
                      void (*problem)(void *context, const char *text), void *context)
{
    PN_FREE int64_t *list = NULL;
    size_t count = 0;
    char path[4096];
    snprintf(path, sizeof path, "%s/%s/%" PRId32, files->folder, topic, queue_id);
    int r = numbers_list(path, &list, &count);
    if (r < 0 || count == 0)
        return r;
    struct queue *queue = queue_files_get(files, bytes_of(topic), queue_id);
    if (!queue)
        return -ENOMEM;
    const char *wrong = row_check(queue, list, count);
    if (wrong) {
        char text[4608];
        snprintf(text, sizeof text, "%s: %s", path, wrong);
        problem(context, text);
        return 0;
    }
    queue->on_disk = true;
    queue->first_pos = list[0];
    queue->end_pos = list[count - 1] + files->file_size;
    queue->written_offset = written_find(queue);
    return 0;
}

int queue_files_open(const char *folder, struct queue_files *ret_files,
                     void (*problem)(void *context, const char *text), void *context)
{
    *ret_files = (struct queue_files){.folder = strdup(folder)};
    DIR *dir = opendir(folder);
    if (!dir)
        return errno == ENOENT ? 0 : -errno;
    int r = 0;
    struct dirent *entry;
    while (r == 0 && (entry = readdir(dir))) {
        if (entry->d_name[0] == '.')
            continue;
        PN_FREE int64_t *ids = NULL;
        size_t count = 0;
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        r = numbers_list(path, &ids, &count);
        for (size_t i = 0; r == 0 && i < count; i++)
            if (ids[i] <= INT32_MAX)
                r = queue_load(ret_files, entry->d_name, (int32_t)ids[i], problem, context);
    }
    closedir(dir);
    return r;
}

void queue_files_close(struct queue_files *files)
{
    struct queue *queue, *next;
    HASH_ITER(hh, files->queues, queue, next)
    {
        HASH_DEL(files->queues, queue);
        free(queue->window);
        free(queue->missing);
        free(queue);
    }
    free(files->folder);
    *files = (struct queue_files){0};
}

static int window_fill(struct queue *queue, int64_t offset)
{
    char path[4096];
    int64_t pos = offset * QUEUE_ENTRY_SIZE, file_pos = pos - pos % queue->all->file_size;
    if (!queue->window)
        queue->window = malloc(WINDOW_ENTRIES * QUEUE_ENTRY_SIZE);
    int r = queue->window ? file_path(queue, file_pos, path, sizeof path) : -ENOMEM;
    if (r < 0)
        return r;
    PN_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n = pread(fd, queue->window, WINDOW_ENTRIES * QUEUE_ENTRY_SIZE, pos - file_pos);
    if (n < 0)
        return -errno;
    queue->window_offset = offset;
    queue->window_count = n / QUEUE_ENTRY_SIZE;
    return 0;
}

bool queue_entry_read(struct queue *queue, int64_t offset, struct queue_entry_bytes *ret_entry)
{
    int64_t pos = offset * QUEUE_ENTRY_SIZE;
    if (!queue->on_disk || pos < queue->first_pos || pos >= queue->end_pos)
        return false;
    bool inside = offset >= queue->window_offset && offset < queue->window_offset + queue->window_count;
    if (!inside && (window_fill(queue, offset) < 0 || queue->window_count == 0))
        return false;
    const uint8_t *data = queue->window + (offset - queue->window_offset) * QUEUE_ENTRY_SIZE;
    *ret_entry = (struct queue_entry_bytes){.log_pos = (int64_t)be64_load(data),
                                            .size = (int32_t)be32_load(data + 8),
                                            .tags_code = (int64_t)be64_load(data + 12)};
    return true;
}

static int folders_make(const struct queue *queue)
{
    char path[4096];
    snprintf(path, sizeof path, "%s", queue->all->folder);
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return -errno;
    snprintf(path, sizeof path, "%s/%s", queue->all->folder, queue->topic);
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return -errno;
    snprintf(path, sizeof path, "%s/%s/%" PRId32, queue->all->folder, queue->topic, queue->queue_id);
    return mkdir(path, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

int queue_entry_write(struct queue *queue, int64_t offset, const struct queue_entry_bytes *entry)
{
    char path[4096];
    int64_t pos = offset * QUEUE_ENTRY_SIZE, file_pos = pos - pos % queue->all->file_size;
    int r = file_path(queue, file_pos, path, sizeof path);
    if (r == 0)
        r = folders_make(queue);
    if (r < 0)
        return r;
    PN_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (st.st_size < queue->all->file_size && ftruncate(fd, queue->all->file_size) < 0)
        return -errno;
    uint8_t data[QUEUE_ENTRY_SIZE];
    be64_store(data, (uint64_t)entry->log_pos);
    be32_store(data + 8, (uint32_t)entry->size);
    be64_store(data + 12, (uint64_t)entry->tags_code);
    if (pwrite(fd, data, sizeof data, pos - file_pos) != (ssize_t)sizeof data)
        return errno ? -errno : -EIO;
    queue->window_count = 0;
    if (!queue->on_disk) {
        queue->on_disk = true;
        queue->first_pos = file_pos;
        queue->end_pos = file_pos;
    }
    if (file_pos < queue->first_pos)
        queue->first_pos = file_pos;
    if (file_pos + queue->all->file_size > queue->end_pos)
        queue->end_pos = file_pos + queue->all->file_size;
    return 0;
}

int64_t queue_files_log_end(struct queue_files *files, int64_t files_end)
{
    int64_t most = 0;
    for (struct queue *queue = files->queues; queue; queue = queue->hh.next) {
        struct queue_entry_bytes entry;
        queue->window_count = 0;
        if (queue_entry_read(queue, queue->written_offset - 1, &entry) && entry_valid(&entry) &&
            entry.size != (int32_t)QUEUE_ENTRY_PREBLANK_SIZE && entry.log_pos < files_end && entry.log_pos + entry.size <= files_end && entry.log_pos + entry.size > most)
            most = entry.log_pos + entry.size;
        queue->window_count = 0;
    }
    return most;
}
