/* Parses and judges one record of the commit log (see record.h, rules in FORMAT.md). The bytes come from a disk: a bad
 * one is an answer to the caller. */
#include "record.h"

#include <isa-l/crc.h>
#include <string.h>

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

/* Digits, least significant first: 1234567 is 7654321000. */
static void digits_put(uint8_t *to, uint32_t value)
{
    for (unsigned i = 0; i < RECORD_WHOLE_CRC_DIGITS; i++, value /= 10)
        to[i] = (uint8_t)('0' + value % 10);
}

static void whole_crc_text(const uint8_t *data, size_t size, uint8_t *to)
{
    memcpy(to, RECORD_WHOLE_CRC_NAME "\1", RECORD_WHOLE_CRC_DIGITS_AT);
    digits_put(to + RECORD_WHOLE_CRC_DIGITS_AT,
               crc32_gzip_refl(0, data, size - RECORD_WHOLE_CRC_SIZE) & 0x7FFFFFFFu);
    to[RECORD_WHOLE_CRC_SIZE - 1] = 2;
}

void record_whole_crc_put(uint8_t *data, size_t size)
{
    whole_crc_text(data, size, data + size - RECORD_WHOLE_CRC_SIZE);
}

/* Damage may hit the property's own name. So it counts as there also where some of its bytes are wrong, or zeros. */
enum record_whole_crc record_whole_crc(const uint8_t *data, size_t size)
{
    enum { MISSES_MAX = 3 };
    if (size < RECORD_FIXED_SIZE + RECORD_WHOLE_CRC_SIZE)
        return RECORD_WHOLE_CRC_NONE;
    const uint8_t *at = data + size - RECORD_WHOLE_CRC_SIZE;
    static const uint8_t shape[RECORD_WHOLE_CRC_SIZE + 1] = RECORD_WHOLE_CRC_NAME "\1##########\2";
    unsigned misses = 0, zeros = 0;
    for (unsigned i = 0; i < RECORD_WHOLE_CRC_SIZE && misses <= MISSES_MAX; i++) {
        bool digit = i >= RECORD_WHOLE_CRC_DIGITS_AT && i < RECORD_WHOLE_CRC_SIZE - 1;
        if (at[i] == 0)
            zeros++;
        else if (digit ? at[i] < '0' || at[i] > '9' : at[i] != shape[i])
            misses++;
    }
    if (misses > MISSES_MAX || zeros == RECORD_WHOLE_CRC_SIZE)
        return RECORD_WHOLE_CRC_NONE;
    uint8_t wanted[RECORD_WHOLE_CRC_SIZE];
    whole_crc_text(data, size, wanted);
    return memcmp(at, wanted, sizeof wanted) == 0 ? RECORD_WHOLE_CRC_GOOD : RECORD_WHOLE_CRC_BAD;
}

/* A lost page reads as zeros. No CRC need cover the properties, and none of them holds a zero at its end, or so many. */
static bool has_lost_page(struct bytes properties, const uint8_t *data, int64_t pos)
{
    enum { PAGE = 4096 };
    static const uint8_t zeros[PAGE];
    if (properties.size == 0)
        return false;
    if (properties.data[properties.size - 1] == 0)
        return true;
    int64_t first = pos + (properties.data - data), end = first + (int64_t)properties.size;
    for (int64_t page = (first + PAGE - 1) / PAGE * PAGE; page + PAGE <= end; page += PAGE)
        if (memcmp(data + (page - pos), zeros, PAGE) == 0)
            return true;
    return false;
}

static bool crcs_hold(const uint8_t *data, const struct record *record)
{
    if (has_lost_page(record->properties, data, record->pos))
        return false;
    enum record_whole_crc whole = record_whole_crc(data, record->size);
    if (whole == RECORD_WHOLE_CRC_BAD)
        return false;
    /* Readers look at the body's CRC, also where the whole is known to be as it was written. */
    return record->body.size == 0 ||
           (crc32_gzip_refl(0, record->body.data, record->body.size) & 0x7FFFFFFFu) == record->body_crc;
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
    if (check_crc && !crcs_hold(data, ret_record))
        return RECORD_BAD;
    return RECORD_MESSAGE;
}

void record_origin(const uint8_t *data, int32_t *ret_flag, int64_t *ret_born_ms, const uint8_t **ret_born_ip,
                   uint16_t *ret_born_port, int32_t *ret_reconsume_times)
{
    uint32_t sys_flag = be32_load(data + RECORD_SYS_FLAG_AT);
    size_t born = sys_flag & SYS_FLAG_BORN_IPV6 ? RECORD_HOST_V6_SIZE : RECORD_HOST_V4_SIZE;
    size_t store = sys_flag & SYS_FLAG_STORE_IPV6 ? RECORD_HOST_V6_SIZE : RECORD_HOST_V4_SIZE;
    *ret_flag = (int32_t)be32_load(data + RECORD_FLAG_AT);
    *ret_born_ms = (int64_t)be64_load(data + RECORD_BORN_MS_AT);
    *ret_born_ip = data + RECORD_BORN_HOST_AT;
    *ret_born_port = (uint16_t)be32_load(data + RECORD_BORN_HOST_AT + born - 4);
    *ret_reconsume_times = (int32_t)be32_load(data + RECORD_BORN_HOST_AT + born + 8 + store);
}
