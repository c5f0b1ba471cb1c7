/* Consumer groups for administrators: 200 201 207 225 352 353. The front's one thread; the store keeps the groups. */
#include "admin_group.h"

#include <stdlib.h>
#include <string.h>

#include "admin.h"
#include "base/cleanup.h"
#include "base/panic.h"
#include "msg/names.h"
#include "wire/codes.h"

static const char *const known_keys[] = {
    "brokerId",
    "consumeBroadcastEnable",
    "consumeEnable",
    "consumeFromMinEnable",
    "consumeMessageOrderly",
    "consumeTimeoutMinute",
    "groupName",
    "groupSysFlag",
    "notifyConsumerIdsChangedEnable",
    "retryMaxTimes",
    "retryQueueNums",
    "whichBrokerWhenConsumeSlowly",
};

/* What the configuration says beyond the keys that have a place of their own; NULL: nothing. */
static char *extra_of(json_t *config)
{
    for (size_t i = 0; i < sizeof known_keys / sizeof *known_keys; i++)
        json_object_del(config, known_keys[i]);
    json_object_del(config, "attributes");
    json_t *policy = json_object_get(config, "groupRetryPolicy"), *plain = json_pack("{ss}", "type", "CUSTOMIZED");
    if (json_equal(policy, plain))
        json_object_del(config, "groupRetryPolicy");
    json_decref(plain);
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe(config, next, key, value)
    {
        if (json_is_null(value))
            json_object_del(config, key);
    }
    return json_object_size(config) ? json_dumps(config, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
}

static struct msg_group_put put_of(const json_t *config)
{
    return (struct msg_group_put){
        .broker_id = admin_json_i64(config, "brokerId", 0),
        .which_broker_when_slow = admin_json_i64(config, "whichBrokerWhenConsumeSlowly", 1),
        .retry_max_times = (int32_t)admin_json_i64(config, "retryMaxTimes", 16),
        .retry_queues = (int32_t)admin_json_i64(config, "retryQueueNums", 1),
        .group_sys_flag = (int32_t)admin_json_i64(config, "groupSysFlag", 0),
        .consume_timeout_minutes = (int32_t)admin_json_i64(config, "consumeTimeoutMinute", 15),
        .consume_enable = admin_json_bool(config, "consumeEnable", true),
        .consume_from_min_enable = admin_json_bool(config, "consumeFromMinEnable", true),
        .consume_broadcast_enable = admin_json_bool(config, "consumeBroadcastEnable", true),
        .consume_orderly = admin_json_bool(config, "consumeMessageOrderly", false),
        .notify_members_changed = admin_json_bool(config, "notifyConsumerIdsChangedEnable", true),
    };
}

/* The code with which a configuration is refused before anything is done; 0: it is not. */
static int32_t refusal_of(const json_t *config, const char **ret_remark)
{
    const char *name = json_string_value(json_object_get(config, "groupName"));
    *ret_remark = "a group's name is empty, too long or has other characters than %|a-zA-Z0-9_-";
    if (!json_is_object(config) || !name || !name_group_valid(bytes_of(name)))
        return RESPONSE_INVALID_PARAMETER;
    *ret_remark = "a group has no attributes that can be set";
    return json_object_size(json_object_get(config, "attributes")) ? RESPONSE_SYSTEM_ERROR : RESPONSE_SUCCESS;
}

static bool add_group(struct admin_job *job, json_t *config)
{
    struct msg_group_put put = put_of(config);
    PN_FREE char *name = strdup(json_string_value(json_object_get(config, "groupName")));
    PN_FREE char *extra = extra_of(config);
    if (!name)
        PANIC("out of memory");
    if (extra && strlen(extra) > MSG_EXTRA_MAX)
        return false;
    admin_add_record(job, MSG_GROUP_PUT, &put, sizeof put,
                     (struct bytes[]){bytes_of(name), bytes_of(extra ? extra : "")}, 2);
    return true;
}

static void answer_plain(struct front *front, struct admin_job *job)
{
    admin_end(front, job, RESPONSE_SUCCESS, "");
}

/* All are judged before the first is sent. */
static int put_all(struct front *front, struct channel *channel, const struct frame *frame, json_t *list)
{
    size_t index;
    json_t *config;
    json_array_foreach(list, index, config)
    {
        const char *remark;
        int32_t code = refusal_of(config, &remark);
        if (code) {
            reply_error(channel, frame, code, "%s", remark);
            return 0;
        }
    }
    struct admin_job *job = admin_begin(front, channel, frame);
    bool fits = true;
    json_array_foreach(list, index, config) fits &= add_group(job, config);
    if (fits)
        admin_send(front, job, answer_plain);
    else
        admin_end(front, job, RESPONSE_SYSTEM_ERROR, "a group's further settings are too long");
    return 0;
}

int admin_group_put(struct front *front, struct channel *channel, const struct frame *frame)
{
    const char *error = NULL;
    json_t *config = json_body_parse(frame->body, &error);
    if (!config && frame->body.size) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "group: %s", error);
        return 0;
    }
    json_t *list = json_array();
    if (config)
        json_array_append_new(list, config);
    put_all(front, channel, frame, list); /* no body: nothing to do, as Apache answers */
    json_decref(list);
    return 0;
}

int admin_group_put_list(struct front *front, struct channel *channel, const struct frame *frame)
{
    const char *error = NULL;
    json_t *json = json_body_parse(frame->body, &error);
    if (!json) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "group list: %s", error);
        return 0;
    }
    put_all(front, channel, frame, json_object_get(json, "groupConfigList"));
    json_decref(json);
    return 0;
}

int admin_group_all(struct front *front, struct channel *channel, const struct frame *frame)
{
    struct text text = {0};
    const struct group_entry *group, *groups = catalogue_groups(front->catalogue);
    bool more = false;
    text_add(&text, "{\"dataVersion\":");
    admin_put_version(&text, catalogue_groups_data_version(front->catalogue));
    text_add(&text, ",\"forbiddenTable\":{");
    for (group = groups; group; group = group->hh.next) {
        PN_FREE char *forbidden = group->forbidden ? json_dumps(group->forbidden, JSON_COMPACT) : NULL;
        if (!forbidden)
            continue;
        admin_put_comma(&text, &more);
        text_add_json_string(&text, bytes_of(group->name));
        text_add(&text, ":");
        text_add_bytes(&text, bytes_of(forbidden));
    }
    text_add(&text, "},\"subscriptionGroupTable\":{");
    more = false;
    for (group = groups; group; group = group->hh.next) {
        if (!group->known)
            continue;
        admin_put_comma(&text, &more);
        text_add_json_string(&text, bytes_of(group->name));
        text_add(&text, ":");
        admin_put_group(&text, group);
    }
    text_add(&text, "}}");
    admin_reply_body(channel, frame, &text);
    return 0;
}

int admin_group_drop(struct front *front, struct channel *channel, const struct frame *frame)
{
    struct bytes group = admin_field(frame, "groupName");
    bool clean_offsets = false;
    if (!group.size || group.size > MSG_GROUP_MAX || frame_get_bool(frame, "cleanOffset", false, &clean_offsets) < 0) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR,
                    "groupName is missing or too long, or cleanOffset is no boolean");
        return 0;
    }
    struct admin_job *job = admin_begin(front, channel, frame);
    struct msg_admin drop = {.flags = clean_offsets ? MSG_ADMIN_CLEAN_OFFSETS : 0};
    admin_add_record(job, MSG_GROUP_DROP, &drop, sizeof drop, &group, 1);
    admin_send(front, job, answer_plain);
    return 0;
}

static bool print_known(struct front *front, struct bytes name, struct text *text)
{
    const struct group_entry *group = catalogue_group(front->catalogue, name);
    if (!group || !group->known)
        return false;
    admin_put_group(text, group);
    return true;
}

/* The store has made it, and its catalogue record came before its answer. */
static void answer_group(struct front *front, struct admin_job *job)
{
    if (print_known(front, bytes_of(job->group), &job->body))
        admin_end_body(front, job);
    else
        admin_end(front, job, RESPONSE_SYSTEM_ERROR,
                  "the group was made and is gone again, or the store is busy: ask again");
}

int admin_group_get(struct front *front, struct channel *channel, const struct frame *frame)
{
    struct bytes name = admin_field(frame, "group");
    struct text text = {0};
    if (print_known(front, name, &text)) {
        admin_reply_body(channel, frame, &text);
        return 0;
    }
    if (!name_group_valid(name) || !front->config.auto_create_group) {
        reply_error(channel, frame, RESPONSE_SUBSCRIPTION_GROUP_NOT_EXIST, "the consumer group does not exist");
        return 0;
    }
    struct admin_job *job = admin_begin(front, channel, frame);
    struct msg_group_put put = {.flags = MSG_GROUP_AUTO};
    job->group = admin_copy(name);
    admin_add_record(job, MSG_GROUP_PUT, &put, sizeof put, (struct bytes[]){name, bytes_of("")}, 2);
    admin_send(front, job, answer_group);
    return 0;
}

static void put_forbidden(struct text *text, const char *group, const char *topic, bool readable)
{
    text_add(text, "{\"group\":");
    text_add_json_string(text, bytes_of(group));
    text_add(text, ",\"readable\":%s,\"topic\":", readable ? "true" : "false");
    text_add_json_string(text, bytes_of(topic));
    text_add(text, "}");
}

static void answer_forbidden(struct front *front, struct admin_job *job)
{
    put_forbidden(&job->body, job->group, job->topic, job->flag);
    admin_end_body(front, job);
}

int admin_group_forbidden(struct front *front, struct channel *channel, const struct frame *frame)
{
    struct bytes names[] = {admin_field(frame, "group"), admin_field(frame, "topic")};
    bool readable = true, is_change = admin_field(frame, "readable").size > 0;
    if (!names[0].size || names[0].size > MSG_GROUP_MAX || !names[1].size || names[1].size > MSG_TOPIC_MAX ||
        frame_get_bool(frame, "readable", true, &readable) < 0) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR,
                    "group or topic is missing or too long, or readable is no boolean");
        return 0;
    }
    if (is_change && !admin_may(front, channel, frame))
        return 0;
    struct admin_job *job = admin_begin(front, channel, frame);
    job->group = admin_copy(names[0]);
    const struct group_entry *group = catalogue_group(front->catalogue, names[0]);
    job->flag = is_change ? readable : !group || !catalogue_is_forbidden(group, names[1]);
    struct msg_admin forbid = {.flags = readable ? 0 : MSG_ADMIN_FORBIDDEN};
    if (is_change)
        admin_add_record(job, MSG_GROUP_FORBID, &forbid, sizeof forbid, names, 2);
    admin_send(front, job, answer_forbidden);
    return 0;
}
