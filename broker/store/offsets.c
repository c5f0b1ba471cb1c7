/* Consumer offsets: see offsets.h. One entry per topic@group with a short sorted list of queues; the commit path
 * allocates only for a queue that is new to its group. A warm start makes the table anew, and 100,000 entries are many: it
 * is one of open addressing that holds the hashes too, so that a new entry touches no other. */
#include "offsets.h"

#include <errno.h>
#include <isa-l/crc.h>
#include <stdlib.h>
#include <string.h>

#include "base/panic.h"
#include "codes.h"
#include "catalogue.h"
#include "config_files.h"
#include "groups.h"
#include "shm/board.h"
#include "topics.h"

enum {
    KEY_MAX = MSG_TOPIC_MAX + 1 + MSG_GROUP_MAX,
    COMMITS_PER_VERSION = 500, /* Apache's consumerOffsetUpdateVersionStep */
    SLOTS_LEAST = 64,
    SLOTS_EXPECTED_MOST = 1 << 20,
    LIST_VISITS = 2000,        /* entries that one answer looks at: well under a millisecond */
};

struct queue_offset {
    int32_t queue_id;
    bool is_reset; /* marked: no pull has seen it yet */
    int64_t offset;
};

enum { OWN_QUEUES = 2 };

struct entry {
    struct entry *next, *before; /* in order of their coming */
    uint32_t hash, key_size;
    unsigned count, room;
    struct queue_offset *queues;         /* sorted by queue_id; `own` while they fit */
    struct queue_offset own[OWN_QUEUES];
    char key[]; /* topic@group */
};

struct slot {
    struct entry *entry; /* NULL: free */
    uint32_t hash;
};

struct offsets {
    struct entry *first, *end; /* all entries */
    struct slot *slots;        /* a power of two, at most half of them taken */
    size_t slot_count, count;
    struct entry *last; /* set: a snapshot names all queues of an entry one behind the other */
    struct data_version version;
    unsigned commits;
    unsigned resets; /* marks */
};

/* Also while the entry itself goes. */
#define FOR_EACH_ENTRY(offsets, entry, next_entry)                                                                     \
    for ((entry) = (offsets)->first; (entry) && ((next_entry) = (entry)->next, true); (entry) = (next_entry))

/* The table. */

static uint32_t hash_of(struct bytes key)
{
    uint32_t hash = crc32_gzip_refl(0, key.data, key.size);
    hash = (hash ^ hash >> 15) * 0x2c1b3c6du; /* a CRC is linear: names that end in numbers would crowd */
    return hash ^ hash >> 12;
}

/* The slot of the key, or the free one where it would go. */
static struct slot *slot_of(const struct offsets *offsets, struct bytes key, uint32_t hash)
{
    for (size_t i = hash;; i++) {
        struct slot *slot = &offsets->slots[i & (offsets->slot_count - 1)];
        if (!slot->entry || (slot->hash == hash && slot->entry->key_size == key.size &&
                             memcmp(slot->entry->key, key.data, key.size) == 0))
            return slot;
    }
}

static void resize(struct offsets *offsets, size_t slot_count)
{
    free(offsets->slots);
    offsets->slots = calloc(slot_count, sizeof *offsets->slots);
    pn_assert(offsets->slots);
    offsets->slot_count = slot_count;
    for (struct entry *entry = offsets->first; entry; entry = entry->next) {
        size_t i = entry->hash;
        while (offsets->slots[i & (slot_count - 1)].entry)
            i++;
        offsets->slots[i & (slot_count - 1)] = (struct slot){entry, entry->hash};
    }
}

/* Those behind it that could stand here move up, so that no search ends too early. */
static void free_slot(struct offsets *offsets, struct slot *slot)
{
    const size_t mask = offsets->slot_count - 1;
    size_t hole = (size_t)(slot - offsets->slots);
    for (size_t i = (hole + 1) & mask; offsets->slots[i].entry; i = (i + 1) & mask) {
        size_t home = offsets->slots[i].hash & mask;
        if (((i - home) & mask) < ((i - hole) & mask))
            continue;
        offsets->slots[hole] = offsets->slots[i];
        hole = i;
    }
    offsets->slots[hole].entry = NULL;
}

int offsets_new(struct offsets **ret_offsets)
{
    struct offsets *offsets = calloc(1, sizeof *offsets);
    if (!offsets)
        return -ENOMEM;
    resize(offsets, SLOTS_LEAST);
    *ret_offsets = offsets;
    return 0;
}

void offsets_expect(struct offsets *offsets, uint64_t count)
{
    size_t slot_count = offsets->slot_count;
    while (slot_count < SLOTS_EXPECTED_MOST && slot_count < 2 * count)
        slot_count *= 2;
    if (slot_count > offsets->slot_count)
        resize(offsets, slot_count);
}

static void entry_free(struct offsets *offsets, struct entry *entry)
{
    free_slot(offsets, slot_of(offsets, (struct bytes){(const uint8_t *)entry->key, entry->key_size}, entry->hash));
    *(entry->before ? &entry->before->next : &offsets->first) = entry->next;
    *(entry->next ? &entry->next->before : &offsets->end) = entry->before;
    offsets->count--;
    for (unsigned i = 0; i < entry->count; i++)
        offsets->resets -= entry->queues[i].is_reset;
    if (entry->queues != entry->own)
        free(entry->queues);
    if (offsets->last == entry)
        offsets->last = NULL;
    free(entry);
}

void offsets_free(struct offsets *offsets)
{
    if (!offsets)
        return;
    for (struct entry *entry = offsets->first, *next; entry; entry = next) {
        next = entry->next;
        if (entry->queues != entry->own)
            free(entry->queues);
        free(entry);
    }
    free(offsets->slots);
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
    return key.size ? slot_of(offsets, key, hash_of(key))->entry : NULL;
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

static struct entry *make_entry(struct offsets *offsets, struct bytes key)
{
    uint32_t hash = hash_of(key);
    struct slot *slot = slot_of(offsets, key, hash);
    if (slot->entry)
        return slot->entry;
    struct entry *entry = malloc(sizeof *entry + key.size + 1);
    pn_assert(entry);
    *entry = (struct entry){.before = offsets->end, .hash = hash, .key_size = (uint32_t)key.size, .room = OWN_QUEUES};
    entry->queues = entry->own;
    memcpy(entry->key, key.data, key.size);
    entry->key[key.size] = 0;
    *(offsets->end ? &offsets->end->next : &offsets->first) = entry;
    offsets->end = entry;
    *slot = (struct slot){entry, hash};
    if (2 * ++offsets->count > offsets->slot_count)
        resize(offsets, 2 * offsets->slot_count);
    return entry;
}

static void grow(struct entry *entry)
{
    struct queue_offset *old = entry->queues == entry->own ? NULL : entry->queues;
    entry->room *= 2;
    entry->queues = realloc(old, entry->room * sizeof *entry->queues);
    pn_assert(entry->queues);
    if (!old)
        memcpy(entry->queues, entry->own, sizeof entry->own);
}

void offsets_set(struct offsets *offsets, struct bytes topic_at_group, int32_t queue_id, int64_t offset)
{
    struct entry *entry = offsets->last;
    if (!entry || entry->key_size != topic_at_group.size || memcmp(entry->key, topic_at_group.data, topic_at_group.size))
        entry = offsets->last = make_entry(offsets, topic_at_group);
    unsigned place = place_of(entry, queue_id);
    if (place < entry->count && entry->queues[place].queue_id == queue_id) {
        entry->queues[place].offset = offset;
        return;
    }
    if (entry->count == entry->room)
        grow(entry);
    memmove(&entry->queues[place + 1], &entry->queues[place], (entry->count - place) * sizeof *entry->queues);
    entry->queues[place] = (struct queue_offset){.queue_id = queue_id, .offset = offset};
    entry->count++;
}

void offsets_each(struct offsets *offsets,
                  int64_t (*visit)(const char *topic_at_group, int32_t queue_id, int64_t offset, void *context),
                  void *context)
{
    struct entry *entry, *next;
    FOR_EACH_ENTRY (offsets, entry, next) {
        for (unsigned i = 0; i < entry->count; i++) {
            struct queue_offset *queue = &entry->queues[i];
            queue->offset = visit(entry->key, queue->queue_id, queue->offset, context);
        }
    }
}

/* By topic or group. Whole walks: an administrator's request is rare, and 100,000 entries take some milliseconds. */

static struct bytes key_topic(const struct entry *entry)
{
    const char *at = strchr(entry->key, '@');
    pn_assert(at);
    return (struct bytes){(const uint8_t *)entry->key, (size_t)(at - entry->key)};
}

static struct bytes key_group(const struct entry *entry)
{
    return bytes_of(strchr(entry->key, '@') + 1);
}

void offsets_forget_topic(struct offsets *offsets, struct bytes topic)
{
    struct entry *entry, *next;
    FOR_EACH_ENTRY (offsets, entry, next) {
        if (bytes_equal(key_topic(entry), topic))
            entry_free(offsets, entry);
    }
}

void offsets_forget_group(struct offsets *offsets, struct bytes group)
{
    struct entry *entry, *next;
    FOR_EACH_ENTRY (offsets, entry, next) {
        if (bytes_equal(key_group(entry), group))
            entry_free(offsets, entry);
    }
}

void offsets_each_group(struct offsets *offsets, struct bytes topic, void (*visit)(const char *group, void *context),
                        void *context)
{
    struct entry *entry, *next;
    FOR_EACH_ENTRY (offsets, entry, next) {
        if (bytes_equal(key_topic(entry), topic))
            visit(strchr(entry->key, '@') + 1, context);
    }
}

void offsets_each_reset(struct offsets *offsets,
                        void (*visit)(const char *topic_at_group, int32_t queue_id, int64_t offset, void *context),
                        void *context)
{
    struct entry *entry, *next;
    if (offsets->resets == 0)
        return;
    FOR_EACH_ENTRY (offsets, entry, next) {
        for (unsigned i = 0; i < entry->count; i++)
            if (entry->queues[i].is_reset)
                visit(entry->key, entry->queues[i].queue_id, entry->queues[i].offset, context);
    }
}

static void set_mark(struct offsets *offsets, struct bytes key, int32_t queue_id, bool is_reset)
{
    struct queue_offset *queue = find_queue(find_entry(offsets, key), queue_id);
    if (!queue || queue->is_reset == is_reset)
        return;
    queue->is_reset = is_reset;
    offsets->resets += is_reset ? 1 : -1u;
}

/* Image. */

static void write_record(struct image *image, enum image_type type, struct bytes key, int32_t queue_id, int64_t offset)
{
    struct cursor c = image_begin(image, type);
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
    FOR_EACH_ENTRY (offsets, entry, next) {
        for (unsigned i = 0; i < entry->count; i++)
            write_record(image, entry->queues[i].is_reset ? IMAGE_RESET : IMAGE_OFFSET, bytes_of(entry->key),
                         entry->queues[i].queue_id, entry->queues[i].offset);
    }
    write_version(offsets, image);
}

struct bytes offsets_image_key(struct bytes payload, int32_t *ret_queue_id)
{
    struct cursor c = cursor_over(payload.data, payload.size);
    (void)cursor_get_i64(&c);
    *ret_queue_id = cursor_get_i32(&c);
    struct bytes key = cursor_get_string(&c);
    return c.bad || key.size == 0 || !memchr(key.data, '@', key.size) ? (struct bytes){NULL, 0} : key;
}

int offsets_apply_image(struct store *store, enum image_type type, struct bytes payload)
{
    struct cursor c = cursor_over(payload.data, payload.size);
    if (type == IMAGE_OFFSETS_VERSION) {
        store->offsets->version = data_version_get(&c);
        return c.bad ? -EBADMSG : 0;
    }
    if (type != IMAGE_OFFSET && type != IMAGE_RESET && type != IMAGE_RESET_SEEN)
        return -EBADMSG;
    int64_t offset = cursor_get_i64(&c);
    int32_t queue_id = cursor_get_i32(&c);
    struct bytes key = cursor_get_string(&c);
    if (c.bad || key.size == 0 || memchr(key.data, 0, key.size) || !memchr(key.data, '@', key.size))
        return -EBADMSG;
    if (type != IMAGE_RESET_SEEN)
        offsets_set(store->offsets, key, queue_id, offset);
    if (type != IMAGE_OFFSET)
        set_mark(store->offsets, key, queue_id, type == IMAGE_RESET);
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
    if (queue && queue->is_reset) {
        *ret_remark = "the offset was reset, and the group has not begun there yet";
        return CODE_SUCCESS;
    }
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
    write_record(store->image, IMAGE_OFFSET, key, queue_id, offset);
    board_add(store->board, COUNTER_OFFSETS_COMMITTED, 1);
    config_files_changed(store, CONFIG_FILE_OFFSETS);
    return CODE_SUCCESS;
}

/* It has messages, and everything that was ever in it is still there and not much. */
static bool is_young(struct store *store, const struct topic *topic, int32_t queue_id, bool may_be_empty)
{
    if (!topic || queue_id < 0 || (uint32_t)queue_id >= topic->slot_count)
        return false;
    const struct queue_table *table = store->queue_table;
    const struct queue_slot *slot = &table->slots[topic->slot_base + (uint32_t)queue_id];
    return atomic_load_explicit(&slot->min_offset, memory_order_relaxed) <= 0 &&
           (may_be_empty || atomic_load_explicit(&slot->max_offset, memory_order_relaxed) > 0) &&
           atomic_load_explicit(&table->log_min_pos, memory_order_relaxed) == 0 &&
           atomic_load_explicit(&table->log_written_pos, memory_order_relaxed) < OFFSETS_YOUNG_LOG;
}

int32_t offsets_query(struct store *store, struct bytes group, struct bytes topic, int32_t queue_id, enum offset_guess guess,
                      int64_t *ret_offset, const char **ret_remark)
{
    uint8_t buffer[KEY_MAX];
    const struct queue_offset *queue = find_queue(find_entry(store->offsets, make_key(buffer, topic, group)), queue_id);
    *ret_remark = "";
    *ret_offset = queue ? queue->offset : -1;
    if (*ret_offset >= 0)
        return CODE_SUCCESS;
    if (guess && is_young(store, topics_find(store->topics, topic), queue_id, guess == OFFSET_GUESS_ALSO_EMPTY)) {
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
    struct bytes key = bytes_of(topic_at_group);
    const struct queue_offset *queue = find_queue(find_entry(store->offsets, key), queue_id);
    write_record(store->image, queue && queue->is_reset ? IMAGE_RESET : IMAGE_OFFSET, key, queue_id, max_offset);
    config_files_changed(store, CONFIG_FILE_OFFSETS);
    return max_offset;
}

void offsets_clamp(struct store *store)
{
    offsets_each(store->offsets, clamp_one, store);
}

/* Administration. */

int32_t offsets_reset(struct store *store, struct bytes group, struct bytes topic, int32_t queue_id, int64_t offset,
                      const char **ret_remark)
{
    const struct topic *known = topics_find(store->topics, topic);
    *ret_remark = "";
    if (!known) {
        *ret_remark = "the topic does not exist";
        return CODE_TOPIC_NOT_EXIST;
    }
    if (!groups_find(store->groups, group)) {
        *ret_remark = "the consumer group does not exist";
        return CODE_SUBSCRIPTION_GROUP_NOT_EXIST;
    }
    if (queue_id < 0 || (uint32_t)queue_id >= known->slot_count || offset < 0) {
        *ret_remark = "the topic has no such queue, or the offset is negative";
        return CODE_SYSTEM_ERROR;
    }
    uint8_t buffer[KEY_MAX];
    struct bytes key = make_key(buffer, topic, group);
    if (key.size == 0 || image_make_room(store->image, 1, key.size + 64) < 0) {
        *ret_remark = "no room for more offsets";
        return CODE_SYSTEM_ERROR;
    }
    offsets_set(store->offsets, key, queue_id, offset);
    set_mark(store->offsets, key, queue_id, true);
    write_record(store->image, IMAGE_RESET, key, queue_id, offset);
    catalogue_reset(store, group, topic, queue_id, offset, false);
    config_files_changed(store, CONFIG_FILE_OFFSETS);
    return CODE_SUCCESS;
}

void offsets_reset_seen(struct store *store, struct bytes group, struct bytes topic, int32_t queue_id, int64_t offset)
{
    uint8_t buffer[KEY_MAX];
    struct bytes key = make_key(buffer, topic, group);
    const struct queue_offset *queue = find_queue(find_entry(store->offsets, key), queue_id);
    /* Another number: reset again meanwhile, and that one has not been seen. */
    if (!queue || !queue->is_reset || queue->offset != offset)
        return;
    if (image_make_room(store->image, 1, key.size + 64) < 0)
        return; /* the mark stays, and the next pull is sent there once more */
    set_mark(store->offsets, key, queue_id, false);
    write_record(store->image, IMAGE_RESET_SEEN, key, queue_id, offset);
    catalogue_reset(store, group, topic, queue_id, offset, true);
}

static bool clone_one(struct store *store, const struct entry *from, struct bytes to)
{
    uint8_t buffer[KEY_MAX];
    struct bytes key = make_key(buffer, key_topic(from), to);
    if (key.size == 0 || image_make_room(store->image, from->count, from->count * (key.size + 64)) < 0)
        return false;
    for (unsigned i = 0; i < from->count; i++) {
        const struct queue_offset *queue = &from->queues[i];
        offsets_set(store->offsets, key, queue->queue_id, queue->offset);
        set_mark(store->offsets, key, queue->queue_id, false);
        write_record(store->image, IMAGE_OFFSET, key, queue->queue_id, queue->offset);
    }
    return true;
}

int32_t offsets_clone(struct store *store, struct bytes from, struct bytes to, struct bytes topic,
                      const char **ret_remark)
{
    struct entry *entry, *next;
    bool done = true;
    *ret_remark = "";
    if (bytes_equal(from, to))
        return CODE_SUCCESS;
    FOR_EACH_ENTRY (store->offsets, entry, next) {
        bool wanted = bytes_equal(key_group(entry), from) &&
                      (topic.size == 0 || bytes_equal(key_topic(entry), topic)) &&
                      topics_find(store->topics, key_topic(entry));
        if (wanted)
            done &= clone_one(store, entry, to);
    }
    config_files_changed(store, CONFIG_FILE_OFFSETS);
    if (!done)
        *ret_remark = "no room for more offsets";
    return done ? CODE_SUCCESS : CODE_SYSTEM_ERROR;
}

/* Where a walk over the entries stands: behind the queue of this key; −1: behind all of it. */
struct place {
    struct bytes key;
    int32_t queue_id;
};

/* Adds the entry's queues from `first` on; false if not all had room. `place` moves behind what was added. */
static bool list_queues(struct cursor *c, const struct entry *entry, unsigned first, uint32_t *count,
                        struct place *place)
{
    enum { QUEUE_SIZE = sizeof(int32_t) + sizeof(int64_t) };
    size_t head = 2 + strlen(entry->key) + sizeof(uint32_t), room = (size_t)(c->end - c->pos);
    unsigned fit = room < head ? 0 : (unsigned)((room - head) / QUEUE_SIZE);
    unsigned left = entry->count - first, told = left < fit ? left : fit;
    if (told > 0) {
        cursor_put_string(c, bytes_of(entry->key));
        cursor_put_u32(c, told);
        for (unsigned i = first; i < first + told; i++) {
            cursor_put_i32(c, entry->queues[i].queue_id);
            cursor_put_i64(c, entry->queues[i].offset);
        }
        (*count)++;
        *place = (struct place){bytes_of(entry->key), entry->queues[first + told - 1].queue_id};
    }
    if (told == left)
        *place = (struct place){bytes_of(entry->key), -1};
    return told == left;
}

static bool is_wanted(const struct entry *entry, struct bytes group, struct bytes topic)
{
    return (group.size == 0 || bytes_equal(key_group(entry), group)) &&
           (topic.size == 0 || bytes_equal(key_topic(entry), topic));
}

size_t offsets_list(struct store *store, const struct msg_offset_list *list, struct bytes group, struct bytes topic,
                    struct bytes after, uint8_t *payload)
{
    struct offsets *offsets = store->offsets;
    struct msg_offset_list_answer answer = {.version = {offsets->version.state_version, offsets->version.timestamp_ms,
                                                        offsets->version.counter}};
    uint8_t buffer[KEY_MAX];
    bool is_one = group.size && topic.size;
    struct entry *entry = is_one ? find_entry(offsets, make_key(buffer, topic, group)) : offsets->first;
    struct place place = {{NULL, 0}, -1};
    unsigned first = 0;
    if (after.size) {
        entry = find_entry(offsets, after);
        answer.start_over = answer.more = !entry;
        place = (struct place){after, list->after_queue};
        if (entry && place.queue_id < 0)
            entry = is_one ? NULL : entry->next;
        else if (entry)
            first = place_of(entry, place.queue_id + 1);
    }
    struct cursor c = cursor_over(payload, MSG_OFFSET_LIST_MAX - 2 - KEY_MAX);
    cursor_take(&c, sizeof answer);
    for (unsigned i = 0; entry && i < LIST_VISITS; i++, first = 0) {
        if (!is_wanted(entry, group, topic))
            place = (struct place){bytes_of(entry->key), -1};
        else if (!list_queues(&c, entry, first, &answer.count, &place))
            break;
        entry = is_one ? NULL : entry->next;
    }
    answer.more |= entry != NULL;
    answer.after_queue = place.queue_id;
    c.end = payload + MSG_OFFSET_LIST_MAX;
    cursor_put_string(&c, answer.more && !answer.start_over ? place.key : (struct bytes){NULL, 0});
    pn_assert(!c.bad);
    memcpy(payload, &answer, sizeof answer);
    return (size_t)(c.pos - payload);
}
