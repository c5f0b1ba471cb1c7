/* Reads frames: length, header kind, header by one of the two readers, body. Runs in front, name server and in clients
 * of our own; the caller owns the buffer and a parsed frame points into it. Every byte is foreign: whatever is not
 * whole and well formed is FRAME_MORE or FRAME_BAD, nothing here is fatal and nothing allocates. */
#include "wire/frame.h"

#include <errno.h>

#include "wire/header.h"

enum {
    PREFIX_SIZE = 8, /* length, header kind, header length */
    KIND_JSON = 0,
    KIND_ROCKETMQ = 1,
};

static const char *const language_names[HEADER_LANGUAGE_COUNT] = {
    "JAVA",  "CPP",  "DOTNET", "PYTHON", "DELPHI", "ERLANG", "RUBY",
    "OTHER", "HTTP", "GO",     "PHP",    "OMS",    "RUST",   "NODE_JS",
};

uint8_t header_language(struct bytes name)
{
    for (unsigned i = 0; i < HEADER_LANGUAGE_COUNT; i++)
        if (bytes_equal_text(name, language_names[i]))
            return (uint8_t)i;
    return LANGUAGE_OTHER;
}

int header_integer(struct bytes text, int64_t *ret_value)
{
    size_t i = 0;
    bool negative = false;
    if (text.size > 0 && (text.data[0] == '-' || text.data[0] == '+')) {
        negative = text.data[0] == '-';
        i = 1;
    }
    if (i == text.size)
        return -EINVAL;
    int64_t value = 0; /* kept negative: its range is the larger one */
    for (; i < text.size; i++) {
        unsigned digit = (unsigned)text.data[i] - '0';
        if (digit > 9 || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_sub_overflow(value, (int64_t)digit, &value))
            return -EINVAL;
    }
    if (!negative && value == INT64_MIN)
        return -EINVAL;
    *ret_value = negative ? value : -value;
    return 0;
}

size_t frame_wanted(const uint8_t *data, size_t size)
{
    if (size < 4)
        return 0;
    uint32_t length = be32_load(data);
    /* A length that frame_parse refuses asks for no more than what it needs to refuse it. */
    return length > FRAME_SIZE_MAX - 4 ? 4 : (size_t)length + 4;
}

enum frame_result frame_parse(uint8_t *data, size_t size, struct frame *ret_frame)
{
    if (size < 4)
        return FRAME_MORE;
    uint32_t length = be32_load(data);
    if (length > FRAME_SIZE_MAX - 4 || length < 4)
        return FRAME_BAD;
    if (size < PREFIX_SIZE)
        return FRAME_MORE;
    /* What is wrong in the prefix is said before the rest has come. */
    uint8_t kind = data[4];
    uint32_t header_size = be32_load(data + 4) & 0xffffff;
    if (header_size > length - 4 || kind > KIND_ROCKETMQ)
        return FRAME_BAD;
    if (size - 4 < length)
        return FRAME_MORE;

    struct frame *frame = ret_frame;
    frame->code = frame->version = frame->opaque = frame->flag = 0;
    frame->language = LANGUAGE_JAVA;
    frame->serialization = kind;
    frame->remark = (struct bytes){NULL, 0};
    frame->body = (struct bytes){data + PREFIX_SIZE + header_size, length - 4 - header_size};
    frame->total_size = (size_t)length + 4;
    frame->field_count = 0;
    if (header_size == 0)
        return FRAME_SKIP;
    return kind == KIND_JSON ? header_json_parse(data + PREFIX_SIZE, header_size, frame)
                             : header_rocketmq_parse(data + PREFIX_SIZE, header_size, frame);
}

const char *frame_looks_like(const uint8_t *data, size_t size)
{
    static const struct {
        const char *start, *name;
    } known[] = {
        {"GET ", "an HTTP request"},    {"POST", "an HTTP request"},    {"PUT ", "an HTTP request"},
        {"HEAD", "an HTTP request"},    {"DELE", "an HTTP request"},    {"OPTI", "an HTTP request"},
        {"PRI ", "an HTTP/2 request"},  {"PROX", "a PROXY header"},     {"SSH-", "an SSH greeting"},
        {"\r\n\r\n", "a PROXY header"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0] && size >= 4; i++)
        if (memcmp(data, known[i].start, 4) == 0)
            return known[i].name;
    if (size >= 2 && data[0] == 0x16 && data[1] == 3)
        return "a TLS greeting (this port does not speak TLS)";
    if (size >= 4 && be32_load(data) > FRAME_SIZE_MAX - 4)
        return "a frame that is too long, or none";
    return "a malformed frame";
}

const struct bytes *frame_get_sized(const struct frame *frame, const char *key, size_t key_size)
{
    /* From the end: of two fields with one key Java's map keeps the last. */
    for (unsigned i = frame->field_count; i > 0; i--) {
        const struct frame_field *field = &frame->fields[i - 1];
        if (field->key.size == key_size && memcmp(field->key.data, key, key_size) == 0)
            return &field->value;
    }
    return NULL;
}

int frame_get_i64(const struct frame *frame, const char *key, int64_t default_value, int64_t *ret_value)
{
    const struct bytes *text = frame_get(frame, key);
    if (!text) {
        *ret_value = default_value;
        return 0;
    }
    return header_integer(*text, ret_value);
}

int frame_get_i32(const struct frame *frame, const char *key, int32_t default_value, int32_t *ret_value)
{
    int64_t value;
    int r = frame_get_i64(frame, key, default_value, &value);
    if (r < 0)
        return r;
    if (value < INT32_MIN || value > INT32_MAX)
        return -EINVAL;
    *ret_value = (int32_t)value;
    return 0;
}

static bool is_word(struct bytes text, const char *lower_case_word)
{
    size_t size = strlen(lower_case_word);
    if (text.size != size)
        return false;
    for (size_t i = 0; i < size; i++)
        if ((text.data[i] | 0x20) != lower_case_word[i])
            return false;
    return true;
}

int frame_get_bool(const struct frame *frame, const char *key, bool default_value, bool *ret_value)
{
    const struct bytes *text = frame_get(frame, key);
    if (!text) {
        *ret_value = default_value;
        return 0;
    }
    /* Java's Boolean.parseBoolean: "true" in any case is true, everything else false. */
    *ret_value = is_word(*text, "true");
    return 0;
}
