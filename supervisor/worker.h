/* A worker at run time: one process after the other under one name. It survives its processes and owns what each of them
 * is given anew. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "channels.h"
#include "child.h"
#include "failure.h"
#include "fd/fd_channel.h"
#include "outbox.h"
#include "plan.h"
#include "shm/board.h"

struct supervisor;
struct broker;

struct worker {
    struct supervisor *supervisor;
    const struct plan_kind *kind;
    char *subject;   /* name of the broker or name server */
    char *name;      /* "store broker-a/0": title, log lines, bus identity */
    char *program;   /* path */
    unsigned index;  /* among its like */
    uint32_t number; /* of the fault page's targets; unique in the cluster, from 1 */
    struct broker *broker;                 /* NULL for a name server */
    struct cluster_namesrv *namesrv;       /* NULL for others */
    int listen_fd;                         /* a name server's; a broker's are the broker's */

    enum child_state state;
    uint64_t generation; /* of the last process started */
    enum start_cause cause;
    unsigned restarts, early_deaths;
    bool said_hello, was_killed_as_hung, was_killed;
    bool stop_was_cut; /* somebody else killed it while it stopped: once, a successor finishes */
    uint64_t progress_at_ready;
    pid_t pid; /* 0: none */
    int pidfd;
    struct outbox *outbox; /* NULL: no process */
    sd_event_source *gone_source, *timer;
    int exit_code; /* of the last process, 0 if a signal ended it */
    char status[256]; /* its own last word: progress of recovery, or why it failed */

    int board_fd, board_readonly_fd;
    struct board *board; /* read-only map */

    /* hang.c */
    uint64_t seen_progress;
    int64_t stalled_ms, stopped_ms;
    uint64_t cpu_ms_at_progress;
    bool said_in_io;

    /* a front's: made anew for each of its processes */
    struct ring_set ring_sets[2];
    int interest_fd, interest_readonly_fd;
};

int worker_create(struct supervisor *supervisor, enum worker_role role, const char *subject, unsigned index,
                  struct worker **ret_worker, struct failure *failure);
void worker_free(struct worker *worker);

/* The one way in: looks up the table, then does the action. */
void worker_event(struct worker *worker, enum child_event event);
/* SIGKILL, whatever its state; `hung`: its death then counts as its own fault. */
void worker_kill(struct worker *worker, bool hung);
/* The process said hello on the bus. */
void worker_said_hello(struct worker *worker, uint64_t generation, pid_t pid);
/* Asks the running process over the bus; told again at hello if the bus is not there yet. */
void worker_ask_stop(struct worker *worker);
uint32_t worker_peer_id(const struct worker *front);
