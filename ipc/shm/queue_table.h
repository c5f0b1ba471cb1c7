/* Queue table: one object per broker. The store writes it; fronts (and native readers) map it read-only and serve reads
 * by it: bytes of the commit log below log_readable_pos and queue entries below max_offset never change.
 *
 * A topic's queues stand in consecutive slots (the catalogue tells which: base slot and generation). A slot whose
 * generation differs from the catalogue's belongs to somebody else now: ask again. Slots survive the store: a restarted
 * one goes on from this table, the ledger and the log behind `dispatched_pos`.
 *
 * Publication order of the store: log bytes → log_readable_pos → queue file → slot max_offset → advance entry → wake-up.
 * A reader loads max_offset (acquire) before it reads the queue file.
 *
 * The advance log tells a front which queues grew without a scan of all: a circular list of slot numbers, only of queues
 * some front has interest in. A front that is more than ADVANCE_COUNT behind looks at all its parked polls instead. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "shm/segment.h"

#define QUEUE_TABLE_VERSION 3
#define QUEUE_TABLE_SLOTS   131072u
#define ADVANCE_COUNT       4096u

struct queue_slot {
    _Atomic uint32_t generation; /* 0 = free; changes whenever the slot is given to another queue */
    uint32_t queue_id;
    _Atomic int64_t min_offset; /* first entry whose message is still in the log */
    _Atomic int64_t max_offset; /* one behind the last readable entry */
    _Atomic int64_t last_store_ms; /* store time of the last message, 0 if none since start */
    _Atomic uint64_t put_bytes; /* of records put since the table was made; for statistics */
    uint8_t pad[24];
};
_Static_assert(sizeof(struct queue_slot) == 64, "one cache line");

struct queue_table {
    struct segment_header header;
    _Atomic uint64_t store_generation; /* of the store that writes now; fronts replay when it changes */
    _Atomic int64_t log_min_pos;       /* first byte of the oldest log file */
    _Atomic int64_t log_written_pos;   /* end of written records */
    _Atomic int64_t log_flushed_pos;   /* end of fdatasync'ed records */
    _Atomic int64_t log_readable_pos;  /* what readers may see: written (ASYNC_FLUSH) or flushed (SYNC_FLUSH) */
    _Atomic int64_t dispatched_pos;    /* queues hold every record before it */
    _Atomic uint64_t advance_pos;      /* entries ever written to `advance` */
    _Atomic int64_t indexed_pos;       /* the index of keys holds every record before it; −1: nobody has looked yet */
    uint8_t pad[256 - 64 - 64];
    _Atomic uint32_t advance[ADVANCE_COUNT];
    uint8_t pad2[32768 - 256 - 4 * ADVANCE_COUNT];
    struct queue_slot slots[QUEUE_TABLE_SLOTS];
};
_Static_assert(offsetof(struct queue_table, advance) == 256, "layout");
_Static_assert(offsetof(struct queue_table, slots) == 32768, "layout");

int queue_table_create(const char *name, uint64_t owner, int *ret_fd);
int queue_table_attach(int fd, bool writable, struct queue_table **ret_table);
void queue_table_detach(struct queue_table *table);

/* Interest: one object per front, written by it, read by the store after each dispatch. Bit n: a parked poll waits for
 * slot n. The front sets the bit, fence(seq_cst), looks at max_offset again; the store publishes max_offset,
 * fence(seq_cst), reads the bit. */
#define INTEREST_VERSION 1
struct interest {
    struct segment_header header;
    _Atomic int64_t read_low_pos; /* lowest log position a read is using now, INT64_MAX if none: no file under it goes */
    uint8_t pad[4096 - 72];
    _Atomic uint64_t bits[QUEUE_TABLE_SLOTS / 64];
};
_Static_assert(offsetof(struct interest, bits) == 4096, "layout");

int interest_create(const char *name, uint64_t owner, int *ret_fd);
int interest_attach(int fd, bool writable, struct interest **ret_interest);
void interest_detach(struct interest *interest);
