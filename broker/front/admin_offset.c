/* Offsets of groups for administrators: 43 45 208 222 303 308 314 317. The front's one thread. The store lists what is
 * stored; ends of queues stand in the queue table; store times are read by a helper. */
#include "admin_offset.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "admin.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/panic.h"
#include "broker_stats.h"
#include "helper.h"
#include "number.h"
#include "wire/codes.h"

static const struct bytes any = {(const uint8_t *)"", 0};

/* A name from the header; NULL: answered with an error. `may_be_empty`: "" stands for all. */
static bool take_name(struct channel *channel, const struct frame *frame, const char *key, size_t limit,
                      bool may_be_empty, struct bytes *ret_name)
{
    *ret_name = admin_field(frame, key);
    if ((ret_name->size || may_be_empty) && ret_name->size <= limit)
        return true;
    reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "%s is missing or too long", key);
    return false;
}

/* 43 */

static void answer_all(struct front *front, struct admin_job *job)
{
    struct text *text = &job->body;
    bool more = false;
    text_add(text, "{\"dataVersion\":");
    admin_put_version(text, job->offsets.version);
    text_add(text, ",\"groupTopicMap\":{},\"offsetTable\":{");
    for (unsigned i = 0; i < job->offsets.count; i++) {
        const struct listed_offsets *entry = &job->offsets.entries[i];
        struct text key = {0};
        text_add(&key, "%s@%s", entry->topic, entry->group);
        admin_put_comma(text, &more);
        text_add_json_string(text, (struct bytes){(const uint8_t *)key.data, key.size});
        text_free(&key);
        text_add(text, ":{");
        for (unsigned q = 0; q < entry->count; q++)
            text_add(text, "%s%d:%lld", q ? "," : "", entry->queues[q].queue_id, (long long)entry->queues[q].offset);
        text_add(text, "}");
    }
    text_add(text, "}}");
    admin_end_body(front, job);
}

int admin_offset_all(struct front *front, struct channel *channel, const struct frame *frame)
{
    struct admin_job *job = admin_begin(front, channel, frame);
    if (job)
        admin_collect(front, job, any, any, answer_all);
    return 0;
}

/* Delayed messages are not served by this broker, so no level has an offset. */
/* GET_ALL_DELAY_OFFSET: a slave writes the answer into its own file, as it is. */

struct delays_job {
    struct helper_job job;
    struct channel_ref channel;
    int32_t opaque;
    char path[4096];
    char *text; /* NULL: there is no such file, nothing was ever delayed */
    size_t size;
};

enum { DELAYS_FILE_MAX = 65536 };

static void delays_run(struct helper_job *job)
{
    struct delays_job *delays = (struct delays_job *)job;
    PN_CLOSE int fd = open(delays->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || !(delays->text = malloc(DELAYS_FILE_MAX)))
        return;
    ssize_t n = read(fd, delays->text, DELAYS_FILE_MAX);
    delays->size = n > 0 ? (size_t)n : 0;
}

static void delays_done(struct helper_job *job, struct front *front)
{
    struct delays_job *delays = (struct delays_job *)job;
    struct channel *channel = connections_find(front, delays->channel);
    struct reply reply;
    struct text text = {0};
    if (delays->size) {
        text_add_bytes(&text, (struct bytes){(const uint8_t *)delays->text, delays->size});
    } else {
        text_add(&text, "{\"dataVersion\":");
        admin_put_version(&text, (struct msg_version){0});
        text_add(&text, ",\"offsetTable\":{}}");
    }
    if (channel) {
        channel_answered(channel);
        if (reply_begin(&reply, (struct reply_to){channel, delays->opaque, false}, RESPONSE_SUCCESS,
                        (struct bytes){NULL, 0}, 0, 0))
            reply_end(&reply, (struct bytes){(const uint8_t *)text.data, text.size});
    }
    text_free(&text);
    free(delays->text);
    free(delays);
}

int admin_offset_delays(struct front *front, struct channel *channel, const struct frame *frame)
{
    if (frame->flag & FRAME_FLAG_ONEWAY)
        return 0;
    struct delays_job *delays = calloc(1, sizeof *delays);
    if (!delays)
        PANIC("out of memory");
    int n = snprintf(delays->path, sizeof delays->path, "%s/config/delayOffset.json", front->config.store_root);
    if (n < 0 || (size_t)n >= sizeof delays->path)
        delays->path[0] = 0;
    delays->job = (struct helper_job){.run = delays_run, .done = delays_done};
    delays->channel = channel->ref;
    delays->opaque = frame->opaque;
    channel->outstanding++;
    helper_submit(front->helper, &delays->job);
    return 0;
}

/* 208 and 317: what of each queue is consumed. */

/* A group with members that do not subscribe the topic has left it: Apache does not count it. */
static bool is_left(const struct front *front, const char *group_name, const char *topic)
{
    const struct group_entry *group = catalogue_group(front->catalogue, bytes_of(group_name));
    return group && group->subscriptions && !catalogue_subscription(group, bytes_of(topic));
}

/* `entry`: what the group has stored of the topic; NULL: nothing. */
static void add_rows(struct front *front, struct admin_job *job, const char *topic_name,
                     const struct listed_offsets *entry, bool write_queues)
{
    const struct topic_entry *topic = catalogue_topic(front->catalogue, bytes_of(topic_name));
    int32_t count = !topic ? 0 : write_queues ? topic->write_queues : topic->read_queues;
    for (int32_t i = 0; i < count; i++) {
        struct queue_times *row = admin_add_row(job, topic_name, i);
        admin_queue_range(front, topic, i, &row->min_offset, &row->max_offset);
        row->offset = listed_offset(entry, i);
    }
}

static void put_row(struct text *text, const struct front *front, const struct queue_times *row, bool with_pull)
{
    int64_t offset = row->offset < 0 ? 0 : row->offset;
    admin_put_queue(text, front, row->topic, row->queue_id);
    text_add(text, ":{\"brokerOffset\":%lld,\"consumerOffset\":%lld,\"lastTimestamp\":%lld,\"pullOffset\":%lld}",
             (long long)row->max_offset, (long long)offset, (long long)(row->before_ms > 0 ? row->before_ms : 0),
             (long long)(with_pull ? offset : 0));
}

static void answer_stats(struct front *front, struct admin_job *job)
{
    struct text *text = &job->body;
    bool more = false;
    double tps = 0;
    for (unsigned i = 0; i < job->row_count; i++)
        if (i == 0 || job->rows[i].topic != job->rows[i - 1].topic)
            tps += broker_stats_got_tps(front, job->rows[i].topic, job->group);
    text_add(text, "{\"consumeTps\":%.3f,\"offsetTable\":{", tps);
    for (unsigned i = 0; i < job->row_count; i++) {
        admin_put_comma(text, &more);
        put_row(text, front, &job->rows[i], true);
    }
    text_add(text, "}}");
    admin_end_body(front, job);
}

/* job->flag: job->topic is a list with semicolons, and nobody asks whether the group has left them. */
static void stats_listed(struct front *front, struct admin_job *job)
{
    if (!*job->topic) {
        for (unsigned i = 0; i < job->offsets.count; i++)
            if (!is_left(front, job->group, job->offsets.entries[i].topic))
                add_rows(front, job, job->offsets.entries[i].topic, &job->offsets.entries[i], false);
    } else if (job->flag) {
        char *rest = NULL;
        for (char *topic = strtok_r(job->topic, ";", &rest); topic; topic = strtok_r(NULL, ";", &rest))
            add_rows(front, job, topic, offset_list_find(&job->offsets, topic, job->group), false);
    } else if (!is_left(front, job->group, job->topic)) {
        add_rows(front, job, job->topic, offset_list_find(&job->offsets, job->topic, job->group), false);
    }
    admin_look_up(front, job, answer_stats);
}

int admin_offset_stats(struct front *front, struct channel *channel, const struct frame *frame)
{
    struct bytes group, list = admin_field(frame, "topicList");
    if (!take_name(channel, frame, "consumerGroup", MSG_GROUP_MAX, false, &group))
        return 0;
    struct admin_job *job = admin_begin(front, channel, frame);
    job->flag = list.size > 0;
    if (job->flag) {
        free(job->topic);
        job->topic = admin_copy(list);
    }
    admin_collect(front, job, group, any, stats_listed);
    return 0;
}

/* So that what is told of one group stands together. */
static int by_group(const void *a, const void *b)
{
    const struct listed_offsets *left = a, *right = b;
    int order = strcmp(left->group, right->group);
    return order ? order : strcmp(left->topic, right->topic);
}

static int by_group_only(const void *a, const void *b)
{
    return strcmp(((const struct listed_offsets *)a)->group, ((const struct listed_offsets *)b)->group);
}

static void put_entry(struct text *text, struct front *front, const char *group, const struct queue_times *rows,
                      unsigned count, int64_t *total)
{
    bool more = false;
    text_add(text, "{\"consumeTps\":%.3f,\"offsetTable\":{", broker_stats_got_tps(front, rows[0].topic, group));
    for (unsigned i = 0; i < count; i++) {
        admin_put_comma(text, &more);
        put_row(text, front, &rows[i], false);
        *total += rows[i].max_offset - (rows[i].offset < 0 ? 0 : rows[i].offset);
    }
    text_add(text, "}}");
}

static bool is_known(const struct front *front, const char *group_name)
{
    const struct group_entry *group = catalogue_group(front->catalogue, bytes_of(group_name));
    return group && group->known;
}

/* The entries of one group, from `at` on, and their rows; returns the next group's first entry. */
static unsigned put_group_stats(struct text *text, struct front *front, const struct admin_job *job, unsigned at,
                                unsigned *row, int64_t *total, int64_t *in_flight)
{
    const struct listed_offsets *entries = job->offsets.entries;
    const char *group = entries[at].group;
    bool more = false;
    text_add(text, "{");
    text_add_json_string(text, bytes_of(group));
    text_add(text, ":[");
    for (; at < job->offsets.count && strcmp(entries[at].group, group) == 0; at++) {
        unsigned first = *row;
        while (*row < job->row_count && job->rows[*row].topic == entries[at].topic)
            (*row)++;
        if (*row == first)
            continue; /* the topic is gone, or is not asked for */
        admin_put_comma(text, &more);
        put_entry(text, front, group, &job->rows[first], *row - first, total);
        /* Apache counts from pull offset 0 here. */
        for (unsigned q = first; q < *row; q++)
            *in_flight -= job->rows[q].offset < 0 ? 0 : job->rows[q].offset;
    }
    text_add(text, "]}");
    return at;
}

static void answer_broker_stats(struct front *front, struct admin_job *job)
{
    struct text *text = &job->body;
    const struct listed_offsets *entries = job->offsets.entries;
    bool more = false;
    int64_t total = 0, in_flight = 0;
    unsigned row = 0;
    text_add(text, "{\"brokerAddr\":");
    text_add_json_string(text, bytes_of(front->config.broker_addr));
    text_add(text, ",\"consumeStatsList\":[");
    for (unsigned i = 0; i < job->offsets.count;) {
        if (!is_known(front, entries[i].group)) {
            i++;
            continue;
        }
        admin_put_comma(text, &more);
        i = put_group_stats(text, front, job, i, &row, &total, &in_flight);
    }
    for (const struct group_entry *group = catalogue_groups(front->catalogue); group; group = group->hh.next) {
        struct listed_offsets key = {.topic = (char *)"", .group = group->name};
        if (!group->known || (entries && bsearch(&key, entries, job->offsets.count, sizeof key, by_group_only)))
            continue;
        admin_put_comma(text, &more);
        text_add(text, "{");
        text_add_json_string(text, bytes_of(group->name));
        text_add(text, ":[]}");
    }
    text_add(text, "],\"totalDiff\":%lld,\"totalInflightDiff\":%lld}", (long long)total, (long long)in_flight);
    admin_end_body(front, job);
}

static void broker_stats_listed(struct front *front, struct admin_job *job)
{
    if (job->offsets.count)
        qsort(job->offsets.entries, job->offsets.count, sizeof *job->offsets.entries, by_group);
    for (unsigned i = 0; i < job->offsets.count; i++) {
        const struct listed_offsets *entry = &job->offsets.entries[i];
        const struct topic_entry *topic = catalogue_topic(front->catalogue, bytes_of(entry->topic));
        const struct group_entry *group = catalogue_group(front->catalogue, bytes_of(entry->group));
        if (topic && group && group->known && (!job->flag || topic->order) &&
            !is_left(front, entry->group, entry->topic))
            add_rows(front, job, entry->topic, entry, true);
    }
    admin_look_up(front, job, answer_broker_stats);
}

int admin_offset_broker_stats(struct front *front, struct channel *channel, const struct frame *frame)
{
    bool is_order = false;
    if (frame_get_bool(frame, "isOrder", false, &is_order) < 0) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "isOrder is no boolean");
        return 0;
    }
    struct admin_job *job = admin_begin(front, channel, frame);
    job->flag = is_order;
    admin_collect(front, job, any, any, broker_stats_listed);
    return 0;
}

/* 303 */

/* `,"key":"2025-01-31#23:59:59:999"` in local time, as Apache's beans tell it beside the number. */
static void put_time_text(struct text *text, const char *key, int64_t time_ms)
{
    time_t seconds = (time_t)(time_ms / 1000);
    int64_t millis = time_ms % 1000;
    char date[32];
    struct tm local;
    if (millis < 0) {
        millis += 1000;
        seconds--;
    }
    localtime_r(&seconds, &local);
    strftime(date, sizeof date, "%Y-%m-%d#%H:%M:%S", &local);
    text_add(text, ",\"%s\":\"%s:%03d\"", key, date, (int)millis);
}

static void answer_time_span(struct front *front, struct admin_job *job)
{
    struct text *text = &job->body;
    int64_t now_ms = clock_realtime_ms();
    bool more = false;
    text_add(text, "{\"consumeTimeSpanSet\":[");
    for (unsigned i = 0; i < job->row_count; i++) {
        const struct queue_times *row = &job->rows[i];
        int64_t consumed_ms = row->offset > 0 ? row->before_ms : row->first_ms;
        int64_t delay_ms = row->offset < row->max_offset ? now_ms - row->at_ms : 0;
        admin_put_comma(text, &more);
        text_add(text, "{\"consumeTimeStamp\":%lld,\"delayTime\":%lld,\"maxTimeStamp\":%lld,\"messageQueue\":",
                 (long long)consumed_ms, (long long)delay_ms, (long long)row->last_ms);
        admin_put_queue(text, front, row->topic, row->queue_id);
        text_add(text, ",\"minTimeStamp\":%lld", (long long)row->first_ms);
        put_time_text(text, "consumeTimeStampStr", consumed_ms);
        put_time_text(text, "maxTimeStampStr", row->last_ms);
        put_time_text(text, "minTimeStampStr", row->first_ms);
        text_add(text, "}");
    }
    text_add(text, "]}");
    admin_end_body(front, job);
}

static void time_span_listed(struct front *front, struct admin_job *job)
{
    add_rows(front, job, job->topic, offset_list_find(&job->offsets, job->topic, job->group), true);
    admin_look_up(front, job, answer_time_span);
}

int admin_offset_time_span(struct front *front, struct channel *channel, const struct frame *frame)
{
    struct bytes group, topic;
    if (!take_name(channel, frame, "topic", MSG_TOPIC_MAX, false, &topic) ||
        !take_name(channel, frame, "group", MSG_GROUP_MAX, false, &group))
        return 0;
    if (!catalogue_topic(front->catalogue, topic)) {
        reply_error(channel, frame, RESPONSE_TOPIC_NOT_EXIST, "the topic does not exist");
        return 0;
    }
    struct admin_job *job = admin_begin(front, channel, frame);
    if (job)
        admin_collect(front, job, group, topic, time_span_listed);
    return 0;
}

/* 308: per queue the least offset among the topic's groups; a queue where the compared group is behind it is
 * Long.MAX_VALUE, as Apache has it. Two listings would race, so one of the whole topic serves both. */

static bool is_filtered(const char *group, const char *filter)
{
    size_t size = strlen(group);
    for (const char *at = filter; (at = strstr(at, group)); at += size)
        if ((at == filter || at[-1] == ',') && (at[size] == 0 || at[size] == ','))
            return true;
    return false;
}

static int by_queue(const void *a, const void *b)
{
    const struct queue_times *left = a, *right = b;
    if (left->queue_id != right->queue_id)
        return left->queue_id < right->queue_id ? -1 : 1;
    return left->offset < right->offset ? -1 : left->offset > right->offset;
}

static void answer_correction(struct front *front, struct admin_job *job)
{
    struct text *text = &job->body;
    const struct topic_entry *topic = catalogue_topic(front->catalogue, bytes_of(job->topic));
    for (unsigned i = 0; i < job->offsets.count; i++) {
        const struct listed_offsets *entry = &job->offsets.entries[i];
        for (unsigned q = 0; q < entry->count && !is_filtered(entry->group, job->filter); q++) {
            int64_t min = 0, max;
            if (topic)
                admin_queue_range(front, topic, entry->queues[q].queue_id, &min, &max);
            if (entry->queues[q].offset >= min)
                admin_add_row(job, job->topic, entry->queues[q].queue_id)->offset = entry->queues[q].offset;
        }
    }
    if (job->row_count)
        qsort(job->rows, job->row_count, sizeof *job->rows, by_queue);
    const struct listed_offsets *compared = offset_list_find(&job->offsets, job->topic, job->compare);
    bool more = false;
    text_add(text, "{\"correctionOffsets\":{");
    for (unsigned i = 0; i < job->row_count; i++) {
        const struct queue_times *row = &job->rows[i];
        if (i && row[-1].queue_id == row->queue_id)
            continue;
        int64_t own = listed_offset(compared, row->queue_id);
        admin_put_comma(text, &more);
        text_add(text, "%d:%lld", row->queue_id, (long long)(own >= 0 && row->offset > own ? INT64_MAX : row->offset));
    }
    text_add(text, "}}");
    admin_end_body(front, job);
}

int admin_offset_correction(struct front *front, struct channel *channel, const struct frame *frame)
{
    struct bytes topic, compare, filter = admin_field(frame, "filterGroups");
    if (!take_name(channel, frame, "topic", MSG_TOPIC_MAX, false, &topic) ||
        !take_name(channel, frame, "compareGroup", MSG_GROUP_MAX, false, &compare))
        return 0;
    struct admin_job *job = admin_begin(front, channel, frame);
    job->compare = admin_copy(compare);
    job->filter = admin_copy(filter);
    admin_collect(front, job, any, topic, answer_correction);
    return 0;
}

/* 314 */

static void answer_plain(struct front *front, struct admin_job *job)
{
    admin_end(front, job, RESPONSE_SUCCESS, "");
}

static void add_clone(struct admin_job *job, const char *from, const char *to, const char *topic)
{
    struct msg_admin clone = {0};
    admin_add_record(job, MSG_OFFSET_CLONE, &clone, sizeof clone,
                     (struct bytes[]){bytes_of(from), bytes_of(to), bytes_of(topic)}, 3);
}

/* Topics which the group has left are not cloned while it is online, unless `offline` says so. */
static void clone_listed(struct front *front, struct admin_job *job)
{
    for (unsigned i = 0; i < job->offsets.count; i++)
        if (job->flag || !is_left(front, job->group, job->offsets.entries[i].topic))
            add_clone(job, job->group, job->compare, job->offsets.entries[i].topic);
    admin_send(front, job, answer_plain);
}

int admin_offset_clone(struct front *front, struct channel *channel, const struct frame *frame)
{
    struct bytes from, to, topic;
    bool offline = false;
    if (!take_name(channel, frame, "srcGroup", MSG_GROUP_MAX, false, &from) ||
        !take_name(channel, frame, "destGroup", MSG_GROUP_MAX, false, &to) ||
        !take_name(channel, frame, "topic", MSG_TOPIC_MAX, true, &topic))
        return 0;
    if (frame_get_bool(frame, "offline", false, &offline) < 0) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "offline is no boolean");
        return 0;
    }
    struct admin_job *job = admin_begin(front, channel, frame);
    job->flag = offline;
    job->compare = admin_copy(to);
    admin_collect(front, job, from, topic, clone_listed);
    return 0;
}

/* 222 */

static void answer_reset(struct front *front, struct admin_job *job)
{
    struct text *text = &job->body;
    bool more = false;
    text_add(text, "{\"offsetTable\":{");
    for (unsigned i = 0; i < job->row_count; i++) {
        admin_put_comma(text, &more);
        admin_put_queue(text, front, job->rows[i].topic, job->rows[i].queue_id);
        text_add(text, ":%lld", (long long)job->rows[i].found_offset);
    }
    text_add(text, "}}");
    admin_end_body(front, job);
}

static void reset_found(struct front *front, struct admin_job *job)
{
    for (unsigned i = 0; i < job->row_count; i++) {
        struct msg_offset reset = {.offset = job->rows[i].found_offset, .queue_id = job->rows[i].queue_id};
        admin_add_record(job, MSG_OFFSET_RESET, &reset, sizeof reset,
                         (struct bytes[]){bytes_of(job->group), bytes_of(job->topic)}, 2);
    }
    admin_send(front, job, answer_reset);
}

struct reset {
    struct bytes group;
    const struct topic_entry *topic;
    int32_t queue_id;
    int64_t time_ms, offset;
    bool has_offset;
};

/* False: answered. */
static bool take_reset(struct front *front, struct channel *channel, const struct frame *frame, struct reset *reset)
{
    struct bytes topic;
    if (!take_name(channel, frame, "topic", MSG_TOPIC_MAX, false, &topic) ||
        !take_name(channel, frame, "group", MSG_GROUP_MAX, false, &reset->group))
        return false;
    if (frame_get_i32(frame, "queueId", -1, &reset->queue_id) < 0 ||
        frame_get_i64(frame, "timestamp", -1, &reset->time_ms) < 0 ||
        frame_get_i64(frame, "offset", -1, &reset->offset) < 0) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "queueId, timestamp or offset is not a number");
        return false;
    }
    reset->has_offset = reset->queue_id >= 0 && reset->offset != -1;
    reset->topic = catalogue_topic(front->catalogue, topic);
    const struct group_entry *group = catalogue_group(front->catalogue, reset->group);
    if (!reset->topic)
        reply_error(channel, frame, RESPONSE_TOPIC_NOT_EXIST, "the topic does not exist");
    else if (!group || !group->known)
        reply_error(channel, frame, RESPONSE_SUBSCRIPTION_GROUP_NOT_EXIST, "the consumer group does not exist");
    else if (reset->queue_id >= (int32_t)reset->topic->slot_count ||
             (reset->queue_id < 0 && reset->topic->read_queues <= 0))
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "no queues to reset");
    else
        return true;
    return false;
}

int admin_offset_reset(struct front *front, struct channel *channel, const struct frame *frame)
{
    struct reset reset;
    if (!take_reset(front, channel, frame, &reset))
        return 0;
    int32_t first = reset.queue_id < 0 ? 0 : reset.queue_id;
    int32_t end = reset.queue_id < 0 ? reset.topic->read_queues : first + 1;
    int64_t min, max;
    if (reset.has_offset) {
        admin_queue_range(front, reset.topic, first, &min, &max);
        if (reset.offset < min || reset.offset > max + 1) {
            reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "offset %lld is not in the queue's range %lld to %lld",
                        (long long)reset.offset, (long long)min, (long long)max);
            return 0;
        }
    }
    struct admin_job *job = admin_begin(front, channel, frame);
    job->group = admin_copy(reset.group);
    job->search_ms = reset.has_offset || reset.time_ms < 0 ? -1 : reset.time_ms;
    for (int32_t i = first; i < end; i++) {
        struct queue_times *row = admin_add_row(job, job->topic, i);
        admin_queue_range(front, reset.topic, i, &row->min_offset, &row->max_offset);
        row->found_offset = reset.has_offset ? reset.offset : row->max_offset;
    }
    if (job->search_ms < 0)
        reset_found(front, job);
    else
        admin_look_up(front, job, reset_found);
    return 0;
}
