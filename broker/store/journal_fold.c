/* Folding image records: see journal_fold.h. Journal's thread of the store; owns all its memory, which is one run of bytes
 * and one table of places in it, so that 100,000 offsets are two allocations. */
#include "journal_fold.h"

#include <errno.h>
#include <isa-l/crc.h>
#include <stdlib.h>
#include <string.h>

#include "base/panic.h"
#include "data_version.h"
#include "groups.h"
#include "offsets.h"
#include "topics.h"

enum { VERSION_SIZE = 24, FIRST_TABLE = 1024 };

struct entry {
    uint32_t hash;
    uint32_t size; /* payload's */
    uint32_t room;
    uint16_t type;
    uint16_t key_size;
    int32_t queue_id;
    bool gone;
    size_t at; /* of key, then payload, in bytes */
};

struct journal_fold {
    bool offsets_only;
    struct entry *entries;
    size_t count, entry_room;
    uint32_t *table; /* entry number + 1; 0: free */
    size_t table_size;
    uint8_t *bytes;
    size_t used, byte_room;
};

int journal_fold_new(bool offsets_only, struct journal_fold **ret_fold)
{
    struct journal_fold *fold = calloc(1, sizeof *fold);
    if (!fold)
        return -ENOMEM;
    fold->offsets_only = offsets_only;
    *ret_fold = fold;
    return 0;
}

void journal_fold_free(struct journal_fold *fold)
{
    if (!fold)
        return;
    free(fold->entries);
    free(fold->table);
    free(fold->bytes);
    free(fold);
}

/* The table. */

static uint32_t hash_of(uint16_t type, struct bytes key, int32_t queue_id)
{
    uint32_t seed = (uint32_t)type * 2654435761u ^ (uint32_t)queue_id * 40503u;
    return key.size ? crc32_gzip_refl(seed, key.data, key.size) : seed;
}

static struct bytes key_of(const struct journal_fold *fold, const struct entry *entry)
{
    return (struct bytes){fold->bytes + entry->at, entry->key_size};
}

static void put_in_table(struct journal_fold *fold, uint32_t number)
{
    size_t i = fold->entries[number].hash & (fold->table_size - 1);
    while (fold->table[i])
        i = (i + 1) & (fold->table_size - 1);
    fold->table[i] = number + 1;
}

static void grow_table(struct journal_fold *fold)
{
    if (fold->table_size >= 2 * (fold->count + 1))
        return;
    free(fold->table);
    fold->table_size = fold->table_size ? fold->table_size * 2 : FIRST_TABLE;
    fold->table = calloc(fold->table_size, sizeof *fold->table);
    pn_assert(fold->table);
    for (size_t i = 0; i < fold->count; i++)
        put_in_table(fold, (uint32_t)i);
}

static struct entry *find(const struct journal_fold *fold, uint16_t type, struct bytes key, int32_t queue_id)
{
    if (!fold->table_size)
        return NULL;
    uint32_t hash = hash_of(type, key, queue_id);
    for (size_t i = hash & (fold->table_size - 1); fold->table[i]; i = (i + 1) & (fold->table_size - 1)) {
        struct entry *entry = &fold->entries[fold->table[i] - 1];
        if (entry->hash == hash && entry->type == type && entry->queue_id == queue_id &&
            bytes_equal(key_of(fold, entry), key))
            return entry;
    }
    return NULL;
}

static size_t take_bytes(struct journal_fold *fold, size_t size)
{
    while (fold->byte_room - fold->used < size) {
        fold->byte_room = fold->byte_room ? fold->byte_room * 2 : 64 * 1024;
        fold->bytes = realloc(fold->bytes, fold->byte_room);
        pn_assert(fold->bytes);
    }
    size_t at = fold->used;
    fold->used += size;
    return at;
}

static struct entry *add_entry(struct journal_fold *fold, uint16_t type, struct bytes key, int32_t queue_id)
{
    grow_table(fold);
    if (fold->count == fold->entry_room) {
        fold->entry_room = fold->entry_room ? fold->entry_room * 2 : FIRST_TABLE;
        fold->entries = realloc(fold->entries, fold->entry_room * sizeof *fold->entries);
        pn_assert(fold->entries);
    }
    struct entry *entry = &fold->entries[fold->count];
    *entry = (struct entry){.hash = hash_of(type, key, queue_id), .type = type, .key_size = (uint16_t)key.size,
                            .queue_id = queue_id};
    put_in_table(fold, (uint32_t)fold->count++);
    return entry;
}

static void keep(struct journal_fold *fold, uint16_t type, struct bytes key, int32_t queue_id, struct bytes payload)
{
    struct entry *entry = find(fold, type, key, queue_id);
    if (!entry)
        entry = add_entry(fold, type, key, queue_id);
    if (payload.size > entry->room || entry->room == 0) { /* the old place is lost; it goes with the fold */
        entry->room = (uint32_t)payload.size;
        entry->at = take_bytes(fold, key.size + payload.size);
        if (key.size)
            memcpy(fold->bytes + entry->at, key.data, key.size);
    }
    memcpy(fold->bytes + entry->at + key.size, payload.data, payload.size);
    entry->size = (uint32_t)payload.size;
    entry->gone = false;
}

static void forget(struct journal_fold *fold, uint16_t type, struct bytes key)
{
    struct entry *entry = find(fold, type, key, 0);
    if (entry)
        entry->gone = true;
}

static void forget_offsets(struct journal_fold *fold, struct bytes name, bool is_topic)
{
    for (size_t i = 0; i < fold->count; i++) {
        struct entry *entry = &fold->entries[i];
        if (entry->type != IMAGE_OFFSET)
            continue;
        struct bytes key = key_of(fold, entry);
        const uint8_t *mark = memchr(key.data, '@', key.size);
        struct bytes topic = {key.data, (size_t)(mark - key.data)};
        struct bytes group = {mark + 1, key.size - topic.size - 1};
        if (bytes_equal(is_topic ? topic : group, name))
            entry->gone = true;
    }
}

/* Records. */

/* Each change carries its table's version; the version's own record, which comes last, must not say less. */
static void keep_version(struct journal_fold *fold, uint16_t type, struct bytes payload)
{
    const struct bytes none = {NULL, 0};
    const struct entry *entry = find(fold, type, none, 0);
    if (payload.size < VERSION_SIZE)
        return;
    if (entry) {
        memcpy(fold->bytes + entry->at, payload.data, VERSION_SIZE);
        return;
    }
    uint8_t fresh[VERSION_SIZE + 4] = {0}; /* no generation; or no text of what is forbidden */
    memcpy(fresh, payload.data, VERSION_SIZE);
    keep(fold, type, none, 0,
         (struct bytes){fresh, type == IMAGE_TOPICS_VERSION ? VERSION_SIZE + 4 : VERSION_SIZE + 2});
}

static int add_topic(struct journal_fold *fold, enum image_type type, struct bytes payload)
{
    struct bytes name = topics_image_name(type, payload);
    if (name.size == 0)
        return -EBADMSG;
    if (type == IMAGE_TOPIC_DROP)
        forget_offsets(fold, name, true);
    if (fold->offsets_only)
        return 0;
    keep(fold, (uint16_t)type, name, 0, payload);
    if (type == IMAGE_TOPIC_DROP)
        forget(fold, IMAGE_TOPIC_PUT, name);
    keep_version(fold, IMAGE_TOPICS_VERSION, payload);
    return 0;
}

static int add_group(struct journal_fold *fold, enum image_type type, struct bytes payload)
{
    bool clean_offsets;
    struct bytes name = groups_image_name(type, payload, &clean_offsets);
    if (name.size == 0)
        return -EBADMSG;
    if (clean_offsets)
        forget_offsets(fold, name, false);
    if (fold->offsets_only)
        return 0;
    if (type == IMAGE_GROUP_DROP)
        forget(fold, IMAGE_GROUP_PUT, name);
    else
        keep(fold, (uint16_t)type, name, 0, payload);
    keep_version(fold, IMAGE_GROUPS_VERSION, payload);
    return 0;
}

int journal_fold_add(void *context, enum image_type type, struct bytes payload)
{
    struct journal_fold *fold = context;
    const struct bytes none = {NULL, 0};
    int32_t queue_id;
    struct bytes key;
    switch (type) {
    case IMAGE_TOPIC_PUT:
    case IMAGE_TOPIC_DROP:
        return add_topic(fold, type, payload);
    case IMAGE_GROUP_PUT:
    case IMAGE_GROUP_DROP:
        return add_group(fold, type, payload);
    case IMAGE_TOPICS_VERSION:
    case IMAGE_GROUPS_VERSION:
    case IMAGE_RUN_TIME_CONFIG:
        if (!fold->offsets_only)
            keep(fold, (uint16_t)type, none, 0, payload);
        return payload.size < VERSION_SIZE ? -EBADMSG : 0;
    case IMAGE_OFFSETS_VERSION:
    case IMAGE_DELAY:
        keep(fold, (uint16_t)type, none, 0, payload);
        return 0;
    case IMAGE_OFFSET:
    case IMAGE_RESET:
        key = offsets_image_key(payload, &queue_id);
        if (key.size == 0)
            return -EBADMSG;
        keep(fold, IMAGE_OFFSET, key, queue_id, payload);
        return 0;
    case IMAGE_LOCK:
    case IMAGE_UNLOCK:
    case IMAGE_RESET_SEEN:
        return 0; /* of this life of the broker only */
    }
    return -EBADMSG;
}

int journal_fold_each(const struct journal_fold *fold, image_apply visit, void *context)
{
    static const enum image_type order[] = {
        IMAGE_TOPIC_DROP, IMAGE_TOPIC_PUT, IMAGE_TOPICS_VERSION,  IMAGE_GROUP_PUT, IMAGE_GROUPS_VERSION,
        IMAGE_OFFSET,     IMAGE_OFFSETS_VERSION, IMAGE_RUN_TIME_CONFIG,
        IMAGE_DELAY,
    };
    for (size_t n = 0; n < sizeof order / sizeof *order; n++) {
        for (size_t i = 0; i < fold->count; i++) {
            const struct entry *entry = &fold->entries[i];
            if (entry->type != order[n] || entry->gone)
                continue;
            int r = visit(context, entry->type,
                          (struct bytes){fold->bytes + entry->at + entry->key_size, entry->size});
            if (r < 0)
                return r;
        }
    }
    return 0;
}
