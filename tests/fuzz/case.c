/* See case.h. */
#include "case.h"

#include <jansson.h>
#include <zlib.h>

static struct bytes take_line(struct bytes *rest)
{
    const uint8_t *end = rest->size ? memchr(rest->data, '\n', rest->size) : NULL;
    struct bytes line = {rest->data, end ? (size_t)(end - rest->data) : rest->size};
    size_t step = line.size + (end != NULL);
    *rest = (struct bytes){rest->data + step, rest->size - step};
    return line;
}

static int32_t take_number(const uint8_t **at, const uint8_t *end)
{
    int64_t value = 0;
    bool negative = *at < end && **at == '-';
    *at += negative;
    for (; *at < end && **at >= '0' && **at <= '9' && value < INT32_MAX; (*at)++)
        value = value * 10 + (**at - '0');
    value = negative ? -value : value;
    return value > INT32_MAX ? INT32_MAX : (int32_t)value;
}

static void take_words(struct bytes line, struct case_request *request)
{
    const uint8_t *at = line.data + 1, *end = line.data + line.size;
    request->code = take_number(&at, end);
    while (at < end) {
        switch (*at++) {
        case 'c':
            request->connection = (unsigned)take_number(&at, end) % CASE_CONNECTIONS;
            break;
        case 'V':
            request->version = take_number(&at, end);
            break;
        case 'L':
            request->language = take_number(&at, end);
            break;
        case 's':
            request->served = (unsigned)take_number(&at, end);
            break;
        case 'b':
            request->binary = true;
            break;
        case 'o':
            request->oneway = true;
            break;
        case 'r':
            request->response = true;
            break;
        case 'v':
            request->fast = true;
            break;
        case 'f':
            request->foreign = true;
            break;
        case 'z':
            request->compressed = true;
            break;
        case 'h':
            request->hang_up = true;
            break;
        }
    }
}

bool case_next(struct bytes *rest, struct case_request *ret_request)
{
    struct bytes line;
    *ret_request = (struct case_request){.version = 479};
    do {
        if (rest->size == 0)
            return false;
        line = take_line(rest);
    } while (line.size == 0 || line.data[0] != '#');
    take_words(line, ret_request);
    while (rest->size && (line = take_line(rest)).size) {
        const uint8_t *equals = memchr(line.data, '=', line.size);
        if (!equals || ret_request->field_count == CASE_FIELDS_MAX)
            continue;
        struct frame_field *field = &ret_request->fields[ret_request->field_count++];
        field->key = (struct bytes){line.data, (size_t)(equals - line.data)};
        field->value = (struct bytes){equals + 1, (size_t)(line.data + line.size - equals - 1)};
    }
    const uint8_t *start = rest->data, *end = start + rest->size, *at = start;
    for (; at < end; at++)
        if (*at == '#' && (at == start || at[-1] == '\n'))
            break;
    ret_request->body = (struct bytes){start, (size_t)(at - start)};
    if (at < end && at > start) /* the line's end before the next request */
        ret_request->body.size--;
    *rest = (struct bytes){at, (size_t)(end - at)};
    return true;
}

static void put_json_text(FILE *out, struct bytes text)
{
    fputc('"', out);
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        if (c < 0x20 || c == '"' || c == '\\')
            fprintf(out, "\\u%04x", c);
        else
            fputc(c, out);
    }
    fputc('"', out);
}

static void put_json(FILE *out, const struct case_request *request, int32_t opaque, int32_t flag)
{
    static const char *const languages[] = {"JAVA", "CPP", "GO", "OTHER", "PYTHON", "RUST", "none"};
    fprintf(out, "{\"code\":%d,\"flag\":%d,\"language\":\"%s\",\"opaque\":%d,\"version\":%d,\"extFields\":{",
            request->code, flag, languages[(uint32_t)request->language % 7], opaque, request->version);
    for (unsigned i = 0; i < request->field_count; i++) {
        if (i > 0)
            fputc(',', out);
        put_json_text(out, request->fields[i].key);
        fputc(':', out);
        put_json_text(out, request->fields[i].value);
    }
    fputs("}}", out);
}

static void put_be(FILE *out, uint64_t value, unsigned size)
{
    while (size--)
        fputc((int)(value >> 8 * size & 0xff), out);
}

static void put_rocketmq(FILE *out, const struct case_request *request, int32_t opaque, int32_t flag)
{
    size_t fields = 0;
    for (unsigned i = 0; i < request->field_count; i++)
        fields += 6 + request->fields[i].key.size + request->fields[i].value.size;
    put_be(out, (uint32_t)request->code, 2);
    put_be(out, (uint32_t)request->language, 1);
    put_be(out, (uint32_t)request->version, 2);
    put_be(out, (uint32_t)opaque, 4);
    put_be(out, (uint32_t)flag, 4);
    put_be(out, 0, 4);
    put_be(out, (uint32_t)fields, 4);
    for (unsigned i = 0; i < request->field_count; i++) {
        const struct frame_field *field = &request->fields[i];
        put_be(out, (uint32_t)field->key.size, 2);
        fwrite(field->key.data, 1, field->key.size, out);
        put_be(out, (uint32_t)field->value.size, 4);
        fwrite(field->value.data, 1, field->value.size, out);
    }
}

static struct bytes pack(struct bytes body)
{
    uLongf size = compressBound(body.size);
    uint8_t *packed = malloc(size);
    FUZZ_CHECK(packed && compress(packed, &size, body.data, body.size) == Z_OK);
    return (struct bytes){packed, size};
}

struct bytes case_frame(const struct case_request *request, int32_t opaque)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    struct bytes body = request->compressed ? pack(request->body) : request->body;
    int32_t flag = (request->response ? FRAME_FLAG_RESPONSE : 0) | (request->oneway ? FRAME_FLAG_ONEWAY : 0);
    FUZZ_CHECK(out);
    put_be(out, 0, 8);
    (request->binary ? put_rocketmq : put_json)(out, request, opaque, flag);
    fflush(out);
    size_t header_size = size - 8;
    fwrite(body.data, 1, body.size, out);
    fclose(out);
    be32_store(text, (uint32_t)(size - 4));
    be32_store(text + 4, (uint32_t)header_size | (request->binary ? 1u << 24 : 0));
    if (request->compressed)
        free((void *)body.data);
    return (struct bytes){(uint8_t *)text, size};
}

void case_check_header(struct bytes header)
{
    uint8_t *copy = fuzz_copy(header.data, header.size);
    json_t *json, *value;
    const char *key;
    for (size_t i = 0; i < header.size; i++)
        if (copy[i] >= 0x80) /* what came as no UTF-8 is given back as it came */
            copy[i] = '?';
    json = json_loadb((const char *)copy, header.size, 0, NULL);
    FUZZ_CHECK(json_is_object(json));
    FUZZ_CHECK(json_is_integer(json_object_get(json, "code")) && json_is_integer(json_object_get(json, "opaque")) &&
               json_is_integer(json_object_get(json, "flag")) && json_is_string(json_object_get(json, "language")));
    json_object_foreach(json_object_get(json, "extFields"), key, value)
        FUZZ_CHECK(json_is_string(value));
    json_decref(json);
    free(copy);
}
