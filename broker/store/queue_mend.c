/* See queue_mend.h. Deciding thread of the store. Good entries before and behind the bad one say between which positions the
 * messages of the bad ones stand; that piece of the log is walked in slices. Whatever part of it is no record is passed over.
 * Reading may wait for a disk, a slice at a time: damage is rare, and its readers wait already. Nothing here is fatal. */
#include "queue_mend.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "broker/format/layout.h"
#include "commit_log.h"
#include "consume_queue.h"
#include "dispatch.h"
#include "log_search.h"
#include "topics.h"

enum {
    ASKED_MAX = 64,
    REACH = 4096,         /* entries looked at on either side */
    SLICE_BYTES = 1 << 20,
};

struct asked {
    uint32_t slot, generation;
    int64_t queue_offset;
};

struct queue_mend {
    struct store *store;
    struct log_reader reader;
    struct asked asked[ASKED_MAX];
    unsigned asked_count;

    /* The first of them, once begun. */
    bool begun;
    int64_t first_offset, end_offset; /* bad ones */
    int64_t from_pos, pos, until_pos;
    struct queue_entry *entries; /* of the bad ones; size 0: not found yet */
};

int queue_mend_new(struct store *store, struct queue_mend **ret_mend)
{
    struct queue_mend *mend = calloc(1, sizeof *mend);
    if (!mend)
        return -ENOMEM;
    mend->store = store;
    log_reader_init(&mend->reader, store->commit_log);
    *ret_mend = mend;
    return 0;
}

void queue_mend_free(struct queue_mend *mend)
{
    if (!mend)
        return;
    log_reader_done(&mend->reader);
    free(mend->entries);
    free(mend);
}

void queue_mend_ask(struct queue_mend *mend, struct bytes topic_name, int32_t queue_id, int64_t queue_offset)
{
    const struct topic *topic = topics_find(mend->store->topics, topic_name);
    if (!topic || (uint32_t)queue_id >= topic->slot_count || mend->asked_count == ASKED_MAX)
        return;
    struct asked wanted = {topic->slot_base + (uint32_t)queue_id, topic->slot_generation, queue_offset};
    for (unsigned i = 0; i < mend->asked_count; i++)
        if (mend->asked[i].slot == wanted.slot && mend->asked[i].queue_offset == queue_offset)
            return;
    if (mend->begun && mend->asked[0].slot == wanted.slot && queue_offset >= mend->first_offset &&
        queue_offset < mend->end_offset)
        return; /* under way */
    mend->asked[mend->asked_count++] = wanted;
}

static bool is_of_queue(const struct record *record, const struct topic *topic, const struct consume_queue *queue)
{
    return record->queue_id == queue->queue_id && bytes_equal_text(record->topic, topic->name);
}

/* The entry leads to its message, whether or not that is damaged. */
static bool is_good(struct queue_mend *mend, const struct topic *topic, struct consume_queue *queue, int64_t offset,
                    struct queue_entry *ret_entry)
{
    struct record record;
    struct commit_log *log = mend->store->commit_log;
    struct queue_entry *entry = ret_entry;
    if (consume_queue_read(mend->store->consume_queues, queue, topic->name, offset, entry) < 0 ||
        entry->log_pos < commit_log_min_pos(log) || entry->log_pos >= commit_log_end(log) ||
        entry->size < RECORD_FIXED_SIZE || entry->tags_code == QUEUE_TAGS_LOST)
        return false;
    return log_reader_record(&mend->reader, entry->log_pos, false, &record) == RECORD_MESSAGE &&
           record.size == entry->size && record.queue_offset == offset && is_of_queue(&record, topic, queue);
}

static struct consume_queue *queue_of(struct queue_mend *mend, struct topic **ret_topic)
{
    const struct asked *asked = &mend->asked[0];
    struct topic *topic = *ret_topic = topics_of_slot(mend->store->topics, asked->slot);
    if (!topic || topic->slot_generation != asked->generation)
        return NULL; /* dropped meanwhile */
    struct consume_queue *queue = consume_queues_get(mend->store->consume_queues, asked->slot);
    return queue && asked->queue_offset >= queue->min_offset && asked->queue_offset < queue->written_offset ? queue : NULL;
}

static int begin(struct queue_mend *mend, const struct topic *topic, struct consume_queue *queue)
{
    struct queue_entry entry;
    int64_t offset = mend->asked[0].queue_offset, low = offset, high = offset + 1;
    log_reader_forget(&mend->reader);
    if (is_good(mend, topic, queue, offset, &entry))
        return -EALREADY;
    mend->from_pos = commit_log_min_pos(mend->store->commit_log);
    for (; low > queue->min_offset && offset - low < REACH; low--)
        if (is_good(mend, topic, queue, low - 1, &entry)) {
            mend->from_pos = entry.log_pos + entry.size;
            break;
        }
    mend->until_pos = atomic_load_explicit(&mend->store->queue_table->dispatched_pos, memory_order_relaxed);
    for (; high < queue->written_offset && high - offset < REACH; high++)
        if (is_good(mend, topic, queue, high, &entry)) {
            mend->until_pos = entry.log_pos;
            break;
        }
    mend->entries = calloc((size_t)(high - low), sizeof *mend->entries);
    if (!mend->entries)
        return -ENOMEM;
    mend->first_offset = low;
    mend->end_offset = high;
    mend->pos = mend->from_pos;
    mend->begun = true;
    return 0;
}

static void take_record(struct queue_mend *mend, const struct topic *topic, const struct consume_queue *queue,
                        const struct record *record)
{
    if (!is_of_queue(record, topic, queue) || record->queue_offset < mend->first_offset ||
        record->queue_offset >= mend->end_offset)
        return;
    mend->entries[record->queue_offset - mend->first_offset] =
        (struct queue_entry){.queue_offset = record->queue_offset, .log_pos = record->pos, .size = record->size,
                             .tags_code = dispatch_tags_code(mend->store, record)};
}

static int walk(struct queue_mend *mend, const struct topic *topic, const struct consume_queue *queue)
{
    int64_t begin_pos = mend->pos;
    while (mend->pos < mend->until_pos && mend->pos - begin_pos < SLICE_BYTES) {
        struct record record;
        int kind = log_reader_record(&mend->reader, mend->pos, false, &record);
        if (kind < 0)
            return kind;
        if (kind != RECORD_MESSAGE && kind != RECORD_BLANK) {
            int r = log_search(&mend->reader, mend->pos + 1, mend->until_pos, &mend->pos, &record);
            if (r < 0)
                return r;
            if (r == 0)
                mend->pos = mend->until_pos;
            continue;
        }
        if (kind == RECORD_MESSAGE)
            take_record(mend, topic, queue, &record);
        mend->pos += record.size;
    }
    return mend->pos < mend->until_pos;
}

/* Whose message was not found says so from now on; what it said before stays as far as it can be. */
static int entry_lose(struct queue_mend *mend, const struct topic *topic, struct consume_queue *queue, int64_t offset,
                      struct queue_entry *entry)
{
    int r = consume_queue_read(mend->store->consume_queues, queue, topic->name, offset, entry);
    bool is_between = r == 0 && entry->log_pos >= mend->from_pos && entry->size > 0 && entry->size < INT32_MAX &&
                      entry->log_pos + entry->size <= mend->until_pos;
    if (!is_between) {
        int64_t size = mend->until_pos - mend->from_pos;
        entry->log_pos = mend->from_pos;
        entry->size = size < 1 ? 1 : size < INT32_MAX ? (uint32_t)size : INT32_MAX - 1;
    }
    entry->queue_offset = offset;
    entry->tags_code = QUEUE_TAGS_LOST;
    return r;
}

static int finish(struct queue_mend *mend, const struct topic *topic, struct consume_queue *queue)
{
    int64_t lost = 0;
    int r = 0;
    for (int64_t offset = mend->first_offset; r == 0 && offset < mend->end_offset; offset++) {
        struct queue_entry *entry = &mend->entries[offset - mend->first_offset];
        if (entry->size == 0) {
            r = entry_lose(mend, topic, queue, offset, entry);
            lost++;
        }
        if (r == 0)
            r = consume_queue_rewrite(mend->store->consume_queues, queue, topic->name, entry);
    }
    if (r == 0)
        log_warning("consume queue %s/%" PRId32 ": entries %" PRId64 " to %" PRId64 " were damaged; made again from the log, %" PRId64
                    " of them have no message there any more", topic->name, queue->queue_id, mend->first_offset,
                    mend->end_offset - 1, lost);
    return r;
}

static void forget_first(struct queue_mend *mend)
{
    free(mend->entries);
    mend->entries = NULL;
    mend->begun = false;
    memmove(mend->asked, mend->asked + 1, --mend->asked_count * sizeof *mend->asked);
}

bool queue_mend_run(struct queue_mend *mend)
{
    struct topic *topic;
    if (!mend || mend->asked_count == 0)
        return false;
    struct consume_queue *queue = queue_of(mend, &topic);
    int r = !queue ? -EALREADY : mend->begun ? 0 : begin(mend, topic, queue);
    if (r == 0)
        r = walk(mend, topic, queue);
    if (r == 1)
        return true;
    if (r == 0)
        r = finish(mend, topic, queue);
    if (r < 0 && r != -EALREADY)
        log_error("consume queue %s/%" PRId32 ": entry %" PRId64 " is damaged and cannot be made again: %s", topic->name,
                  queue->queue_id, mend->asked[0].queue_offset, strerror(-r));
    forget_first(mend);
    return true;
}
