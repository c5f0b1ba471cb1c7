/* Fault points. The supervisor writes the page, every worker maps it read-only and asks it at each point; until a
 * worker has attached one it asks a page of zeros of its own, so that a point works from the first instruction on. What
 * a point has done so far (passes since it was armed) is the worker's private count: the page is not ours to write. A
 * worker's successor counts anew. Points are passed by any thread of a worker. */
#include "fault/fault.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/panic.h"
#include "fault/trespass.h"

static struct fault_page no_faults;
struct fault_page *fault_page = &no_faults;
static uint32_t fault_worker_number;

const char *const fault_point_names[FAULT_POINT_COUNT] = {
#define X(id, name, text) [FAULT_##id] = name,
#include "fault/fault_points.def"
#undef X
};
const char *const fault_point_texts[FAULT_POINT_COUNT] = {
#define X(id, name, text) [FAULT_##id] = text,
#include "fault/fault_points.def"
#undef X
};

/* Passes since the arming with this sequence, in one word, so that two threads at one point count together. */
static _Atomic uint64_t fault_passes[FAULT_POINT_COUNT];

static uint32_t count_pass(enum fault_point point, uint32_t sequence)
{
    uint64_t seen = atomic_load_explicit(&fault_passes[point], memory_order_relaxed), next;
    do {
        next = (uint32_t)(seen >> 32) == sequence ? seen + 1 : ((uint64_t)sequence << 32) + 1;
    } while (!atomic_compare_exchange_weak_explicit(&fault_passes[point], &seen, next, memory_order_relaxed,
                                                    memory_order_relaxed));
    return (uint32_t)next;
}

/* The action that is due at this pass, FAULT_ACTION_NONE if it is for another worker or not yet time. */
static uint32_t due_action(enum fault_point point, uint64_t *ret_argument)
{
    struct fault_slot *slot = &fault_page->slots[point];
    /* Pairs with the release store of fault_page_arm: the rest of the slot is that arming's. */
    uint32_t action = atomic_load_explicit(&slot->action, memory_order_acquire);
    if (action == FAULT_ACTION_NONE)
        return action;
    uint32_t target = atomic_load_explicit(&slot->target, memory_order_relaxed);
    if (target != 0 && target != fault_worker_number)
        return FAULT_ACTION_NONE;
    *ret_argument = atomic_load_explicit(&slot->argument, memory_order_relaxed);
    if (action == FAULT_ACTION_MATCH) /* a pass is a match there, not a visit: see fault_matches */
        return action;
    uint32_t pass = count_pass(point, atomic_load_explicit(&slot->sequence, memory_order_relaxed));
    return pass > atomic_load_explicit(&slot->skip, memory_order_relaxed) ? action : FAULT_ACTION_NONE;
}

static void stall(uint64_t duration_ms)
{
    struct timespec left = {(time_t)(duration_ms / 1000), (long)(duration_ms % 1000) * 1000000};
    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        continue;
}

void fault_hit(enum fault_point point)
{
    uint64_t argument = 0;
    switch (due_action(point, &argument)) {
    case FAULT_ACTION_KILL:
        kill(getpid(), SIGKILL);
        for (;;) /* another thread of ours must not go on behind this point while the signal is on its way */
            pause();
    case FAULT_ACTION_ABORT:
        PANIC("fault point %s", fault_point_names[point]);
    case FAULT_ACTION_STALL:
        stall(argument);
        break;
    case FAULT_ACTION_TRESPASS:
        trespass((enum trespass)argument);
        break;
    default: /* none, match, or an action of a newer supervisor */
        break;
    }
}

int fault_matches(enum fault_point point)
{
    uint64_t argument;
    return due_action(point, &argument) == FAULT_ACTION_MATCH;
}

enum fault_point fault_point_find(const char *name)
{
    for (int i = 0; i < FAULT_POINT_COUNT; i++)
        if (strcmp(fault_point_names[i], name) == 0)
            return (enum fault_point)i;
    return FAULT_POINT_COUNT;
}

/* Whole pages; the points of today need one. */
static size_t page_object_size(void)
{
    return (sizeof(struct fault_page) + 4095) & ~(size_t)4095;
}

int fault_page_create(int *ret_fd)
{
    return segment_create("pintle-fault", SEGMENT_FAULT_PAGE, FAULT_PAGE_VERSION, page_object_size(), 0, ret_fd);
}

static int map_page(int fd, bool writable, struct fault_page **ret_page)
{
    struct segment segment;
    int r = segment_attach(fd, SEGMENT_FAULT_PAGE, FAULT_PAGE_VERSION, writable, &segment);
    if (r < 0)
        return r;
    if (segment.size != page_object_size()) {
        munmap(segment.base, segment.size);
        return -EPROTO;
    }
    *ret_page = segment.base;
    return 0;
}

int fault_page_attach(int fd, uint32_t worker_number)
{
    struct fault_page *page;
    int r = map_page(fd, false, &page);
    if (r < 0)
        return r;
    close(fd); /* the map stays */
    fault_worker_number = worker_number;
    fault_page = page;
    return 0;
}

int fault_page_map_writable(int fd, struct fault_page **ret_page)
{
    return map_page(fd, true, ret_page);
}

void fault_page_arm(struct fault_page *page, enum fault_point point, enum fault_action action, uint32_t target,
                    uint32_t skip, uint64_t argument)
{
    pn_assert(point < FAULT_POINT_COUNT);
    struct fault_slot *slot = &page->slots[point];
    /* Off while it changes; the action comes last. A worker that is between its loads may act once on a mixture of an
     * old and a new arming, which is why the supervisor disarms before it tells that a point is armed anew. */
    atomic_store_explicit(&slot->action, FAULT_ACTION_NONE, memory_order_relaxed);
    atomic_store_explicit(&slot->target, target, memory_order_release);
    atomic_store_explicit(&slot->skip, skip, memory_order_relaxed);
    atomic_store_explicit(&slot->argument, argument, memory_order_relaxed);
    uint32_t sequence = atomic_load_explicit(&slot->sequence, memory_order_relaxed) + 1;
    atomic_store_explicit(&slot->sequence, sequence ? sequence : 1, memory_order_relaxed);
    /* Pairs with the acquire load of due_action. */
    atomic_store_explicit(&slot->action, (uint32_t)action, memory_order_release);
}

void fault_page_disarm(struct fault_page *page, enum fault_point point)
{
    pn_assert(point < FAULT_POINT_COUNT);
    atomic_store_explicit(&page->slots[point].action, FAULT_ACTION_NONE, memory_order_release);
}
