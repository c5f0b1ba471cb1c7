/* The metadata journal's bytes: see journal_file.h. Store process: the journal's thread writes, a cold start reads. Foreign
 * bytes: whatever they are, the answer is records that check out and a count of what does not. */
#include "journal_file.h"

#include <endian.h>
#include <errno.h>
#include <isa-l/crc.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/panic.h"

_Static_assert(__BYTE_ORDER == __LITTLE_ENDIAN, "the journal's byte order is this host's");

static const char magic[8] = {'P', 'N', 'T', 'L', 'M', 'E', 'T', 'A'};

static uint64_t round_up_8(uint64_t size)
{
    return (size + 7) & ~(uint64_t)7;
}

void journal_bytes_free(struct journal_bytes *bytes)
{
    free(bytes->data);
    *bytes = (struct journal_bytes){NULL, 0, 0};
}

/* Room for `size` more; the new bytes are zeros. */
static uint8_t *extend(struct journal_bytes *bytes, size_t size)
{
    if (bytes->room - bytes->size < size) {
        size_t room = bytes->room ? bytes->room * 2 : 4096;
        while (room - bytes->size < size)
            room *= 2;
        bytes->data = realloc(bytes->data, room);
        pn_assert(bytes->data);
        bytes->room = room;
    }
    uint8_t *at = bytes->data + bytes->size;
    memset(at, 0, size);
    bytes->size += size;
    return at;
}

static uint32_t header_crc(const struct journal_header *header)
{
    return crc32_gzip_refl(0, (const uint8_t *)header, offsetof(struct journal_header, crc32));
}

static uint32_t record_crc(const uint8_t *record, size_t size)
{
    const size_t skipped = sizeof(uint32_t);
    return crc32_gzip_refl(0, record + skipped, size - skipped);
}

void journal_file_begin(struct journal_bytes *bytes, uint64_t file_id)
{
    struct journal_header header = {.version = JOURNAL_VERSION, .size = sizeof header, .file_id = file_id,
                                    .made_ms = clock_realtime_ms()};
    memcpy(header.magic, magic, sizeof magic);
    header.crc32 = header_crc(&header);
    memcpy(extend(bytes, sizeof header), &header, sizeof header);
}

void journal_file_add(struct journal_bytes *bytes, uint64_t base_pos, uint64_t file_id, uint16_t type,
                      struct bytes payload)
{
    struct journal_record record = {.size = (uint32_t)(sizeof record + payload.size), .pos = base_pos + bytes->size,
                                    .file_id = file_id, .type = type};
    pn_assert(record.size <= JOURNAL_RECORD_MAX && record.pos % 8 == 0);
    uint8_t *at = extend(bytes, round_up_8(record.size));
    memcpy(at, &record, sizeof record);
    if (payload.size)
        memcpy(at + sizeof record, payload.data, payload.size);
    record.crc32 = record_crc(at, record.size);
    memcpy(at, &record.crc32, sizeof record.crc32);
}

void journal_file_add_note(struct journal_bytes *bytes, uint64_t base_pos, uint64_t file_id,
                           const struct journal_note *note)
{
    uint8_t payload[64];
    struct cursor c = cursor_over(payload, sizeof payload);
    cursor_put_u8(&c, note->file);
    cursor_put_u32(&c, note->crc32);
    cursor_put_u64(&c, note->size);
    cursor_put_i64(&c, note->time_ms);
    data_version_put(&c, &note->version);
    cursor_put_u64(&c, note->covers_pos);
    pn_assert(!c.bad);
    journal_file_add(bytes, base_pos, file_id, JOURNAL_NOTE, (struct bytes){payload, (size_t)(c.pos - payload)});
}

bool journal_file_note(struct bytes payload, struct journal_note *ret_note)
{
    struct cursor c = cursor_over(payload.data, payload.size);
    ret_note->file = cursor_get_u8(&c);
    ret_note->crc32 = cursor_get_u32(&c);
    ret_note->size = cursor_get_u64(&c);
    ret_note->time_ms = cursor_get_i64(&c);
    ret_note->version = data_version_get(&c);
    ret_note->covers_pos = cursor_get_u64(&c);
    return !c.bad;
}

/* Reading. */

static bool read_header(const uint8_t *data, size_t size, struct journal_header *ret_header)
{
    if (size < sizeof *ret_header)
        return false;
    memcpy(ret_header, data, sizeof *ret_header);
    return memcmp(ret_header->magic, magic, sizeof magic) == 0 && ret_header->crc32 == header_crc(ret_header);
}

uint64_t journal_file_id(const uint8_t *data, size_t size)
{
    struct journal_header header;
    return read_header(data, size, &header) && header.version == JOURNAL_VERSION ? header.file_id : 0;
}

/* `file_id` 0: whatever it is. */
static bool read_record(const uint8_t *data, size_t size, uint64_t pos, uint64_t file_id, struct journal_record *ret_record)
{
    if (size < sizeof *ret_record || pos > size - sizeof *ret_record)
        return false;
    memcpy(ret_record, data + pos, sizeof *ret_record);
    return ret_record->pos == pos && ret_record->size >= sizeof *ret_record && ret_record->size <= JOURNAL_RECORD_MAX &&
           ret_record->size <= size - pos && (file_id == 0 || ret_record->file_id == file_id) &&
           ret_record->crc32 == record_crc(data + pos, ret_record->size);
}

static uint64_t next_valid(const uint8_t *data, size_t size, uint64_t pos, uint64_t file_id)
{
    struct journal_record record;
    while (pos < size && !read_record(data, size, pos, file_id, &record))
        pos += 8;
    return pos;
}

int journal_file_scan(const uint8_t *data, size_t size, journal_visit visit, void *context, struct journal_scan *ret_scan)
{
    struct journal_header header;
    struct journal_record record;
    uint64_t pos = sizeof header;
    *ret_scan = (struct journal_scan){.end_pos = sizeof header};
    if (read_header(data, size, &header)) {
        if (header.version != JOURNAL_VERSION)
            return -EPROTONOSUPPORT;
        ret_scan->file_id = header.file_id;
        ret_scan->made_ms = header.made_ms;
    } else { /* any record tells whose file it is */
        ret_scan->damages = 1;
        pos = next_valid(data, size, pos, 0);
        if (!read_record(data, size, pos, 0, &record))
            return -EBADMSG;
        ret_scan->file_id = record.file_id;
    }
    while (pos < size) {
        uint64_t valid = next_valid(data, size, pos, ret_scan->file_id);
        if (valid >= size)
            break;
        if (valid != pos && ret_scan->damages++ == 0)
            ret_scan->damage_pos = pos;
        (void)read_record(data, size, valid, ret_scan->file_id, &record);
        struct bytes payload = {data + valid + sizeof record, record.size - sizeof record};
        int r = visit ? visit(context, valid, record.type, payload) : 0;
        if (r < 0)
            return r;
        ret_scan->records++;
        pos = ret_scan->end_pos = valid + round_up_8(record.size);
    }
    if (ret_scan->end_pos > size) /* the zeros behind the last record may be missing */
        ret_scan->end_pos = size;
    ret_scan->torn = size - ret_scan->end_pos;
    return 0;
}
