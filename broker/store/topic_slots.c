/* Free ranges of queue table slots, sorted by base, never touching each other: see topic_slots.h. */
#include "topic_slots.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/panic.h"

struct range {
    uint32_t base, count;
};

struct topic_slots {
    uint32_t capacity;
    size_t count, room;
    struct range *ranges;
};

int topic_slots_new(uint32_t capacity, struct topic_slots **ret_slots)
{
    struct topic_slots *slots = calloc(1, sizeof *slots);
    if (!slots)
        return -ENOMEM;
    slots->room = 16;
    slots->ranges = calloc(slots->room, sizeof *slots->ranges);
    if (!slots->ranges) {
        free(slots);
        return -ENOMEM;
    }
    slots->capacity = capacity;
    slots->ranges[0] = (struct range){0, capacity};
    slots->count = 1;
    *ret_slots = slots;
    return 0;
}

void topic_slots_free(struct topic_slots *slots)
{
    if (slots)
        free(slots->ranges);
    free(slots);
}

static void insert_at(struct topic_slots *slots, size_t index, struct range range)
{
    if (slots->count == slots->room) {
        slots->room *= 2;
        slots->ranges = realloc(slots->ranges, slots->room * sizeof *slots->ranges);
        pn_assert(slots->ranges);
    }
    memmove(&slots->ranges[index + 1], &slots->ranges[index], (slots->count - index) * sizeof *slots->ranges);
    slots->ranges[index] = range;
    slots->count++;
}

static void remove_at(struct topic_slots *slots, size_t index)
{
    slots->count--;
    memmove(&slots->ranges[index], &slots->ranges[index + 1], (slots->count - index) * sizeof *slots->ranges);
}

/* Cuts [base, base + count) out of free range `index`, which holds it. */
static void cut(struct topic_slots *slots, size_t index, uint32_t base, uint32_t count)
{
    struct range whole = slots->ranges[index];
    struct range before = {whole.base, base - whole.base};
    struct range behind = {base + count, whole.base + whole.count - (base + count)};
    if (before.count && behind.count) {
        slots->ranges[index] = before;
        insert_at(slots, index + 1, behind);
    } else if (before.count || behind.count) {
        slots->ranges[index] = before.count ? before : behind;
    } else {
        remove_at(slots, index);
    }
}

int topic_slots_take(struct topic_slots *slots, uint32_t count, uint32_t *ret_base)
{
    *ret_base = 0;
    if (count == 0)
        return 0;
    for (size_t i = 0; i < slots->count; i++) {
        if (slots->ranges[i].count < count)
            continue;
        *ret_base = slots->ranges[i].base;
        cut(slots, i, *ret_base, count);
        return 0;
    }
    return -ENOSPC;
}

int topic_slots_claim(struct topic_slots *slots, uint32_t base, uint32_t count)
{
    if (count == 0)
        return 0;
    if (base >= slots->capacity || count > slots->capacity - base)
        return -ERANGE;
    for (size_t i = 0; i < slots->count; i++) {
        const struct range *range = &slots->ranges[i];
        if (base < range->base || base - range->base >= range->count)
            continue;
        if (count > range->count - (base - range->base))
            return -EEXIST;
        cut(slots, i, base, count);
        return 0;
    }
    return -EEXIST;
}

void topic_slots_give(struct topic_slots *slots, uint32_t base, uint32_t count)
{
    if (count == 0)
        return;
    size_t i = 0;
    while (i < slots->count && slots->ranges[i].base < base)
        i++;
    pn_assert(i == slots->count || base + count <= slots->ranges[i].base);
    pn_assert(i == 0 || slots->ranges[i - 1].base + slots->ranges[i - 1].count <= base);
    insert_at(slots, i, (struct range){base, count});
    if (i + 1 < slots->count && base + count == slots->ranges[i + 1].base) {
        slots->ranges[i].count += slots->ranges[i + 1].count;
        remove_at(slots, i + 1);
    }
    if (i > 0 && slots->ranges[i - 1].base + slots->ranges[i - 1].count == base) {
        slots->ranges[i - 1].count += slots->ranges[i].count;
        remove_at(slots, i);
    }
}
