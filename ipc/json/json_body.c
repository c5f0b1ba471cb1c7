/* JSON bodies with jansson, after a pre-pass for fastjson's dialect: bare keys {0:1}, object keys {{…}:…} (which become
 * strings that hold their JSON), single quotes, trailing commas. Strict JSON skips the pre-pass. Runs in front, name server and
 * command line for bodies, in the store for its files in config/; both are foreign: depth and growth are bounded, a refusal
 * is an answer. */
#include "json/json_body.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/panic.h"

enum {
    SIZE_MAX_BYTES = 256 << 20, /* a frame is far smaller, consumer offsets of a large broker need not be */
    DEPTH_MAX = 64,
    KEY_DEPTH_MAX = 3, /* object keys inside object keys: each level doubles the backslashes */
    /* What a parsed text takes at most, by a rough count: a registration of 150,000 topics in a frame of 16 MiB passes. */
    MEMORY_MAX_BYTES = 384 << 20,
    CONTAINER_BYTES = 240, /* an empty object of jansson */
    MEMBER_BYTES = 150,
};

void text_free(struct text *text)
{
    free(text->data);
    *text = (struct text){NULL, 0, 0};
}

static char *text_room(struct text *text, size_t size)
{
    if (text->capacity - text->size < size) {
        size_t capacity = text->capacity ? text->capacity * 2 : 256;
        while (capacity - text->size < size)
            capacity *= 2;
        text->data = realloc(text->data, capacity);
        pn_assert(text->data);
        text->capacity = capacity;
    }
    return text->data + text->size;
}

void text_add_bytes(struct text *text, struct bytes bytes)
{
    if (bytes.size == 0)
        return;
    memcpy(text_room(text, bytes.size), bytes.data, bytes.size);
    text->size += bytes.size;
}

static void add_char(struct text *text, char c)
{
    *text_room(text, 1) = c;
    text->size++;
}

void text_add(struct text *text, const char *format, ...)
{
    size_t room = 64; /* most are short */
    for (;;) {
        va_list arguments;
        va_start(arguments, format);
        int size = vsnprintf(text_room(text, room), room, format, arguments);
        va_end(arguments);
        pn_assert(size >= 0);
        if ((size_t)size < room) {
            text->size += (size_t)size;
            return;
        }
        room = (size_t)size + 1;
    }
}

void text_add_json_string(struct text *text, struct bytes bytes)
{
    static const char hex[] = "0123456789abcdef";
    char *out = text_room(text, bytes.size * 6 + 2);
    *out++ = '"';
    for (size_t i = 0; i < bytes.size; i++) {
        uint8_t c = bytes.data[i];
        if (c == '"' || c == '\\') {
            *out++ = '\\';
            *out++ = (char)c;
        } else if (c < 0x20 || c == 0x7f) {
            memcpy(out, "\\u00", 4);
            out[4] = hex[c >> 4];
            out[5] = hex[c & 15];
            out += 6;
        } else {
            *out++ = (char)c;
        }
    }
    *out++ = '"';
    text->size = (size_t)(out - text->data);
}

/* The pre-pass: reads leniently, writes strict JSON. Tokens that it does not understand go through for jansson to refuse. */
struct lenient {
    const uint8_t *pos, *end;
    unsigned depth, key_depth;
    const char *error;
};

static int fail(struct lenient *in, const char *error)
{
    if (!in->error)
        in->error = error;
    return -1;
}

/* The next character that is not space, not passed over; 0 at the end. */
static uint8_t peek(struct lenient *in)
{
    while (in->pos < in->end && (*in->pos == ' ' || *in->pos == '\t' || *in->pos == '\n' || *in->pos == '\r'))
        in->pos++;
    return in->pos < in->end ? *in->pos : 0;
}

static int copy_string(struct lenient *in, struct text *out)
{
    uint8_t quote = *in->pos++;
    add_char(out, '"');
    while (in->pos < in->end && *in->pos != quote) {
        uint8_t c = *in->pos++;
        if (c == '\\' && in->pos < in->end) {
            uint8_t escaped = *in->pos++;
            if (escaped != '\'')
                add_char(out, '\\');
            add_char(out, (char)escaped);
        } else if (c == '"') {
            text_add_bytes(out, bytes_of("\\\""));
        } else if (c < 0x20) { /* fastjson takes them raw */
            text_add(out, "\\u%04x", c);
        } else {
            add_char(out, (char)c);
        }
    }
    if (in->pos == in->end)
        return fail(in, "a string has no end");
    in->pos++;
    add_char(out, '"');
    return 0;
}

static bool is_bare(uint8_t c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '_' || c == '$' || c == '-' ||
           c == '+' || c == '.' || c >= 0x80;
}

static int copy_bare(struct lenient *in, struct text *out)
{
    const uint8_t *start = in->pos;
    while (in->pos < in->end && is_bare(*in->pos))
        in->pos++;
    if (in->pos == start)
        return fail(in, "a key or value is missing");
    text_add_bytes(out, (struct bytes){start, (size_t)(in->pos - start)});
    return 0;
}

static int copy_value(struct lenient *in, struct text *out);

static int copy_key(struct lenient *in, struct text *out)
{
    uint8_t c = peek(in);
    if (c == '"' || c == '\'')
        return copy_string(in, out);
    if (c != '{' && c != '[') {
        add_char(out, '"');
        int r = copy_bare(in, out);
        add_char(out, '"');
        return r;
    }
    if (in->key_depth == KEY_DEPTH_MAX)
        return fail(in, "object keys are nested too deep");
    in->key_depth++;
    struct text key = {NULL, 0, 0};
    int r = copy_value(in, &key);
    if (r == 0)
        text_add_json_string(out, (struct bytes){(const uint8_t *)key.data, key.size});
    text_free(&key);
    in->key_depth--;
    return r;
}

/* Members of an object or array up to `close`. */
static int copy_members(struct lenient *in, struct text *out, uint8_t close)
{
    in->pos++;
    add_char(out, close == '}' ? '{' : '[');
    for (bool first = true; peek(in) != close; first = false) {
        if (!first) {
            if (peek(in) != ',')
                return fail(in, "a comma is missing");
            in->pos++;
            if (peek(in) == close)
                break;
            add_char(out, ',');
        }
        if (close == '}') {
            if (copy_key(in, out) < 0)
                return -1;
            if (peek(in) != ':')
                return fail(in, "a colon is missing");
            in->pos++;
            add_char(out, ':');
        }
        if (copy_value(in, out) < 0)
            return -1;
    }
    in->pos++;
    add_char(out, (char)close);
    return 0;
}

static int copy_value(struct lenient *in, struct text *out)
{
    uint8_t c = peek(in);
    if (c == '"' || c == '\'')
        return copy_string(in, out);
    if (c != '{' && c != '[')
        return copy_bare(in, out);
    if (in->depth == DEPTH_MAX)
        return fail(in, "nested too deep");
    in->depth++;
    int r = copy_members(in, out, c == '{' ? '}' : ']');
    in->depth--;
    return r;
}

/* NULL, or why the text is not parsed at all. jansson's own limit of 2,048 levels would take much stack; ours is counted
 * before, outside of strings, and with it the memory. */
static const char *judge(struct bytes text, uint64_t memory_max)
{
    unsigned depth = 0;
    uint8_t quote = 0;
    uint64_t memory = text.size;
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        if (quote) {
            if (c == '\\')
                i++;
            else if (c == quote)
                quote = 0;
        } else if (c == '"' || c == '\'') {
            quote = c;
        } else if (c == '{' || c == '[') {
            memory += CONTAINER_BYTES;
            if (++depth > DEPTH_MAX)
                return "nested too deep";
        } else if ((c == '}' || c == ']') && depth) {
            depth--;
        } else if (c == ',') {
            memory += MEMBER_BYTES;
        }
    }
    return memory > memory_max ? "it holds too much" : NULL;
}

static json_t *parse(struct bytes text, uint64_t memory_max, const char **ret_error)
{
    enum { FLAGS = JSON_DECODE_ANY | JSON_ALLOW_NUL };
    *ret_error = text.size == 0 ? "no body" : text.size > SIZE_MAX_BYTES ? "too large" : judge(text, memory_max);
    if (*ret_error)
        return NULL;
    json_t *json = json_loadb((const char *)text.data, text.size, FLAGS, NULL);
    if (json)
        return json;
    struct lenient in = {.pos = text.data, .end = text.data + text.size};
    struct text strict = {NULL, 0, 0};
    if (copy_value(&in, &strict) == 0) {
        if (peek(&in) != 0 || in.pos != in.end)
            fail(&in, "text after the end");
        else
            json = json_loadb(strict.data, strict.size, FLAGS, NULL);
    }
    text_free(&strict);
    if (!json)
        *ret_error = in.error ? in.error : "not JSON";
    return json;
}

json_t *json_body_parse(struct bytes text, const char **ret_error)
{
    return parse(text, MEMORY_MAX_BYTES, ret_error);
}

json_t *json_body_parse_file(struct bytes text, const char **ret_error)
{
    return parse(text, UINT64_MAX, ret_error);
}
