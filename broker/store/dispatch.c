/* Dispatch (see dispatch.h). Deciding thread of the store. Everything it makes is derived from the log and can be made
 * again: entries are written at the offset that their record carries, so doing it twice changes nothing. */
#include "dispatch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/java_hash.h"
#include "base/log.h"
#include "commit_log.h"
#include "consume_queue.h"
#include "delay.h"
#include "fault/fault.h"
#include "index.h"
#include "peers.h"
#include "broker/format/properties.h"
#include "topics.h"

struct dispatch {
    struct store *store;
    struct log_reader reader;
    struct topic *topic; /* of the record before; within one batch only */
    int64_t last_store_ms;
};

int dispatch_new(struct store *store, struct dispatch **ret_dispatch)
{
    struct dispatch *dispatch = calloc(1, sizeof *dispatch);
    if (!dispatch)
        return -ENOMEM;
    dispatch->store = store;
    log_reader_init(&dispatch->reader, store->commit_log);
    *ret_dispatch = dispatch;
    return 0;
}

void dispatch_free(struct dispatch *dispatch)
{
    if (!dispatch)
        return;
    log_reader_done(&dispatch->reader);
    free(dispatch);
}

int64_t dispatch_last_store_ms(const struct dispatch *dispatch)
{
    return dispatch->last_store_ms;
}

/* 1: the record's topic was dropped; it is in no queue. */
static int queue_of(struct dispatch *dispatch, const struct record *record, struct consume_queue **ret_queue)
{
    struct store *store = dispatch->store;
    if (record->queue_id >= (int32_t)QUEUE_TABLE_SLOTS)
        return -EBADMSG;
    if (topics_was_dropped(store->topics, record->topic, record->pos))
        return 1;
    if (!dispatch->topic || !bytes_equal_text(record->topic, dispatch->topic->name))
        dispatch->topic = topics_find(store->topics, record->topic);
    if (!dispatch->topic || (uint32_t)record->queue_id >= dispatch->topic->slot_count) {
        int r = topics_ensure_recovered(store, record->topic, record->queue_id + 1, &dispatch->topic);
        if (r < 0) {
            dispatch->topic = NULL;
            return r;
        }
    }
    *ret_queue = consume_queues_get(store->consume_queues, dispatch->topic->slot_base + (uint32_t)record->queue_id);
    return *ret_queue ? 0 : -ENOMEM;
}

/* Messages that wait in the schedule topic carry the time of their delivery instead of a hash. */
static bool schedule_time(const struct store *store, const struct record *record, const struct properties *found,
                          int64_t *ret_tags_code)
{
    unsigned level = found->delay.size && bytes_equal_text(record->topic, DELAY_TOPIC)
                         ? delay_level(&store->config, found->delay)
                         : 0;
    if (level == 0)
        return false;
    *ret_tags_code = record->store_ms + store->config.delay_ms[level - 1];
    delay_expect(store->delay, (unsigned)record->queue_id + 1, *ret_tags_code);
    return true;
}

static int64_t tags_code(const struct store *store, const struct record *record, const struct properties *found)
{
    int64_t code = 0;
    if (schedule_time(store, record, found, &code))
        return code;
    return found->tags.size ? java_hash(found->tags) : 0;
}

int64_t dispatch_tags_code(const struct store *store, const struct record *record)
{
    struct properties found;
    properties_scan(record->properties, &found);
    return tags_code(store, record, &found);
}

int dispatch_record(struct dispatch *dispatch, const struct record *record)
{
    dispatch->last_store_ms = record->store_ms;
    struct properties found;
    properties_scan(record->properties, &found);
    index_add(dispatch->store->index, record, &found);
    int32_t transaction = record->sys_flag & SYS_FLAG_TRANSACTION;
    if (transaction != 0 && transaction != SYS_FLAG_COMMIT)
        return 0; /* prepared and rolled back ones are nobody's to consume */
    struct consume_queue *queue;
    int r = queue_of(dispatch, record, &queue);
    if (r != 0)
        return r < 0 ? r : 0;
    struct queue_entry entry = {.queue_offset = record->queue_offset, .log_pos = record->pos, .size = record->size,
                                .tags_code = tags_code(dispatch->store, record, &found), .store_ms = record->store_ms};
    board_add(dispatch->store->board, COUNTER_DISPATCHED, 1);
    return consume_queue_add(dispatch->store->consume_queues, queue, &entry);
}

/* Which fronts have parked polls for the queues that grew: the bitmap is the front's, the advance list says which. */
static void fronts_wake(struct store *store)
{
    unsigned count;
    struct consume_queue *const *touched = consume_queues_touched(store->consume_queues, &count);
    struct queue_table *table = store->queue_table;
    struct peers *peers = store->peers;
    uint64_t advance = atomic_load_explicit(&table->advance_pos, memory_order_relaxed);
    /* Pairs with the fence of a front between setting a bit and looking at max_offset again. */
    atomic_thread_fence(memory_order_seq_cst);
    for (unsigned i = 0; i < count; i++) {
        uint32_t slot = touched[i]->slot;
        bool wanted = false;
        for (unsigned p = 0; p < peers->count; p++) {
            const struct interest *interest = peers->list[p]->interest;
            if (interest && atomic_load_explicit(&((struct interest *)interest)->bits[slot / 64], memory_order_relaxed) >>
                    (slot % 64) & 1)
                wanted = peers->list[p]->to_wake = true;
        }
        if (wanted)
            atomic_store_explicit(&table->advance[advance++ % ADVANCE_COUNT], slot, memory_order_relaxed);
    }
    atomic_store_explicit(&table->advance_pos, advance, memory_order_release);
    for (unsigned p = 0; p < peers->count; p++) {
        struct peer *peer = peers->list[p];
        if (peer->to_wake && peer->has_data)
            ring_wake_reader(&peer->data_out);
        peer->to_wake = false;
    }
}

int dispatch_commit(struct dispatch *dispatch, int64_t pos)
{
    struct store *store = dispatch->store;
    dispatch->topic = NULL;
    int r = consume_queues_write(store->consume_queues);
    if (r < 0)
        return r;
    FAULT_POINT(STORE_DISPATCH);
    consume_queues_publish(store->consume_queues);
    atomic_store_explicit(&store->queue_table->dispatched_pos, pos, memory_order_release);
    index_publish(store->index, pos);
    FAULT_POINT(STORE_DISPATCHED);
    fronts_wake(store);
    consume_queues_published(store->consume_queues);
    return 0;
}

static int next_record(struct dispatch *dispatch, int64_t pos, int64_t until, const uint8_t *data, int64_t data_pos,
                       size_t size, struct record *ret_record)
{
    if (pos >= data_pos && pos < data_pos + (int64_t)size)
        return record_parse(data + (pos - data_pos), size - (size_t)(pos - data_pos), pos,
                            commit_log_file_left(dispatch->store->commit_log, pos), false, ret_record);
    dispatch->reader.limit_pos = until;
    return log_reader_record(&dispatch->reader, pos, false, ret_record);
}

int dispatch_log(struct dispatch *dispatch, int64_t until, const uint8_t *data, int64_t data_pos, size_t size, int64_t most)
{
    int64_t begin = atomic_load_explicit(&dispatch->store->queue_table->dispatched_pos, memory_order_relaxed), pos = begin;
    log_reader_forget(&dispatch->reader);
    index_begin(dispatch->store->index);
    dispatch->topic = NULL; /* a failed try before this one may have left it, and it may be gone */
    while (pos < until && pos - begin < most) {
        struct record record;
        int kind = next_record(dispatch, pos, until, data, data_pos, size, &record);
        if (kind < 0)
            return kind;
        if (kind != RECORD_MESSAGE && kind != RECORD_BLANK)
            return -EBADMSG;
        int r = kind == RECORD_MESSAGE ? dispatch_record(dispatch, &record) : 0;
        if (r < 0)
            return r;
        pos += record.size;
    }
    int r = pos > begin ? dispatch_commit(dispatch, pos) : 0;
    return r < 0 ? r : pos < until;
}

int dispatch_count_offsets(struct dispatch *dispatch, int64_t pos, int64_t until)
{
    log_reader_forget(&dispatch->reader);
    while (pos < until) {
        struct record record;
        struct consume_queue *queue;
        int kind = next_record(dispatch, pos, until, NULL, 0, 0, &record);
        if (kind < 0)
            return kind;
        if (kind != RECORD_MESSAGE && kind != RECORD_BLANK)
            return -EBADMSG;
        int r = kind == RECORD_MESSAGE ? queue_of(dispatch, &record, &queue) : 0;
        if (r < 0)
            return r;
        if (kind == RECORD_MESSAGE && r == 0 && queue->next_offset <= record.queue_offset)
            queue->next_offset = record.queue_offset + 1;
        pos += record.size;
    }
    dispatch->topic = NULL;
    return 0;
}
