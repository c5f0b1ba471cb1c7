/* The hot path of a broker: no allocation, one walk over the header's fields, one copy of the payload (socket buffer to
 * ring). Checks here are those of the ring record's limits; everything about topics and groups is the store's.
 * Runs in the front's one thread. */
#include "send.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/panic.h"
#include "number.h"
#include "pending.h"
#include "slow_store.h"
#include "store_link.h"
#include "wire/codes.h"

enum { VERSION_MAX_RECONSUME_TIMES = 121 }; /* V3_4_9: older clients put nonsense into maxReconsumeTimes */

/* V1 names in the order of the V2 letters a … m (n is the broker's name). */
static const char *const v1_names[] = {"producerGroup", "topic",          "defaultTopic",  "defaultTopicQueueNums",
                                       "queueId",       "sysFlag",        "bornTimestamp", "flag",
                                       "properties",    "reconsumeTimes", "unitMode",      "maxReconsumeTimes",
                                       "batch"};
enum { LETTER_COUNT = 13 };

static int letter_of(const struct frame *frame, struct bytes key)
{
    if (frame->code != REQUEST_SEND_MESSAGE)
        return key.size == 1 && key.data[0] >= 'a' && key.data[0] < 'a' + LETTER_COUNT ? key.data[0] - 'a' : -1;
    for (int i = 0; i < LETTER_COUNT; i++)
        if (bytes_equal_text(key, v1_names[i]))
            return i;
    return -1;
}

static bool is_true(struct bytes text)
{
    return text.size == 4 && strncasecmp((const char *)text.data, "true", 4) == 0; /* Boolean.parseBoolean */
}

static int take_field(struct send_header *header, int letter, struct bytes value)
{
    switch (letter + 'a') {
    case 'a':
        header->group = value;
        return 0;
    case 'b':
        header->topic = value;
        return 0;
    case 'c':
        header->default_topic = value;
        return 0;
    case 'd':
        return number_parse_i32(value, &header->default_topic_queues);
    case 'e':
        return number_parse_i32(value, &header->queue_id);
    case 'f':
        return number_parse_i32(value, &header->sys_flag);
    case 'g':
        return number_parse_i64(value, &header->born_ms);
    case 'h':
        return number_parse_i32(value, &header->flag);
    case 'i':
        header->properties = value;
        return 0;
    case 'j':
        return number_parse_i32(value, &header->reconsume_times);
    case 'k':
        header->unit_mode = is_true(value);
        return 0;
    case 'l':
        return number_parse_i32(value, &header->max_reconsume_times);
    default:
        header->batch = is_true(value);
        return 0;
    }
}

int send_header_parse(const struct frame *frame, struct send_header *ret_header, const char **ret_field)
{
    /* What Apache's client always sends and its broker never checks: without it there is nothing to decide on. */
    enum { NEEDED = 1 << 1 | 1 << 4 }; /* topic, queueId */
    unsigned seen = 0;
    *ret_header = (struct send_header){.max_reconsume_times = -1};
    for (unsigned i = 0; i < frame->field_count; i++) {
        int letter = letter_of(frame, frame->fields[i].key);
        if (letter < 0)
            continue;
        if (take_field(ret_header, letter, frame->fields[i].value) < 0) {
            *ret_field = v1_names[letter];
            return -EINVAL;
        }
        seen |= 1u << letter;
    }
    if (frame->version < VERSION_MAX_RECONSUME_TIMES)
        ret_header->max_reconsume_times = -1;
    for (int letter = 0; letter < LETTER_COUNT; letter++)
        if (NEEDED & ~seen & 1u << letter) {
            *ret_field = v1_names[letter];
            return -EINVAL;
        }
    return 0;
}

size_t send_record_size(const struct send_header *header, const struct frame *frame)
{
    return sizeof(struct msg_send) + header->topic.size + header->default_topic.size + header->group.size +
           header->properties.size + frame->body.size;
}

static uint8_t *put(uint8_t *at, struct bytes part)
{
    if (part.size)
        memcpy(at, part.data, part.size);
    return at + part.size;
}

void send_record_encode(uint8_t *payload, const struct send_header *header, const struct frame *frame,
                        const struct channel *channel, uint64_t token)
{
    struct msg_send send = {
        .token = token,
        .born_ms = header->born_ms,
        .flags = (header->batch ? MSG_SEND_BATCH : 0) | (token ? 0 : MSG_SEND_NO_ANSWER) |
                 (channel->peer_ipv6 ? MSG_SEND_IPV6 : 0) | (header->unit_mode ? MSG_SEND_UNIT_MODE : 0),
        .queue_id = header->queue_id,
        .sys_flag = header->sys_flag,
        .flag = header->flag,
        .reconsume_times = header->reconsume_times,
        .max_reconsume_times = header->max_reconsume_times,
        .default_topic_queues = header->default_topic_queues,
        .topic_size = (uint16_t)header->topic.size,
        .default_topic_size = (uint16_t)header->default_topic.size,
        .group_size = (uint16_t)header->group.size,
        .born_port = channel->peer_port,
        .properties_size = (uint32_t)header->properties.size,
        .body_size = (uint32_t)frame->body.size,
    };
    memcpy(send.born_ip, channel->peer_ip, sizeof send.born_ip);
    memcpy(payload, &send, sizeof send);
    uint8_t *at = payload + sizeof send;
    at = put(at, header->topic);
    at = put(at, header->default_topic);
    at = put(at, header->group);
    at = put(at, header->properties);
    put(at, frame->body);
}

/* The limits of a ring record; 0 if it fits. */
static int32_t check_limits(struct front *front, const struct send_header *header, const struct frame *frame,
                            const char **ret_remark)
{
    *ret_remark = NULL;
    if (header->topic.size > MSG_TOPIC_MAX || header->default_topic.size > MSG_TOPIC_MAX) {
        *ret_remark = "the topic's name is too long";
        return RESPONSE_INVALID_PARAMETER;
    }
    if (header->group.size > MSG_GROUP_MAX) {
        *ret_remark = "the producer group's name is too long";
        return RESPONSE_INVALID_PARAMETER;
    }
    if (header->properties.size > MSG_PROPERTIES_MAX)
        *ret_remark = "the properties are longer than 32767 bytes";
    else if ((int64_t)frame->body.size > front->config.max_message_size || frame->body.size > MSG_BODY_MAX)
        *ret_remark = "the body is longer than maxMessageSize";
    else if (send_record_size(header, frame) > store_link_data_max(front->link))
        *ret_remark = "body and properties together are longer than this broker takes";
    return *ret_remark ? RESPONSE_MESSAGE_ILLEGAL : 0;
}

/* Every send reply, an error too, carries region and trace switch: Java's client reads them whatever the code. */
static void write_common(struct frame_writer *writer, const struct front *front)
{
    frame_write_text(writer, "MSG_REGION", bytes_of(front->config.region_id));
    frame_write_text(writer, "TRACE_ON", bytes_of("true"));
}

void send_refused(struct reply_to to, int32_t code, struct bytes remark)
{
    struct reply reply;
    const struct front *front = to.channel->front;
    if (!reply_begin(&reply, to, code, remark, strlen(front->config.region_id) + 64, 2))
        return;
    write_common(&reply.writer, front);
    reply_end(&reply, (struct bytes){NULL, 0});
}

int send_message(struct front *front, struct channel *channel, const struct frame *frame)
{
    struct send_header header;
    const char *field, *remark;
    struct reply_to to = reply_to(channel, frame);
    if (send_header_parse(frame, &header, &field) < 0) {
        char text[96];
        int n = snprintf(text, sizeof text, "the header field %s is missing or malformed", field);
        send_refused(to, RESPONSE_SYSTEM_ERROR, (struct bytes){(const uint8_t *)text, (size_t)n});
        return 0;
    }
    int32_t code = check_limits(front, &header, frame, &remark);
    if (code) {
        board_add(front->board, COUNTER_MESSAGES_REFUSED, 1);
        send_refused(to, code, bytes_of(remark));
        return 0;
    }
    /* A request that must wait, or is refused, leaves no trace. */
    struct pending_request request = {
        .channel = channel->ref, .opaque = frame->opaque, .kind = PENDING_SEND, .since_ms = front->now_ms};
    uint64_t token = to.oneway ? 0 : pending_add(front->pending, &request);
    if (!token && !to.oneway) {
        send_refused(to, RESPONSE_SYSTEM_BUSY, bytes_of("[REJECTREQUEST]too many requests are outstanding"));
        return 0;
    }
    uint8_t *payload = store_link_reserve_data(front, MSG_SEND, send_record_size(&header, frame));
    if (!payload) {
        if (token)
            pending_take(front->pending, token, &request);
        slow_store_ring_full(front);
        if (!token || !slow_store_is_stuck(front))
            return -EAGAIN; /* also who wants no answer: what could not be told may not be dropped */
        char text[SLOW_STORE_TEXT_SIZE], busy[SLOW_STORE_TEXT_SIZE + 64];
        slow_store_text(front, text);
        snprintf(busy, sizeof busy, "[TIMEOUT_CLEAN_QUEUE]broker busy: %s", text);
        board_add(front->board, COUNTER_MESSAGES_REFUSED, 1);
        send_refused(to, RESPONSE_SYSTEM_BUSY, bytes_of(busy));
        return 0;
    }
    if (token)
        channel->outstanding++;
    send_record_encode(payload, &header, frame, channel, token);
    return 0;
}

static char *put_hex(char *at, uint64_t value)
{
    static const char digits[] = "0123456789ABCDEF";
    for (int shift = 60; shift >= 0; shift -= 4)
        *at++ = digits[value >> shift & 15];
    return at;
}

/* Offset message ids, comma-joined for a batch: its records lie one behind the other, in one log file. */
static size_t put_ids(char *text, const struct front *front, const struct msg_send_answer *answer, const uint8_t *sizes)
{
    char *at = text;
    int64_t pos = answer->log_pos;
    size_t head = strlen(front->config.store_host_hex);
    uint32_t count = answer->count ? answer->count : 1;
    for (uint32_t i = 0; i < count; i++) {
        if (i)
            *at++ = ',';
        memcpy(at, front->config.store_host_hex, head);
        at = put_hex(at + head, (uint64_t)pos);
        uint32_t size = 0;
        if (count > 1)
            memcpy(&size, sizes + (size_t)i * sizeof size, sizeof size);
        pos += size;
    }
    return (size_t)(at - text);
}

void send_answered(struct front *front, struct reply_to to, const struct msg_send_answer *answer)
{
    const uint8_t *tail = (const uint8_t *)(answer + 1);
    struct bytes key = {tail, answer->uniq_key_size};
    struct bytes remark = {tail + key.size, answer->remark_size};
    bool stored = answer->code == RESPONSE_SUCCESS || answer->code == RESPONSE_FLUSH_DISK_TIMEOUT ||
                  answer->code == RESPONSE_SLAVE_NOT_AVAILABLE || answer->code == RESPONSE_FLUSH_SLAVE_TIMEOUT;
    if (!stored) {
        send_refused(to, answer->code, remark);
        return;
    }
    enum { ID_SIZE_MAX = 40 + 16 + 1 };
    char few[4 * ID_SIZE_MAX], *ids = few;
    if (answer->count > 4 && !(ids = malloc((size_t)answer->count * ID_SIZE_MAX)))
        PANIC("out of memory");
    struct bytes id = {(const uint8_t *)ids, put_ids(ids, front, answer, remark.data + remark.size)};
    struct reply reply;
    if (reply_begin(&reply, to, answer->code, remark, id.size + key.size + strlen(front->config.region_id) + 128, 6)) {
        frame_write_text(&reply.writer, "msgId", id);
        frame_write_i64(&reply.writer, "queueId", answer->queue_id);
        frame_write_i64(&reply.writer, "queueOffset", answer->queue_offset);
        if (key.size)
            frame_write_text(&reply.writer, "transactionId", key);
        write_common(&reply.writer, front);
        reply_end(&reply, (struct bytes){NULL, 0});
    }
    if (ids != few)
        free(ids);
}
