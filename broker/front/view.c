/* Looking at what is stored; see view.h. Positions come from anybody, and so may point anywhere into the log: what lies
 * there is believed only if all of a record's own words agree. Files are opened anew by the helper thread; nothing here
 * is fatal but being out of memory. */
#include "view.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin.h"
#include "base/cleanup.h"
#include "base/panic.h"
#include "broker/format/record.h"
#include "catalogue.h"
#include "damage.h"
#include "helper.h"
#include "json/json_body.h"
#include "msg/msg.h"
#include "read_log.h"
#include "wire/codes.h"

enum {
    RECORD_HEAD = 48, /* up to the born host */
    RECORD_LEAST = 91,
    RECORD_MOST = MSG_BODY_MAX + 65536,
    ENTRIES_MAX = 2048, /* of one answer */
};

/* The head says how long it wants to be; 0: it is no head of a record at `pos`. */
static size_t head_size(const uint8_t *head, int64_t pos)
{
    uint32_t size = be32_load(head), magic = be32_load(head + 4);
    bool good = (magic == RECORD_MAGIC_V1 || magic == RECORD_MAGIC_V2) && size >= RECORD_LEAST && size <= RECORD_MOST &&
                (int64_t)be64_load(head + 28) == pos;
    return good ? size : 0;
}

static bool parse(const uint8_t *data, size_t size, int64_t pos, struct record *ret_record)
{
    return size >= RECORD_LEAST && record_parse(data, size, pos, (int64_t)size, true, ret_record) == RECORD_MESSAGE &&
           ret_record->size == size;
}

bool view_record_parts(const uint8_t *data, size_t size, struct bytes *ret_topic, struct bytes *ret_properties)
{
    struct record record;
    bool good = parse(data, size, (int64_t)be64_load(data + RECORD_POS_AT), &record);
    *ret_topic = record.topic;
    *ret_properties = record.properties;
    return good;
}

bool view_is_record(const uint8_t *data, size_t size, int64_t pos)
{
    struct record record;
    return parse(data, size, pos, &record);
}

int64_t view_record_store_ms(const uint8_t *record)
{
    size_t born_size =
        be32_load(record + RECORD_SYS_FLAG_AT) & SYS_FLAG_BORN_IPV6 ? RECORD_HOST_V6_SIZE : RECORD_HOST_V4_SIZE;
    return (int64_t)be64_load(record + RECORD_BORN_HOST_AT + born_size);
}

static int open_at(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    return fd < 0 ? -errno : fd;
}

/* VIEW_MESSAGE_BY_ID. */

struct message_job {
    struct helper_job job;
    const struct front_config *config; /* lives as long as the front */
    struct channel_ref channel;
    int32_t opaque;
    int64_t pos, end_pos; /* end_pos: of what may be read */
    uint8_t *record;      /* found */
    size_t size;
    bool is_damaged;
};

int view_read(const struct front_config *config, int64_t pos, int64_t end_pos, uint8_t **ret_record, size_t *ret_size)
{
    char path[4096];
    uint8_t head[RECORD_HEAD];
    int64_t at = pos % config->commit_log_file_size;
    if (read_log_file_path(config, pos, path, sizeof path) < 0)
        return -ENAMETOOLONG;
    PN_CLOSE int fd = open_at(path);
    if (fd < 0 || pread(fd, head, sizeof head, at) != sizeof head)
        return -ENOENT;
    size_t size = head_size(head, pos);
    if (!size || pos + (int64_t)size > end_pos || at + (int64_t)size > config->commit_log_file_size)
        return -EBADMSG;
    PN_FREE uint8_t *record = malloc(size);
    if (!record)
        return -ENOMEM;
    if (pread(fd, record, size, at) != (ssize_t)size)
        return -EIO;
    if (!view_is_record(record, size, pos))
        return -EUCLEAN;
    *ret_record = TAKE_PTR(record);
    *ret_size = size;
    return 0;
}

static void message_run(struct helper_job *job)
{
    struct message_job *view = (struct message_job *)job;
    int r = view_read(view->config, view->pos, view->end_pos, &view->record, &view->size);
    view->is_damaged = r == -EUCLEAN;
}

static void refuse_message(struct reply_to to, int64_t pos, bool is_damaged)
{
    char text[96];
    snprintf(text, sizeof text, is_damaged ? "the message is damaged on the disk, offset %" PRId64
                                           : "can not find message by the offset, %" PRId64, pos);
    reply_plain(to, RESPONSE_SYSTEM_ERROR, bytes_of(text));
}

static void message_done(struct helper_job *job, struct front *front)
{
    struct message_job *view = (struct message_job *)job;
    struct channel *channel = connections_find(front, view->channel);
    if (view->is_damaged)
        damage_record(front, view->pos);
    if (channel) {
        struct reply_to to = {channel, view->opaque, false};
        struct reply reply;
        channel_answered(channel);
        if (!view->record)
            refuse_message(to, view->pos, view->is_damaged);
        else if (reply_begin(&reply, to, RESPONSE_SUCCESS, (struct bytes){NULL, 0}, 0, 0))
            reply_end(&reply, (struct bytes){view->record, view->size});
    }
    free(view->record);
    free(view);
}

int view_message(struct front *front, struct channel *channel, const struct frame *frame)
{
    const struct queue_table *table = front->queue_table;
    int64_t pos, end_pos = atomic_load_explicit(&table->log_readable_pos, memory_order_acquire);
    if (!frame_get(frame, "offset") || frame_get_i64(frame, "offset", 0, &pos) < 0) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "offset is missing or no number");
        return 0;
    }
    if (frame->flag & FRAME_FLAG_ONEWAY)
        return 0;
    if (pos < atomic_load_explicit(&table->log_min_pos, memory_order_acquire) || pos >= end_pos) {
        refuse_message(reply_to(channel, frame), pos, false);
        return 0;
    }
    struct message_job *view = calloc(1, sizeof *view);
    if (!view)
        PANIC("out of memory");
    view->job = (struct helper_job){.run = message_run, .done = message_done};
    view->config = &front->config;
    view->channel = channel->ref;
    view->opaque = frame->opaque;
    view->pos = pos;
    view->end_pos = end_pos;
    channel->outstanding++;
    helper_submit(front->helper, &view->job);
    return 0;
}

/* QUERY_CONSUME_QUEUE. */

struct queue_job {
    struct helper_job job;
    const struct front_config *config;
    struct channel_ref channel;
    int32_t opaque, queue_id;
    int64_t index, min, max;
    unsigned count, found;
    uint8_t *entries; /* found × 20 bytes */
    char *topic;
    struct text filter, subscription; /* as JSON; empty: no group was named, it is not there */
};

/* One file's worth, as Apache: who wants more asks again behind the last one. */
static void queue_run(struct helper_job *job)
{
    struct queue_job *view = (struct queue_job *)job;
    char path[4096];
    int64_t file_size = view->config->consume_queue_file_size, at = view->index * QUEUE_ENTRY_SIZE % file_size;
    int64_t count = view->count;
    if (count > view->max - view->index)
        count = view->max - view->index;
    if (count > (file_size - at) / QUEUE_ENTRY_SIZE)
        count = (file_size - at) / QUEUE_ENTRY_SIZE;
    if (read_log_queue_path(view->config, view->topic, view->queue_id, view->index, path, sizeof path) < 0)
        return;
    PN_CLOSE int fd = open_at(path);
    ssize_t n = fd < 0 ? -1 : pread(fd, view->entries, (size_t)count * QUEUE_ENTRY_SIZE, at);
    view->found = n < 0 ? 0 : (unsigned)(n / QUEUE_ENTRY_SIZE);
}

static struct text queue_text(const struct queue_job *view)
{
    struct text text = {NULL, 0, 0};
    text_add(&text, "{");
    if (view->filter.size) {
        text_add(&text, "\"filterData\":");
        text_add_bytes(&text, (struct bytes){(const uint8_t *)view->filter.data, view->filter.size});
        text_add(&text, ",");
    }
    text_add(&text, "\"maxQueueIndex\":%" PRId64 ",\"minQueueIndex\":%" PRId64 ",\"queueData\":[", view->max,
             view->min);
    for (unsigned i = 0; i < view->found; i++) {
        const uint8_t *entry = view->entries + (size_t)i * QUEUE_ENTRY_SIZE;
        text_add(&text,
                 "%s{\"eval\":false,\"physicOffset\":%" PRId64 ",\"physicSize\":%" PRId32 ",\"tagsCode\":%" PRId64 "}",
                 i ? "," : "", (int64_t)be64_load(entry), (int32_t)be32_load(entry + 8),
                 (int64_t)be64_load(entry + 12));
    }
    text_add(&text, "]");
    if (view->subscription.size) {
        text_add(&text, ",\"subscriptionData\":");
        text_add_bytes(&text, (struct bytes){(const uint8_t *)view->subscription.data, view->subscription.size});
    }
    text_add(&text, "}");
    return text;
}

static void queue_job_free(struct queue_job *view)
{
    free(view->entries);
    free(view->topic);
    text_free(&view->filter);
    text_free(&view->subscription);
    free(view);
}

static void queue_done(struct helper_job *job, struct front *front)
{
    struct queue_job *view = (struct queue_job *)job;
    struct channel *channel = connections_find(front, view->channel);
    if (channel) {
        struct reply_to to = {channel, view->opaque, false};
        struct reply reply;
        struct text text = queue_text(view);
        channel_answered(channel);
        if (reply_begin(&reply, to, RESPONSE_SUCCESS, (struct bytes){NULL, 0}, 0, 0))
            reply_end(&reply, (struct bytes){(const uint8_t *)text.data, text.size});
        text_free(&text);
    }
    queue_job_free(view);
}

/* Which messages of the topic the group wants. */
static void put_group(struct front *front, struct queue_job *view, struct bytes group, struct bytes topic)
{
    const struct group_entry *entry = group.size ? catalogue_group(front->catalogue, group) : NULL;
    const struct subscription_entry *subscription = entry ? catalogue_subscription(entry, topic) : NULL;
    if (subscription) {
        text_add(&view->filter, "\"null\""); /* a SQL expression's would stand here */
        admin_put_subscription(&view->subscription, subscription);
        return;
    }
    char absent[1024];
    int n = snprintf(absent, sizeof absent, "%.*s@%.*s is not online!", (int)group.size, (const char *)group.data,
                     (int)topic.size, (const char *)topic.data);
    text_add_json_string(&view->filter, (struct bytes){(const uint8_t *)absent, n < (int)sizeof absent ? (size_t)n : sizeof absent - 1});
}

/* The queue that is asked for; false: answered. */
static bool take_queue(struct front *front, struct channel *channel, const struct frame *frame, struct queue_job *view)
{
    static const struct bytes none = {(const uint8_t *)"", 0};
    const struct bytes *name = frame_get(frame, "topic"), *group = frame_get(frame, "consumerGroup");
    int32_t count;
    if (frame_get_i32(frame, "queueId", 0, &view->queue_id) < 0 || frame_get_i64(frame, "index", 0, &view->index) < 0 ||
        frame_get_i32(frame, "count", 0, &count) < 0) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "queueId, index or count is no number");
        return false;
    }
    name = name ? name : &none;
    const struct topic_entry *topic = catalogue_topic(front->catalogue, *name);
    if (!topic || view->queue_id < 0 || (uint32_t)view->queue_id >= topic->slot_count) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "%d@%.*s is not exist!", view->queue_id, (int)name->size,
                    (const char *)name->data);
        return false;
    }
    const struct queue_slot *slot = &front->queue_table->slots[topic->slot_base + (uint32_t)view->queue_id];
    view->max = atomic_load_explicit(&slot->max_offset, memory_order_acquire);
    view->min = atomic_load_explicit(&slot->min_offset, memory_order_acquire);
    if (view->index < view->min || view->index >= view->max) {
        reply_error(channel, frame, RESPONSE_SUCCESS, "Index %" PRId64 " of %d@%.*s is not exist!", view->index,
                    view->queue_id, (int)name->size, (const char *)name->data);
        return false;
    }
    view->count = count < 0 ? 0 : count < ENTRIES_MAX ? (unsigned)count : ENTRIES_MAX;
    view->topic = strdup(topic->name);
    if (group)
        put_group(front, view, *group, *name);
    return true;
}

int view_queue(struct front *front, struct channel *channel, const struct frame *frame)
{
    struct queue_job wanted = {0};
    if (frame->flag & FRAME_FLAG_ONEWAY || !take_queue(front, channel, frame, &wanted))
        return 0;
    struct queue_job *view = malloc(sizeof *view);
    wanted.entries = malloc((size_t)wanted.count * QUEUE_ENTRY_SIZE + 1);
    if (!view || !wanted.entries || !wanted.topic)
        PANIC("out of memory");
    *view = wanted;
    view->job = (struct helper_job){.run = queue_run, .done = queue_done};
    view->config = &front->config;
    view->channel = channel->ref;
    view->opaque = frame->opaque;
    channel->outstanding++;
    helper_submit(front->helper, &view->job);
    return 0;
}
