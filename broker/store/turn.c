/* One turn of the store, in the order that makes death at any point harmless (LAYOUT.md of ipc/shm, "Ledger"):
 *
 *   control records → data records, encoded into one batch → ledger "taken" → log → ledger "applied" → ring bytes released
 *   → answers, behind the catalogue records that they depend on → queues, derived → max offsets → wake-ups
 *
 * Under SYNC_FLUSH answers and queues follow the flush thread instead: only what is on the disk is acknowledged or readable,
 * and the next batch goes to the log meanwhile. There is no sleep while a ring holds something that can be taken. Runs on
 * the deciding thread. Fatal: a queue file that cannot be written twice in a row is not (it is tried again), a broken
 * promise of our own is. */
#include "turn.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "answers.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/panic.h"
#include "commit_log.h"
#include "consume_queue.h"
#include "delay.h"
#include "dispatch.h"
#include "fault/fault.h"
#include "file_layer.h"
#include "flush.h"
#include "metadata.h"
#include "msg/msg_check.h"
#include "queue_mend.h"
#include "send.h"
#include "shm/ledger.h"
#include "topics.h"

enum {
    CONTROL_RECORDS_PER_PEER = 64,
    DATA_BYTES_PER_VISIT = 256 * 1024, /* of one peer, before the next one has its chance */
    TURNS_BETWEEN_EVENTS = 64,
    DISPATCH_BYTES = 4 << 20,
    QUEUES_SYNC_MS = 5000,
    STEADY_FLUSH_BYTES = 32 << 20,
    IDLE_TICKS = 12, /* half seconds without work until memory is given back and the clock stops */
    DRAIN_MS = 3000,
};

struct turn {
    struct store *store;
    struct send *send;
    struct answers *answers;
    struct dispatch *dispatch;
    struct send_batch batch;
    unsigned first_peer; /* whose turn it is to be first */
    bool stop;
    bool work_left;
    sd_event_source *timer;
    bool ticking;
    unsigned idle_ticks;
    int64_t last_store_ms; /* of the last record in the log */
    int64_t flushed_at_ms, queues_at_ms, dispatch_failed_ms;
    bool failure_told, full_told;
    int64_t flush_asked_pos;
    bool trimmed;
};

static int on_tick(sd_event_source *source, uint64_t usec, void *context);
static void tick_start(struct turn *turn);

int turn_new(struct store *store, struct turn **ret_turn)
{
    struct turn *turn = calloc(1, sizeof *turn);
    if (!turn)
        return -ENOMEM;
    turn->store = store;
    int r = send_new(store, &turn->send);
    if (r == 0)
        r = answers_new(store, &turn->answers);
    if (r == 0)
        r = dispatch_new(store, &turn->dispatch);
    if (r == 0)
        r = send_batch_new(&turn->batch);
    if (r == 0)
        r = sd_event_add_time_relative(store->event, &turn->timer, CLOCK_MONOTONIC, 0, 50000, on_tick, turn);
    if (r >= 0)
        r = sd_event_source_set_enabled(turn->timer, SD_EVENT_OFF);
    if (r < 0) {
        turn_free(turn);
        return r;
    }
    turn->flushed_at_ms = turn->queues_at_ms = clock_monotonic_ms();
    turn->flush_asked_pos = commit_log_end(store->commit_log);
    *ret_turn = turn;
    return 0;
}

void turn_free(struct turn *turn)
{
    if (!turn)
        return;
    sd_event_source_disable_unref(turn->timer);
    send_batch_free(&turn->batch);
    dispatch_free(turn->dispatch);
    answers_free(turn->answers);
    send_free(turn->send);
    free(turn);
}

void turn_stop(struct turn *turn)
{
    turn->stop = true;
}

static void peer_break(struct store *store, struct peer *peer, const char *what)
{
    if (peer->broken)
        return;
    peer->broken = true;
    board_add(store->board, COUNTER_RING_BAD, 1);
    log_warning("peer %u (%s): %s; its rings are given up", peer->id, peer->name, what);
}

/* Control. */

static bool control_take(struct turn *turn, struct peer *peer)
{
    struct store *store = turn->store;
    struct ring_view view;
    unsigned taken = 0;
    while (taken < CONTROL_RECORDS_PER_PEER && !peer->broken) {
        if (ring_room(&peer->control_out) < PEER_CONTROL_ANSWER_ROOM)
            break;
        int r = ring_peek(&peer->control_in, &view);
        if (r < 0)
            peer_break(store, peer, "nonsense in the control ring");
        if (r <= 0)
            break;
        enum msg_refusal refusal = view.record.kind == MSG_SEND ? MSG_REFUSED_KIND
                                   : msg_check_request(view.record.kind, view.payload, view.payload_size);
        if (refusal == MSG_OK) {
            metadata_take(store, peer, &view);
        } else {
            struct msg_request request = {0};
            if (view.payload_size >= sizeof request)
                memcpy(&request, view.payload, sizeof request);
            board_add(store->board, COUNTER_RECORDS_REFUSED, 1);
            peer_answer(peer, request.token, view.record.pos, refusal_code(REFUSAL_BAD_RECORD), 0,
                        msg_refusal_text(refusal));
        }
        ring_next(&peer->control_in, &view);
        taken++;
    }
    board_add(store->board, COUNTER_REQUESTS, taken);
    return taken > 0;
}

static bool control_turn(struct turn *turn)
{
    struct peers *peers = turn->store->peers;
    bool worked = false;
    for (unsigned i = 0; i < peers->count; i++)
        if (peers->list[i]->has_control && !peers->list[i]->broken && control_take(turn, peers->list[i]))
            worked = true;
    if (metadata_answer_held(turn->store))
        worked = true;
    metadata_feed_catalogue(turn->store);
    peers_publish(peers);
    if (!worked)
        return false;
    /* Released behind the answers: a successor does again what has none. */
    for (unsigned i = 0; i < peers->count; i++)
        if (peers->list[i]->has_control && !peers->list[i]->broken)
            ring_release_to(&peers->list[i]->control_in, metadata_release_pos(turn->store, peers->list[i]));
    return true;
}

/* Data. */

/* Takes from one ring; false when the batch is closed. */
static bool data_take(struct turn *turn, struct peer *peer)
{
    struct ring_view view;
    uint64_t end = peer->data_in.next_pos + DATA_BYTES_PER_VISIT;
    peer->wanted_room = 0;
    while (!turn->batch.closed && peer->data_in.next_pos < end) {
        int r = ring_peek(&peer->data_in, &view);
        if (r < 0)
            peer_break(turn->store, peer, "nonsense in the data ring");
        if (r <= 0)
            break;
        enum send_taken taken = send_take(turn->send, peer, &view, &turn->batch);
        if (taken == SEND_NO_ROOM) {
            board_add(turn->store->board, COUNTER_RING_FULL, 1);
            break;
        }
        if (taken == SEND_FULL)
            break;
        ring_next(&peer->data_in, &view);
    }
    return !turn->batch.closed;
}

static void batch_collect(struct turn *turn)
{
    struct peers *peers = turn->store->peers;
    unsigned before;
    send_batch_begin(turn->send, &turn->batch);
    delay_collect(turn->store, turn->send, &turn->batch);
    if (peers->count)
        turn->first_peer = (turn->first_peer + 1) % peers->count;
    do {
        before = turn->batch.requests;
        for (unsigned i = 0; i < peers->count; i++) {
            struct peer *peer = peers->list[(turn->first_peer + i) % peers->count];
            if (peer->has_data && !peer->broken && !data_take(turn, peer))
                return;
        }
    } while (turn->batch.requests > before);
}

/* The disk is not to be trusted any more: said once, to everybody who may ask. */
static void disk_failed(struct turn *turn)
{
    char text[600];
    struct store *store = turn->store;
    if (turn->failure_told || !commit_log_error(store->commit_log))
        return;
    turn->failure_told = true;
    commit_log_error_text(store->commit_log, false, text, sizeof text);
    log_error("commit log: %s; no message is taken until a restart, reads go on", text);
    worker_status(&store->worker, text);
    /* A successor is not to take the page cache's word: it recovers from what the disk holds. */
    ledger_end(store->ledger);
}

/* Offsets that were given to records of a batch that is not in the log. */
static void offsets_take_back(struct turn *turn)
{
    struct store *store = turn->store;
    const struct send_batch *batch = &turn->batch;
    struct record record;
    for (size_t at = 0; at < batch->used; at += record.size) {
        int64_t pos = batch->base_pos + (int64_t)at;
        if (record_parse(batch->data + at, batch->used - at, pos, commit_log_file_left(store->commit_log, pos), false,
                         &record) != RECORD_MESSAGE)
            return; /* a blank one */
        struct topic *topic = topics_find(store->topics, record.topic);
        pn_assert(topic && (uint32_t)record.queue_id < topic->slot_count);
        struct consume_queue *queue = consume_queues_get(store->consume_queues, topic->slot_base + (uint32_t)record.queue_id);
        pn_assert(queue);
        if (queue->next_offset > record.queue_offset)
            queue->next_offset = record.queue_offset;
    }
}

/* The disk refused the batch: its requests are refused too, under the same numbers. */
static void batch_refuse(struct turn *turn, int error, uint64_t first, uint64_t end)
{
    struct store *store = turn->store;
    bool full = commit_log_out_of_space(error);
    if (full && !turn->full_told)
        log_error("commit log: no room for messages at log position %" PRId64 " (%s): %s; they are refused until there is",
                  turn->batch.base_pos, commit_log_folder(store->commit_log), strerror(-error));
    turn->full_told = turn->full_told || full;
    offsets_take_back(turn);
    for (uint64_t n = first; n < end; n++) {
        struct ledger_entry entry = *ledger_get(store->ledger, n);
        entry.log_pos = commit_log_end(store->commit_log);
        entry.size = entry.count = 0;
        if (!entry.refusal)
            entry.refusal = full ? REFUSAL_NO_SPACE : REFUSAL_DISK;
        ledger_replace(store->ledger, n, &entry);
    }
    disk_failed(turn);
}

static void batch_written(struct turn *turn)
{
    struct store *store = turn->store;
    struct queue_table *table = store->queue_table;
    int64_t end = commit_log_end(store->commit_log);
    turn->last_store_ms = turn->batch.store_ms;
    if (turn->full_told)
        log_info("commit log: there is room again; messages are taken");
    turn->full_told = false;
    atomic_store_explicit(&table->log_written_pos, end, memory_order_release);
    if (!store->config.sync_flush)
        atomic_store_explicit(&table->log_readable_pos, end, memory_order_release);
    board_add(store->board, COUNTER_MESSAGES_STORED, turn->batch.messages);
    board_add(store->board, COUNTER_MESSAGE_BYTES_STORED, turn->batch.used);
    board_add(store->board, COUNTER_APPEND_BATCHES, 1);
    /* Else the clock does it; but dirty pages by the gigabyte would stall whoever writes next. */
    if (store->config.sync_flush || end - turn->flush_asked_pos >= STEADY_FLUSH_BYTES) {
        turn->flush_asked_pos = end;
        flush_log(store->flush, end, turn->last_store_ms);
    }
}

static void rings_release(struct turn *turn)
{
    struct peers *peers = turn->store->peers;
    for (unsigned i = 0; i < peers->count; i++) {
        struct peer *peer = peers->list[i];
        if (!peer->has_data || peer->broken)
            continue;
        if (ledger_suspects(turn->store->ledger))
            ledger_absolve(turn->store->ledger, peer->id, peer->generation, peer->data_in.next_pos);
        ring_release_to(&peer->data_in, peer->data_in.next_pos);
    }
}

static bool data_turn(struct turn *turn)
{
    struct store *store = turn->store;
    struct ledger *ledger = store->ledger;
    turn->batch.used = 0;
    turn->batch.requests = 0;
    if (ledger_room(ledger) == 0)
        return false;
    batch_collect(turn);
    metadata_batch_taken(store, turn->batch.base_pos);
    if (turn->batch.requests == 0 && turn->batch.used == 0) {
        delay_batch_done(store, false);
        return false;
    }
    uint64_t first = ledger_taken(ledger);
    ledger_take(ledger, turn->batch.requests);
    FAULT_POINT(STORE_TAKEN);
    int r = 0;
    if (turn->batch.used > 0)
        r = commit_log_append(store->commit_log, turn->batch.data, turn->batch.used, turn->batch.ends_file);
    if (r < 0) {
        batch_refuse(turn, r, first, ledger_taken(ledger));
        turn->batch.used = 0;
    }
    FAULT_POINT(STORE_APPENDED);
    ledger_apply(ledger, ledger_taken(ledger));
    delay_batch_done(store, r < 0);
    FAULT_POINT(STORE_LEDGER_WRITTEN);
    if (turn->batch.used > 0)
        batch_written(turn);
    rings_release(turn);
    FAULT_POINT(STORE_RELEASED);
    board_add(store->board, COUNTER_REQUESTS, turn->batch.requests);
    return true;
}

/* What comes after the log. */

static bool flush_look(struct turn *turn)
{
    struct store *store = turn->store;
    struct queue_table *table = store->queue_table;
    int error = flush_error(store->flush);
    if (error)
        commit_log_fail(store->commit_log, error, "sync", flush_error_pos(store->flush));
    disk_failed(turn);
    int64_t done = flush_done_pos(store->flush);
    if (done <= atomic_load_explicit(&table->log_flushed_pos, memory_order_relaxed))
        return false;
    atomic_store_explicit(&table->log_flushed_pos, done, memory_order_release);
    if (store->config.sync_flush && done > atomic_load_explicit(&table->log_readable_pos, memory_order_relaxed))
        atomic_store_explicit(&table->log_readable_pos, done, memory_order_release);
    return true;
}

static bool answers_turn(struct turn *turn)
{
    struct store *store = turn->store;
    if (ledger_closed(store->ledger) == ledger_applied(store->ledger))
        return false;
    int64_t stable = INT64_MAX;
    if (store->config.sync_flush && !flush_error(store->flush))
        /* What flush_look() has published, not what is done since: an answer is never ahead of the readable end. */
        stable = atomic_load_explicit(&store->queue_table->log_flushed_pos, memory_order_relaxed);
    int64_t known = metadata_stable_pos(store);
    if (known < stable)
        stable = known;
    metadata_feed_catalogue(store);
    return answers_post(turn->answers, stable, known, &turn->batch) > 0;
}

/* A queue file that cannot be written is tried again each second; the log has the messages meanwhile. */
static bool dispatch_turn(struct turn *turn)
{
    struct store *store = turn->store;
    int64_t until = atomic_load_explicit(&store->queue_table->log_readable_pos, memory_order_relaxed);
    if (atomic_load_explicit(&store->queue_table->dispatched_pos, memory_order_relaxed) >= until)
        return false;
    if (turn->dispatch_failed_ms && clock_monotonic_ms() - turn->dispatch_failed_ms < 1000)
        return false;
    int r = dispatch_log(turn->dispatch, until, turn->batch.data, turn->batch.base_pos, turn->batch.used, DISPATCH_BYTES);
    if (r < 0) {
        if (!turn->dispatch_failed_ms)
            log_error("consume queues: indexing stopped: %s; tried again each second", strerror(-r));
        turn->dispatch_failed_ms = clock_monotonic_ms();
        return false;
    }
    if (turn->dispatch_failed_ms)
        log_info("consume queues: indexing goes on");
    turn->dispatch_failed_ms = 0;
    return true;
}

static void broken_drop(struct store *store)
{
    for (unsigned i = 0; i < store->peers->count;) {
        struct peer *peer = store->peers->list[i];
        if (peer->broken)
            peers_drop(store, peer->id, peer->generation);
        else
            i++;
    }
}

bool turn_run(struct turn *turn)
{
    struct store *store = turn->store;
    bool worked = control_turn(turn);
    if (data_turn(turn))
        worked = true;
    if (flush_look(turn))
        worked = true;
    if (answers_turn(turn))
        worked = true;
    if (dispatch_turn(turn))
        worked = true;
    if (queue_mend_run(store->queue_mend))
        worked = true;
    broken_drop(store);
    atomic_fetch_add_explicit(&store->board->progress, 1, memory_order_relaxed);
    if (worked)
        tick_start(turn);
    return worked;
}

/* Sleep. */

static bool peer_may_sleep(struct turn *turn, struct peer *peer)
{
    bool sleep = true;
    if (peer->has_control && !peer->broken) {
        if (ring_room(&peer->control_out) < 2 * PEER_CONTROL_ANSWER_ROOM)
            sleep = !ring_want_room(&peer->control_out, 2 * PEER_CONTROL_ANSWER_ROOM);
        if (ring_room(&peer->control_out) >= PEER_CONTROL_ANSWER_ROOM && !ring_may_sleep(&peer->control_in))
            sleep = false;
    }
    if (peer->has_data && !peer->broken && ledger_room(turn->store->ledger) > 0) {
        /* A ring whose answers have no room waits for its peer to read, not for more requests. */
        if (peer->wanted_room > 0 ? ring_want_room(&peer->data_out, peer->wanted_room)
                                  : !ring_may_sleep(&peer->data_in))
            sleep = false;
    }
    return sleep;
}

static bool may_sleep(struct turn *turn)
{
    struct peers *peers = turn->store->peers;
    bool sleep = true;
    for (unsigned i = 0; i < peers->count; i++)
        if (!peer_may_sleep(turn, peers->list[i]))
            sleep = false;
    return sleep;
}

static void awake(struct turn *turn)
{
    struct peers *peers = turn->store->peers;
    for (unsigned i = 0; i < peers->count; i++) {
        if (peers->list[i]->has_control)
            ring_awake(&peers->list[i]->control_in);
        if (peers->list[i]->has_data)
            ring_awake(&peers->list[i]->data_in);
    }
}

/* Housekeeping, twice a second while there is anything to do. */

static void queues_sync(struct turn *turn)
{
    int *fds = NULL;
    unsigned count = 0;
    int64_t store_ms = dispatch_last_store_ms(turn->dispatch);
    turn->queues_at_ms = clock_monotonic_ms();
    bool everything = false;
    int r = consume_queues_take_dirty(turn->store->consume_queues, &fds, &count, &everything);
    if (r < 0 || (count == 0 && !everything)) {
        free(fds);
        return;
    }
    flush_queues(turn->store->flush, fds, count, everything, store_ms);
}

static void log_sync(struct turn *turn, int64_t now_ms)
{
    struct store *store = turn->store;
    int64_t dirty = commit_log_end(store->commit_log) - flush_done_pos(store->flush);
    if (dirty <= 0 || turn->last_store_ms == 0)
        return;
    if (dirty < store->config.flush_least_pages * 4096 && now_ms - turn->flushed_at_ms < store->config.flush_thorough_ms)
        return;
    turn->flushed_at_ms = now_ms;
    flush_log(store->flush, commit_log_end(store->commit_log), turn->last_store_ms);
}

static void memory_trim(struct turn *turn)
{
    struct peers *peers = turn->store->peers;
    for (unsigned i = 0; i < peers->count; i++) {
        /* A hole needs the lock of the memfd, which a hostile client could hold; its ring is small. */
        if (peers->list[i]->has_data && !peers->list[i]->native)
            ring_writer_trim(&peers->list[i]->data_out);
        if (peers->list[i]->has_control)
            ring_writer_trim(&peers->list[i]->control_out);
    }
    turn->batch.used = 0;
    send_batch_trim(&turn->batch);
}

static int on_tick(sd_event_source *source, uint64_t usec, void *context)
{
    struct turn *turn = context;
    int64_t now_ms = clock_monotonic_ms();
    bool unsynced = commit_log_end(turn->store->commit_log) > flush_done_pos(turn->store->flush) &&
                    !commit_log_error(turn->store->commit_log);
    log_sync(turn, now_ms);
    delay_tick(turn->store);
    turn->idle_ticks++;
    if (now_ms - turn->queues_at_ms >= QUEUES_SYNC_MS)
        queues_sync(turn);
    if (turn->idle_ticks > IDLE_TICKS && !unsynced && !turn->dispatch_failed_ms) {
        memory_trim(turn);
        turn->ticking = false;
        return sd_event_source_set_enabled(source, SD_EVENT_OFF);
    }
    sd_event_source_set_time_relative(source, (uint64_t)turn->store->config.flush_interval_ms * 1000);
    return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static void tick_start(struct turn *turn)
{
    turn->idle_ticks = 0;
    if (turn->ticking)
        return;
    turn->ticking = true;
    sd_event_source_set_time_relative(turn->timer, (uint64_t)turn->store->config.flush_interval_ms * 1000);
    sd_event_source_set_enabled(turn->timer, SD_EVENT_ONESHOT);
}

static void drain(struct turn *turn)
{
    struct store *store = turn->store;
    int64_t until_ms = clock_monotonic_ms() + DRAIN_MS;
    while (clock_monotonic_ms() < until_ms) {
        if (turn_run(turn))
            continue;
        bool open = ledger_closed(store->ledger) < ledger_applied(store->ledger) || metadata_holds_answers(store);
        if (!open)
            return;
        if (worker_events(&store->worker, 10000) < 0)
            return;
    }
    log_warning("stop: not everything could be answered in %d ms", DRAIN_MS);
}

int turn_loop(struct store *store)
{
    struct turn *turn = store->turn;
    unsigned since_events = 0;
    board_set_state(store->board, BOARD_RUNNING);
    tick_start(turn);
    while (!turn->stop) {
        int r = 0;
        if (turn_run(turn)) {
            if (++since_events < TURNS_BETWEEN_EVENTS)
                continue;
            r = worker_events(&store->worker, 0);
        } else {
            r = worker_events(&store->worker, may_sleep(turn) ? UINT64_MAX : 0);
            awake(turn);
        }
        since_events = 0;
        if (r < 0)
            return r;
    }
    drain(turn);
    return 0;
}

int turn_resume(struct store *store)
{
    struct turn *turn = store->turn;
    answers_resume(turn->answers);
    int r = dispatch_count_offsets(turn->dispatch, atomic_load(&store->queue_table->dispatched_pos),
                                   commit_log_end(store->commit_log));
    if (r < 0)
        return r;
    turn->last_store_ms = clock_realtime_ms() - 1; /* of the last record, or later: it only bounds a later scan */
    if (store->config.sync_flush)
        flush_log(store->flush, commit_log_end(store->commit_log), turn->last_store_ms);
    return 0;
}

int turn_flush_all(struct store *store)
{
    struct turn *turn = store->turn;
    int64_t end = commit_log_end(store->commit_log);
    flush_look(turn);
    if (!store->config.sync_flush)
        while (dispatch_turn(turn))
            ;
    queues_sync(turn);
    flush_log(store->flush, end, turn->last_store_ms);
    int64_t until_ms = clock_monotonic_ms() + DRAIN_MS;
    while (flush_done_pos(store->flush) < end && !flush_error(store->flush) && clock_monotonic_ms() < until_ms)
        worker_events(&store->worker, 10000);
    flush_look(turn);
    while (dispatch_turn(turn))
        ;
    queues_sync(turn);
    return flush_error(store->flush) ? flush_error(store->flush)
           : flush_done_pos(store->flush) < end ? -EBUSY : commit_log_error(store->commit_log);
}
