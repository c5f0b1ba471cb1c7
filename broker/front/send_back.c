/* Messages that come back; see send_back.h, rules in remoting facts 3.11. The position comes from anybody: what lies there is
 * believed as in view.c. Front's thread, but for the reading. A ring that is full when the record has been read is said to
 * the client, which then sends the message itself, later. Fatal: out of memory. */
#include "send_back.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/panic.h"
#include "broker/format/properties.h"
#include "broker/format/record.h"
#include "damage.h"
#include "helper.h"
#include "msg/msg.h"
#include "number.h"
#include "pending.h"
#include "send.h"
#include "store_link.h"
#include "view.h"
#include "wire/codes.h"

enum { VERSION_MAX_RECONSUME_TIMES = 121, MESSAGE_ID_MAX = 2 * (RECORD_HOST_V6_SIZE + 8), ADDED_MAX = 512 + MESSAGE_ID_MAX };
#define RETRY_PREFIX "%RETRY%"

struct back_job {
    struct helper_job job;
    const struct front_config *config;
    struct channel_ref channel;
    int32_t opaque, delay_level, max_reconsume_times;
    bool oneway, unit_mode;
    int64_t pos, end_pos;
    uint8_t *record;
    size_t size;
    bool is_damaged;
    char topic[sizeof RETRY_PREFIX + MSG_GROUP_MAX];
};

static void back_run(struct helper_job *job)
{
    struct back_job *back = (struct back_job *)job;
    int r = view_read(back->config, back->pos, back->end_pos, &back->record, &back->size);
    back->is_damaged = r == -EUCLEAN;
}

static size_t put_hex(char *to, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        snprintf(to + 2 * i, 3, "%02X", data[i]);
    return 2 * size;
}

/* Apache's offset message id: store host and position. */
static size_t message_id(const uint8_t *record, int64_t pos, char *to)
{
    uint32_t sys_flag = be32_load(record + RECORD_SYS_FLAG_AT);
    size_t born = sys_flag & SYS_FLAG_BORN_IPV6 ? RECORD_HOST_V6_SIZE : RECORD_HOST_V4_SIZE;
    size_t host = sys_flag & SYS_FLAG_STORE_IPV6 ? RECORD_HOST_V6_SIZE : RECORD_HOST_V4_SIZE;
    uint8_t at[8];
    be64_store(at, (uint64_t)pos);
    size_t size = put_hex(to, record + RECORD_BORN_HOST_AT + born + 8, host);
    return size + put_hex(to + size, at, sizeof at);
}

/* The properties of the next try; malloc'ed. Where the message was first, and under which id, is kept. */
static struct bytes back_properties(const struct back_job *back, const struct record *record)
{
    static const char *const names[] = {"WAIT", "POP_CK", "__CRC32#", NULL};
    uint8_t *text = malloc(record->properties.size + ADDED_MAX + record->topic.size);
    if (!text)
        PANIC("out of memory");
    uint8_t *end = text + properties_copy_without(record->properties, names, text);
    if (properties_find(record->properties, "RETRY_TOPIC").size == 0)
        end = properties_put(end, "RETRY_TOPIC", record->topic);
    if (properties_find(record->properties, "ORIGIN_MESSAGE_ID").size == 0) {
        char id[MESSAGE_ID_MAX + 1];
        size_t size = message_id(back->record, back->pos, id);
        end = properties_put(end, "ORIGIN_MESSAGE_ID", (struct bytes){(const uint8_t *)id, size});
    }
    end = properties_put(end, "WAIT", bytes_of("false"));
    return (struct bytes){text, (size_t)(end - text)};
}

static uint8_t *put(uint8_t *at, struct bytes part)
{
    if (part.size)
        memcpy(at, part.data, part.size);
    return at + part.size;
}

static void ring_put(uint8_t *payload, const struct back_job *back, const struct record *record, struct bytes properties,
                     uint64_t token)
{
    const uint8_t *born_ip;
    struct bytes topic = bytes_of(back->topic);
    struct msg_send send = {
        .token = token,
        .flags = MSG_SEND_BACK | (token ? 0 : MSG_SEND_NO_ANSWER) | (back->unit_mode ? MSG_SEND_UNIT_MODE : 0) |
                 (record->sys_flag & SYS_FLAG_BORN_IPV6 ? MSG_SEND_IPV6 : 0),
        .queue_id = -1,
        .sys_flag = record->sys_flag,
        .max_reconsume_times = back->max_reconsume_times,
        .delay_level = back->delay_level,
        .topic_size = (uint16_t)topic.size,
        .properties_size = (uint32_t)properties.size,
        .body_size = (uint32_t)record->body.size,
    };
    record_origin(back->record, &send.flag, &send.born_ms, &born_ip, &send.born_port, &send.reconsume_times);
    memcpy(send.born_ip, born_ip, record->sys_flag & SYS_FLAG_BORN_IPV6 ? 16 : 4);
    memcpy(payload, &send, sizeof send);
    put(put(put(payload + sizeof send, topic), properties), record->body);
}

/* A code to answer now, 0: the store has it. */
static int32_t pass_on(struct front *front, struct channel *channel, const struct back_job *back, const char **ret_remark)
{
    struct record record;
    if (record_parse(back->record, back->size, back->pos, (int64_t)back->size, false, &record) != RECORD_MESSAGE)
        return RESPONSE_SYSTEM_ERROR;
    struct bytes properties = back_properties(back, &record);
    PN_FREE void *owner = (void *)properties.data;
    (void)owner;
    size_t size = sizeof(struct msg_send) + strlen(back->topic) + properties.size + record.body.size;
    *ret_remark = "the message has no room for what a retry adds to its properties";
    if (properties.size > MSG_PROPERTIES_MAX || size > store_link_data_max(front->link))
        return RESPONSE_SYSTEM_ERROR;
    struct pending_request request = {
        .channel = back->channel, .opaque = back->opaque, .kind = PENDING_SEND_BACK, .since_ms = front->now_ms};
    uint64_t token = back->oneway ? 0 : pending_add(front->pending, &request);
    uint8_t *payload = token || back->oneway ? store_link_reserve_data(front, MSG_SEND, size) : NULL;
    if (!payload) {
        if (token)
            pending_take(front->pending, token, &request);
        *ret_remark = "[REJECTREQUEST]too many requests are outstanding";
        return RESPONSE_SYSTEM_BUSY;
    }
    if (token)
        channel->outstanding++;
    ring_put(payload, back, &record, properties, token);
    return 0;
}

static void back_done(struct helper_job *job, struct front *front)
{
    struct back_job *back = (struct back_job *)job;
    struct channel *channel = connections_find(front, back->channel);
    char text[96];
    const char *remark = text;
    snprintf(text, sizeof text, "look message by offset failed, %" PRId64, back->pos);
    if (back->is_damaged)
        damage_record(front, back->pos);
    if (channel) {
        channel_answered(channel);
        int32_t code = back->record ? pass_on(front, channel, back, &remark) : RESPONSE_SYSTEM_ERROR;
        if (code)
            reply_plain((struct reply_to){channel, back->opaque, back->oneway}, code, bytes_of(remark));
    }
    free(back->record);
    free(back);
}

/* False: answered. */
static bool take_header(struct channel *channel, const struct frame *frame, struct back_job *back)
{
    const struct bytes *group = frame_get(frame, "group"), *unit = frame_get(frame, "unitMode");
    if (!frame_get(frame, "offset") || frame_get_i64(frame, "offset", 0, &back->pos) < 0 ||
        !frame_get(frame, "delayLevel") || frame_get_i32(frame, "delayLevel", 0, &back->delay_level) < 0 ||
        frame_get_i32(frame, "maxReconsumeTimes", -1, &back->max_reconsume_times) < 0) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "offset, delayLevel or maxReconsumeTimes is missing or no number");
        return false;
    }
    if (!group || group->size == 0 || group->size > MSG_GROUP_MAX ||
        sizeof RETRY_PREFIX - 1 + group->size > MSG_TOPIC_MAX) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "the group is missing, or its name too long");
        return false;
    }
    if (frame->version < VERSION_MAX_RECONSUME_TIMES)
        back->max_reconsume_times = -1;
    back->unit_mode = unit && bytes_equal_text(*unit, "true");
    snprintf(back->topic, sizeof back->topic, "%s%.*s", RETRY_PREFIX, (int)group->size, (const char *)group->data);
    return true;
}

int send_back(struct front *front, struct channel *channel, const struct frame *frame)
{
    const struct queue_table *table = front->queue_table;
    struct back_job wanted = {0};
    if (!take_header(channel, frame, &wanted))
        return 0;
    wanted.end_pos = atomic_load_explicit(&table->log_readable_pos, memory_order_acquire);
    if (wanted.pos < atomic_load_explicit(&table->log_min_pos, memory_order_acquire) || wanted.pos >= wanted.end_pos) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "look message by offset failed, %" PRId64, wanted.pos);
        return 0;
    }
    struct back_job *back = malloc(sizeof *back);
    if (!back)
        PANIC("out of memory");
    *back = wanted;
    back->job = (struct helper_job){.run = back_run, .done = back_done};
    back->config = &front->config;
    back->channel = channel->ref;
    back->opaque = frame->opaque;
    back->oneway = frame->flag & FRAME_FLAG_ONEWAY;
    channel->outstanding++;
    helper_submit(front->helper, &back->job);
    return 0;
}
