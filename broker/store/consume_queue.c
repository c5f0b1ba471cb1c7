/* Consume queues in memory: who writes what where, and when it becomes readable (see consume_queue.h). The files' side is
 * consume_queue_file.c. Runs in the store on its deciding thread. */
#include "consume_queue.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <utlist.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/panic.h"
#include "consume_queue_file.h"
#include "file_layer.h"
#include "broker/format/layout.h"
#include "remover.h"
#include "topics.h"

enum { SYNCS_EACH = 64 }; /* more files than that: one sync of the file system */

struct consume_queues *consume_queues_make(struct store *store)
{
    struct consume_queues *queues = calloc(1, sizeof *queues);
    if (!queues)
        return NULL;
    queues->by_slot = calloc(QUEUE_TABLE_SLOTS, sizeof(struct consume_queue *));
    if (remover_new(store->config.store_root, &queues->remover) < 0) {
        free(queues->by_slot);
        free(queues);
        return NULL;
    }
    if (!queues->by_slot || asprintf(&queues->folder, "%s/consumequeue", store->config.store_root) < 0) {
        remover_free(queues->remover);
        free(queues->by_slot);
        free(queues);
        return NULL;
    }
    queues->store = store;
    queues->file_size = store->config.consume_queue_file_size;
    queues->log_end = -1;
    queues->trusted_pos = INT64_MAX;
    return queues;
}

static void queue_free(struct consume_queues *queues, struct consume_queue *queue)
{
    consume_queue_file_close(queues, queue);
    free(queue);
}

void consume_queues_free(struct consume_queues *queues)
{
    if (!queues)
        return;
    remover_free(queues->remover);
    for (uint32_t slot = 0; slot < queues->slot_end; slot++)
        if (queues->by_slot[slot])
            queue_free(queues, queues->by_slot[slot]);
    for (unsigned i = 0; i < queues->rolled_count; i++)
        close(queues->rolled_fds[i]);
    free(queues->dirty);
    free(queues->touched);
    free(queues->entries);
    free(queues->scratch);
    free(queues->folder);
    free(queues->by_slot);
    free(queues);
}

static struct consume_queue *queue_new(struct consume_queues *queues, uint32_t slot, uint32_t queue_id)
{
    struct consume_queue *queue = calloc(1, sizeof *queue);
    if (!queue)
        return NULL;
    queue->slot = slot;
    queue->queue_id = (int32_t)queue_id;
    queue->fd = -1;
    queue->log_end = queue->scan_next = -1;
    queues->by_slot[slot] = queue;
    if (slot >= queues->slot_end)
        queues->slot_end = slot + 1;
    return queue;
}

static struct queue_slot *slot_of(const struct consume_queues *queues, uint32_t slot)
{
    return &queues->store->queue_table->slots[slot];
}

/* What readers see of a queue, as of now; the generation is the caller's to make visible. */
static void slot_publish(struct consume_queues *queues, const struct consume_queue *queue)
{
    struct queue_slot *slot = slot_of(queues, queue->slot);
    slot->queue_id = (uint32_t)queue->queue_id;
    atomic_store_explicit(&slot->last_store_ms, queue->last_store_ms, memory_order_relaxed);
    atomic_store_explicit(&slot->min_offset, queue->min_offset, memory_order_relaxed);
    atomic_store_explicit(&slot->put_bytes, queue->put_bytes, memory_order_relaxed);
    /* Pairs with the readers' acquire: the entries are in the files before this. */
    atomic_store_explicit(&slot->max_offset, queue->written_offset, memory_order_release);
}

struct consume_queue *consume_queues_get(struct consume_queues *queues, uint32_t slot)
{
    pn_assert(slot < QUEUE_TABLE_SLOTS);
    struct consume_queue *queue = queues->by_slot[slot];
    if (queue)
        return queue;
    struct queue_slot *shared = slot_of(queues, slot);
    queue = queue_new(queues, slot, shared->queue_id);
    if (!queue)
        return NULL;
    queue->written_offset = atomic_load_explicit(&shared->max_offset, memory_order_relaxed);
    queue->next_offset = queue->written_offset;
    queue->min_offset = atomic_load_explicit(&shared->min_offset, memory_order_relaxed);
    queue->last_store_ms = atomic_load_explicit(&shared->last_store_ms, memory_order_relaxed);
    queue->put_bytes = atomic_load_explicit(&shared->put_bytes, memory_order_relaxed);
    return queue;
}

void consume_queues_set_min(struct consume_queues *queues, uint32_t slot, uint32_t generation, int64_t min_offset)
{
    struct queue_slot *shared = slot_of(queues, slot);
    if (atomic_load_explicit(&shared->generation, memory_order_relaxed) != generation ||
        atomic_load_explicit(&shared->min_offset, memory_order_relaxed) >= min_offset)
        return;
    if (queues->by_slot[slot])
        queues->by_slot[slot]->min_offset = min_offset;
    atomic_store_explicit(&shared->min_offset, min_offset, memory_order_release);
}

struct remover *consume_queues_remover(struct consume_queues *queues)
{
    return queues->remover;
}

/* A slot whose queue nobody has seen before: what the files say, if there are any. */
static int slot_begin(struct consume_queues *queues, struct topic *topic, uint32_t queue_id, bool look_at_files)
{
    uint32_t slot = topic->slot_base + queue_id;
    if (queues->by_slot[slot]) {
        queue_free(queues, queues->by_slot[slot]);
        queues->by_slot[slot] = NULL;
    }
    struct queue_slot *shared = slot_of(queues, slot);
    atomic_store_explicit(&shared->generation, 0, memory_order_release);
    shared->queue_id = queue_id;
    atomic_store_explicit(&shared->max_offset, 0, memory_order_relaxed);
    atomic_store_explicit(&shared->min_offset, 0, memory_order_relaxed);
    atomic_store_explicit(&shared->last_store_ms, 0, memory_order_relaxed);
    atomic_store_explicit(&shared->put_bytes, 0, memory_order_relaxed);
    int r = 0;
    if (look_at_files) {
        struct consume_queue *queue = queue_new(queues, slot, queue_id);
        if (!queue)
            return -ENOMEM;
        r = consume_queue_file_load(queues, queue, topic->name);
        if (r == -EUCLEAN) {
            queues->damaged = true;
            r = consume_queue_file_remove_all(queues, queue, topic->name);
        }
        if (r < 0)
            return r;
        slot_publish(queues, queue);
    }
    atomic_store_explicit(&shared->generation, topic->slot_generation, memory_order_release);
    return 0;
}

void consume_queues_slots_assigned(struct store *store, struct topic *topic, uint32_t old_base, uint32_t old_count)
{
    struct consume_queues *queues = store->consume_queues;
    bool files = topic->slot_count > old_count && consume_queue_file_topic_exists(queues, topic->name);
    for (uint32_t n = 0; n < topic->slot_count; n++) {
        if (n >= old_count) {
            int r = slot_begin(queues, topic, n, files);
            if (r < 0) /* an unreadable folder of queues: writing on would give offsets away twice */
                PANIC("queue %s/%u: %s", topic->name, n, strerror(-r));
            continue;
        }
        if (old_base == topic->slot_base) {
            atomic_store_explicit(&slot_of(queues, old_base + n)->generation, topic->slot_generation,
                                  memory_order_release);
            continue;
        }
        struct consume_queue *queue = consume_queues_get(queues, old_base + n);
        pn_assert(queue);
        uint32_t slot = topic->slot_base + n;
        pn_assert(!queues->by_slot[slot]);
        queues->by_slot[old_base + n] = NULL;
        queue->slot = slot;
        queues->by_slot[slot] = queue;
        if (slot >= queues->slot_end)
            queues->slot_end = slot + 1;
        struct queue_slot *from = slot_of(queues, old_base + n), *to = slot_of(queues, slot);
        to->queue_id = from->queue_id;
        atomic_store_explicit(&to->min_offset, atomic_load(&from->min_offset), memory_order_relaxed);
        atomic_store_explicit(&to->last_store_ms, atomic_load(&from->last_store_ms), memory_order_relaxed);
        atomic_store_explicit(&to->put_bytes, atomic_load(&from->put_bytes), memory_order_relaxed);
        atomic_store_explicit(&to->max_offset, atomic_load(&from->max_offset), memory_order_release);
        atomic_store_explicit(&to->generation, topic->slot_generation, memory_order_release);
    }
}

static void list_remove(struct consume_queue **list, unsigned *count, const struct consume_queue *queue)
{
    for (unsigned i = 0; i < *count; i++)
        if (list[i] == queue) {
            list[i] = list[--*count];
            return;
        }
}

static void abandon(const char *name, void *context)
{
    int r = consume_queue_file_abandon(context, name);
    if (r < 0) /* a new topic of this name would take its messages for its own */
        PANIC("the queues of topic %s, which was dropped, cannot be moved away: %s", name, strerror(-r));
}

void consume_queues_topic_dropped(struct store *store, const struct topic *topic)
{
    struct consume_queues *queues = store->consume_queues;
    for (uint32_t slot = topic->slot_base; slot < topic->slot_base + topic->slot_count; slot++) {
        struct consume_queue *queue = queues->by_slot[slot];
        if (!queue)
            continue;
        queues->by_slot[slot] = NULL;
        list_remove(queues->touched, &queues->touched_count, queue);
        list_remove(queues->dirty, &queues->dirty_count, queue);
        queue_free(queues, queue);
    }
    abandon(topic->name, queues);
}

int consume_queues_clean_unused(struct store *store)
{
    struct consume_queues *queues = store->consume_queues;
    DIR *dir = opendir(queues->folder);
    if (!dir)
        return errno == ENOENT ? 0 : -errno;
    int r = 0;
    struct dirent *entry;
    while (r == 0 && (entry = readdir(dir))) {
        if (entry->d_name[0] == '.' || entry->d_type == DT_REG || topics_find(store->topics, bytes_of(entry->d_name)))
            continue;
        log_info("queue folder %s belongs to no topic and goes", entry->d_name);
        r = consume_queue_file_abandon(queues, entry->d_name);
    }
    closedir(dir);
    return r;
}

static int trim_topic(struct topic *topic, void *context)
{
    struct consume_queues *queues = context;
    int r = 0;
    for (uint32_t n = 0; r == 0 && n < topic->slot_count; n++) {
        const struct queue_slot *slot = slot_of(queues, topic->slot_base + n);
        int64_t min = atomic_load_explicit(&slot->min_offset, memory_order_relaxed);
        int64_t max = atomic_load_explicit(&slot->max_offset, memory_order_relaxed);
        /* The file of the last entry stays, expired or not: a cold start learns from it which offset is next. */
        int64_t pos = (min < max ? min : max - 1) * QUEUE_ENTRY_SIZE, file_pos = pos - pos % queues->file_size;
        if (file_pos <= 0)
            continue;
        char path[4096];
        snprintf(path, sizeof path, "%s/%s/%u", queues->folder, topic->name, n);
        r = remover_trim(queues->remover, path, file_pos);
    }
    return r;
}

int consume_queues_clean_expired(struct store *store)
{
    return topics_each(store->topics, trim_topic, store->consume_queues);
}

struct open_context {
    struct consume_queues *queues;
    bool warm;
};

static int topic_begin(struct topic *topic, void *context)
{
    struct open_context *open = context;
    int files = -1; /* unknown */
    for (uint32_t n = 0; n < topic->slot_count; n++) {
        struct queue_slot *slot = slot_of(open->queues, topic->slot_base + n);
        if (open->warm && atomic_load_explicit(&slot->generation, memory_order_acquire) == topic->slot_generation)
            continue;
        if (files < 0)
            files = open->warm && consume_queue_file_topic_exists(open->queues, topic->name);
        int r = slot_begin(open->queues, topic, n, files > 0);
        if (r < 0)
            return r;
    }
    return 0;
}

/* One topic's folder found on disk: its topic may be unknown (its file was lost), or have fewer queues. */
static int topic_folder_load(struct consume_queues *queues, const char *name)
{
    PN_FREE int32_t *ids = NULL;
    unsigned count = 0;
    int r = consume_queue_file_list_queues(queues, name, &ids, &count);
    if (r < 0 || count == 0)
        return r;
    int32_t most = 0;
    for (unsigned i = 0; i < count; i++)
        most = ids[i] > most ? ids[i] : most;
    struct topic *topic = topics_find(queues->store->topics, bytes_of(name));
    if (!topic || topic->slot_count <= (uint32_t)most)
        r = topics_ensure_recovered(queues->store, bytes_of(name), most + 1, &topic);
    for (unsigned i = 0; r == 0 && i < count; i++)
        r = slot_begin(queues, topic, (uint32_t)ids[i], true);
    return r;
}

static int folders_load(struct consume_queues *queues)
{
    DIR *dir = opendir(queues->folder);
    if (!dir)
        return errno == ENOENT ? 0 : -errno;
    int r = 0;
    struct dirent *entry;
    while (r == 0 && (entry = readdir(dir)))
        if (entry->d_name[0] != '.' && entry->d_type != DT_REG)
            r = topic_folder_load(queues, entry->d_name);
    closedir(dir);
    return r;
}

int consume_queues_open(struct store *store, bool warm, int64_t log_min_pos, int64_t trusted_pos)
{
    struct consume_queues *queues = consume_queues_make(store);
    if (!queues)
        return -ENOMEM;
    store->consume_queues = queues;
    queues->log_min_pos = log_min_pos;
    queues->trusted_pos = trusted_pos;
    queues->fds_max = consume_queue_file_fds_max();
    topics_each_dropped(store->topics, abandon, queues); /* of a store that died between record and rename */
    struct open_context context = {queues, warm};
    int r = topics_each(store->topics, topic_begin, &context);
    return r == 0 && !warm ? folders_load(queues) : r;
}

int64_t consume_queues_log_end(const struct consume_queues *queues)
{
    return queues->log_end;
}

bool consume_queues_damaged(const struct consume_queues *queues)
{
    return queues->damaged;
}

void consume_queues_set_mode(struct consume_queues *queues, enum consume_queues_mode mode)
{
    queues->mode = mode;
    queues->gap = false;
    queues->hole_size = queues->lost_most = queues->stray_count = 0;
    for (uint32_t slot = 0; slot < queues->slot_end; slot++)
        if (queues->by_slot[slot]) {
            queues->by_slot[slot]->scan_next = -1;
            queues->by_slot[slot]->has_suspect = false;
        }
}

bool consume_queues_gap(const struct consume_queues *queues)
{
    return queues->gap;
}

int consume_queues_cut(struct consume_queues *queues, int64_t log_end)
{
    queues->trusted_pos = INT64_MAX; /* from here on files say what we wrote */
    for (uint32_t slot = 0; slot < queues->slot_end; slot++) {
        struct consume_queue *queue = queues->by_slot[slot];
        struct topic *topic = queue ? topics_of_slot(queues->store->topics, slot) : NULL;
        if (!topic)
            continue;
        int r = consume_queue_file_cut(queues, queue, topic->name, log_end);
        if (r < 0)
            return r;
        queue->next_offset = queue->written_offset;
        slot_publish(queues, queue);
    }
    return 0;
}

static int room_for_one(void **list, unsigned count, unsigned *room, size_t item)
{
    if (count < *room)
        return 0;
    unsigned grown = *room ? *room * 2 : 256;
    void *moved = realloc(*list, grown * item);
    if (!moved)
        return -ENOMEM;
    *list = moved;
    *room = grown;
    return 0;
}

void consume_queues_log_damaged(struct consume_queues *queues, int64_t log_pos, int64_t size)
{
    queues->hole_pos = log_pos;
    queues->hole_size = size;
    queues->lost_most += size / RECORD_FIXED_SIZE + 1;
}

static int entry_wait(struct consume_queues *queues, struct consume_queue *queue, const struct queue_entry *entry);

/* So many places of a queue may have lost their message. */
static int64_t lost_most(const struct consume_queues *queues)
{
    return queues->lost_most + queues->stray_count;
}

/* The places of messages that were lost with a piece of the log. */
static int lost_fill(struct consume_queues *queues, struct consume_queue *queue, int64_t from, int64_t to)
{
    int r = 0;
    for (; r == 0 && from < to; from++) {
        struct queue_entry lost = {.queue_offset = from, .log_pos = queues->hole_pos, .tags_code = QUEUE_TAGS_LOST,
                                   .store_ms = queue->last_store_ms,
                                   .size = queues->hole_size < INT32_MAX ? (uint32_t)queues->hole_size : INT32_MAX - 1};
        r = entry_wait(queues, queue, &lost);
    }
    return r;
}

static int entry_take(struct consume_queues *queues, struct consume_queue *queue, const struct queue_entry *entry)
{
    int64_t expected = queue->written_offset;
    if (queue->pending_count)
        expected = queues->entries[queue->pending_last].queue_offset + 1;
    if (entry->queue_offset < expected && queues->mode == CONSUME_QUEUES_SERVE)
        return 0; /* in the files already */
    if (entry->queue_offset > expected) {
        pn_assert(queues->mode != CONSUME_QUEUES_SERVE || expected == 0);
        if (queues->mode != CONSUME_QUEUES_SERVE && expected > 0 && entry->queue_offset - expected <= lost_most(queues)) {
            int r = lost_fill(queues, queue, expected, entry->queue_offset);
            return r < 0 ? r : entry_wait(queues, queue, entry);
        }
        if (queues->mode == CONSUME_QUEUES_SCAN || expected > 0)
            queues->gap = true;
        if (queues->mode == CONSUME_QUEUES_SCAN)
            return 0;
    }
    return entry_wait(queues, queue, entry);
}

/* A record that says the offset of another one: header damage that no CRC covers. Its message cannot be found; whoever lies
 * where it should gets what is left of it as its place in the log. */
static void stray_tell(struct consume_queues *queues, const struct consume_queue *queue, const struct queue_entry *stray)
{
    const struct topic *topic = topics_of_slot(queues->store->topics, queue->slot);
    log_error("damaged message, not indexed: log position %" PRId64 ", %" PRIu32 " bytes; it says topic %s, queue %" PRId32
              ", offset %" PRId64 ", where %" PRId64 " is next", stray->log_pos, stray->size, topic ? topic->name : "?",
              queue->queue_id, stray->queue_offset, queue->scan_next);
    board_add(queues->store->board, COUNTER_RECORDS_DAMAGED, 1);
    queues->stray_count++;
    queues->hole_pos = stray->log_pos;
    queues->hole_size = stray->size;
}

static int scan_take(struct consume_queues *queues, struct consume_queue *queue, const struct queue_entry *entry)
{
    queue->scan_next = entry->queue_offset + 1;
    return entry_take(queues, queue, entry);
}

/* It is the next one; or those between can have been lost; or, where the scan begins, the files say the same. */
static bool is_expected(struct consume_queues *queues, struct consume_queue *queue, const struct queue_entry *entry)
{
    struct queue_entry found;
    int64_t next = queue->scan_next >= 0 ? queue->scan_next : queue->written_offset;
    if (entry->queue_offset >= next)
        return entry->queue_offset - next <= lost_most(queues);
    const struct topic *topic = queue->scan_next < 0 ? topics_of_slot(queues->store->topics, queue->slot) : NULL;
    return topic && consume_queue_file_read(queues, queue, topic->name, entry->queue_offset, &found) == 0 &&
           found.log_pos == entry->log_pos;
}

/* Within a scan the offsets of a queue follow each other. One that does not is kept until the next one tells who is wrong. */
static int scan_add(struct consume_queues *queues, struct consume_queue *queue, const struct queue_entry *entry)
{
    int r = 0;
    if (queue->has_suspect) {
        queue->has_suspect = false;
        if (entry->queue_offset == queue->suspect.queue_offset + 1)
            r = scan_take(queues, queue, &queue->suspect);
        else
            stray_tell(queues, queue, &queue->suspect);
    }
    if (r < 0 || is_expected(queues, queue, entry))
        return r < 0 ? r : scan_take(queues, queue, entry);
    queue->suspect = *entry;
    queue->has_suspect = true;
    return 0;
}

/* The last record of its queue in this scan has nobody behind it to vouch for it. */
static bool is_plausible(const struct consume_queues *queues, const struct consume_queue *queue)
{
    int64_t offset = queue->suspect.queue_offset;
    int64_t next = queue->scan_next >= 0 ? queue->scan_next : queue->written_offset;
    if (queue->scan_next < 0) /* its only one */
        return offset <= next || next == 0 || queues->mode == CONSUME_QUEUES_SCAN || offset - next <= lost_most(queues);
    return offset == 0 || (offset > next && offset - next <= lost_most(queues)); /* 0: the topic was made anew */
}

int consume_queues_scan_end(struct consume_queues *queues)
{
    int r = 0;
    for (uint32_t slot = 0; slot < queues->slot_end; slot++) { /* first who is wrong for certain: that explains others */
        struct consume_queue *queue = queues->by_slot[slot];
        enum { NEAR = 16 };
        int64_t away = queue && queue->has_suspect && queue->scan_next >= 0 ? queue->suspect.queue_offset - queue->scan_next : 0;
        if ((away > NEAR || away < 0) && !is_plausible(queues, queue)) {
            stray_tell(queues, queue, &queue->suspect);
            queue->has_suspect = false;
        }
    }
    for (uint32_t slot = 0; r == 0 && slot < queues->slot_end; slot++) {
        struct consume_queue *queue = queues->by_slot[slot];
        if (!queue || !queue->has_suspect)
            continue;
        queue->has_suspect = false;
        if (is_plausible(queues, queue))
            r = scan_take(queues, queue, &queue->suspect);
        else
            stray_tell(queues, queue, &queue->suspect);
    }
    return r;
}

int consume_queue_add(struct consume_queues *queues, struct consume_queue *queue, const struct queue_entry *entry)
{
    return queues->mode == CONSUME_QUEUES_SERVE ? entry_take(queues, queue, entry) : scan_add(queues, queue, entry);
}

static int entry_wait(struct consume_queues *queues, struct consume_queue *queue, const struct queue_entry *entry)
{
    int r = room_for_one((void **)&queues->entries, queues->entry_count, &queues->entry_room, sizeof *entry);
    if (r == 0)
        r = room_for_one((void **)&queues->touched, queues->touched_count, &queues->touched_room, sizeof queue);
    if (r < 0)
        return r;
    uint32_t index = queues->entry_count++;
    queues->entries[index] = *entry;
    queues->entries[index].next_pending = UINT32_MAX;
    if (queue->pending_count++)
        queues->entries[queue->pending_last].next_pending = index;
    else
        queue->pending_first = index;
    queue->pending_last = index;
    if (!queue->touched) {
        queue->touched = true;
        queues->touched[queues->touched_count++] = queue;
    }
    return 0;
}

unsigned consume_queues_pending(const struct consume_queues *queues)
{
    return queues->entry_count;
}

static int dirty_note(struct consume_queues *queues, struct consume_queue *queue)
{
    if (queue->dirty)
        return 0;
    int r = room_for_one((void **)&queues->dirty, queues->dirty_count, &queues->dirty_room, sizeof queue);
    if (r < 0)
        return r;
    queue->dirty = true;
    queues->dirty[queues->dirty_count++] = queue;
    return 0;
}

static void entry_put(uint8_t *to, const struct queue_entry *entry)
{
    be64_store(to, (uint64_t)entry->log_pos);
    be32_store(to + 8, entry->size);
    be64_store(to + 12, (uint64_t)entry->tags_code);
}

int consume_queue_read(struct consume_queues *queues, struct consume_queue *queue, const char *topic, int64_t queue_offset,
                       struct queue_entry *ret_entry)
{
    return consume_queue_file_read(queues, queue, topic, queue_offset, ret_entry);
}

int consume_queue_rewrite(struct consume_queues *queues, struct consume_queue *queue, const char *topic,
                          const struct queue_entry *entry)
{
    uint8_t data[QUEUE_ENTRY_SIZE];
    entry_put(data, entry);
    int r = dirty_note(queues, queue);
    return r < 0 ? r : consume_queue_file_write(queues, queue, topic, entry->queue_offset, data, 1);
}

/* All waiting entries of one queue, in runs of consecutive offsets (one run but in recovery). */
static int pending_write(struct consume_queues *queues, struct consume_queue *queue)
{
    struct topic *topic = topics_of_slot(queues->store->topics, queue->slot);
    pn_assert(topic);
    int r = dirty_note(queues, queue);
    uint32_t index = queue->pending_first;
    while (r == 0 && queue->pending_count > 0) {
        int64_t first = queues->entries[index].queue_offset;
        uint64_t grown = 0;
        size_t n = 0;
        do {
            const struct queue_entry *entry = &queues->entries[index];
            uint8_t *to = queues->scratch + n * QUEUE_ENTRY_SIZE;
            entry_put(to, entry);
            queue->last_store_ms = entry->store_ms;
            if (entry->queue_offset >= queue->written_offset) /* else written again, in recovery */
                grown += entry->size;
            index = entry->next_pending;
            n++;
            queue->pending_count--;
        } while (queue->pending_count > 0 && queues->entries[index].queue_offset == first + (int64_t)n);
        r = consume_queue_file_write(queues, queue, topic->name, first, queues->scratch, n);
        if (r == 0)
            queue->put_bytes += grown;
        if (r == 0 && first + (int64_t)n > queue->written_offset)
            queue->written_offset = first + (int64_t)n;
    }
    queue->pending_count = 0;
    if (queue->next_offset < queue->written_offset)
        queue->next_offset = queue->written_offset;
    return r;
}

int consume_queues_write(struct consume_queues *queues)
{
    size_t need = (size_t)queues->entry_count * QUEUE_ENTRY_SIZE;
    if (need > queues->scratch_size) {
        uint8_t *grown = realloc(queues->scratch, need);
        if (!grown)
            return -ENOMEM;
        queues->scratch = grown;
        queues->scratch_size = need;
    }
    int r = 0;
    for (unsigned i = 0; i < queues->touched_count; i++) {
        if (r == 0)
            r = pending_write(queues, queues->touched[i]);
        queues->touched[i]->pending_count = 0; /* after an error all of them come again, out of the log */
    }
    queues->entry_count = 0;
    return r;
}

void consume_queues_publish(struct consume_queues *queues)
{
    for (unsigned i = 0; i < queues->touched_count; i++)
        slot_publish(queues, queues->touched[i]);
}

struct consume_queue *const *consume_queues_touched(const struct consume_queues *queues, unsigned *ret_count)
{
    *ret_count = queues->touched_count;
    return queues->touched;
}

void consume_queues_published(struct consume_queues *queues)
{
    for (unsigned i = 0; i < queues->touched_count; i++)
        queues->touched[i]->touched = false;
    queues->touched_count = 0;
}

int consume_queues_take_dirty(struct consume_queues *queues, int **ret_fds, unsigned *ret_count, bool *ret_everything)
{
    unsigned count = 0;
    bool everything = queues->names_changed || queues->dirty_count + queues->rolled_count > SYNCS_EACH;
    int *fds = everything ? NULL : calloc(queues->dirty_count + queues->rolled_count + 1, sizeof *fds);
    for (unsigned i = 0; fds && i < queues->dirty_count && !everything; i++) {
        struct consume_queue *queue = queues->dirty[i];
        struct topic *topic = topics_of_slot(queues->store->topics, queue->slot);
        int fd = topic ? consume_queue_file_dup(queues, queue, topic->name) : -1;
        if (fd >= 0)
            fds[count++] = fd;
        else
            everything = topic != NULL;
    }
    if (!fds || everything) { /* one sync of the file system keeps names, too, and needs no descriptors */
        everything = true;
        while (count > 0)
            close(fds[--count]);
        free(fds);
        fds = NULL;
    }
    for (unsigned i = 0; i < queues->rolled_count; i++) {
        if (everything)
            close(queues->rolled_fds[i]);
        else
            fds[count++] = queues->rolled_fds[i];
    }
    for (unsigned i = 0; i < queues->dirty_count; i++)
        queues->dirty[i]->dirty = false;
    bool any = everything && queues->dirty_count + queues->rolled_count + queues->names_changed > 0;
    queues->rolled_count = queues->dirty_count = 0;
    queues->names_changed = false;
    *ret_fds = fds;
    *ret_count = count;
    *ret_everything = any;
    return 0;
}
