/* Consumer offsets: see offsets.h. One hash entry per topic@group with a short sorted list of queues; the commit path
 * allocates only for a queue that is new to its group. */
#include "offsets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "base/panic.h"
#include "codes.h"
#include "config_files.h"
#include "groups.h"
#include "shm/board.h"
#include "topics.h"

enum {
    KEY_MAX = MSG_TOPIC_MAX + 1 + MSG_GROUP_MAX,
    COMMITS_PER_VERSION = 500, /* Apache's consumerOffsetUpdateVersionStep */
};

struct queue_offset {
    int32_t queue_id;
    int64_t offset;
};

struct entry {
    char *key; /* topic@group */
    unsigned count, room;
    struct queue_offset *queues; /* sorted by queue_id */
    UT_hash_handle hh;
};

struct offsets {
    struct entry *by_key;
    struct data_version version;
    unsigned commits;
};

int offsets_new(struct offsets **ret_offsets)
{
    *ret_offsets = calloc(1, sizeof **ret_offsets);
    return *ret_offsets ? 0 : -ENOMEM;
}

void offsets_free(struct offsets *offsets)
{
    if (!offsets)
        return;
    struct entry *entry, *next;
    HASH_ITER(hh, offsets->by_key, entry, next)
    {
        HASH_DEL(offsets->by_key, entry);
        free(entry->key);
        free(entry->queues);
        free(entry);
    }
    free(offsets);
}

struct data_version offsets_version(const struct offsets *offsets)
{
    return offsets->version;
}

void offsets_set_version(struct offsets *offsets, const struct data_version *version)
{
    offsets->version = *version;
}

/* "topic@group" in `buffer`; empty if it is too long. */
static struct bytes make_key(uint8_t buffer[KEY_MAX], struct bytes topic, struct bytes group)
{
    if (topic.size + 1 + group.size > KEY_MAX || topic.size == 0 || group.size == 0)
        return (struct bytes){NULL, 0};
    memcpy(buffer, topic.data, topic.size);
    buffer[topic.size] = '@';
    memcpy(buffer + topic.size + 1, group.data, group.size);
    return (struct bytes){buffer, topic.size + 1 + group.size};
}

static struct entry *find_entry(const struct offsets *offsets, struct bytes key)
{
    struct entry *entry = NULL;
    if (key.size)
        HASH_FIND(hh, offsets->by_key, key.data, key.size, entry);
    return entry;
}

/* Index of the first queue not below `queue_id`. */
static unsigned place_of(const struct entry *entry, int32_t queue_id)
{
    unsigned low = 0, high = entry->count;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (entry->queues[middle].queue_id < queue_id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct queue_offset *find_queue(const struct entry *entry, int32_t queue_id)
{
    unsigned place = entry ? place_of(entry, queue_id) : 0;
    return entry && place < entry->count && entry->queues[place].queue_id == queue_id ? &entry->queues[place] : NULL;
}

void offsets_set(struct offsets *offsets, struct bytes topic_at_group, int32_t queue_id, int64_t offset)
{
    struct entry *entry = find_entry(offsets, topic_at_group);
    if (!entry) {
        entry = calloc(1, sizeof *entry);
        pn_assert(entry);
        entry->key = strndup((const char *)topic_at_group.data, topic_at_group.size);
        pn_assert(entry->key);
        HASH_ADD_KEYPTR(hh, offsets->by_key, entry->key, topic_at_group.size, entry);
    }
    struct queue_offset *queue = find_queue(entry, queue_id);
    if (queue) {
        queue->offset = offset;
        return;
    }
    if (entry->count == entry->room) {
        entry->room = entry->room ? entry->room * 2 : 4;
        entry->queues = realloc(entry->queues, entry->room * sizeof *entry->queues);
        pn_assert(entry->queues);
    }
    unsigned place = place_of(entry, queue_id);
    memmove(&entry->queues[place + 1], &entry->queues[place], (entry->count - place) * sizeof *entry->queues);
    entry->queues[place] = (struct queue_offset){queue_id, offset};
    entry->count++;
}

void offsets_each(struct offsets *offsets,
                  int64_t (*visit)(const char *topic_at_group, int32_t queue_id, int64_t offset, void *context),
                  void *context)
{
    struct entry *entry, *next;
    HASH_ITER(hh, offsets->by_key, entry, next)
    {
        for (unsigned i = 0; i < entry->count; i++) {
            struct queue_offset *queue = &entry->queues[i];
            queue->offset = visit(entry->key, queue->queue_id, queue->offset, context);
        }
    }
}

/* Image. */

static void write_record(struct image *image, struct bytes key, int32_t queue_id, int64_t offset)
{
    struct cursor c = image_begin(image, IMAGE_OFFSET);
    cursor_put_i64(&c, offset);
    cursor_put_i32(&c, queue_id);
    cursor_put_string(&c, key);
    image_end(image, &c);
}

static void write_version(const struct offsets *offsets, struct image *image)
{
    struct cursor c = image_begin(image, IMAGE_OFFSETS_VERSION);
    data_version_put(&c, &offsets->version);
    image_end(image, &c);
}

void offsets_write_image(struct offsets *offsets, struct image *image)
{
    struct entry *entry, *next;
    HASH_ITER(hh, offsets->by_key, entry, next)
    for (unsigned i = 0; i < entry->count; i++)
        write_record(image, bytes_of(entry->key), entry->queues[i].queue_id, entry->queues[i].offset);
    write_version(offsets, image);
}

int offsets_apply_image(struct store *store, enum image_type type, struct bytes payload)
{
    struct cursor c = cursor_over(payload.data, payload.size);
    if (type == IMAGE_OFFSETS_VERSION) {
        store->offsets->version = data_version_get(&c);
        return c.bad ? -EBADMSG : 0;
    }
    if (type != IMAGE_OFFSET)
        return -EBADMSG;
    int64_t offset = cursor_get_i64(&c);
    int32_t queue_id = cursor_get_i32(&c);
    struct bytes key = cursor_get_string(&c);
    if (c.bad || key.size == 0 || memchr(key.data, 0, key.size))
        return -EBADMSG;
    offsets_set(store->offsets, key, queue_id, offset);
    return 0;
}

/* Requests. */

int32_t offsets_commit(struct store *store, struct bytes group, struct bytes topic, int32_t queue_id, int64_t offset,
                       const char **ret_remark)
{
    struct offsets *offsets = store->offsets;
    *ret_remark = "";
    if (!groups_find(store->groups, group)) {
        *ret_remark = "the consumer group does not exist";
        return CODE_SUBSCRIPTION_GROUP_NOT_EXIST;
    }
    if (!topics_find(store->topics, topic)) {
        *ret_remark = "the topic does not exist";
        return CODE_TOPIC_NOT_EXIST;
    }
    if (queue_id < 0) {
        *ret_remark = "the queue id is negative";
        return CODE_INVALID_PARAMETER;
    }
    uint8_t buffer[KEY_MAX];
    struct bytes key = make_key(buffer, topic, group);
    const struct queue_offset *queue = find_queue(find_entry(offsets, key), queue_id);
    if (queue && queue->offset == offset)
        return CODE_SUCCESS;
    if (key.size == 0 || image_make_room(store->image, 2, key.size + 64) < 0) {
        *ret_remark = "no room for more offsets";
        return CODE_SYSTEM_ERROR;
    }
    offsets_set(offsets, key, queue_id, offset);
    if (++offsets->commits % COMMITS_PER_VERSION == 0) {
        data_version_next(&offsets->version);
        write_version(offsets, store->image);
    }
    write_record(store->image, key, queue_id, offset);
    board_add(store->board, COUNTER_OFFSETS_COMMITTED, 1);
    config_files_changed(store, CONFIG_FILE_OFFSETS);
    return CODE_SUCCESS;
}

/* Everything that was ever in this queue is still there and not much. */
static bool is_young(struct store *store, const struct topic *topic, int32_t queue_id)
{
    if (!topic || queue_id < 0 || (uint32_t)queue_id >= topic->slot_count)
        return false;
    const struct queue_table *table = store->queue_table;
    const struct queue_slot *slot = &table->slots[topic->slot_base + (uint32_t)queue_id];
    return atomic_load_explicit(&slot->min_offset, memory_order_relaxed) <= 0 &&
           atomic_load_explicit(&table->log_min_pos, memory_order_relaxed) == 0 &&
           atomic_load_explicit(&table->log_written_pos, memory_order_relaxed) < OFFSETS_YOUNG_LOG;
}

int32_t offsets_query(struct store *store, struct bytes group, struct bytes topic, int32_t queue_id, bool may_guess,
                      int64_t *ret_offset, const char **ret_remark)
{
    uint8_t buffer[KEY_MAX];
    const struct queue_offset *queue = find_queue(find_entry(store->offsets, make_key(buffer, topic, group)), queue_id);
    *ret_remark = "";
    *ret_offset = queue ? queue->offset : -1;
    if (*ret_offset >= 0)
        return CODE_SUCCESS;
    if (may_guess && is_young(store, topics_find(store->topics, topic), queue_id)) {
        *ret_offset = 0;
        return CODE_SUCCESS;
    }
    *ret_remark = "no offset is stored, maybe this group consumes the queue for the first time";
    return CODE_QUERY_NOT_FOUND;
}

static int64_t clamp_one(const char *topic_at_group, int32_t queue_id, int64_t offset, void *context)
{
    struct store *store = context;
    const char *at = strrchr(topic_at_group, '@');
    if (!at || queue_id < 0)
        return offset;
    struct bytes name = {(const uint8_t *)topic_at_group, (size_t)(at - topic_at_group)};
    const struct topic *topic = topics_find(store->topics, name);
    if (!topic || (uint32_t)queue_id >= topic->slot_count)
        return offset;
    const struct queue_slot *slot = &store->queue_table->slots[topic->slot_base + (uint32_t)queue_id];
    int64_t max_offset = atomic_load_explicit(&slot->max_offset, memory_order_relaxed);
    if (offset <= max_offset || image_make_room(store->image, 1, strlen(topic_at_group) + 64) < 0)
        return offset;
    write_record(store->image, bytes_of(topic_at_group), queue_id, max_offset);
    config_files_changed(store, CONFIG_FILE_OFFSETS);
    return max_offset;
}

void offsets_clamp(struct store *store)
{
    offsets_each(store->offsets, clamp_one, store);
}
