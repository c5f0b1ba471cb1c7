/* Decimal text to numbers, for header values that are walked over once instead of looked up one by one. */
#pragma once

#include <errno.h>

#include "base/bytes.h"

/* As Java's Long.parseLong: optional sign, digits, nothing else. */
static inline int number_parse_i64(struct bytes text, int64_t *ret_value)
{
    size_t i = 0;
    bool negative = false;
    if (text.size && (text.data[0] == '-' || text.data[0] == '+')) {
        negative = text.data[0] == '-';
        i = 1;
    }
    if (i == text.size || text.size - i > 19)
        return -EINVAL;
    uint64_t value = 0;
    for (; i < text.size; i++) {
        unsigned digit = (unsigned)text.data[i] - '0';
        if (digit > 9)
            return -EINVAL;
        value = value * 10 + digit; /* 19 digits fit 64 bits without a sign */
    }
    if (value > (uint64_t)INT64_MAX + negative)
        return -EINVAL;
    *ret_value = (int64_t)(negative ? 0 - value : value);
    return 0;
}

static inline int number_parse_i32(struct bytes text, int32_t *ret_value)
{
    int64_t value;
    int r = number_parse_i64(text, &value);
    if (r < 0)
        return r;
    if (value < INT32_MIN || value > INT32_MAX)
        return -EINVAL;
    *ret_value = (int32_t)value;
    return 0;
}
