/* Accepts, reads frames, writes answers; everything on the one sd-event loop, a turn of a connection reads at most one
 * buffer. Runs in the name server. A client is foreign: a bad frame closes its connection, one that does not take its
 * answers is not read any further, one that is silent for two minutes is closed (clients ask every 30 s). Out of
 * descriptors clients are refused; SPARE_DESCRIPTORS are kept for the bus, because libzmq aborts without. */
#include "listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/address_list.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "query.h"
#include "wire/connection.h"

enum {
    ACCEPTS_PER_TURN = 64,
    SPARE_DESCRIPTORS = 64,
    OUT_SIZE_MAX = 1 << 20, /* more than this unsent: no further request of this client is taken */
    IDLE_MS = 120000,
    IDLE_SCAN_MS = 10000,
};

struct client {
    struct listener *listener;
    struct client *previous, *next;
    struct connection connection;
    sd_event_source *io;
    int64_t last_ms;
    struct query_peer peer;
    char own_host[INET6_ADDRSTRLEN + 2], address[INET6_ADDRSTRLEN + 2];
};

struct listener {
    struct namesrv *namesrv;
    int fd;
    sd_event_source *io, *idle;
    struct client *clients;
    uint64_t last_number;
    unsigned client_count, client_max;
    bool refused_before; /* one log line per run of refusals */
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
    sd_event_source_disable_unref(client->io);
    connection_close(&client->connection);
    query_peer_gone(listener->namesrv, &client->peer);
    free(client);
}

void listener_close(struct listener *listener, uint64_t connection)
{
    for (struct client *client = listener->clients; client; client = client->next)
        if (client->peer.number == connection) {
            client_free(client);
            return;
        }
}

/* Whole frames in the buffer, as long as the client takes the answers. -EBADMSG: close. */
static int take_frames(struct client *client)
{
    struct frame frame;
    while (client->connection.out_size < OUT_SIZE_MAX) {
        switch (connection_next(&client->connection, &frame)) {
        case FRAME_MORE:
            return 0;
        case FRAME_BAD:
            board_add(client->listener->namesrv->board, COUNTER_FRAMES_BAD, 1);
            return -EBADMSG;
        case FRAME_OK:
            query_take(client->listener->namesrv, &client->connection, &frame, &client->peer);
            break;
        case FRAME_SKIP:
            break;
        }
        connection_consume(&client->connection, &frame);
    }
    return 0;
}

/* Answers what is in the buffer and sends, until nothing is left or the client has to take something first. */
static int work(struct client *client)
{
    int r;
    do {
        r = take_frames(client);
        if (r < 0)
            return r;
        bool was_full = client->connection.out_size >= OUT_SIZE_MAX;
        r = connection_flush(&client->connection);
        if (r != 0 || !was_full)
            break;
    } while (true);
    if (r < 0)
        return r;
    return sd_event_source_set_io_events(client->io, r == 0                                       ? EPOLLIN
                                                     : client->connection.out_size < OUT_SIZE_MAX ? EPOLLIN | EPOLLOUT
                                                                                                  : EPOLLOUT);
}

static int on_client(sd_event_source *source, int fd, uint32_t events, void *context)
{
    struct client *client = context;
    int r = 0;
    if (client->connection.out_size < OUT_SIZE_MAX && (events & ~(uint32_t)EPOLLOUT)) {
        ssize_t n = connection_fill(&client->connection);
        r = n > 0 || n == -EAGAIN ? 0 : n == 0 ? -ECONNRESET : (int)n;
    } else if (events & (EPOLLHUP | EPOLLERR)) { /* it will not take what waits */
        r = -ECONNRESET;
    }
    if (r == 0) {
        client->last_ms = clock_monotonic_ms();
        r = work(client);
    }
    if (r < 0)
        client_free(client);
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
    int r = sd_event_add_io(listener->namesrv->event, &client->io, fd, EPOLLIN, on_client, client);
    if (r < 0) {
        free(client);
        return r;
    }
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

static void refuse(struct listener *listener, int fd, int error)
{
    if (!listener->refused_before)
        log_warning("connections are refused: %s", strerror(error));
    listener->refused_before = true;
    board_add(listener->namesrv->board, COUNTER_CONNECTIONS_REFUSED, 1);
    close(fd);
}

static int on_listen(sd_event_source *source, int listen_fd, uint32_t events, void *context)
{
    struct listener *listener = context;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) /* EAGAIN, or one client's end; its like comes again */
            return 0;
        if (listener->client_count >= listener->client_max) {
            refuse(listener, fd, EMFILE);
            continue;
        }
        int r = client_new(listener, fd);
        if (r < 0)
            refuse(listener, fd, -r);
        else
            listener->refused_before = false;
    }
    return 0;
}

static int on_idle_scan(sd_event_source *source, uint64_t usec, void *context)
{
    struct listener *listener = context;
    int64_t now_ms = clock_monotonic_ms();
    for (struct client *client = listener->clients, *next; client; client = next) {
        next = client->next;
        if (now_ms - client->last_ms > IDLE_MS)
            client_free(client);
    }
    int r = sd_event_source_set_time(source, (uint64_t)(now_ms + IDLE_SCAN_MS) * 1000);
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
    sd_event_source_disable_unref(listener->io);
    sd_event_source_disable_unref(listener->idle);
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
    listener->client_max = descriptors_for_clients();
    int flags = fcntl(listen_fd, F_GETFL);
    if (flags < 0 || fcntl(listen_fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    int r = sd_event_add_io(namesrv->event, &listener->io, listen_fd, EPOLLIN, on_listen, listener);
    if (r < 0)
        return r;
    r = sd_event_add_time(namesrv->event, &listener->idle, CLOCK_MONOTONIC,
                          (uint64_t)(clock_monotonic_ms() + IDLE_SCAN_MS) * 1000, 1000000, on_idle_scan, listener);
    if (r < 0)
        return r;
    *ret_listener = TAKE_PTR(listener);
    return 0;
}
