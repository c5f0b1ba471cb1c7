/* The JSON header of a frame, read in one pass without allocation; strings with escapes are decoded in place. Accepts
 * what fastjson accepts of real and of odd clients (remoting facts 1.2): unquoted and single-quoted keys, a trailing
 * comma, numbers, booleans and null as extFields values, integers as text, keys in any order, unknown keys of any
 * shape.
 *
 * Each send and pull passes here, and most bytes of a header lie inside strings (properties): strings are scanned eight
 * bytes at a time. Runs in front and name server; every byte is foreign, nothing is fatal. */
#include "wire/header.h"

enum { DEPTH_MAX = 32 };

struct reader {
    uint8_t *pos;
    uint8_t *end;
};

enum value_kind { VALUE_BAD, VALUE_NULL, VALUE_STRING, VALUE_LITERAL, VALUE_NESTED };
struct value {
    enum value_kind kind;
    struct bytes text; /* a string's content; of the others the characters as they stand */
};

static inline bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static inline void skip_space(struct reader *in)
{
    while (in->pos < in->end && is_space(*in->pos))
        in->pos++;
}

/* The next character that is not space, passed over; 0 at the end. */
static inline uint8_t take(struct reader *in)
{
    skip_space(in);
    return in->pos < in->end ? *in->pos++ : 0;
}

#define ONES  0x0101010101010101ull
#define HIGHS 0x8080808080808080ull

static inline uint64_t has_zero(uint64_t word)
{
    return (word - ONES) & ~word & HIGHS;
}

/* First quote or backslash at or after `p`; `end` if there is none. */
static inline uint8_t *find_string_end(uint8_t *p, const uint8_t *end, uint8_t quote)
{
    const uint64_t quotes = ONES * quote, backslashes = ONES * '\\';
    while (end - p >= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        word = le64toh(word);
        uint64_t hit = has_zero(word ^ quotes) | has_zero(word ^ backslashes);
        if (hit) /* the lowest hit is exact: false ones appear only above a true one */
            return p + (__builtin_ctzll(hit) >> 3);
        p += 8;
    }
    while (p < end && *p != quote && *p != '\\')
        p++;
    return p;
}

static inline int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int32_t hex(const uint8_t *p, const uint8_t *end, unsigned digits)
{
    if (end - p < (ptrdiff_t)digits)
        return -1;
    int32_t value = 0;
    for (unsigned i = 0; i < digits; i++) {
        int digit = hex_digit(p[i]);
        if (digit < 0)
            return -1;
        value = value << 4 | digit;
    }
    return value;
}

static uint8_t *put_utf8(uint8_t *out, uint32_t c)
{
    if (c < 0x80) {
        *out++ = (uint8_t)c;
    } else if (c < 0x800) {
        *out++ = (uint8_t)(0xc0 | c >> 6);
        *out++ = (uint8_t)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *out++ = (uint8_t)(0xe0 | c >> 12);
        *out++ = (uint8_t)(0x80 | (c >> 6 & 0x3f));
        *out++ = (uint8_t)(0x80 | (c & 0x3f));
    } else {
        *out++ = (uint8_t)(0xf0 | c >> 18);
        *out++ = (uint8_t)(0x80 | (c >> 12 & 0x3f));
        *out++ = (uint8_t)(0x80 | (c >> 6 & 0x3f));
        *out++ = (uint8_t)(0x80 | (c & 0x3f));
    }
    return out;
}

/* `*pos` is behind "\u". A half of a surrogate pair alone becomes '?', as Java writes it. */
static bool unescape_unicode(uint8_t **pos, const uint8_t *end, uint8_t **out)
{
    int32_t c = hex(*pos, end, 4);
    if (c < 0)
        return false;
    *pos += 4;
    if (c < 0xd800 || c > 0xdfff) {
        *out = put_utf8(*out, (uint32_t)c);
        return true;
    }
    if (c < 0xdc00 && end - *pos >= 6 && (*pos)[0] == '\\' && (*pos)[1] == 'u') {
        int32_t low = hex(*pos + 2, end, 4);
        if (low >= 0xdc00 && low <= 0xdfff) {
            *pos += 6;
            *out = put_utf8(*out, 0x10000 + (((uint32_t)c & 0x3ff) << 10 | ((uint32_t)low & 0x3ff)));
            return true;
        }
    }
    *(*out)++ = '?';
    return true;
}

/* `*pos` is behind the backslash; writes what it stands for. Never longer than what was read. */
static bool unescape(uint8_t **pos, const uint8_t *end, uint8_t **out)
{
    if (*pos == end)
        return false;
    uint8_t c = *(*pos)++;
    switch (c) {
    case 'u':
        return unescape_unicode(pos, end, out);
    case 'x': {
        int32_t value = hex(*pos, end, 2);
        if (value < 0)
            return false;
        *pos += 2;
        *out = put_utf8(*out, (uint32_t)value);
        return true;
    }
    case 'b':
        c = '\b';
        break;
    case 'f':
        c = '\f';
        break;
    case 'n':
        c = '\n';
        break;
    case 'r':
        c = '\r';
        break;
    case 't':
        c = '\t';
        break;
    case 'v':
        c = '\v';
        break;
    case '"':
    case '\'':
    case '\\':
    case '/':
        break;
    default:
        if (c < '0' || c > '7')
            return false;
        c = (uint8_t)(c - '0'); /* fastjson's \0 to \7 */
    }
    *(*out)++ = c;
    return true;
}

/* A string with escapes; `p` is at the first of them. */
static bool take_escaped_string(struct reader *in, uint8_t quote, uint8_t *p, struct bytes *ret_text)
{
    uint8_t *start = in->pos;
    uint8_t *out = p;
    while (p < in->end && *p == '\\') {
        p++;
        if (!unescape(&p, in->end, &out))
            return false;
        uint8_t *next = find_string_end(p, in->end, quote);
        memmove(out, p, (size_t)(next - p));
        out += next - p;
        p = next;
    }
    if (p == in->end)
        return false;
    in->pos = p + 1;
    *ret_text = (struct bytes){start, (size_t)(out - start)};
    return true;
}

/* The opening quote has been taken. */
static inline bool take_string(struct reader *in, uint8_t quote, struct bytes *ret_text)
{
    uint8_t *start = in->pos;
    uint8_t *p = find_string_end(start, in->end, quote);
    if (p == in->end || *p != quote)
        return take_escaped_string(in, quote, p, ret_text);
    in->pos = p + 1;
    ret_text->data = start;
    ret_text->size = (size_t)(p - start);
    return true;
}

static inline bool is_bare(uint8_t c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '_' || c == '$' || c == '-' ||
           c == '+' || c == '.' || c >= 0x80;
}

/* Characters of an unquoted key or a literal, from one before the position. */
static struct bytes take_bare(struct reader *in)
{
    uint8_t *start = in->pos - 1;
    while (in->pos < in->end && is_bare(*in->pos))
        in->pos++;
    return (struct bytes){start, (size_t)(in->pos - start)};
}

/* A key and its colon; `c` is its first character. */
static inline bool take_key(struct reader *in, uint8_t c, struct bytes *ret_key)
{
    if (c == '"' || c == '\'') {
        if (!take_string(in, c, ret_key))
            return false;
    } else if (is_bare(c)) {
        *ret_key = take_bare(in);
    } else {
        return false;
    }
    return take(in) == ':';
}

static bool skip_string(struct reader *in, uint8_t quote)
{
    for (;;) {
        in->pos = find_string_end(in->pos, in->end, quote);
        if (in->pos == in->end)
            return false;
        if (*in->pos++ == quote)
            return true;
        if (in->pos++ == in->end)
            return false;
    }
}

/* Passes over an object or array, which stays as it is. */
static bool skip_nested(struct reader *in, uint8_t open)
{
    uint8_t closers[DEPTH_MAX];
    unsigned depth = 0;
    for (uint8_t c = open;; c = take(in)) {
        switch (c) {
        case '{':
        case '[':
            if (depth == DEPTH_MAX)
                return false;
            closers[depth++] = (uint8_t)(c + 2); /* ASCII: '}' is '{' + 2, ']' is '[' + 2 */
            break;
        case '}':
        case ']':
            if (closers[--depth] != c)
                return false;
            if (depth == 0)
                return true;
            break;
        case '"':
        case '\'':
            if (!skip_string(in, c))
                return false;
            break;
        case ',':
        case ':':
            break;
        default:
            if (!is_bare(c))
                return false;
            take_bare(in);
        }
    }
}

static bool is_number(struct bytes text)
{
    size_t i = text.data[0] == '-' ? 1 : 0;
    if (i == text.size || text.data[i] < '0' || text.data[i] > '9')
        return false;
    for (; i < text.size; i++) {
        uint8_t c = text.data[i];
        if ((c < '0' || c > '9') && c != '.' && c != 'e' && c != 'E' && c != '+' && c != '-')
            return false;
    }
    return true;
}

static struct value take_value(struct reader *in)
{
    struct value value = {VALUE_BAD, {NULL, 0}};
    uint8_t c = take(in);
    if (c == '"' || c == '\'') {
        if (take_string(in, c, &value.text))
            value.kind = VALUE_STRING;
    } else if (c == '{' || c == '[') {
        uint8_t *start = in->pos - 1;
        if (skip_nested(in, c)) {
            value.kind = VALUE_NESTED;
            value.text = (struct bytes){start, (size_t)(in->pos - start)};
        }
    } else if (is_bare(c)) {
        value.text = take_bare(in);
        if (bytes_equal_text(value.text, "null"))
            value.kind = VALUE_NULL;
        else if (is_number(value.text) || bytes_equal_text(value.text, "true") || bytes_equal_text(value.text, "false"))
            value.kind = VALUE_LITERAL;
    }
    return value;
}

/* code, flag, opaque, version: a number, the same as text, or null. */
static bool take_i32(struct reader *in, int32_t *ret_value)
{
    struct value value = take_value(in);
    if (value.kind == VALUE_NULL || (value.kind == VALUE_STRING && value.text.size == 0)) {
        *ret_value = 0;
        return true;
    }
    int64_t number;
    if ((value.kind != VALUE_LITERAL && value.kind != VALUE_STRING) || header_integer(value.text, &number) < 0 ||
        number < INT32_MIN || number > INT32_MAX)
        return false;
    *ret_value = (int32_t)number;
    return true;
}

static bool take_language(struct reader *in, uint8_t *ret_language)
{
    struct value value = take_value(in);
    int64_t ordinal;
    if (value.kind == VALUE_STRING)
        *ret_language = header_language(value.text);
    else if (value.kind == VALUE_LITERAL && header_integer(value.text, &ordinal) == 0 && ordinal >= 0 &&
             ordinal < HEADER_LANGUAGE_COUNT)
        *ret_language = (uint8_t)ordinal;
    else
        *ret_language = LANGUAGE_OTHER;
    return value.kind != VALUE_BAD;
}

/* After a member of an object: ',' goes on, '}' ends; a comma before '}' is passed over. Returns the first character of
 * the next key, '}' at the end, 0 if it is neither. */
static inline uint8_t next_member(struct reader *in, bool first)
{
    uint8_t c = take(in);
    if (first || c == '}')
        return c;
    return c == ',' ? take(in) : 0;
}

static bool take_fields(struct reader *in, struct frame *frame)
{
    uint8_t c = take(in);
    if (c == 'n')
        return bytes_equal_text(take_bare(in), "null");
    if (c != '{')
        return false;
    for (bool first = true; (c = next_member(in, first)) != '}'; first = false) {
        if (frame->field_count == FRAME_FIELDS_MAX)
            return false;
        struct frame_field *field = &frame->fields[frame->field_count];
        if (!take_key(in, c, &field->key))
            return false;
        skip_space(in);
        if (in->pos < in->end && *in->pos == '"') { /* nearly always */
            in->pos++;
            if (!take_string(in, '"', &field->value))
                return false;
        } else {
            struct value value = take_value(in);
            if (value.kind == VALUE_BAD)
                return false;
            if (value.kind == VALUE_NULL)
                continue;
            field->value = value.text;
        }
        frame->field_count++;
    }
    return true;
}

static bool take_remark(struct reader *in, struct bytes *ret_remark)
{
    struct value value = take_value(in);
    *ret_remark = value.kind == VALUE_NULL ? (struct bytes){NULL, 0} : value.text;
    return value.kind != VALUE_BAD;
}

static bool take_member(struct reader *in, struct bytes key, struct frame *frame)
{
#define IS(name) (key.size == sizeof name - 1 && memcmp(key.data, name, sizeof name - 1) == 0)
    if (IS("extFields"))
        return take_fields(in, frame);
    if (IS("code"))
        return take_i32(in, &frame->code);
    if (IS("opaque"))
        return take_i32(in, &frame->opaque);
    if (IS("flag"))
        return take_i32(in, &frame->flag);
    if (IS("version"))
        return take_i32(in, &frame->version);
    if (IS("language"))
        return take_language(in, &frame->language);
    if (IS("remark"))
        return take_remark(in, &frame->remark);
#undef IS
    return take_value(in).kind != VALUE_BAD;
}

enum frame_result header_json_parse(uint8_t *data, size_t size, struct frame *frame)
{
    struct reader in = {data, data + size};
    uint8_t c = take(&in);
    if (c == 0)
        return in.pos == in.end ? FRAME_SKIP : FRAME_BAD;
    if (c == '[') {
        if (take(&in) != ']')
            return FRAME_BAD;
        skip_space(&in);
        return in.pos == in.end ? FRAME_SKIP : FRAME_BAD;
    }
    if (c != '{')
        return FRAME_BAD;
    for (bool first = true; (c = next_member(&in, first)) != '}'; first = false) {
        struct bytes key;
        if (!take_key(&in, c, &key) || !take_member(&in, key, frame))
            return FRAME_BAD;
    }
    skip_space(&in);
    return in.pos == in.end ? FRAME_OK : FRAME_BAD;
}
