/* pintle-store: the single writer of a broker. Maps its memory, recovers, serves, and on stop leaves files that say so;
 * its life as a worker is ipc/worker's. It speaks to no network. Exit codes and order of start: ipc/contract.h. Fatal
 * here: anything without which it could not serve; the supervisor decides what comes next. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "checkpoint.h"
#include "commit_log.h"
#include "config.h"
#include "consume_queue.h"
#include "contract.h"
#include "file_layer.h"
#include "flush.h"
#include "grants.h"
#include "metadata.h"
#include "peers.h"
#include "recover.h"
#include "shm/ledger.h"
#include "turn.h"

static struct store store;
static int lock_fd = -1;

static int failed(int exit_code, const char *what, int r)
{
    return worker_failed(&store.worker, exit_code, "%s: %s", what, strerror(-r));
}

static void on_stop(void *context)
{
    if (store.turn)
        turn_stop(store.turn);
}

static const struct worker_handlers handlers = {
    .on_grant = grants_take,
    .on_later_grant = grants_take_later,
    .on_stop = on_stop,
};

static int folder_open(void)
{
    int r = 0;
    for (char *slash = store.config.store_root; r == 0 && (slash = strchr(slash + 1, '/'));) {
        *slash = 0;
        r = file_layer_mkdir(store.config.store_root);
        *slash = '/';
    }
    if (r == 0)
        r = file_layer_mkdir(store.config.store_root);
    if (r < 0)
        return failed(EXIT_CODE_IO, store.config.store_root, r);
    r = checkpoint_lock_take(store.config.store_root, &lock_fd);
    if (r < 0)
        return failed(EXIT_CODE_IO, r == -EBUSY ? "another broker uses the store's folder" : "lock file", r);
    r = commit_log_open(&store.config, &store.commit_log);
    if (r == -EUCLEAN)
        return failed(EXIT_CODE_IO, "the commit log's folder holds files of another size or name", r);
    return r < 0 ? failed(EXIT_CODE_IO, "commit log", r) : 0;
}

static void progress(struct store *s, int64_t pos, int64_t end)
{
    char text[128];
    snprintf(text, sizeof text, "recovering: commit log at %" PRId64 " of %" PRId64, pos, end);
    log_info("%s", text);
    worker_status(&s->worker, text);
}

static int recover(void)
{
    struct checkpoint checkpoint;
    bool clean = !checkpoint_abort_exists(store.config.store_root);
    bool warm = recover_is_warm(&store);
    int r = checkpoint_read(store.config.store_root, &checkpoint);
    if (!warm)
        ledger_end(store.ledger); /* a death from here on starts over from files */
    if (r == 0 && clean) /* else the predecessor's file says it as well, and is not written behind a busy disk */
        r = checkpoint_abort_make(store.config.store_root);
    if (r < 0)
        return failed(EXIT_CODE_IO, "checkpoint or abort file", r);
    r = metadata_open(&store, TAKE_FD(store.image_fd), warm);
    if (r < 0)
        return failed(EXIT_CODE_IO, "metadata", r);
    r = consume_queues_open(&store, warm, commit_log_min_pos(store.commit_log));
    if (r == 0)
        r = warm ? recover_warm(&store) : recover_cold(&store, &checkpoint, clean, progress);
    if (r == 0)
        r = flush_start(&store, atomic_load(&store.queue_table->log_flushed_pos), &checkpoint, true, &store.flush);
    if (r == 0)
        r = turn_new(&store, &store.turn);
    if (r == 0)
        r = turn_resume(&store);
    if (r < 0) {
        ledger_end(store.ledger);
        return failed(EXIT_CODE_IO, "recovery", r);
    }
    return 0;
}

/* Fronts see a new store by its generation; they may all be asleep. */
static void tell_fronts(void)
{
    atomic_store_explicit(&store.queue_table->store_generation, store.generation, memory_order_release);
    for (unsigned i = 0; i < store.peers->count; i++) {
        struct peer *peer = store.peers->list[i];
        if (peer->has_data)
            ring_call_reader(&peer->data_out);
        if (peer->has_control)
            ring_call_reader(&peer->control_out);
    }
}

/* 0, or the exit code. */
static int start(void)
{
    PN_FREE char *error = NULL;
    struct worker *worker = &store.worker;
    store.event = worker->event;
    store.runtime_dir = worker->runtime_dir;
    store.generation = worker->generation;
    int code = worker_begin(worker);
    if (code)
        return code;
    store.board = worker->board;
    store.cause = worker->cause;
    file_layer_attach(store.board);
    if (!store.queue_table || !store.ledger || store.image_fd < 0)
        return failed(EXIT_CODE_USAGE, "queue table, ledger or image", -ENOENT);
    int r = config_load(TAKE_FD(worker->config_fd), &store.config, &error);
    if (r < 0)
        return failed(EXIT_CODE_CONFIG, error ? error : "configuration", r);
    code = folder_open();
    if (code == 0)
        code = recover();
    if (code)
        return code;
    r = metadata_start(&store);
    if (r < 0)
        return failed(EXIT_CODE_IO, "metadata", r);
    peers_announce(&store);
    tell_fronts();
    worker_ready(worker);
    return 0;
}

/* Leaves the folder as a clean stop does: everything on the disk, queues cover the log, no abort file. */
static int stop(void)
{
    metadata_stop(&store);
    int r = turn_flush_all(&store);
    flush_stop(TAKE_PTR(store.flush)); /* writes the checkpoint */
    if (r == 0)
        r = checkpoint_abort_remove(store.config.store_root);
    if (r < 0)
        return failed(EXIT_CODE_IO, "stop: the next start recovers, because of", r);
    ledger_end(store.ledger);
    log_info("stopped; log ends at %" PRId64, commit_log_end(store.commit_log));
    return 0;
}

static void free_all(void)
{
    flush_stop(store.flush);
    turn_free(store.turn);
    peers_free(&store);
    metadata_free(&store);
    consume_queues_free(store.consume_queues);
    commit_log_free(store.commit_log);
    ledger_detach(store.ledger);
    config_free(&store.config);
    queue_table_detach(store.queue_table);
    file_layer_attach(NULL);
    pn_close_p(&store.image_fd);
    worker_free(&store.worker);
    pn_close_p(&lock_fd);
}

int main(void)
{
    int code = worker_init(&store.worker, &handlers, &store);
    signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes is a failed write, not a death */
    store.image_fd = -1;
    store.peers = calloc(1, sizeof *store.peers);
    if (code == 0)
        code = store.peers ? start() : failed(EXIT_FAILURE, "start", -ENOMEM);
    if (code == 0) {
        int r = turn_loop(&store);
        code = r < 0 ? failed(EXIT_CODE_IO, "event loop", r) : stop();
    }
    free_all();
    return code;
}
