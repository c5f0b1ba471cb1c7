/* The journal's thread: see journal.h. It takes wishes from the deciding thread (marks) and from the thread that writes
 * JSON files (notes) under one mutex, and gives back one number and an eventfd. What it appends it reads from the image,
 * whose published records do not change; a flip of the image makes it begin a new file. */
#include "journal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "config_files.h"
#include "fault/fault.h"
#include "file_layer.h"
#include "image.h"
#include "journal_fold.h"

enum { REWRITE_TRIES = 3, REWRITE_RETRY_MS = 10000 };

struct wishes {
    uint64_t promised, offsets; /* marks */
    const struct journal_note *note;
    bool stop;
};

struct journal {
    struct image *image;
    struct image_journal *words;
    struct board *board;
    bool sync_flush;
    int64_t sync_ms;
    char folder[3900], path[4000], temp[4000];

    pthread_t thread;
    bool thread_runs;
    pthread_mutex_t mutex;
    pthread_cond_t wake, noted;
    struct wishes wishes; /* under the mutex */
    bool note_done;
    int note_result;

    _Atomic uint64_t done;
    _Atomic int error;
    int event_fd;
    sd_event_source *source;
    struct worker *worker; /* deciding thread's */
    int told_error;
    char error_text[160];

    /* the thread's */
    int fd;
    uint64_t file_id, end_pos, mark, offsets_mark;
    bool rewrite, unsynced, notes_known;
    int64_t unsynced_since_ms, retry_at_ms, rewrite_at_ms;
    struct journal_note notes[CONFIG_FILE_COUNT][JOURNAL_NOTES_PER_FILE]; /* oldest first */
    unsigned note_counts[CONFIG_FILE_COUNT];
};

static void keep_note(struct journal *journal, const struct journal_note *note)
{
    if (note->file >= CONFIG_FILE_COUNT)
        return;
    struct journal_note *list = journal->notes[note->file];
    unsigned *count = &journal->note_counts[note->file];
    if (*count == JOURNAL_NOTES_PER_FILE)
        memmove(list, list + 1, --*count * sizeof *list);
    list[(*count)++] = *note;
}

/* The thread: its file. */

/* Deciding thread and successors may look at any moment: each word after what it speaks of. */
static void publish(struct journal *journal)
{
    struct image_journal *words = journal->words;
    atomic_store_explicit(&words->end_pos, journal->end_pos, memory_order_release);
    atomic_store_explicit(&words->mark, journal->mark, memory_order_release);
    atomic_store_explicit(&words->offsets_mark, journal->offsets_mark, memory_order_release);
    atomic_store_explicit(&words->file_id, journal->file_id, memory_order_release);
    atomic_store_explicit(&journal->done, journal->mark, memory_order_release);
}

/* What the predecessor left: cut behind what the image knows of. -ENODATA: not that file. */
static int adopt(struct journal *journal)
{
    const struct image_journal *words = journal->words;
    uint8_t header[sizeof(struct journal_header)];
    struct stat st;
    uint64_t id = atomic_load_explicit(&words->file_id, memory_order_acquire);
    uint64_t end_pos = atomic_load_explicit(&words->end_pos, memory_order_acquire);
    if (id == 0)
        return -ENODATA;
    PN_CLOSE int fd = file_layer_open(journal->path, O_RDWR, 0);
    if (fd < 0)
        return fd;
    ssize_t n = file_layer_pread(fd, header, sizeof header, 0);
    if (n < 0)
        return (int)n;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (journal_file_id(header, (size_t)n) != id || (uint64_t)st.st_size < end_pos)
        return -ENODATA;
    int r = (uint64_t)st.st_size > end_pos ? file_layer_ftruncate(fd, (int64_t)end_pos) : 0;
    if (r < 0)
        return r;
    journal->fd = TAKE_FD(fd);
    journal->file_id = id;
    journal->end_pos = end_pos;
    journal->mark = atomic_load_explicit(&words->mark, memory_order_acquire);
    journal->offsets_mark = atomic_load_explicit(&words->offsets_mark, memory_order_acquire);
    journal->unsynced = true;
    journal->unsynced_since_ms = clock_monotonic_ms();
    return 0;
}

static int sync_file(struct journal *journal)
{
    int r = file_layer_fdatasync(journal->fd);
    if (r == 0)
        journal->unsynced = false;
    else
        journal->rewrite = true; /* what those pages hold is not known any more */
    return r;
}

/* The thread: a new file. */

static int take_note(void *context, uint64_t pos, uint16_t type, struct bytes payload)
{
    struct journal_note note;
    if (type == JOURNAL_NOTE && journal_file_note(payload, &note))
        keep_note(context, &note);
    return 0;
}

/* A warm start has not read the file; before it goes, what it alone knows is taken from it. */
static void learn_notes(struct journal *journal)
{
    if (journal->notes_known)
        return;
    journal->notes_known = true;
    memset(journal->note_counts, 0, sizeof journal->note_counts);
    struct stat st;
    /* By name: a predecessor may have died before it said whose file this is, and its notes are good all the same. */
    PN_CLOSE int fd = file_layer_open(journal->path, O_RDONLY, 0);
    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size == 0)
        return;
    PN_FREE uint8_t *data = malloc((size_t)st.st_size);
    ssize_t n = data ? file_layer_pread(fd, data, (size_t)st.st_size, 0) : -ENOMEM;
    struct journal_scan scan;
    int r = n < 0 ? (int)n : journal_file_scan(data, (size_t)n, take_note, journal, &scan);
    if (r < 0 || scan.damages)
        log_error("%s: damaged at %llu (%s); a new one takes its place", journal->path,
                  r < 0 ? 0ull : (unsigned long long)scan.damage_pos, r < 0 ? strerror(-r) : "bytes that are no record");
}

struct adding {
    struct journal_bytes bytes;
    uint64_t base_pos, file_id;
    bool promised_only;
};

static int add_record(void *context, enum image_type type, struct bytes payload)
{
    struct adding *adding = context;
    if (adding->promised_only && !image_is_promised(type))
        return 0;
    if (type == IMAGE_RESET) /* the mark is of this life of the broker only */
        type = IMAGE_OFFSET;
    journal_file_add(&adding->bytes, adding->base_pos, adding->file_id, (uint16_t)type, payload);
    return 0;
}

/* The whole state as of *ret_mark. -ESTALE: the image was flipped meanwhile. */
static int make_snapshot(struct journal *journal, struct adding *adding, uint64_t *ret_mark)
{
    struct journal_fold *fold;
    uint64_t mark = image_turn_mark(journal->image), end = image_published_mark(journal->image);
    int r = journal_fold_new(false, &fold);
    if (r == 0)
        r = image_follow(journal->image, &mark, end, journal_fold_add, fold);
    if (r == 0) {
        journal_file_begin(&adding->bytes, adding->file_id);
        for (unsigned i = 0; i < CONFIG_FILE_COUNT; i++)
            for (unsigned n = 0; n < journal->note_counts[i]; n++) {
                journal->notes[i][n].covers_pos = 0;
                journal_file_add_note(&adding->bytes, 0, adding->file_id, &journal->notes[i][n]);
            }
        r = journal_fold_each(fold, add_record, adding);
    }
    journal_fold_free(fold);
    *ret_mark = mark;
    return r;
}

static int write_new(struct journal *journal, const struct adding *adding)
{
    PN_CLOSE int fd = file_layer_open(journal->temp, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW, 0644);
    if (fd < 0)
        return fd;
    int r = file_layer_pwrite(fd, adding->bytes.data, adding->bytes.size, 0);
    if (r == 0)
        r = file_layer_fdatasync(fd);
    if (r == 0) {
        journal->rewrite = true; /* until it is known which of the two has the name */
        r = file_layer_rename(journal->temp, journal->path);
    }
    if (r < 0) {
        (void)file_layer_unlink(journal->temp); /* a full disk needs the room */
        return r;
    }
    /* From here on the old one has no name. */
    if (journal->fd >= 0)
        close(journal->fd);
    journal->fd = TAKE_FD(fd);
    journal->file_id = adding->file_id;
    journal->end_pos = adding->bytes.size;
    journal->unsynced = false;
    return file_layer_sync_folder(journal->folder);
}

static int rewrite_file(struct journal *journal)
{
    int r = -ESTALE;
    learn_notes(journal);
    for (unsigned i = 0; i < REWRITE_TRIES && r == -ESTALE; i++) {
        struct adding adding = {.base_pos = 0};
        uint64_t mark = 0;
        if (getrandom(&adding.file_id, sizeof adding.file_id, 0) != sizeof adding.file_id || adding.file_id == 0)
            adding.file_id = (uint64_t)clock_realtime_ms();
        r = make_snapshot(journal, &adding, &mark);
        if (r == 0)
            r = write_new(journal, &adding);
        if (r == 0) {
            journal->mark = journal->offsets_mark = mark;
            journal->rewrite = false;
            atomic_store_explicit(&journal->words->snapshot_size, adding.bytes.size, memory_order_relaxed);
        }
        journal_bytes_free(&adding.bytes);
    }
    return r;
}

/* The thread: more records. */

/* -ESTALE: the image was flipped, and a new file is to be made. */
static int gather(struct journal *journal, const struct wishes *wishes, struct adding *adding, uint64_t *mark,
                  uint64_t *offsets_mark)
{
    /* Offsets never go before a change of promised kind that they follow. */
    uint64_t until = wishes->promised > wishes->offsets ? wishes->promised : wishes->offsets;
    int r = 0;
    adding->promised_only = true;
    if (until > *mark)
        r = image_follow(journal->image, mark, until, add_record, adding);
    adding->promised_only = false;
    if (r < 0 || wishes->offsets <= *offsets_mark)
        return r;
    struct journal_fold *fold;
    r = journal_fold_new(true, &fold);
    if (r == 0)
        r = image_follow(journal->image, offsets_mark, wishes->offsets, journal_fold_add, fold);
    if (r == 0)
        r = journal_fold_each(fold, add_record, adding);
    journal_fold_free(fold);
    return r;
}

static int append(struct journal *journal, const struct wishes *wishes)
{
    struct adding adding = {.base_pos = journal->end_pos, .file_id = journal->file_id};
    uint64_t mark = journal->mark, offsets_mark = journal->offsets_mark;
    int r = gather(journal, wishes, &adding, &mark, &offsets_mark);
    if (r == 0 && wishes->note)
        journal_file_add_note(&adding.bytes, adding.base_pos, adding.file_id, wishes->note);
    if (r == 0 && adding.bytes.size > 0) {
        r = file_layer_pwrite(journal->fd, adding.bytes.data, adding.bytes.size, (int64_t)journal->end_pos);
        if (r < 0)
            (void)file_layer_ftruncate(journal->fd, (int64_t)journal->end_pos);
        else if (!journal->unsynced)
            journal->unsynced_since_ms = clock_monotonic_ms();
        journal->unsynced |= r == 0;
        FAULT_POINT(STORE_JOURNAL);
    }
    if (r == 0) {
        journal->end_pos += adding.bytes.size;
        journal->mark = mark;
        journal->offsets_mark = offsets_mark;
        if (wishes->note)
            keep_note(journal, wishes->note);
    }
    journal_bytes_free(&adding.bytes);
    return r;
}

static bool sync_is_due(const struct journal *journal, const struct wishes *wishes)
{
    return journal->unsynced && (journal->sync_flush || wishes->note || wishes->stop ||
                                 clock_monotonic_ms() - journal->unsynced_since_ms >= journal->sync_ms);
}

static bool is_large(const struct journal *journal)
{
    uint64_t first = atomic_load_explicit(&journal->words->snapshot_size, memory_order_relaxed);
    uint64_t limit = first * 4 > JOURNAL_SIZE_LEAST ? first * 4 : JOURNAL_SIZE_LEAST;
    return journal->end_pos > limit && clock_monotonic_ms() >= journal->rewrite_at_ms;
}

/* A file too many is no harm: the old one is still good. */
static void make_smaller(struct journal *journal)
{
    int r = rewrite_file(journal);
    if (r == 0) {
        publish(journal);
        return;
    }
    journal->rewrite_at_ms = clock_monotonic_ms() + REWRITE_RETRY_MS;
    log_warning("%s: cannot be made smaller: %s", journal->path, strerror(-r));
}

static int work(struct journal *journal, const struct wishes *wishes)
{
    int r = 0;
    if (journal->fd < 0 && !journal->rewrite && adopt(journal) < 0)
        journal->rewrite = true;
    if (!journal->rewrite)
        r = append(journal, wishes);
    if (journal->rewrite || r == -ESTALE) {
        learn_notes(journal);
        if (wishes->note) /* in the new file from its beginning */
            keep_note(journal, wishes->note);
        r = rewrite_file(journal);
    }
    if (r == 0 && sync_is_due(journal, wishes))
        r = sync_file(journal);
    if (r == 0)
        publish(journal);
    return r;
}

/* The thread: when. */

static bool is_wanted(const struct journal *journal, const struct wishes *wishes)
{
    return wishes->stop || wishes->note || wishes->promised > journal->mark || wishes->offsets > journal->offsets_mark;
}

/* Under the mutex. */
static void wait_for_wishes(struct journal *journal)
{
    for (;;) {
        const struct wishes *wishes = &journal->wishes;
        bool failing = atomic_load_explicit(&journal->error, memory_order_relaxed) < 0;
        int64_t now_ms = clock_monotonic_ms(), until_ms = -1;
        if (wishes->stop || wishes->note || (!failing && is_wanted(journal, wishes)))
            return;
        if (failing)
            until_ms = journal->retry_at_ms;
        else if (journal->unsynced)
            until_ms = journal->unsynced_since_ms + journal->sync_ms;
        if (until_ms >= 0 && now_ms >= until_ms)
            return;
        if (until_ms < 0) {
            pthread_cond_wait(&journal->wake, &journal->mutex);
            continue;
        }
        struct timespec until = {.tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000};
        pthread_cond_timedwait(&journal->wake, &journal->mutex, &until);
    }
}

static void tell(struct journal *journal)
{
    uint64_t one = 1;
    if (write(journal->event_fd, &one, sizeof one) < 0)
        log_warning("metadata journal: eventfd: %s", strerror(errno));
}

static void *run(void *argument)
{
    struct journal *journal = argument;
    pthread_setname_np(pthread_self(), "journal");
    pthread_mutex_lock(&journal->mutex);
    for (;;) {
        wait_for_wishes(journal);
        struct wishes wishes = journal->wishes;
        pthread_mutex_unlock(&journal->mutex);
        int r = work(journal, &wishes);
        atomic_store_explicit(&journal->error, r, memory_order_release);
        journal->retry_at_ms = clock_monotonic_ms() + JOURNAL_RETRY_MS;
        tell(journal);
        pthread_mutex_lock(&journal->mutex);
        if (wishes.note) {
            journal->wishes.note = NULL;
            journal->note_result = r;
            journal->note_done = true;
            pthread_cond_broadcast(&journal->noted);
        }
        if (wishes.stop)
            break;
        pthread_mutex_unlock(&journal->mutex);
        if (r == 0 && is_large(journal))
            make_smaller(journal);
        pthread_mutex_lock(&journal->mutex);
    }
    pthread_mutex_unlock(&journal->mutex);
    return NULL;
}

/* Other threads. */

int journal_note(struct journal *journal, const struct journal_note *note)
{
    struct journal_note mine = *note;
    mine.time_ms = clock_realtime_ms();
    pthread_mutex_lock(&journal->mutex);
    while (journal->wishes.note) /* somebody else's */
        pthread_cond_wait(&journal->noted, &journal->mutex);
    journal->wishes.note = &mine;
    journal->note_done = false;
    pthread_cond_signal(&journal->wake);
    while (!journal->note_done)
        pthread_cond_wait(&journal->noted, &journal->mutex);
    int r = journal->note_result;
    pthread_mutex_unlock(&journal->mutex);
    return r;
}

/* Deciding thread. */

void journal_want(struct journal *journal, uint64_t promised_mark)
{
    pthread_mutex_lock(&journal->mutex);
    if (promised_mark > journal->wishes.promised)
        journal->wishes.promised = promised_mark;
    pthread_cond_signal(&journal->wake);
    pthread_mutex_unlock(&journal->mutex);
}

void journal_want_offsets(struct journal *journal, uint64_t mark)
{
    pthread_mutex_lock(&journal->mutex);
    if (mark > journal->wishes.offsets)
        journal->wishes.offsets = mark;
    pthread_cond_signal(&journal->wake);
    pthread_mutex_unlock(&journal->mutex);
}

uint64_t journal_done_mark(const struct journal *journal)
{
    return atomic_load_explicit(&journal->done, memory_order_acquire);
}

uint64_t journal_end_pos(const struct journal *journal)
{
    return atomic_load_explicit(&journal->words->end_pos, memory_order_acquire);
}

int journal_error(const struct journal *journal)
{
    return atomic_load_explicit(&journal->error, memory_order_acquire);
}

const char *journal_error_text(struct journal *journal)
{
    snprintf(journal->error_text, sizeof journal->error_text, "the metadata journal cannot be written: %s",
             strerror(-journal_error(journal)));
    return journal->error_text;
}

/* The turn looks at done itself; here only what people are told. */
static int on_event(sd_event_source *source, int fd, uint32_t events, void *context)
{
    struct journal *journal = context;
    int error = journal_error(journal);
    if (error == journal->told_error)
        return 0;
    journal->told_error = error;
    if (error < 0) {
        board_add(journal->board, COUNTER_DISK_ERRORS, 1);
        log_error("%s: %s; topics and groups cannot be made, offsets are kept in memory; tried again each %d ms",
                  journal->path, strerror(-error), JOURNAL_RETRY_MS);
    } else {
        log_info("%s: written again", journal->path);
    }
    if (journal->worker)
        worker_status(journal->worker, error < 0 ? journal_error_text(journal) : "the metadata journal is written again");
    return 0;
}

static int prepare(struct journal *journal, struct store *store)
{
    pthread_condattr_t attributes;
    pthread_mutex_init(&journal->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&journal->wake, &attributes);
    pthread_cond_init(&journal->noted, NULL);
    pthread_condattr_destroy(&attributes);
    int n = snprintf(journal->folder, sizeof journal->folder, "%s/config", store->config.store_root);
    if (n < 0 || (size_t)n >= sizeof journal->folder)
        return -ENAMETOOLONG;
    snprintf(journal->path, sizeof journal->path, "%s/" JOURNAL_NAME, journal->folder);
    snprintf(journal->temp, sizeof journal->temp, "%s/" JOURNAL_NAME ".tmp", journal->folder);
    journal->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (journal->event_fd < 0)
        return -errno;
    int r = file_layer_mkdir(journal->folder);
    if (r < 0)
        return r;
    return sd_event_add_io(store->event, &journal->source, journal->event_fd, EPOLLIN | EPOLLET, on_event, journal);
}

int journal_start(struct store *store, const struct journal_note *notes, unsigned count, struct journal **ret_journal)
{
    struct journal *journal = calloc(1, sizeof *journal);
    if (!journal)
        return -ENOMEM;
    journal->fd = journal->event_fd = -1;
    journal->image = store->image;
    journal->words = image_journal(store->image);
    journal->board = store->board;
    journal->worker = store->worker.event ? &store->worker : NULL;
    journal->sync_flush = store->config.sync_flush;
    journal->sync_ms = store->config.flush_interval_ms;
    /* A warm start's mark is good if it is of the half in use: every other is smaller than what will be asked for. */
    if (atomic_load_explicit(&journal->words->file_id, memory_order_acquire))
        atomic_store(&journal->done, atomic_load_explicit(&journal->words->mark, memory_order_acquire));
    else
        journal->notes_known = true;
    journal->mark = atomic_load(&journal->done);
    for (unsigned i = 0; i < count; i++)
        keep_note(journal, &notes[i]);
    journal->wishes.promised = image_promised_mark(store->image);
    journal->wishes.offsets = image_mark(store->image);
    int r = prepare(journal, store);
    if (r >= 0)
        r = thread_start(&journal->thread, run, journal);
    journal->thread_runs = r == 0;
    if (r < 0) {
        journal_stop(journal);
        return r;
    }
    *ret_journal = journal;
    return 0;
}

void journal_stop(struct journal *journal)
{
    if (!journal)
        return;
    if (journal->thread_runs) {
        pthread_mutex_lock(&journal->mutex);
        journal->wishes.promised = journal->wishes.offsets = image_mark(journal->image);
        journal->wishes.stop = true;
        pthread_cond_signal(&journal->wake);
        pthread_mutex_unlock(&journal->mutex);
        pthread_join(journal->thread, NULL);
        if (journal_error(journal) < 0)
            log_error("%s: the last state is not in it: %s", journal->path, strerror(-journal_error(journal)));
    }
    sd_event_source_disable_unref(journal->source);
    if (journal->event_fd >= 0)
        close(journal->event_fd);
    if (journal->fd >= 0)
        close(journal->fd);
    pthread_cond_destroy(&journal->wake);
    pthread_cond_destroy(&journal->noted);
    pthread_mutex_destroy(&journal->mutex);
    free(journal);
}
