/* The flush threads (see flush.h): one for the log, which SYNC_FLUSH answers wait for, and one for everything else, so that
 * a sync of many queue files never holds an answer up. A failed fdatasync is final: the kernel has dropped or cleaned the pages, a second try
 * that succeeds would prove nothing, so the store stops writing and says why. */
#include "flush.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/panic.h"
#include "base/thread.h"
#include "commit_log.h"
#include "fault/fault.h"
#include "file_layer.h"

enum { OPEN_AGAIN_MS = 100, CHECKPOINT_INTERVAL_MS = 1000 };

struct index_sync {
    struct index_sync *next;
    struct flush_index what;
    char path[];
};

struct flush {
    pthread_t log_thread, files_thread;
    unsigned threads;
    pthread_mutex_t mutex;
    pthread_cond_t log_cond, files_cond;
    /* under the mutex */
    bool stop, log_ended;
    int64_t wanted_pos, wanted_ms;
    int *fds;
    unsigned fd_count;
    bool queues_everything, queues_due;
    int64_t queues_ms;
    struct index_sync *syncs, **syncs_end;
    struct checkpoint checkpoint;
    int64_t index_failed;

    _Atomic int64_t done_pos;
    _Atomic int error;
    _Atomic int64_t error_pos;
    _Atomic bool queues_failed;
    int event_fd;
    sd_event_source *source;

    /* the log thread's */
    char *log_folder;
    int64_t file_size, file_pos;
    int file_fd;
    bool name_synced;
    struct board *board;

    /* the files thread's */
    char *root;
    struct checkpoint written;
    int64_t checkpoint_at_ms;
    bool sync_all, index_named;
};

/* 0, or why it cannot be opened now: that loses nothing and may be tried again. */
static int log_file_open(struct flush *flush, int64_t file_pos)
{
    if (flush->file_fd >= 0 && flush->file_pos == file_pos)
        return 0;
    char path[4096];
    if (flush->file_fd >= 0)
        close(flush->file_fd);
    commit_log_file_path(flush->log_folder, file_pos, path, sizeof path);
    flush->file_fd = file_layer_open(path, O_RDWR, 0);
    flush->file_pos = file_pos;
    flush->name_synced = false;
    if (flush->file_fd >= 0)
        return 0;
    log_warning("%s: cannot be opened for a sync: %s; tried again", path, strerror(-flush->file_fd));
    return flush->file_fd;
}

static int log_file_sync(struct flush *flush)
{
    if (!flush->name_synced) { /* the file's name must last as its bytes do */
        int r = file_layer_sync_folder(flush->log_folder);
        if (r < 0)
            return r;
        flush->name_synced = true;
    }
    int64_t begin_ns = clock_monotonic_ns();
    board_set(flush->board, COUNTER_FLUSH_SINCE_NS, (uint64_t)begin_ns);
    FAULT_POINT(STORE_FLUSH_BEFORE);
    int r = file_layer_fdatasync(flush->file_fd);
    board_set(flush->board, COUNTER_FLUSH_SINCE_NS, 0);
    FAULT_POINT(STORE_FLUSH_AFTER);
    board_set(flush->board, COUNTER_FLUSH_NS_LAST, (uint64_t)(clock_monotonic_ns() - begin_ns));
    board_add(flush->board, COUNTER_FLUSHES, 1);
    return r;
}

static void log_sync(struct flush *flush, int64_t pos, int64_t store_ms)
{
    static const struct timespec pause = {0, OPEN_AGAIN_MS * 1000000};
    int64_t done = flush_done_pos(flush), at = done - done % flush->file_size;
    int r = 0;
    for (; r == 0 && at < pos; at += flush->file_size) {
        if (log_file_open(flush, at) < 0) {
            nanosleep(&pause, NULL);
            return;
        }
        r = log_file_sync(flush);
    }
    if (r < 0) {
        at -= flush->file_size;
        atomic_store_explicit(&flush->error_pos, at > done ? at : done, memory_order_relaxed);
        atomic_store_explicit(&flush->error, r, memory_order_release);
    } else {
        atomic_store_explicit(&flush->done_pos, pos, memory_order_release);
        pthread_mutex_lock(&flush->mutex);
        flush->checkpoint.physic_ms = store_ms;
        pthread_cond_signal(&flush->files_cond);
        pthread_mutex_unlock(&flush->mutex);
    }
    uint64_t one = 1;
    if (write(flush->event_fd, &one, sizeof one) < 0)
        log_warning("flush: eventfd: %s", strerror(errno));
}

static void queues_sync(struct flush *flush, int *fds, unsigned count, bool everything, int64_t store_ms)
{
    int r = everything ? file_layer_sync_all(flush->root) : 0;
    for (unsigned i = 0; i < count; i++) {
        int r1 = file_layer_fdatasync(fds[i]);
        r = r < 0 ? r : r1;
        close(fds[i]);
    }
    free(fds);
    if (r < 0) {
        atomic_store_explicit(&flush->queues_failed, true, memory_order_release);
        log_error("consume queues: sync failed: %s; from now on the checkpoint vouches for no more of them, and the next start "
                  "makes them again from the log", strerror(-r));
    }
    if (atomic_load(&flush->queues_failed)) /* a later sync that succeeds says nothing of the pages that are lost */
        return;
    pthread_mutex_lock(&flush->mutex);
    flush->checkpoint.logics_ms = store_ms;
    pthread_mutex_unlock(&flush->mutex);
}

/* The checkpoint no longer speaks of this file, nor of later ones. */
static void index_distrust(struct flush *flush, int64_t name)
{
    struct checkpoint *checkpoint = &flush->checkpoint;
    if (checkpoint->index.name >= name)
        checkpoint->index.name = checkpoint->index.count = 0;
    if (checkpoint->index.full_name >= name)
        checkpoint->index.full_name = name - 1;
}

/* `r`: how the names fared. */
static void index_sync(struct flush *flush, const struct index_sync *sync, int r)
{
    PN_CLOSE int fd = file_layer_open(sync->path, O_RDWR, 0);
    if (fd == -ENOENT) /* removed meanwhile */
        return;
    if (r == 0)
        r = fd < 0 ? fd : file_layer_fdatasync(fd);
    pthread_mutex_lock(&flush->mutex);
    struct checkpoint *checkpoint = &flush->checkpoint;
    if (r < 0) {
        index_distrust(flush, sync->what.name);
        if (!flush->index_failed || sync->what.name < flush->index_failed)
            flush->index_failed = sync->what.name;
    } else if (sync->what.full_ms >= 0) {
        checkpoint->index_ms = checkpoint->index.full_ms = sync->what.full_ms;
        checkpoint->index.full_name = sync->what.name;
    } else {
        checkpoint->index.name = sync->what.name;
        checkpoint->index.count = sync->what.count;
        checkpoint->index.full_ms = checkpoint->index_ms;
    }
    pthread_mutex_unlock(&flush->mutex);
    if (r < 0)
        log_warning("index file %s: sync failed: %s", sync->path, strerror(-r));
}

static void index_syncs_run(struct flush *flush, struct index_sync *syncs)
{
    PN_FREE char *folder = NULL;
    if (!syncs)
        return;
    int r = asprintf(&folder, "%s/index", flush->root) < 0 ? -ENOMEM : file_layer_sync_folder(folder);
    if (r == 0 && !flush->index_named)
        r = file_layer_sync_folder(flush->root);
    flush->index_named = r == 0;
    for (struct index_sync *next; syncs; syncs = next) {
        next = syncs->next;
        index_sync(flush, syncs, r);
        free(syncs);
    }
}

static void checkpoint_save(struct flush *flush, const struct checkpoint *checkpoint, bool now)
{
    if (memcmp(checkpoint, &flush->written, sizeof flush->written) == 0)
        return;
    if (!now && clock_monotonic_ms() - flush->checkpoint_at_ms < CHECKPOINT_INTERVAL_MS)
        return;
    if (flush->sync_all) {
        if (file_layer_sync_all(flush->root) < 0)
            return;
        flush->sync_all = false;
    }
    flush->checkpoint_at_ms = clock_monotonic_ms();
    int r = checkpoint_write(flush->root, checkpoint);
    if (r < 0)
        log_warning("checkpoint: %s", strerror(-r));
    else
        flush->written = *checkpoint;
}

static void *log_main(void *context)
{
    struct flush *flush = context;
    pthread_mutex_lock(&flush->mutex);
    for (;;) {
        while (!flush->stop && (flush->wanted_pos <= flush_done_pos(flush) || flush_error(flush)))
            pthread_cond_wait(&flush->log_cond, &flush->mutex);
        int64_t pos = flush->wanted_pos, store_ms = flush->wanted_ms;
        if (pos <= flush_done_pos(flush) || flush_error(flush))
            break;
        pthread_mutex_unlock(&flush->mutex);
        log_sync(flush, pos, store_ms);
        pthread_mutex_lock(&flush->mutex);
    }
    flush->log_ended = true;
    pthread_cond_signal(&flush->files_cond);
    pthread_mutex_unlock(&flush->mutex);
    return NULL;
}

/* Waits for work, at most until an unsaved checkpoint is due. Under the mutex. */
static void files_wait(struct flush *flush)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += CHECKPOINT_INTERVAL_MS / 1000;
    while (!flush->log_ended && !flush->queues_due && !flush->syncs) {
        bool unsaved = memcmp(&flush->checkpoint, &flush->written, sizeof flush->written) != 0;
        if (!unsaved)
            pthread_cond_wait(&flush->files_cond, &flush->mutex);
        else if (pthread_cond_timedwait(&flush->files_cond, &flush->mutex, &until) == ETIMEDOUT)
            return;
    }
}

static void *files_main(void *context)
{
    struct flush *flush = context;
    for (bool stop = false; !stop;) {
        pthread_mutex_lock(&flush->mutex);
        files_wait(flush);
        int64_t queues_ms = flush->queues_ms;
        int *fds = flush->fds;
        unsigned count = flush->fd_count;
        bool due = flush->queues_due, everything = flush->queues_everything;
        stop = flush->log_ended;
        struct index_sync *syncs = flush->syncs;
        flush->syncs = NULL;
        flush->syncs_end = &flush->syncs;
        flush->fds = NULL;
        flush->fd_count = 0;
        flush->queues_due = flush->queues_everything = false;
        pthread_mutex_unlock(&flush->mutex);
        if (due)
            queues_sync(flush, fds, count, everything, queues_ms);
        index_syncs_run(flush, syncs);
        pthread_mutex_lock(&flush->mutex);
        struct checkpoint checkpoint = flush->checkpoint;
        pthread_mutex_unlock(&flush->mutex);
        checkpoint_save(flush, &checkpoint, stop);
    }
    return NULL;
}

static int on_done(sd_event_source *source, int fd, uint32_t events, void *context)
{
    return 0; /* the turn looks at done_pos itself */
}

static int flush_prepare(struct flush *flush, struct store *store)
{
    pthread_condattr_t attributes;
    pthread_mutex_init(&flush->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&flush->log_cond, &attributes);
    pthread_cond_init(&flush->files_cond, &attributes);
    pthread_condattr_destroy(&attributes);
    flush->file_fd = -1;
    flush->syncs_end = &flush->syncs;
    flush->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (flush->event_fd < 0)
        return -errno;
    flush->root = strdup(store->config.store_root);
    flush->log_folder = strdup(store->config.commit_log_dir);
    if (!flush->root || !flush->log_folder)
        return -ENOMEM;
    flush->file_size = store->config.commit_log_file_size;
    flush->board = store->board;
    board_set(flush->board, COUNTER_FLUSH_SINCE_NS, 0); /* a predecessor may have died in the middle of one */
    return sd_event_add_io(store->event, &flush->source, flush->event_fd, EPOLLIN | EPOLLET, on_done, flush);
}

static void flush_free(struct flush *flush)
{
    sd_event_source_disable_unref(flush->source);
    if (flush->event_fd >= 0)
        close(flush->event_fd);
    if (flush->file_fd >= 0)
        close(flush->file_fd);
    pthread_mutex_destroy(&flush->mutex);
    pthread_cond_destroy(&flush->log_cond);
    pthread_cond_destroy(&flush->files_cond);
    free(flush->root);
    free(flush->log_folder);
    free(flush);
}

static int threads_start(struct flush *flush)
{
    int r = thread_start(&flush->log_thread, log_main, flush);
    flush->threads = r == 0;
    if (r == 0)
        r = thread_start(&flush->files_thread, files_main, flush);
    flush->threads += r == 0;
    return r;
}

int flush_start(struct store *store, int64_t done_pos, const struct checkpoint *checkpoint, bool sync_all,
                struct flush **ret_flush)
{
    struct flush *flush = calloc(1, sizeof *flush);
    if (!flush)
        return -ENOMEM;
    int r = flush_prepare(flush, store);
    if (r >= 0) {
        atomic_store(&flush->done_pos, done_pos);
        flush->wanted_pos = done_pos;
        flush->checkpoint_at_ms = clock_monotonic_ms();
        flush->checkpoint = flush->written = *checkpoint;
        flush->sync_all = sync_all;
        r = threads_start(flush);
    }
    if (r < 0) {
        flush_stop(flush, NULL);
        return r;
    }
    *ret_flush = flush;
    return 0;
}

void flush_stop(struct flush *flush, bool *ret_queues_failed)
{
    if (!flush)
        return;
    pthread_mutex_lock(&flush->mutex);
    flush->stop = true;
    pthread_cond_signal(&flush->log_cond);
    pthread_mutex_unlock(&flush->mutex);
    if (flush->threads > 0)
        pthread_join(flush->log_thread, NULL);
    if (flush->threads > 1)
        pthread_join(flush->files_thread, NULL);
    if (ret_queues_failed)
        *ret_queues_failed = atomic_load(&flush->queues_failed);
    flush_free(flush);
}

void flush_log(struct flush *flush, int64_t pos, int64_t store_ms)
{
    pthread_mutex_lock(&flush->mutex);
    if (pos > flush->wanted_pos) {
        flush->wanted_pos = pos;
        flush->wanted_ms = store_ms;
        pthread_cond_signal(&flush->log_cond);
    }
    pthread_mutex_unlock(&flush->mutex);
}

void flush_queues(struct flush *flush, int *fds, unsigned count, bool everything, int64_t store_ms)
{
    pthread_mutex_lock(&flush->mutex);
    int *both = fds;
    if (flush->fds && fds) { /* the disk is slow: add to what waits */
        both = realloc(flush->fds, (flush->fd_count + count + 1) * sizeof *both);
        if (both) {
            memcpy(both + flush->fd_count, fds, count * sizeof *fds);
        } else {
            everything = true;
            both = flush->fds;
            for (unsigned i = 0; i < count; i++)
                close(fds[i]);
            count = 0;
        }
        free(fds);
    } else if (flush->fds) {
        both = flush->fds;
    }
    flush->fds = both;
    flush->fd_count += count;
    flush->queues_due = true;
    flush->queues_everything = flush->queues_everything || everything;
    flush->queues_ms = store_ms;
    pthread_cond_signal(&flush->files_cond);
    pthread_mutex_unlock(&flush->mutex);
}

void flush_index(struct flush *flush, const char *path, const struct flush_index *what)
{
    size_t size = strlen(path) + 1;
    struct index_sync *sync = malloc(sizeof *sync + size);
    if (!sync)
        PANIC("out of memory");
    sync->next = NULL;
    sync->what = *what;
    memcpy(sync->path, path, size);
    pthread_mutex_lock(&flush->mutex);
    *flush->syncs_end = sync;
    flush->syncs_end = &sync->next;
    pthread_cond_signal(&flush->files_cond);
    pthread_mutex_unlock(&flush->mutex);
}

int64_t flush_index_failed(struct flush *flush)
{
    pthread_mutex_lock(&flush->mutex);
    int64_t name = flush->index_failed;
    flush->index_failed = 0;
    pthread_mutex_unlock(&flush->mutex);
    return name;
}

int64_t flush_done_pos(const struct flush *flush)
{
    return atomic_load_explicit(&((struct flush *)flush)->done_pos, memory_order_acquire);
}

int flush_error(const struct flush *flush)
{
    return atomic_load_explicit(&((struct flush *)flush)->error, memory_order_acquire);
}

int64_t flush_error_pos(const struct flush *flush)
{
    return atomic_load_explicit(&((struct flush *)flush)->error_pos, memory_order_relaxed);
}
