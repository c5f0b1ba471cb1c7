/* One scan of a message's properties (see properties.h). Runs in the store for each message taken and each one indexed:
 * no copies, no allocation. The text is a client's: anything in it is allowed, nothing is fatal. */
#include "properties.h"

enum { NAME_END = 1, VALUE_END = 2 };

static bool name_is(struct bytes name, const char *text, size_t size)
{
    return name.size == size && memcmp(name.data, text, size) == 0;
}
#define NAME_IS(name, text) name_is(name, text, sizeof(text) - 1)

static void take_name(struct properties *p, struct bytes name, struct bytes value)
{
    switch (name.size) {
    case 4:
        if (NAME_IS(name, "TAGS"))
            p->tags = value;
        else if (NAME_IS(name, "KEYS"))
            p->keys = value;
        else if (NAME_IS(name, "WAIT"))
            p->wait = value;
        break;
    case 5:
        if (NAME_IS(name, "DELAY"))
            p->delay = value;
        break;
    case 6:
        if (NAME_IS(name, "POP_CK"))
            p->has_reserved = true;
        break;
    case 7:
        if (NAME_IS(name, "CLUSTER"))
            p->cluster = value;
        break;
    case 8:
        if (NAME_IS(name, "UNIQ_KEY"))
            p->uniq_key = value;
        else if (NAME_IS(name, "TRACE_ON"))
            p->trace_on = value;
        else if (NAME_IS(name, "TRAN_MSG"))
            p->tran_msg = value;
        else if (NAME_IS(name, "__CRC32#"))
            p->has_reserved = true;
        break;
    case 10:
        if (NAME_IS(name, "MSG_REGION"))
            p->region = value;
        break;
    default:
        if (NAME_IS(name, "TIMER_DELAY_SEC") || NAME_IS(name, "TIMER_DELAY_MS") || NAME_IS(name, "TIMER_DELIVER_MS")) {
            p->timer = value;
            p->timer_name = name;
        } else if (NAME_IS(name, "PINTLE_POISON")) {
            p->poison = value;
        }
    }
}

/* Next segment; false at the end. A segment that is nothing has an empty name. */
static bool segment_next(struct bytes *rest, struct bytes *ret_whole, struct bytes *ret_name, struct bytes *ret_value)
{
    if (rest->size == 0)
        return false;
    const uint8_t *start = rest->data;
    const uint8_t *stop = memchr(start, VALUE_END, rest->size);
    size_t size = stop ? (size_t)(stop - start) : rest->size;
    size_t step = stop ? size + 1 : size;
    *ret_whole = (struct bytes){start, step};
    const uint8_t *middle = memchr(start, NAME_END, size);
    *ret_name = *ret_value = (struct bytes){start, 0};
    if (middle && middle > start && middle + 1 < start + size) {
        *ret_name = (struct bytes){start, (size_t)(middle - start)};
        *ret_value = (struct bytes){middle + 1, (size_t)(start + size - middle - 1)};
    }
    rest->data += step;
    rest->size -= step;
    return true;
}

void properties_scan(struct bytes text, struct properties *ret_properties)
{
    *ret_properties = (struct properties){0};
    ret_properties->ends_open = text.size > 0 && text.data[text.size - 1] != VALUE_END;
    struct bytes whole, name, value;
    while (segment_next(&text, &whole, &name, &value))
        if (name.size > 0)
            take_name(ret_properties, name, value);
}

struct bytes properties_find(struct bytes text, const char *wanted)
{
    struct bytes whole, name, value, found = {NULL, 0};
    while (segment_next(&text, &whole, &name, &value))
        if (name.size > 0 && bytes_equal_text(name, wanted))
            found = value;
    return found;
}

static bool is_listed(struct bytes name, const char *const *names)
{
    for (; *names; names++)
        if (bytes_equal_text(name, *names))
            return true;
    return false;
}

size_t properties_copy_without(struct bytes text, const char *const *names, uint8_t *to)
{
    uint8_t *at = to;
    struct bytes whole, name, value;
    while (segment_next(&text, &whole, &name, &value)) {
        if (is_listed(name, names))
            continue;
        memcpy(at, whole.data, whole.size);
        at += whole.size;
        if (at[-1] != VALUE_END)
            *at++ = VALUE_END;
    }
    return (size_t)(at - to);
}

uint8_t *properties_put(uint8_t *to, const char *name, struct bytes value)
{
    size_t size = strlen(name);
    memcpy(to, name, size);
    to[size] = NAME_END;
    if (value.size)
        memcpy(to + size + 1, value.data, value.size);
    to[size + 1 + value.size] = VALUE_END;
    return to + size + 2 + value.size;
}

size_t properties_copy_clean(struct bytes text, uint8_t *to)
{
    static const char *const reserved[] = {"POP_CK", "__CRC32#", NULL};
    return properties_copy_without(text, reserved, to);
}
