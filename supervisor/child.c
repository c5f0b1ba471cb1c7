/* The state table of a worker. Runs in the supervisor; a pair that cannot happen is our own mistake and a panic in
 * worker.c. The tests walk every pair. */
#include "child.h"

#include "base/panic.h"

enum { BACKOFF_FIRST_MS = 10, BACKOFF_MOST_MS = 10000 };

#define ON(event, next_state, what) [CHILD_EVENT_##event] = {CHILD_##next_state, CHILD_ACTION_##what}

static const struct child_step table[CHILD_STATE_COUNT][CHILD_EVENT_COUNT] = {
    [CHILD_STOPPED] = {
        ON(START, STARTING, SPAWN),
        ON(SAID_READY, STOPPED, NONE), /* its last word came after its death notice */
        ON(DIED, STOPPED, BUG),
        ON(DIED_USELESS, STOPPED, BUG),
        ON(CUT_SHORT, STOPPED, BUG),
        ON(REFUSED, STOPPED, BUG),
        ON(WAITED, STOPPED, NONE),
        ON(STOP, STOPPED, GONE),
        ON(STOP_LATE, STOPPED, NONE),
    },
    [CHILD_STARTING] = {
        ON(START, STARTING, NONE),
        ON(SAID_READY, READY, SERVE),
        ON(DIED, BACKOFF, WAIT),
        ON(DIED_USELESS, BACKOFF, WAIT),
        ON(CUT_SHORT, BACKOFF, WAIT),
        ON(REFUSED, FAILED, GIVE_UP),
        ON(WAITED, STARTING, NONE),
        ON(STOP, STOPPING, ASK_STOP),
        ON(STOP_LATE, STARTING, NONE),
    },
    [CHILD_READY] = {
        ON(START, READY, NONE),
        ON(SAID_READY, READY, NONE), /* told again after the bus reconnected */
        ON(DIED, STARTING, RESPAWN),
        ON(DIED_USELESS, BACKOFF, WAIT),
        ON(CUT_SHORT, STARTING, RESPAWN),
        ON(REFUSED, STARTING, RESPAWN), /* it served a moment ago: the cause may be gone, and if not it says so at start */
        ON(WAITED, READY, NONE),
        ON(STOP, STOPPING, ASK_STOP),
        ON(STOP_LATE, READY, NONE),
    },
    [CHILD_STOPPING] = {
        ON(START, STOPPING, NONE),
        ON(SAID_READY, STOPPING, NONE), /* it became ready while it was asked to stop */
        ON(DIED, STOPPED, GONE),
        ON(DIED_USELESS, STOPPED, GONE),
        ON(CUT_SHORT, STOPPING, SPAWN), /* the successor is asked to stop as soon as it says hello */
        ON(REFUSED, STOPPED, GONE),
        ON(WAITED, STOPPING, NONE),
        ON(STOP, STOPPING, NONE),
        ON(STOP_LATE, STOPPING, KILL),
    },
    [CHILD_BACKOFF] = {
        ON(START, BACKOFF, NONE),
        ON(SAID_READY, BACKOFF, NONE), /* its last word came after its death notice */
        ON(DIED, BACKOFF, BUG),
        ON(DIED_USELESS, BACKOFF, BUG),
        ON(CUT_SHORT, BACKOFF, BUG),
        ON(REFUSED, BACKOFF, BUG),
        ON(WAITED, STARTING, SPAWN),
        ON(STOP, STOPPED, GONE),
        ON(STOP_LATE, BACKOFF, NONE),
    },
    [CHILD_FAILED] = {
        ON(START, FAILED, NONE),
        ON(SAID_READY, FAILED, NONE),
        ON(DIED, FAILED, BUG),
        ON(DIED_USELESS, FAILED, BUG),
        ON(CUT_SHORT, FAILED, BUG),
        ON(REFUSED, FAILED, BUG),
        ON(WAITED, FAILED, NONE),
        ON(STOP, STOPPED, GONE),
        ON(STOP_LATE, FAILED, NONE),
    },
};

#define X(id, text) [CHILD_##id] = text,
static const char *const state_names[CHILD_STATE_COUNT] = {CHILD_STATES(X)};
#undef X
#define X(id, text) [CHILD_EVENT_##id] = text,
static const char *const event_names[CHILD_EVENT_COUNT] = {CHILD_EVENTS(X)};
#undef X
#define X(id, text) [CHILD_ACTION_##id] = text,
static const char *const action_names[CHILD_ACTION_COUNT] = {CHILD_ACTIONS(X)};
#undef X

struct child_step child_step(enum child_state state, enum child_event event)
{
    pn_assert((unsigned)state < CHILD_STATE_COUNT && (unsigned)event < CHILD_EVENT_COUNT);
    return table[state][event];
}

const char *child_state_name(enum child_state state)
{
    pn_assert((unsigned)state < CHILD_STATE_COUNT);
    return state_names[state];
}

const char *child_event_name(enum child_event event)
{
    pn_assert((unsigned)event < CHILD_EVENT_COUNT);
    return event_names[event];
}

const char *child_action_name(enum child_action action)
{
    pn_assert((unsigned)action < CHILD_ACTION_COUNT);
    return action_names[action];
}

uint64_t child_backoff_ms(unsigned deaths)
{
    pn_assert(deaths > 0);
    uint64_t wait_ms = BACKOFF_FIRST_MS;
    for (; deaths > 1 && wait_ms < BACKOFF_MOST_MS; deaths--)
        wait_ms *= 2;
    return wait_ms < BACKOFF_MOST_MS ? wait_ms : BACKOFF_MOST_MS;
}
