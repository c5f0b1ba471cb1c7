/* See damage.h. The front's one thread. Consumers come upon the same damage again and again: what was told is remembered, and
 * a line a second is enough where whole files are bad; `pintle fsck` lists all. */
#include "damage.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/panic.h"
#include "msg/msg.h"
#include "store_link.h"

enum {
    REMEMBERED_MAX = 4096,
    LINES_BURST = 20,
    LINE_MS = 1000,
    ASK_AGAIN_MS = 1000,  /* a store may have died with the question */
    GIVE_UP_MS = 30000,   /* it cannot write, or the log between is very long: readers go on */
};

struct key {
    uint32_t slot, generation; /* of a record by position: UINT32_MAX, 0 */
    int64_t offset;
};

struct known {
    UT_hash_handle hh;
    struct key key;
    int64_t since_ms, asked_ms;
    bool is_lost;
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

/* NULL the first time; then *ret_known is the new one. */
static struct known *remember(struct damage *damage, struct key key, struct known **ret_known)
{
    struct known *known;
    HASH_FIND(hh, damage->known, &key, sizeof key, known);
    *ret_known = known;
    if (known)
        return known;
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
    *ret_known = known;
    return NULL;
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

/* False: the control ring is full, or there is no store. */
static bool ask_store(struct front *front, const struct queue_ref *queue, int64_t offset)
{
    size_t topic_size = strlen(queue->topic), size = sizeof(struct msg_offset) + 2 + 2 + topic_size;
    struct msg_offset *wanted = front->link ? store_link_reserve_control(front, MSG_QUEUE_MEND, size) : NULL;
    if (!wanted)
        return false;
    *wanted = (struct msg_offset){.offset = offset, .queue_id = queue->queue_id};
    struct cursor cursor = cursor_over(wanted + 1, size - sizeof *wanted);
    cursor_put_string(&cursor, (struct bytes){NULL, 0});
    cursor_put_string(&cursor, (struct bytes){(const uint8_t *)queue->topic, topic_size});
    return true;
}

static void tell_lost(struct front *front, const struct queue_ref *queue, int64_t offset, const struct queue_entry *entry,
                      enum read_check check)
{
    board_add(front->board, COUNTER_RECORDS_DAMAGED, 1);
    if (may_tell(front->damage, front->now_ms))
        log_error("%s: log position %" PRId64 ", %" PRId32 " bytes, topic %s, queue %" PRId32 ", offset %" PRId64
                  ", id %s%016" PRIX64,
                  check == READ_DAMAGED ? "damaged message, not delivered" : "no message where it was, nothing delivered",
                  entry->pos, entry->size, queue->topic, queue->queue_id, offset, front->config.store_host_hex,
                  (uint64_t)entry->pos);
}

static void tell_astray(struct front *front, const struct queue_ref *queue, int64_t offset, const struct queue_entry *entry)
{
    board_add(front->board, COUNTER_ENTRIES_DAMAGED, 1);
    if (may_tell(front->damage, front->now_ms))
        log_error("consume queue %s/%" PRId32 ": the entry of offset %" PRId64 " does not lead to its message: log position %" PRId64
                  ", %" PRId32 " bytes; it is made again", queue->topic, queue->queue_id, offset, entry->pos, entry->size);
}

enum damage_verdict damage_found(struct front *front, const struct queue_ref *queue, int64_t offset,
                                 const struct queue_entry *entry, enum read_check check)
{
    struct known *known;
    bool again = remember(front->damage, (struct key){queue->slot, queue->generation, offset}, &known);
    bool is_final = check == READ_DAMAGED || entry->tags_code == QUEUE_TAGS_LOST;
    if (!again) {
        known->since_ms = front->now_ms;
        known->asked_ms = front->now_ms - ASK_AGAIN_MS;
        if (!is_final)
            tell_astray(front, queue, offset, entry);
    }
    if (again && front->now_ms - known->asked_ms > 2 * GIVE_UP_MS)
        known->since_ms = front->now_ms; /* it had been made good */
    if (!is_final && !known->is_lost && front->now_ms - known->since_ms < GIVE_UP_MS) {
        if (front->now_ms - known->asked_ms >= ASK_AGAIN_MS && ask_store(front, queue, offset))
            known->asked_ms = front->now_ms;
        return DAMAGE_WAIT;
    }
    if (!known->is_lost)
        tell_lost(front, queue, offset, entry, check);
    known->is_lost = true;
    return DAMAGE_LOST;
}

void damage_record(struct front *front, int64_t pos)
{
    struct damage *damage = front->damage;
    struct known *known;
    if (remember(damage, (struct key){UINT32_MAX, 0, pos}, &known))
        return;
    board_add(front->board, COUNTER_RECORDS_DAMAGED, 1);
    if (may_tell(damage, front->now_ms))
        log_error("damaged message, not given out: log position %" PRId64 ", id %s%016" PRIX64, pos,
                  front->config.store_host_hex, (uint64_t)pos);
}
