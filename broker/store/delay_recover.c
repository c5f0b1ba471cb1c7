/* The log as the proof of what was delivered (see delay_recover.h). Deciding thread of the store, before it serves.
 *
 * A delivered copy keeps DELAY, REAL_TOPIC and REAL_QID, and lies in just that queue. Copies from start_pos on are gathered;
 * then each level's queue is walked as far as any of them can reach, and the offset goes behind the last message that has
 * its copy. A level is delivered in order: what lies before that one without a copy was passed over. What makes a copy its
 * message's does not depend on the order of properties: Apache writes them anew. */
#include "delay_recover.h"

#include <errno.h>
#include <inttypes.h>
#include <isa-l/crc.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "broker/format/properties.h"
#include "commit_log.h"
#include "delay.h"
#include "delay_reader.h"
#include "log_search.h"
#include "topics.h"

struct copy {
    uint64_t key;
    int64_t store_ms;
    unsigned level;
    bool used;
};

struct copies {
    struct copy *list;
    size_t count, room;
};

static uint32_t fold(uint32_t crc, struct bytes part)
{
    uint8_t size[4];
    be32_store(size, (uint32_t)part.size);
    crc = crc32_gzip_refl(crc, size, sizeof size);
    return part.size ? crc32_gzip_refl(crc, part.data, part.size) : crc;
}

/* `data`: the record itself. */
static uint64_t key_of(const uint8_t *data, const struct record *record, struct bytes uniq_key, struct bytes real_topic,
                       struct bytes real_queue)
{
    size_t born = be32_load(data + RECORD_SYS_FLAG_AT) & SYS_FLAG_BORN_IPV6 ? RECORD_HOST_V6_SIZE : RECORD_HOST_V4_SIZE;
    size_t store = be32_load(data + RECORD_SYS_FLAG_AT) & SYS_FLAG_STORE_IPV6 ? RECORD_HOST_V6_SIZE : RECORD_HOST_V4_SIZE;
    uint32_t low = fold(0, uniq_key), high = fold(1, real_topic);
    low = fold(low, real_queue);
    low = fold(low, (struct bytes){data + RECORD_BORN_MS_AT, 8});
    high = fold(high, (struct bytes){data + RECORD_BORN_HOST_AT + born + 8 + store, 4}); /* reconsume times */
    high = fold(high, (struct bytes){(const uint8_t *)&record->body_crc, sizeof record->body_crc});
    high = fold(high, uniq_key);
    return (uint64_t)high << 32 | low;
}

static bool number_is(struct bytes text, int32_t number)
{
    char digits[16];
    snprintf(digits, sizeof digits, "%d", number);
    return bytes_equal_text(text, digits);
}

static int gather(const struct store_config *config, const uint8_t *data, const struct record *record, struct copies *copies)
{
    struct properties found;
    properties_scan(record->properties, &found);
    unsigned level = delay_level(config, found.delay);
    if (level == 0 || bytes_equal_text(record->topic, DELAY_TOPIC))
        return 0;
    struct bytes topic = properties_find(record->properties, "REAL_TOPIC");
    struct bytes queue = properties_find(record->properties, "REAL_QID");
    if (!bytes_equal(topic, record->topic) || !number_is(queue, record->queue_id))
        return 0;
    if (copies->count == copies->room) {
        size_t room = copies->room ? copies->room * 2 : 1024;
        struct copy *grown = realloc(copies->list, room * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        copies->list = grown;
        copies->room = room;
    }
    copies->list[copies->count++] = (struct copy){.level = level, .store_ms = record->store_ms,
                                                  .key = key_of(data, record, found.uniq_key, topic, queue)};
    return 0;
}

static int gather_all(struct store *store, int64_t pos, struct copies *copies)
{
    struct log_reader reader;
    int r = 0;
    log_reader_init(&reader, store->commit_log);
    reader.limit_pos = commit_log_end(store->commit_log);
    while (r == 0 && pos < reader.limit_pos) {
        struct record record;
        const uint8_t *data;
        int kind = log_reader_record(&reader, pos, false, &record);
        if (kind < 0) {
            r = kind;
        } else if (kind == RECORD_MESSAGE) {
            r = log_reader_bytes(&reader, pos, record.size, &data);
            if (r == 0) /* the window may have moved */
                kind = record_parse(data, record.size, pos, record.size, false, &record);
            if (r == 0)
                r = kind == RECORD_MESSAGE ? gather(&store->config, data, &record, copies) : -EBADMSG;
        } else if (kind != RECORD_BLANK) { /* damage, which recovery has named */
            r = log_search(&reader, pos + 1, commit_log_end(store->commit_log), &pos, &record);
            if (r == 0)
                break;
            r = r < 0 ? r : 0;
            continue;
        }
        pos += r == 0 ? record.size : 0;
    }
    log_reader_done(&reader);
    return r;
}

static int compare(const void *a, const void *b)
{
    const struct copy *left = a, *right = b;
    if (left->level != right->level)
        return left->level < right->level ? -1 : 1;
    return left->key < right->key ? -1 : left->key > right->key;
}

/* A copy of this message that nobody has taken yet. */
static bool take(struct copies *copies, unsigned level, uint64_t key)
{
    struct copy wanted = {.level = level, .key = key};
    struct copy *found =
        copies->count ? bsearch(&wanted, copies->list, copies->count, sizeof wanted, compare) : NULL;
    if (!found)
        return false;
    while (found > copies->list && compare(found - 1, &wanted) == 0)
        found--;
    for (; found < copies->list + copies->count && compare(found, &wanted) == 0; found++)
        if (!found->used)
            return found->used = true;
    return false;
}

static int entry_key(struct log_reader *reader, const struct delay_entry *entry, uint64_t *ret_key)
{
    const uint8_t *data;
    struct record record;
    if (entry->log_pos < commit_log_min_pos(reader->log) || entry->size < RECORD_FIXED_SIZE ||
        entry->log_pos + (int64_t)entry->size > commit_log_end(reader->log))
        return -EBADMSG;
    int r = log_reader_bytes(reader, entry->log_pos, entry->size, &data);
    if (r < 0)
        return r;
    if (record_parse(data, entry->size, entry->log_pos, entry->size, false, &record) != RECORD_MESSAGE)
        return -EBADMSG;
    struct properties found;
    properties_scan(record.properties, &found);
    *ret_key = key_of(data, &record, found.uniq_key, properties_find(record.properties, "REAL_TOPIC"),
                      properties_find(record.properties, "REAL_QID"));
    return 0;
}

/* Walks a level's queue as far as a copy can reach: none was stored before it was due. */
static int level_walk(struct store *store, struct copies *copies, unsigned level, int64_t last_ms, int64_t *offset)
{
    const struct topic *topic = topics_find(store->topics, bytes_of(DELAY_TOPIC));
    struct delay_entry entries[DELAY_READ_ENTRIES];
    struct log_reader reader;
    if (!topic || level > topic->slot_count)
        return 0;
    int64_t max = atomic_load(&store->queue_table->slots[topic->slot_base + level - 1].max_offset);
    int r = 0;
    log_reader_init(&reader, store->commit_log);
    for (int64_t at = *offset; at < max && r >= 0;) {
        r = delay_read_entries(&store->config, level, at, entries, DELAY_READ_ENTRIES);
        if (r <= 0)
            break;
        int count = r;
        for (int i = 0; i < count && at < max; i++, at++) {
            uint64_t key;
            if (entries[i].tags_code > last_ms) {
                max = at;
                break;
            }
            r = entry_key(&reader, &entries[i], &key);
            if (r == 0 && take(copies, level, key))
                *offset = at + 1;
            if (r < 0 && r != -EBADMSG)
                break;
            r = 0;
        }
    }
    log_reader_done(&reader);
    return r == -ENOENT ? 0 : r < 0 ? r : 0;
}

int delay_recover_log(struct store *store, int64_t start_pos, int64_t *offsets)
{
    struct copies copies = {0};
    int64_t last_ms[DELAY_LEVELS_MAX] = {0};
    int r = gather_all(store, start_pos, &copies);
    if (copies.count)
        qsort(copies.list, copies.count, sizeof *copies.list, compare);
    for (size_t i = 0; i < copies.count; i++)
        if (copies.list[i].store_ms > last_ms[copies.list[i].level - 1])
            last_ms[copies.list[i].level - 1] = copies.list[i].store_ms;
    for (unsigned i = 0; i < store->config.delay_levels && r == 0; i++)
        if (last_ms[i] > 0)
            r = level_walk(store, &copies, i + 1, last_ms[i], &offsets[i]);
    if (copies.count)
        log_info("delayed messages: %zu delivered ones found in the log behind %" PRId64, copies.count, start_pos);
    free(copies.list);
    return r;
}
