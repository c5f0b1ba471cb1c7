/* Parked polls; see long_poll.h. The front's one thread. The store publishes a queue's max offset, then an entry of the
 * advance log, then wakes the front if it sleeps; a front that is too far behind in the advance log looks at all polls.
 */
#include "long_poll.h"

#include <errno.h>
#include <stdlib.h>

#include "base/panic.h"
#include "catalogue.h"

enum { BUCKETS = 512, BUCKET_MS = 64 };

struct long_poll {
    struct pull **by_slot; /* untouched pages of this table cost nothing */
    struct pull *wheel[BUCKETS];
    struct pull *held_first, **held_last; /* wait for a catalogue; linked by slot_next */
    int64_t wheel_tick;                   /* the last tick that was looked at */
    unsigned parked;
    uint64_t advance_seen;
    unsigned topics_version;
    sd_event_source *timer;
    int64_t timer_ms; /* when it fires; INT64_MAX: not armed */
};

static int on_timer(sd_event_source *source, uint64_t usec, void *context)
{
    ((struct long_poll *)context)->timer_ms = INT64_MAX; /* the turn that follows does the work */
    return 0;
}

int long_poll_new(struct front *front, struct long_poll **ret_poll)
{
    struct long_poll *poll = calloc(1, sizeof *poll);
    if (!poll)
        return -ENOMEM;
    poll->by_slot = calloc(QUEUE_TABLE_SLOTS, sizeof *poll->by_slot);
    poll->held_last = &poll->held_first;
    poll->timer_ms = INT64_MAX;
    poll->wheel_tick = front->now_ms / BUCKET_MS;
    if (front->queue_table)
        poll->advance_seen = atomic_load_explicit(&front->queue_table->advance_pos, memory_order_acquire);
    int r = poll->by_slot ? 0 : -ENOMEM;
    if (r == 0)
        r = sd_event_add_time(front->event, &poll->timer, CLOCK_MONOTONIC, UINT64_MAX, BUCKET_MS * 1000 / 2, on_timer,
                              poll);
    if (r < 0) {
        long_poll_free(poll);
        return r;
    }
    *ret_poll = poll;
    return 0;
}

void long_poll_free(struct long_poll *poll)
{
    if (!poll)
        return;
    for (unsigned i = 0; i < BUCKETS; i++)
        for (struct pull *pull = poll->wheel[i], *next; pull; pull = next) {
            next = pull->wheel_next;
            free(pull);
        }
    for (struct pull *pull = poll->held_first, *next; pull; pull = next) {
        next = pull->slot_next;
        free(pull);
    }
    sd_event_source_disable_unref(poll->timer);
    free(poll->by_slot);
    free(poll);
}

static void arm(struct long_poll *poll, int64_t at_ms)
{
    if (at_ms >= poll->timer_ms)
        return;
    poll->timer_ms = at_ms;
    sd_event_source_set_time(poll->timer, (uint64_t)at_ms * 1000);
    sd_event_source_set_enabled(poll->timer, SD_EVENT_ONESHOT);
}

/* The next bucket that holds anything; deadlines further than one round of the wheel just pass by. */
static void arm_next(struct front *front)
{
    struct long_poll *poll = front->long_poll;
    if (!poll->parked)
        return;
    for (int64_t tick = poll->wheel_tick + 1; tick <= poll->wheel_tick + BUCKETS; tick++)
        if (poll->wheel[tick % BUCKETS]) {
            arm(poll, (tick + 1) * BUCKET_MS);
            return;
        }
}

static void set_interest(struct front *front, uint32_t slot, bool wanted)
{
    _Atomic uint64_t *word = &front->interest->bits[slot / 64];
    uint64_t bit = 1ull << slot % 64, before = atomic_load_explicit(word, memory_order_relaxed);
    atomic_store_explicit(word, wanted ? before | bit : before & ~bit, memory_order_relaxed);
}

#define LINK(head, next, prev, pull)                                                                                   \
    do {                                                                                                               \
        (pull)->next = (head);                                                                                         \
        (pull)->prev = NULL;                                                                                           \
        if (head)                                                                                                      \
            (head)->prev = (pull);                                                                                     \
        (head) = (pull);                                                                                               \
    } while (0)
#define UNLINK(head, next, prev, pull)                                                                                 \
    do {                                                                                                               \
        if ((pull)->next)                                                                                              \
            (pull)->next->prev = (pull)->prev;                                                                         \
        if ((pull)->prev)                                                                                              \
            (pull)->prev->next = (pull)->next;                                                                         \
        else                                                                                                           \
            (head) = (pull)->next;                                                                                     \
    } while (0)

static void link_poll(struct front *front, struct channel *channel, struct pull *pull)
{
    struct long_poll *poll = front->long_poll;
    int64_t tick = pull->deadline_ms / BUCKET_MS;
    if (tick <= poll->wheel_tick)
        tick = poll->wheel_tick + 1;
    pull->wheel_bucket = (unsigned)(tick % BUCKETS);
    LINK(poll->by_slot[pull->slot], slot_next, slot_prev, pull);
    LINK(channel->polls, channel_next, channel_prev, pull);
    LINK(poll->wheel[pull->wheel_bucket], wheel_next, wheel_prev, pull);
    poll->parked++;
    channel->poll_count++;
    board_set(front->board, COUNTER_PULLS_PARKED, poll->parked);
    if (!pull->slot_next)
        set_interest(front, pull->slot, true);
    arm(poll, (tick + 1) * BUCKET_MS);
}

static void unlink_poll(struct front *front, struct pull *pull)
{
    struct long_poll *poll = front->long_poll;
    struct channel *channel = connections_at(front->connections, pull->channel.slot);
    pn_assert(channel && channel->ref.number == pull->channel.number);
    UNLINK(poll->by_slot[pull->slot], slot_next, slot_prev, pull);
    UNLINK(channel->polls, channel_next, channel_prev, pull);
    UNLINK(poll->wheel[pull->wheel_bucket], wheel_next, wheel_prev, pull);
    poll->parked--;
    channel->poll_count--;
    board_set(front->board, COUNTER_PULLS_PARKED, poll->parked);
    if (!poll->by_slot[pull->slot])
        set_interest(front, pull->slot, false);
}

void long_poll_park(struct front *front, struct channel *channel, struct pull *pull)
{
    struct long_poll *poll = front->long_poll;
    const struct front_config *config = &front->config;
    if (poll->parked >= config->polls_max || channel->poll_count >= config->polls_per_connection_max) {
        pull_refuse(front, pull, poll->parked >= config->polls_max
                                     ? "[REJECTREQUEST]too many pulls wait for messages (maxParkedPulls)"
                                     : "[REJECTREQUEST]too many pulls of this connection wait for messages "
                                       "(maxParkedPullsPerConnection)");
        return;
    }
    pull->again = true;
    pull->waited = false;
    link_poll(front, channel, pull);
    /* Pairs with the store: max offset published, fence, interest read. */
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&front->queue_table->slots[pull->slot].max_offset, memory_order_acquire) > pull->offset) {
        unlink_poll(front, pull);
        pull_again(front, pull);
    }
}

void long_poll_hold(struct front *front, struct channel *channel, struct pull *pull)
{
    struct long_poll *poll = front->long_poll;
    channel->outstanding++;
    pull->slot_next = NULL;
    *poll->held_last = pull;
    poll->held_last = &pull->slot_next;
}

bool long_poll_behind(const struct front *front)
{
    return atomic_load_explicit(&front->queue_table->advance_pos, memory_order_acquire) !=
           front->long_poll->advance_seen;
}

static void wake_slot(struct front *front, uint32_t slot)
{
    struct long_poll *poll = front->long_poll;
    if (slot >= QUEUE_TABLE_SLOTS || !poll->by_slot[slot])
        return;
    int64_t max_offset = atomic_load_explicit(&front->queue_table->slots[slot].max_offset, memory_order_acquire);
    /* Collected first: a poll that wants nothing of what came is parked again at the same slot. */
    struct pull *woken = NULL;
    for (struct pull *pull = poll->by_slot[slot], *next; pull; pull = next) {
        next = pull->slot_next;
        if (max_offset == pull->offset)
            continue;
        unlink_poll(front, pull);
        pull->slot_next = woken;
        woken = pull;
    }
    for (struct pull *next; woken; woken = next) {
        next = woken->slot_next;
        pull_again(front, woken);
    }
}

static void collect_all(struct front *front, struct pull **ret_list)
{
    struct long_poll *poll = front->long_poll;
    struct pull *list = NULL;
    for (unsigned i = 0; i < BUCKETS; i++)
        while (poll->wheel[i]) {
            struct pull *pull = poll->wheel[i];
            unlink_poll(front, pull);
            pull->slot_next = list;
            list = pull;
        }
    *ret_list = list;
}

static void run_list(struct front *front, struct pull *list, void (*run)(struct front *, struct pull *))
{
    for (struct pull *next; list; list = next) {
        next = list->slot_next;
        run(front, list);
    }
}

static void wake_all(struct front *front)
{
    struct pull *list;
    collect_all(front, &list);
    run_list(front, list, pull_again);
}

static void look_at_advance(struct front *front)
{
    struct long_poll *poll = front->long_poll;
    struct queue_table *table = front->queue_table;
    uint64_t pos = atomic_load_explicit(&table->advance_pos, memory_order_acquire);
    if (pos == poll->advance_seen)
        return;
    uint64_t seen = poll->advance_seen;
    poll->advance_seen = pos;
    if (pos - seen <= ADVANCE_COUNT) {
        for (uint64_t i = seen; i < pos; i++)
            wake_slot(front, atomic_load_explicit(&table->advance[i % ADVANCE_COUNT], memory_order_relaxed));
        /* Were entries overwritten while they were read? */
        atomic_thread_fence(memory_order_acquire);
        if (atomic_load_explicit(&table->advance_pos, memory_order_relaxed) - seen <= ADVANCE_COUNT)
            return;
    }
    wake_all(front);
}

static void expire(struct front *front)
{
    struct long_poll *poll = front->long_poll;
    int64_t now_tick = front->now_ms / BUCKET_MS;
    /* After a long stall one round looks at every bucket. */
    if (now_tick - poll->wheel_tick > BUCKETS)
        poll->wheel_tick = now_tick - BUCKETS;
    bool moved = poll->wheel_tick < now_tick - 1;
    while (poll->wheel_tick < now_tick - 1) {
        poll->wheel_tick++;
        for (struct pull *pull = poll->wheel[poll->wheel_tick % BUCKETS], *next; pull; pull = next) {
            next = pull->wheel_next;
            if (pull->deadline_ms > front->now_ms)
                continue;
            unlink_poll(front, pull);
            pull_give_up(front, pull);
        }
    }
    if (moved)
        arm_next(front);
}

void long_poll_turn(struct front *front)
{
    if (catalogue_is_whole(front->catalogue))
        look_at_advance(front);
    else /* all polls are run again when it is whole */
        front->long_poll->advance_seen = atomic_load_explicit(&front->queue_table->advance_pos, memory_order_acquire);
    expire(front);
}

void long_poll_catalogue_changed(struct front *front)
{
    struct long_poll *poll = front->long_poll;
    struct pull *held = poll->held_first;
    poll->held_first = NULL;
    poll->held_last = &poll->held_first;
    for (struct pull *next; held; held = next) {
        next = held->slot_next;
        struct channel *channel = connections_find(front, held->channel);
        if (channel)
            channel_answered(channel);
        pull_again(front, held);
    }
    /* Only a topic whose queues moved or went, or a snapshot, concerns parked polls. */
    if (catalogue_topics_version(front->catalogue) == poll->topics_version)
        return;
    poll->topics_version = catalogue_topics_version(front->catalogue);
    wake_all(front);
}

void long_poll_give_up_all(struct front *front)
{
    struct pull *list;
    collect_all(front, &list);
    run_list(front, list, pull_give_up);
}

void long_poll_put_off(struct channel *channel, struct pull *pull)
{
    pull->channel_next = channel->put_off;
    channel->put_off = pull;
    channel->poll_count++;
}

void long_poll_go_on(struct front *front, struct channel *channel)
{
    struct pull *pull = channel->put_off;
    channel->put_off = NULL;
    for (struct pull *next; pull; pull = next) {
        next = pull->channel_next;
        channel->poll_count--;
        pull_again(front, pull); /* once the output is long enough they come back here */
    }
}

void long_poll_drop_channel(struct front *front, struct channel *channel)
{
    for (struct pull *pull = channel->put_off, *next; pull; pull = next) {
        next = pull->channel_next;
        free(pull);
    }
    channel->put_off = NULL;
    while (channel->polls) {
        struct pull *pull = channel->polls;
        unlink_poll(front, pull);
        free(pull);
    }
}
