/* The life of one foreign name server, see foreign_server.h. The front's one thread; sockets and timers hang in its event
 * loop. One request (or the parts of one table) is outstanding at a time, so that what it is told stays in order. The
 * end of a connection makes the name server forget us, so the next one begins with the whole table. Whatever it answers
 * is foreign bytes; nothing here is fatal but running out of memory. */
#include "foreign_server.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/panic.h"
#include "catalogue.h"
#include "fault/fault.h"
#include "registration.h"

enum {
    BACKOFF_MIN_MS = 100,
    BACKOFF_MAX_MS = 5000,
    CONNECT_TIMEOUT_MS = 3000,
    LEAVE_TIMEOUT_MS = 1000,
    REFUSED_RETRY_MS = 10000,
    PERIOD_MIN_MS = 10000, /* Apache's bounds of registerNameServerPeriod */
    PERIOD_MAX_MS = 60000,
};

static void lost(struct foreign_server *server, const char *reason);

static int64_t period_ms(const struct foreign_server *server)
{
    int64_t period = server->front->config.register_interval_ms;
    return period < PERIOD_MIN_MS ? PERIOD_MIN_MS : period > PERIOD_MAX_MS ? PERIOD_MAX_MS : period;
}

static void wake_after(struct foreign_server *server, int64_t after_ms)
{
    uint64_t after_us = after_ms > 0 ? (uint64_t)after_ms * 1000 : 0;
    int r = sd_event_source_set_time_relative(server->timer, after_us);
    if (r >= 0)
        r = sd_event_source_set_enabled(server->timer, SD_EVENT_ONESHOT);
    pn_assert(r >= 0);
}

static void set_registered(struct foreign_server *server, bool is_registered)
{
    if (server->is_registered != is_registered)
        board_add(server->front->board, COUNTER_FOREIGN_REGISTERED, is_registered ? 1 : (uint64_t)-1);
    server->is_registered = is_registered;
}

static void forget_changed(struct foreign_server *server)
{
    for (unsigned i = 0; i < server->changed_count; i++)
        free(server->changed[i]);
    server->changed_count = 0;
}

static void close_wire(struct foreign_server *server)
{
    server->io = sd_event_source_disable_unref(server->io);
    if (server->is_open)
        connection_close(&server->wire);
    server->is_open = false;
    set_registered(server, false);
}

static void enter(struct foreign_server *server, enum foreign_state state)
{
    server->state = state;
    sd_event_source_set_enabled(server->timer, SD_EVENT_OFF);
}

static void end(struct foreign_server *server)
{
    close_wire(server);
    resolve_cancel(TAKE_PTR(server->resolve));
    enter(server, FOREIGN_ENDED);
}

static void tell_trouble(struct foreign_server *server, const char *what)
{
    if (!server->trouble_told)
        log_warning("name server %s: %s; we go on trying", server->label, what);
    server->trouble_told = true;
}

/* Connecting. */

static void connect_next(struct foreign_server *server);

static void wait_for_retry(struct foreign_server *server, const char *reason)
{
    tell_trouble(server, reason);
    enter(server, FOREIGN_WAITING);
    wake_after(server, server->backoff_ms);
    server->backoff_ms = server->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : server->backoff_ms * 2;
}

static void take_addresses(struct foreign_server *server, const struct addrinfo *found)
{
    server->address_count = server->address_next = 0;
    for (; found && server->address_count < FOREIGN_ADDRESSES_MAX; found = found->ai_next) {
        struct sockaddr_storage *address = &server->addresses[server->address_count];
        if (found->ai_addrlen > sizeof *address)
            continue;
        *address = (struct sockaddr_storage){0};
        memcpy(address, found->ai_addr, found->ai_addrlen);
        server->address_count++;
    }
}

static void on_resolved(void *context, const struct addrinfo *found, const char *error)
{
    struct foreign_server *server = context;
    server->resolve = NULL;
    take_addresses(server, found);
    if (server->address_count)
        connect_next(server);
    else
        wait_for_retry(server, error ? error : "it has no address");
}

/* A name may mean another host by now, so each round asks again. */
static void begin_round(struct foreign_server *server)
{
    struct addrinfo *digits = resolve_digits(server->endpoint.host, server->endpoint.port);
    if (digits) {
        take_addresses(server, digits);
        freeaddrinfo(digits);
        connect_next(server);
        return;
    }
    enter(server, FOREIGN_RESOLVING);
    int r = resolve_start(server->front->event, server->endpoint.host, server->endpoint.port, on_resolved, server,
                          &server->resolve);
    if (r < 0)
        wait_for_retry(server, strerror(-r));
}

static bool host_of(int fd, int (*ask)(int, struct sockaddr *, socklen_t *), char host[NI_MAXHOST], char port[NI_MAXSERV])
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    return ask(fd, (struct sockaddr *)&address, &size) == 0 &&
           getnameinfo((struct sockaddr *)&address, size, host, NI_MAXHOST, port, NI_MAXSERV,
                       NI_NUMERICHOST | NI_NUMERICSERV) == 0;
}

static int get_local(int fd, struct sockaddr *address, socklen_t *size)
{
    return getsockname(fd, address, size);
}

static int get_peer(int fd, struct sockaddr *address, socklen_t *size)
{
    return getpeername(fd, address, size);
}

static bool is_wildcard(const char *host)
{
    return strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
}

/* An Apache file may name the name servers of the cluster file that it became part of, and one list may serve every host
 * of a cluster. What we listen on is ours; where we listen on everything, whatever is an address of this host. */
static bool is_own(const struct foreign_server *server, const char *local, const char *peer, const char *port)
{
    struct endpoint own[ENDPOINT_LIST_MAX];
    int count = endpoint_list_parse(server->front->config.own_namesrv_addr, own);
    bool is_local = strcmp(local, peer) == 0 || strncmp(peer, "127.", 4) == 0;
    for (int i = 0; i < count; i++)
        if (strcmp(own[i].port, port) == 0 &&
            (strcmp(own[i].host, peer) == 0 || (is_local && is_wildcard(own[i].host))))
            return true;
    return false;
}

/* Without a configured address we are where this name server reaches us. */
static void make_addresses(struct foreign_server *server, const char *local)
{
    const struct front_config *config = &server->front->config;
    char own[NI_MAXHOST + 4];
    snprintf(own, sizeof own, strchr(local, ':') ? "[%s]" : "%s", local);
    const char *ip1 = *config->broker_ip1 ? config->broker_ip1 : own;
    const char *ip2 = *config->broker_ip2 ? config->broker_ip2 : ip1;
    snprintf(server->addr, sizeof server->addr, "%.255s:%d", ip1, config->listen_port);
    snprintf(server->ha_addr, sizeof server->ha_addr, "%.255s:%d", ip2, config->ha_listen_port);
}

static void on_connected(struct foreign_server *server)
{
    int fd = server->wire.stream.fd, error = 0;
    socklen_t size = sizeof error;
    char local[NI_MAXHOST], peer[NI_MAXHOST], port[NI_MAXSERV], local_port[NI_MAXSERV];
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
        error = errno;
    if (error == 0 && (!host_of(fd, get_local, local, local_port) || !host_of(fd, get_peer, peer, port)))
        error = ENOTCONN;
    /* Where nobody listens on this host, TCP may connect a socket to itself. */
    if (error == 0 && strcmp(local, peer) == 0 && strcmp(local_port, port) == 0)
        error = ECONNREFUSED;
    if (error) {
        lost(server, strerror(error));
        return;
    }
    if (is_own(server, local, peer, port)) {
        log_info("name server %s is one of this cluster: it is told over the bus", server->label);
        close_wire(server);
        enter(server, FOREIGN_OWN);
        return;
    }
    sd_event_source_set_io_events(server->io, EPOLLIN);
    make_addresses(server, local);
    server->whole_at_ms = 0;
    enter(server, FOREIGN_READY);
    foreign_server_look(server);
}

/* Input and output. */

static void finish(struct foreign_server *server, const struct frame *frame);

static void take_frame(struct foreign_server *server, const struct frame *frame)
{
    /* What it asks of us (a slave may have become the smallest id) is nothing to us. */
    if (!(frame->flag & FRAME_FLAG_RESPONSE) || server->state != FOREIGN_ASKING ||
        frame->opaque < server->first_opaque || frame->opaque >= server->opaque)
        return;
    if (frame->code != 0) {
        char what[320];
        snprintf(what, sizeof what, "it refuses us with code %d: %.*s", frame->code,
                 (int)(frame->remark.size > 200 ? 200 : frame->remark.size), (const char *)frame->remark.data);
        tell_trouble(server, what);
        server->is_refused = true;
    }
    if (--server->unanswered == 0)
        finish(server, frame);
}

static void readable(struct foreign_server *server)
{
    ssize_t n = connection_fill(&server->wire);
    if (n == -EAGAIN)
        return;
    if (n <= 0) {
        lost(server, n == 0 ? "it has closed the connection" : strerror((int)-n));
        return;
    }
    struct frame frame;
    while (server->is_open) {
        enum frame_result result = connection_next(&server->wire, &frame);
        if (result == FRAME_MORE)
            return;
        if (result == FRAME_BAD) {
            board_add(server->front->board, COUNTER_FRAMES_BAD, 1);
            lost(server, "it sent a malformed frame");
            return;
        }
        if (result == FRAME_OK)
            take_frame(server, &frame);
        if (server->is_open)
            connection_consume(&server->wire, &frame);
    }
}

static void flush(struct foreign_server *server)
{
    int r = connection_flush(&server->wire);
    if (r < 0)
        lost(server, strerror(-r));
    else
        sd_event_source_set_io_events(server->io, EPOLLIN | (r == 1 ? EPOLLOUT : 0));
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *context)
{
    struct foreign_server *server = context;
    if (server->state == FOREIGN_CONNECTING) {
        on_connected(server);
        return 0;
    }
    if (events & EPOLLOUT)
        flush(server);
    if (server->is_open && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        readable(server);
    return 0;
}

static int connect_to(struct foreign_server *server, const struct sockaddr_storage *address)
{
    PN_CLOSE int fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1;
    socklen_t size = address->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    if (fd < 0)
        return -errno;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (const struct sockaddr *)address, size) < 0 && errno != EINPROGRESS)
        return -errno;
    int r = sd_event_add_io(server->front->event, &server->io, fd, EPOLLOUT, on_io, server);
    if (r < 0)
        return r;
    connection_init(&server->wire, TAKE_FD(fd));
    server->is_open = true;
    return 0;
}

static void connect_next(struct foreign_server *server)
{
    int r = -EADDRNOTAVAIL;
    while (server->address_next < server->address_count) {
        r = connect_to(server, &server->addresses[server->address_next++]);
        if (r < 0)
            continue;
        enter(server, FOREIGN_CONNECTING);
        wake_after(server, CONNECT_TIMEOUT_MS);
        return;
    }
    wait_for_retry(server, strerror(-r));
}

static void lost(struct foreign_server *server, const char *reason)
{
    bool was_connecting = server->state == FOREIGN_CONNECTING;
    close_wire(server);
    if (server->leaving)
        end(server);
    else if (was_connecting && server->address_next < server->address_count)
        connect_next(server);
    else
        wait_for_retry(server, reason);
}

/* Asking. */

/* `count` frames are queued; an error of making them is one of memory or of a header that is too long. */
static void asked(struct foreign_server *server, enum foreign_request request, int count)
{
    if (count <= 0) {
        lost(server, count ? strerror(-count) : "there is nothing to register");
        return;
    }
    server->asked = request;
    server->unanswered = (unsigned)count;
    server->is_refused = false;
    enter(server, FOREIGN_ASKING);
    wake_after(server, request == FOREIGN_LEAVE ? LEAVE_TIMEOUT_MS : server->front->config.register_timeout_ms);
    flush(server);
}

static void ask(struct foreign_server *server, enum foreign_request request)
{
    struct front *front = server->front;
    const struct registration_name name = {bytes_of(server->addr), bytes_of(server->ha_addr)};
    int count = 0;
    if (server->opaque > INT32_MAX / 2)
        server->opaque = 0;
    server->first_opaque = server->opaque;
    server->asked_version = catalogue_topics_data_version(front->catalogue);
    server->asked_permission = front->config.broker_permission;
    switch (request) {
    case FOREIGN_REGISTER:
        FAULT_POINT(FRONT_REGISTER);
        count = registration_put_whole(front, &name,
                                       !server->is_registered ||
                                           !registration_same_version(server->told, server->asked_version),
                                       &server->wire, &server->opaque);
        server->whole = false;
        forget_changed(server);
        break;
    case FOREIGN_REGISTER_PART:
        count = registration_put_topics(front, &name, server->changed, server->changed_count, &server->wire,
                                        &server->opaque);
        forget_changed(server);
        break;
    case FOREIGN_ASK_VERSION:
        count = registration_ask_version(front, &name, &server->wire, &server->opaque);
        break;
    case FOREIGN_LEAVE:
        count = registration_put_leave(front, &name, &server->wire, &server->opaque);
        break;
    }
    asked(server, request, count);
}

static void registered(struct foreign_server *server, struct bytes body)
{
    if (!server->is_registered)
        log_info("name server %s: registered as %s", server->label, server->addr);
    set_registered(server, true);
    board_add(server->front->board, COUNTER_REGISTRATIONS, 1);
    server->backoff_ms = BACKOFF_MIN_MS;
    server->trouble_told = false;
    server->told = server->asked_version;
    if (server->asked == FOREIGN_REGISTER) {
        server->told_permission = server->asked_permission;
        server->due_ms = clock_monotonic_ms() + period_ms(server);
        registration_take_orders(server->front, body);
    }
}

static void finish_register(struct foreign_server *server, const struct frame *frame)
{
    if (!server->is_refused)
        registered(server, frame->body);
    else /* a part that it cannot take (it may have forgotten us) is followed by the whole, and that is not hurried */
        foreign_server_whole(server, server->asked == FOREIGN_REGISTER ? REFUSED_RETRY_MS : 0);
}

/* All answers are here; `frame` is the last. */
static void finish(struct foreign_server *server, const struct frame *frame)
{
    enter(server, FOREIGN_READY);
    switch (server->asked) {
    case FOREIGN_REGISTER:
    case FOREIGN_REGISTER_PART:
        finish_register(server, frame);
        break;
    case FOREIGN_ASK_VERSION:
        server->due_ms = clock_monotonic_ms() + period_ms(server);
        if (server->is_refused || registration_is_wanted(server->front, frame))
            foreign_server_whole(server, 0);
        break;
    case FOREIGN_LEAVE:
        if (server->leaving) {
            end(server);
            return;
        }
        /* In the list again meanwhile. Apache takes a farewell up a little after it has answered. */
        set_registered(server, false);
        foreign_server_whole(server, LEAVE_TIMEOUT_MS);
        break;
    }
    foreign_server_look(server);
}

void foreign_server_look(struct foreign_server *server)
{
    const struct front *front = server->front;
    int64_t now_ms = clock_monotonic_ms();
    if (server->state != FOREIGN_READY)
        return;
    if (server->leaving) {
        if (server->is_registered)
            ask(server, FOREIGN_LEAVE);
        else
            end(server);
        return;
    }
    if (!catalogue_is_whole(front->catalogue)) /* there is a turn when it is */
        return;
    bool is_new = !registration_same_version(server->told, catalogue_topics_data_version(front->catalogue));
    bool other_permission = is_new && server->told_permission != front->config.broker_permission;
    int64_t whole_at_ms = other_permission ? now_ms : server->whole_at_ms;
    if (!server->is_registered || server->whole || other_permission) {
        if (now_ms >= whole_at_ms)
            ask(server, FOREIGN_REGISTER);
        else
            wake_after(server, whole_at_ms - now_ms);
    } else if (server->changed_count) {
        ask(server, FOREIGN_REGISTER_PART);
    } else if (now_ms >= server->due_ms) {
        ask(server, front->config.force_register ? FOREIGN_REGISTER : FOREIGN_ASK_VERSION);
    } else {
        wake_after(server, server->due_ms - now_ms);
    }
}

static int on_timer(sd_event_source *source, uint64_t usec, void *context)
{
    struct foreign_server *server = context;
    switch (server->state) {
    case FOREIGN_WAITING:
        begin_round(server);
        break;
    case FOREIGN_CONNECTING:
        lost(server, "it does not answer our connection");
        break;
    case FOREIGN_ASKING:
        lost(server, "it does not answer a request");
        break;
    case FOREIGN_READY:
        foreign_server_look(server);
        break;
    case FOREIGN_RESOLVING:
    case FOREIGN_OWN:
    case FOREIGN_ENDED:
        break;
    }
    return 0;
}

void foreign_server_topic(struct foreign_server *server, struct bytes name)
{
    if (!server->is_registered || server->whole) /* the whole table will tell */
        return;
    for (unsigned i = 0; i < server->changed_count; i++)
        if (bytes_equal_text(name, server->changed[i]))
            return;
    if (server->changed_count == FOREIGN_CHANGED_MAX) {
        foreign_server_whole(server, 0);
        return;
    }
    char *copy = strndup((const char *)name.data, name.size);
    if (!copy)
        PANIC("out of memory");
    server->changed[server->changed_count++] = copy;
}

void foreign_server_whole(struct foreign_server *server, int64_t after_ms)
{
    int64_t at_ms = clock_monotonic_ms() + after_ms;
    if (!server->whole || at_ms < server->whole_at_ms)
        server->whole_at_ms = at_ms;
    server->whole = true;
    forget_changed(server);
}

void foreign_server_leave(struct foreign_server *server)
{
    if (server->state == FOREIGN_ENDED)
        return;
    server->leaving = true;
    if (server->state == FOREIGN_READY)
        foreign_server_look(server);
    else if (!server->is_registered) /* else it is told when it has answered what is outstanding */
        end(server);
    else if (server->asked != FOREIGN_LEAVE)
        wake_after(server, LEAVE_TIMEOUT_MS);
}

int foreign_server_new(struct front *front, const struct endpoint *endpoint, struct foreign_server **ret_server)
{
    struct foreign_server *server = calloc(1, sizeof *server);
    if (!server)
        return -ENOMEM;
    server->front = front;
    server->endpoint = *endpoint;
    server->backoff_ms = BACKOFF_MIN_MS;
    snprintf(server->label, sizeof server->label, strchr(endpoint->host, ':') ? "[%s]:%s" : "%s:%s", endpoint->host,
             endpoint->port);
    int r = sd_event_add_time_relative(front->event, &server->timer, CLOCK_MONOTONIC, 0, 10000, on_timer, server);
    if (r < 0) {
        foreign_server_free(server);
        return r;
    }
    *ret_server = server; /* the timer's first call connects */
    return 0;
}

void foreign_server_free(struct foreign_server *server)
{
    close_wire(server);
    resolve_cancel(server->resolve);
    sd_event_source_disable_unref(server->timer);
    forget_changed(server);
    free(server);
}
