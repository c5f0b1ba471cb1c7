/* See damage.h. The front's one thread. Consumers come upon the same damage again and again: what was told is remembered, and
 * a line a second is enough where whole files are bad; `pintle fsck` lists all. */
#include "damage.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/panic.h"

enum { REMEMBERED_MAX = 4096, LINES_BURST = 20, LINE_MS = 1000 };

struct key {
    uint32_t slot, generation; /* of a record by position: UINT32_MAX, 0 */
    int64_t offset;
};

struct known {
    UT_hash_handle hh;
    struct key key;
};

struct damage {
    struct known *known; /* oldest first */
    int64_t credit_ms;   /* what may be told without waiting */
    int64_t looked_ms;
    uint64_t untold;
};

struct damage *damage_new(void)
{
    struct damage *damage = calloc(1, sizeof *damage);
    if (damage)
        damage->credit_ms = LINES_BURST * LINE_MS;
    return damage;
}

void damage_free(struct damage *damage)
{
    struct known *known, *next;
    if (!damage)
        return;
    HASH_ITER(hh, damage->known, known, next)
    {
        HASH_DEL(damage->known, known);
        free(known);
    }
    free(damage);
}

/* True the first time. */
static bool remember(struct damage *damage, struct key key)
{
    struct known *known;
    HASH_FIND(hh, damage->known, &key, sizeof key, known);
    if (known)
        return false;
    if (HASH_COUNT(damage->known) >= REMEMBERED_MAX) {
        known = damage->known;
        HASH_DEL(damage->known, known);
        free(known);
    }
    known = calloc(1, sizeof *known);
    if (!known)
        PANIC("out of memory");
    known->key = key;
    HASH_ADD(hh, damage->known, key, sizeof known->key, known);
    return true;
}

static bool may_tell(struct damage *damage, int64_t now_ms)
{
    damage->credit_ms += now_ms - damage->looked_ms;
    damage->looked_ms = now_ms;
    if (damage->credit_ms > LINES_BURST * LINE_MS)
        damage->credit_ms = LINES_BURST * LINE_MS;
    if (damage->credit_ms < LINE_MS) {
        damage->untold++;
        return false;
    }
    damage->credit_ms -= LINE_MS;
    if (damage->untold)
        log_error("more damage was found and is counted, not told: %" PRIu64 " messages; see pintle fsck", damage->untold);
    damage->untold = 0;
    return true;
}

void damage_found(struct front *front, const struct queue_ref *queue, int64_t offset, const struct queue_entry *entry,
                  enum read_check check)
{
    struct damage *damage = front->damage;
    if (!remember(damage, (struct key){queue->slot, queue->generation, offset}))
        return;
    board_add(front->board, check == READ_DAMAGED ? COUNTER_RECORDS_DAMAGED : COUNTER_ENTRIES_DAMAGED, 1);
    if (!may_tell(damage, front->now_ms))
        return;
    if (check == READ_DAMAGED)
        log_error("damaged message, not delivered: log position %" PRId64 ", %" PRId32 " bytes, topic %s, queue %" PRId32
                  ", offset %" PRId64 ", id %s%016" PRIX64, entry->pos, entry->size, queue->topic, queue->queue_id, offset,
                  front->config.store_host_hex, (uint64_t)entry->pos);
    else
        log_error("message not found, not delivered: topic %s, queue %" PRId32 ", offset %" PRId64
                  "; its entry says log position %" PRId64 ", %" PRId32 " bytes", queue->topic, queue->queue_id, offset,
                  entry->pos, entry->size);
}

void damage_record(struct front *front, int64_t pos)
{
    struct damage *damage = front->damage;
    if (!remember(damage, (struct key){UINT32_MAX, 0, pos}))
        return;
    board_add(front->board, COUNTER_RECORDS_DAMAGED, 1);
    if (may_tell(damage, front->now_ms))
        log_error("damaged message, not given out: log position %" PRId64 ", id %s%016" PRIX64, pos,
                  front->config.store_host_hex, (uint64_t)pos);
}
