/* Channels: the connections of clients. Each has a slot (an index) and a number that is never used again by this front;
 * whoever must find a channel later (an outstanding request, a parked poll, a helper's job) keeps both, so that a
 * closed one is simply not found. All sockets hang in one epoll descriptor inside the sd-event loop: one wake-up serves
 * many.
 *
 * Back-pressure: a frame that finds its request ring or a limit full is kept parsed and its channel is not read until
 * there is room; a channel with too much unsent output is not read either. Both end in the client's TCP window, never in
 * a drop. What can't end by itself is limits.h's. */
#pragma once

#include "front.h"
#include "msg/msg.h"
#include "wire/connection.h"

#include <uthash.h>

enum {
    CHANNELS_MAX = 65536,
    CHANNEL_SILENT_MS = 120 * 1000,    /* members without heartbeat, as Apache's channelExpiredTimeout */
};

struct channel_ref {
    uint32_t slot, number; /* number 0: none */
};

struct channel {
    struct connection wire;
    struct front *front;
    struct channel_ref ref;
    bool vip; /* came in by the fast port */
    bool throttled; /* more unsent output than maxConnectionOutputBytes, and not yet down to a quarter of it */
    bool limited;   /* paused for a limit, not for room in a ring */
    bool want_out, dirty, paused, closing;
    uint32_t epoll_mask;
    uint16_t peer_port;
    bool peer_ipv6;
    uint8_t peer_ip[16];
    uint32_t outstanding; /* requests that wait for the store or a disk; parked polls are not counted */
    int64_t active_ms, heartbeat_ms;
    int64_t frame_ms;   /* when the unfinished frame began to come; 0: there is none */
    int64_t waiting_ms; /* since when no byte of the output has moved; 0: there is none */
    uint64_t confirmed; /* bytes, when that was looked at last */
    size_t counted_memory;
    uint64_t counted_in, counted_out; /* bytes already on the board */
    struct frame *held;               /* parsed, waits for room in a request ring */
    struct channel *next_dirty;
    struct channel *next_paused;
    struct pull *polls;    /* parked ones of this channel */
    struct pull *put_off;  /* woken while it was throttled; linked by channel_next */
    unsigned poll_count;   /* of both */
    struct member *members;
    uint32_t heartbeats; /* those that the store has not answered: it may not know yet what they tell */
    UT_hash_handle by_number;
};

int connections_new(struct front *front, struct connections **ret_connections);
void connections_free(struct connections *connections);

/* Everything ready now: sockets, ring wake-ups, listeners. */
void connections_poll(struct front *front);
int connections_epoll_fd(const struct connections *connections);
unsigned connections_count(const struct connections *connections);

/* What else hangs in the epoll descriptor. */
enum poll_kind { POLL_CHANNEL = 0, POLL_LISTENER, POLL_RING, POLL_HELPER };
int connections_watch(struct connections *connections, int fd, uint32_t mask, enum poll_kind kind, uint32_t index);

/* Takes the accepted socket; closes it if there is no slot. */
int connections_add(struct front *front, int fd, bool vip);
struct channel *connections_find(struct front *front, struct channel_ref ref);
struct channel *connections_at(struct connections *connections, uint32_t slot); /* NULL: free */
uint32_t connections_slots(const struct connections *connections);              /* slots ever used */

void channel_close(struct channel *channel, const char *reason);
/* There is output in the wire's queue: it is sent at the end of the turn. */
void channel_mark_dirty(struct channel *channel);
/* The rings have room again: kept frames first, in the order in which they were held. */
void connections_resume(struct front *front);
/* Sends what was gathered in this turn. True: sending let a throttled channel go on, and there is more. */
bool connections_flush(struct front *front);
bool connections_waiting(const struct front *front);
/* True when nothing waits to be answered or sent. */
bool connections_drained(struct front *front);
void connections_stop_reading(struct front *front);

/* One of its requests got its answer, or never will. */
static inline void channel_answered(struct channel *channel)
{
    channel->outstanding--;
    if (channel->limited)
        channel->front->resume_wanted = true;
}
static inline bool channel_reads_too_slowly(const struct channel *channel)
{
    return (int64_t)channel->wire.out_size > channel->front->config.connection_output_max;
}

/* What the store and the other fronts know a connection by (msg.h): this front, this process of it, the number. */
static inline uint64_t channel_id(const struct channel *channel)
{
    const struct front *front = channel->front;
    return MSG_CONNECTION_ID(front->peer_id, front->generation, channel->ref.number);
}
/* NULL: closed, or a connection of another front. */
struct channel *connections_find_id(struct front *front, uint64_t connection_id);
/* Is it, or was it, one of this front's process? */
bool connections_is_ours(const struct front *front, uint64_t connection_id);
