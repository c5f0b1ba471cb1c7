/* Fault points: named places where a test makes a worker die or stall exactly between two steps. The fault page is
 * written by the supervisor on command and read-only to workers; a point that is not armed costs one predictable branch.
 * Off (page never armed) unless the cluster file says `faults = on`. Names: fault_points.def. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "shm/segment.h"

#define FAULT_PAGE_VERSION 1

enum fault_point {
#define X(id, name, text) FAULT_##id,
#include "fault/fault_points.def"
#undef X
    FAULT_POINT_COUNT
};

enum fault_action {
    FAULT_ACTION_NONE = 0,
    FAULT_ACTION_KILL = 1,   /* SIGKILL to itself: looks like a death from outside */
    FAULT_ACTION_ABORT = 2,  /* abort(): a death by the worker's own fault */
    FAULT_ACTION_STALL = 3,  /* sleep `argument` ms at the point */
    FAULT_ACTION_TRESPASS = 5, /* try what the sandbox forbids, `argument` says what (trespass.h) */
    FAULT_ACTION_MATCH = 4,  /* only FAULT_MATCH() asks: the caller's own condition decides, then abort() */
};

struct fault_slot {
    _Atomic uint32_t action;   /* enum fault_action; written last by the supervisor */
    _Atomic uint32_t target;   /* worker number (fault_page_attach) or 0 = every worker */
    _Atomic uint32_t skip;     /* pass this many times first */
    _Atomic uint32_t sequence; /* grows with each arming, so that a worker counts its passes anew */
    _Atomic uint64_t argument;
    uint8_t pad[40];
};
_Static_assert(sizeof(struct fault_slot) == 64, "one cache line");

struct fault_page {
    struct segment_header header;
    struct fault_slot slots[FAULT_POINT_COUNT];
};

extern struct fault_page *fault_page; /* this process's read-only map; a zero page until attached */
void fault_hit(enum fault_point point);
/* True if the point is armed with FAULT_ACTION_MATCH for this worker. */
int fault_matches(enum fault_point point);

#define FAULT_POINT(id)                                                                                                \
    do {                                                                                                               \
        if (__builtin_expect(                                                                                          \
                atomic_load_explicit(&fault_page->slots[FAULT_##id].action, memory_order_relaxed) != 0, 0))            \
            fault_hit(FAULT_##id);                                                                                     \
    } while (0)
#define FAULT_MATCH(id)                                                                                                \
    (__builtin_expect(atomic_load_explicit(&fault_page->slots[FAULT_##id].action, memory_order_relaxed) ==             \
                          FAULT_ACTION_MATCH, 0) &&                                                                    \
     fault_matches(FAULT_##id))

extern const char *const fault_point_names[FAULT_POINT_COUNT];
extern const char *const fault_point_texts[FAULT_POINT_COUNT];
enum fault_point fault_point_find(const char *name); /* FAULT_POINT_COUNT if unknown */

int fault_page_create(int *ret_fd);
/* Worker's side: takes ownership of the (read-only) fd. `worker_number` is what fault_slot.target names. */
int fault_page_attach(int fd, uint32_t worker_number);
/* Supervisor's side. */
int fault_page_map_writable(int fd, struct fault_page **ret_page);
void fault_page_arm(struct fault_page *page, enum fault_point point, enum fault_action action, uint32_t target,
                    uint32_t skip, uint64_t argument);
void fault_page_disarm(struct fault_page *page, enum fault_point point);
