/* Rings, their wake-ups and the detection of a new store; see store_link.h. The front's one thread. Nonsense in a reply
 * ring is fatal: the store is our own, so either side is broken; the supervisor gives a successor new rings. */
#include "store_link.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/panic.h"
#include "catalogue.h"
#include "long_poll.h"
#include "member.h"
#include "msg/msg_check.h"
#include "read_log.h"
#include "relay_far.h"

struct ring_set {
    bool attached;
    bool filled; /* records were reserved since the last publish */
    bool want_room;
    struct ring_writer request;
    struct ring_reader reply;
    int64_t used_ms; /* last publish, for trim */
    bool trimmed;
};

struct store_link {
    struct ring_set data, control;
    uint64_t store_generation; /* the one that was told, or is being told, our members; 0: none yet */
    bool replaying, ask_catalogue;
};

int store_link_new(struct store_link **ret_link)
{
    *ret_link = calloc(1, sizeof **ret_link);
    return *ret_link ? 0 : -ENOMEM;
}

static void ring_set_detach(struct ring_set *set)
{
    if (!set->attached)
        return;
    ring_writer_detach(&set->request);
    ring_reader_detach(&set->reply);
    set->attached = false;
}

void store_link_free(struct store_link *link)
{
    if (!link)
        return;
    ring_set_detach(&link->data);
    ring_set_detach(&link->control);
    free(link);
}

int store_link_attach(struct store_link *link, const struct fd_grant *grant, int *fds, unsigned fd_count)
{
    struct ring_set *set = grant->arg == RING_SET_DATA      ? &link->data
                           : grant->arg == RING_SET_CONTROL ? &link->control
                                                            : NULL;
    if (!set || set->attached || fd_count != 6)
        return -EBADMSG;
    struct ring_fds request = {fds[0], fds[1], fds[2]}, reply = {fds[3], fds[4], fds[5]};
    int r = ring_writer_attach(&set->request, &request);
    if (r < 0)
        return r;
    fds[0] = fds[1] = fds[2] = -1;
    r = ring_reader_attach(&set->reply, &reply);
    if (r < 0) {
        ring_writer_detach(&set->request);
        return r;
    }
    fds[3] = fds[4] = fds[5] = -1;
    set->attached = true;
    set->trimmed = true;
    return 0;
}

bool store_link_complete(const struct store_link *link)
{
    return link->data.attached && link->control.attached;
}

static int ring_set_watch(struct front *front, struct ring_set *set)
{
    /* Edge-triggered and never read: each write of the peer is one event. */
    int r = connections_watch(front->connections, set->reply.fds.data, EPOLLIN | EPOLLET, POLL_RING, 0);
    if (r < 0)
        return r;
    return connections_watch(front->connections, set->request.fds.space, EPOLLIN | EPOLLET, POLL_RING, 1);
}

int store_link_watch(struct front *front)
{
    int r = ring_set_watch(front, &front->link->data);
    return r < 0 ? r : ring_set_watch(front, &front->link->control);
}

static void *reserve(struct front *front, struct ring_set *set, uint16_t kind, size_t size)
{
    void *payload = ring_reserve(&set->request, kind, 0, size, NULL);
    if (!payload) {
        /* What this turn has made must be visible before we wait for the store to take it. */
        if (set->filled) {
            ring_publish(&set->request);
            ring_wake_reader(&set->request);
            set->filled = false;
        }
        if (!ring_want_room(&set->request, size)) {
            set->want_room = true;
            board_add(front->board, COUNTER_RING_FULL, 1);
            return NULL;
        }
        payload = ring_reserve(&set->request, kind, 0, size, NULL);
        if (!payload)
            return NULL;
    }
    set->filled = true;
    return payload;
}

void *store_link_reserve_data(struct front *front, uint16_t kind, size_t size)
{
    return reserve(front, &front->link->data, kind, size);
}

void *store_link_reserve_control(struct front *front, uint16_t kind, size_t size)
{
    return reserve(front, &front->link->control, kind, size);
}

size_t store_link_data_max(const struct store_link *link)
{
    return ring_payload_max(link->data.request.capacity);
}

size_t store_link_control_max(const struct store_link *link)
{
    return ring_payload_max(link->control.request.capacity);
}

bool store_link_control_has_room(struct front *front, size_t wanted)
{
    struct ring_set *set = &front->link->control;
    if (ring_room(&set->request) >= wanted)
        return true;
    if (set->filled) {
        ring_publish(&set->request);
        ring_wake_reader(&set->request);
        set->filled = false;
    }
    if (ring_want_room(&set->request, wanted - sizeof(struct ring_record)))
        return true;
    set->want_room = true;
    board_add(front->board, COUNTER_RING_FULL, 1);
    return false;
}

uint64_t store_link_data_taken(const struct store_link *link)
{
    return atomic_load_explicit(&link->data.request.shared->read_pos, memory_order_acquire);
}

size_t store_link_data_waiting(const struct store_link *link)
{
    uint64_t waiting = link->data.request.published_pos - store_link_data_taken(link);
    return waiting <= link->data.request.capacity ? (size_t)waiting : 0;
}

bool store_link_data_wanted(const struct store_link *link)
{
    return link->data.want_room;
}

void store_link_ask_catalogue(struct front *front)
{
    front->link->ask_catalogue = true;
}

static bool put_replay(struct front *front, uint16_t kind)
{
    struct msg_replay *replay = store_link_reserve_control(front, kind, sizeof *replay);
    if (!replay)
        return false;
    replay->token = 0;
    replay->store_generation = front->link->store_generation;
    return true;
}

/* Tells a new store what only we know, in this order: what waited to be dropped, members, "that was all", and the
 * question for a catalogue. A full ring interrupts; the next turn goes on. */
static void tell_store(struct front *front)
{
    struct store_link *link = front->link;
    if (!members_flush_drops(front))
        return;
    if (link->replaying) {
        if (!members_replay(front) || !put_replay(front, MSG_REPLAY_END))
            return;
        link->replaying = false;
        link->ask_catalogue = true;
    }
    if (link->ask_catalogue && link->store_generation && put_replay(front, MSG_CATALOGUE_ASK))
        link->ask_catalogue = false;
}

static void look_for_store(struct front *front)
{
    struct store_link *link = front->link;
    uint64_t generation = atomic_load_explicit(&front->queue_table->store_generation, memory_order_acquire);
    if (generation == 0 || generation == link->store_generation)
        return;
    link->store_generation = generation;
    link->replaying = true;
    members_replay_begin(front);
    catalogue_forget(front->catalogue);
    read_log_forget_entries(front->read_log);
}

static void drain(struct front *front, struct ring_set *set, uint64_t limit)
{
    struct ring_view view;
    int r = 0;
    while (set->reply.next_pos < limit && (r = ring_peek(&set->reply, &view)) == 1) {
        enum msg_refusal refusal = msg_check_answer(view.record.kind, view.payload, view.payload_size);
        if (refusal != MSG_OK)
            PANIC("reply ring: record of kind %u: %s", view.record.kind, msg_refusal_text(refusal));
        reply_take(front, view.record.kind, view.payload, view.payload_size);
        ring_next(&set->reply, &view);
    }
    if (r < 0)
        PANIC("reply ring: nonsense at position %llu", (unsigned long long)set->reply.next_pos);
    ring_release_to(&set->reply, set->reply.next_pos);
}

static uint64_t written(const struct ring_set *set)
{
    return atomic_load_explicit(&set->reply.shared->write_pos, memory_order_acquire);
}

void store_link_receive(struct front *front)
{
    struct store_link *link = front->link;
    look_for_store(front);
    /* The order rule of msg.h: whatever catalogue records a data answer depends on were published before it. */
    uint64_t data_limit = written(&link->data), control_limit = written(&link->control);
    if (link->control.reply.next_pos < control_limit)
        drain(front, &link->control, control_limit);
    if (link->data.reply.next_pos < data_limit)
        drain(front, &link->data, data_limit);
}

static void publish(struct front *front, struct ring_set *set)
{
    if (!set->filled)
        return;
    ring_publish(&set->request);
    ring_wake_reader(&set->request);
    set->filled = false;
    set->used_ms = front->now_ms;
    set->trimmed = false;
}

void store_link_publish(struct front *front)
{
    tell_store(front);
    relay_far_flush(front);
    publish(front, &front->link->control);
    publish(front, &front->link->data);
}

void store_link_space(struct front *front)
{
    struct store_link *link = front->link;
    if (!link->data.want_room && !link->control.want_room)
        return;
    link->data.want_room = link->control.want_room = false;
    connections_resume(front);
}

bool store_link_may_sleep(struct front *front)
{
    struct store_link *link = front->link;
    bool nothing = ring_may_sleep(&link->control.reply);
    nothing &= ring_may_sleep(&link->data.reply);
    /* Behind the fence of the flags: the store publishes these two before it looks at the flags. */
    if (atomic_load_explicit(&front->queue_table->store_generation, memory_order_relaxed) != link->store_generation)
        nothing = false;
    return nothing && !long_poll_behind(front);
}

void store_link_awake(struct front *front)
{
    ring_awake(&front->link->control.reply);
    ring_awake(&front->link->data.reply);
}

static void trim(struct front *front, struct ring_set *set)
{
    if (set->trimmed || set->filled || front->now_ms - set->used_ms < RING_IDLE_MS)
        return;
    ring_writer_trim(&set->request);
    set->trimmed = true;
}

void store_link_trim(struct front *front)
{
    trim(front, &front->link->data);
    trim(front, &front->link->control);
}
