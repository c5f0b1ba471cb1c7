/* Frames and both header readers (ipc/wire). Whatever the bytes are: a frame's parts lie inside it, a part of a frame is
 * "more" or as bad as the whole, and what a header says comes back the same when it is written again as JSON and as
 * ROCKETMQ. Where a header is strict JSON, jansson must read the same from it. */
#include <jansson.h>

#include "fuzz.h"
#include "wire/frame.h"

static void check_parts(const struct frame *frame, const uint8_t *data)
{
    FUZZ_CHECK(fuzz_inside(frame->body, data, frame->total_size));
    FUZZ_CHECK(fuzz_inside(frame->remark, data, frame->total_size));
    FUZZ_CHECK(frame->field_count <= FRAME_FIELDS_MAX);
    fuzz_touch(frame->body);
    fuzz_touch(frame->remark);
    for (unsigned i = 0; i < frame->field_count; i++) {
        const struct frame_field *field = &frame->fields[i];
        FUZZ_CHECK(fuzz_inside(field->key, data, frame->total_size));
        FUZZ_CHECK(fuzz_inside(field->value, data, frame->total_size));
        fuzz_touch(field->key);
        fuzz_touch(field->value);
    }
}

/* A key as our writer takes it: C text that needs no escape. */
static bool is_plain_key(struct bytes key)
{
    for (size_t i = 0; i < key.size; i++)
        if (key.data[i] < 0x20 || key.data[i] == '"' || key.data[i] == '\\' || key.data[i] == 0x7f)
            return false;
    return key.size < 256;
}

static void check_same(const struct frame *a, const struct frame *b, bool empty_is_absent)
{
    unsigned at = 0;
    FUZZ_CHECK(a->code == b->code && a->opaque == b->opaque && a->flag == b->flag);
    for (unsigned i = 0; i < a->field_count; i++) {
        const struct frame_field *field = &a->fields[i];
        if (!is_plain_key(field->key) || (empty_is_absent && field->value.size == 0))
            continue;
        FUZZ_CHECK(at < b->field_count);
        FUZZ_CHECK(bytes_equal(field->key, b->fields[at].key) && bytes_equal(field->value, b->fields[at].value));
        at++;
    }
    FUZZ_CHECK(at == b->field_count);
}

static void again_as_json(const struct frame *frame)
{
    size_t text = 0;
    for (unsigned i = 0; i < frame->field_count; i++)
        text += frame->fields[i].key.size + frame->fields[i].value.size;
    size_t bound = frame_write_bound(text, frame->field_count);
    uint8_t *buffer = malloc(bound);
    struct frame_writer writer;
    static struct frame again;
    FUZZ_CHECK(buffer);
    frame_write_request(&writer, buffer, bound, frame->code, frame->opaque, frame->flag, LANGUAGE_GO);
    for (unsigned i = 0; i < frame->field_count; i++) {
        char key[256];
        if (!is_plain_key(frame->fields[i].key))
            continue;
        snprintf(key, sizeof key, "%.*s", (int)frame->fields[i].key.size, (const char *)frame->fields[i].key.data);
        frame_write_text(&writer, key, frame->fields[i].value);
    }
    ssize_t size = frame_write_finish(&writer, 0);
    FUZZ_CHECK(size > 0); /* the bound is enough */
    FUZZ_CHECK(frame_parse(buffer, (size_t)size, &again) == FRAME_OK);
    FUZZ_CHECK(again.language == LANGUAGE_GO && again.version == WIRE_VERSION);
    check_same(frame, &again, false);
    free(buffer);
}

static uint8_t *put_sized(uint8_t *to, struct bytes text, unsigned size_bytes)
{
    if (size_bytes == 2)
        be16_store(to, (uint16_t)text.size);
    else
        be32_store(to, (uint32_t)text.size);
    if (text.size)
        memcpy(to + size_bytes, text.data, text.size);
    return to + size_bytes + text.size;
}

static void again_as_rocketmq(const struct frame *frame)
{
    if (frame->code < INT16_MIN || frame->code > INT16_MAX)
        return;
    size_t size = 8 + 21 + frame->remark.size;
    for (unsigned i = 0; i < frame->field_count; i++)
        if (is_plain_key(frame->fields[i].key))
            size += 6 + frame->fields[i].key.size + frame->fields[i].value.size;
    uint8_t *buffer = calloc(1, size), *at = buffer + 8;
    static struct frame again;
    FUZZ_CHECK(buffer);
    be32_store(buffer, (uint32_t)size - 4);
    be32_store(buffer + 4, 1u << 24 | (uint32_t)(size - 8));
    be16_store(at, (uint16_t)frame->code);
    at[2] = 0;
    be16_store(at + 3, 479);
    be32_store(at + 5, (uint32_t)frame->opaque);
    be32_store(at + 9, (uint32_t)frame->flag);
    at = put_sized(at + 13, frame->remark, 4);
    be32_store(at, (uint32_t)(buffer + size - at - 4));
    at += 4;
    for (unsigned i = 0; i < frame->field_count; i++)
        if (is_plain_key(frame->fields[i].key))
            at = put_sized(put_sized(at, frame->fields[i].key, 2), frame->fields[i].value, 4);
    FUZZ_CHECK(at == buffer + size);
    FUZZ_CHECK(frame_parse(buffer, size, &again) == FRAME_OK);
    FUZZ_CHECK(bytes_equal(frame->remark, again.remark));
    check_same(frame, &again, true);
    free(buffer);
}

static bool is_i32(const json_t *value)
{
    return json_is_integer(value) && json_integer_value(value) >= INT32_MIN && json_integer_value(value) <= INT32_MAX;
}

static void compare_i32(const json_t *header, const char *key, int32_t ours)
{
    const json_t *value = json_object_get(header, key);
    if (is_i32(value))
        FUZZ_CHECK(json_integer_value(value) == ours);
}

/* The members that we look at have the types that clients write, and nothing is over our limits. */
static bool is_everyday(const json_t *header)
{
    static const char *const numbers[] = {"code", "flag", "opaque", "version"};
    const char *key;
    json_t *value;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (json_object_get(header, numbers[i]) && !is_i32(json_object_get(header, numbers[i])))
            return false;
    json_object_foreach((json_t *)header, key, value)
        if (strcmp(key, "extFields") != 0 && (json_is_object(value) || json_is_array(value)))
            return false;
    const json_t *fields = json_object_get(header, "extFields");
    if (json_object_size(fields) > FRAME_FIELDS_MAX || (fields && !json_is_object(fields)))
        return false;
    json_object_foreach((json_t *)fields, key, value)
        if (!json_is_string(value))
            return false;
    return true;
}

static void compare_with_jansson(struct bytes header_text, enum frame_result result, const struct frame *frame)
{
    json_t *header = json_loadb((const char *)header_text.data, header_text.size,
                                JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL), *value;
    const char *key;
    /* jansson passes over a NUL byte behind a number. */
    if (json_is_object(header) && is_everyday(header) && !memchr(header_text.data, 0, header_text.size)) {
        FUZZ_CHECK(result == FRAME_OK);
        compare_i32(header, "code", frame->code);
        compare_i32(header, "flag", frame->flag);
        compare_i32(header, "opaque", frame->opaque);
        compare_i32(header, "version", frame->version);
        json_object_foreach(json_object_get(header, "extFields"), key, value)
        {
            const struct bytes *ours = frame_get(frame, key);
            FUZZ_CHECK(ours && ours->size == json_string_length(value));
            FUZZ_CHECK(ours->size == 0 || memcmp(ours->data, json_string_value(value), ours->size) == 0);
        }
    }
    json_decref(header);
}

static void check_getters(const struct frame *frame)
{
    for (unsigned i = 0; i < frame->field_count && i < 8; i++) {
        char key[64];
        int32_t small = 0;
        int64_t large = 0;
        bool truth;
        if (frame->fields[i].key.size >= sizeof key || !is_plain_key(frame->fields[i].key))
            continue;
        snprintf(key, sizeof key, "%.*s", (int)frame->fields[i].key.size, (const char *)frame->fields[i].key.data);
        FUZZ_CHECK(frame_get(frame, key));
        int r = frame_get_i32(frame, key, 0, &small), wide = frame_get_i64(frame, key, 0, &large);
        FUZZ_CHECK(r < 0 || (wide == 0 && large == small));
        FUZZ_CHECK(frame_get_bool(frame, key, false, &truth) == 0);
    }
}

/* What a shorter piece says must not contradict the whole. */
static void check_prefixes(const uint8_t *data, const struct frame *frame, enum frame_result result)
{
    static const size_t heads[] = {0, 1, 3, 4, 5, 7, 8, 9};
    static struct frame part;
    for (size_t i = 0; i < sizeof heads / sizeof *heads + 1; i++) {
        size_t size = i < sizeof heads / sizeof *heads ? heads[i] : frame->total_size - 1;
        if (size >= frame->total_size)
            continue;
        uint8_t *copy = fuzz_copy(data, size);
        enum frame_result early = frame_parse(copy, size, &part);
        FUZZ_CHECK(early == FRAME_MORE || (early == FRAME_BAD && result == FRAME_BAD));
        free(copy);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct frame frame;
    for (size_t at = 0; at < size;) {
        uint8_t *copy = fuzz_copy(data + at, size - at);
        size_t wanted = frame_wanted(copy, size - at);
        enum frame_result result = frame_parse(copy, size - at, &frame);
        if (result == FRAME_MORE || result == FRAME_BAD) {
            FUZZ_CHECK(result == FRAME_BAD || wanted > size - at || size - at < 8);
            if (result == FRAME_BAD && wanted <= size - at && wanted > 8 && data[at + 4] == 0) {
                uint32_t header_size = be32_load(data + at + 4) & 0xffffff;
                if (header_size <= wanted - 8)
                    compare_with_jansson((struct bytes){data + at + 8, header_size}, result, &frame);
            }
            free(copy);
            break;
        }
        FUZZ_CHECK(frame.total_size == wanted && wanted <= size - at);
        check_prefixes(data + at, &frame, result);
        if (result == FRAME_OK) {
            check_parts(&frame, copy);
            check_getters(&frame);
            again_as_json(&frame);
            again_as_rocketmq(&frame);
            if (frame.serialization == 0)
                compare_with_jansson((struct bytes){data + at + 8, be32_load(data + at + 4) & 0xffffff}, result, &frame);
        }
        at += frame.total_size;
        free(copy);
    }
    return 0;
}
