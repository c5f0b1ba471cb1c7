/* Parses and judges one record of the commit log (see record.h, rules in FORMAT.md). The bytes come from a disk: a bad
 * one is an answer to the caller. */
#include "record.h"

#include <isa-l/crc.h>

static enum record_kind need(struct record *ret_record, int64_t size)
{
    ret_record->size = (uint32_t)size;
    return RECORD_SHORT;
}

static bool parts_parse(const uint8_t *data, uint32_t magic, struct record *r)
{
    struct cursor c = cursor_over(data, r->size);
    cursor_take(&c, RECORD_BORN_HOST_AT);
    cursor_take(&c, r->sys_flag & SYS_FLAG_BORN_IPV6 ? RECORD_HOST_V6_SIZE : RECORD_HOST_V4_SIZE);
    const uint8_t *store_ms = cursor_take(&c, 8);
    cursor_take(&c, r->sys_flag & SYS_FLAG_STORE_IPV6 ? RECORD_HOST_V6_SIZE : RECORD_HOST_V4_SIZE);
    const uint8_t *tail = cursor_take(&c, 4 + 8 + 4);
    if (c.bad)
        return false;
    r->store_ms = (int64_t)be64_load(store_ms);
    r->prepared_pos = (int64_t)be64_load(tail + 4);
    r->body.size = be32_load(tail + 12);
    r->body.data = cursor_take(&c, r->body.size);
    const uint8_t *topic_size = cursor_take(&c, magic == RECORD_MAGIC_V2 ? 2 : 1);
    if (c.bad)
        return false;
    r->topic.size = magic == RECORD_MAGIC_V2 ? be16_load(topic_size) : topic_size[0];
    r->topic.data = cursor_take(&c, r->topic.size);
    const uint8_t *properties_size = cursor_take(&c, 2);
    if (c.bad)
        return false;
    r->properties.size = be16_load(properties_size);
    r->properties.data = cursor_take(&c, r->properties.size);
    return !c.bad && c.pos == c.end && r->topic.size > 0;
}

enum record_kind record_parse(const uint8_t *data, size_t size, int64_t pos, int64_t file_left, bool check_crc,
                              struct record *ret_record)
{
    *ret_record = (struct record){0};
    if (file_left < RECORD_BLANK_SIZE)
        return RECORD_BAD;
    if (size < RECORD_BLANK_SIZE)
        return need(ret_record, RECORD_BLANK_SIZE);
    uint32_t total = be32_load(data + RECORD_SIZE_AT), magic = be32_load(data + RECORD_MAGIC_AT);
    if (magic == RECORD_MAGIC_BLANK) {
        ret_record->size = (uint32_t)file_left;
        return (int64_t)total == file_left ? RECORD_BLANK : RECORD_BAD;
    }
    if ((magic != RECORD_MAGIC_V1 && magic != RECORD_MAGIC_V2) || total < RECORD_FIXED_SIZE ||
        (int64_t)total > file_left)
        return RECORD_BAD;
    if (size < RECORD_BORN_HOST_AT)
        return need(ret_record, RECORD_BORN_HOST_AT);
    ret_record->size = total;
    ret_record->body_crc = be32_load(data + RECORD_BODY_CRC_AT);
    ret_record->queue_id = (int32_t)be32_load(data + RECORD_QUEUE_ID_AT);
    ret_record->queue_offset = (int64_t)be64_load(data + RECORD_QUEUE_OFFSET_AT);
    ret_record->pos = (int64_t)be64_load(data + RECORD_POS_AT);
    ret_record->sys_flag = (int32_t)be32_load(data + RECORD_SYS_FLAG_AT);
    if (ret_record->pos != pos || ret_record->queue_offset < 0 || ret_record->queue_id < 0)
        return RECORD_BAD;
    if (size < total)
        return need(ret_record, total);
    if (!parts_parse(data, magic, ret_record))
        return RECORD_BAD;
    if (check_crc && ret_record->body.size > 0 &&
        (crc32_gzip_refl(0, ret_record->body.data, ret_record->body.size) & 0x7FFFFFFFu) != ret_record->body_crc)
        return RECORD_BAD;
    /* The CRC covers the body alone. A page that never reached the disk reads as zeros, and no property holds one. */
    if (check_crc && ret_record->properties.size > 0 && data[total - 1] == 0)
        return RECORD_BAD;
    return RECORD_MESSAGE;
}
