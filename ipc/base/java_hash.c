/* String.hashCode over UTF-8 bytes. What Java makes of bytes that are not UTF-8 matters, because a producer in another
 * language may have sent them and Apache's broker hashed the decoded String: one U+FFFD for each maximal part that
 * could have begun a character, and one for a whole encoded surrogate. Pure; any process, any thread. */
#include "base/java_hash.h"

enum { REPLACEMENT = 0xFFFD };

static bool is_continuation(uint8_t byte)
{
    return (byte & 0xC0) == 0x80;
}

/* Whether `second` may follow the lead byte at all. */
static bool second_fits(uint8_t lead, uint8_t second)
{
    if (!is_continuation(second))
        return false;
    if (lead == 0xE0)
        return second >= 0xA0;
    if (lead == 0xF0)
        return second >= 0x90;
    if (lead == 0xF4)
        return second <= 0x8F;
    return true;
}

/* The next code point of `data`; `ret_size` is what it took. */
static uint32_t next_code_point(const uint8_t *data, size_t size, size_t *ret_size)
{
    uint8_t lead = data[0];
    *ret_size = 1;
    if (lead < 0x80)
        return lead;
    size_t length = lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
    if (length == 0)
        return REPLACEMENT;

    uint32_t code = lead & (0xFFu >> (length + 1));
    for (size_t i = 1; i < length; i++) {
        if (i >= size || (i == 1 ? !second_fits(lead, data[1]) : !is_continuation(data[i]))) {
            *ret_size = i;
            return REPLACEMENT;
        }
        code = code << 6 | (data[i] & 0x3F);
    }
    *ret_size = length;
    return code >= 0xD800 && code <= 0xDFFF ? REPLACEMENT : code;
}

uint32_t java_hash_add(uint32_t hash, struct bytes text)
{
    size_t i = 0, taken;
    /* Keys are ASCII nearly always; four at a time do not wait for one another. */
    for (uint32_t four; i + 4 <= text.size; i += 4) {
        const uint8_t *at = text.data + i;
        memcpy(&four, at, sizeof four);
        if (four & 0x80808080u)
            break;
        hash = 31u * 31 * 31 * 31 * hash + 31u * 31 * 31 * at[0] + 31u * 31 * at[1] + 31u * at[2] + at[3];
    }
    for (; i < text.size; i += taken) {
        if (text.data[i] < 0x80) {
            hash = 31 * hash + text.data[i];
            taken = 1;
            continue;
        }
        uint32_t code = next_code_point(text.data + i, text.size - i, &taken);
        if (code >= 0x10000) {
            hash = 31 * hash + (0xD800 + ((code - 0x10000) >> 10));
            code = 0xDC00 + ((code - 0x10000) & 0x3FF);
        }
        hash = 31 * hash + code;
    }
    return hash;
}

int32_t java_hash(struct bytes text)
{
    return (int32_t)java_hash_add(0, text);
}
