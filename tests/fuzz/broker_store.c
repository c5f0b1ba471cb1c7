/* See broker_store.h. Begins and ends as pintle-store's main does, without supervisor, name servers and config files. */
#include "broker_store.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/store/config.h"
#include "broker/store/file_layer.h"
#include "broker/store/lifecycle.h"
#include "broker/store/peers.h"
#include "broker/store/turn.h"
#include "fuzz.h"
#include "shm/ledger.h"

struct fuzz_store_settings fuzz_store_settings = {FUZZ_LOG_FILE_SIZE, FUZZ_QUEUE_FILE_SIZE, ""};
static struct store store;

static void give_rings(enum ring_set_role role, const struct ring_fds *request, const struct ring_fds *reply)
{
    struct fd_grant grant = fd_grant_make(GRANT_RING_SET, 1, FUZZ_FRONT_GENERATION, role, "front broker-a/0");
    const int fds[6] = {dup(request->memory), dup(request->data), dup(request->space),
                        dup(reply->memory),   dup(reply->data),   dup(reply->space)};
    FUZZ_CHECK(peers_grant_rings(&store, &grant, fds) == 0);
}

static void configure(const char *folder)
{
    char *error = NULL, path[] = "/tmp/pintle-fuzz-config-XXXXXX";
    int fd = mkstemp(path);
    FUZZ_CHECK(fd >= 0 && unlink(path) == 0);
    FUZZ_CHECK(dprintf(fd, "brokerName=broker-a\nbrokerClusterName=C\nbrokerIP1=127.0.0.1\nlistenPort=10911\n"
                           "storePathRootDir=%s\nmappedFileSizeCommitLog=%d\nmappedFileSizeConsumeQueue=%d\n%s",
                       folder, fuzz_store_settings.log_file_size, fuzz_store_settings.queue_file_size,
                       fuzz_store_settings.more) > 0);
    FUZZ_CHECK(config_load(fd, &store.config, &error) == 0);
}

int fuzz_store_begin(const char *folder, const struct fuzz_store_fds *fds, const char **ret_what)
{
    struct fd_grant interest = fd_grant_make(GRANT_INTEREST, 1, FUZZ_FRONT_GENERATION, 0, "front broker-a/0");
    struct checkpoint checkpoint;
    memset(&store, 0, sizeof store);
    store.lock_fd = -1;
    FUZZ_CHECK(sd_event_new(&store.event) >= 0);
    store.worker.event = store.event;
    store.generation = FUZZ_STORE_GENERATION;
    store.cause = START_FIRST;
    store.image_fd = dup(fds->image);
    store.peers = calloc(1, sizeof *store.peers);
    FUZZ_CHECK(store.peers && board_attach(dup(fds->board), true, &store.board) == 0);
    store.worker.board = store.board;
    file_layer_attach(store.board);
    FUZZ_CHECK(queue_table_attach(dup(fds->table), true, &store.queue_table) == 0);
    FUZZ_CHECK(ledger_attach(dup(fds->ledger), &store.ledger) == 0);
    give_rings(RING_SET_DATA, &fds->data_request, &fds->data_reply);
    give_rings(RING_SET_CONTROL, &fds->control_request, &fds->control_reply);
    FUZZ_CHECK(peers_grant_interest(&store, &interest, dup(fds->interest)) == 0);
    configure(folder);
    int r = lifecycle_recover(&store, NULL, &checkpoint, ret_what);
    if (r == 0)
        r = lifecycle_serve(&store, &checkpoint, ret_what);
    if (r < 0)
        return r;
    atomic_store(&store.queue_table->store_generation, store.generation);
    turn_stop(store.turn); /* from now on turn_loop runs until it has nothing to do */
    return 0;
}

void fuzz_store_run(void)
{
    FUZZ_CHECK(turn_loop(&store) == 0);
}

void fuzz_store_end(bool clean)
{
    if (clean)
        FUZZ_CHECK(lifecycle_stop(&store) == 0);
    lifecycle_free(&store);
    file_layer_attach(NULL);
    board_detach(store.board);
    sd_event_unref(store.event);
}
