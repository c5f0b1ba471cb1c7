/* The table of outstanding requests; see pending.h. Runs in the front's one thread. It grows by doubling and never
 * shrinks: a front with many requests under way will have as many again. */
#include "pending.h"

#include <stdlib.h>

#include "base/panic.h"

struct entry {
    struct pending_request request;
    uint32_t use; /* odd: taken; upper half of the token */
    uint32_t next_free;
};

struct pending {
    struct entry *entries;
    uint32_t capacity, count;
    uint32_t first_free; /* UINT32_MAX: none */
};

struct pending *pending_new(void)
{
    struct pending *pending = calloc(1, sizeof *pending);
    if (pending)
        pending->first_free = UINT32_MAX;
    return pending;
}

void pending_free(struct pending *pending)
{
    if (!pending)
        return;
    for (uint32_t i = 0; i < pending->capacity; i++)
        if (pending->entries[i].use & 1)
            free(pending->entries[i].request.extra);
    free(pending->entries);
    free(pending);
}

static bool grow(struct pending *pending)
{
    uint32_t capacity = pending->capacity ? pending->capacity * 2 : 256;
    if (capacity > PENDING_MAX)
        return false;
    struct entry *entries = realloc(pending->entries, capacity * sizeof *entries);
    if (!entries)
        return false;
    for (uint32_t i = pending->capacity; i < capacity; i++) {
        entries[i].use = 0;
        entries[i].next_free = i + 1 < capacity ? i + 1 : UINT32_MAX;
    }
    pending->first_free = pending->capacity;
    pending->entries = entries;
    pending->capacity = capacity;
    return true;
}

uint64_t pending_add(struct pending *pending, const struct pending_request *request)
{
    if (pending->first_free == UINT32_MAX && !grow(pending))
        return 0;
    uint32_t index = pending->first_free;
    struct entry *entry = &pending->entries[index];
    pn_assert(!(entry->use & 1));
    pending->first_free = entry->next_free;
    entry->request = *request;
    entry->use++;
    pending->count++;
    return (uint64_t)entry->use << 32 | index;
}

bool pending_take(struct pending *pending, uint64_t token, struct pending_request *ret_request)
{
    uint32_t index = (uint32_t)token, use = (uint32_t)(token >> 32);
    if (index >= pending->capacity || !(use & 1) || pending->entries[index].use != use)
        return false;
    struct entry *entry = &pending->entries[index];
    *ret_request = entry->request;
    entry->request.extra = NULL;
    entry->use++;
    entry->next_free = pending->first_free;
    pending->first_free = index;
    pn_assert(pending->count > 0);
    pending->count--;
    return true;
}

unsigned pending_count(const struct pending *pending)
{
    return pending->count;
}

int64_t pending_oldest_ms(const struct pending *pending, enum pending_kind kind)
{
    int64_t oldest_ms = 0;
    for (uint32_t i = 0; i < pending->capacity; i++) {
        const struct pending_request *request = &pending->entries[i].request;
        if (pending->entries[i].use & 1 && request->kind == kind && (!oldest_ms || request->since_ms < oldest_ms))
            oldest_ms = request->since_ms;
    }
    return oldest_ms;
}
