/* The kinds of workers and which channels each gets: the list of allowed conversations. Whatever is not in this table
 * does not exist. Every worker also gets what all have: life line, configuration, start notice, fault page, its board. */
#pragma once

enum worker_role { ROLE_NAMESRV, ROLE_STORE, ROLE_FRONT, ROLE_COUNT };

enum plan_channel {
    PLAN_END = 0,
    PLAN_LISTEN,            /* its listening sockets */
    PLAN_QUEUE_TABLE_WRITE, /* the broker's queue table */
    PLAN_QUEUE_TABLE_READ,
    PLAN_LEDGER,
    PLAN_IMAGE,
    PLAN_OWN_RINGS,         /* a front's two ring sets */
    PLAN_OWN_INTEREST,      /* a front's interest, writable */
    PLAN_BROKER_BOARDS,     /* boards of its broker's store and fronts, read-only: statistics of the whole broker */
    PLAN_PEERS,             /* ring sets of every front and native client of the broker, and the fronts' interest */
};

struct plan_kind {
    enum worker_role role;
    const char *name;    /* in process titles, log lines, bus identities */
    const char *program; /* in libexec, or beside the supervisor */
    const char *point_prefix; /* fault points of this room */
    unsigned stop_stage; /* stages end one after the other: whoever others depend on ends last */
    const enum plan_channel *channels;
};

enum { PLAN_STOP_STAGES = 3 };

extern const struct plan_kind plan_kinds[ROLE_COUNT];
