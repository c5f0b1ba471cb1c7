/* Ledger: one object per store, made and kept by the supervisor, mapped by nobody but the store. It says which requests
 * of the data rings a store had under way, so that its successor neither loses nor repeats one. Layout, order of stores
 * and the proof that death at any instruction is survived: LAYOUT.md.
 *
 * Entries are numbered from 0 and never renumbered; number n stands in slot n % LEDGER_CAPACITY. Three counts divide them:
 *   [0, closed)        answered; only the last one is still looked at (it tells the end of the log)
 *   [closed, applied)  the effect is in the log (or the request was refused); the answer may or may not be posted
 *   [applied, taken)   under way: perhaps in the log, perhaps torn, perhaps not there
 * Each count is moved by one release store behind finished entries. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shm/segment.h"

#define LEDGER_VERSION       1
#define LEDGER_CAPACITY      16384u /* entries: requests taken and not answered (a slow fdatasync holds them) */
#define LEDGER_SUSPECTS      1024u  /* requests that a death by the store's own fault found under way */

enum {
    LEDGER_NO_ANSWER = 1, /* oneway */
    LEDGER_BATCH = 2,     /* the answer carries the size of each record */
    LEDGER_NO_WAIT = 4,   /* its answer does not wait for the disk, nor for its turn */
};

struct ledger_entry {
    uint64_t ring_pos; /* of the request: its sequence number */
    uint64_t peer_generation;
    uint64_t token;     /* the peer's, for its answer */
    int64_t log_pos;    /* of the first record; for a refused request the end of the log at that time */
    uint32_t peer_id;
    uint32_t ring_size; /* bytes of the request in the ring, rounded up: the next request starts behind them */
    uint32_t size;      /* bytes in the log; 0 for a refused request */
    uint32_t count;     /* messages */
    uint32_t log_crc;   /* CRC-32 of these bytes in the log */
    uint8_t refusal;    /* 0: stored; else why it was refused (the store's own table) */
    uint8_t flags;      /* LEDGER_* */
    uint16_t reserved;
    uint32_t answer_room; /* bytes kept free for the answer in the peer's reply ring */
    uint32_t crc; /* CRC-32 of the bytes before it, seeded with the entry's number */
};
_Static_assert(sizeof(struct ledger_entry) == 64, "one cache line");
_Static_assert(offsetof(struct ledger_entry, crc) == 60, "layout");

struct ledger_suspect {
    uint64_t ring_pos;
    uint64_t peer_generation;
    uint32_t peer_id;
    uint32_t deaths;
};
_Static_assert(sizeof(struct ledger_suspect) == 24, "layout");

struct ledger_layout {
    struct segment_header header;
    _Atomic uint32_t ready;    /* 1 from the end of a recovery to a clean stop: the rest means something */
    uint32_t suspect_count;
    int64_t start_log_pos;     /* end of the log when the ledger was begun, before entry 0 */
    _Atomic uint64_t taken, applied, closed;
    /* The request being looked at right now, valid while working_peer is not 0: who killed us. */
    _Atomic uint32_t working_peer;
    uint32_t reserved;
    uint64_t working_generation;
    uint64_t working_pos;
    uint8_t pad[256 - 64 - 64];
    struct ledger_suspect suspects[LEDGER_SUSPECTS];
    uint8_t pad2[28672 - 256 - 24 * LEDGER_SUSPECTS];
    struct ledger_entry entries[LEDGER_CAPACITY];
};
_Static_assert(offsetof(struct ledger_layout, taken) == 80, "layout");
_Static_assert(offsetof(struct ledger_layout, suspects) == 256, "layout");
_Static_assert(offsetof(struct ledger_layout, entries) == 28672, "layout");

struct ledger;

int ledger_create(const char *name, uint64_t owner, int *ret_fd);
/* Takes ownership of the descriptor on success. */
int ledger_attach(int fd, struct ledger **ret_ledger);
void ledger_detach(struct ledger *ledger);

/* Can what a predecessor left be believed? 0: yes; -ENODATA: never begun or cleanly stopped; -EBADMSG: nonsense.
 * Whether the log agrees is the caller's to check, with ledger_log_end. */
int ledger_check(struct ledger *ledger);
/* End of the log as far as [0, applied) tells. `ret_last` (may be NULL): the last applied entry that is in the log and
 * whose slot is still its own, NULL if none. */
int64_t ledger_log_end(struct ledger *ledger, const struct ledger_entry **ret_last);
/* Begins anew: nothing under way, log ends at log_pos. Suspects stay (a poisoned request may have spoilt the rest). */
void ledger_begin(struct ledger *ledger, int64_t log_pos);
/* Clean stop, or given up: the next store recovers from files. */
void ledger_end(struct ledger *ledger);

uint64_t ledger_taken(const struct ledger *ledger);
uint64_t ledger_applied(const struct ledger *ledger);
uint64_t ledger_closed(const struct ledger *ledger);
/* How many more entries can be written. */
unsigned ledger_room(const struct ledger *ledger);
const struct ledger_entry *ledger_get(const struct ledger *ledger, uint64_t number);
/* Writes entry taken + index, which is not part of the ledger until ledger_take; index < ledger_room. */
void ledger_put(struct ledger *ledger, unsigned index, const struct ledger_entry *entry);
void ledger_take(struct ledger *ledger, unsigned count);
/* Entries that turned out differently (a failed write), or were answered before their turn: same number, new content. */
void ledger_replace(struct ledger *ledger, uint64_t number, const struct ledger_entry *entry);
void ledger_apply(struct ledger *ledger, uint64_t number_end);
void ledger_close(struct ledger *ledger, uint64_t number_end);
/* A successor gives back what was under way and is not in the log: taken = applied. */
void ledger_untake(struct ledger *ledger);

/* Before and after a request is looked at. */
void ledger_working(struct ledger *ledger, uint32_t peer_id, uint64_t generation, uint64_t pos);
void ledger_working_end(struct ledger *ledger);

/* START_AFTER_OWN_FAULT: one more death for the request that was being looked at, or, if none was, for each one under
 * way. Call before ledger_untake. Returns how many are suspected. */
unsigned ledger_blame(struct ledger *ledger);
unsigned ledger_suspects(const struct ledger *ledger);
/* Deaths that this request was found under way in. */
uint32_t ledger_deaths(const struct ledger *ledger, uint32_t peer_id, uint64_t generation, uint64_t pos);
/* Suspects of this peer before `pos` are through: forget them. pos UINT64_MAX: the peer is gone. */
void ledger_absolve(struct ledger *ledger, uint32_t peer_id, uint64_t generation, uint64_t pos);
