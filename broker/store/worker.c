/* The store's ties to its supervisor (see worker.h). Deciding thread. The bus may be away for a while (a new supervisor
 * adopts us): what it must know is said again until it takes it. Fatal: no complete set of grants in time. */
#include "worker.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "bus/bus.h"
#include "bus/bus_msg.h"
#include "contract.h"
#include "peers.h"
#include "turn.h"

enum { SAY_AGAIN_US = 2000 };

struct worker {
    struct store *store;
    struct bus *bus;
    const char *name;
    int life_line;
    sd_event_source *channel_source, *life_line_source, *term_source, *int_source, *again;
    bool hello_said, ready_wanted, ready_said;
};

static void fds_close(const int *fds, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        close(fds[i]);
}

static int keep(int *to, const int *fds, unsigned count)
{
    if (count != 1 || *to >= 0) {
        fds_close(fds, count);
        return -EBADMSG;
    }
    *to = fds[0];
    return 0;
}

/* Grants of peers, at any time. 1: it was one. */
static int peer_grant(struct store *store, const struct fd_grant *grant, const int *fds, unsigned count)
{
    int r;
    switch (grant->kind) {
    case GRANT_RING_SET:
        if (count != 6) {
            fds_close(fds, count);
            return -EBADMSG;
        }
        r = peers_grant_rings(store, grant, fds);
        if (r < 0)
            log_warning("peer %u (%s): its rings cannot be used: %s", grant->index, grant->name, strerror(-r));
        return 1;
    case GRANT_INTEREST:
        if (count != 1) {
            fds_close(fds, count);
            return -EBADMSG;
        }
        r = peers_grant_interest(store, grant, fds[0]);
        if (r < 0)
            log_warning("peer %u: its interest page cannot be used: %s", grant->index, strerror(-r));
        return 1;
    case GRANT_RING_DROP:
        fds_close(fds, count);
        peers_drop(store, grant->index, grant->generation);
        return 1;
    default:
        return 0;
    }
}

static int initial_grant(struct store *store, struct worker_grants *grants, const struct fd_grant *grant, const int *fds,
                         unsigned count)
{
    switch (grant->kind) {
    case GRANT_LIFE_LINE:
        return keep(&grants->life_line, fds, count);
    case GRANT_CONFIG:
        return keep(&grants->config, fds, count);
    case GRANT_FAULT_PAGE:
        return keep(&grants->fault_page, fds, count);
    case GRANT_BOARD:
        return keep(&grants->board, fds, count);
    case GRANT_QUEUE_TABLE:
        return keep(&grants->queue_table, fds, count);
    case GRANT_LEDGER:
        return keep(&grants->ledger, fds, count);
    case GRANT_IMAGE:
        return keep(&grants->image, fds, count);
    case GRANT_START:
        grants->worker_number = grant->index;
        store->cause = (enum start_cause)grant->arg;
        fds_close(fds, count);
        return 0;
    default:
        fds_close(fds, count);
        return -EBADMSG;
    }
}

int worker_receive(struct store *store, struct worker_grants *ret_grants)
{
    int64_t until_ms = clock_monotonic_ms() + CONTRACT_GRANTS_TIMEOUT_MS;
    *ret_grants = (struct worker_grants){-1, -1, -1, -1, -1, -1, -1, 0};
    for (;;) {
        int64_t left_ms = until_ms - clock_monotonic_ms();
        struct pollfd poll_fd = {.fd = CONTRACT_FD_CHANNEL, .events = POLLIN};
        if (left_ms <= 0)
            return -ETIMEDOUT;
        if (poll(&poll_fd, 1, (int)left_ms) < 0 && errno != EINTR)
            return -errno;
        if (!(poll_fd.revents & (POLLIN | POLLHUP | POLLERR)))
            continue;
        struct fd_grant grant;
        int fds[FD_GRANT_FDS_MAX];
        unsigned count = 0;
        int r = fd_channel_receive(CONTRACT_FD_CHANNEL, &grant, fds, &count);
        if (r == -EAGAIN || r == -EINTR)
            continue;
        if (r <= 0)
            return r < 0 ? r : -EPIPE;
        if (grant.kind == GRANT_DONE)
            return 0;
        r = peer_grant(store, &grant, fds, count);
        if (r == 0)
            r = initial_grant(store, ret_grants, &grant, fds, count);
        if (r < 0)
            return r;
    }
}

static int on_channel(sd_event_source *source, int fd, uint32_t events, void *context)
{
    struct worker *worker = context;
    struct fd_grant grant;
    int fds[FD_GRANT_FDS_MAX];
    unsigned count = 0;
    int r = fd_channel_receive(fd, &grant, fds, &count);
    if (r == -EAGAIN)
        return 0;
    if (r == 0 || (r < 0 && r != -EBADMSG)) {
        /* The supervisor is gone; a new one comes through its own channel or the life line ends us. */
        log_info("the supervisor's channel closed");
        return sd_event_source_set_enabled(source, SD_EVENT_OFF);
    }
    if (r == 1 && peer_grant(worker->store, &grant, fds, count) == 0) {
        fds_close(fds, count);
        log_warning("grant of kind %u came too late", grant.kind);
    }
    return 0;
}

static int on_life_line(sd_event_source *source, int fd, uint32_t events, void *context)
{
    struct worker *worker = context;
    if (events & (EPOLLHUP | EPOLLERR)) {
        log_info("life line: nobody will come back; draining");
        turn_stop(worker->store->turn);
        return sd_event_source_set_enabled(source, SD_EVENT_OFF);
    }
    return 0;
}

static int on_term(sd_event_source *source, const struct signalfd_siginfo *info, void *context)
{
    turn_stop(((struct worker *)context)->store->turn);
    return 0;
}

static int on_int(sd_event_source *source, const struct signalfd_siginfo *info, void *context)
{
    return 0; /* Ctrl-C goes to the whole foreground group; the supervisor decides what it means */
}

static bool say(struct worker *worker, int r, struct bytes *message)
{
    if (r == 0) {
        r = bus_send(worker->bus, (struct bytes){0}, *message);
        free((void *)message->data);
    }
    return r == 0;
}

static bool say_hello(struct worker *worker)
{
    struct bytes message = {0};
    struct bus_hello hello = {bytes_of(worker->name), worker->store->generation, getpid()};
    return say(worker, bus_msg_encode_hello(&hello, &message), &message);
}

static bool say_ready(struct worker *worker)
{
    struct bytes message = {0};
    return say(worker, bus_msg_encode_plain(BUS_READY, &message), &message);
}

static void say_all(struct worker *worker)
{
    if (!worker->hello_said)
        worker->hello_said = say_hello(worker);
    if (worker->hello_said && worker->ready_wanted && !worker->ready_said)
        worker->ready_said = say_ready(worker);
    bool done = worker->hello_said && worker->ready_said == worker->ready_wanted;
    if (!done)
        sd_event_source_set_time_relative(worker->again, SAY_AGAIN_US);
    sd_event_source_set_enabled(worker->again, done ? SD_EVENT_OFF : SD_EVENT_ONESHOT);
}

static int on_again(sd_event_source *source, uint64_t usec, void *context)
{
    say_all(context);
    return 0;
}

static void on_bus(void *context, struct bytes peer, struct bytes message)
{
    struct worker *worker = context;
    enum bus_msg_kind kind;
    if (message.size == 0)
        return;
    if (bus_msg_kind(message, &kind) < 0) {
        log_warning("bus: a message of the supervisor is malformed");
        return;
    }
    switch (kind) {
    case BUS_STOP:
        if (worker->store->turn)
            turn_stop(worker->store->turn);
        break;
    case BUS_HELLO: /* a new supervisor asks who we are */
        worker->hello_said = worker->ready_said = false;
        say_all(worker);
        break;
    case BUS_RELOAD: /* nothing of the store's configuration can change while it runs */
    default:
        break;
    }
}

static int sources_add(struct worker *worker)
{
    struct store *store = worker->store;
    int r = sd_event_add_time_relative(store->event, &worker->again, CLOCK_MONOTONIC, SAY_AGAIN_US, 100, on_again, worker);
    if (r >= 0)
        r = sd_event_add_io(store->event, &worker->channel_source, CONTRACT_FD_CHANNEL, EPOLLIN, on_channel, worker);
    if (r >= 0 && worker->life_line >= 0)
        r = sd_event_add_io(store->event, &worker->life_line_source, worker->life_line, EPOLLIN, on_life_line, worker);
    if (r >= 0)
        r = sd_event_add_signal(store->event, &worker->term_source, SIGTERM, on_term, worker);
    if (r >= 0)
        r = sd_event_add_signal(store->event, &worker->int_source, SIGINT, on_int, worker);
    return r;
}

int worker_begin(struct store *store, struct worker_grants *grants)
{
    struct worker *worker = calloc(1, sizeof *worker);
    if (!worker)
        return -ENOMEM;
    worker->store = store;
    worker->name = getenv(CONTRACT_ENV_WORKER);
    worker->life_line = TAKE_FD(grants->life_line);
    int r = worker->name ? sources_add(worker) : -EINVAL;
    if (r >= 0)
        r = bus_connect(store->event, store->runtime_dir, CONTRACT_BUS_SUPERVISOR, worker->name, on_bus, worker,
                        &worker->bus);
    if (r < 0) {
        worker_free(worker);
        return r;
    }
    store->worker = worker;
    say_all(worker);
    return 0;
}

void worker_ready(struct worker *worker)
{
    worker->ready_wanted = true;
    say_all(worker);
}

void worker_status(struct worker *worker, const char *text)
{
    struct bytes message = {0};
    say(worker, bus_msg_encode_status(text, &message), &message);
}

void worker_failed(struct worker *worker, int exit_code, const char *text)
{
    struct bytes message = {0};
    struct bus_failed failed = {exit_code, bytes_of(text)};
    say(worker, bus_msg_encode_failed(&failed, &message), &message);
}

void worker_free(struct worker *worker)
{
    if (!worker)
        return;
    bus_free(worker->bus);
    sd_event_source_disable_unref(worker->again);
    sd_event_source_disable_unref(worker->channel_source);
    sd_event_source_disable_unref(worker->life_line_source);
    sd_event_source_disable_unref(worker->term_source);
    sd_event_source_disable_unref(worker->int_source);
    if (worker->life_line >= 0)
        close(worker->life_line);
    free(worker);
}
