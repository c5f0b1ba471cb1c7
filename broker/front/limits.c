/* Limits: see limits.h. The front's one thread. Memory is what has arrived and is not a whole request yet, and answers
 * that are not sent, without the log's own pages; a buffer's untouched end costs nothing and is not counted, so a frame
 * that lies about its length gains nothing. */
#include "limits.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/refusals.h"

enum {
    /* Descriptors for everything but clients: files (read_log.c), rings, the bus, whose library aborts without. */
    DESCRIPTORS_KEPT = 1024,
};

struct limits {
    struct refusals refusals;
    unsigned descriptors;
    uint64_t memory; /* of all channels, as accounted */
};

int limits_new(struct limits **ret_limits)
{
    struct limits *limits = calloc(1, sizeof *limits);
    if (!limits)
        return -ENOMEM;
    struct rlimit files = {.rlim_cur = DESCRIPTORS_KEPT};
    getrlimit(RLIMIT_NOFILE, &files);
    rlim_t kept = files.rlim_cur / 2 < DESCRIPTORS_KEPT ? files.rlim_cur / 2 : DESCRIPTORS_KEPT;
    limits->descriptors = files.rlim_cur - kept < CHANNELS_MAX ? (unsigned)(files.rlim_cur - kept) : CHANNELS_MAX;
    *ret_limits = limits;
    return 0;
}

void limits_free(struct limits *limits)
{
    free(limits);
}

unsigned limits_connections(const struct front *front)
{
    unsigned configured = (unsigned)front->config.connections_max;
    return configured < front->limits->descriptors ? configured : front->limits->descriptors;
}

static void address_text(const uint8_t *ip, bool is_ipv6, char *ret_text, size_t size)
{
    if (!inet_ntop(is_ipv6 ? AF_INET6 : AF_INET, ip, ret_text, (socklen_t)size))
        ret_text[0] = 0;
}

void limits_peer_text(const struct channel *channel, char ret_text[PEER_TEXT_SIZE])
{
    char address[INET6_ADDRSTRLEN];
    address_text(channel->peer_ip, channel->peer_ipv6, address, sizeof address);
    snprintf(ret_text, PEER_TEXT_SIZE, channel->peer_ipv6 ? "[%s]:%u" : "%s:%u", address, channel->peer_port);
}

static void say(struct front *front, const char *address, unsigned port, const char *why)
{
    unsigned unsaid;
    if (!refusals_say(&front->limits->refusals, address, front->now_ms, &unsaid))
        return;
    if (unsaid)
        log_warning("peer %s:%u: %s; closed (and %u times more since the last such line)", address, port, why, unsaid);
    else
        log_warning("peer %s:%u: %s; closed", address, port, why);
}

void limits_refuse_socket(struct front *front, int fd, const char *why)
{
    struct sockaddr_storage peer = {0};
    socklen_t size = sizeof peer;
    char address[INET6_ADDRSTRLEN] = "?";
    unsigned port = 0;
    board_add(front->board, COUNTER_CONNECTIONS_REFUSED, 1);
    if (getpeername(fd, (struct sockaddr *)&peer, &size) == 0) {
        bool is_ipv6 = peer.ss_family == AF_INET6;
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)&peer;
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&peer;
        address_text(is_ipv6 ? (const uint8_t *)&v6->sin6_addr : (const uint8_t *)&v4->sin_addr, is_ipv6, address,
                     sizeof address);
        port = ntohs(is_ipv6 ? v6->sin6_port : v4->sin_port);
    }
    say(front, address, port, why);
    close(fd);
}

void limits_close(struct channel *channel, enum board_counter counter, const char *why)
{
    struct front *front = channel->front;
    char address[INET6_ADDRSTRLEN];
    board_add(front->board, counter, 1);
    address_text(channel->peer_ip, channel->peer_ipv6, address, sizeof address);
    say(front, address, channel->peer_port, why);
    channel_close(channel, why);
}

/* Memory. */

void limits_forget(struct channel *channel)
{
    channel->front->limits->memory -= channel->counted_memory;
    channel->counted_memory = 0;
    board_set(channel->front->board, COUNTER_BUFFERED_BYTES, channel->front->limits->memory);
}

static struct channel *largest(struct front *front)
{
    struct channel *found = NULL;
    for (uint32_t slot = 0; slot < connections_slots(front->connections); slot++) {
        struct channel *channel = connections_at(front->connections, slot);
        if (channel && (!found || channel->counted_memory > found->counted_memory))
            found = channel;
    }
    return found;
}

void limits_account(struct channel *channel)
{
    struct limits *limits = channel->front->limits;
    size_t now = connection_memory(&channel->wire);
    if (now == channel->counted_memory)
        return;
    limits->memory += now - channel->counted_memory;
    channel->counted_memory = now;
    board_set(channel->front->board, COUNTER_BUFFERED_BYTES, limits->memory);
}

void limits_settle(struct front *front)
{
    while (front->limits->memory > (uint64_t)front->config.buffered_bytes_max) {
        struct channel *victim = largest(front);
        if (!victim || victim->counted_memory == 0)
            return;
        limits_close(victim, COUNTER_CONNECTIONS_HEAVY,
                     "of all connections it holds the most memory, and together they hold more than maxBufferedBytes");
    }
}

/* Time. */

/* None of its bytes have moved for the idle time, neither out of our hands nor out of the kernel's. */
static bool does_not_read(struct channel *channel)
{
    const struct front *front = channel->front;
    if (!channel->waiting_ms || front->now_ms - channel->waiting_ms <= front->config.idle_ms)
        return false;
    uint64_t confirmed = connection_confirmed(&channel->wire);
    if (confirmed == channel->confirmed)
        return true;
    channel->confirmed = confirmed;
    channel->waiting_ms = channel->active_ms = front->now_ms;
    return false;
}

static void look_at(struct front *front, struct channel *channel)
{
    int64_t now_ms = front->now_ms, idle_ms = front->config.idle_ms;
    if (does_not_read(channel))
        limits_close(channel, COUNTER_CONNECTIONS_SLOW, "it takes none of the bytes that wait for it");
    else if (channel->frame_ms && now_ms - channel->frame_ms > idle_ms && !channel->paused && !channel->throttled)
        limits_close(channel, COUNTER_CONNECTIONS_SLOW, "its request is not whole after serverChannelMaxIdleTimeSeconds");
    /* While a request waits for the store it is not the client that is silent. */
    else if (now_ms - channel->active_ms > idle_ms && channel->outstanding == 0 && !channel->paused) {
        board_add(front->board, COUNTER_CONNECTIONS_IDLE, 1); /* the client's right: no line for it */
        channel_close(channel, "idle");
    } else if (channel->members && now_ms - channel->heartbeat_ms > CHANNEL_SILENT_MS) {
        board_add(front->board, COUNTER_CONNECTIONS_IDLE, 1);
        channel_close(channel, "no heartbeat");
    }
}

void limits_expire(struct front *front)
{
    for (uint32_t slot = 0; slot < connections_slots(front->connections); slot++) {
        struct channel *channel = connections_at(front->connections, slot);
        if (channel)
            look_at(front, channel);
    }
}
