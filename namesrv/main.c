/* pintle-namesrv: tells clients which broker has which topic. Started by the supervisor: receives its grants, connects
 * the bus, serves until it is told to stop or nobody will come back (life line). Its table is on no disk: it comes from
 * the brokers' registrations and is whole again in milliseconds after a restart. A failed start is fatal with one
 * line; later only what makes this process inconsistent is. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/panic.h"
#include "bus/bus_msg.h"
#include "bus_in.h"
#include "contract.h"
#include "expiry.h"
#include "fault/fault.h"
#include "fd/fd_channel.h"
#include "listener.h"
#include "namesrv.h"

enum { SAY_RETRY_MS = 5, NAME_SIZE_MAX = 64 };

struct start {
    int life_line, config, listen;
    uint32_t worker_number;
};

static int take_board(struct namesrv *namesrv, int *fd)
{
    int r = board_attach(*fd, true, &namesrv->board);
    if (r < 0)
        return r;
    *fd = -1;
    board_begin(namesrv->board, namesrv->generation);
    return 0;
}

/* Takes what it uses out of `fds` by setting it to −1. */
static int take_grant(struct namesrv *namesrv, struct start *start, const struct fd_grant *grant, int *fds,
                      unsigned count)
{
    if (grant->kind == GRANT_START) {
        start->worker_number = grant->index;
        return 0;
    }
    if (count != 1)
        return 0; /* done; or not for a name server: closed by the caller */
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
        return take_board(namesrv, &fds[0]);
    case GRANT_LISTEN:
        start->listen = TAKE_FD(fds[0]);
        return 0;
    default:
        return 0;
    }
}

static void receive_grants(struct namesrv *namesrv, struct start *start)
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
        r = take_grant(namesrv, start, &grant, fds, count);
        for (unsigned i = 0; i < count; i++)
            if (fds[i] >= 0)
                close(fds[i]);
        if (r < 0)
            log_fatal(EXIT_FAILURE, "grant %s refused: %s", grant_kind_name((enum grant_kind)grant.kind), strerror(-r));
        if (grant.kind == GRANT_DONE)
            break;
    }
    if (!namesrv->board || start->listen < 0 || start->config < 0)
        log_fatal(EXIT_FAILURE, "the grants are not complete");
}

static int load_config(struct namesrv *namesrv, int fd, char **ret_error)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    void *text = st.st_size ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0) : NULL;
    if (text == MAP_FAILED)
        return -errno;
    int r = config_load(&namesrv->config, text ? text : "", (size_t)st.st_size, ret_error);
    if (text)
        munmap(text, (size_t)st.st_size);
    if (r < 0)
        return r;
    const char *name = namesrv->config.values[CONFIG_NAME];
    if (!name || !*name || strlen(name) > NAME_SIZE_MAX || strchr(name, '/'))
        return -EINVAL;
    return kv_config_load(&namesrv->kv, namesrv->config.values[CONFIG_KV_PATH]);
}

static void on_supervisor(void *context, struct bytes peer, struct bytes message)
{
    struct namesrv *namesrv = context;
    enum bus_msg_kind kind;
    if (bus_msg_kind(message, &kind) == 0 && kind == BUS_STOP) {
        log_info("stopping");
        sd_event_exit(namesrv->event, 0);
    }
}

static int say(struct namesrv *namesrv, struct bytes message)
{
    int r = bus_send(namesrv->supervisor_bus, (struct bytes){NULL, 0}, message);
    free((void *)message.data);
    return r;
}

static int say_ready(struct namesrv *namesrv)
{
    struct bus_hello hello = {bytes_of(namesrv->worker), namesrv->generation, getpid()};
    struct bytes message;
    int r = bus_msg_encode_hello(&hello, &message);
    if (r == 0)
        r = say(namesrv, message);
    if (r == 0)
        r = bus_msg_encode_plain(BUS_READY, &message);
    return r < 0 ? r : say(namesrv, message);
}

/* The connection to the supervisor takes a moment: said again until it went out. */
static int on_say_timer(sd_event_source *source, uint64_t usec, void *context)
{
    if (say_ready(context) == 0)
        return 0;
    int r = sd_event_source_set_time(source, usec + SAY_RETRY_MS * 1000);
    return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static int on_life_line(sd_event_source *source, int fd, uint32_t events, void *context)
{
    struct namesrv *namesrv = context;
    log_warning("nobody will come back: ending");
    sd_event_source_set_enabled(source, SD_EVENT_OFF);
    return sd_event_exit(namesrv->event, 0);
}

/* Later grants do not concern a name server, but their descriptors must not pile up. */
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

static void block_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static int build(struct namesrv *namesrv, struct start *start)
{
    char endpoint[NAME_SIZE_MAX + 8];
    namesrv->routes = route_table_new();
    int r = namesrv->routes ? sd_event_default(&namesrv->event) : -ENOMEM;
    if (r < 0)
        return r;
    snprintf(endpoint, sizeof endpoint, CONTRACT_BUS_NAMESRV, namesrv->config.values[CONFIG_NAME]);
    /* The stores first: they have been waiting since our predecessor ended. */
    r = bus_bind(namesrv->event, namesrv->runtime_dir, endpoint, bus_in_message, namesrv, &namesrv->store_bus);
    if (r < 0)
        return r;
    r = bus_connect(namesrv->event, namesrv->runtime_dir, CONTRACT_BUS_SUPERVISOR, namesrv->worker, on_supervisor,
                    namesrv, &namesrv->supervisor_bus);
    if (r < 0)
        return r;
    return listener_start(namesrv, TAKE_FD(start->listen), &namesrv->listener);
}

static int add_sources(struct namesrv *namesrv, const struct start *start)
{
    sd_event *event = namesrv->event;
    int r = sd_event_add_io(event, NULL, CONTRACT_FD_CHANNEL, EPOLLIN, on_channel, namesrv);
    if (r >= 0 && start->life_line >= 0)
        r = sd_event_add_io(event, NULL, start->life_line, 0, on_life_line, namesrv); /* HUP is always told */
    if (r >= 0) /* without a handler: they end the loop */
        r = sd_event_add_signal(event, NULL, SIGTERM, NULL, NULL);
    if (r >= 0)
        r = sd_event_add_signal(event, NULL, SIGINT, NULL, NULL);
    if (r >= 0)
        r = sd_event_add_time(event, NULL, CLOCK_MONOTONIC, (uint64_t)clock_monotonic_ms() * 1000, 1, on_say_timer,
                              namesrv);
    return r < 0 ? r : expiry_start(namesrv);
}

/* The loop in its three steps, so that the board can say which of them we are in. */
static int serve(struct namesrv *namesrv)
{
    while (sd_event_get_state(namesrv->event) != SD_EVENT_FINISHED) {
        int r = sd_event_prepare(namesrv->event);
        if (r == 0) {
            board_set_state(namesrv->board, BOARD_ASLEEP);
            r = sd_event_wait(namesrv->event, UINT64_MAX);
        }
        if (r < 0)
            return r;
        board_set_state(namesrv->board, BOARD_RUNNING);
        if (r > 0)
            r = sd_event_dispatch(namesrv->event);
        if (r < 0)
            return r;
    }
    return 0;
}

static void tear_down(struct namesrv *namesrv)
{
    listener_free(namesrv->listener);
    bus_free(namesrv->store_bus);
    bus_free(namesrv->supervisor_bus);
    route_table_free(namesrv->routes);
    kv_config_free(&namesrv->kv);
    config_free(&namesrv->config);
    sd_event_unref(namesrv->event);
}

int main(int argc, char **argv)
{
    struct namesrv namesrv = {0};
    struct start start = {.life_line = -1, .config = -1, .listen = -1};
    const char *generation = getenv(CONTRACT_ENV_GENERATION);
    namesrv.worker = getenv(CONTRACT_ENV_WORKER);
    namesrv.runtime_dir = getenv(CONTRACT_ENV_RUNTIME_DIR);
    if (argc != 1 || !namesrv.worker || !namesrv.runtime_dir || !generation) {
        fprintf(stderr, "%s is started by pintle-supervisor\n", argv[0]);
        return EXIT_CODE_USAGE;
    }
    namesrv.generation = strtoull(generation, NULL, 10);
    log_init(namesrv.worker, LOG_LEVEL_INFO);
    block_signals();
    receive_grants(&namesrv, &start);
    PN_FREE char *error = NULL;
    int r = load_config(&namesrv, start.config, &error);
    close(start.config);
    if (r < 0)
        log_fatal(EXIT_CODE_CONFIG, "configuration: %s", error ? error : strerror(-r));
    r = build(&namesrv, &start);
    if (r >= 0)
        r = add_sources(&namesrv, &start);
    if (r < 0)
        log_fatal(r == -EADDRINUSE ? EXIT_CODE_IO : EXIT_FAILURE, "start: %s", strerror(-r));
    r = serve(&namesrv);
    if (r < 0)
        log_error("event loop: %s", strerror(-r));
    tear_down(&namesrv);
    return r < 0 ? EXIT_FAILURE : EXIT_CODE_OK;
}
