/* Board: one object per worker, written by it and read by everybody else without asking (status, top, supervisor's hang
 * detection, obituaries). Lossy by nature: it says what is, it carries no request. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "shm/segment.h"

#define BOARD_VERSION 1
#define BOARD_SIZE    8192

enum board_counter {
#define X(id, unit, text) COUNTER_##id,
#include "shm/counters.def"
#undef X
    COUNTER_COUNT
};

enum board_state {
    BOARD_STARTING = 0,
    BOARD_ASLEEP,  /* waiting in epoll */
    BOARD_RUNNING, /* in a turn of its loop since `state_since_ns` */
    BOARD_IN_IO,   /* in a system call that may wait for a disk */
};

struct board {
    struct segment_header header;
    _Atomic uint64_t generation;     /* of the worker that writes now */
    _Atomic uint32_t state;          /* enum board_state */
    _Atomic uint32_t reserved;
    _Atomic int64_t state_since_ns;  /* monotonic */
    _Atomic uint64_t progress;       /* grows with each turn */
    uint8_t pad[128 - 96];
    char last_words[896];            /* of the predecessor or of this worker, when it aborted */
    _Atomic uint64_t counters[256];  /* COUNTER_* */
};
_Static_assert(COUNTER_COUNT <= 256, "the board has 256 counters");
_Static_assert(sizeof(struct board) <= BOARD_SIZE, "layout");
_Static_assert(offsetof(struct board, counters) == 1024, "layout");

struct board_counter_text {
    const char *name, *unit, *text;
};
extern const struct board_counter_text board_counter_texts[COUNTER_COUNT];

int board_create(const char *name, uint64_t owner, int *ret_fd);
/* Attach; writable for its worker. */
int board_attach(int fd, bool writable, struct board **ret_board);
void board_detach(struct board *board);

/* The worker's own side; single writer, so plain relaxed stores. `board` may be NULL (tests). */
void board_begin(struct board *board, uint64_t generation);
void board_set_state(struct board *board, enum board_state state);
static inline void board_add(struct board *board, enum board_counter counter, uint64_t n)
{
    if (board)
        atomic_store_explicit(&board->counters[counter],
                              atomic_load_explicit(&board->counters[counter], memory_order_relaxed) + n,
                              memory_order_relaxed);
}
static inline void board_set(struct board *board, enum board_counter counter, uint64_t value)
{
    if (board)
        atomic_store_explicit(&board->counters[counter], value, memory_order_relaxed);
}
static inline uint64_t board_get(const struct board *board, enum board_counter counter)
{
    return atomic_load_explicit(&((struct board *)board)->counters[counter], memory_order_relaxed);
}
