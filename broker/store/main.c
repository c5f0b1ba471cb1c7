/* pintle-store: the single writer of a broker. Maps its memory, recovers, serves, and on stop leaves files that say so;
 * its life as a worker is ipc/worker's. It speaks to no network. Exit codes and order of start: ipc/contract.h. Fatal
 * here: anything without which it could not serve; the supervisor decides what comes next. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "config.h"
#include "contract.h"
#include "file_layer.h"
#include "grants.h"
#include "lifecycle.h"
#include "peers.h"
#include "registration.h"
#include "run_time_config.h"
#include "turn.h"

enum { REGISTERED_MS = 1000 };

static struct store store;

static int failed(int exit_code, const char *what, int r)
{
    return worker_failed(&store.worker, exit_code, "%s: %s", what, strerror(-r));
}

static void on_stop(void *context)
{
    if (store.turn)
        turn_stop(store.turn);
}

static void on_reload(void *context, struct conf *granted)
{
    run_time_config_reload(context, granted);
}

static const struct worker_handlers handlers = {
    .room = SANDBOX_STORE,
    .on_grant = grants_take,
    .on_later_grant = grants_take_later,
    .on_stop = on_stop,
    .on_reload = on_reload,
};

static void progress(struct store *s, int64_t pos, int64_t end)
{
    char text[128];
    snprintf(text, sizeof text, "recovering: commit log at %" PRId64 " of %" PRId64, pos, end);
    log_info("%s", text);
    worker_status(&s->worker, text);
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

static void serves(struct store *s)
{
    worker_ready(&s->worker);
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
    struct checkpoint checkpoint;
    const char *what;
    r = lifecycle_recover(&store, progress, &checkpoint, &what);
    if (r == 0)
        r = lifecycle_serve(&store, &checkpoint, &what);
    if (r < 0)
        return failed(EXIT_CODE_IO, what, r);
    tell_fronts();
    if (store.cause != START_FIRST) { /* the name servers know this broker from its predecessor */
        worker_ready(worker);
        return 0;
    }
    r = registration_when_known(&store, REGISTERED_MS, serves);
    return r < 0 ? failed(EXIT_CODE_IO, "registration", r) : 0;
}

static int stop(void)
{
    int r = lifecycle_stop(&store);
    return r < 0 ? failed(EXIT_CODE_IO, "stop: the next start recovers, because of", r) : 0;
}

int main(void)
{
    int code = worker_init(&store.worker, &handlers, &store);
    signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes is a failed write, not a death */
    store.image_fd = store.lock_fd = -1;
    store.peers = calloc(1, sizeof *store.peers);
    if (code == 0)
        code = store.peers ? start() : failed(EXIT_FAILURE, "start", -ENOMEM);
    if (code == 0) {
        int r = turn_loop(&store);
        code = r < 0 ? failed(EXIT_CODE_IO, "event loop", r) : stop();
    }
    lifecycle_free(&store);
    file_layer_attach(NULL);
    worker_free(&store.worker);
    return code;
}
