/* The index (see index.h). Two sides meet in a ring of hashes: the deciding thread's, which only adds and never waits, and the
 * index thread's, which owns the files. The thread's place in the log is no field anywhere: it is what the newest file's
 * last entries say (their position, and how many keys of that record are in). So a death at any instruction, also between two
 * keys of one message or two files, leaves nothing missing and nothing doubled: the successor reads the log from there.
 *
 * Nothing is fatal here. A disk that refuses is tried again each second; meanwhile hashes that find no room in the ring are
 * dropped, and the thread reads their messages in the log later. A file that cannot be read, or disagrees with the log, or
 * of which nobody knows what a power cut left, is removed and made again. */
#include "index.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/panic.h"
#include "base/thread.h"
#include "commit_log.h"
#include "file_layer.h"
#include "index_files.h"
#include "index_keys.h"
#include "index_log.h"

enum {
    RING_ENTRIES = 1 << 15,
    BATCH = 1024,
    WALK_BYTES = 4 << 20, /* of the log at a time */
    NAP_MS = 5,
    NAPS = 20, /* without work, then it sleeps until it is called */
    RETRY_MS = 1000,
    SYNC_MS = 5000,
    STOP_MS = 3000,
};
#define JUMP UINT32_MAX /* as a hash: what lies in the log between pos and store_ms is to be read there */

enum { AWAKE, NAPPING, ASLEEP };

struct index {
    struct store *store;
    struct flush *flush;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    _Atomic int sleeping;
    atomic_bool stop, complete, log_shorter;
    _Atomic int64_t stop_until_ms;

    /* Between the two. Each word has one writer. */
    _Atomic uint64_t head, tail;
    _Atomic int64_t published_pos; /* everything before it is in the ring or was, but for what is missed */
    _Atomic int64_t missed_pos;    /* from here on the ring was full; −1 */
    struct index_entry *ring;

    /* The deciding thread's. */
    struct index_topic topic;
    uint64_t next_tail;
    int64_t next_missed;

    /* The index thread's. */
    struct index_files files;
    struct index_log log;
    struct index_topic walk_topic;
    bool opened;
    int64_t done_pos; /* records before it are indexed or waiting */
    int64_t walk_pos, walk_end;
    uint32_t walk_skip; /* keys of the record at walk_pos that are in */
    struct index_entry *waiting;
    size_t waiting_count, waiting_done, waiting_room;
    int64_t synced_ms;
    bool failing;
};

/* The deciding thread. */

void index_begin(struct index *index)
{
    if (!index)
        return;
    index->next_tail = atomic_load_explicit(&index->tail, memory_order_relaxed);
    index->next_missed = atomic_load_explicit(&index->missed_pos, memory_order_relaxed);
}

static uint64_t ring_room(struct index *index)
{
    return RING_ENTRIES - (index->next_tail - atomic_load_explicit(&index->head, memory_order_acquire));
}

static void ring_put(struct index *index, int64_t pos, int64_t store_ms, uint32_t hash)
{
    index->ring[index->next_tail++ % RING_ENTRIES] = (struct index_entry){pos, store_ms, hash};
}

void index_add(struct index *index, const struct record *record, const struct properties *found)
{
    struct index_keys keys;
    uint32_t hash;
    if (!index)
        return;
    if (index->next_missed >= 0 && ring_room(index) > RING_ENTRIES / 2) {
        ring_put(index, index->next_missed, record->pos, JUMP);
        index->next_missed = -1;
    }
    if (index->next_missed >= 0)
        return;
    uint64_t before = index->next_tail;
    index_keys_begin(&keys, &index->topic, record, found);
    while (index_keys_next(&keys, &hash)) {
        if (ring_room(index) == 0) { /* the whole record, so that a walk begins with it */
            index->next_tail = before;
            index->next_missed = record->pos;
            return;
        }
        ring_put(index, record->pos, record->store_ms, hash);
    }
}

static void wake(struct index *index)
{
    pthread_mutex_lock(&index->mutex);
    pthread_cond_signal(&index->cond);
    pthread_mutex_unlock(&index->mutex);
}

void index_publish(struct index *index, int64_t pos)
{
    if (!index)
        return;
    atomic_store_explicit(&index->tail, index->next_tail, memory_order_release);
    atomic_store_explicit(&index->missed_pos, index->next_missed, memory_order_release);
    if (index->next_missed < 0)
        atomic_store_explicit(&index->published_pos, pos, memory_order_release);
    /* Pairs with the fence between the thread's word that it sleeps and its last look. */
    atomic_thread_fence(memory_order_seq_cst);
    int sleeping = atomic_load_explicit(&index->sleeping, memory_order_relaxed);
    if (sleeping == ASLEEP || (sleeping == NAPPING && ring_room(index) < RING_ENTRIES / 2))
        wake(index);
}

void index_log_begins(struct index *index)
{
    if (!index)
        return;
    atomic_store_explicit(&index->log_shorter, true, memory_order_release);
    wake(index);
}

/* The index thread. */

static int waiting_add(struct index *index, int64_t pos, int64_t store_ms, uint32_t hash)
{
    if (index->waiting_count == index->waiting_room) {
        size_t room = index->waiting_room ? index->waiting_room * 2 : BATCH;
        struct index_entry *grown = realloc(index->waiting, room * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        index->waiting = grown;
        index->waiting_room = room;
    }
    index->waiting[index->waiting_count++] = (struct index_entry){pos, store_ms, hash};
    return 0;
}

static void sync_one(struct index *index, const struct index_file *file)
{
    struct flush_index what = {.name = file->name, .count = file->count, .full_ms = -1};
    if (index_file_is_full(file))
        what.full_ms = file->end_ms;
    flush_index(index->flush, file->path, &what);
}

/* Hands the newest file to be synced, as it is now. */
static void file_sync(struct index *index)
{
    struct index_file *file = index_files_newest(&index->files);
    index->synced_ms = clock_monotonic_ms();
    if (file && index->files.unsynced)
        sync_one(index, file);
    index->files.unsynced = false;
}

static int waiting_put(struct index *index)
{
    while (index->waiting_done < index->waiting_count) {
        struct index_file *file = index_files_newest(&index->files);
        if (!file || index_file_is_full(file)) {
            file_sync(index);
            int r = index_files_roll(&index->files);
            if (r < 0)
                return r;
            file = index_files_newest(&index->files);
        }
        size_t left = index->waiting_count - index->waiting_done;
        int r = index_file_put(file, index->waiting + index->waiting_done, left < BATCH ? (unsigned)left : BATCH);
        if (r < 0)
            return r == -EIO ? -ESTALE : r;
        index->files.unsynced = true;
        index->waiting_done += (size_t)r;
        board_add(index->store->board, COUNTER_INDEXED, (uint64_t)r);
    }
    index->waiting_count = index->waiting_done = 0;
    return 0;
}

/* Damage in the log: what lies behind it in the file is not found, as dispatch would not find it. */
static void walk_past_damage(struct index *index)
{
    int64_t size = index->store->config.commit_log_file_size;
    int64_t next = index->walk_pos - index->walk_pos % size + size;
    next = next < index->walk_end ? next : index->walk_end;
    log_error("index: no record at log position %" PRId64 "; messages up to %" PRId64 " are not indexed",
              index->walk_pos, next);
    index->walk_pos = next;
    index->walk_skip = 0;
}

static int walk_record(struct index *index, const struct record *record)
{
    struct properties found;
    struct index_keys keys;
    uint32_t hash;
    properties_scan(record->properties, &found);
    index_keys_begin(&keys, &index->walk_topic, record, &found);
    while (index_keys_next(&keys, &hash)) {
        if (index->walk_skip > 0) {
            index->walk_skip--;
            continue;
        }
        int r = waiting_add(index, record->pos, record->store_ms, hash);
        if (r < 0)
            return r;
    }
    index->walk_skip = 0;
    return 0;
}

static int walk(struct index *index)
{
    int64_t begin, min_pos = atomic_load_explicit(&index->store->queue_table->log_min_pos, memory_order_acquire);
    if (index->walk_pos < min_pos) { /* taken away meanwhile, or never there */
        index->walk_pos = min_pos;
        index->walk_skip = 0;
    }
    begin = index->walk_pos;
    while (index->walk_pos < index->walk_end && index->walk_pos - begin < WALK_BYTES && index->waiting_count < BATCH) {
        struct record record;
        int kind = index_log_record(&index->log, index->walk_pos, index->walk_end, &record);
        if (kind < 0 && kind != -EIO)
            return kind;
        if (kind != RECORD_MESSAGE && kind != RECORD_BLANK) {
            walk_past_damage(index);
            continue;
        }
        int r = kind == RECORD_MESSAGE ? walk_record(index, &record) : 0;
        if (r < 0) {
            index->waiting_count = index->waiting_done; /* nothing of this slice: it begins again */
            index->opened = false;
            return r;
        }
        index->walk_pos += record.size;
    }
    if (index->walk_pos >= index->walk_end && index->done_pos < index->walk_end)
        index->done_pos = index->walk_end;
    return 0;
}

/* Takes what is in the ring, up to a jump. True: there was something. */
static bool ring_take(struct index *index, int *ret_r)
{
    uint64_t head = atomic_load_explicit(&index->head, memory_order_relaxed);
    uint64_t tail = atomic_load_explicit(&index->tail, memory_order_acquire);
    bool some = head < tail;
    while (head < tail && index->waiting_count < BATCH && *ret_r == 0) {
        const struct index_entry *entry = &index->ring[head % RING_ENTRIES];
        if (entry->hash == JUMP) {
            index->walk_pos = entry->pos > index->done_pos ? entry->pos : index->done_pos;
            index->walk_end = entry->store_ms;
            head++;
            break;
        }
        if (entry->pos >= index->done_pos)
            *ret_r = waiting_add(index, entry->pos, entry->store_ms, entry->hash);
        head += *ret_r == 0;
    }
    atomic_store_explicit(&index->head, head, memory_order_release);
    return some;
}

/* What the ring had no room for, when nothing else is left. */
static bool missed_take(struct index *index)
{
    int64_t from = atomic_load_explicit(&index->missed_pos, memory_order_acquire);
    if (from < 0)
        return false;
    /* What came into the ring before it was full lies before `from`, and would be taken for done behind this walk. The tail
     * is stored before what is missed, so a look at it now sees all of that. */
    if (atomic_load_explicit(&index->tail, memory_order_acquire) != atomic_load_explicit(&index->head, memory_order_relaxed))
        return true;
    index->walk_pos = from > index->done_pos ? from : index->done_pos;
    index->walk_end = atomic_load_explicit(&index->store->queue_table->dispatched_pos, memory_order_acquire);
    return index->walk_pos < index->walk_end;
}

static int open_files(struct index *index)
{
    int64_t end_pos = atomic_load_explicit(&index->published_pos, memory_order_acquire);
    index->waiting_count = index->waiting_done = 0;
    int r = index_files_open(&index->files, &index->log, end_pos, &index->walk_pos, &index->walk_skip);
    if (r < 0)
        return r;
    index->walk_end = end_pos;
    index->done_pos = end_pos;
    index->opened = true;
    for (unsigned i = 0; i + 1 < index->files.count; i++) /* full ones that a dead predecessor could not sync */
        if (!index_files_is_synced(&index->files, i))
            sync_one(index, index->files.list[i]);
    atomic_store_explicit(&index->store->queue_table->indexed_pos, index->walk_pos, memory_order_release);
    if (index->walk_pos + WALK_BYTES < index->walk_end)
        log_info("index: reading the log from %" PRId64 " to %" PRId64, index->walk_pos, index->walk_end);
    return 0;
}

/* 1: nothing to do. */
static int step(struct index *index)
{
    int r = 0;
    if (!index->opened)
        r = open_files(index);
    if (r == 0 && index->waiting_count > 0)
        return waiting_put(index);
    if (r < 0)
        return r;
    if (index->walk_pos < index->walk_end)
        return walk(index);
    int64_t published = atomic_load_explicit(&index->published_pos, memory_order_acquire);
    if (ring_take(index, &r) || missed_take(index))
        return r;
    int64_t done = published > index->done_pos ? published : index->done_pos;
    atomic_store_explicit(&index->store->queue_table->indexed_pos, done, memory_order_release);
    return 1;
}

static void rest(struct index *index, int state, int64_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += ms % 1000 * 1000000;
    until.tv_sec += ms / 1000 + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&index->mutex);
    atomic_store_explicit(&index->sleeping, state, memory_order_relaxed);
    /* Pairs with the fence of index_publish: either it sees us asleep, or we see what it has put there. */
    atomic_thread_fence(memory_order_seq_cst);
    bool look_again = atomic_load_explicit(&index->stop, memory_order_relaxed);
    if (state == ASLEEP && atomic_load_explicit(&index->log_shorter, memory_order_relaxed))
        look_again = true; /* the mutex is between it and the call */
    if (state == ASLEEP)
        look_again = look_again || atomic_load_explicit(&index->tail, memory_order_relaxed) !=
                                       atomic_load_explicit(&index->head, memory_order_relaxed);
    if (!look_again)
        pthread_cond_timedwait(&index->cond, &index->mutex, &until);
    atomic_store_explicit(&index->sleeping, AWAKE, memory_order_relaxed);
    pthread_mutex_unlock(&index->mutex);
}

/* A refusal: said once, tried again. A file that cannot be trusted any more is made again. */
static void refused(struct index *index, int r)
{
    if (!index->failing)
        log_error("index: %s; messages stay readable, keys are indexed as soon as it is possible", strerror(-r));
    index->failing = true;
    if (r == -ESTALE || r == -EBADMSG) {
        struct index_file *file = index_files_newest(&index->files);
        if (file)
            index_files_drop(&index->files, file->name, "it cannot be read");
        index->opened = false;
    }
    if (!atomic_load_explicit(&index->stop, memory_order_relaxed))
        rest(index, AWAKE, RETRY_MS);
}

static void housekeeping(struct index *index)
{
    int64_t failed = flush_index_failed(index->flush);
    if (failed > 0) {
        index_files_drop(&index->files, failed, "it could not be synced");
        index->synced_ms = 0;
        index->opened = false;
    }
    if (clock_monotonic_ms() - index->synced_ms >= SYNC_MS)
        file_sync(index);
    if (index->opened && atomic_exchange_explicit(&index->log_shorter, false, memory_order_acquire))
        index_files_expire(&index->files,
                           atomic_load_explicit(&index->store->queue_table->log_min_pos, memory_order_acquire));
}

static void *index_main(void *context)
{
    struct index *index = context;
    unsigned naps = 0;
    int r = 0;
    pthread_setname_np(pthread_self(), "index");
    for (;;) {
        bool stop = atomic_load_explicit(&index->stop, memory_order_acquire); /* what is handed over before it counts */
        r = step(index);
        housekeeping(index);
        if (stop && (r != 0 || clock_monotonic_ms() > atomic_load_explicit(&index->stop_until_ms, memory_order_relaxed)))
            break;
        if (r < 0) {
            refused(index, r);
            continue;
        }
        if (index->failing && (r > 0 || index->waiting_count == 0)) {
            index->failing = false;
            log_info("index: goes on");
        }
        if (r == 0)
            naps = 0;
        else if (naps++ < NAPS)
            rest(index, NAPPING, NAP_MS);
        else /* with something to sync not for ever */
            rest(index, ASLEEP, index->files.unsynced ? SYNC_MS : 3600 * 1000);
    }
    file_sync(index);
    atomic_store_explicit(&index->complete, r > 0, memory_order_release);
    return NULL;
}

static void index_free(struct index *index)
{
    index_files_done(&index->files);
    index_log_done(&index->log);
    pthread_mutex_destroy(&index->mutex);
    pthread_cond_destroy(&index->cond);
    free(index->waiting);
    free(index->ring);
    free(index);
}

int index_start(struct store *store, enum index_trust trust, const struct checkpoint *checkpoint, struct flush *flush,
                struct index **ret_index)
{
    *ret_index = NULL;
    if (!store->config.index)
        return 0;
    struct index *index = calloc(1, sizeof *index);
    if (!index)
        return -ENOMEM;
    index->store = store;
    index->flush = flush;
    pthread_condattr_t attributes;
    pthread_mutex_init(&index->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&index->cond, &attributes);
    pthread_condattr_destroy(&attributes);
    index_log_init(&index->log, store->config.commit_log_dir, store->config.commit_log_file_size);
    index->ring = malloc(RING_ENTRIES * sizeof *index->ring);
    int r = index->ring ? index_files_init(&index->files, store, trust, checkpoint) : -ENOMEM;
    atomic_store(&index->missed_pos, -1);
    atomic_store(&index->log_shorter, true); /* a predecessor may have died between the log's files and the index's */
    atomic_store(&index->published_pos, atomic_load(&store->queue_table->dispatched_pos));
    index->synced_ms = clock_monotonic_ms();
    if (r == 0)
        r = thread_start(&index->thread, index_main, index);
    if (r < 0) {
        index_free(index);
        return r;
    }
    *ret_index = index;
    return 0;
}

bool index_stop(struct index *index)
{
    if (!index)
        return true;
    atomic_store(&index->stop_until_ms, clock_monotonic_ms() + STOP_MS);
    atomic_store(&index->stop, true);
    wake(index);
    pthread_join(index->thread, NULL);
    bool complete = atomic_load(&index->complete);
    if (!complete)
        log_warning("index: stopped before all keys were indexed; a next start goes on");
    index_free(index);
    return complete;
}
