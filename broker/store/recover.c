/* Recovery (see recover.h; rules in format/FORMAT.md and ipc/shm/LAYOUT.md). Deciding thread of the store, before it serves. Every
 * step can be cut short and done again. */
#include "recover.h"

#include <errno.h>
#include <inttypes.h>
#include <isa-l/crc.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "commit_log.h"
#include "consume_queue.h"
#include "dispatch.h"
#include "fault/fault.h"
#include "log_search.h"
#include "metadata.h"
#include "peers.h"
#include "shm/ledger.h"

enum { SCAN_BATCH = 1 << 20, PROGRESS_INTERVAL_MS = 500 };

/* Warm. */

static bool entry_in_log(struct log_reader *reader, const struct ledger_entry *entry)
{
    const uint8_t *data;
    if (entry->size == 0)
        return true;
    if (entry->size > commit_log_file_left(reader->log, entry->log_pos))
        return false;
    return log_reader_bytes(reader, entry->log_pos, entry->size, &data) == 0 &&
           crc32_gzip_refl(0, data, entry->size) == entry->log_crc;
}

bool recover_is_warm(struct store *store)
{
    struct ledger *ledger = store->ledger;
    struct queue_table *table = store->queue_table;
    if (store->cause == START_FIRST || ledger_check(ledger) < 0)
        return false;
    const struct ledger_entry *last = NULL;
    struct log_reader reader;
    int64_t end = ledger_log_end(ledger, &last);
    log_reader_init(&reader, store->commit_log);
    bool agrees = end >= commit_log_min_pos(store->commit_log) && end <= commit_log_files_end(store->commit_log) &&
                  (!last || entry_in_log(&reader, last));
    log_reader_done(&reader);
    int64_t dispatched = atomic_load(&table->dispatched_pos), flushed = atomic_load(&table->log_flushed_pos);
    if (agrees && dispatched >= commit_log_min_pos(store->commit_log) && flushed >= 0 &&
        dispatched <= commit_log_files_end(store->commit_log) && flushed <= commit_log_files_end(store->commit_log))
        return true;
    log_warning("the log does not agree with the ledger; recovering from files");
    return false;
}

/* What was under way and reached the log in whole is applied, in order; the first that did not ends it. */
static int64_t under_way_apply(struct store *store, int64_t *ret_torn_end)
{
    struct ledger *ledger = store->ledger;
    struct log_reader reader;
    int64_t end = ledger_log_end(ledger, NULL);
    log_reader_init(&reader, store->commit_log);
    uint64_t n = ledger_applied(ledger);
    for (; n < ledger_taken(ledger); n++) {
        const struct ledger_entry *entry = ledger_get(ledger, n);
        if (!entry_in_log(&reader, entry))
            break;
        end = entry->log_pos + entry->size;
        ledger_apply(ledger, n + 1);
    }
    FAULT_POINT(STORE_RECOVERING);
    *ret_torn_end = end;
    for (; n < ledger_taken(ledger); n++) {
        const struct ledger_entry *entry = ledger_get(ledger, n);
        if (entry->log_pos + entry->size > *ret_torn_end)
            *ret_torn_end = entry->log_pos + entry->size;
    }
    /* A blank record behind the last one: its file is full, readers may have been told so. */
    struct record record;
    if (end < commit_log_files_end(store->commit_log) &&
        log_reader_record(&reader, end, false, &record) == RECORD_BLANK) {
        end += record.size;
        if (*ret_torn_end < end)
            *ret_torn_end = end;
    }
    log_reader_done(&reader);
    return end;
}

/* Rings go on behind what is applied: those bytes may be still there, or released and gone. */
static void peers_seek(struct store *store)
{
    for (unsigned i = 0; i < store->peers->count; i++) {
        struct peer *peer = store->peers->list[i];
        if (!peer->has_data)
            continue;
        uint64_t pos = peer->data_in.next_pos;
        for (uint64_t n = ledger_closed(store->ledger); n < ledger_applied(store->ledger); n++) {
            const struct ledger_entry *entry = ledger_get(store->ledger, n);
            if (entry->peer_id == peer->id && entry->peer_generation == peer->generation &&
                entry->ring_pos + entry->ring_size > pos)
                pos = entry->ring_pos + entry->ring_size;
        }
        int r = ring_reader_seek(&peer->data_in, pos);
        if (r < 0) {
            log_warning("peer %u (%s): its ring ends before what was taken from it; given up", peer->id, peer->name);
            peer->broken = true;
        } else {
            ring_release_to(&peer->data_in, pos);
        }
    }
}

int recover_warm(struct store *store)
{
    struct ledger *ledger = store->ledger;
    struct queue_table *table = store->queue_table;
    int64_t torn_end;
    int64_t end = under_way_apply(store, &torn_end);
    uint64_t again = ledger_taken(ledger) - ledger_applied(ledger);
    if (store->cause == START_AFTER_OWN_FAULT) {
        unsigned suspects = ledger_blame(ledger);
        if (suspects)
            log_warning("the predecessor died of its own fault with %u requests under suspicion", suspects);
    } else {
        ledger_working_end(ledger);
    }
    int r = commit_log_zero(store->commit_log, end, torn_end - end);
    if (r < 0) {
        ledger_end(ledger);
        return r;
    }
    ledger_untake(ledger);
    commit_log_set_end(store->commit_log, end);
    atomic_store_explicit(&table->log_min_pos, commit_log_min_pos(store->commit_log), memory_order_relaxed);
    atomic_store_explicit(&table->log_written_pos, end, memory_order_release);
    if (!store->config.sync_flush)
        atomic_store_explicit(&table->log_readable_pos, end, memory_order_release);
    peers_seek(store);
    log_info("went on at log position %" PRId64 "; %" PRIu64 " requests to answer, %" PRIu64 " to do again", end,
             ledger_applied(ledger) - ledger_closed(ledger), again);
    return 0;
}

/* Cold. */

static int first_record(struct log_reader *reader, int64_t file_pos, struct record *ret_record)
{
    log_reader_forget(reader);
    reader->limit_pos = file_pos + 65536;
    int kind = log_reader_record(reader, file_pos, false, ret_record);
    reader->limit_pos = 0;
    log_reader_forget(reader);
    return kind;
}

/* The newest file that begins no later than everything that is known to be on the disk. */
int recover_trusted_pos(struct store *store, const struct checkpoint *checkpoint, int64_t *ret_pos)
{
    struct commit_log *log = store->commit_log;
    struct log_reader reader;
    int64_t size = commit_log_file_size(log), pos = commit_log_files_end(log) - size;
    log_reader_init(&reader, log);
    for (; pos > commit_log_min_pos(log); pos -= size) {
        struct record record;
        if (first_record(&reader, pos, &record) == RECORD_MESSAGE && record.store_ms != 0 &&
            record.store_ms <= checkpoint_safe_ms(checkpoint))
            break;
    }
    log_reader_done(&reader);
    *ret_pos = pos > commit_log_min_pos(log) ? pos : commit_log_min_pos(log);
    return commit_log_drop_cache(log, *ret_pos);
}

/* After a clean stop: the newest file from which a scan sees everything that queues may lack. */
static int64_t clean_start(struct store *store, struct log_reader *reader)
{
    struct commit_log *log = store->commit_log;
    int64_t known = consume_queues_log_end(store->consume_queues), size = commit_log_file_size(log);
    for (int64_t pos = commit_log_files_end(log) - size; pos > commit_log_min_pos(log); pos -= size) {
        struct record record;
        if (pos <= known && first_record(reader, pos, &record) == RECORD_MESSAGE && record.store_ms != 0)
            return pos;
    }
    return commit_log_min_pos(log);
}

struct scan {
    struct store *store;
    struct dispatch *dispatch;
    struct log_reader reader;
    int64_t start;
    bool clean;
    int64_t durable_ms; /* what was stored until then was on the disk */
    int64_t end;     /* of the last valid record, or the start of a file behind a blank one */
    int64_t last_ms; /* store time of the last record */
    int64_t told_ms;
    void (*progress)(struct store *store, int64_t pos, int64_t end);
};

static int scan_commit(struct scan *scan)
{
    struct store *store = scan->store;
    int64_t now_ms = clock_monotonic_ms();
    atomic_fetch_add_explicit(&store->board->progress, 1, memory_order_relaxed);
    FAULT_POINT(STORE_RECOVERING);
    if (scan->progress && now_ms - scan->told_ms > PROGRESS_INTERVAL_MS) {
        scan->told_ms = now_ms;
        scan->progress(store, scan->end, commit_log_files_end(store->commit_log));
    }
    return dispatch_commit(scan->dispatch, scan->end);
}

static bool is_blank(const struct record *record)
{
    return record->topic.size == 0;
}

/* After an unclean stop: are the bytes from `pos` to the record at `next` damaged, or were they never written? Nothing behind
 * what was never written was promised. On the disk was what was stored before the checkpoint's time (of its own millisecond
 * only a part may have been), and a piece of which no sector reads as zeros. */
static int was_written(struct scan *scan, int64_t pos, int64_t next, const struct record *found)
{
    struct record record = *found;
    int64_t at = next;
    int r = 1;
    while (r == 1 && is_blank(&record)) /* the first record of the next file tells the time */
        r = log_search(&scan->reader, at + record.size, commit_log_files_end(scan->store->commit_log), &at, &record);
    if (r < 0 || (r == 1 && record.store_ms < scan->durable_ms))
        return r;
    return log_search_is_written(&scan->reader, pos, next);
}

/* Bytes at `pos` are no record. Is it the end, or damage in the middle? Records behind it tell: after a clean stop those that
 * queues know, else such as was_written() says. 1: it goes on at *ret_next. */
static int past_damage(struct scan *scan, int64_t pos, int64_t *ret_next)
{
    struct store *store = scan->store;
    struct record record;
    int64_t known = consume_queues_log_end(store->consume_queues), next;
    int found = log_search(&scan->reader, pos + 1, scan->clean ? known : commit_log_files_end(store->commit_log), &next, &record);
    int r = found == 1 && !scan->clean ? was_written(scan, pos, next, &record) : found;
    log_reader_forget(&scan->reader);
    if (r < 0)
        return r;
    if (r == 0 && scan->clean && pos < known)
        log_error("the log ends at %" PRId64 ", though queues know of messages up to %" PRId64 ": those are lost", pos, known);
    if (r == 0 && found == 1)
        log_warning("the log ends at %" PRId64 ": what follows was not written whole, and messages behind it, from %" PRId64
                    " on, which were never said to be on the disk, are dropped", pos, next);
    if (r == 0)
        return 0;
    log_error("damage in the log: %" PRId64 " bytes from position %" PRId64 " on are no whole record; it goes on behind them",
              next - pos, pos);
    board_add(store->board, COUNTER_RECORDS_DAMAGED, 1);
    consume_queues_log_damaged(store->consume_queues, pos, next - pos);
    *ret_next = next;
    return 1;
}

static int scan_run(struct scan *scan, int64_t start)
{
    struct commit_log *log = scan->store->commit_log;
    int64_t pos = start, committed = start;
    scan->end = start;
    while (pos < commit_log_files_end(log)) {
        struct record record;
        int kind = log_reader_record(&scan->reader, pos, true, &record);
        if (kind < 0)
            return kind;
        int r = kind == RECORD_MESSAGE ? dispatch_record(scan->dispatch, &record) : 0;
        if ((kind != RECORD_MESSAGE && kind != RECORD_BLANK) || r == -EBADMSG) {
            r = past_damage(scan, pos, &pos);
            if (r == 1)
                continue;
            if (r == 0) /* a blank record ends the log there, too, if the file behind it has not lasted */
                break;
        }
        if (r < 0)
            return r;
        if (kind == RECORD_MESSAGE)
            scan->last_ms = record.store_ms;
        pos = scan->end = pos + record.size;
        if (pos - committed >= SCAN_BATCH) {
            committed = pos;
            r = scan_commit(scan);
            if (r < 0)
                return r;
        }
    }
    int r = consume_queues_scan_end(scan->store->consume_queues);
    return r < 0 ? r : scan_commit(scan);
}

static int scan_all(struct scan *scan, int64_t trusted_pos)
{
    struct store *store = scan->store;
    struct commit_log *log = store->commit_log;
    if (commit_log_is_empty(log)) {
        scan->end = commit_log_min_pos(log);
        return 0;
    }
    int64_t first = commit_log_min_pos(log);
    int64_t start = trusted_pos == INT64_MAX ? clean_start(store, &scan->reader) : trusted_pos;
    if (consume_queues_damaged(store->consume_queues))
        start = first;
    consume_queues_set_mode(store->consume_queues, start > first ? CONSUME_QUEUES_SCAN : CONSUME_QUEUES_SCAN_WHOLE);
    int r = scan_run(scan, start);
    if (r == 0 && consume_queues_gap(store->consume_queues) && start > first) {
        log_warning("consume queues lack entries from before log position %" PRId64 "; making all of them again", start);
        log_reader_forget(&scan->reader);
        consume_queues_set_mode(store->consume_queues, CONSUME_QUEUES_SCAN_WHOLE);
        start = first;
        r = scan_run(scan, start);
    }
    if (r == 0 && consume_queues_gap(store->consume_queues))
        log_warning("some consume queues have gaps: their messages are not in the log");
    consume_queues_set_mode(store->consume_queues, CONSUME_QUEUES_SERVE);
    scan->start = start;
    return r;
}

int recover_cold(struct store *store, int64_t trusted_pos, int64_t durable_ms,
                 void (*progress)(struct store *store, int64_t pos, int64_t end))
{
    struct queue_table *table = store->queue_table;
    struct scan scan = {.store = store, .progress = progress, .told_ms = clock_monotonic_ms(),
                        .clean = trusted_pos == INT64_MAX, .durable_ms = durable_ms};
    int64_t begin_ms = clock_monotonic_ms();
    atomic_store(&table->log_readable_pos, commit_log_min_pos(store->commit_log));
    atomic_store(&table->dispatched_pos, commit_log_min_pos(store->commit_log));
    int r = dispatch_new(store, &scan.dispatch);
    if (r < 0)
        return r;
    log_reader_init(&scan.reader, store->commit_log);
    r = scan_all(&scan, trusted_pos);
    log_reader_done(&scan.reader);
    dispatch_free(scan.dispatch);
    if (r == 0)
        r = commit_log_cut(store->commit_log, scan.end);
    /* The predecessor may have written without a sync: what counts as flushed from now on must be; so must the cut, or old
     * bytes could stand behind new ones one day. */
    if (r == 0)
        r = commit_log_sync(store->commit_log, scan.start, scan.end + 1);
    if (r == 0)
        r = consume_queues_cut(store->consume_queues, scan.end);
    if (r < 0)
        return r;
    atomic_store(&table->log_min_pos, commit_log_min_pos(store->commit_log));
    atomic_store(&table->log_written_pos, scan.end);
    atomic_store(&table->log_flushed_pos, scan.end);
    atomic_store(&table->dispatched_pos, scan.end);
    atomic_store_explicit(&table->log_readable_pos, scan.end, memory_order_release);
    metadata_clamp_offsets(store);
    ledger_begin(store->ledger, scan.end);
    log_info("recovered from files in %" PRId64 " ms (%s stop before): log %" PRId64 " to %" PRId64,
             clock_monotonic_ms() - begin_ms, trusted_pos == INT64_MAX ? "clean" : "unclean", commit_log_min_pos(store->commit_log),
             scan.end);
    return 0;
}
