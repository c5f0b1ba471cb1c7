/* Tag expressions as Apache's FilterAPI.buildSubscriptionData reads them. Pure data, no I/O. */
#include "filter.h"

#include <errno.h>
#include <stdlib.h>

#include "base/java_hash.h"
#include "base/panic.h"

static bool is_space(uint8_t c)
{
    return c <= ' '; /* String.trim */
}

static struct bytes trimmed(struct bytes text)
{
    while (text.size && is_space(text.data[0])) {
        text.data++;
        text.size--;
    }
    while (text.size && is_space(text.data[text.size - 1]))
        text.size--;
    return text;
}

static struct bytes next_tag(struct bytes *rest)
{
    size_t i = 0;
    while (i < rest->size && !(rest->data[i] == '|' && i + 1 < rest->size && rest->data[i + 1] == '|'))
        i++;
    struct bytes tag = {rest->data, i};
    size_t used = i < rest->size ? i + 2 : i;
    *rest = (struct bytes){rest->data + used, rest->size - used};
    return trimmed(tag);
}

int tag_filter_compile(struct bytes expression, struct tag_filter *ret_filter)
{
    *ret_filter = (struct tag_filter){0};
    if (!expression.size || bytes_equal_text(expression, "*")) {
        ret_filter->all = true;
        return 0;
    }
    struct bytes rest = expression;
    unsigned most = 1;
    for (size_t i = 0; i + 1 < expression.size; i++)
        most += expression.data[i] == '|' && expression.data[i + 1] == '|';
    int32_t *codes = malloc(most * sizeof *codes);
    if (!codes)
        PANIC("out of memory");
    unsigned count = 0;
    while (rest.size) {
        struct bytes tag = next_tag(&rest);
        if (tag.size) {
            pn_assert(count < most);
            codes[count++] = java_hash(tag);
        }
    }
    if (!count) {
        free(codes);
        return -EINVAL;
    }
    ret_filter->codes = codes;
    ret_filter->count = count;
    return 0;
}

void tag_filter_free(struct tag_filter *filter)
{
    free(filter->codes);
    *filter = (struct tag_filter){0};
}
