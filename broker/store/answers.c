/* Answers (see answers.h). Deciding thread of the store. An entry is closed only behind the publication of its answer: a
 * store killed in between answers twice, and the peer drops the second. */
#include "answers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/panic.h"
#include "broker/format/properties.h"
#include "broker/format/record.h"
#include "codes.h"
#include "commit_log.h"
#include "delay.h"
#include "fault/fault.h"
#include "flush.h"
#include "retention.h"
#include "shm/ledger.h"

enum { UNIQ_KEY_ROOM = 128, REMARK_ROOM = 192 };
_Static_assert(sizeof(struct msg_send_answer) + REMARK_ROOM <= MSG_SEND_ANSWER_SMALL, "what was promised");
_Static_assert(sizeof(struct msg_send_answer) + UNIQ_KEY_ROOM <= MSG_SEND_ANSWER_SMALL, "what was promised");

struct answers {
    struct store *store;
    struct log_reader reader;
    struct peer *peer; /* of the entry before */
    uint64_t skipped_to; /* entries before it may have been answered by the predecessor */
    uint64_t early_to;   /* entries before it were looked at for an answer before their turn */
    uint64_t waiting;    /* the entry whose answer is the next to time out … */
    int64_t waiting_ms;  /* … stored at this time; 0: not looked at */
    bool late, early;    /* of the answer being made */
    int read_error;
};

int answers_new(struct store *store, struct answers **ret_answers)
{
    struct answers *answers = calloc(1, sizeof *answers);
    if (!answers)
        return -ENOMEM;
    answers->store = store;
    log_reader_init(&answers->reader, store->commit_log);
    *ret_answers = answers;
    return 0;
}

void answers_free(struct answers *answers)
{
    if (!answers)
        return;
    log_reader_done(&answers->reader);
    free(answers);
}

static struct peer *peer_of(struct answers *answers, const struct ledger_entry *entry)
{
    struct peer *peer = answers->peer;
    if (!peer || peer->id != entry->peer_id || peer->generation != entry->peer_generation)
        peer = peers_find_alive(answers->store->peers, entry->peer_id, entry->peer_generation);
    answers->peer = peer;
    return peer;
}

static bool answered_before(const struct peer *peer, const struct ledger_entry *entry)
{
    return entry->flags & LEDGER_NO_ANSWER || (int64_t)entry->ring_pos <= peer->predecessor_answered;
}

void answers_resume(struct answers *answers)
{
    struct ledger *ledger = answers->store->ledger;
    struct peers *peers = answers->store->peers;
    for (unsigned i = 0; i < peers->count; i++)
        if (peers->list[i]->has_data)
            peers->list[i]->predecessor_answered = peer_last_answered(peers->list[i]);
    for (uint64_t n = ledger_closed(ledger); n < ledger_applied(ledger); n++) {
        const struct ledger_entry *entry = ledger_get(ledger, n);
        struct peer *peer = peer_of(answers, entry);
        if (peer && peer->has_data && !answered_before(peer, entry))
            peer->answers_promised += entry->answer_room;
    }
    answers->skipped_to = ledger_applied(ledger);
    answers->peer = NULL;
}

/* The records of an entry: in the batch that was just written, or in the log. */
static const uint8_t *records_of(struct answers *answers, const struct ledger_entry *entry,
                                 const struct send_batch *batch)
{
    if (batch && entry->log_pos >= batch->base_pos &&
        entry->log_pos + entry->size <= batch->base_pos + (int64_t)batch->used)
        return batch->data + (entry->log_pos - batch->base_pos);
    const uint8_t *data;
    int r = log_reader_bytes(&answers->reader, entry->log_pos, entry->size, &data);
    if (r == 0)
        return data;
    answers->read_error = r;
    log_error("answer: log position %lld cannot be read: %s", (long long)entry->log_pos, strerror(-r));
    return NULL;
}

static size_t refusal_text(struct answers *answers, const struct ledger_entry *entry, char *to)
{
    char error[REMARK_ROOM];
    int n;
    commit_log_error_text(answers->store->commit_log, true, error, sizeof error);
    if (entry->refusal == REFUSAL_DISK && *error)
        n = snprintf(to, REMARK_ROOM, "%s: %s", refusal_remark(entry->refusal), error);
    else if (entry->refusal == REFUSAL_READ_BACK)
        n = snprintf(to, REMARK_ROOM, "%s: log position %lld: %s", refusal_remark(entry->refusal), (long long)entry->log_pos,
                     strerror(-answers->read_error));
    else if (entry->refusal == REFUSAL_DISK_FULL)
        n = snprintf(to, REMARK_ROOM, "%s: %u percent used, %lld bytes free", refusal_remark(entry->refusal),
                     retention_space(answers->store->retention).used_percent,
                     (long long)retention_space(answers->store->retention).free_bytes);
    else
        n = snprintf(to, REMARK_ROOM, "%s", refusal_remark(entry->refusal));
    return n < REMARK_ROOM ? (size_t)n : REMARK_ROOM - 1;
}

static void refusal_post(struct answers *answers, struct peer *peer, const struct ledger_entry *entry, unsigned refusal)
{
    char remark[REMARK_ROOM];
    struct ledger_entry refused = *entry;
    refused.refusal = (uint8_t)refusal;
    size_t size = refusal_text(answers, &refused, remark);
    struct msg_send_answer *answer = ring_reserve(&peer->data_out, MSG_SEND_ANSWER, 0, sizeof *answer + size, NULL);
    if (!answer) {
        peer->broken = true;
        return;
    }
    *answer = (struct msg_send_answer){.token = entry->token, .request_pos = entry->ring_pos, .queue_offset = -1,
                                       .log_pos = -1, .code = refusal_code(refusal), .queue_id = -1,
                                       .remark_size = (uint16_t)size};
    memcpy(answer + 1, remark, size);
}

static void sizes_put(const struct ledger_entry *entry, const uint8_t *records, uint8_t *to)
{
    size_t at = 0;
    for (uint32_t n = 0; n < entry->count; n++) {
        uint32_t size = be32_load(records + at);
        memcpy(to + n * sizeof size, &size, sizeof size);
        at += size;
    }
    pn_assert(at == entry->size);
}

/* Of a delayed message the sender gets the queue that it asked for, as with Apache. */
static int32_t queue_of(const struct record *record)
{
    char text[12] = {0};
    struct bytes queue = {NULL, 0};
    if (bytes_equal_text(record->topic, DELAY_TOPIC))
        queue = properties_find(record->properties, "REAL_QID");
    if (queue.size == 0 || queue.size >= sizeof text)
        return record->queue_id;
    memcpy(text, queue.data, queue.size);
    return (int32_t)strtol(text, NULL, 10);
}

static void stored_post(struct answers *answers, struct peer *peer, const struct ledger_entry *entry,
                        const uint8_t *records)
{
    struct record record;
    enum record_kind kind = record_parse(records, entry->size, entry->log_pos, entry->size, false, &record);
    pn_assert(kind == RECORD_MESSAGE);
    struct properties found;
    properties_scan(record.properties, &found);
    size_t uniq = found.uniq_key.size <= UNIQ_KEY_ROOM ? found.uniq_key.size : 0;
    size_t sizes = entry->flags & LEDGER_BATCH ? entry->count * sizeof(uint32_t) : 0;
    struct msg_send_answer *answer =
        ring_reserve(&peer->data_out, MSG_SEND_ANSWER, answers->early ? PEER_ANSWER_EARLY : 0, sizeof *answer + uniq + sizes, NULL);
    if (!answer) { /* room was promised: only a reader that moves backwards gets here */
        peer->broken = true;
        return;
    }
    *answer = (struct msg_send_answer){.token = entry->token, .request_pos = entry->ring_pos,
                                       .queue_offset = record.queue_offset, .log_pos = entry->log_pos,
                                       .store_ms = record.store_ms, .queue_id = queue_of(&record),
                                       .code = answers->late ? CODE_FLUSH_DISK_TIMEOUT : 0,
                                       .count = entry->count, .uniq_key_size = (uint16_t)uniq};
    uint8_t *to = (uint8_t *)(answer + 1);
    if (uniq)
        memcpy(to, found.uniq_key.data, uniq);
    if (sizes)
        sizes_put(entry, records, to + uniq);
}

static void entry_answer(struct answers *answers, uint64_t number, const struct send_batch *batch)
{
    const struct ledger_entry *entry = ledger_get(answers->store->ledger, number);
    struct peer *peer = peer_of(answers, entry);
    if (!peer || !peer->has_data || entry->flags & LEDGER_NO_ANSWER)
        return;
    if (number < answers->skipped_to && answered_before(peer, entry))
        return;
    peer->answers_promised -= entry->answer_room < peer->answers_promised ? entry->answer_room : peer->answers_promised;
    board_add(answers->store->board, COUNTER_RESPONSES, 1);
    if (entry->refusal) {
        refusal_post(answers, peer, entry, entry->refusal);
        return;
    }
    /* The disk lied after it had taken the bytes: what it has not confirmed is not acknowledged, in neither mode. */
    const uint8_t *records = NULL;
    int64_t flushed_pos = atomic_load_explicit(&answers->store->queue_table->log_flushed_pos, memory_order_relaxed);
    bool lost = flush_error(answers->store->flush) && entry->log_pos + entry->size > flushed_pos;
    if (!lost)
        records = records_of(answers, entry, batch);
    if (records)
        stored_post(answers, peer, entry, records);
    else
        refusal_post(answers, peer, entry, lost ? REFUSAL_DISK : REFUSAL_READ_BACK);
}

/* An entry that waits for the disk, and has waited for too long. Its record says since when: a successor knows it, too. */
static bool timed_out(struct answers *answers, uint64_t number, const struct send_batch *batch)
{
    const struct ledger_entry *entry = ledger_get(answers->store->ledger, number);
    if (entry->size == 0)
        return true; /* a refusal: the disk has nothing to say about it */
    if (answers->waiting != number || answers->waiting_ms == 0) {
        struct record record;
        const uint8_t *records = records_of(answers, entry, batch);
        answers->waiting = number;
        answers->waiting_ms = clock_realtime_ms();
        if (records && record_parse(records, entry->size, entry->log_pos, entry->size, false, &record) == RECORD_MESSAGE)
            answers->waiting_ms = record.store_ms;
    }
    return clock_realtime_ms() - answers->waiting_ms >= answers->store->config.sync_flush_timeout_ms;
}

static bool is_early(const struct ledger_entry *entry)
{
    return entry->flags & LEDGER_NO_WAIT && !(entry->flags & LEDGER_NO_ANSWER);
}

/* Entries behind `from` that do not wait for the disk. Answered now, and marked so that their turn brings no second answer:
 * behind the publication, for a mark without an answer would be an answer that never comes. */
static unsigned early_post(struct answers *answers, uint64_t from, int64_t known_pos, const struct send_batch *batch)
{
    struct ledger *ledger = answers->store->ledger;
    uint64_t begin = from > answers->early_to ? from : answers->early_to, n = begin;
    unsigned count = 0;
    answers->early = true;
    for (; n < ledger_applied(ledger); n++) {
        const struct ledger_entry *entry = ledger_get(ledger, n);
        if (!is_early(entry))
            continue;
        if (entry->log_pos + entry->size > known_pos)
            break;
        entry_answer(answers, n, batch);
    }
    answers->early = false;
    answers->early_to = n;
    peers_publish(answers->store->peers);
    for (n = begin; n < answers->early_to; n++) {
        struct ledger_entry entry = *ledger_get(ledger, n);
        if (!is_early(&entry))
            continue;
        if (count++ == 0)
            FAULT_POINT(STORE_ANSWERED);
        entry.flags |= LEDGER_NO_ANSWER;
        ledger_replace(ledger, n, &entry);
    }
    return count;
}

unsigned answers_post(struct answers *answers, int64_t stable_pos, int64_t known_pos, const struct send_batch *batch)
{
    struct ledger *ledger = answers->store->ledger;
    uint64_t closed = ledger_closed(ledger), applied = ledger_applied(ledger), end = closed;
    unsigned early = 0;
    answers->peer = NULL;
    log_reader_forget(&answers->reader);
    answers->reader.limit_pos = commit_log_end(answers->store->commit_log);
    while (end < applied) {
        const struct ledger_entry *entry = ledger_get(ledger, end);
        answers->late = entry->log_pos + entry->size > stable_pos;
        if (answers->late && !timed_out(answers, end, batch))
            break;
        entry_answer(answers, end++, batch);
        if (end - closed == (applied - closed + 1) / 2 &&
            atomic_load_explicit(&fault_page->slots[FAULT_STORE_ANSWER_PARTIAL].action, memory_order_relaxed)) {
            peers_publish(answers->store->peers);
            FAULT_POINT(STORE_ANSWER_PARTIAL);
        }
    }
    answers->late = false;
    if (end < applied && answers->store->config.sync_flush)
        early = early_post(answers, end, known_pos, batch);
    peers_publish(answers->store->peers);
    if (end > closed) {
        FAULT_POINT(STORE_ANSWERED);
        ledger_close(ledger, end);
    }
    return (unsigned)(end - closed) + early;
}
