/* Topics for administrators: 18 21 202 215 300 305 306 316 329 343 351. 17 is topic.c's. The front's one thread. Lists
 * come from the catalogue, numbers from the queue table, times from a helper; changes are the store's. */
#include "admin_topic.h"

#include <stdlib.h>
#include <string.h>

#include "admin.h"
#include "base/panic.h"
#include "broker_stats.h"
#include "msg/names.h"
#include "wire/codes.h"

static bool is_system(const struct front *front, struct bytes name)
{
    return name_is_system_topic(name) || bytes_equal_text(name, front->config.broker_name) ||
           bytes_equal_text(name, front->config.cluster_name);
}

/* NULL: it may be made or changed; else the reason why not. */
static const char *name_refusal(const struct front *front, struct bytes name)
{
    if (!name_topic_valid(name))
        return "a topic's name is empty, too long or has other characters than %|a-zA-Z0-9_-";
    return is_system(front, name) ? "a topic's name is that of a system topic" : NULL;
}

/* fastjson's map {"+message.type":"NORMAL","-reserve.time":""} as the header's text. */
static void put_attributes(struct text *text, json_t *attributes)
{
    const char *key;
    json_t *value;
    bool more = false;
    json_object_foreach(attributes, key, value)
    {
        admin_put_comma(text, &more);
        text_add(text, "%s", key);
        if (json_string_length(value))
            text_add(text, "=%s", json_string_value(value));
    }
}

static bool add_topic(struct admin_job *job, json_t *config)
{
    const char *name = json_string_value(json_object_get(config, "topicName"));
    const char *filter = json_string_value(json_object_get(config, "topicFilterType"));
    struct msg_topic_put put = {
        .read_queues = (int32_t)admin_json_i64(config, "readQueueNums", 16),
        .write_queues = (int32_t)admin_json_i64(config, "writeQueueNums", 16),
        .perm = (int32_t)admin_json_i64(config, "perm", 6),
        .topic_sys_flag = (int32_t)admin_json_i64(config, "topicSysFlag", 0),
        .order = admin_json_bool(config, "order", false),
        .multi_tag = filter && strcmp(filter, "MULTI_TAG") == 0,
    };
    struct text attributes = {0};
    put_attributes(&attributes, json_object_get(config, "attributes"));
    bool fits = attributes.size <= UINT16_MAX;
    if (fits)
        admin_add_record(job, MSG_TOPIC_PUT, &put, sizeof put,
                         (struct bytes[]){bytes_of(name), {(const uint8_t *)attributes.data, attributes.size}}, 2);
    text_free(&attributes);
    return fits;
}

static void answer_plain(struct front *front, struct admin_job *job)
{
    admin_end(front, job, RESPONSE_SUCCESS, "");
}

int admin_topic_put_list(struct front *front, struct channel *channel, const struct frame *frame)
{
    const char *refusal = NULL;
    json_t *json = json_body_parse(frame->body, &refusal), *config;
    if (!json) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "topic list: %s", refusal);
        return 0;
    }
    json_t *list = json_object_get(json, "topicConfigList");
    size_t index;
    json_array_foreach(list, index, config)
    {
        const char *name = json_string_value(json_object_get(config, "topicName"));
        if (!refusal)
            refusal = name_refusal(front, bytes_of(name ? name : ""));
    }
    struct admin_job *job = refusal ? NULL : admin_begin(front, channel, frame);
    if (refusal)
        reply_error(channel, frame, RESPONSE_INVALID_PARAMETER, "%s", refusal);
    if (job) {
        bool fits = true;
        json_array_foreach(list, index, config) fits &= add_topic(job, config);
        if (fits)
            admin_send(front, job, answer_plain);
        else
            admin_end(front, job, RESPONSE_SYSTEM_ERROR, "a topic's attributes are too long");
    }
    json_decref(json);
    return 0;
}

int admin_topic_drop(struct front *front, struct channel *channel, const struct frame *frame)
{
    struct bytes topic = admin_field(frame, "topic");
    if (!topic.size || topic.size > MSG_TOPIC_MAX || is_system(front, topic)) {
        reply_error(channel, frame, RESPONSE_INVALID_PARAMETER,
                    "the topic's name is missing, too long or a system topic's");
        return 0;
    }
    struct admin_job *job = admin_begin(front, channel, frame);
    struct msg_admin drop = {0};
    admin_add_record(job, MSG_TOPIC_DROP, &drop, sizeof drop, &topic, 1);
    admin_send(front, job, answer_plain);
    return 0;
}

int admin_topic_all(struct front *front, struct channel *channel, const struct frame *frame)
{
    struct text text = {0};
    bool more = false;
    text_add(&text, "{\"dataVersion\":");
    admin_put_version(&text, catalogue_topics_data_version(front->catalogue));
    /* Static topics are not served, so their table never changes. */
    text_add(&text, ",\"mappingDataVersion\":");
    admin_put_version(&text, (struct msg_version){0});
    text_add(&text, ",\"topicConfigTable\":{");
    for (const struct topic_entry *topic = catalogue_topics(front->catalogue); topic; topic = topic->hh.next) {
        admin_put_comma(&text, &more);
        text_add_json_string(&text, bytes_of(topic->name));
        text_add(&text, ":");
        admin_put_topic(&text, topic);
    }
    text_add(&text, "},\"topicQueueMappingDetailMap\":{},\"topicQueueMappingInfoMap\":{}}");
    admin_reply_body(channel, frame, &text);
    return 0;
}

static const struct topic_entry *find(struct front *front, struct channel *channel, const struct frame *frame)
{
    struct bytes name = admin_field(frame, "topic");
    const struct topic_entry *topic = catalogue_topic(front->catalogue, name);
    if (!topic)
        reply_error(channel, frame, RESPONSE_TOPIC_NOT_EXIST, "the topic does not exist");
    return topic;
}

int admin_topic_get(struct front *front, struct channel *channel, const struct frame *frame)
{
    const struct topic_entry *topic = find(front, channel, frame);
    struct text text = {0};
    if (!topic)
        return 0;
    admin_put_topic(&text, topic);
    admin_reply_body(channel, frame, &text);
    return 0;
}

static void answer_stats(struct front *front, struct admin_job *job)
{
    struct text *text = &job->body;
    bool more = false;
    text_add(text, "{\"offsetTable\":{");
    for (unsigned i = 0; i < job->row_count; i++) {
        const struct queue_times *row = &job->rows[i];
        admin_put_comma(text, &more);
        admin_put_queue(text, front, row->topic, row->queue_id);
        text_add(text, ":{\"lastUpdateTimestamp\":%lld,\"maxOffset\":%lld,\"minOffset\":%lld}",
                 (long long)(row->max_offset > 0 ? row->last_ms : 0), (long long)row->max_offset,
                 (long long)row->min_offset);
    }
    text_add(text, "},\"topicPutTps\":%.3f}", broker_stats_put_tps(front, bytes_of(job->topic)));
    admin_end_body(front, job);
}

int admin_topic_stats(struct front *front, struct channel *channel, const struct frame *frame)
{
    const struct topic_entry *topic = find(front, channel, frame);
    struct admin_job *job = topic ? admin_begin(front, channel, frame) : NULL;
    if (!job)
        return 0;
    int32_t count = topic->write_queues > topic->read_queues ? topic->write_queues : topic->read_queues;
    for (int32_t i = 0; i < count; i++) {
        struct queue_times *row = admin_add_row(job, job->topic, i);
        admin_queue_range(front, topic, i, &row->min_offset, &row->max_offset);
    }
    admin_look_up(front, job, answer_stats);
    return 0;
}

/* Who consumes a topic: members that subscribe it, and groups that have offsets of it. */
static void answer_groups(struct front *front, struct admin_job *job)
{
    struct text *text = &job->body;
    struct bytes topic = bytes_of(job->topic);
    bool more = false;
    text_add(text, "{\"groupList\":[");
    for (unsigned i = 0; i < job->offsets.count; i++) {
        admin_put_comma(text, &more);
        text_add_json_string(text, bytes_of(job->offsets.entries[i].group));
    }
    for (const struct group_entry *group = catalogue_groups(front->catalogue); group; group = group->hh.next) {
        bool is_told = false;
        if (!group->consumers || !catalogue_subscription(group, topic))
            continue;
        for (unsigned i = 0; i < job->offsets.count && !is_told; i++)
            is_told = strcmp(job->offsets.entries[i].group, group->name) == 0;
        if (is_told)
            continue;
        admin_put_comma(text, &more);
        text_add_json_string(text, bytes_of(group->name));
    }
    text_add(text, "]}");
    admin_end_body(front, job);
}

int admin_topic_consumers(struct front *front, struct channel *channel, const struct frame *frame)
{
    struct bytes topic = admin_field(frame, "topic");
    if (!topic.size || topic.size > MSG_TOPIC_MAX) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "the topic's name is missing or too long");
        return 0;
    }
    struct admin_job *job = admin_begin(front, channel, frame);
    if (job)
        admin_collect(front, job, (struct bytes){NULL, 0}, topic, answer_groups);
    return 0;
}

static void answer_topics(struct front *front, struct admin_job *job)
{
    struct text *text = &job->body;
    bool more = false;
    text_add(text, "{\"brokerAddr\":");
    text_add_json_string(text, bytes_of(front->config.broker_addr));
    text_add(text, ",\"topicList\":[");
    for (unsigned i = 0; i < job->offsets.count; i++) {
        admin_put_comma(text, &more);
        text_add_json_string(text, bytes_of(job->offsets.entries[i].topic));
    }
    text_add(text, "]}");
    admin_end_body(front, job);
}

int admin_topic_of_group(struct front *front, struct channel *channel, const struct frame *frame)
{
    struct bytes group = admin_field(frame, "group");
    if (!group.size || group.size > MSG_GROUP_MAX) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "the group's name is missing or too long");
        return 0;
    }
    struct admin_job *job = admin_begin(front, channel, frame);
    if (job)
        admin_collect(front, job, group, (struct bytes){NULL, 0}, answer_topics);
    return 0;
}

/* Those that Apache calls so: the fixed names and what a broker makes at its start. */
int admin_topic_system_list(struct front *front, struct channel *channel, const struct frame *frame)
{
    static const char *const names[] = {
        "TBW102",
        "SCHEDULE_TOPIC_XXXX",
        "BenchmarkTest",
        "RMQ_SYS_TRANS_HALF_TOPIC",
        "RMQ_SYS_TRACE_TOPIC",
        "RMQ_SYS_TRANS_OP_HALF_TOPIC",
        "TRANS_CHECK_MAX_TIME_TOPIC",
        "SELF_TEST_TOPIC",
        "OFFSET_MOVED_EVENT",
        "CHECKPOINT_TOPIC",
        "rmq_sys_wheel_timer",
    };
    const char *cluster = front->config.cluster_name, *broker = front->config.broker_name;
    struct text text = {0};
    text_add(&text, "{\"topicList\":[");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        text_add(&text, "\"%s\",", names[i]);
    text_add(&text, "\"%s\",\"%s\",\"%s_REPLY_TOPIC\",\"rmq_sys_REVIVE_LOG_%s\",\"rmq_sys_SYNC_BROKER_MEMBER_%s\"]}",
             cluster, broker, cluster, cluster, broker);
    admin_reply_body(channel, frame, &text);
    return 0;
}

static int clean(struct front *front, struct channel *channel, const struct frame *frame, uint32_t what)
{
    struct msg_admin record = {.flags = what};
    struct admin_job *job = admin_begin(front, channel, frame);
    admin_add_record(job, MSG_CLEAN, &record, sizeof record, NULL, 0);
    admin_send(front, job, answer_plain);
    return 0;
}

int admin_topic_clean_unused(struct front *front, struct channel *channel, const struct frame *frame)
{
    return clean(front, channel, frame, MSG_ADMIN_UNUSED_QUEUES);
}

int admin_topic_clean_expired(struct front *front, struct channel *channel, const struct frame *frame)
{
    return clean(front, channel, frame, MSG_ADMIN_EXPIRED_QUEUES);
}

int admin_topic_delete_log(struct front *front, struct channel *channel, const struct frame *frame)
{
    return clean(front, channel, frame, MSG_ADMIN_EXPIRED_LOG);
}
