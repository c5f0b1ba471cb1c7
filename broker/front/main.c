/* pintle-front: everything of a broker that speaks TCP. Started by the supervisor: receives its grants, connects the
 * bus, serves until it is told to stop or nobody will come back (life line). Writes no file. A failed start is fatal
 * with one line; later only what makes this process inconsistent is. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/panic.h"
#include "bus/bus.h"
#include "bus/bus_msg.h"
#include "catalogue.h"
#include "connections.h"
#include "contract.h"
#include "front.h"
#include "helper.h"
#include "listener.h"
#include "long_poll.h"
#include "member.h"
#include "pending.h"
#include "read_log.h"
#include "route.h"
#include "store_link.h"

enum { HOUSEKEEPING_MS = 5000, HELLO_RETRY_MS = 5 };

struct start {
    int life_line, config;
    uint32_t worker_number;
    bool said_hello;
};

static int take_board(struct front *front, int *fd)
{
    int r = board_attach(*fd, true, &front->board);
    if (r < 0)
        return r;
    *fd = -1;
    board_begin(front->board, front->generation);
    panic_set_last_words(front->board->last_words, sizeof front->board->last_words);
    return 0;
}

/* Takes what it uses out of `fds` by setting it to −1. */
static int take_grant(struct front *front, struct start *start, const struct fd_grant *grant, int *fds, unsigned count)
{
    int r = 0;
    if (grant->kind == GRANT_RING_SET)
        return store_link_attach(front->link, grant, fds, count);
    if (grant->kind == GRANT_START) {
        start->worker_number = grant->index;
        return 0;
    }
    if (count != 1)
        return grant->kind == GRANT_DONE || grant->kind == GRANT_RING_DROP ? 0 : -EBADMSG;
    switch (grant->kind) {
    case GRANT_LIFE_LINE:
        start->life_line = TAKE_FD(fds[0]);
        return 0;
    case GRANT_CONFIG:
        start->config = TAKE_FD(fds[0]);
        return 0;
    case GRANT_FAULT_PAGE:
        return fault_page_attach(TAKE_FD(fds[0]), start->worker_number);
    case GRANT_BOARD:
        return take_board(front, &fds[0]);
    case GRANT_LISTEN:
        r = listeners_add(front->listeners, grant, fds[0]);
        break;
    case GRANT_QUEUE_TABLE:
        r = queue_table_attach(fds[0], false, &front->queue_table);
        break;
    case GRANT_INTEREST:
        r = interest_attach(fds[0], true, &front->interest);
        break;
    default:
        return 0; /* not for a front, or of a newer supervisor: closed by the caller */
    }
    if (r == 0)
        fds[0] = -1;
    return r;
}

static void receive_grants(struct front *front, struct start *start)
{
    int64_t deadline_ms = clock_monotonic_ms() + CONTRACT_GRANTS_TIMEOUT_MS;
    for (;;) {
        struct fd_grant grant;
        int fds[FD_GRANT_FDS_MAX];
        unsigned count = 0;
        struct pollfd wait = {.fd = CONTRACT_FD_CHANNEL, .events = POLLIN};
        int64_t left_ms = deadline_ms - clock_monotonic_ms();
        if (left_ms <= 0 || poll(&wait, 1, (int)left_ms) == 0)
            log_fatal(EXIT_FAILURE, "no grants from the supervisor in %d ms", CONTRACT_GRANTS_TIMEOUT_MS);
        int r = fd_channel_receive(CONTRACT_FD_CHANNEL, &grant, fds, &count);
        if (r == -EAGAIN || r == -EINTR)
            continue;
        if (r <= 0)
            log_fatal(EXIT_FAILURE, "the supervisor's channel ended before the grants were complete");
        r = take_grant(front, start, &grant, fds, count);
        for (unsigned i = 0; i < count; i++)
            if (fds[i] >= 0)
                close(fds[i]);
        if (r < 0)
            log_fatal(EXIT_FAILURE, "grant %s refused: %s", grant_kind_name((enum grant_kind)grant.kind), strerror(-r));
        if (grant.kind == GRANT_DONE)
            break;
    }
    if (!front->board || !front->queue_table || !front->interest || !store_link_complete(front->link) ||
        listeners_count(front->listeners) == 0 || start->config < 0)
        log_fatal(EXIT_FAILURE, "the grants are not complete");
}

static void on_bus(void *context, struct bytes peer, struct bytes message)
{
    struct front *front = context;
    enum bus_msg_kind kind;
    if (bus_msg_kind(message, &kind) == 0 && kind == BUS_STOP) {
        log_info("stopping");
        front_stop(front);
    }
}

static int say_hello(struct front *front)
{
    struct bus_hello hello = {.worker = bytes_of(front->worker), .generation = front->generation, .pid = getpid()};
    struct bytes message;
    int r = bus_msg_encode_hello(&hello, &message);
    if (r < 0)
        return r;
    r = bus_send(front->bus, (struct bytes){NULL, 0}, message);
    free((void *)message.data);
    if (r < 0)
        return r;
    r = bus_msg_encode_plain(BUS_READY, &message);
    if (r < 0)
        return r;
    r = bus_send(front->bus, (struct bytes){NULL, 0}, message);
    free((void *)message.data);
    return r;
}

/* The supervisor may not be there yet (or be a new one that binds again): said until it went out. */
static int on_hello_timer(sd_event_source *source, uint64_t usec, void *context)
{
    if (say_hello(context) == 0)
        return 0;
    sd_event_source_set_time(source, usec + HELLO_RETRY_MS * 1000);
    return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static int on_housekeeping(sd_event_source *source, uint64_t usec, void *context)
{
    struct front *front = context;
    front->now_ms = clock_monotonic_ms();
    connections_expire(front);
    store_link_trim(front);
    read_log_tidy(front->read_log);
    sd_event_source_set_time(source, usec + HOUSEKEEPING_MS * 1000);
    return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static int on_life_line(sd_event_source *source, int fd, uint32_t events, void *context)
{
    log_warning("nobody will come back: ending");
    sd_event_source_set_enabled(source, SD_EVENT_OFF);
    front_stop(context);
    return 0;
}

/* Later grants: none concern a running front yet, but their descriptors must not pile up. */
static int on_channel(sd_event_source *source, int fd, uint32_t events, void *context)
{
    struct fd_grant grant;
    int fds[FD_GRANT_FDS_MAX];
    unsigned count = 0;
    int r = fd_channel_receive(fd, &grant, fds, &count);
    if (r == 1)
        for (unsigned i = 0; i < count; i++)
            close(fds[i]);
    else if (r != -EAGAIN && r != -EBADMSG) /* the supervisor is gone; the life line tells whether for good */
        sd_event_source_set_enabled(source, SD_EVENT_OFF);
    return 0;
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *context)
{
    front_stop(context);
    return 0;
}

static int on_sockets(sd_event_source *source, int fd, uint32_t events, void *context)
{
    return 0; /* front_turn polls them */
}

static void block_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static int add_sources(struct front *front, struct start *start)
{
    uint64_t now_us = (uint64_t)clock_monotonic_ms() * 1000;
    sd_event *event = front->event;
    int r = sd_event_add_io(event, NULL, connections_epoll_fd(front->connections), EPOLLIN, on_sockets, front);
    if (r >= 0)
        r = sd_event_add_io(event, NULL, CONTRACT_FD_CHANNEL, EPOLLIN, on_channel, front);
    if (r >= 0 && start->life_line >= 0)
        r = sd_event_add_io(event, NULL, start->life_line, 0, on_life_line, front); /* HUP is always told */
    if (r >= 0)
        r = sd_event_add_signal(event, NULL, SIGTERM, on_signal, front);
    if (r >= 0)
        r = sd_event_add_signal(event, NULL, SIGINT, on_signal, front);
    if (r >= 0)
        r = sd_event_add_time(event, NULL, CLOCK_MONOTONIC, now_us, 1, on_hello_timer, front);
    if (r >= 0)
        r = sd_event_add_time(event, NULL, CLOCK_MONOTONIC, now_us + HOUSEKEEPING_MS * 1000, 500000, on_housekeeping,
                              front);
    return r;
}

static int serve(struct front *front)
{
    int exit_code = 0;
    while (sd_event_get_state(front->event) != SD_EVENT_FINISHED) {
        board_set_state(front->board, BOARD_ASLEEP);
        bool may_sleep = store_link_may_sleep(front) && !connections_waiting(front);
        uint64_t limit_us = front->stopping ? 10000 : UINT64_MAX;
        int r = sd_event_run(front->event, may_sleep ? limit_us : 0);
        if (r < 0)
            return r;
        if (sd_event_get_state(front->event) == SD_EVENT_FINISHED)
            break;
        front_turn(front);
    }
    sd_event_get_exit_code(front->event, &exit_code);
    return exit_code;
}

static int build(struct front *front)
{
    int r = sd_event_default(&front->event);
    front->pending = pending_new();
    front->catalogue = catalogue_new();
    front->held = held_requests_new();
    if (r >= 0 && (!front->pending || !front->catalogue || !front->held))
        r = -ENOMEM;
    if (r >= 0)
        r = members_new(&front->members);
    if (r >= 0)
        r = store_link_new(&front->link);
    if (r >= 0)
        r = listeners_new(&front->listeners);
    return r < 0 ? r : connections_new(front, &front->connections);
}

static int build_rest(struct front *front)
{
    front->now_ms = clock_monotonic_ms();
    int r = helper_new(&front->helper);
    if (r == 0)
        r = read_log_new(front, &front->read_log);
    if (r == 0)
        r = long_poll_new(front, &front->long_poll);
    if (r == 0)
        r = store_link_watch(front);
    if (r == 0)
        r = connections_watch(front->connections, helper_event_fd(front->helper), EPOLLIN | EPOLLET, POLL_HELPER, 0);
    if (r == 0)
        r = bus_connect(front->event, front->runtime_dir, CONTRACT_BUS_SUPERVISOR, front->worker, on_bus, front,
                        &front->bus);
    return r < 0 ? r : listeners_start(front);
}

static void tear_down(struct front *front)
{
    listeners_free(front->listeners);
    connections_free(front->connections);
    helper_free(front->helper);
    long_poll_free(front->long_poll);
    read_log_free(front->read_log);
    store_link_free(front->link);
    members_free(front->members);
    held_requests_free(front->held);
    catalogue_free(front->catalogue);
    pending_free(front->pending);
    bus_free(front->bus);
    queue_table_detach(front->queue_table);
    interest_detach(front->interest);
    front_config_free(&front->config);
    sd_event_unref(front->event);
}

static void raise_limits(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int main(int argc, char **argv)
{
    struct front front = {0};
    struct start start = {.life_line = -1, .config = -1};
    const char *generation = getenv(CONTRACT_ENV_GENERATION);
    front.worker = getenv(CONTRACT_ENV_WORKER);
    front.runtime_dir = getenv(CONTRACT_ENV_RUNTIME_DIR);
    if (argc != 1 || !front.worker || !front.runtime_dir || !generation) {
        fprintf(stderr, "%s is started by pintle-supervisor\n", argv[0]);
        return EXIT_CODE_USAGE;
    }
    front.generation = strtoull(generation, NULL, 10);
    log_init(front.worker, LOG_LEVEL_INFO);
    block_signals();
    raise_limits();
    int r = build(&front);
    if (r < 0)
        log_fatal(EXIT_FAILURE, "start: %s", strerror(-r));
    receive_grants(&front, &start);
    PN_FREE char *error = NULL;
    r = front_config_load(&front.config, start.config, &error);
    close(start.config);
    if (r < 0)
        log_fatal(EXIT_CODE_CONFIG, "configuration: %s", error ? error : strerror(-r));
    r = build_rest(&front);
    if (r >= 0)
        r = add_sources(&front, &start);
    if (r < 0)
        log_fatal(EXIT_FAILURE, "start: %s", strerror(-r));
    r = serve(&front);
    if (r < 0)
        log_error("event loop: %s", strerror(-r));
    tear_down(&front);
    return r < 0 ? EXIT_FAILURE : EXIT_CODE_OK;
}
