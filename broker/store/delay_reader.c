/* The thread that reads due messages (see delay_reader.h), so that the deciding thread of the store never waits for a page
 * that has gone to the disk in the meantime. It opens files by name, as a front does, and touches nothing but its job: the
 * mutex hands it over. A file or record that is not there is lost; an error of the disk is tried again by the asker. */
#include "delay_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/panic.h"
#include "base/thread.h"
#include "broker/format/record.h"
#include "commit_log.h"
#include "delay.h"
#include "msg/msg.h"

enum { RECORD_MOST = MSG_BODY_MAX + RECORD_OVER_BODY_MAX };

struct delay_reader {
    const struct store_config *config;
    const char *log_folder;
    pthread_t thread;
    bool thread_runs;
    int event_fd;
    sd_event_source *source;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    bool busy, stop;
    struct delay_job job; /* the thread's while busy */
    int log_fd;           /* the file read last */
    int64_t log_fd_pos;
};

static int read_at(int fd, void *data, size_t size, int64_t at)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = pread(fd, (uint8_t *)data + done, size - done, at + (int64_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (int)done;
}

int delay_read_entries(const struct store_config *config, unsigned level, int64_t offset, struct delay_entry *entries,
                       unsigned most)
{
    uint8_t bytes[DELAY_READ_ENTRIES * QUEUE_ENTRY_SIZE];
    char path[4096];
    int64_t at = offset * QUEUE_ENTRY_SIZE % config->consume_queue_file_size;
    int64_t file_pos = offset * QUEUE_ENTRY_SIZE - at;
    int64_t left = (config->consume_queue_file_size - at) / QUEUE_ENTRY_SIZE;
    if (most > DELAY_READ_ENTRIES)
        most = DELAY_READ_ENTRIES;
    if (most > left)
        most = (unsigned)left;
    int n = snprintf(path, sizeof path, "%s/consumequeue/" DELAY_TOPIC "/%u/%020" PRId64, config->store_root, level - 1,
                     file_pos);
    if (n < 0 || (size_t)n >= sizeof path)
        return -ENAMETOOLONG;
    PN_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    n = read_at(fd, bytes, (size_t)most * QUEUE_ENTRY_SIZE, at);
    for (int i = 0; i < n / QUEUE_ENTRY_SIZE; i++)
        entries[i] = (struct delay_entry){.log_pos = (int64_t)be64_load(bytes + i * QUEUE_ENTRY_SIZE),
                                          .size = be32_load(bytes + i * QUEUE_ENTRY_SIZE + 8),
                                          .tags_code = (int64_t)be64_load(bytes + i * QUEUE_ENTRY_SIZE + 12)};
    return n < 0 ? n : n / QUEUE_ENTRY_SIZE;
}

static int open_log(struct delay_reader *reader, int64_t pos)
{
    int64_t file_pos = pos - pos % reader->config->commit_log_file_size;
    if (reader->log_fd >= 0 && reader->log_fd_pos == file_pos)
        return 0;
    pn_close_p(&reader->log_fd);
    char path[4096];
    commit_log_file_path(reader->log_folder, file_pos, path, sizeof path);
    reader->log_fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    reader->log_fd_pos = file_pos;
    return reader->log_fd < 0 ? -errno : 0;
}

/* 0, also if there is no such record any more; else the disk's error. */
static int read_record(struct delay_reader *reader, const struct delay_entry *entry, struct delay_item *item)
{
    struct delay_job *job = &reader->job;
    struct record record;
    int64_t at = entry->log_pos % reader->config->commit_log_file_size;
    if (entry->log_pos < job->log_min_pos || entry->size < RECORD_FIXED_SIZE || entry->size > RECORD_MOST ||
        at + (int64_t)entry->size > reader->config->commit_log_file_size)
        return 0;
    int r = open_log(reader, entry->log_pos);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    r = read_at(reader->log_fd, job->bytes + job->used, entry->size, at);
    if (r < 0)
        return r;
    if ((uint32_t)r != entry->size || record_parse(job->bytes + job->used, entry->size, entry->log_pos, entry->size, true,
                                                   &record) != RECORD_MESSAGE)
        return 0;
    item->at = job->used;
    item->size = entry->size;
    job->used += entry->size;
    return 0;
}

static bool has_room(struct delay_job *job, size_t size)
{
    if (job->used > 0 && job->used + size > DELAY_READ_BYTES)
        return false;
    if (size > RECORD_MOST || job->used + size <= job->capacity)
        return true;
    size_t capacity = size > DELAY_READ_BYTES ? size : DELAY_READ_BYTES;
    uint8_t *grown = realloc(job->bytes, capacity);
    if (!grown)
        PANIC("out of memory");
    job->bytes = grown;
    job->capacity = capacity;
    return true;
}

static void work(struct delay_reader *reader)
{
    struct delay_job *job = &reader->job;
    struct delay_entry entries[DELAY_READ_ENTRIES];
    job->error = 0;
    job->count = 0;
    job->used = 0;
    job->due_ms = INT64_MAX;
    int64_t wanted = job->until - job->from;
    if (wanted <= 0)
        return;
    int found = delay_read_entries(reader->config, job->level, job->from, entries,
                                   wanted < DELAY_READ_ENTRIES ? (unsigned)wanted : DELAY_READ_ENTRIES);
    int64_t now_ms = clock_realtime_ms();
    if (found <= 0)
        job->error = found < 0 ? found : -ENODATA;
    for (int i = 0; i < found; i++) {
        const struct delay_entry *entry = &entries[i];
        /* Later than it can be: the clock was set back since. */
        if (entry->tags_code > now_ms && entry->tags_code <= now_ms + job->delay_ms) {
            job->due_ms = entry->tags_code;
            return;
        }
        if (!has_room(job, entry->size))
            break;
        struct delay_item *item = &job->items[job->count];
        *item = (struct delay_item){.queue_offset = job->from + i, .log_pos = entry->log_pos};
        job->error = read_record(reader, entry, item);
        if (job->error < 0)
            break;
        job->count++;
    }
    job->due_ms = 0;
}

static void *run(void *argument)
{
    struct delay_reader *reader = argument;
    pthread_setname_np(pthread_self(), "delay-reader");
    pthread_mutex_lock(&reader->mutex);
    for (;;) {
        while (!reader->busy && !reader->stop)
            pthread_cond_wait(&reader->wake, &reader->mutex);
        if (reader->stop)
            break;
        pthread_mutex_unlock(&reader->mutex);
        work(reader);
        pthread_mutex_lock(&reader->mutex);
        reader->busy = false;
        eventfd_write(reader->event_fd, 1);
    }
    pthread_mutex_unlock(&reader->mutex);
    return NULL;
}

/* It only ends the loop's sleep: the next turn looks. */
static int on_done(sd_event_source *source, int fd, uint32_t events, void *context)
{
    eventfd_t count;
    eventfd_read(fd, &count);
    return 0;
}

int delay_reader_start(struct store *store, struct delay_reader **ret_reader)
{
    struct delay_reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return -ENOMEM;
    reader->config = &store->config;
    reader->log_folder = commit_log_folder(store->commit_log);
    reader->log_fd = -1;
    pthread_mutex_init(&reader->mutex, NULL);
    pthread_cond_init(&reader->wake, NULL);
    reader->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int r = reader->event_fd < 0 ? -errno : 0;
    if (r == 0)
        r = sd_event_add_io(store->event, &reader->source, reader->event_fd, EPOLLIN, on_done, reader);
    if (r >= 0)
        r = thread_start(&reader->thread, run, reader);
    if (r < 0) {
        delay_reader_stop(reader);
        return r;
    }
    reader->thread_runs = true;
    *ret_reader = reader;
    return 0;
}

void delay_reader_stop(struct delay_reader *reader)
{
    if (!reader)
        return;
    if (reader->thread_runs) {
        pthread_mutex_lock(&reader->mutex);
        reader->stop = true;
        pthread_cond_signal(&reader->wake);
        pthread_mutex_unlock(&reader->mutex);
        pthread_join(reader->thread, NULL);
    }
    sd_event_source_disable_unref(reader->source);
    pn_close_p(&reader->event_fd);
    pn_close_p(&reader->log_fd);
    pthread_cond_destroy(&reader->wake);
    pthread_mutex_destroy(&reader->mutex);
    free(reader->job.bytes);
    free(reader);
}

struct delay_job *delay_reader_job(struct delay_reader *reader)
{
    pthread_mutex_lock(&reader->mutex);
    bool busy = reader->busy;
    pthread_mutex_unlock(&reader->mutex);
    return busy ? NULL : &reader->job;
}

void delay_reader_submit(struct delay_reader *reader)
{
    pthread_mutex_lock(&reader->mutex);
    pn_assert(!reader->busy);
    reader->busy = true;
    pthread_cond_signal(&reader->wake);
    pthread_mutex_unlock(&reader->mutex);
}
