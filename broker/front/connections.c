/* Slots of channels and the epoll descriptor under all sockets; see connections.h. The front's one thread owns it.
 * A frame is parsed once (escapes are undone in place), so a frame that must wait is kept parsed, and its channel's
 * buffer is left alone until it went through. */
#include "connections.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/panic.h"
#include "helper.h"
#include "limits.h"
#include "listener.h"
#include "long_poll.h"
#include "member.h"
#include "pending.h"
#include "route.h"
#include "store_link.h"

enum { EVENTS_PER_TURN = 256 };

struct connections {
    int epoll_fd;
    struct channel **slots;
    uint32_t slot_count; /* slots ever used */
    uint32_t *free_slots;
    uint32_t free_count;
    uint32_t open, last_number;
    bool reading_stopped;
    struct channel *by_number;
    struct channel *dirty;
    struct channel *paused_first, **paused_last;
};

int connections_new(struct front *front, struct connections **ret_connections)
{
    struct connections *connections = calloc(1, sizeof *connections);
    if (!connections)
        return -ENOMEM;
    connections->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    connections->slots = calloc(CHANNELS_MAX, sizeof *connections->slots);
    connections->free_slots = calloc(CHANNELS_MAX, sizeof *connections->free_slots);
    connections->paused_last = &connections->paused_first;
    if (connections->epoll_fd < 0 || !connections->slots || !connections->free_slots) {
        int r = connections->epoll_fd < 0 ? -errno : -ENOMEM;
        connections_free(connections);
        return r;
    }
    *ret_connections = connections;
    return 0;
}

void connections_free(struct connections *connections)
{
    if (!connections)
        return;
    for (uint32_t i = 0; i < connections->slot_count; i++)
        if (connections->slots[i])
            channel_close(connections->slots[i], NULL);
    if (connections->epoll_fd >= 0)
        close(connections->epoll_fd);
    free(connections->slots);
    free(connections->free_slots);
    free(connections);
}

int connections_epoll_fd(const struct connections *connections)
{
    return connections->epoll_fd;
}

unsigned connections_count(const struct connections *connections)
{
    return connections->open;
}

uint32_t connections_slots(const struct connections *connections)
{
    return connections->slot_count;
}

struct channel *connections_at(struct connections *connections, uint32_t slot)
{
    return slot < connections->slot_count ? connections->slots[slot] : NULL;
}

/* The epoll word: number (or index) above, kind and slot below. */
static uint64_t epoll_word(enum poll_kind kind, uint32_t slot, uint32_t number)
{
    return (uint64_t)number << 32 | (uint64_t)kind << 24 | slot;
}

int connections_watch(struct connections *connections, int fd, uint32_t mask, enum poll_kind kind, uint32_t index)
{
    struct epoll_event event = {.events = mask, .data.u64 = epoll_word(kind, 0, index)};
    return epoll_ctl(connections->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

/* What the channel waits for changed: reading stops while it is paused, throttled or closing. */
static void update_epoll(struct channel *channel)
{
    struct connections *connections = channel->front->connections;
    bool reads = !channel->paused && !channel->throttled && !channel->closing && !connections->reading_stopped;
    uint32_t mask = (reads ? EPOLLIN : 0) | (channel->want_out ? EPOLLOUT : 0);
    if (mask == channel->epoll_mask)
        return;
    struct epoll_event event = {.events = mask,
                                .data.u64 = epoll_word(POLL_CHANNEL, channel->ref.slot, channel->ref.number)};
    int r = epoll_ctl(connections->epoll_fd, EPOLL_CTL_MOD, channel->wire.stream.fd, &event);
    pn_assert(r == 0);
    channel->epoll_mask = mask;
}

static void take_peer(struct channel *channel, int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;
    if (getpeername(fd, (struct sockaddr *)&address, &size) < 0)
        return; /* gone already: the first read will tell */
    if (address.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&address;
        memcpy(channel->peer_ip, &in->sin_addr, 4);
        channel->peer_port = ntohs(in->sin_port);
    } else if (address.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&address;
        channel->peer_port = ntohs(in6->sin6_port);
        if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
            memcpy(channel->peer_ip, in6->sin6_addr.s6_addr + 12, 4);
        } else {
            channel->peer_ipv6 = true;
            memcpy(channel->peer_ip, &in6->sin6_addr, 16);
        }
    }
}

static int take_slot(struct connections *connections, uint32_t *ret_slot)
{
    if (connections->free_count)
        *ret_slot = connections->free_slots[--connections->free_count];
    else if (connections->slot_count < CHANNELS_MAX)
        *ret_slot = connections->slot_count++;
    else
        return -EMFILE;
    return 0;
}

int connections_add(struct front *front, int fd_taken, bool vip)
{
    PN_CLOSE int fd = fd_taken;
    struct connections *connections = front->connections;
    PN_FREE struct channel *channel = calloc(1, sizeof *channel);
    uint32_t slot;
    if (!channel)
        return -ENOMEM;
    int r = take_slot(connections, &slot);
    if (r < 0)
        return r;
    channel->front = front;
    /* 2^32 connections are decades; were they used up, a new generation of this front starts over. */
    pn_assert(connections->last_number < UINT32_MAX);
    channel->ref = (struct channel_ref){slot, ++connections->last_number};
    channel->vip = vip;
    channel->active_ms = channel->heartbeat_ms = front->now_ms;
    channel->epoll_mask = EPOLLIN;
    take_peer(channel, fd);
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = epoll_word(POLL_CHANNEL, slot, channel->ref.number)};
    if (epoll_ctl(connections->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        r = -errno;
        connections->free_slots[connections->free_count++] = slot;
        return r;
    }
    connection_init(&channel->wire, TAKE_FD(fd));
    connections->slots[slot] = channel;
    struct channel *added = TAKE_PTR(channel);
    HASH_ADD(by_number, connections->by_number, ref.number, sizeof added->ref.number, added);
    connections->open++;
    board_add(front->board, COUNTER_CONNECTIONS_ACCEPTED, 1);
    board_set(front->board, COUNTER_CONNECTIONS, connections->open);
    return 0;
}

struct channel *connections_find(struct front *front, struct channel_ref ref)
{
    struct channel *channel = connections_at(front->connections, ref.slot);
    return channel && channel->ref.number == ref.number && !channel->closing ? channel : NULL;
}

bool connections_is_ours(const struct front *front, uint64_t connection_id)
{
    return connection_id >> 32 == MSG_CONNECTION_ID(front->peer_id, front->generation, 0) >> 32;
}

struct channel *connections_find_id(struct front *front, uint64_t connection_id)
{
    struct channel *channel = NULL;
    uint32_t number = (uint32_t)connection_id;
    if (!connections_is_ours(front, connection_id))
        return NULL;
    HASH_FIND(by_number, front->connections->by_number, &number, sizeof number, channel);
    return channel && !channel->closing ? channel : NULL;
}

static void count_bytes(struct channel *channel)
{
    struct front *front = channel->front;
    board_add(front->board, COUNTER_BYTES_IN, channel->wire.bytes_in - channel->counted_in);
    board_add(front->board, COUNTER_BYTES_OUT, channel->wire.bytes_out - channel->counted_out);
    channel->counted_in = channel->wire.bytes_in;
    channel->counted_out = channel->wire.bytes_out;
}

static void unlink_paused(struct connections *connections, struct channel *channel)
{
    for (struct channel **at = &connections->paused_first; *at; at = &(*at)->next_paused)
        if (*at == channel) {
            *at = channel->next_paused;
            if (connections->paused_last == &channel->next_paused)
                connections->paused_last = at;
            return;
        }
}

static void unlink_dirty(struct connections *connections, struct channel *channel)
{
    for (struct channel **at = &connections->dirty; *at; at = &(*at)->next_dirty)
        if (*at == channel) {
            *at = channel->next_dirty;
            return;
        }
}

void channel_close(struct channel *channel, const char *reason)
{
    struct front *front = channel->front;
    struct connections *connections = front->connections;
    if (reason)
        log_debug("connection %u closed: %s", channel->ref.number, reason);
    channel->closing = true;
    limits_forget(channel);
    long_poll_drop_channel(front, channel);
    members_drop_channel(front, channel);
    if (channel->paused)
        unlink_paused(connections, channel);
    if (channel->dirty)
        unlink_dirty(connections, channel);
    count_bytes(channel);
    HASH_DELETE(by_number, connections->by_number, channel);
    connections->slots[channel->ref.slot] = NULL;
    connections->free_slots[connections->free_count++] = channel->ref.slot;
    connections->open--;
    board_set(front->board, COUNTER_CONNECTIONS, connections->open);
    free(channel->held);
    connection_close(&channel->wire); /* closing the descriptor takes it out of epoll */
    free(channel);
}

void channel_mark_dirty(struct channel *channel)
{
    if (channel->dirty)
        return;
    channel->dirty = true;
    channel->next_dirty = channel->front->connections->dirty;
    channel->front->connections->dirty = channel;
}

static void pause_with(struct channel *channel, const struct frame *frame)
{
    struct connections *connections = channel->front->connections;
    if (!channel->held) {
        channel->held = malloc(sizeof *channel->held);
        if (!channel->held)
            PANIC("out of memory");
        *channel->held = *frame;
    }
    channel->paused = true;
    channel->next_paused = NULL;
    *connections->paused_last = channel;
    connections->paused_last = &channel->next_paused;
    update_epoll(channel);
}

/* 0: on with the next frame; 1: this channel stops for now; < 0: close. */
static int take_frame(struct channel *channel, const struct frame *frame)
{
    struct front *front = channel->front;
    FAULT_POINT(FRONT_REQUEST);
    int r = channel->outstanding < front->config.outstanding_max ? route_request(front, channel, frame) : -EBUSY;
    if (r == -EAGAIN || r == -EBUSY) {
        if (r == -EBUSY && !channel->held)
            board_add(front->board, COUNTER_REQUESTS_PUT_OFF, 1);
        channel->limited = r == -EBUSY;
        pause_with(channel, frame);
        return 1;
    }
    if (r < 0)
        return r;
    connection_consume(&channel->wire, frame);
    channel->frame_ms = 0;
    if (channel_reads_too_slowly(channel)) {
        channel->throttled = true;
        channel_mark_dirty(channel);
        update_epoll(channel);
        return 1;
    }
    return 0;
}

static void refuse_bytes(struct channel *channel)
{
    char why[128];
    snprintf(why, sizeof why, "it sent %s",
             frame_looks_like(channel->wire.in + channel->wire.in_start, channel->wire.in_end - channel->wire.in_start));
    limits_close(channel, COUNTER_FRAMES_BAD, why);
}

static void take_frames(struct channel *channel)
{
    struct front *front = channel->front;
    struct frame frame;
    while (!channel->paused && !channel->throttled) {
        enum frame_result result = connection_next(&channel->wire, &frame);
        if (result == FRAME_MORE) {
            if (channel->wire.in_start == channel->wire.in_end)
                channel->frame_ms = 0;
            else if (!channel->frame_ms)
                channel->frame_ms = front->now_ms;
            return;
        }
        if (result == FRAME_BAD) {
            refuse_bytes(channel);
            return;
        }
        if (result == FRAME_SKIP) {
            connection_consume(&channel->wire, &frame);
            continue;
        }
        int r = take_frame(channel, &frame);
        if (r < 0) {
            limits_close(channel, COUNTER_FRAMES_BAD, "its request was refused");
            return;
        }
    }
}

static void resume(struct channel *channel)
{
    struct front *front = channel->front;
    struct channel_ref ref = channel->ref;
    channel->paused = channel->limited = false;
    int r = take_frame(channel, channel->held);
    if (!channel->paused) {
        free(channel->held);
        channel->held = NULL;
    }
    if (r < 0)
        limits_close(channel, COUNTER_FRAMES_BAD, "its request was refused");
    else if (r == 0)
        take_frames(channel);
    if (connections_find(front, ref) == channel)
        update_epoll(channel);
}

void connections_resume(struct front *front)
{
    struct connections *connections = front->connections;
    struct channel *channel = connections->paused_first;
    connections->paused_first = NULL;
    connections->paused_last = &connections->paused_first;
    while (channel) {
        struct channel *next = channel->next_paused;
        resume(channel);
        channel = next;
    }
}

static void readable(struct channel *channel)
{
    ssize_t n = connection_fill(&channel->wire);
    if (n == -EAGAIN)
        return;
    if (n <= 0) {
        channel_close(channel, n == 0 ? "end of stream" : strerror((int)-n));
        return;
    }
    channel->active_ms = channel->front->now_ms;
    struct front *front = channel->front;
    struct channel_ref ref = channel->ref;
    take_frames(channel);
    if (connections_find(front, ref))
        limits_account(channel);
}

/* Is anything going out? A client that does not read for long is closed in the end. */
static void look_at_output(struct channel *channel)
{
    int64_t now_ms = channel->front->now_ms;
    bool moved = channel->wire.bytes_out != channel->counted_out;
    if (moved)
        channel->active_ms = now_ms;
    if (channel->wire.out_size == 0)
        channel->waiting_ms = 0;
    else if (moved || !channel->waiting_ms)
        channel->waiting_ms = now_ms;
    count_bytes(channel);
    limits_account(channel);
}

/* Enough of the output is gone: on with its requests, and with the polls that woke meanwhile. */
static void go_on(struct channel *channel)
{
    struct front *front = channel->front;
    struct channel_ref ref = channel->ref;
    channel->throttled = false;
    channel->frame_ms = 0; /* the time in which we did not read is not its own */
    if (!channel->paused)
        take_frames(channel);
    if (connections_find(front, ref))
        long_poll_go_on(front, channel);
}

static void flush_one(struct channel *channel)
{
    struct front *front = channel->front;
    struct channel_ref ref = channel->ref;
    int r = connection_flush(&channel->wire);
    if (r < 0) {
        /* -EFAULT is a page of the log that the disk could not give: the answer is cut, so the stream is lost. */
        if (r == -EFAULT)
            board_add(channel->front->board, COUNTER_DISK_ERRORS, 1);
        channel_close(channel, strerror(-r));
        return;
    }
    channel->want_out = r == 1;
    look_at_output(channel);
    if (!connections_find(front, ref))
        return;
    if ((channel->throttled || channel->put_off) &&
        (int64_t)channel->wire.out_size <= front->config.connection_output_max / 4)
        go_on(channel);
    if (connections_find(front, ref))
        update_epoll(channel);
}

bool connections_waiting(const struct front *front)
{
    return front->connections->dirty != NULL;
}

bool connections_flush(struct front *front)
{
    struct connections *connections = front->connections;
    struct channel *channel;
    /* A flush may let a throttled channel go on and so make it dirty again; what it makes waits for the next turn. */
    struct channel *list = connections->dirty;
    connections->dirty = NULL;
    while ((channel = list)) {
        list = channel->next_dirty;
        channel->dirty = false;
        flush_one(channel);
    }
    return connections->dirty != NULL;
}

static void channel_event(struct front *front, uint32_t mask, struct channel_ref ref)
{
    struct channel *channel = connections_find(front, ref);
    if (!channel)
        return;
    if (mask & EPOLLOUT)
        channel_mark_dirty(channel);
    if (mask & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        if (channel->epoll_mask & EPOLLIN)
            readable(channel);
        else if (mask & (EPOLLHUP | EPOLLERR))
            channel_close(channel, "hung up");
    }
}

void connections_poll(struct front *front)
{
    struct epoll_event events[EVENTS_PER_TURN];
    int n = epoll_wait(front->connections->epoll_fd, events, EVENTS_PER_TURN, 0);
    for (int i = 0; i < n; i++) {
        uint32_t number = (uint32_t)(events[i].data.u64 >> 32), low = (uint32_t)events[i].data.u64;
        switch ((enum poll_kind)(low >> 24)) {
        case POLL_CHANNEL:
            channel_event(front, events[i].events, (struct channel_ref){low & 0xffffff, number});
            limits_settle(front);
            break;
        case POLL_LISTENER:
            listeners_accept(front, number);
            break;
        case POLL_RING: /* answers are drained each turn; room is news */
            if (number == 1)
                store_link_space(front);
            break;
        case POLL_HELPER:
            helper_collect(front->helper, front);
            break;
        }
    }
}

bool connections_drained(struct front *front)
{
    struct connections *connections = front->connections;
    if (connections->paused_first)
        return false;
    for (uint32_t slot = 0; slot < connections->slot_count; slot++) {
        const struct channel *channel = connections->slots[slot];
        if (channel && (channel->wire.out_size || channel->outstanding))
            return false;
    }
    return true;
}

void connections_stop_reading(struct front *front)
{
    struct connections *connections = front->connections;
    connections->reading_stopped = true;
    for (uint32_t slot = 0; slot < connections->slot_count; slot++)
        if (connections->slots[slot])
            update_epoll(connections->slots[slot]);
}
