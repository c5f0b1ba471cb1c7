/* Is the store taking requests? See slow_store.h. The front's one thread; a timer runs only while the ring is full. */
#include "slow_store.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "broker_stats.h"
#include "connections.h"
#include "pending.h"
#include "store_link.h"

enum { LOOK_MS = 250, SAY_MS = 2000 };

struct slow_store {
    sd_event_source *timer;
    bool watching, is_stuck, was_said;
    uint64_t taken_pos; /* of the ring, when we looked last */
    int64_t moved_ms;   /* when it was seen to have moved */
};

static int on_look(sd_event_source *source, uint64_t usec, void *context);

int slow_store_new(struct front *front, struct slow_store **ret_slow)
{
    struct slow_store *slow = calloc(1, sizeof *slow);
    if (!slow)
        return -ENOMEM;
    int r = sd_event_add_time_relative(front->event, &slow->timer, CLOCK_MONOTONIC, 0, 10000, on_look, front);
    if (r >= 0)
        r = sd_event_source_set_enabled(slow->timer, SD_EVENT_OFF);
    if (r < 0) {
        slow_store_free(slow);
        return r;
    }
    *ret_slow = slow;
    return 0;
}

void slow_store_free(struct slow_store *slow)
{
    if (!slow)
        return;
    sd_event_source_disable_unref(slow->timer);
    free(slow);
}

static int look_again(struct slow_store *slow)
{
    int r = sd_event_source_set_time_relative(slow->timer, LOOK_MS * 1000);
    return r < 0 ? r : sd_event_source_set_enabled(slow->timer, SD_EVENT_ONESHOT);
}

void slow_store_ring_full(struct front *front)
{
    struct slow_store *slow = front->slow_store;
    if (slow->watching)
        return;
    slow->watching = true;
    slow->taken_pos = store_link_data_taken(front->link);
    slow->moved_ms = front->now_ms;
    look_again(slow);
}

bool slow_store_is_stuck(const struct front *front)
{
    return front->slow_store->is_stuck;
}

static const char *state_text(const struct board *store)
{
    switch (store ? (enum board_state)atomic_load_explicit(&store->state, memory_order_acquire) : BOARD_STARTING) {
    case BOARD_STARTING:
        return "it is starting";
    case BOARD_ASLEEP:
        return "it waits, asleep or stopped,";
    case BOARD_RUNNING:
        return "it is busy or stopped";
    case BOARD_IN_IO:
        return "it is in a call that waits for its disk";
    }
    return "its state is unknown";
}

static uint64_t counter(const struct board *store, enum board_counter which)
{
    return store ? board_get(store, which) : 0;
}

void slow_store_text(const struct front *front, char ret_text[SLOW_STORE_TEXT_SIZE])
{
    const struct board *store = broker_stats_store(front->stats);
    int64_t now_ns = clock_monotonic_ns();
    int64_t since_ns = store ? atomic_load_explicit(&store->state_since_ns, memory_order_relaxed) : now_ns;
    int64_t sync_ns = (int64_t)counter(store, COUNTER_FLUSH_SINCE_NS);
    char sync[96];
    if (sync_ns)
        snprintf(sync, sizeof sync, "an fdatasync is under way for %" PRId64 " ms", (now_ns - sync_ns) / 1000000);
    else
        snprintf(sync, sizeof sync, "the last fdatasync took %" PRIu64 " ms",
                 counter(store, COUNTER_FLUSH_NS_LAST) / 1000000);
    snprintf(ret_text, SLOW_STORE_TEXT_SIZE,
             "the store has taken no message for %" PRId64 " ms: %s for %" PRId64 " ms, %s, its disk is %" PRIu64
             " %% full; %zu bytes and %u requests wait for it",
             front->now_ms - front->slow_store->moved_ms, state_text(store), (now_ns - since_ns) / 1000000, sync,
             counter(store, COUNTER_DISK_USED_PERCENT), store_link_data_waiting(front->link),
             pending_count(front->pending));
}

static void say(struct front *front)
{
    struct slow_store *slow = front->slow_store;
    char text[SLOW_STORE_TEXT_SIZE];
    if (slow->was_said || front->now_ms - slow->moved_ms < SAY_MS)
        return;
    slow->was_said = true;
    slow_store_text(front, text);
    log_warning("%s", text);
}

static int on_look(sd_event_source *source, uint64_t usec, void *context)
{
    struct front *front = context;
    struct slow_store *slow = front->slow_store;
    uint64_t taken_pos = store_link_data_taken(front->link);
    front->now_ms = clock_monotonic_ms();
    if (taken_pos != slow->taken_pos) {
        if (slow->was_said)
            log_info("the store takes messages again, after %" PRId64 " ms", front->now_ms - slow->moved_ms);
        slow->taken_pos = taken_pos;
        slow->moved_ms = front->now_ms;
        slow->is_stuck = slow->was_said = false;
    }
    if (!store_link_data_wanted(front->link) && !slow->is_stuck) {
        slow->watching = false;
        return 0;
    }
    say(front);
    if (front->now_ms - slow->moved_ms >= front->config.send_wait_ms) {
        slow->is_stuck = true;
        front->resume_wanted = true; /* those that wait are to hear it */
    }
    return look_again(slow);
}
