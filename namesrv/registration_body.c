/* Reads the topics that a broker of another host registers: as JSON, or in the old compressed form (zlib stream of
 * length-prefixed texts). What follows the topics there (filter servers, static topics) is not used. Runs in the name
 * server. The sender may be anybody: every length is checked, what it unpacks to is bounded, and a value that is
 * missing has Apache's default. */
#include "registration_body.h"

#include <errno.h>
#include <isa-l/igzip_lib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/panic.h"
#include "json/json_body.h"

enum { TOPIC_QUEUES_DEFAULT = 16, TOPIC_PERM_DEFAULT = 6, TOPIC_LINE_MAX = 64 << 10 };

/* fastjson takes a number in quotes too. */
static int64_t number_of(const json_t *object, const char *key, int64_t default_value)
{
    const json_t *value = json_object_get(object, key);
    if (json_is_integer(value))
        return json_integer_value(value);
    if (json_is_string(value))
        return strtoll(json_string_value(value), NULL, 10);
    return default_value;
}

static int32_t small_number_of(const json_t *object, const char *key, int32_t default_value)
{
    int64_t value = number_of(object, key, default_value);
    return value < 0 || value > INT32_MAX ? 0 : (int32_t)value;
}

void registration_body_version(const json_t *json, struct bus_data_version *ret_version)
{
    *ret_version = (struct bus_data_version){
        .state_version = number_of(json, "stateVersion", 0),
        .timestamp_ms = number_of(json, "timestamp", 0),
        .counter = number_of(json, "counter", 0),
    };
}

static int take_json_topics(struct registration_body *body, json_t *table)
{
    const char *key;
    json_t *topic;
    body->topics = calloc(json_object_size(table) + 1, sizeof *body->topics);
    pn_assert(body->topics);
    json_object_foreach(table, key, topic)
    {
        const json_t *value = json_object_get(topic, "topicName");
        struct bytes name = json_is_string(value)
                                ? (struct bytes){(const uint8_t *)json_string_value(value), json_string_length(value)}
                                : bytes_of(key);
        if (!json_is_object(topic) || name.size > REGISTRATION_BODY_TOPIC_SIZE_MAX)
            return -EBADMSG;
        body->topics[body->topic_count++] = (struct bus_topic){
            .name = name,
            .read_queues = small_number_of(topic, "readQueueNums", TOPIC_QUEUES_DEFAULT),
            .write_queues = small_number_of(topic, "writeQueueNums", TOPIC_QUEUES_DEFAULT),
            .perm = small_number_of(topic, "perm", TOPIC_PERM_DEFAULT),
            .topic_sys_flag = small_number_of(topic, "topicSysFlag", 0),
            .order = json_is_true(json_object_get(topic, "order")),
        };
    }
    return 0;
}

static int parse_json(struct bytes text, int32_t sender_version, struct registration_body *body, const char **ret_error)
{
    body->json = json_body_parse(text, ret_error);
    if (!body->json)
        return -EBADMSG;
    json_t *wrapper = sender_version < REGISTRATION_BODY_VERSION_WRAPPED
                          ? body->json
                          : json_object_get(body->json, "topicConfigSerializeWrapper");
    registration_body_version(json_object_get(wrapper, "dataVersion"), &body->version);
    *ret_error = "a topic is not an object, or its name is too long";
    return take_json_topics(body, json_object_get(wrapper, "topicConfigTable"));
}

/* `ret_size` bytes into body->inflated. */
static int inflate_whole(struct bytes packed, struct registration_body *body, size_t *ret_size)
{
    struct inflate_state *state = malloc(sizeof *state); /* 80 KiB: too much for a stack */
    size_t capacity = 64 << 10;
    int r = 0;
    pn_assert(state);
    isal_inflate_init(state);
    state->crc_flag = ISAL_ZLIB;
    state->next_in = (uint8_t *)packed.data;
    state->avail_in = (uint32_t)packed.size;
    do {
        capacity *= 2;
        body->inflated = realloc(body->inflated, capacity);
        pn_assert(body->inflated);
        state->next_out = body->inflated + state->total_out;
        state->avail_out = (uint32_t)(capacity - state->total_out);
        r = isal_inflate(state);
    } while (r == ISAL_DECOMP_OK && state->avail_out == 0 && state->block_state != ISAL_BLOCK_FINISH &&
             capacity < REGISTRATION_BODY_INFLATED_MAX);
    bool is_whole = r == ISAL_DECOMP_OK && state->block_state == ISAL_BLOCK_FINISH;
    *ret_size = state->total_out;
    free(state);
    return is_whole ? 0 : -EBADMSG;
}

static uint32_t take_be32(struct cursor *cursor)
{
    const uint8_t *p = cursor_take(cursor, 4);
    return p ? be32_load(p) : 0;
}

static struct bytes take_text(struct cursor *cursor)
{
    uint32_t size = take_be32(cursor);
    const uint8_t *p = cursor_take(cursor, size);
    return p ? (struct bytes){p, size} : (struct bytes){NULL, 0};
}

/* "name readQueues writeQueues perm FILTERTYPE attributes" */
static int parse_topic(struct bytes line, struct bus_topic *ret_topic)
{
    char numbers[64];
    const uint8_t *space = line.size ? memchr(line.data, ' ', line.size) : NULL;
    if (!space || space == line.data || line.size > TOPIC_LINE_MAX)
        return -EBADMSG;
    size_t name_size = (size_t)(space - line.data), rest = line.size - name_size;
    if (name_size > REGISTRATION_BODY_TOPIC_SIZE_MAX)
        return -EBADMSG;
    snprintf(numbers, sizeof numbers, "%.*s", (int)rest, (const char *)space);
    *ret_topic = (struct bus_topic){.name = {line.data, name_size}};
    if (sscanf(numbers, "%9d %9d %9d", &ret_topic->read_queues, &ret_topic->write_queues, &ret_topic->perm) != 3 ||
        ret_topic->read_queues < 0 || ret_topic->write_queues < 0)
        return -EBADMSG;
    return 0;
}

static int parse_compressed(struct bytes packed, struct registration_body *body, const char **ret_error)
{
    size_t size;
    *ret_error = "the body is not a whole zlib stream of at most 64 MiB";
    if (inflate_whole(packed, body, &size) < 0)
        return -EBADMSG;
    struct cursor cursor = cursor_over(body->inflated, size);
    body->json = json_body_parse(take_text(&cursor), ret_error);
    if (!body->json)
        return -EBADMSG;
    registration_body_version(body->json, &body->version);
    uint32_t count = take_be32(&cursor);
    *ret_error = "the body ends before its topics do, or a topic cannot be read";
    if (cursor.bad || count > (size_t)(cursor.end - cursor.pos) / 4) /* before memory is asked for */
        return -EBADMSG;
    body->topics = calloc((size_t)count + 1, sizeof *body->topics);
    pn_assert(body->topics);
    for (uint32_t i = 0; i < count; i++)
        if (parse_topic(take_text(&cursor), &body->topics[body->topic_count++]) < 0)
            return -EBADMSG;
    return 0;
}

int registration_body_parse(struct bytes body, bool is_compressed, int32_t sender_version,
                            struct registration_body *ret_body, const char **ret_error)
{
    *ret_body = (struct registration_body){0};
    if (body.size == 0)
        return 0;
    int r = is_compressed ? parse_compressed(body, ret_body, ret_error)
                          : parse_json(body, sender_version, ret_body, ret_error);
    if (r < 0)
        registration_body_free(ret_body);
    return r;
}

void registration_body_free(struct registration_body *body)
{
    json_decref(body->json);
    free(body->topics);
    free(body->inflated);
    *body = (struct registration_body){0};
}
