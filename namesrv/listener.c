/* Accepts, reads frames, writes answers; a turn of a connection reads at most one buffer. All clients hang in one epoll
 * descriptor inside the sd-event loop: with a source for each, thousands of them that speak at once cost as many looks at
 * all of them. Runs in the name server. A client is foreign: a bad frame closes its connection, one that does not take its
 * answers is not read any further, one that is silent or stuck for two minutes is closed (clients ask every 30 s), and so
 * is whoever holds the most memory when all together hold too much. Each of these is counted, and said once in a while
 * with the peer's address. SPARE_DESCRIPTORS are kept for the bus, because libzmq aborts without; should the system have
 * none left, accepting stops for a second. */
#include "listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/address_list.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/refusals.h"
#include "query.h"
#include "wire/connection.h"

enum {
    ACCEPTS_PER_TURN = 64,
    EVENTS_PER_TURN = 256,
    SPARE_DESCRIPTORS = 64,
    SCAN_MS = 5000,
    PAUSE_MS = 1000, /* in accepting */
};

struct client {
    struct listener *listener;
    struct client *previous, *next;
    struct connection connection;
    uint32_t epoll_mask;
    bool is_dead; /* closed; an event that was fetched before may still name it */
    int64_t last_ms;
    int64_t frame_ms;   /* when the unfinished request began to come; 0: there is none */
    int64_t waiting_ms; /* since when no byte of its answers has moved; 0: there is none */
    uint64_t counted_out, confirmed;
    size_t counted_memory;
    struct query_peer peer;
    char own_host[INET6_ADDRSTRLEN + 2], address[INET6_ADDRSTRLEN + 2];
};

struct listener {
    struct namesrv *namesrv;
    int fd;
    int epoll_fd;
    sd_event_source *io, *clients_io, *scan, *again;
    struct client *clients, *dead;
    uint64_t last_number;
    unsigned client_count, descriptors;
    uint64_t memory;
    struct refusals refusals;
};

static void client_free(struct client *client)
{
    struct listener *listener = client->listener;
    struct board *board = listener->namesrv->board;
    if (client->previous)
        client->previous->next = client->next;
    else
        listener->clients = client->next;
    if (client->next)
        client->next->previous = client->previous;
    board_set(board, COUNTER_CONNECTIONS, --listener->client_count);
    board_add(board, COUNTER_BYTES_IN, client->connection.bytes_in);
    board_add(board, COUNTER_BYTES_OUT, client->connection.bytes_out);
    listener->memory -= client->counted_memory;
    board_set(board, COUNTER_BUFFERED_BYTES, listener->memory);
    connection_close(&client->connection); /* takes it out of epoll */
    query_peer_gone(listener->namesrv, &client->peer);
    client->is_dead = true;
    client->next = listener->dead;
    listener->dead = client;
}

static void bury(struct listener *listener)
{
    for (struct client *client = listener->dead, *next; client; client = next) {
        next = client->next;
        free(client);
    }
    listener->dead = NULL;
}

/* Counted, and said if this address has not been said lately. */
static void refuse(struct listener *listener, const char *address, enum board_counter counter, const char *why)
{
    unsigned unsaid;
    board_add(listener->namesrv->board, counter, 1);
    if (!refusals_say(&listener->refusals, address, clock_monotonic_ms(), &unsaid))
        return;
    if (unsaid)
        log_warning("peer %s: %s; closed (and %u times more since the last such line)", address, why, unsaid);
    else
        log_warning("peer %s: %s; closed", address, why);
}

void listener_close(struct listener *listener, uint64_t connection)
{
    for (struct client *client = listener->clients; client; client = client->next)
        if (client->peer.number == connection) {
            client_free(client);
            return;
        }
}

/* Limits that operators may change while we run. */
static uint64_t limit(const struct listener *listener, enum config_key key)
{
    return (uint64_t)listener->namesrv->config.numbers[key];
}

static bool is_full(const struct client *client)
{
    return client->connection.out_size >= limit(client->listener, CONFIG_OUTPUT_MAX);
}

static void refuse_bytes(struct client *client)
{
    const struct connection *connection = &client->connection;
    char why[128];
    snprintf(why, sizeof why, "it sent %s",
             frame_looks_like(connection->in + connection->in_start, connection->in_end - connection->in_start));
    refuse(client->listener, client->address, COUNTER_FRAMES_BAD, why);
}

/* Whole frames in the buffer, as long as the client takes the answers. -EBADMSG: close. */
static int take_frames(struct client *client)
{
    struct frame frame;
    while (!is_full(client)) {
        switch (connection_next(&client->connection, &frame)) {
        case FRAME_MORE:
            if (client->connection.in_start == client->connection.in_end)
                client->frame_ms = 0;
            else if (!client->frame_ms)
                client->frame_ms = client->last_ms;
            return 0;
        case FRAME_BAD:
            refuse_bytes(client);
            return -EBADMSG;
        case FRAME_OK:
            query_take(client->listener->namesrv, &client->connection, &frame, &client->peer);
            break;
        case FRAME_SKIP:
            break;
        }
        connection_consume(&client->connection, &frame);
        client->frame_ms = 0;
    }
    return 0;
}

/* What it holds now, and whether its answers move. */
static void account(struct client *client)
{
    struct listener *listener = client->listener;
    size_t memory = connection_memory(&client->connection);
    listener->memory += memory - client->counted_memory;
    client->counted_memory = memory;
    board_set(listener->namesrv->board, COUNTER_BUFFERED_BYTES, listener->memory);
    bool moved = client->connection.bytes_out != client->counted_out;
    client->counted_out = client->connection.bytes_out;
    if (client->connection.out_size == 0)
        client->waiting_ms = 0;
    else if (moved || !client->waiting_ms)
        client->waiting_ms = client->last_ms;
}

static void settle(struct listener *listener)
{
    while (listener->memory > limit(listener, CONFIG_BUFFERED_MAX)) {
        struct client *victim = listener->clients;
        for (struct client *client = victim; client; client = client->next)
            if (client->counted_memory > victim->counted_memory)
                victim = client;
        if (!victim || victim->counted_memory == 0)
            return;
        refuse(listener, victim->address, COUNTER_CONNECTIONS_HEAVY,
               "of all connections it holds the most memory, and together they hold more than maxBufferedBytes");
        client_free(victim);
    }
}

static int watch(struct client *client, uint32_t mask)
{
    struct epoll_event event = {.events = mask, .data.ptr = client};
    if (mask == client->epoll_mask)
        return 0;
    client->epoll_mask = mask;
    return epoll_ctl(client->listener->epoll_fd, EPOLL_CTL_MOD, client->connection.stream.fd, &event) < 0 ? -errno : 0;
}

/* Answers what is in the buffer and sends, until nothing is left or the client has to take something first. */
static int work(struct client *client)
{
    int r;
    do {
        r = take_frames(client);
        if (r < 0)
            return r;
        bool was_full = is_full(client);
        r = connection_flush(&client->connection);
        if (r != 0 || !was_full)
            break;
    } while (true);
    if (r < 0)
        return r;
    return watch(client, r == 0 ? EPOLLIN : is_full(client) ? EPOLLOUT : EPOLLIN | EPOLLOUT);
}

static void take_event(struct client *client, uint32_t events)
{
    int r = 0;
    if (!is_full(client) && (events & ~(uint32_t)EPOLLOUT)) {
        ssize_t n = connection_fill(&client->connection);
        r = n > 0 || n == -EAGAIN ? 0 : n == 0 ? -ECONNRESET : (int)n;
    } else if (events & (EPOLLHUP | EPOLLERR)) { /* it will not take what waits */
        r = -ECONNRESET;
    }
    if (r == 0) {
        client->last_ms = clock_monotonic_ms();
        r = work(client);
    }
    if (r < 0) {
        client_free(client);
        return;
    }
    account(client);
    settle(client->listener);
}

static int on_clients(sd_event_source *source, int fd, uint32_t mask, void *context)
{
    struct listener *listener = context;
    struct epoll_event events[EVENTS_PER_TURN];
    int count = epoll_wait(fd, events, EVENTS_PER_TURN, 0);
    for (int i = 0; i < count; i++) {
        struct client *client = events[i].data.ptr;
        if (!client->is_dead)
            take_event(client, events[i].events);
    }
    bury(listener);
    return 0;
}

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static void name_host(const union address *address, char *ret_text, size_t size)
{
    char text[INET6_ADDRSTRLEN];
    ret_text[0] = 0;
    if (address->any.sa_family == AF_INET && inet_ntop(AF_INET, &address->v4.sin_addr, text, sizeof text))
        snprintf(ret_text, size, "%s", text);
    else if (address->any.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&address->v6.sin6_addr) &&
             inet_ntop(AF_INET, &address->v6.sin6_addr.s6_addr[12], text, sizeof text))
        snprintf(ret_text, size, "%s", text);
    else if (address->any.sa_family == AF_INET6 && inet_ntop(AF_INET6, &address->v6.sin6_addr, text, sizeof text))
        snprintf(ret_text, size, "[%s]", text);
}

/* One whose address cannot be told (it is gone already) may nothing. */
static void judge(struct client *client, int fd)
{
    union address address = {.any.sa_family = AF_UNSPEC};
    socklen_t length = sizeof address;
    client->peer.is_admin = getpeername(fd, &address.any, &length) == 0 &&
                            address_list_has(&client->listener->namesrv->config.admin_from, &address.any);
}

void listener_judge_again(struct listener *listener)
{
    for (struct client *client = listener->clients; client; client = client->next)
        judge(client, client->connection.stream.fd);
}

static void name_peer(struct client *client, int fd)
{
    union address address = {.any.sa_family = AF_UNSPEC};
    socklen_t length = sizeof address;
    if (getsockname(fd, &address.any, &length) == 0)
        name_host(&address, client->own_host, sizeof client->own_host);
    length = sizeof address;
    if (getpeername(fd, &address.any, &length) == 0)
        name_host(&address, client->address, sizeof client->address);
    judge(client, fd);
    client->peer.own_host = bytes_of(client->own_host);
    client->peer.address = client->address;
    client->peer.number = ++client->listener->last_number;
}

static int client_new(struct listener *listener, int fd)
{
    struct client *client = calloc(1, sizeof *client);
    if (!client)
        return -ENOMEM;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    if (epoll_ctl(listener->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        int r = -errno;
        free(client);
        return r;
    }
    client->epoll_mask = EPOLLIN;
    int yes = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    connection_init(&client->connection, fd);
    client->listener = listener;
    name_peer(client, fd);
    client->last_ms = clock_monotonic_ms();
    client->next = listener->clients;
    if (client->next)
        client->next->previous = client;
    listener->clients = client;
    board_set(listener->namesrv->board, COUNTER_CONNECTIONS, ++listener->client_count);
    board_add(listener->namesrv->board, COUNTER_CONNECTIONS_ACCEPTED, 1);
    return 0;
}

/* More clients than there may be: the address is all that is looked at. */
static void refuse_socket(struct listener *listener, int fd)
{
    union address address = {.any.sa_family = AF_UNSPEC};
    socklen_t length = sizeof address;
    char host[INET6_ADDRSTRLEN + 2] = "?", why[128];
    if (getpeername(fd, &address.any, &length) == 0)
        name_host(&address, host, sizeof host);
    snprintf(why, sizeof why, "%u connections are open, the most there may be (maxConnections, or the limit on open files)",
             listener->client_count);
    refuse(listener, host, COUNTER_CONNECTIONS_REFUSED, why);
    close(fd);
}

static int pause_accepting(struct listener *listener, int error)
{
    log_warning("accepting stops for a second: %s", strerror(error));
    board_add(listener->namesrv->board, COUNTER_ACCEPT_PAUSES, 1);
    int r = sd_event_source_set_enabled(listener->io, SD_EVENT_OFF);
    if (r >= 0)
        r = sd_event_source_set_time_relative(listener->again, PAUSE_MS * 1000);
    return r < 0 ? r : sd_event_source_set_enabled(listener->again, SD_EVENT_ONESHOT);
}

static int on_again(sd_event_source *source, uint64_t usec, void *context)
{
    struct listener *listener = context;
    return sd_event_source_set_enabled(listener->io, SD_EVENT_ON);
}

static int on_listen(sd_event_source *source, int listen_fd, uint32_t events, void *context)
{
    struct listener *listener = context;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS))
            return pause_accepting(listener, errno);
        if (fd < 0) /* EAGAIN, or one client's end; its like comes again */
            return 0;
        if (listener->client_count >= listener->descriptors ||
            listener->client_count >= limit(listener, CONFIG_CONNECTIONS_MAX)) {
            refuse_socket(listener, fd);
            continue;
        }
        int r = client_new(listener, fd);
        if (r < 0) {
            log_warning("a connection is refused: %s", strerror(-r));
            board_add(listener->namesrv->board, COUNTER_CONNECTIONS_REFUSED, 1);
            close(fd);
        }
    }
    return 0;
}

/* None of its bytes have moved for the idle time, neither out of our hands nor out of the kernel's. */
static bool does_not_read(struct client *client, int64_t now_ms, int64_t idle_ms)
{
    if (!client->waiting_ms || now_ms - client->waiting_ms <= idle_ms)
        return false;
    uint64_t confirmed = connection_confirmed(&client->connection);
    if (confirmed == client->confirmed)
        return true;
    client->confirmed = confirmed;
    client->waiting_ms = client->last_ms = now_ms;
    return false;
}

static void look_at(struct client *client, int64_t now_ms)
{
    struct listener *listener = client->listener;
    const char *why = NULL;
    int64_t idle_ms = (int64_t)limit(listener, CONFIG_IDLE_S) * 1000;
    if (does_not_read(client, now_ms, idle_ms))
        why = "it takes none of the bytes that wait for it";
    else if (client->frame_ms && now_ms - client->frame_ms > idle_ms && !is_full(client))
        why = "its request is not whole after serverChannelMaxIdleTimeSeconds";
    else if (now_ms - client->last_ms <= idle_ms)
        return;
    if (why)
        refuse(listener, client->address, COUNTER_CONNECTIONS_SLOW, why);
    else
        board_add(listener->namesrv->board, COUNTER_CONNECTIONS_IDLE, 1); /* the client's right: no line for it */
    client_free(client);
}

static int on_scan(sd_event_source *source, uint64_t usec, void *context)
{
    struct listener *listener = context;
    int64_t now_ms = clock_monotonic_ms();
    for (struct client *client = listener->clients, *next; client; client = next) {
        next = client->next;
        look_at(client, now_ms);
    }
    int r = sd_event_source_set_time(source, (uint64_t)(now_ms + SCAN_MS) * 1000);
    return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static unsigned descriptors_for_clients(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur <= 2 * SPARE_DESCRIPTORS)
        return SPARE_DESCRIPTORS;
    rlim_t count = limit.rlim_cur - SPARE_DESCRIPTORS;
    return count > 1000000 ? 1000000 : (unsigned)count;
}

void listener_free(struct listener *listener)
{
    if (!listener)
        return;
    while (listener->clients)
        client_free(listener->clients);
    bury(listener);
    sd_event_source_disable_unref(listener->clients_io);
    if (listener->epoll_fd >= 0)
        close(listener->epoll_fd);
    sd_event_source_disable_unref(listener->io);
    sd_event_source_disable_unref(listener->scan);
    sd_event_source_disable_unref(listener->again);
    if (listener->fd >= 0)
        close(listener->fd);
    free(listener);
}

static void listener_free_p(struct listener **listener)
{
    listener_free(*listener);
}

int listener_start(struct namesrv *namesrv, int listen_fd, struct listener **ret_listener)
{
    PN_CLEANUP(listener_free_p) struct listener *listener = calloc(1, sizeof *listener);
    if (!listener)
        return -ENOMEM;
    listener->namesrv = namesrv;
    listener->fd = listen_fd;
    listener->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (listener->epoll_fd < 0)
        return -errno;
    listener->descriptors = descriptors_for_clients();
    int flags = fcntl(listen_fd, F_GETFL);
    if (flags < 0 || fcntl(listen_fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    int r = sd_event_add_io(namesrv->event, &listener->io, listen_fd, EPOLLIN, on_listen, listener);
    if (r >= 0)
        r = sd_event_add_io(namesrv->event, &listener->clients_io, listener->epoll_fd, EPOLLIN, on_clients, listener);
    if (r < 0)
        return r;
    r = sd_event_add_time_relative(namesrv->event, &listener->scan, CLOCK_MONOTONIC, SCAN_MS * 1000, 500000, on_scan,
                                   listener);
    if (r >= 0)
        r = sd_event_add_time_relative(namesrv->event, &listener->again, CLOCK_MONOTONIC, 0, 10000, on_again, listener);
    if (r >= 0)
        r = sd_event_source_set_enabled(listener->again, SD_EVENT_OFF);
    if (r < 0)
        return r;
    *ret_listener = TAKE_PTR(listener);
    return 0;
}
