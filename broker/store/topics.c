/* Topics of this broker: the table, the rules by which topics come to be, and their queue table slots. Store process,
 * its one thread. The image is the truth for a successor, topics.json for a cold start and for Apache.
 *
 * Order of a change: room in the image → table and slots (the log half copies queues that move) → image record → old
 * slots free → catalogue, name servers, file. Before the record is published nobody outside knows of the change, and
 * the old slot range is still whole; so a death anywhere leaves either the old state or the new one. Nothing is fatal
 * here but our own inconsistency. */
#include "topics.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <uthash.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/panic.h"
#include "catalogue.h"
#include "codes.h"
#include "config_files.h"
#include "journal.h"
#include "msg/names.h"
#include "offsets.h"
#include "registration.h"
#include "topic_attributes.h"
#include "topic_slots.h"

enum {
    PERM_INHERIT = 1,
    PERM_WRITE = 2,
    PERM_READ = 4,
    TOPIC_EXTRA_MAX = MSG_EXTRA_MAX, /* an image record and a cursor string hold it */
    SYS_FLAG_UNIT = 1,
    SYS_FLAG_UNIT_SUB = 2,
};

#define TEMPLATE_TOPIC "TBW102"

struct topic_entry {
    struct topic topic; /* first: visitors get this */
    UT_hash_handle hh;
};

/* Until every record of it in the log is behind dispatched_pos. */
struct dropped_topic {
    char *name;
    int64_t log_pos; /* its records lie before this */
    UT_hash_handle hh;
};

struct topics {
    struct topic_entry *by_name;
    struct dropped_topic *dropped;
    struct topic_slots *slots;
    struct topic **by_slot; /* QUEUE_TABLE_SLOTS; pages of it that no topic reaches cost nothing */
    uint32_t next_generation;
    struct data_version version;
};

int topics_new(struct topics **ret_topics)
{
    struct topics *topics = calloc(1, sizeof *topics);
    if (!topics)
        return -ENOMEM;
    topics->next_generation = 1;
    topics->by_slot = calloc(QUEUE_TABLE_SLOTS, sizeof *topics->by_slot);
    if (!topics->by_slot || topic_slots_new(QUEUE_TABLE_SLOTS, &topics->slots) < 0) {
        topics_free(topics);
        return -ENOMEM;
    }
    *ret_topics = topics;
    return 0;
}

static void dropped_free(struct topics *topics, struct dropped_topic *dropped)
{
    HASH_DEL(topics->dropped, dropped);
    free(dropped->name);
    free(dropped);
}

static void entry_free(struct topic_entry *entry)
{
    free(entry->topic.name);
    free(entry->topic.extra);
    free(entry);
}

void topics_free(struct topics *topics)
{
    if (!topics)
        return;
    struct topic_entry *entry, *next;
    HASH_ITER(hh, topics->by_name, entry, next)
    {
        HASH_DEL(topics->by_name, entry);
        entry_free(entry);
    }
    struct dropped_topic *dropped, *next_dropped;
    HASH_ITER(hh, topics->dropped, dropped, next_dropped)
    dropped_free(topics, dropped);
    topic_slots_free(topics->slots);
    free(topics->by_slot);
    free(topics);
}

static struct topic_entry *find_entry(struct topics *topics, struct bytes name)
{
    struct topic_entry *entry = NULL;
    if (name.size > 0 && name.size <= MSG_TOPIC_MAX)
        HASH_FIND(hh, topics->by_name, name.data, name.size, entry);
    return entry;
}

struct topic *topics_find(struct topics *topics, struct bytes name)
{
    struct topic_entry *entry = find_entry(topics, name);
    return entry ? &entry->topic : NULL;
}

struct topic *topics_of_slot(struct topics *topics, uint32_t slot)
{
    return slot < QUEUE_TABLE_SLOTS ? topics->by_slot[slot] : NULL;
}

int topics_each(struct topics *topics, int (*visit)(struct topic *topic, void *context), void *context)
{
    struct topic_entry *entry, *next;
    HASH_ITER(hh, topics->by_name, entry, next)
    {
        int r = visit(&entry->topic, context);
        if (r != 0)
            return r;
    }
    return 0;
}

struct data_version topics_version(const struct topics *topics)
{
    return topics->version;
}

void topics_set_version(struct topics *topics, const struct data_version *version)
{
    topics->version = *version;
}

/* Dropped ones. */

static struct dropped_topic *find_dropped(struct topics *topics, struct bytes name)
{
    struct dropped_topic *dropped = NULL;
    if (topics->dropped && name.size > 0)
        HASH_FIND(hh, topics->dropped, name.data, name.size, dropped);
    return dropped;
}

bool topics_was_dropped(struct topics *topics, struct bytes name, int64_t pos)
{
    const struct dropped_topic *dropped = find_dropped(topics, name);
    return dropped && pos < dropped->log_pos;
}

void topics_each_dropped(struct topics *topics, void (*visit)(const char *name, void *context), void *context)
{
    struct dropped_topic *dropped, *next;
    HASH_ITER(hh, topics->dropped, dropped, next)
    {
        if (!topics_find(topics, bytes_of(dropped->name)))
            visit(dropped->name, context);
    }
}

static void remember_dropped(struct topics *topics, struct bytes name, int64_t log_pos)
{
    struct dropped_topic *dropped = find_dropped(topics, name);
    if (!dropped) {
        dropped = calloc(1, sizeof *dropped);
        pn_assert(dropped);
        dropped->name = strndup((const char *)name.data, name.size);
        pn_assert(dropped->name);
        HASH_ADD_KEYPTR(hh, topics->dropped, dropped->name, name.size, dropped);
    }
    dropped->log_pos = log_pos;
}

static void forget_dispatched(struct store *store)
{
    int64_t dispatched = atomic_load_explicit(&store->queue_table->dispatched_pos, memory_order_relaxed);
    struct dropped_topic *dropped, *next;
    HASH_ITER(hh, store->topics->dropped, dropped, next)
    {
        if (dropped->log_pos <= dispatched)
            dropped_free(store->topics, dropped);
    }
}

/* Image. */

static void write_drop(struct topics *topics, struct image *image, struct bytes name, int64_t log_pos)
{
    struct cursor c = image_begin(image, IMAGE_TOPIC_DROP);
    data_version_put(&c, &topics->version);
    cursor_put_i64(&c, log_pos);
    cursor_put_string(&c, name);
    image_end(image, &c);
}

static void write_record(struct topics *topics, struct image *image, const struct topic *topic)
{
    struct cursor c = image_begin(image, IMAGE_TOPIC_PUT);
    data_version_put(&c, &topics->version);
    cursor_put_i32(&c, topic->read_queues);
    cursor_put_i32(&c, topic->write_queues);
    cursor_put_i32(&c, topic->perm);
    cursor_put_i32(&c, topic->sys_flag);
    cursor_put_u8(&c, topic->order);
    cursor_put_u8(&c, topic->multi_tag);
    cursor_put_u32(&c, topic->slot_base);
    cursor_put_u32(&c, topic->slot_count);
    cursor_put_u32(&c, topic->slot_generation);
    cursor_put_string(&c, bytes_of(topic->name));
    cursor_put_string(&c, bytes_of(topic->extra ? topic->extra : ""));
    image_end(image, &c);
}

static void write_version(struct topics *topics, struct image *image)
{
    struct cursor c = image_begin(image, IMAGE_TOPICS_VERSION);
    data_version_put(&c, &topics->version);
    cursor_put_u32(&c, topics->next_generation);
    image_end(image, &c);
}

static int tell_version(struct topic *topic, void *context)
{
    catalogue_topic(context, topic);
    return 1;
}

void topics_next_version(struct store *store)
{
    data_version_next(&store->topics->version);
    write_version(store->topics, store->image);
    config_files_changed(store, CONFIG_FILE_TOPICS);
    /* Fronts register with name servers too; each topic's record carries the version. */
    (void)topics_each(store->topics, tell_version, store);
}

void topics_write_image(struct topics *topics, struct image *image)
{
    /* First, since a drop read back takes a topic and its offsets away: those of the name that are there again follow. */
    struct dropped_topic *dropped, *next_dropped;
    HASH_ITER(hh, topics->dropped, dropped, next_dropped)
    write_drop(topics, image, bytes_of(dropped->name), dropped->log_pos);
    struct topic_entry *entry, *next;
    HASH_ITER(hh, topics->by_name, entry, next)
    write_record(topics, image, &entry->topic);
    write_version(topics, image);
}

static struct topic_entry *new_entry(struct topics *topics, struct bytes name)
{
    struct topic_entry *entry = calloc(1, sizeof *entry);
    pn_assert(entry);
    entry->topic.name = strndup((const char *)name.data, name.size);
    pn_assert(entry->topic.name);
    HASH_ADD_KEYPTR(hh, topics->by_name, entry->topic.name, name.size, entry);
    return entry;
}

static void set_extra(struct topic *topic, const char *extra, size_t size)
{
    free(topic->extra);
    topic->extra = size ? strndup(extra, size) : NULL;
    pn_assert(!size || topic->extra);
}

static bool is_usable(struct bytes name)
{
    return name.size > 0 && name.size <= MSG_TOPIC_MAX && !memchr(name.data, 0, name.size);
}

static int read_put(struct cursor *c, struct data_version *ret_version, struct topic *ret_topic, struct bytes *ret_name,
                    struct bytes *ret_extra)
{
    *ret_version = data_version_get(c);
    ret_topic->read_queues = cursor_get_i32(c);
    ret_topic->write_queues = cursor_get_i32(c);
    ret_topic->perm = cursor_get_i32(c);
    ret_topic->sys_flag = cursor_get_i32(c);
    ret_topic->order = cursor_get_u8(c);
    ret_topic->multi_tag = cursor_get_u8(c);
    ret_topic->slot_base = cursor_get_u32(c);
    ret_topic->slot_count = cursor_get_u32(c);
    ret_topic->slot_generation = cursor_get_u32(c);
    *ret_name = cursor_get_string(c);
    *ret_extra = cursor_get_string(c);
    return c->bad || !is_usable(*ret_name) ? -EBADMSG : 0;
}

static int apply_put(struct topics *topics, struct cursor *c)
{
    struct topic read = {0};
    struct data_version version;
    struct bytes name, extra;
    if (read_put(c, &version, &read, &name, &extra) < 0)
        return -EBADMSG;
    struct topic_entry *entry = find_entry(topics, name);
    if (!entry)
        entry = new_entry(topics, name);
    read.name = entry->topic.name;
    read.extra = entry->topic.extra;
    entry->topic = read;
    set_extra(&entry->topic, (const char *)extra.data, extra.size);
    topics->version = version;
    if (read.slot_generation >= topics->next_generation)
        topics->next_generation = read.slot_generation + 1;
    return 0;
}

static int read_drop(struct cursor *c, struct data_version *ret_version, int64_t *ret_log_pos, struct bytes *ret_name)
{
    *ret_version = data_version_get(c);
    *ret_log_pos = cursor_get_i64(c);
    *ret_name = cursor_get_string(c);
    return c->bad || !is_usable(*ret_name) ? -EBADMSG : 0;
}

struct bytes topics_image_name(enum image_type type, struct bytes payload)
{
    struct cursor c = cursor_over(payload.data, payload.size);
    struct data_version version;
    struct topic read;
    struct bytes name = {NULL, 0}, extra;
    int64_t log_pos;
    int r = type == IMAGE_TOPIC_PUT    ? read_put(&c, &version, &read, &name, &extra)
            : type == IMAGE_TOPIC_DROP ? read_drop(&c, &version, &log_pos, &name)
                                       : -EBADMSG;
    return r < 0 ? (struct bytes){NULL, 0} : name;
}

/* What a record says was dropped; *ret_entry is the caller's to free, if there is one. */
static int take_dropped(struct store *store, struct cursor *c, struct bytes *ret_name, struct topic_entry **ret_entry)
{
    struct topics *topics = store->topics;
    struct data_version version;
    int64_t log_pos;
    if (read_drop(c, &version, &log_pos, ret_name) < 0)
        return -EBADMSG;
    *ret_entry = find_entry(topics, *ret_name);
    if (*ret_entry)
        HASH_DEL(topics->by_name, *ret_entry);
    remember_dropped(topics, *ret_name, log_pos);
    topics->version = version;
    return 0;
}

static int apply_drop(struct store *store, struct cursor *c)
{
    struct bytes name;
    struct topic_entry *entry;
    int r = take_dropped(store, c, &name, &entry);
    if (r < 0)
        return r;
    if (entry)
        entry_free(entry);
    offsets_forget_topic(store->offsets, name);
    return 0;
}

int topics_apply_image(struct store *store, enum image_type type, struct bytes payload)
{
    struct cursor c = cursor_over(payload.data, payload.size);
    if (type == IMAGE_TOPIC_PUT)
        return apply_put(store->topics, &c);
    if (type == IMAGE_TOPIC_DROP)
        return apply_drop(store, &c);
    if (type != IMAGE_TOPICS_VERSION)
        return -EBADMSG;
    store->topics->version = data_version_get(&c);
    uint32_t next_generation = cursor_get_u32(&c);
    if (next_generation > store->topics->next_generation)
        store->topics->next_generation = next_generation;
    return c.bad ? -EBADMSG : 0;
}

int topics_loaded(struct store *store)
{
    struct topics *topics = store->topics;
    struct topic_entry *entry, *next;
    HASH_ITER(hh, topics->by_name, entry, next)
    {
        struct topic *topic = &entry->topic;
        if (topic_slots_claim(topics->slots, topic->slot_base, topic->slot_count) < 0)
            return -EBADMSG;
        for (uint32_t i = 0; i < topic->slot_count; i++)
            topics->by_slot[topic->slot_base + i] = topic;
    }
    return 0;
}

/* Slots. */

/* A generation that none of these slots had before, also where a predecessor gave them away and died before the image
 * knew of it. */
static uint32_t fresh_generation(struct store *store, uint32_t base, uint32_t count)
{
    uint32_t generation = store->topics->next_generation;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t old = atomic_load_explicit(&store->queue_table->slots[base + i].generation, memory_order_relaxed);
        if (old >= generation)
            generation = old + 1;
    }
    pn_assert(generation != 0);
    store->topics->next_generation = generation + 1;
    return generation;
}

static void assign_slots(struct store *store, struct topic *topic, uint32_t base, uint32_t count)
{
    uint32_t old_base = topic->slot_base, old_count = topic->slot_count;
    topic->slot_base = base;
    topic->slot_count = count;
    topic->slot_generation = fresh_generation(store, base, count);
    for (uint32_t i = 0; i < count; i++)
        store->topics->by_slot[base + i] = topic;
    if (store->consume_queues)
        consume_queues_slots_assigned(store, topic, old_base, old_count);
}

static void free_slots(struct store *store, uint32_t base, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        store->topics->by_slot[base + i] = NULL;
        atomic_store_explicit(&store->queue_table->slots[base + i].generation, 0, memory_order_release);
    }
    topic_slots_give(store->topics->slots, base, count);
}

/* Changes. */

static bool is_so_already(const struct topic *topic, const struct topic_wish *wish, uint32_t slots)
{
    return topic->read_queues == wish->read_queues && topic->write_queues == wish->write_queues &&
           topic->perm == wish->perm && topic->sys_flag == wish->sys_flag && topic->order == wish->order &&
           topic->multi_tag == wish->multi_tag && slots <= topic->slot_count &&
           strcmp(topic->extra ? topic->extra : "", wish->extra ? wish->extra : "") == 0;
}

static bool in_bounds(const struct topic_wish *wish)
{
    int32_t limit = QUEUE_TABLE_SLOTS;
    return wish->read_queues >= 0 && wish->read_queues <= limit && wish->write_queues >= 0 &&
           wish->write_queues <= limit && wish->least_slots >= 0 && wish->least_slots <= limit &&
           (!wish->extra || strlen(wish->extra) <= TOPIC_EXTRA_MAX);
}

static uint32_t slots_of(const struct topic_wish *wish)
{
    int32_t most = wish->read_queues > wish->write_queues ? wish->read_queues : wish->write_queues;
    return (uint32_t)(most > wish->least_slots ? most : wish->least_slots);
}

int topics_put(struct store *store, const struct topic_wish *wish, struct topic **ret_topic)
{
    struct topics *topics = store->topics;
    if (!in_bounds(wish) || wish->name.size == 0 || wish->name.size > MSG_TOPIC_MAX)
        return -EINVAL;
    struct topic_entry *entry = find_entry(topics, wish->name);
    uint32_t slots = slots_of(wish), base = 0;
    if (entry && is_so_already(&entry->topic, wish, slots)) {
        *ret_topic = &entry->topic;
        return 0;
    }
    int r = image_make_room(store->image, 1, wish->name.size + (wish->extra ? strlen(wish->extra) : 0) + 128);
    if (r < 0)
        return r;
    bool needs_slots = slots > (entry ? entry->topic.slot_count : 0);
    if (needs_slots) {
        r = topic_slots_take(topics->slots, slots, &base);
        if (r < 0)
            return r;
    }
    if (!entry)
        entry = new_entry(topics, wish->name);
    struct topic *topic = &entry->topic;
    uint32_t old_base = topic->slot_base, old_count = topic->slot_count;
    topic->read_queues = wish->read_queues;
    topic->write_queues = wish->write_queues;
    topic->perm = wish->perm;
    topic->sys_flag = wish->sys_flag;
    topic->order = wish->order;
    topic->multi_tag = wish->multi_tag;
    if (wish->extra != topic->extra)
        set_extra(topic, wish->extra, wish->extra ? strlen(wish->extra) : 0);
    if (needs_slots)
        assign_slots(store, topic, base, slots);

    data_version_next(&topics->version);
    write_record(topics, store->image, topic);
    if (needs_slots)
        free_slots(store, old_base, old_count);
    catalogue_topic(store, topic);
    registration_topic(store, topic);
    config_files_changed(store, CONFIG_FILE_TOPICS);
    *ret_topic = topic;
    return 0;
}

/* Journal: as the image's records, but slots are given anew. */

static int load_put(struct store *store, struct cursor *c)
{
    struct topic read = {0}, *topic;
    struct data_version version;
    struct bytes name, extra;
    if (read_put(c, &version, &read, &name, &extra) < 0)
        return -EBADMSG;
    PN_FREE char *text = strndup((const char *)extra.data, extra.size);
    pn_assert(text);
    struct topic_wish wish = {.name = name,
                              .read_queues = read.read_queues,
                              .write_queues = read.write_queues,
                              .perm = read.perm,
                              .sys_flag = read.sys_flag,
                              .order = read.order,
                              .multi_tag = read.multi_tag,
                              .extra = extra.size ? text : NULL,
                              .least_slots = (int32_t)read.slot_count};
    int r = topics_put(store, &wish, &topic);
    store->topics->version = version;
    return r == -EINVAL ? -EBADMSG : r;
}

static int load_drop(struct store *store, struct cursor *c)
{
    struct bytes name;
    struct topic_entry *entry;
    int r = take_dropped(store, c, &name, &entry);
    if (r < 0 || !entry)
        return r;
    free_slots(store, entry->topic.slot_base, entry->topic.slot_count);
    entry_free(entry);
    return 0;
}

int topics_apply_journal(struct store *store, enum image_type type, struct bytes payload)
{
    struct cursor c = cursor_over(payload.data, payload.size);
    if (type == IMAGE_TOPIC_PUT)
        return load_put(store, &c);
    if (type == IMAGE_TOPIC_DROP)
        return load_drop(store, &c);
    return topics_apply_image(store, type, payload);
}

bool topics_forget_dropped(struct topics *topics)
{
    bool any = topics->dropped;
    struct dropped_topic *dropped, *next;
    HASH_ITER(hh, topics->dropped, dropped, next)
    dropped_free(topics, dropped);
    return any;
}

/* Rules. */

static int32_t refused(int r, const char **ret_remark)
{
    *ret_remark = r == -EINVAL ? "queue numbers or attributes out of bounds" : "no room for more topics or queues";
    return r == -EINVAL ? CODE_INVALID_PARAMETER : CODE_SYSTEM_ERROR;
}

int32_t topics_auto_create(struct store *store, struct bytes name, struct bytes default_topic, int32_t queues,
                           bool unit_mode, struct topic **ret_topic, const char **ret_remark)
{
    *ret_remark = "";
    *ret_topic = topics_find(store->topics, name);
    if (*ret_topic)
        return CODE_SUCCESS;
    if (!name_topic_valid(name)) {
        *ret_remark = "the topic's name is empty, too long or has other characters than %|a-zA-Z0-9_-";
        return CODE_INVALID_PARAMETER;
    }
    if (store->journal && journal_error(store->journal) < 0) { /* it could not be promised */
        *ret_remark = journal_error_text(store->journal);
        return CODE_SYSTEM_ERROR;
    }
    struct topic_wish wish = {.name = name, .sys_flag = unit_mode ? SYS_FLAG_UNIT : 0};
    if (name_has_prefix(name, "%RETRY%")) {
        wish.read_queues = wish.write_queues = 1;
        wish.perm = PERM_READ | PERM_WRITE;
        wish.sys_flag = unit_mode ? SYS_FLAG_UNIT_SUB : 0;
    } else {
        const struct topic *template = topics_find(store->topics, default_topic);
        bool closed = bytes_equal_text(default_topic, TEMPLATE_TOPIC) && !store->config.auto_create_topic;
        if (!template || !(template->perm & PERM_INHERIT) || closed) {
            *ret_remark = "the topic does not exist, and the default topic gives no leave to create it";
            return CODE_TOPIC_NOT_EXIST;
        }
        int32_t least = queues < template->write_queues ? queues : template->write_queues;
        wish.read_queues = wish.write_queues = least < 0 ? 0 : least;
        wish.perm = template->perm & ~PERM_INHERIT;
        wish.multi_tag = template->multi_tag;
    }
    int r = topics_put(store, &wish, ret_topic);
    return r < 0 ? refused(r, ret_remark) : CODE_SUCCESS;
}

static struct topic_wish wish_of(const struct topic *topic)
{
    return (struct topic_wish){.name = bytes_of(topic->name),
                               .read_queues = topic->read_queues,
                               .write_queues = topic->write_queues,
                               .perm = topic->perm,
                               .sys_flag = topic->sys_flag,
                               .order = topic->order,
                               .multi_tag = topic->multi_tag,
                               .extra = topic->extra,
                               .least_slots = (int32_t)topic->slot_count};
}

int topics_ensure_recovered(struct store *store, struct bytes name, int32_t queues, struct topic **ret_topic)
{
    const struct topic *topic = topics_find(store->topics, name);
    struct topic_wish wish = {
        .name = name, .read_queues = queues, .write_queues = queues, .perm = PERM_READ | PERM_WRITE};
    if (topic) {
        wish = wish_of(topic);
        if (queues > wish.least_slots)
            wish.least_slots = queues;
    }
    return topics_put(store, &wish, ret_topic);
}

int topics_ensure_retry(struct store *store, struct bytes group, int32_t queues, int32_t sys_flag)
{
    char name[MSG_TOPIC_MAX + 1];
    int size = snprintf(name, sizeof name, "%%RETRY%%%.*s", (int)group.size, (const char *)group.data);
    if (size < 0 || (size_t)size >= sizeof name)
        return -EINVAL;
    struct topic *topic = topics_find(store->topics, bytes_of(name));
    if (topic)
        return 0;
    struct topic_wish wish = {.name = bytes_of(name),
                              .read_queues = queues,
                              .write_queues = queues,
                              .perm = PERM_READ | PERM_WRITE,
                              .sys_flag = sys_flag};
    return topics_put(store, &wish, &topic);
}

int32_t topics_admin_put(struct store *store, const struct msg_topic_put *put, struct bytes name,
                         struct bytes attributes, const char **ret_remark)
{
    *ret_remark = "";
    if (!name_topic_valid(name)) {
        *ret_remark = "the topic's name is empty, too long or has other characters than %|a-zA-Z0-9_-";
        return CODE_INVALID_PARAMETER;
    }
    if (name_is_system_topic(name) || bytes_equal_text(name, store->config.cluster_name) ||
        bytes_equal_text(name, store->config.broker_name)) {
        *ret_remark = "the topic's name is that of a system topic";
        return CODE_INVALID_PARAMETER;
    }
    static const char mixed[] = "+message.type=MIXED";
    if (attributes.size && memmem(attributes.data, attributes.size, mixed, sizeof mixed - 1)) {
        *ret_remark = "MIXED message type is not supported.";
        return CODE_INVALID_PARAMETER;
    }
    struct topic *topic = topics_find(store->topics, name);
    struct topic_wish wish = {.name = name,
                              .read_queues = put->read_queues,
                              .write_queues = put->write_queues,
                              .perm = put->perm,
                              .sys_flag = put->topic_sys_flag,
                              .order = put->order,
                              .multi_tag = put->multi_tag,
                              .least_slots = topic ? (int32_t)topic->slot_count : 0};
    char *extra = NULL;
    int r = topic_attributes_change(topic ? topic->extra : NULL, attributes, !topic, &extra, ret_remark);
    if (r < 0)
        return CODE_SYSTEM_ERROR;
    wish.extra = extra;
    r = topics_put(store, &wish, &topic);
    free(extra);
    return r < 0 ? refused(r, ret_remark) : CODE_SUCCESS;
}

/* One record takes topic and offsets away, so that a store killed anywhere has both or neither. */
static int drop(struct store *store, struct topic_entry *entry)
{
    struct topics *topics = store->topics;
    struct bytes name = bytes_of(entry->topic.name);
    int r = image_make_room(store->image, 1, name.size + 64);
    if (r < 0)
        return r;
    forget_dispatched(store);
    /* What is in the log already and not in the queues yet must not make the topic anew. */
    int64_t log_pos = atomic_load_explicit(&store->queue_table->log_written_pos, memory_order_relaxed);
    remember_dropped(topics, name, log_pos);
    offsets_forget_topic(store->offsets, name);
    data_version_next(&topics->version);
    HASH_DEL(topics->by_name, entry);
    write_drop(topics, store->image, name, log_pos);
    if (store->consume_queues)
        consume_queues_topic_dropped(store, &entry->topic);
    free_slots(store, entry->topic.slot_base, entry->topic.slot_count);
    catalogue_topic_drop(store, &entry->topic);
    registration_topics(store);
    config_files_changed(store, CONFIG_FILE_TOPICS);
    config_files_changed(store, CONFIG_FILE_OFFSETS);
    entry_free(entry);
    return 0;
}

struct retry_topics {
    struct topics *topics;
    struct bytes topic;
    struct topic_entry **list;
    unsigned count;
};

static void add_retry_topics(const char *group, void *context)
{
    struct retry_topics *retry = context;
    for (const char *mark = "_+"; *mark; mark++) {
        char name[MSG_TOPIC_MAX + 1];
        int size = snprintf(name, sizeof name, "%%RETRY%%%s%c%.*s", group, *mark, (int)retry->topic.size,
                            (const char *)retry->topic.data);
        struct topic_entry *entry =
            size < 0 || (size_t)size >= sizeof name ? NULL : find_entry(retry->topics, bytes_of(name));
        if (!entry)
            continue;
        retry->list = realloc(retry->list, (retry->count + 1) * sizeof *retry->list);
        pn_assert(retry->list);
        retry->list[retry->count++] = entry;
    }
}

int32_t topics_admin_drop(struct store *store, struct bytes name, const char **ret_remark)
{
    *ret_remark = "";
    if (name.size == 0) {
        *ret_remark = "the topic's name is missing";
        return CODE_INVALID_PARAMETER;
    }
    if (name_is_system_topic(name) || bytes_equal_text(name, store->config.cluster_name) ||
        bytes_equal_text(name, store->config.broker_name)) {
        *ret_remark = "the topic is a system topic";
        return CODE_INVALID_PARAMETER;
    }
    struct topic_entry *entry = find_entry(store->topics, name);
    if (!entry)
        return CODE_SUCCESS; /* as with Apache; also a successor that does it again */
    struct retry_topics retry = {.topics = store->topics, .topic = name};
    offsets_each_group(store->offsets, name, add_retry_topics, &retry);
    int r = 0;
    for (unsigned i = 0; i < retry.count && r == 0; i++)
        r = drop(store, retry.list[i]);
    free(retry.list);
    if (r == 0)
        r = drop(store, entry);
    return r < 0 ? refused(r, ret_remark) : CODE_SUCCESS;
}

/* 5.3.3's list. RMQ_SYS_TRACE_TOPIC is made by the first trace message unless traceTopicEnable, which we do not have.
 */
int topics_make_system(struct store *store)
{
    const struct store_config *config = &store->config;
    char reply[512], revive[512], sync[512];
    snprintf(reply, sizeof reply, "%s_REPLY_TOPIC", config->cluster_name);
    snprintf(revive, sizeof revive, "rmq_sys_REVIVE_LOG_%s", config->cluster_name);
    snprintf(sync, sizeof sync, "rmq_sys_SYNC_BROKER_MEMBER_%s", config->broker_name);
    const struct {
        const char *name;
        int32_t queues, perm;
    } list[] = {
        {"SELF_TEST_TOPIC", 1, 6},
        {config->auto_create_topic ? TEMPLATE_TOPIC : NULL, config->default_topic_queues, 7},
        {"BenchmarkTest", 1024, 6},
        {config->cluster_name, 16, 7},
        {config->broker_name, 1, 7},
        {"OFFSET_MOVED_EVENT", 1, 6},
        {"SCHEDULE_TOPIC_XXXX", 18, 6},
        {reply, 1, 6},
        {revive, 8, 6},
        {sync, 1, 1},
        {"RMQ_SYS_TRANS_HALF_TOPIC", 1, 6},
        {"RMQ_SYS_TRANS_OP_HALF_TOPIC", 1, 6},
        {"rmq_sys_wheel_timer", 1, 6},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        if (!list[i].name || topics_find(store->topics, bytes_of(list[i].name)))
            continue;
        struct topic_wish wish = {.name = bytes_of(list[i].name),
                                  .read_queues = list[i].queues,
                                  .write_queues = list[i].queues,
                                  .perm = list[i].perm};
        struct topic *topic;
        int r = topics_put(store, &wish, &topic);
        if (r < 0) {
            log_error("cannot make system topic %s: %s", list[i].name, strerror(-r));
            return r;
        }
    }
    return 0;
}
