/* A worker's life as a table [state][event] → next state and action. Pure: it starts and kills nothing, worker.c does
 * what the action says. Started and ready are two states; ready is said by the worker itself. */
#pragma once

#include <stdint.h>

/* X(id, text) */
#define CHILD_STATES(X)                                                                                                \
    X(STOPPED, "stopped")   /* no process, none wanted */                                                              \
    X(STARTING, "starting") /* process runs, grants sent, not ready yet */                                             \
    X(READY, "ready")                                                                                                  \
    X(STOPPING, "stopping") /* asked to drain and end */                                                               \
    X(BACKOFF, "backoff")   /* died before it was of use; waits for its next start */                                  \
    X(FAILED, "failed")     /* said that starting again will not help */

#define CHILD_EVENTS(X)                                                                                                \
    X(START, "start")                                                                                                  \
    X(SAID_READY, "said ready")                                                                                        \
    X(DIED, "died")                                                                                                    \
    X(DIED_USELESS, "died without progress") /* ready, but gone before its loop turned again */                       \
    X(CUT_SHORT, "cut short")                /* killed by somebody else: its memory still has what it did not finish */     \
    X(REFUSED, "refused")                    /* exit code 64, 74 or 78 */                                              \
    X(WAITED, "waited")                      /* the backoff time is over */                                            \
    X(STOP, "stop")                                                                                                    \
    X(STOP_LATE, "stop is late")

#define CHILD_ACTIONS(X)                                                                                               \
    X(NONE, "none")                                                                                                    \
    X(SPAWN, "spawn")                                                                                                  \
    X(RESPAWN, "respawn")   /* at once: it was ready and of use */                                                     \
    X(WAIT, "wait")         /* start the backoff timer */                                                              \
    X(SERVE, "serve")       /* count it as serving */                                                                  \
    X(ASK_STOP, "ask to stop")                                                                                         \
    X(KILL, "kill")                                                                                                    \
    X(GIVE_UP, "give up")                                                                                              \
    X(GONE, "gone")         /* wanted to be gone and is */                                                             \
    X(BUG, "bug")           /* cannot happen: our own mistake */

#define X(id, text) CHILD_##id,
enum child_state { CHILD_STATES(X) CHILD_STATE_COUNT };
#undef X
#define X(id, text) CHILD_EVENT_##id,
enum child_event { CHILD_EVENTS(X) CHILD_EVENT_COUNT };
#undef X
#define X(id, text) CHILD_ACTION_##id,
enum child_action { CHILD_ACTIONS(X) CHILD_ACTION_COUNT };
#undef X

struct child_step {
    enum child_state next;
    enum child_action action;
};

struct child_step child_step(enum child_state state, enum child_event event);
const char *child_state_name(enum child_state state);
const char *child_event_name(enum child_event event);
const char *child_action_name(enum child_action action);

/* How long to wait after `deaths` (at least 1) deaths in a row before ready: 10 ms, doubling, at most 10 s. */
uint64_t child_backoff_ms(unsigned deaths);
