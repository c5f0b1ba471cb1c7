/* The ledger (see ledger.h and LAYOUT.md). Runs in the store, on its one deciding thread; the supervisor only creates
 * it. Only the compiler's order of stores matters for a successor: what a dead process has stored is there, in program
 * order. The release stores keep the compiler to it. Nothing here is fatal except a broken promise of our own. */
#include "shm/ledger.h"

#include <errno.h>
#include <isa-l/crc.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/panic.h"
#include "contract.h"

_Static_assert(sizeof(struct ledger_layout) <= CONTRACT_LEDGER_SIZE, "the supervisor makes it large enough");
_Static_assert(LEDGER_VERSION == CONTRACT_LEDGER_VERSION, "the supervisor makes this version");

struct ledger {
    struct segment segment;
    struct ledger_layout *shared;
};

int ledger_create(const char *name, uint64_t owner, int *ret_fd)
{
    return segment_create(name, SEGMENT_LEDGER, LEDGER_VERSION, CONTRACT_LEDGER_SIZE, owner, ret_fd);
}

int ledger_attach(int fd, struct ledger **ret_ledger)
{
    PN_FREE struct ledger *ledger = calloc(1, sizeof *ledger);
    if (!ledger)
        return -ENOMEM;
    int r = segment_attach(fd, SEGMENT_LEDGER, LEDGER_VERSION, true, &ledger->segment);
    if (r < 0)
        return r;
    if (ledger->segment.size < sizeof(struct ledger_layout)) {
        ledger->segment.fd = -1; /* the caller's again */
        segment_detach(&ledger->segment);
        return -EPROTO;
    }
    ledger->shared = ledger->segment.base;
    *ret_ledger = TAKE_PTR(ledger);
    return 0;
}

void ledger_detach(struct ledger *ledger)
{
    if (!ledger)
        return;
    segment_detach(&ledger->segment);
    free(ledger);
}

static uint32_t entry_crc(uint64_t number, const struct ledger_entry *entry)
{
    uint32_t seed = crc32_gzip_refl(0, (const unsigned char *)&number, sizeof number);
    return crc32_gzip_refl(seed, (const unsigned char *)entry, offsetof(struct ledger_entry, crc));
}

static struct ledger_entry *slot_of(const struct ledger *ledger, uint64_t number)
{
    return &ledger->shared->entries[number % LEDGER_CAPACITY];
}

uint64_t ledger_taken(const struct ledger *ledger)
{
    return atomic_load_explicit(&ledger->shared->taken, memory_order_relaxed);
}

uint64_t ledger_applied(const struct ledger *ledger)
{
    return atomic_load_explicit(&ledger->shared->applied, memory_order_relaxed);
}

uint64_t ledger_closed(const struct ledger *ledger)
{
    return atomic_load_explicit(&ledger->shared->closed, memory_order_relaxed);
}

unsigned ledger_room(const struct ledger *ledger)
{
    /* One slot stays behind `closed`: the last closed entry tells the end of the log. */
    return LEDGER_CAPACITY - 1 - (unsigned)(ledger_taken(ledger) - ledger_closed(ledger));
}

int ledger_check(struct ledger *ledger)
{
    struct ledger_layout *l = ledger->shared;
    if (atomic_load_explicit(&l->ready, memory_order_acquire) != 1)
        return -ENODATA;
    uint64_t taken = ledger_taken(ledger), applied = ledger_applied(ledger), closed = ledger_closed(ledger);
    if (closed > applied || applied > taken || taken - closed > LEDGER_CAPACITY - 1 || l->start_log_pos < 0 ||
        l->suspect_count > LEDGER_SUSPECTS)
        return -EBADMSG;
    int64_t end = -1;
    for (uint64_t n = closed ? closed - 1 : 0; n < taken; n++) {
        const struct ledger_entry *entry = slot_of(ledger, n);
        if (entry->crc != entry_crc(n, entry) || entry->log_pos < 0 || entry->log_pos < end)
            return -EBADMSG;
        end = entry->log_pos + entry->size;
    }
    return 0;
}

int64_t ledger_log_end(struct ledger *ledger, const struct ledger_entry **ret_last)
{
    uint64_t applied = ledger_applied(ledger);
    if (ret_last)
        *ret_last = NULL;
    if (applied == 0)
        return ledger->shared->start_log_pos;
    const struct ledger_entry *last = slot_of(ledger, applied - 1);
    uint64_t oldest = applied > LEDGER_CAPACITY / 2 ? applied - LEDGER_CAPACITY / 2 : 0;
    for (uint64_t n = applied; ret_last && n > oldest; n--) {
        const struct ledger_entry *entry = slot_of(ledger, n - 1);
        if (entry->crc != entry_crc(n - 1, entry))
            break;
        if (entry->size > 0) {
            *ret_last = entry;
            break;
        }
    }
    return last->log_pos + last->size;
}

void ledger_begin(struct ledger *ledger, int64_t log_pos)
{
    struct ledger_layout *l = ledger->shared;
    atomic_store_explicit(&l->ready, 0, memory_order_seq_cst);
    if (l->suspect_count > LEDGER_SUSPECTS)
        l->suspect_count = 0;
    l->start_log_pos = log_pos;
    atomic_store_explicit(&l->taken, 0, memory_order_relaxed);
    atomic_store_explicit(&l->applied, 0, memory_order_relaxed);
    atomic_store_explicit(&l->closed, 0, memory_order_relaxed);
    atomic_store_explicit(&l->working_peer, 0, memory_order_relaxed);
    atomic_store_explicit(&l->ready, 1, memory_order_release);
}

void ledger_end(struct ledger *ledger)
{
    atomic_store_explicit(&ledger->shared->ready, 0, memory_order_seq_cst);
}

const struct ledger_entry *ledger_get(const struct ledger *ledger, uint64_t number)
{
    pn_assert(number < ledger_taken(ledger) && number + LEDGER_CAPACITY > ledger_taken(ledger));
    return slot_of(ledger, number);
}

static void entry_write(struct ledger *ledger, uint64_t number, const struct ledger_entry *entry)
{
    struct ledger_entry *slot = slot_of(ledger, number);
    *slot = *entry;
    slot->crc = entry_crc(number, slot);
}

void ledger_put(struct ledger *ledger, unsigned index, const struct ledger_entry *entry)
{
    pn_assert(index < ledger_room(ledger));
    entry_write(ledger, ledger_taken(ledger) + index, entry);
}

void ledger_take(struct ledger *ledger, unsigned count)
{
    pn_assert(count <= ledger_room(ledger));
    atomic_store_explicit(&ledger->shared->taken, ledger_taken(ledger) + count, memory_order_release);
}

void ledger_replace(struct ledger *ledger, uint64_t number, const struct ledger_entry *entry)
{
    pn_assert(number >= ledger_closed(ledger) && number < ledger_taken(ledger));
    entry_write(ledger, number, entry);
}

void ledger_apply(struct ledger *ledger, uint64_t number_end)
{
    pn_assert(number_end >= ledger_applied(ledger) && number_end <= ledger_taken(ledger));
    atomic_store_explicit(&ledger->shared->applied, number_end, memory_order_release);
}

void ledger_close(struct ledger *ledger, uint64_t number_end)
{
    pn_assert(number_end >= ledger_closed(ledger) && number_end <= ledger_applied(ledger));
    atomic_store_explicit(&ledger->shared->closed, number_end, memory_order_release);
}

void ledger_untake(struct ledger *ledger)
{
    atomic_store_explicit(&ledger->shared->taken, ledger_applied(ledger), memory_order_release);
}

void ledger_working(struct ledger *ledger, uint32_t peer_id, uint64_t generation, uint64_t pos)
{
    struct ledger_layout *l = ledger->shared;
    atomic_store_explicit(&l->working_peer, 0, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    l->working_generation = generation;
    l->working_pos = pos;
    atomic_store_explicit(&l->working_peer, peer_id, memory_order_release);
}

void ledger_working_end(struct ledger *ledger)
{
    atomic_store_explicit(&ledger->shared->working_peer, 0, memory_order_release);
}

static struct ledger_suspect *suspect_find(const struct ledger *ledger, uint32_t peer_id, uint64_t generation,
                                           uint64_t pos)
{
    struct ledger_layout *l = ledger->shared;
    for (uint32_t i = 0; i < l->suspect_count; i++) {
        struct ledger_suspect *suspect = &l->suspects[i];
        if (suspect->peer_id == peer_id && suspect->peer_generation == generation && suspect->ring_pos == pos)
            return suspect;
    }
    return NULL;
}

static void suspect_add(struct ledger *ledger, uint32_t peer_id, uint64_t generation, uint64_t pos)
{
    struct ledger_layout *l = ledger->shared;
    struct ledger_suspect *suspect = suspect_find(ledger, peer_id, generation, pos);
    if (suspect) {
        suspect->deaths++;
        return;
    }
    if (l->suspect_count == LEDGER_SUSPECTS)
        return; /* more than a batch has: the rest gets its turn at the next death */
    l->suspects[l->suspect_count] = (struct ledger_suspect){pos, generation, peer_id, 1};
    atomic_signal_fence(memory_order_seq_cst);
    l->suspect_count++;
}

unsigned ledger_blame(struct ledger *ledger)
{
    struct ledger_layout *l = ledger->shared;
    uint32_t peer_id = atomic_load_explicit(&l->working_peer, memory_order_relaxed);
    if (l->suspect_count > LEDGER_SUSPECTS)
        l->suspect_count = 0;
    if (peer_id != 0) {
        suspect_add(ledger, peer_id, l->working_generation, l->working_pos);
    } else {
        for (uint64_t n = ledger_applied(ledger); n < ledger_taken(ledger); n++) {
            const struct ledger_entry *entry = slot_of(ledger, n);
            suspect_add(ledger, entry->peer_id, entry->peer_generation, entry->ring_pos);
        }
    }
    ledger_working_end(ledger); /* blamed once, also if this store dies of something else before it takes a request */
    return l->suspect_count;
}

unsigned ledger_suspects(const struct ledger *ledger)
{
    return ledger->shared->suspect_count;
}

uint32_t ledger_deaths(const struct ledger *ledger, uint32_t peer_id, uint64_t generation, uint64_t pos)
{
    const struct ledger_suspect *suspect = suspect_find(ledger, peer_id, generation, pos);
    return suspect ? suspect->deaths : 0;
}

void ledger_absolve(struct ledger *ledger, uint32_t peer_id, uint64_t generation, uint64_t pos)
{
    struct ledger_layout *l = ledger->shared;
    for (uint32_t i = 0; i < l->suspect_count;) {
        struct ledger_suspect *suspect = &l->suspects[i];
        if (suspect->peer_id == peer_id && suspect->peer_generation == generation && suspect->ring_pos < pos) {
            *suspect = l->suspects[l->suspect_count - 1];
            atomic_signal_fence(memory_order_seq_cst);
            l->suspect_count--;
        } else {
            i++;
        }
    }
}
