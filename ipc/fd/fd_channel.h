/* The fd channel: a Unix SEQPACKET socket between supervisor and each worker (and, at attach, a native client). One
 * message is one grant: what the descriptors are for, and the descriptors (SCM_RIGHTS). The initial set ends with
 * GRANT_DONE; later grants (a new front, a native client) come at any time. Host byte order. */
#pragma once

#include <stdint.h>

#define FD_GRANT_MAGIC   0x47444650u /* "PFDG" */
#define FD_GRANT_VERSION 1
#define FD_GRANT_FDS_MAX 8

enum grant_kind {
    GRANT_LIFE_LINE = 1, /* fd: read end of the life line pipe; HUP: nobody will come back, drain and end */
    GRANT_CONFIG,        /* fd: memfd with key=value text (conf dialect PROPERTIES), keys in contract of the role */
    GRANT_START,         /* no fd; arg: enum start_cause; index: worker number for the fault page */
    GRANT_FAULT_PAGE,    /* fd: read-only */
    GRANT_BOARD,         /* fd: own board, writable */
    GRANT_LISTEN,        /* fd: listening TCP socket; index: 0 main, 1 VIP channel; name: address */
    GRANT_QUEUE_TABLE,   /* fd: writable for the store, read-only for a front */
    GRANT_INTEREST,      /* fd; index: peer; writable for the front itself, read-only for the store */
    GRANT_LEDGER,        /* fd: store only */
    GRANT_IMAGE,         /* fd: store only */
    GRANT_RING_SET,      /* 6 fds: request ring {memory, data, space}, reply ring {…}; index: peer id; generation: the
                            peer's; arg: enum ring_set_role */
    GRANT_RING_DROP,     /* no fd; index + generation: that peer is gone, its rings are to be given up */
    GRANT_DONE,          /* no fd: the initial set is complete */
    GRANT_PEER_BOARD,    /* fd: read-only board of another worker of the same broker; arg: enum board_owner */
};

/* Why this worker starts: decides what the store believes of its predecessor. */
enum start_cause {
    START_FIRST = 0,      /* the cluster starts: memory objects are fresh, recover from files */
    START_AFTER_OUTSIDE,  /* predecessor was killed from outside (SIGKILL, SIGTERM) or ended by itself: not its fault */
    START_AFTER_OWN_FAULT /* predecessor died of its own fault (SEGV, BUS, ABRT, …, hang): poison counts */
};

/* A peer of a store has up to two ring sets under one peer id: data (large) and control (small). */
enum ring_set_role {
    RING_SET_DATA = 0,    /* sends: request 8 MiB, reply 1 MiB */
    RING_SET_CONTROL = 1, /* heartbeats, offsets, locks, topics; replies carry the catalogue too: 256 KiB, 1 MiB */
    RING_SET_NATIVE = 2,  /* an untrusted native client: request 1 MiB, reply 256 KiB */
};

enum board_owner { BOARD_OF_STORE = 0, BOARD_OF_FRONT = 1 };

struct fd_grant {
    uint32_t magic;
    uint16_t version;
    uint16_t kind; /* enum grant_kind */
    uint32_t index;
    uint32_t reserved;
    uint64_t generation;
    uint64_t arg;
    char name[96]; /* NUL-terminated text for logs */
};
_Static_assert(sizeof(struct fd_grant) == 128, "layout");

int fd_channel_pair(int *ret_parent_fd, int *ret_child_fd); /* both CLOEXEC, non-blocking parent side */

/* Blocks at most until the socket buffer has room; -EAGAIN on a non-blocking socket. The descriptors stay the caller's. */
int fd_channel_send(int socket, const struct fd_grant *grant, const int *fds, unsigned fd_count);

/* One message. 1: received (descriptors are the caller's, CLOEXEC); 0: the peer closed; -EAGAIN; -EBADMSG (refused: wrong
 * size, magic, version or count; received descriptors were closed). */
int fd_channel_receive(int socket, struct fd_grant *ret_grant, int ret_fds[FD_GRANT_FDS_MAX], unsigned *ret_fd_count);

/* Convenience: fills magic and version. */
struct fd_grant fd_grant_make(enum grant_kind kind, uint32_t index, uint64_t generation, uint64_t arg, const char *name);
const char *grant_kind_name(enum grant_kind kind);
