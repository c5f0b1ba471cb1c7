/* Delayed messages (see delay.h). Deciding thread of the store.
 *
 * A level is delivered in order, so one offset says all: what is before it has its copy in the log (or was lost). Copies
 * have ledger entries like requests. The order is: ledger "taken" → log → ledger "applied" → offset into the image → entry
 * closed; a successor takes the offset from the image and moves it past the copies of entries that are not closed.
 * After the host's death image and ledger are gone: then the log is the proof (delay_recover.c). The journal's record says
 * from where it must be read: `safe_pos`, a position before which everything is on the disk, with the offsets of that
 * moment. */
#include "delay.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/panic.h"
#include "commit_log.h"
#include "config_files.h"
#include "config_tables.h"
#include "consume_queue.h"
#include "delay_reader.h"
#include "delay_recover.h"
#include "fault/fault.h"
#include "flush.h"
#include "image.h"
#include "json_file.h"
#include "retention.h"
#include "shm/ledger.h"
#include "topics.h"

enum {
    RETRY_MS = 1000,        /* while the log takes nothing */
    DISK_RETRY_MS = 10000,  /* Apache's, after an error */
    SLICE_BYTES = 256 * 1024,
    VERSION_UPDATES = 200,  /* deliveries per step of the data version, as Apache */
    SAFE_BYTES = 16 << 20,  /* of log that a cold start may read for nothing */
    EARLIEST_MS = 1,
};

struct level {
    int64_t offset;  /* delivered */
    int64_t next;    /* and what is in the batch under way */
    int64_t due_ms;  /* when to look; 0: now */
    int64_t safe_offset, candidate_offset;
};

struct delay {
    struct store *store;
    unsigned count;
    struct level levels[DELAY_LEVELS_MAX];
    struct data_version version;
    unsigned updates;
    bool from_image;
    int64_t safe_pos;      /* −1: not known */
    int64_t candidate_pos; /* −1: none; becomes the safe one once the log is on the disk up to there */
    bool loaded;           /* some file or journal knew about it */
    struct delay_reader *reader;
    bool has_job;
    unsigned job_at, turn;
    sd_event_source *timer;
    int64_t timer_ms;
};

unsigned delay_level(const struct store_config *config, struct bytes delay)
{
    char text[12] = {0};
    if (delay.size == 0 || delay.size >= sizeof text)
        return 0;
    memcpy(text, delay.data, delay.size);
    char *end;
    long level = strtol(text, &end, 10);
    if (end == text || *end || level <= 0)
        return 0;
    return level > (long)config->delay_levels ? config->delay_levels : (unsigned)level;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *context)
{
    struct delay *delay = context;
    delay->timer_ms = 0;
    return sd_event_source_set_enabled(source, SD_EVENT_OFF);
}

int delay_new(struct store *store, struct delay **ret_delay)
{
    struct delay *delay = calloc(1, sizeof *delay);
    if (!delay)
        return -ENOMEM;
    delay->store = store;
    delay->count = store->config.delay_levels;
    delay->safe_pos = delay->candidate_pos = -1;
    *ret_delay = delay;
    return 0;
}

void delay_free(struct delay *delay)
{
    if (!delay)
        return;
    delay_reader_stop(delay->reader);
    sd_event_source_disable_unref(delay->timer);
    free(delay);
}

int delay_topic_ensure(struct store *store)
{
    struct topic *topic = topics_find(store->topics, bytes_of(DELAY_TOPIC));
    if (topic && topic->slot_count >= store->config.delay_levels)
        return 0;
    return topics_ensure_recovered(store, bytes_of(DELAY_TOPIC), (int32_t)store->config.delay_levels, &topic);
}

/* Ends of a level's queue, as readers see it. */
static bool queue_ends(const struct store *store, unsigned level, int64_t *ret_min, int64_t *ret_max)
{
    const struct topic *topic = topics_find(store->topics, bytes_of(DELAY_TOPIC));
    if (!topic || level > topic->slot_count)
        return false;
    const struct queue_slot *slot = &store->queue_table->slots[topic->slot_base + level - 1];
    *ret_min = atomic_load_explicit(&slot->min_offset, memory_order_relaxed);
    *ret_max = atomic_load_explicit(&slot->max_offset, memory_order_relaxed);
    return true;
}

/* The image. */

static size_t payload_size(const struct delay *delay)
{
    return 5 * sizeof(int64_t) + 2 * sizeof(int64_t) * delay->count;
}

void delay_write_image(const struct delay *delay, struct image *image)
{
    struct cursor c = image_begin(image, IMAGE_DELAY);
    data_version_put(&c, &delay->version);
    cursor_put_i64(&c, delay->safe_pos);
    cursor_put_i64(&c, delay->count);
    for (unsigned i = 0; i < delay->count; i++) {
        cursor_put_i64(&c, delay->levels[i].offset);
        cursor_put_i64(&c, delay->levels[i].safe_offset);
    }
    image_end(image, &c);
}

static int apply(struct delay *delay, struct bytes payload)
{
    struct cursor c = cursor_over(payload.data, payload.size);
    delay->version = data_version_get(&c);
    delay->safe_pos = cursor_get_i64(&c);
    int64_t count = cursor_get_i64(&c);
    if (c.bad || count < 0 || count > DELAY_LEVELS_MAX)
        return -EBADMSG;
    for (int64_t i = 0; i < count; i++) {
        delay->levels[i].offset = cursor_get_i64(&c);
        delay->levels[i].safe_offset = cursor_get_i64(&c);
        if (delay->levels[i].offset < 0 || delay->levels[i].safe_offset < 0)
            return -EBADMSG;
    }
    delay->loaded = true;
    return c.bad ? -EBADMSG : 0;
}

int delay_apply_image(struct store *store, struct bytes payload)
{
    store->delay->from_image = true;
    return apply(store->delay, payload);
}

/* What was delivered behind safe_pos may have gone with the host; the log tells. Without safe_pos the offsets are all there is. */
int delay_apply_journal(struct store *store, struct bytes payload)
{
    struct delay *delay = store->delay;
    int r = apply(delay, payload);
    for (unsigned i = 0; i < DELAY_LEVELS_MAX && delay->safe_pos >= 0; i++)
        delay->levels[i].offset = delay->levels[i].safe_offset;
    return r;
}

struct data_version delay_version(const struct delay *delay)
{
    return delay->version;
}

void delay_print(struct store *store, struct text *text)
{
    const struct delay *delay = store->delay;
    bool more = false;
    text_add(text,
             "{\n\t\"dataVersion\":{\n\t\t\"counter\":%" PRId64 ",\n\t\t\"stateVersion\":%" PRId64
             ",\n\t\t\"timestamp\":%" PRId64 "\n\t},\n\t\"offsetTable\":{",
             delay->version.counter, delay->version.state_version, delay->version.timestamp_ms);
    for (unsigned i = 0; i < delay->count; i++) {
        if (delay->levels[i].offset == 0)
            continue;
        text_add(text, "%s%u:%" PRId64, more ? ",\n\t\t" : "\n\t\t", i + 1, delay->levels[i].offset);
        more = true;
    }
    text_add(text, more ? "\n\t}\n}" : "}\n}");
}

int delay_load(struct store *store, json_t *json)
{
    struct delay *delay = store->delay;
    json_t *table = json_object_get(json, "offsetTable"), *value;
    const char *key;
    if (table && !json_is_object(table))
        return -EBADMSG;
    json_object_foreach(table, key, value)
    {
        char *end;
        long level = strtol(key, &end, 10);
        if (*end || end == key || !json_is_integer(value) || json_integer_value(value) < 0)
            return -EBADMSG;
        if (level < 1 || level > DELAY_LEVELS_MAX)
            continue;
        delay->levels[level - 1].offset = delay->levels[level - 1].safe_offset = json_integer_value(value);
    }
    delay->version = config_tables_version(json);
    delay->loaded = true;
    return 0;
}

static bool write_record(struct delay *delay)
{
    if (image_make_room(delay->store->image, 1, payload_size(delay)) < 0)
        return false;
    delay_write_image(delay, delay->store->image);
    config_files_changed(delay->store, CONFIG_FILE_DELAY);
    return true;
}

/* Start. */

static void clamp(struct delay *delay)
{
    for (unsigned i = 0; i < delay->count; i++) {
        struct level *level = &delay->levels[i];
        int64_t min, max;
        if (!queue_ends(delay->store, i + 1, &min, &max))
            continue;
        if (level->offset > max)
            level->offset = max;
        if (level->offset < min)
            level->offset = min;
    }
}

/* The copies that the predecessor had applied and perhaps not noted. */
static void take_ledger(struct delay *delay)
{
    const struct ledger *ledger = delay->store->ledger;
    for (uint64_t n = ledger_closed(ledger); n < ledger_applied(ledger); n++) {
        const struct ledger_entry *entry = ledger_get(ledger, n);
        if (entry->peer_id != DELAY_PEER || entry->refusal || entry->peer_generation < 1 ||
            entry->peer_generation > DELAY_LEVELS_MAX)
            continue;
        struct level *level = &delay->levels[entry->peer_generation - 1];
        if (level->offset <= (int64_t)entry->ring_pos)
            level->offset = (int64_t)entry->ring_pos + 1;
    }
}

int delay_recover(struct store *store, bool warm, int64_t trusted_pos)
{
    struct delay *delay = store->delay;
    int64_t min_pos = commit_log_min_pos(store->commit_log), start = trusted_pos;
    int r = 0;
    if (warm && delay->from_image) {
        take_ledger(delay);
    } else {
        clamp(delay);
        if (delay->safe_pos >= 0)
            start = delay->safe_pos;
        else if (!delay->loaded || warm)
            start = min_pos;
        int64_t offsets[DELAY_LEVELS_MAX];
        for (unsigned i = 0; i < delay->count; i++)
            offsets[i] = delay->levels[i].offset;
        if (start < commit_log_end(store->commit_log))
            r = delay_recover_log(store, start > min_pos ? start : min_pos, offsets);
        for (unsigned i = 0; i < delay->count && r == 0; i++)
            delay->levels[i].offset = delay->levels[i].safe_offset = offsets[i];
        delay->safe_pos = warm ? -1 : commit_log_end(store->commit_log); /* a cold recovery has synced the log */
    }
    if (r < 0)
        return r;
    for (unsigned i = 0; i < delay->count; i++)
        delay->levels[i].next = delay->levels[i].offset;
    if (!write_record(delay)) {
        log_error("delayed messages: the metadata image has no room");
        return -ENOSPC;
    }
    return 0;
}

int delay_start(struct store *store)
{
    struct delay *delay = store->delay;
    int r = sd_event_add_time(store->event, &delay->timer, CLOCK_REALTIME, 0, 1000, on_timer, delay);
    if (r >= 0)
        r = sd_event_source_set_enabled(delay->timer, SD_EVENT_OFF);
    return r < 0 ? r : delay_reader_start(store, &delay->reader);
}

void delay_stop(struct store *store)
{
    struct delay *delay = store->delay;
    delay_reader_stop(TAKE_PTR(delay->reader));
    delay->has_job = false;
}

/* Turns. */

static void look_later(struct level *level, int64_t after_ms)
{
    level->due_ms = clock_realtime_ms() + after_ms;
}

static bool may_deliver(const struct store *store)
{
    return !commit_log_error(store->commit_log) && !retention_disk_full(store->retention) && store->config.broker_id == 0;
}

/* What was read into the batch. True: all of it. */
static bool job_deliver(struct delay *delay, struct delay_job *job, struct send *send, struct send_batch *batch)
{
    struct level *level = &delay->levels[job->level - 1];
    size_t begin = batch->used;
    while (delay->job_at < job->count) {
        const struct delay_item *item = &job->items[delay->job_at];
        if (batch->closed || batch->used - begin > SLICE_BYTES || batch->requests >= DELAY_READ_ENTRIES)
            return false;
        if (item->size == 0)
            log_warning("delay level %u: message %" PRId64 " is not in the log any more (position %" PRId64 ")",
                        job->level, item->queue_offset, item->log_pos);
        else if (!send_deliver(send, batch, job->level, item->queue_offset, item->log_pos,
                               (struct bytes){job->bytes + item->at, item->size}))
            return false;
        level->next = item->queue_offset + 1;
        delay->job_at++;
    }
    return true;
}

static void job_end(struct delay *delay, const struct delay_job *job)
{
    struct level *level = &delay->levels[job->level - 1];
    int64_t min, max;
    delay->has_job = false;
    if (job->error) {
        log_error("delay level %u: message %" PRId64 " cannot be read: %s; tried again in %d s", job->level, level->next,
                  strerror(-job->error), DISK_RETRY_MS / 1000);
        look_later(level, DISK_RETRY_MS);
        return;
    }
    level->due_ms = job->due_ms;
    if (job->due_ms == INT64_MAX && queue_ends(delay->store, job->level, &min, &max) && max > level->next)
        level->due_ms = 0; /* it came meanwhile */
}

/* Nothing is due: when to look again. */
static void timer_set(struct delay *delay, int64_t due_ms)
{
    if (due_ms == delay->timer_ms || due_ms == INT64_MAX)
        return;
    if (sd_event_source_set_time(delay->timer, (uint64_t)(due_ms > 0 ? due_ms : EARLIEST_MS) * 1000) >= 0 &&
        sd_event_source_set_enabled(delay->timer, SD_EVENT_ONESHOT) >= 0)
        delay->timer_ms = due_ms;
}

static void job_begin(struct delay *delay, struct delay_job *job)
{
    struct store *store = delay->store;
    int64_t now_ms = clock_realtime_ms(), first_ms = INT64_MAX;
    for (unsigned i = 0; i < delay->count; i++) {
        unsigned number = (delay->turn + i) % delay->count;
        struct level *level = &delay->levels[number];
        int64_t min, max;
        if (level->due_ms > now_ms) {
            first_ms = level->due_ms < first_ms ? level->due_ms : first_ms;
            continue;
        }
        if (!queue_ends(store, number + 1, &min, &max))
            continue;
        if (level->next < min)
            level->next = min; /* expired unread, as the queue's file */
        if (level->next >= max) {
            level->due_ms = INT64_MAX;
            continue;
        }
        job->level = number + 1;
        job->from = level->next;
        job->until = max;
        job->delay_ms = store->config.delay_ms[number];
        job->log_min_pos = commit_log_min_pos(store->commit_log);
        delay->turn = number + 1;
        delay->job_at = 0;
        delay->has_job = true;
        delay_reader_submit(delay->reader);
        return;
    }
    timer_set(delay, first_ms);
}

void delay_collect(struct store *store, struct send *send, struct send_batch *batch)
{
    struct delay *delay = store->delay;
    if (!delay || !delay->reader)
        return;
    struct delay_job *job = delay_reader_job(delay->reader);
    if (!job)
        return;
    if (delay->has_job) {
        if (!may_deliver(store) || image_make_room(store->image, 1, payload_size(delay)) < 0) {
            look_later(&delay->levels[job->level - 1], RETRY_MS);
            delay->has_job = false;
        } else if (!job_deliver(delay, job, send, batch)) {
            return;
        } else {
            job_end(delay, job);
        }
    }
    job_begin(delay, job);
}

void delay_batch_done(struct store *store, bool failed)
{
    struct delay *delay = store->delay;
    bool moved = false;
    if (!delay || !delay->reader)
        return;
    for (unsigned i = 0; i < delay->count; i++) {
        struct level *level = &delay->levels[i];
        if (level->next == level->offset)
            continue;
        moved = true;
        if (failed) {
            level->next = level->offset;
            look_later(level, RETRY_MS);
            continue;
        }
        delay->updates += (unsigned)(level->next - level->offset);
        level->offset = level->next;
        if (ledger_suspects(store->ledger))
            ledger_absolve(store->ledger, DELAY_PEER, i + 1, (uint64_t)level->offset);
    }
    if (!moved || failed) {
        delay->has_job = delay->has_job && !(moved && failed);
        return;
    }
    FAULT_POINT(STORE_DELAY_APPLIED);
    while (delay->updates >= VERSION_UPDATES) {
        delay->updates -= VERSION_UPDATES;
        data_version_next(&delay->version);
    }
    write_record(delay);
}

void delay_expect(struct delay *delay, unsigned level, int64_t deliver_ms)
{
    if (!delay || level < 1 || level > delay->count)
        return;
    if (deliver_ms < delay->levels[level - 1].due_ms)
        delay->levels[level - 1].due_ms = deliver_ms;
}

void delay_tick(struct store *store)
{
    struct delay *delay = store->delay;
    if (!delay || !delay->reader)
        return;
    int64_t end = commit_log_end(store->commit_log);
    if (delay->candidate_pos >= 0) {
        if (flush_done_pos(store->flush) < delay->candidate_pos)
            return;
        delay->safe_pos = delay->candidate_pos;
        for (unsigned i = 0; i < delay->count; i++)
            delay->levels[i].safe_offset = delay->levels[i].candidate_offset;
        delay->candidate_pos = -1;
        write_record(delay);
    }
    bool moved = delay->safe_pos < 0 || end - delay->safe_pos > SAFE_BYTES;
    for (unsigned i = 0; i < delay->count; i++)
        if (delay->levels[i].offset != delay->levels[i].safe_offset)
            moved = true;
    if (!moved)
        return;
    delay->candidate_pos = end;
    for (unsigned i = 0; i < delay->count; i++)
        delay->levels[i].candidate_offset = delay->levels[i].offset;
}
