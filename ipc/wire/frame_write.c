/* Writes frames with a strict JSON header (type 0: Node and C++ clients read the type byte as part of the length; every
 * extFields value a string: C++ and Go fail on anything else). Each answer passes here, so nothing is formatted by
 * printf. Runs in front, name server and in clients of our own; the caller owns the buffer. A buffer too small is an
 * answer (-ENOBUFS), not an overrun. */
#include "wire/frame.h"

#include <errno.h>

enum { PREFIX_SIZE = 8, INTEGER_SIZE_MAX = 20 };

#define VERSION_TEXT "479"

static const char *language_name(enum frame_language language)
{
    switch (language) {
    case LANGUAGE_CPP:
        return "CPP";
    case LANGUAGE_GO:
        return "GO";
    case LANGUAGE_OTHER:
        return "OTHER";
    case LANGUAGE_JAVA:
    default:
        return "JAVA";
    }
}

static inline bool has_room(struct frame_writer *writer, size_t size)
{
    if ((size_t)(writer->end - writer->pos) >= size)
        return true;
    writer->overflow = true;
    return false;
}

static inline void put(struct frame_writer *writer, const char *text, size_t size)
{
    if (has_room(writer, size)) {
        memcpy(writer->pos, text, size);
        writer->pos += size;
    }
}
#define PUT_LITERAL(writer, text) put(writer, text, sizeof text - 1)

static void put_integer(struct frame_writer *writer, int64_t value)
{
    char digits[INTEGER_SIZE_MAX];
    char *p = digits + sizeof digits;
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do {
        *--p = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    if (value < 0)
        *--p = '-';
    put(writer, p, (size_t)(digits + sizeof digits - p));
}

static inline bool needs_escape(uint8_t c)
{
    return c < 0x20 || c == '"' || c == '\\' || c == 0x7f;
}

/* The content of a JSON string. Control characters are escaped (properties are made of 0x01 and 0x02), the rest stays
 * as it came. */
static void put_escaped(struct frame_writer *writer, struct bytes text)
{
    static const char hex[] = "0123456789abcdef";
    if (!has_room(writer, text.size))
        return;
    uint8_t *out = writer->pos;
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        if (__builtin_expect(!needs_escape(c), 1)) {
            *out++ = c;
            continue;
        }
        writer->pos = out;
        /* Room for this escape and for all that is left as it is, so that plain characters need no check. */
        if (!has_room(writer, 6 + text.size - i - 1))
            return;
        *out++ = '\\';
        if (c == '"' || c == '\\') {
            *out++ = c;
        } else {
            memcpy(out, "u00", 3);
            out[3] = (uint8_t)hex[c >> 4];
            out[4] = (uint8_t)hex[c & 15];
            out += 5;
        }
    }
    writer->pos = out;
}

static void begin(struct frame_writer *writer, uint8_t *buffer, size_t size, int32_t code, int32_t opaque, int32_t flag,
                  enum frame_language language)
{
    _Static_assert(sizeof VERSION_TEXT == 4 && WIRE_VERSION == 479, "the text and the number say the same");
    *writer = (struct frame_writer){.start = buffer, .pos = buffer, .end = buffer + size, .first_field = true};
    if (!has_room(writer, PREFIX_SIZE))
        return;
    writer->pos += PREFIX_SIZE;
    PUT_LITERAL(writer, "{\"code\":");
    put_integer(writer, code);
    PUT_LITERAL(writer, ",\"flag\":");
    put_integer(writer, flag);
    PUT_LITERAL(writer, ",\"language\":\"");
    const char *name = language_name(language);
    put(writer, name, strlen(name));
    PUT_LITERAL(writer, "\",\"opaque\":");
    put_integer(writer, opaque);
    PUT_LITERAL(writer, ",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":" VERSION_TEXT);
}

void frame_write_response(struct frame_writer *writer, uint8_t *buffer, size_t size, int32_t code, int32_t opaque,
                          struct bytes remark)
{
    begin(writer, buffer, size, code, opaque, FRAME_FLAG_RESPONSE, LANGUAGE_JAVA);
    if (remark.size == 0)
        return;
    PUT_LITERAL(writer, ",\"remark\":\"");
    put_escaped(writer, remark);
    PUT_LITERAL(writer, "\"");
}

void frame_write_request(struct frame_writer *writer, uint8_t *buffer, size_t size, int32_t code, int32_t opaque,
                         int32_t flag, enum frame_language language)
{
    begin(writer, buffer, size, code, opaque, flag, language);
}

static void begin_field(struct frame_writer *writer, const char *key)
{
    if (writer->first_field)
        PUT_LITERAL(writer, ",\"extFields\":{\"");
    else
        PUT_LITERAL(writer, ",\"");
    writer->first_field = false;
    put(writer, key, strlen(key));
    PUT_LITERAL(writer, "\":\"");
}

void frame_write_text(struct frame_writer *writer, const char *key, struct bytes value)
{
    begin_field(writer, key);
    put_escaped(writer, value);
    PUT_LITERAL(writer, "\"");
}

void frame_write_i64(struct frame_writer *writer, const char *key, int64_t value)
{
    begin_field(writer, key);
    put_integer(writer, value);
    PUT_LITERAL(writer, "\"");
}

void frame_write_bool(struct frame_writer *writer, const char *key, bool value)
{
    begin_field(writer, key);
    if (value)
        PUT_LITERAL(writer, "true\"");
    else
        PUT_LITERAL(writer, "false\"");
}

void frame_write_empty_fields(struct frame_writer *writer)
{
    writer->empty_fields = true;
}

ssize_t frame_write_finish(struct frame_writer *writer, size_t body_size)
{
    if (!writer->first_field)
        PUT_LITERAL(writer, "}}");
    else if (writer->empty_fields)
        PUT_LITERAL(writer, ",\"extFields\":{}}");
    else
        PUT_LITERAL(writer, "}");
    if (writer->overflow)
        return -ENOBUFS;
    size_t size = (size_t)(writer->pos - writer->start);
    if (size - PREFIX_SIZE > 0xffffff || body_size > FRAME_SIZE_MAX || size + body_size > FRAME_SIZE_MAX)
        return -EMSGSIZE;
    be32_store(writer->start, (uint32_t)(size + body_size - 4));
    be32_store(writer->start + 4, (uint32_t)(size - PREFIX_SIZE)); /* kind 0 in the high byte */
    return (ssize_t)size;
}

size_t frame_write_bound(size_t text_bytes, unsigned fields)
{
    return 256 + 6 * text_bytes + 64 * (size_t)fields;
}
