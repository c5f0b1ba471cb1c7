/* From nothing to a front that serves, and back. The worker around it (environment, board, configuration, exit codes) is
 * main's; tests use the same steps. Runs on the front's one thread. */
#include "lifecycle.h"

#include <errno.h>
#include <sys/epoll.h>

#include "admin.h"
#include "base/clock.h"
#include "broker_stats.h"
#include "catalogue.h"
#include "connections.h"
#include "damage.h"
#include "foreign.h"
#include "helper.h"
#include "limits.h"
#include "listener.h"
#include "long_poll.h"
#include "member.h"
#include "pending.h"
#include "pull.h"
#include "read_log.h"
#include "route.h"
#include "slow_store.h"
#include "relay.h"
#include "store_link.h"

enum { HOUSEKEEPING_MS = 5000 };

static int on_housekeeping(sd_event_source *source, uint64_t usec, void *context)
{
    struct front *front = context;
    front->now_ms = clock_monotonic_ms();
    limits_expire(front);
    store_link_trim(front);
    read_log_tidy(front->read_log);
    broker_stats_tick(front);
    sd_event_source_set_time(source, usec + HOUSEKEEPING_MS * 1000);
    return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static int on_sockets(sd_event_source *source, int fd, uint32_t events, void *context)
{
    return 0; /* front_turn polls them */
}

int lifecycle_build(struct front *front)
{
    front->event = front->worker.event;
    front->generation = front->worker.generation;
    front->pending = pending_new();
    front->catalogue = catalogue_new();
    front->held = held_requests_new();
    pull_init(front);
    front->relay_far = relay_far_new();
    front->damage = damage_new();
    int r = front->pending && front->catalogue && front->held && front->relay_far && front->damage ? 0 : -ENOMEM;
    if (r == 0)
        r = members_new(&front->members);
    if (r == 0)
        r = store_link_new(&front->link);
    if (r == 0)
        r = broker_stats_new(front, &front->stats);
    if (r == 0)
        r = listeners_new(&front->listeners);
    return r < 0 ? r : connections_new(front, &front->connections);
}

int lifecycle_grant(struct front *front, const struct fd_grant *grant, int *fds, unsigned count)
{
    int r = 0;
    if (grant->kind == GRANT_RING_SET)
        return store_link_attach(front->link, grant, fds, count);
    if (count != 1)
        return grant->kind == GRANT_RING_DROP ? 0 : -EBADMSG;
    switch (grant->kind) {
    case GRANT_LISTEN:
        r = listeners_add(front->listeners, grant, fds[0]);
        break;
    case GRANT_QUEUE_TABLE:
        r = queue_table_attach(fds[0], false, &front->queue_table);
        break;
    case GRANT_PEER_BOARD:
        return broker_stats_add_board(front->stats, grant, &fds[0]);
    case GRANT_INTEREST:
        r = grant->index <= UINT8_MAX ? interest_attach(fds[0], true, &front->interest) : -EBADMSG;
        front->peer_id = grant->index;
        break;
    default:
        return 0; /* not for a front, or of a newer supervisor */
    }
    if (r == 0)
        fds[0] = -1;
    return r;
}

bool lifecycle_has_grants(const struct front *front)
{
    return front->queue_table && front->interest && store_link_complete(front->link) &&
           listeners_count(front->listeners) > 0;
}

int lifecycle_start(struct front *front)
{
    front->now_ms = clock_monotonic_ms();
    int r = limits_new(&front->limits); /* not before: the bus has raised the limit on open files */
    if (r == 0)
        r = helper_new(&front->helper);
    if (r == 0)
        r = read_log_new(front, &front->read_log);
    if (r == 0)
        r = long_poll_new(front, &front->long_poll);
    if (r == 0)
        r = slow_store_new(front, &front->slow_store);
    if (r == 0)
        r = admin_new(front);
    if (r == 0)
        r = relay_new(front);
    if (r == 0)
        r = foreign_new(front);
    if (r == 0)
        r = store_link_watch(front);
    if (r == 0)
        r = connections_watch(front->connections, helper_event_fd(front->helper), EPOLLIN | EPOLLET, POLL_HELPER, 0);
    if (r == 0)
        r = sd_event_add_io(front->event, NULL, connections_epoll_fd(front->connections), EPOLLIN, on_sockets, front);
    if (r >= 0)
        r = sd_event_add_time_relative(front->event, NULL, CLOCK_MONOTONIC, HOUSEKEEPING_MS * 1000, 500000,
                                       on_housekeeping, front);
    return r < 0 ? r : listeners_start(front);
}

void lifecycle_free(struct front *front)
{
    listeners_free(front->listeners);
    connections_free(front->connections);
    limits_free(front->limits);
    helper_free(front->helper);
    foreign_free(front->foreign);
    slow_store_free(front->slow_store);
    relay_free(front->relay);
    relay_far_free(front->relay_far);
    admin_free(front->admin);
    pull_done(front);
    long_poll_free(front->long_poll);
    read_log_free(front->read_log);
    damage_free(front->damage);
    store_link_free(front->link);
    members_free(front->members);
    held_requests_free(front->held);
    catalogue_free(front->catalogue);
    pending_free(front->pending);
    broker_stats_free(front->stats);
    queue_table_detach(front->queue_table);
    interest_detach(front->interest);
    front_config_free(&front->config);
}
