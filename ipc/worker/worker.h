/* The life of a worker as its contract (ipc/contract.h) has it, the same for every kind: environment, grants, board,
 * bus to the supervisor, life line, signals, the loop and its state on the board. What differs between the kinds comes
 * in as handlers. A worker's main:
 *
 *     worker_init, worker_begin, configuration, its own object, worker_ready, worker_run, tear down, worker_free
 *
 * A failed start is told once, in the log and to the supervisor, by worker_failed. One thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "fd/fd_channel.h"
#include "shm/board.h"
#include "worker/sandbox.h"

struct bus;

struct worker_handlers {
    enum sandbox_room room; /* what it gives up behind its grants (sandbox.h) */
    /* A grant before GRANT_DONE that is not every worker's own. Takes a descriptor by setting it to −1; what it leaves
     * is closed. An error ends the start. */
    int (*on_grant)(void *context, const struct fd_grant *grant, int *fds, unsigned count);
    /* A grant while the worker runs; as above, but there is nobody to tell an error. NULL: none concerns it. */
    void (*on_later_grant)(void *context, const struct fd_grant *grant, int *fds, unsigned count);
    /* The supervisor says stop, nobody will come back, or a signal: drain and end. May come more than once. */
    void (*on_stop)(void *context);
    /* The configuration as it would be granted now: what can change while it runs is taken, the rest waits for a restart
     * of the cluster. Comes again after a reconnect of the bus. NULL: nothing can. */
    void (*on_reload)(void *context, struct conf *granted);
    /* worker_run, before each sleep: does a turn's work and says how long the sleep may be (0: not at all). NULL:
     * everything is done by event sources. */
    uint64_t (*before_sleep)(void *context);
};

struct worker {
    const char *name; /* "store broker-a/0" */
    char *runtime_dir;
    uint64_t generation;
    sd_event *event;

    /* from worker_begin on */
    struct board *board;
    uint32_t number; /* of the fault page */
    enum start_cause cause;
    int config_fd; /* closed by worker_free unless taken */

    /* private */
    const struct worker_handlers *handlers;
    void *context;
    struct bus *bus;
    int fault_page_fd, life_line_fd;
    sd_event_source *channel, *life_line, *terminate, *interrupt;
    struct conf *reloaded; /* came before it was ready */
    bool hello_said, is_ready;
};

/* Environment, log, signals, event loop. 0, or the exit code: it was not started by a supervisor. */
int worker_init(struct worker *worker, const struct worker_handlers *handlers, void *context);
/* Receives the grants, maps board and fault page, closes itself in (sandbox.h), connects the bus, which says hello as soon as it can. 0, or the exit
 * code; it is told. */
int worker_begin(struct worker *worker);
void worker_free(struct worker *worker);

/* It serves: told to the supervisor now, and to each that comes later. */
void worker_ready(struct worker *worker);
/* One line for people: how far a long start is. */
void worker_status(struct worker *worker, const char *text);
/* Last words of a worker that cannot serve, to the log and the supervisor. Returns the exit code. */
int worker_failed(struct worker *worker, int exit_code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* One round of the event loop, with the board saying whether we sleep. */
int worker_events(struct worker *worker, uint64_t timeout_us);
/* Until sd_event_exit. Returns the exit code. */
int worker_run(struct worker *worker);
