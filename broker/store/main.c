/* pintle-store: the single writer of a broker. Receives its descriptors, maps its memory, recovers, serves, and on stop
 * leaves files that say so. It speaks to no network. Exit codes and order of start: ipc/contract.h. Fatal here: anything
 * without which it could not serve; the supervisor decides what comes next. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/panic.h"
#include "checkpoint.h"
#include "commit_log.h"
#include "config.h"
#include "consume_queue.h"
#include "contract.h"
#include "fault/fault.h"
#include "file_layer.h"
#include "flush.h"
#include "metadata.h"
#include "peers.h"
#include "recover.h"
#include "shm/ledger.h"
#include "turn.h"
#include "worker.h"

static struct store store;
static int lock_fd = -1;

/* One clear line for people and for the supervisor. */
static int failed(int exit_code, const char *what, int r)
{
    char text[512];
    snprintf(text, sizeof text, "%s: %s", what, strerror(-r));
    log_write(LOG_LEVEL_FATAL, "%s", text);
    if (store.worker)
        worker_failed(store.worker, exit_code, text);
    return exit_code;
}

static int memory_map(struct worker_grants *grants)
{
    int r = -ENOENT;
    if (grants->board >= 0)
        r = board_attach(grants->board, true, &store.board);
    if (r < 0)
        return failed(EXIT_CODE_USAGE, "board", r);
    board_begin(store.board, store.generation);
    panic_set_last_words(store.board->last_words, sizeof store.board->last_words);
    file_layer_attach(store.board);
    if (grants->fault_page >= 0)
        r = fault_page_attach(grants->fault_page, grants->worker_number);
    if (r < 0)
        return failed(EXIT_CODE_USAGE, "fault page", r);
    r = grants->queue_table < 0 ? -ENOENT : queue_table_attach(grants->queue_table, true, &store.queue_table);
    if (r < 0)
        return failed(EXIT_CODE_USAGE, "queue table", r);
    r = grants->ledger < 0 ? -ENOENT : ledger_attach(grants->ledger, &store.ledger);
    if (r < 0)
        return failed(EXIT_CODE_USAGE, "ledger", r);
    return grants->image < 0 ? failed(EXIT_CODE_USAGE, "image", -ENOENT) : 0;
}

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
    worker_status(s->worker, text);
}

static int recover(int image_fd)
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
    r = metadata_open(&store, image_fd, warm);
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
    uint64_t one = 1;
    atomic_store_explicit(&store.queue_table->store_generation, store.generation, memory_order_release);
    for (unsigned i = 0; i < store.peers->count; i++) {
        const struct peer *peer = store.peers->list[i];
        if ((peer->has_data && write(peer->data_out.fds.data, &one, sizeof one) < 0) ||
            (peer->has_control && write(peer->control_out.fds.data, &one, sizeof one) < 0))
            log_warning("peer %u: %s", peer->id, strerror(errno));
    }
}

static int start(void)
{
    struct worker_grants grants;
    PN_FREE char *error = NULL;
    int r = worker_receive(&store, &grants);
    if (r < 0)
        return failed(EXIT_CODE_USAGE, "descriptors from the supervisor", r);
    int code = memory_map(&grants);
    if (code)
        return code;
    r = worker_begin(&store, &grants);
    if (r < 0)
        return failed(EXIT_CODE_USAGE, "bus", r);
    r = grants.config < 0 ? -ENOENT : config_load(grants.config, &store.config, &error);
    if (r < 0)
        return failed(EXIT_CODE_CONFIG, error ? error : "configuration", r);
    code = folder_open();
    if (code == 0)
        code = recover(grants.image);
    if (code)
        return code;
    r = metadata_start(&store);
    if (r < 0)
        return failed(EXIT_CODE_IO, "metadata", r);
    peers_announce(&store);
    tell_fronts();
    worker_ready(store.worker);
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
    worker_free(store.worker);
    config_free(&store.config);
    queue_table_detach(store.queue_table);
    panic_set_last_words(NULL, 0);
    file_layer_attach(NULL);
    board_detach(store.board);
    if (lock_fd >= 0)
        close(lock_fd);
    sd_event_unref(store.event);
}

int main(void)
{
    sigset_t signals;
    const char *name = getenv(CONTRACT_ENV_WORKER), *generation = getenv(CONTRACT_ENV_GENERATION);
    log_init(name ? name : "store", LOG_LEVEL_INFO);
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL); /* before libzmq's thread is born */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes is a failed write, not a death */
    store.runtime_dir = getenv(CONTRACT_ENV_RUNTIME_DIR);
    store.generation = generation ? strtoull(generation, NULL, 10) : 0;
    store.peers = calloc(1, sizeof *store.peers);
    if (!name || !generation || !store.runtime_dir || !store.peers)
        log_fatal(EXIT_CODE_USAGE, "pintle-store is started by pintle-supervisor, not by hand");
    int r = sd_event_new(&store.event);
    if (r < 0)
        log_fatal(EXIT_CODE_IO, "event loop: %s", strerror(-r));
    int code = start();
    if (code == 0) {
        r = turn_loop(&store);
        code = r < 0 ? failed(EXIT_CODE_IO, "event loop", r) : stop();
    }
    free_all();
    return code;
}
