/* Boards. The supervisor makes one per worker and keeps it over the worker's deaths; the worker writes; everybody else
 * reads at any time and takes each word as it is. Nothing is fatal here: a board that does not attach is refused. */
#include "shm/board.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/panic.h"

const struct board_counter_text board_counter_texts[COUNTER_COUNT] = {
#define X(id, unit, text) [COUNTER_##id] = {#id, unit, text},
#include "shm/counters.def"
#undef X
};

int board_create(const char *name, uint64_t owner, int *ret_fd)
{
    return segment_create(name, SEGMENT_BOARD, BOARD_VERSION, BOARD_SIZE, owner, ret_fd);
}

int board_attach(int fd, bool writable, struct board **ret_board)
{
    struct segment segment;
    int r = segment_attach(fd, SEGMENT_BOARD, BOARD_VERSION, writable, &segment);
    if (r < 0)
        return r;
    if (segment.size != BOARD_SIZE) {
        munmap(segment.base, segment.size);
        return -EPROTO;
    }
    *ret_board = segment.base;
    close(segment.fd); /* the map stays; the size is known */
    return 0;
}

void board_detach(struct board *board)
{
    if (board)
        munmap(board, BOARD_SIZE);
}

void board_begin(struct board *board, uint64_t generation)
{
    if (!board)
        return;
    /* Counters go on over a restart: rates seen from outside do not jump back. The last words of the predecessor were
     * read by the supervisor before it started us. */
    memset(board->last_words, 0, sizeof board->last_words);
    atomic_store_explicit(&board->progress, 0, memory_order_relaxed);
    atomic_store_explicit(&board->state_since_ns, clock_monotonic_ns(), memory_order_relaxed);
    atomic_store_explicit(&board->state, BOARD_STARTING, memory_order_relaxed);
    /* Pairs with an acquire load of a reader that wants state and progress of this generation, not of the one before.
     */
    atomic_store_explicit(&board->generation, generation, memory_order_release);
    panic_set_last_words(board->last_words, sizeof board->last_words);
}

void board_set_state(struct board *board, enum board_state state)
{
    if (!board)
        return;
    if (state == BOARD_RUNNING)
        atomic_store_explicit(&board->progress, atomic_load_explicit(&board->progress, memory_order_relaxed) + 1,
                              memory_order_relaxed);
    /* Time first: who sees the new state with the old time would take a fresh turn for a long one. */
    atomic_store_explicit(&board->state_since_ns, clock_monotonic_ns(), memory_order_relaxed);
    atomic_store_explicit(&board->state, state, memory_order_release);
}
