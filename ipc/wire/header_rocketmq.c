/* The ROCKETMQ binary header (remoting facts 1.3): i16 code, u8 language, i16 version, i32 opaque, i32 flag, i32 +
 * remark, i32 + block of { i16 + key, i32 + value }. Read only: answers are always JSON. Foreign bytes; nothing is
 * fatal. */
#include "wire/header.h"

static struct bytes take_block(struct cursor *c, uint32_t size)
{
    uint8_t *p = size > INT32_MAX ? NULL : cursor_take(c, size);
    if (!p) {
        c->bad = true;
        return (struct bytes){NULL, 0};
    }
    return (struct bytes){p, size};
}

static uint32_t take_u32(struct cursor *c)
{
    const uint8_t *p = cursor_take(c, 4);
    return p ? be32_load(p) : 0;
}

static uint16_t take_u16(struct cursor *c)
{
    const uint8_t *p = cursor_take(c, 2);
    return p ? be16_load(p) : 0;
}

static enum frame_result parse_fields(struct bytes block, struct frame *frame)
{
    struct cursor c = cursor_over(block.data, block.size);
    while (c.pos < c.end) {
        uint16_t key_size = take_u16(&c);
        struct bytes key = take_block(&c, key_size);
        uint32_t value_size = take_u32(&c);
        struct bytes value = take_block(&c, value_size);
        if (c.bad || key_size > INT16_MAX)
            return FRAME_BAD;
        if (value.size == 0) /* Java decodes an empty value to null */
            continue;
        if (frame->field_count == FRAME_FIELDS_MAX)
            return FRAME_BAD;
        frame->fields[frame->field_count++] = (struct frame_field){key, value};
    }
    return FRAME_OK;
}

enum frame_result header_rocketmq_parse(uint8_t *data, size_t size, struct frame *frame)
{
    struct cursor c = cursor_over(data, size);
    frame->code = (int16_t)take_u16(&c);
    uint8_t language = cursor_get_u8(&c);
    frame->language = language < HEADER_LANGUAGE_COUNT ? language : LANGUAGE_OTHER;
    frame->version = (int16_t)take_u16(&c);
    frame->opaque = (int32_t)take_u32(&c);
    frame->flag = (int32_t)take_u32(&c);
    frame->remark = take_block(&c, take_u32(&c));
    struct bytes fields = take_block(&c, take_u32(&c));
    if (c.bad)
        return FRAME_BAD;
    return parse_fields(fields, frame);
}
