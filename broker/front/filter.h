/* Tag filters: which queue entries a subscription wants, by the hash that a queue entry keeps of its message's tags.
 * The client compares the tags themselves, so hashes that collide do no harm. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

struct tag_filter {
    bool all;
    unsigned count;
    int32_t *codes; /* malloc'ed; NULL if all */
};

/* "", "*": all; else tags between "||", trimmed. -EINVAL: not one tag in it. */
int tag_filter_compile(struct bytes expression, struct tag_filter *ret_filter);
void tag_filter_free(struct tag_filter *filter);

static inline bool tag_filter_matches(const struct tag_filter *filter, int64_t tags_code)
{
    if (filter->all)
        return true;
    for (unsigned i = 0; i < filter->count; i++)
        if (filter->codes[i] == (int32_t)tags_code)
            return true;
    return false;
}
