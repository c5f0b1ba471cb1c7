/* See retention.h; the rules are Apache's (store facts 6). Runs in the store: decisions on the deciding thread, by a timer
 * of its own (once a second; five times while the disk is full or nearly so, so that writing goes on soon after space returns); the
 * search in the queues' files on a thread, which touches only the list it was given. Nothing here is fatal: what cannot
 * be removed is logged and stays. */
#include "retention.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/panic.h"
#include "base/thread.h"
#include "commit_log.h"
#include "consume_queue.h"
#include "flush.h"
#include "index.h"
#include "peers.h"
#include "queue_trim.h"
#include "remover.h"
#include "topics.h"

enum {
    LOOK_MS = 1000,
    LOOK_FULL_MS = 200,
    WAIT_MS = 50,
    MANUAL_PASSES = 20,
    TELL_MS = 60000,
};

enum step { STEP_IDLE, STEP_FINDING, STEP_WAITING };

struct retention {
    struct store *store;
    struct remover *remover, *own_remover;
    sd_event_source *timer, *found_source;
    struct disk_space space;
    unsigned manual_passes;
    int64_t pass_at_ms, told_ms;

    enum step step;
    int64_t new_min_pos, waiting_since_ms;
    bool forced;
    struct queue_trims trims; /* the thread's while FINDING */
    pthread_t thread;
    bool thread_runs, stop;
    size_t failed; /* of the thread */
    int found_fd;
};

bool retention_disk_full(const struct retention *retention)
{
    return retention && retention->space.level == DISK_FULL;
}

struct disk_space retention_space(const struct retention *retention)
{
    return retention ? retention->space : (struct disk_space){0};
}

void retention_clean_now(struct retention *retention)
{
    retention->manual_passes = MANUAL_PASSES;
    retention->pass_at_ms = 0;
    sd_event_source_set_time_relative(retention->timer, 0);
}

/* The disk. */

static void status_tell(struct retention *retention)
{
    char text[160] = "";
    if (retention->space.level == DISK_FULL)
        snprintf(text, sizeof text, "disk full (%u %% used, %" PRId64 " MiB free): messages are refused",
                 retention->space.used_percent, retention->space.free_bytes >> 20);
    worker_status(&retention->store->worker, text);
}

static void space_look(struct retention *retention)
{
    struct store *store = retention->store;
    enum disk_level before = retention->space.level;
    int r = disk_space_look(&store->config, &retention->space);
    int64_t now_ms = clock_monotonic_ms();
    if (r < 0) {
        if (now_ms - retention->told_ms > TELL_MS)
            log_warning("cannot ask how full the disk is: %s", strerror(-r));
        retention->told_ms = now_ms;
        return;
    }
    board_set(store->board, COUNTER_DISK_USED_PERCENT, retention->space.used_percent);
    board_set(store->board, COUNTER_DISK_FREE, (uint64_t)retention->space.free_bytes);
    if ((before == DISK_FULL) == (retention->space.level == DISK_FULL))
        return;
    if (retention->space.level == DISK_FULL)
        log_error("the disk is full: %u %% used, %" PRId64 " bytes free; messages are refused",
                  retention->space.used_percent, retention->space.free_bytes);
    else
        log_info("the disk has room again: %u %% used, %" PRId64 " bytes free", retention->space.used_percent,
                 retention->space.free_bytes);
    status_tell(retention);
}

/* Which files. */

static bool hour_has_come(const char *hours)
{
    time_t now = time(NULL);
    struct tm local;
    localtime_r(&now, &local);
    while (*hours) {
        char *end;
        long hour = strtol(hours, &end, 10);
        if (end != hours && hour == local.tm_hour)
            return true;
        hours = *end ? end + 1 : end;
    }
    return false;
}

/* Milliseconds since it was last written to, and what it takes of the disk. */
static int file_look(const struct commit_log *log, int64_t pos, int64_t *ret_age_ms, int64_t *ret_bytes)
{
    char path[4096];
    struct stat st;
    commit_log_file_path(commit_log_folder(log), pos, path, sizeof path);
    if (stat(path, &st) < 0)
        return -errno;
    *ret_age_ms = clock_realtime_ms() - ((int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000);
    *ret_bytes = (int64_t)st.st_blocks * 512;
    return 0;
}

/* Nothing behind it may go: what is not flushed or not in the queues is still wanted, and so is the last file. */
static int64_t may_go_to(const struct store *store)
{
    const struct commit_log *log = store->commit_log;
    int64_t pos = flush_done_pos(store->flush);
    int64_t dispatched = atomic_load_explicit(&store->queue_table->dispatched_pos, memory_order_relaxed);
    int64_t last = commit_log_files_end(log) - commit_log_file_size(log);
    if (dispatched < pos)
        pos = dispatched;
    pos = commit_log_file_start(log, pos);
    return pos < last ? pos : last;
}

/* The new begin of the log; the old one if no file goes. */
static int64_t choose(struct retention *retention)
{
    const struct store_config *config = &retention->store->config;
    const struct commit_log *log = retention->store->commit_log;
    int64_t pos = commit_log_min_pos(log), most = may_go_to(retention->store), freed = 0;
    bool force = retention->space.level >= DISK_FORCE && config->clean_forcibly;
    bool allowed = force || retention->space.level >= DISK_CLEAN || retention->manual_passes > 0 ||
                   hour_has_come(config->delete_when);
    retention->forced = false;
    if (!allowed || commit_log_is_empty(log))
        return pos;
    for (int64_t n = 0; n < config->delete_batch_files && pos < most; n++) {
        int64_t age_ms = 0, bytes = 0;
        int r = file_look(log, pos, &age_ms, &bytes);
        if (r < 0 && r != -ENOENT) {
            log_warning("cannot tell the age of the log's file %" PRId64 ": %s", pos, strerror(-r));
            break;
        }
        bool expired = r < 0 || age_ms >= config->file_reserved_hours * 3600000;
        /* No more unexpired ones than the disk needs: then it is looked at again. */
        if (!expired && (!force || (n > 0 && freed >= retention->space.excess_bytes)))
            break;
        retention->forced = retention->forced || !expired;
        freed += bytes;
        pos += commit_log_file_size(log);
    }
    return pos;
}

/* The steps. */

static int trim_add(struct topic *topic, void *context)
{
    struct retention *retention = context;
    struct queue_table *table = retention->store->queue_table;
    for (uint32_t n = 0; n < topic->slot_count; n++) {
        struct queue_slot *slot = &table->slots[topic->slot_base + n];
        struct queue_trim trim = {.slot = topic->slot_base + n, .generation = topic->slot_generation,
                                  .queue_id = (int32_t)n,
                                  .min_offset = atomic_load_explicit(&slot->min_offset, memory_order_relaxed),
                                  .max_offset = atomic_load_explicit(&slot->max_offset, memory_order_relaxed)};
        if (trim.min_offset >= trim.max_offset)
            continue;
        int r = queue_trims_add(&retention->trims, topic->name, &trim);
        if (r < 0)
            return r;
    }
    return 0;
}

static void *find(void *argument)
{
    struct retention *retention = argument;
    pthread_setname_np(pthread_self(), "retention");
    retention->failed = queue_trims_find(&retention->trims, &retention->stop);
    eventfd_write(retention->found_fd, 1);
    return NULL;
}

static void give_up(struct retention *retention, const char *what, int r)
{
    log_warning("retention: %s: %s; tried again", what, strerror(-r));
    queue_trims_done(&retention->trims);
    retention->step = STEP_IDLE;
}

static void begin(struct retention *retention, int64_t new_min_pos)
{
    struct store *store = retention->store;
    retention->new_min_pos = new_min_pos;
    retention->trims = (struct queue_trims){.file_size = store->config.consume_queue_file_size,
                                            .log_min_pos = new_min_pos};
    int r = asprintf(&retention->trims.folder, "%s/consumequeue", store->config.store_root) < 0 ? -ENOMEM : 0;
    if (r == 0)
        r = topics_each(store->topics, trim_add, retention);
    if (r < 0)
        return give_up(retention, "list of queues", r);
    /* Pairs with the fronts: each says that it reads, then looks at this once more. */
    atomic_store_explicit(&store->queue_table->log_min_pos, new_min_pos, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    r = thread_start(&retention->thread, find, retention);
    if (r < 0)
        return give_up(retention, "thread", r);
    retention->thread_runs = true;
    retention->step = STEP_FINDING;
}

static bool is_read(const struct retention *retention)
{
    const struct peers *peers = retention->store->peers;
    for (unsigned i = 0; i < peers->count; i++) {
        const struct interest *interest = peers->list[i]->interest;
        if (interest && atomic_load_explicit(&((struct interest *)interest)->read_low_pos, memory_order_acquire) <
                            retention->new_min_pos)
            return true;
    }
    return false;
}

static void files_remove(struct retention *retention, bool whole)
{
    struct store *store = retention->store;
    struct commit_log *log = store->commit_log;
    int64_t first = commit_log_min_pos(log), pos = first;
    for (; pos < retention->new_min_pos; pos += commit_log_file_size(log)) {
        char path[4096];
        commit_log_file_path(commit_log_folder(log), pos, path, sizeof path);
        int r = whole ? remover_take_whole(retention->remover, path) : remover_take(retention->remover, path);
        if (r < 0) {
            log_warning("cannot remove %s: %s", path, strerror(-r));
            break;
        }
        commit_log_forget_before(log, pos + commit_log_file_size(log));
    }
    if (pos > first)
        log_info("the commit log begins at %" PRId64 " now; %" PRId64 " files went, %s", pos,
                 (pos - first) / commit_log_file_size(log),
                 retention->forced ? "because the disk is too full" : "which were expired");
    consume_queues_clean_expired(store);
    index_log_begins(store->index);
}

static void wait_step(struct retention *retention)
{
    bool read = is_read(retention);
    if (read && clock_monotonic_ms() - retention->waiting_since_ms < retention->store->config.reader_patience_ms)
        return;
    if (read)
        log_warning("a front still reads from the log before %" PRId64 "; its files go all the same, unshortened",
                    retention->new_min_pos);
    files_remove(retention, read);
    retention->step = STEP_IDLE;
    retention->pass_at_ms = clock_monotonic_ms() + retention->store->config.delete_pause_ms;
}

static int on_found(sd_event_source *source, int fd, uint32_t events, void *context)
{
    struct retention *retention = context;
    struct queue_trims *trims = &retention->trims;
    eventfd_t count;
    eventfd_read(fd, &count);
    pthread_join(retention->thread, NULL);
    retention->thread_runs = false;
    if (retention->failed)
        log_warning("retention: the begin of %zu queues could not be found; they keep the old one", retention->failed);
    for (size_t i = 0; i < trims->count; i++)
        consume_queues_set_min(retention->store->consume_queues, trims->list[i].slot, trims->list[i].generation,
                               trims->list[i].min_offset);
    queue_trims_done(trims);
    retention->step = STEP_WAITING;
    retention->waiting_since_ms = clock_monotonic_ms();
    wait_step(retention);
    return 0;
}

static void pass(struct retention *retention)
{
    int64_t now_ms = clock_monotonic_ms();
    /* While files are still being taken away the disk looks fuller than it will be. */
    if (now_ms < retention->pass_at_ms || (retention->forced && remover_busy(retention->remover)))
        return;
    int64_t pos = choose(retention);
    if (pos > commit_log_min_pos(retention->store->commit_log)) {
        begin(retention, pos);
        return;
    }
    retention->pass_at_ms = now_ms + retention->store->config.clean_interval_ms;
    if (retention->manual_passes > 0)
        retention->manual_passes--;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *context)
{
    struct retention *retention = context;
    space_look(retention);
    if (retention->step == STEP_IDLE)
        pass(retention);
    else if (retention->step == STEP_WAITING)
        wait_step(retention);
    int64_t next_ms = retention->step == STEP_WAITING            ? WAIT_MS
                      : retention->space.level >= DISK_FORCE ? LOOK_FULL_MS
                                                             : LOOK_MS;
    int64_t pass_ms = retention->pass_at_ms - clock_monotonic_ms();
    if (retention->step == STEP_IDLE && pass_ms < next_ms)
        next_ms = pass_ms > WAIT_MS ? pass_ms : WAIT_MS;
    sd_event_source_set_time_relative(source, (uint64_t)next_ms * 1000);
    return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* Files of a log on a disk of its own are renamed within that disk. */
static int remover_choose(struct retention *retention)
{
    const struct store_config *config = &retention->store->config;
    PN_FREE char *parent = strdup(config->commit_log_dir);
    if (!parent)
        return -ENOMEM;
    char *slash = strrchr(parent, '/');
    if (slash)
        *slash = 0;
    retention->remover = consume_queues_remover(retention->store->consume_queues);
    if (!slash || strcmp(parent, config->store_root) == 0)
        return 0;
    int r = remover_new(parent, &retention->own_remover);
    retention->remover = retention->own_remover;
    return r;
}

static int sources_make(struct retention *retention)
{
    sd_event *event = retention->store->event;
    retention->found_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (retention->found_fd < 0)
        return -errno;
    int r = sd_event_add_io(event, &retention->found_source, retention->found_fd, EPOLLIN, on_found, retention);
    if (r >= 0)
        r = sd_event_add_time_relative(event, &retention->timer, CLOCK_MONOTONIC, LOOK_MS * 1000, 100000, on_timer,
                                       retention);
    return r < 0 ? r : 0;
}

int retention_start(struct store *store)
{
    struct retention *retention = calloc(1, sizeof *retention);
    if (!retention)
        return -ENOMEM;
    retention->store = store;
    retention->found_fd = -1;
    int r = remover_choose(retention);
    if (r == 0)
        r = sources_make(retention);
    if (r < 0) {
        retention_free(retention);
        return r;
    }
    retention->pass_at_ms = clock_monotonic_ms() + store->config.clean_interval_ms;
    space_look(retention);
    store->retention = retention;
    return 0;
}

void retention_free(struct retention *retention)
{
    if (!retention)
        return;
    __atomic_store_n(&retention->stop, true, __ATOMIC_RELAXED);
    if (retention->thread_runs)
        pthread_join(retention->thread, NULL);
    queue_trims_done(&retention->trims);
    sd_event_source_unref(retention->timer);
    sd_event_source_unref(retention->found_source);
    remover_free(retention->own_remover);
    pn_close_p(&retention->found_fd);
    free(retention);
}
