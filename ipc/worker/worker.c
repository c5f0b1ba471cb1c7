/* What every worker does alike (see worker.h). Runs in each worker, on its one deciding thread. The supervisor may be
 * away for a while and a new one may come: who we are is said on each
 * connection. Fatal: no complete set
 * of grants in time, or a refused one; nothing later is. */
#include "worker/worker.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/conf.h"
#include "base/log.h"
#include "base/panic.h"
#include "bus/bus.h"
#include "bus/bus_msg.h"
#include "contract.h"
#include "fault/fault.h"

/* Grants. */

static int keep(int *to, int *fds, unsigned count)
{
    if (count != 1 || *to >= 0)
        return -EBADMSG;
    *to = TAKE_FD(fds[0]);
    return 0;
}

static int take_board(struct worker *worker, int *fds, unsigned count)
{
    if (count != 1 || worker->board)
        return -EBADMSG;
    int r = board_attach(fds[0], true, &worker->board);
    if (r < 0)
        return r;
    fds[0] = -1;
    board_begin(worker->board, worker->generation);
    return 0;
}

static int take_grant(struct worker *worker, const struct fd_grant *grant, int *fds, unsigned count)
{
    switch (grant->kind) {
    case GRANT_LIFE_LINE:
        return keep(&worker->life_line_fd, fds, count);
    case GRANT_CONFIG:
        return keep(&worker->config_fd, fds, count);
    case GRANT_FAULT_PAGE:
        return keep(&worker->fault_page_fd, fds, count);
    case GRANT_BOARD:
        return take_board(worker, fds, count);
    case GRANT_START:
        worker->number = grant->index;
        worker->cause = (enum start_cause)grant->arg;
        return 0;
    case GRANT_DONE:
        return 0;
    default:
        return worker->handlers->on_grant(worker->context, grant, fds, count);
    }
}

static void close_left(const int *fds, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

static int receive_grants(struct worker *worker)
{
    int64_t deadline_ms = clock_monotonic_ms() + CONTRACT_GRANTS_TIMEOUT_MS;
    for (bool done = false; !done;) {
        struct fd_grant grant;
        int fds[FD_GRANT_FDS_MAX];
        unsigned count = 0;
        struct pollfd wait = {.fd = CONTRACT_FD_CHANNEL, .events = POLLIN};
        int64_t left_ms = deadline_ms - clock_monotonic_ms();
        int r = left_ms > 0 ? poll(&wait, 1, (int)left_ms) : 0;
        if (r == 0)
            return worker_failed(worker, EXIT_FAILURE, "no grants from the supervisor in %d ms",
                                 CONTRACT_GRANTS_TIMEOUT_MS);
        r = r > 0 ? fd_channel_receive(CONTRACT_FD_CHANNEL, &grant, fds, &count) : -errno;
        if (r == -EAGAIN || r == -EINTR)
            continue;
        if (r <= 0)
            return worker_failed(worker, EXIT_FAILURE,
                                 "the supervisor's channel ended before the grants were complete");
        r = take_grant(worker, &grant, fds, count);
        close_left(fds, count);
        if (r < 0)
            return worker_failed(worker, EXIT_FAILURE, "grant %s refused: %s", grant_kind_name(grant.kind),
                                 strerror(-r));
        done = grant.kind == GRANT_DONE;
    }
    if (!worker->board || worker->config_fd < 0)
        return worker_failed(worker, EXIT_FAILURE, "the grants are not complete");
    return 0;
}

/* Bus. */

static int say(struct worker *worker, int r, struct bytes message)
{
    if (r == 0) {
        r = worker->bus ? bus_send(worker->bus, (struct bytes){NULL, 0}, message) : -ENOTCONN;
        free((void *)message.data);
    }
    return r;
}

static void say_ready(struct worker *worker)
{
    struct bytes message = {NULL, 0};
    (void)say(worker, bus_msg_encode_plain(BUS_READY, &message), message);
}

/* On each connection anew: the supervisor may be another one. What does not go out means that the connection has ended,
 * and is said on the next. */
static void say_hello(struct worker *worker)
{
    struct bytes message = {NULL, 0};
    struct bus_hello hello = {bytes_of(worker->name), worker->generation, getpid()};
    worker->hello_said = say(worker, bus_msg_encode_hello(&hello, &message), message) == 0;
    if (worker->hello_said && worker->is_ready)
        say_ready(worker);
}

/* A start that is still under way knows what it was granted; what is newer waits until it is over. */
static void hand_over_reload(struct worker *worker)
{
    if (worker->reloaded && worker->handlers->on_reload)
        worker->handlers->on_reload(worker->context, worker->reloaded);
    conf_free(worker->reloaded);
    worker->reloaded = NULL;
}

static void take_reload(struct worker *worker, struct bytes message)
{
    struct bytes text;
    struct conf *conf = NULL;
    int r = bus_msg_decode_reload(message, &text);
    if (r == 0)
        r = conf_read_text("configuration", (const char *)text.data, text.size, CONF_PROPERTIES, &conf, NULL);
    if (r < 0) {
        log_warning("bus: a new configuration is malformed");
        return;
    }
    conf_free(worker->reloaded);
    worker->reloaded = conf;
    if (worker->is_ready)
        hand_over_reload(worker);
}

static void on_bus(void *context, struct bytes peer, struct bytes message)
{
    struct worker *worker = context;
    enum bus_msg_kind kind;
    if (message.size == 0) {
        say_hello(worker);
        return;
    }
    if (bus_msg_kind(message, &kind) < 0) {
        log_warning("bus: a message of the supervisor is malformed");
        return;
    }
    if (kind == BUS_RELOAD)
        take_reload(worker, message);
    if (kind == BUS_STOP) {
        log_info("stopping");
        worker->handlers->on_stop(worker->context);
    }
}

void worker_ready(struct worker *worker)
{
    worker->is_ready = true;
    hand_over_reload(worker);
    if (worker->hello_said)
        say_ready(worker);
}

void worker_status(struct worker *worker, const char *text)
{
    struct bytes message = {NULL, 0};
    (void)say(worker, bus_msg_encode_status(text, &message), message);
}

int worker_failed(struct worker *worker, int exit_code, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    log_write(LOG_LEVEL_FATAL, "%s", text);
    struct bytes message = {NULL, 0};
    struct bus_failed failed = {exit_code, bytes_of(text)};
    (void)say(worker, bus_msg_encode_failed(&failed, &message), message);
    return exit_code;
}

/* Sources. */

static int on_channel(sd_event_source *source, int fd, uint32_t events, void *context)
{
    struct worker *worker = context;
    struct fd_grant grant;
    int fds[FD_GRANT_FDS_MAX];
    unsigned count = 0;
    int r = fd_channel_receive(fd, &grant, fds, &count);
    if (r == -EAGAIN || r == -EBADMSG)
        return 0;
    if (r <= 0) { /* the supervisor is gone; the life line tells whether for good */
        log_info("the supervisor's channel closed");
        return sd_event_source_set_enabled(source, SD_EVENT_OFF);
    }
    if (worker->handlers->on_later_grant)
        worker->handlers->on_later_grant(worker->context, &grant, fds, count);
    close_left(fds, count); /* whoever wants none: they must not pile up */
    return 0;
}

static int on_life_line(sd_event_source *source, int fd, uint32_t events, void *context)
{
    struct worker *worker = context;
    log_warning("life line: nobody will come back: ending");
    sd_event_source_set_enabled(source, SD_EVENT_OFF);
    worker->handlers->on_stop(worker->context);
    return 0;
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *context)
{
    struct worker *worker = context;
    worker->handlers->on_stop(worker->context);
    return 0;
}

static int add_sources(struct worker *worker)
{
    sd_event *event = worker->event;
    int r = sd_event_add_io(event, &worker->channel, CONTRACT_FD_CHANNEL, EPOLLIN, on_channel, worker);
    if (r >= 0 && worker->life_line_fd >= 0) /* HUP is always told */
        r = sd_event_add_io(event, &worker->life_line, worker->life_line_fd, 0, on_life_line, worker);
    if (r >= 0)
        r = sd_event_add_signal(event, &worker->terminate, SIGTERM, on_signal, worker);
    if (r >= 0)
        r = sd_event_add_signal(event, &worker->interrupt, SIGINT, on_signal, worker);
    return r;
}

/* Life. */

static void block_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL); /* before libzmq's thread is born */
    signal(SIGPIPE, SIG_IGN);
}

int worker_init(struct worker *worker, const struct worker_handlers *handlers, void *context)
{
    const char *generation = getenv(CONTRACT_ENV_GENERATION);
    *worker = (struct worker){.name = getenv(CONTRACT_ENV_WORKER),
                              .runtime_dir = getenv(CONTRACT_ENV_RUNTIME_DIR),
                              .handlers = handlers,
                              .context = context,
                              .config_fd = -1,
                              .fault_page_fd = -1,
                              .life_line_fd = -1};
    if (!worker->name || !worker->runtime_dir || !generation) {
        fprintf(stderr, "%s is started by pintle-supervisor, not by hand\n", program_invocation_short_name);
        return EXIT_CODE_USAGE;
    }
    worker->generation = strtoull(generation, NULL, 10);
    log_init(worker->name, LOG_LEVEL_INFO);
    block_signals();
    int r = sd_event_new(&worker->event);
    return r < 0 ? worker_failed(worker, EXIT_FAILURE, "event loop: %s", strerror(-r)) : 0;
}

/* Before libzmq has threads: what one thread gives up, later ones do not have. */
static int enter_sandbox(struct worker *worker)
{
    struct stat st;
    struct conf *conf = NULL;
    if (fstat(worker->config_fd, &st) < 0)
        return -errno;
    PN_FREE char *text = malloc((size_t)st.st_size + 1);
    if (!text)
        return -ENOMEM;
    if (pread(worker->config_fd, text, (size_t)st.st_size, 0) != st.st_size)
        return -EIO;
    int r = conf_read_text("configuration", text, (size_t)st.st_size, CONF_PROPERTIES, &conf, NULL);
    if (r == 0)
        r = sandbox_enter(worker->handlers->room, conf, worker->runtime_dir);
    conf_free(conf);
    return r;
}

int worker_begin(struct worker *worker)
{
    int code = receive_grants(worker);
    if (code)
        return code;
    int r = 0;
    if (worker->fault_page_fd >= 0)
        r = fault_page_attach(TAKE_FD(worker->fault_page_fd), worker->number);
    if (r < 0)
        return worker_failed(worker, EXIT_FAILURE, "fault page: %s", strerror(-r));
    r = enter_sandbox(worker);
    if (r < 0)
        return worker_failed(worker, EXIT_FAILURE, "sandbox: %s", strerror(-r));
    r = add_sources(worker);
    if (r >= 0) /* raises the limit on descriptors, too */
        r = bus_connect(worker->event, worker->runtime_dir, CONTRACT_BUS_SUPERVISOR, worker->name, on_bus, worker,
                        &worker->bus);
    return r < 0 ? worker_failed(worker, EXIT_FAILURE, "bus: %s", strerror(-r)) : 0;
}

void worker_free(struct worker *worker)
{
    bus_free(worker->bus);
    conf_free(worker->reloaded);
    sd_event_source_disable_unref(worker->channel);
    sd_event_source_disable_unref(worker->life_line);
    sd_event_source_disable_unref(worker->terminate);
    sd_event_source_disable_unref(worker->interrupt);
    sd_event_unref(worker->event);
    pn_close_p(&worker->life_line_fd);
    pn_close_p(&worker->config_fd);
    pn_close_p(&worker->fault_page_fd);
    panic_set_last_words(NULL, 0);
    board_detach(worker->board);
    worker->board = NULL;
}

int worker_events(struct worker *worker, uint64_t timeout_us)
{
    int r = sd_event_prepare(worker->event);
    if (r == 0) {
        if (timeout_us > 0)
            board_set_state(worker->board, BOARD_ASLEEP);
        r = sd_event_wait(worker->event, timeout_us);
    }
    board_set_state(worker->board, BOARD_RUNNING);
    if (r > 0)
        r = sd_event_dispatch(worker->event);
    return r < 0 ? r : 0;
}

int worker_run(struct worker *worker)
{
    while (sd_event_get_state(worker->event) != SD_EVENT_FINISHED) {
        uint64_t timeout_us = UINT64_MAX;
        if (worker->handlers->before_sleep)
            timeout_us = worker->handlers->before_sleep(worker->context);
        int r = worker_events(worker, timeout_us);
        if (r < 0) {
            log_error("event loop: %s", strerror(-r));
            return EXIT_FAILURE;
        }
    }
    return EXIT_CODE_OK;
}
