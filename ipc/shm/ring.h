/* Ring: one writer, one reader, in shared memory, records of variable length. Layout and proofs: LAYOUT.md.
 *
 * The object is a header page followed by `capacity` bytes of data (a power of two), mapped twice in a row, so that
 * each record is contiguous. Positions are 64-bit byte counts that never wrap. A record starts on 8 bytes and begins
 * with a ring_record; its position is its sequence number: unique, growing, checkable. Publication is one release store
 * of write_pos behind any number of finished records: a writer killed anywhere has published whole records or nothing.
 *
 * Three positions of a reader: `next_pos` (private: next record to look at), and in shared memory `read_pos` (bytes
 * before it may be overwritten). A reader that dies starts again at read_pos or at a position it knows to be taken.
 *
 * Wake-up rule (both directions): sleeper sets its flag, fence(seq_cst), looks again, then sleeps; the other side
 * publishes, fence(seq_cst), reads the flag, and if it is set clears it and rings the bell: an eventfd that is watched
 * edge-triggered and never read, or a socket where the listener is not trusted (ring_bell_guard). With release/acquire
 * instead of the fences one wake-up in six was lost when tried.
 *
 * Threads: a writer and a reader object belong to one thread each. The peer may be hostile (a native client's ring):
 * the reader checks everything it reads, and its caller copies the payload before checking it. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/segment.h"

#define RING_VERSION 1

struct ring_record {
    uint32_t size; /* header and payload, bytes, not rounded up; the next record starts at size rounded up to 8 */
    uint16_t kind; /* enum msg_kind */
    uint16_t flags;
    uint64_t pos; /* position of this record: its sequence number */
};
_Static_assert(sizeof(struct ring_record) == 16, "layout");

#define RING_PAGE 4096
struct ring_layout {
    struct segment_header header;
    uint64_t capacity; /* bytes of data behind the header page, power of two */
    uint8_t pad0[128 - 72];
    /* written by the writer (offset 128) */
    _Atomic uint64_t write_pos;
    _Atomic uint32_t writer_asleep; /* writer waits for room: reader clears it and rings `space` */
    uint8_t pad1[128 - 12];
    /* written by the reader (offset 256) */
    _Atomic uint64_t read_pos;
    _Atomic uint32_t reader_asleep; /* reader waits for records: writer clears it and rings `data` */
    uint8_t pad2[128 - 12];
};
_Static_assert(sizeof(struct ring_layout) == 384, "layout; words of different writers two cache lines apart");
_Static_assert(offsetof(struct ring_layout, write_pos) == 128, "layout");
_Static_assert(offsetof(struct ring_layout, read_pos) == 256, "layout");

/* The three descriptors of a ring, in the order in which a grant carries them. */
struct ring_fds {
    int memory;
    int data;  /* bell: the writer wakes the reader */
    int space; /* bell: the reader wakes the writer */
};

int ring_create(const char *name, size_t capacity, uint64_t owner, struct ring_fds *ret_fds);
void ring_fds_close(struct ring_fds *fds);
/* Puts a socket in the place of a bell's eventfd, so that ringing it never blocks, whatever its listener does to its
 * end (LAYOUT.md, "Waking"). *bell becomes the end to ring, *ret_listener the one to sleep on and to clear; both owned.
 */
int ring_bell_guard(int *bell, int *ret_listener);
/* Nothing more comes: HUP at the listener's end of a guarded bell, whoever else holds ours. An eventfd has no such end.
 */
void ring_bell_hang_up(int bell);
/* Before a sleep on a bell that is watched level-triggered, and on each wake-up by a socket: takes what was rung. */
void ring_bell_clear(int listener);

struct ring_writer {
    struct ring_layout *shared;
    uint8_t *data; /* mapped twice */
    size_t capacity;
    uint64_t published_pos;  /* = shared write_pos, which only we write */
    uint64_t reserve_pos;    /* end of records made but not published */
    uint64_t read_pos;       /* last seen */
    uint64_t idle_given_pos; /* private to ring_writer_trim */
    bool bell_is_socket;
    struct ring_fds fds; /* owned */
};

struct ring_reader {
    struct ring_layout *shared;
    const uint8_t *data;
    size_t capacity;
    uint64_t next_pos;
    uint64_t write_pos; /* last seen */
    bool bell_is_socket;
    struct ring_fds fds; /* owned */
};

struct ring_view {
    struct ring_record record; /* a copy: the size was checked once and is the one to use */
    const uint8_t *payload;    /* in the ring; valid until released */
    uint32_t payload_size;
};

/* Attaching takes ownership of the descriptors on success. A writer goes on at write_pos. A reader starts at read_pos.
 * Both wake the other side once: a predecessor may have died between clearing a flag and ringing.
 * -EBADMSG: the positions in the ring are nonsense. */
int ring_writer_attach(struct ring_writer *writer, const struct ring_fds *fds);
void ring_writer_detach(struct ring_writer *writer);
int ring_reader_attach(struct ring_reader *reader, const struct ring_fds *fds);
void ring_reader_detach(struct ring_reader *reader);

/* Largest payload that a ring of this capacity takes: three quarters, so that a body of 4 MiB with its properties
 * passes a ring of 8 MiB. */
size_t ring_payload_max(size_t capacity);

/* Room for one record with a payload of `size`; NULL if there is none now. Fill the payload, then reserve more or
 * publish. `ret_pos` (may be NULL) is the record's sequence number. */
void *ring_reserve(struct ring_writer *writer, uint16_t kind, uint16_t flags, size_t size, uint64_t *ret_pos);
/* The last reserved record keeps only the first `size` bytes of its payload. */
void ring_shrink_last(struct ring_writer *writer, uint64_t pos, size_t size);
/* Takes back the records reserved since the last publish. */
void ring_abandon(struct ring_writer *writer);
/* Free bytes, looking at the reader's position again. A record of payload n uses (16 + n) rounded up to 8. */
size_t ring_room(struct ring_writer *writer);
/* Makes what was reserved visible. Does not wake. */
void ring_publish(struct ring_writer *writer);
/* Wakes the reader if it sleeps; call after ring_publish, once per turn. */
void ring_wake_reader(struct ring_writer *writer);
/* Rings whether it sleeps or not: there is something to see outside the ring. */
void ring_call_reader(struct ring_writer *writer);
/* Announces that the writer waits for room (`space` will be rung); true if there is room for `size` now after all. */
bool ring_want_room(struct ring_writer *writer, size_t size);
/* Gives back the memory of free pages; for a writer that was idle (nothing published) for RING_IDLE_MS. */
void ring_writer_trim(struct ring_writer *writer);
enum { RING_IDLE_MS = 5000 };

/* 1: a record; 0: none; -EBADMSG: the writer's words or the record are nonsense (the ring must be given up). */
int ring_peek(struct ring_reader *reader, struct ring_view *ret_view);
void ring_next(struct ring_reader *reader, const struct ring_view *view);
/* Starts reading at `pos` (a successor that knows what its predecessor took). -ERANGE if outside [read_pos, write_pos].
 */
int ring_reader_seek(struct ring_reader *reader, uint64_t pos);
/* Bytes before `pos` may be overwritten; wakes a writer that waits for room. */
void ring_release_to(struct ring_reader *reader, uint64_t pos);
/* Before sleeping: sets the flag and looks again; true = nothing there, sleep on `data`. */
bool ring_may_sleep(struct ring_reader *reader);
void ring_awake(struct ring_reader *reader);

/* Checks a ring whose writer or reader has died: 0 if every published record is well-formed. */
int ring_check(const struct ring_fds *fds);
