/* Offsets and times of queues; see search.h. Store times grow with offsets within a queue, so a binary search over the
 * queue, reading the time from each record in the log, needs about twenty reads. */
#include "search.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/panic.h"
#include "catalogue.h"
#include "helper.h"
#include "read_log.h"
#include "wire/codes.h"

static int read_at(const char *path, void *to, size_t size, int64_t offset)
{
    PN_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    return pread(fd, to, size, offset) == (ssize_t)size ? 0 : -EIO;
}

int64_t search_record_time(const struct front_config *config, int64_t pos)
{
    enum { STORE_TIME_AT = RECORD_BORN_HOST_AT + RECORD_HOST_V4_SIZE, IPV6_MORE = 12 };
    char path[4096];
    uint8_t record[STORE_TIME_AT + IPV6_MORE + 8];
    if (pos < 0 || read_log_file_path(config, pos, path, sizeof path) < 0 ||
        read_at(path, record, sizeof record, pos % config->commit_log_file_size) < 0)
        return -1;
    uint32_t magic = be32_load(record + RECORD_MAGIC_AT);
    if ((magic != RECORD_MAGIC_V1 && magic != RECORD_MAGIC_V2) || (int64_t)be64_load(record + RECORD_POS_AT) != pos)
        return -1;
    size_t at = STORE_TIME_AT + (be32_load(record + RECORD_SYS_FLAG_AT) & SYS_FLAG_BORN_IPV6 ? IPV6_MORE : 0);
    return (int64_t)be64_load(record + at);
}

int64_t search_store_time(const struct front_config *config, const char *topic, int32_t queue_id, int64_t offset)
{
    char path[4096];
    uint8_t entry[QUEUE_ENTRY_SIZE];
    if (read_log_queue_path(config, topic, queue_id, offset, path, sizeof path) < 0 ||
        read_at(path, entry, sizeof entry, offset * QUEUE_ENTRY_SIZE % config->consume_queue_file_size) < 0)
        return -1;
    return search_record_time(config, (int64_t)be64_load(entry));
}

int64_t search_offset(const struct front_config *config, const char *topic, int32_t queue_id, int64_t min, int64_t max,
                      int64_t time_ms, bool upper)
{
    /* The first offset whose time is ≥ time_ms (lower) or > time_ms (upper); unreadable ones count as old. */
    int64_t low = min, high = max;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        int64_t stored_ms = search_store_time(config, topic, queue_id, middle);
        if (upper ? stored_ms > time_ms : stored_ms >= time_ms)
            high = middle;
        else
            low = middle + 1;
    }
    return upper && low > min ? low - 1 : low;
}

/* Topic and queue of a request; NULL: answered already (a malformed number), or unknown. */
static bool take_queue(struct front *front, struct channel *channel, const struct frame *frame,
                       const struct topic_entry **ret_topic, int32_t *ret_queue_id)
{
    const struct bytes *name = frame_get(frame, "topic");
    *ret_topic = NULL;
    if (frame_get_i32(frame, "queueId", 0, ret_queue_id) < 0) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "queueId is not a number");
        return false;
    }
    const struct topic_entry *topic = name ? catalogue_topic(front->catalogue, *name) : NULL;
    if (topic && *ret_queue_id >= 0 && (uint32_t)*ret_queue_id < topic->slot_count &&
        atomic_load_explicit(&front->queue_table->slots[topic->slot_base + (uint32_t)*ret_queue_id].generation,
                             memory_order_acquire) == topic->slot_generation)
        *ret_topic = topic;
    return true;
}

static void answer_number(struct reply_to to, const char *key, int64_t value)
{
    struct reply reply;
    if (!reply_begin(&reply, to, RESPONSE_SUCCESS, (struct bytes){NULL, 0}, 32, 1))
        return;
    frame_write_i64(&reply.writer, key, value);
    reply_end(&reply, (struct bytes){NULL, 0});
}

static void load_range(struct front *front, const struct topic_entry *topic, int32_t queue_id, int64_t *ret_min,
                       int64_t *ret_max)
{
    struct queue_slot *slot = &front->queue_table->slots[topic->slot_base + (uint32_t)queue_id];
    *ret_max = atomic_load_explicit(&slot->max_offset, memory_order_acquire);
    *ret_min = atomic_load_explicit(&slot->min_offset, memory_order_acquire);
}

/* An unknown queue has offset 0, as Apache says it. */
static int answer_end(struct front *front, struct channel *channel, const struct frame *frame, bool want_max)
{
    const struct topic_entry *topic;
    int32_t queue_id;
    int64_t min = 0, max = 0;
    if (!take_queue(front, channel, frame, &topic, &queue_id))
        return 0;
    if (topic)
        load_range(front, topic, queue_id, &min, &max);
    answer_number(reply_to(channel, frame), "offset", want_max ? max : min);
    return 0;
}

int search_max_offset(struct front *front, struct channel *channel, const struct frame *frame)
{
    return answer_end(front, channel, frame, true);
}

int search_min_offset(struct front *front, struct channel *channel, const struct frame *frame)
{
    return answer_end(front, channel, frame, false);
}

struct search_job {
    struct helper_job job;
    const struct front_config *config; /* lives as long as the front */
    struct channel_ref channel;
    int32_t opaque, queue_id;
    bool earliest, upper;
    int64_t min, max, time_ms, result;
    char topic[];
};

static void search_run(struct helper_job *job)
{
    struct search_job *search = (struct search_job *)job;
    if (search->earliest)
        search->result = search_store_time(search->config, search->topic, search->queue_id, search->min);
    else
        search->result = search_offset(search->config, search->topic, search->queue_id, search->min, search->max,
                                       search->time_ms, search->upper);
}

static void search_done(struct helper_job *job, struct front *front)
{
    struct search_job *search = (struct search_job *)job;
    struct channel *channel = connections_find(front, search->channel);
    if (channel) {
        channel_answered(channel);
        answer_number((struct reply_to){channel, search->opaque, false}, search->earliest ? "timestamp" : "offset",
                      search->result);
    }
    free(search);
}

static void submit(struct front *front, struct channel *channel, const struct frame *frame,
                   const struct topic_entry *topic, const struct search_job *wanted)
{
    size_t name_size = strlen(topic->name) + 1;
    struct search_job *search = malloc(sizeof *search + name_size);
    if (!search)
        PANIC("out of memory");
    *search = *wanted;
    search->job = (struct helper_job){.run = search_run, .done = search_done};
    search->config = &front->config;
    search->channel = channel->ref;
    search->opaque = frame->opaque;
    memcpy(search->topic, topic->name, name_size);
    channel->outstanding++;
    helper_submit(front->helper, &search->job);
}

int search_by_time(struct front *front, struct channel *channel, const struct frame *frame)
{
    const struct topic_entry *topic;
    const struct bytes *boundary = frame_get(frame, "boundaryType");
    struct search_job search = {0};
    if (!take_queue(front, channel, frame, &topic, &search.queue_id))
        return 0;
    if (frame_get_i64(frame, "timestamp", 0, &search.time_ms) < 0) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "timestamp is not a number");
        return 0;
    }
    if (frame->flag & FRAME_FLAG_ONEWAY)
        return 0;
    search.upper = boundary && boundary->size == 5 && strncasecmp((const char *)boundary->data, "upper", 5) == 0;
    if (topic)
        load_range(front, topic, search.queue_id, &search.min, &search.max);
    if (!topic || search.min >= search.max)
        answer_number(reply_to(channel, frame), "offset", topic ? search.max : 0);
    else
        submit(front, channel, frame, topic, &search);
    return 0;
}

int search_earliest_time(struct front *front, struct channel *channel, const struct frame *frame)
{
    const struct topic_entry *topic;
    struct search_job search = {.earliest = true};
    if (!take_queue(front, channel, frame, &topic, &search.queue_id) || frame->flag & FRAME_FLAG_ONEWAY)
        return 0;
    if (topic)
        load_range(front, topic, search.queue_id, &search.min, &search.max);
    if (!topic || search.min >= search.max)
        answer_number(reply_to(channel, frame), "timestamp", -1);
    else
        submit(front, channel, frame, topic, &search);
    return 0;
}
