/* Sends grants. Runs in the supervisor. When a grant to a running store cannot even be queued (no descriptors, no
 * memory), that store would silently miss a peer: it is killed, and its successor starts with the whole set. */
#include "grants.h"

#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/panic.h"
#include "cluster.h"
#include "shm/queue_table.h"
#include "shm/segment.h"
#include "supervisor.h"

static int put(struct worker *worker, enum grant_kind kind, uint32_t index, uint64_t generation, uint64_t arg,
               const char *name, const int *fds, unsigned fd_count)
{
    struct fd_grant grant = fd_grant_make(kind, index, generation, arg, name);
    return outbox_put(worker->outbox, &grant, fds, fd_count);
}

static int put_fd(struct worker *worker, enum grant_kind kind, uint32_t index, const char *name, int fd)
{
    return put(worker, kind, index, worker->generation, 0, name, &fd, 1);
}

static int put_ring_set(struct worker *worker, const struct ring_set *set, const char *name)
{
    int fds[6];
    channels_ring_set_fds(set, fds);
    return put(worker, GRANT_RING_SET, set->peer, set->generation, set->role, name, fds, 6);
}

/* A front's two ring sets and interest, as its store sees them. */
static int put_front_peer(struct worker *store, struct worker *front)
{
    int r = 0;
    for (unsigned i = 0; i < 2 && r == 0; i++)
        if (front->ring_sets[i].made)
            r = put_ring_set(store, &front->ring_sets[i], front->name);
    if (r == 0 && front->interest_readonly_fd >= 0)
        r = put(store, GRANT_INTEREST, worker_peer_id(front), front->generation, 0, front->name,
                &front->interest_readonly_fd, 1);
    return r;
}

static int put_config(struct worker *worker)
{
    const struct cluster *cluster = worker->supervisor->cluster;
    PN_FREE char *text = worker->broker ? cluster_broker_config(cluster, worker->broker->config)
                                        : cluster_namesrv_config(cluster, worker->namesrv);
    PN_CLOSE int fd = -1;
    if (!text)
        return -ENOMEM;
    int r = channels_text("configuration", text, &fd);
    return r < 0 ? r : put_fd(worker, GRANT_CONFIG, 0, "configuration", fd);
}

static int put_listen(struct worker *worker)
{
    if (!worker->broker)
        return put_fd(worker, GRANT_LISTEN, CHANNELS_MAIN, worker->supervisor->cluster->listen, worker->listen_fd);
    const struct broker *broker = worker->broker;
    int r = put_fd(worker, GRANT_LISTEN, CHANNELS_MAIN, broker->config->listen, broker->listen_fds[CHANNELS_MAIN]);
    if (r == 0)
        r = put_fd(worker, GRANT_LISTEN, CHANNELS_VIP, broker->config->listen, broker->listen_fds[CHANNELS_VIP]);
    return r;
}

static int put_native_peer(const struct ring_set *set, const char *name, void *context)
{
    return put_ring_set(context, set, name);
}

static int put_peers(struct worker *store)
{
    int r = 0;
    for (unsigned i = 0; i < store->broker->front_count && r == 0; i++)
        r = put_front_peer(store, store->broker->fronts[i]);
    return r < 0 ? r : attach_each(store->broker->attach, put_native_peer, store);
}

static int put_board_of(struct worker *to, struct worker *of, enum board_owner owner)
{
    return put(to, GRANT_PEER_BOARD, of->number, 0, owner, of->name, &of->board_readonly_fd, 1);
}

static int put_broker_boards(struct worker *front)
{
    struct broker *broker = front->broker;
    int r = put_board_of(front, broker->store, BOARD_OF_STORE);
    for (unsigned i = 0; i < broker->front_count && r == 0; i++)
        if (broker->fronts[i] != front)
            r = put_board_of(front, broker->fronts[i], BOARD_OF_FRONT);
    return r;
}

static int put_channel(struct worker *worker, enum plan_channel channel)
{
    int r = 0;
    switch (channel) {
    case PLAN_END:
        return 0;
    case PLAN_LISTEN:
        return put_listen(worker);
    case PLAN_QUEUE_TABLE_WRITE:
        return put_fd(worker, GRANT_QUEUE_TABLE, 0, "queue table", worker->broker->memory.queue_table);
    case PLAN_QUEUE_TABLE_READ:
        return put_fd(worker, GRANT_QUEUE_TABLE, 0, "queue table", worker->broker->memory.queue_table_readonly);
    case PLAN_LEDGER:
        return put_fd(worker, GRANT_LEDGER, 0, "ledger", worker->broker->memory.ledger);
    case PLAN_IMAGE:
        return put_fd(worker, GRANT_IMAGE, 0, "image", worker->broker->memory.image);
    case PLAN_OWN_RINGS:
        for (unsigned i = 0; i < 2 && r == 0; i++)
            r = put_ring_set(worker, &worker->ring_sets[i], worker->name);
        return r;
    case PLAN_OWN_INTEREST:
        return put_fd(worker, GRANT_INTEREST, worker_peer_id(worker), worker->name, worker->interest_fd);
    case PLAN_BROKER_BOARDS:
        return put_broker_boards(worker);
    case PLAN_PEERS:
        return put_peers(worker);
    }
    PANIC("channel %d", channel);
}

int grants_send_initial(struct worker *worker)
{
    struct supervisor *supervisor = worker->supervisor;
    int r = put_fd(worker, GRANT_LIFE_LINE, 0, "life line", supervisor->life_line[0]);
    if (r == 0)
        r = put_config(worker);
    if (r == 0)
        r = put(worker, GRANT_START, worker->number, worker->generation, worker->cause, worker->name, NULL, 0);
    if (r == 0)
        r = put_fd(worker, GRANT_FAULT_PAGE, 0, "fault page", supervisor->fault_page_readonly_fd);
    if (r == 0)
        r = put_fd(worker, GRANT_BOARD, worker->number, worker->name, worker->board_fd);
    for (const enum plan_channel *channel = worker->kind->channels; r == 0 && *channel != PLAN_END; channel++)
        r = put_channel(worker, *channel);
    if (r == 0)
        r = put(worker, GRANT_DONE, 0, worker->generation, 0, "", NULL, 0);
    return r;
}

static void check_store(struct worker *store, int r)
{
    if (r == 0)
        return;
    log_error("%s: cannot tell it about a peer: %s; it starts again", store->name, strerror(-r));
    worker_kill(store, false);
}

int grants_renew_front(struct worker *front)
{
    static const enum ring_set_role roles[2] = {RING_SET_DATA, RING_SET_CONTROL};
    pn_assert(front->kind->role == ROLE_FRONT && !front->ring_sets[0].made && front->interest_fd < 0);
    for (unsigned i = 0; i < 2; i++) {
        int r = channels_ring_set_create(roles[i], front->name, worker_peer_id(front), front->generation,
                                         &front->ring_sets[i]);
        if (r < 0)
            return r;
    }
    int r = interest_create(front->name, worker_peer_id(front), &front->interest_fd);
    if (r == 0)
        r = segment_reopen_readonly(front->interest_fd, &front->interest_readonly_fd);
    struct worker *store = front->broker->store;
    if (r == 0 && store->outbox)
        check_store(store, put_front_peer(store, front));
    return r;
}

void grants_add_native(struct worker *store, const struct ring_set *set, const char *name)
{
    if (store->outbox)
        check_store(store, put_ring_set(store, set, name));
}

void grants_drop_peer(struct worker *store, uint32_t peer, uint64_t generation, const char *name)
{
    if (store->outbox)
        check_store(store, put(store, GRANT_RING_DROP, peer, generation, 0, name, NULL, 0));
}
