/* See log_search.h. Any thread that has a reader of its own; recovery and the mending of queues. A record is believed by its
 * magic, its own position and its CRCs; a blank one only if it says exactly what is left of its file. */
#include "log_search.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "broker/format/layout.h"

enum { LOOK = 1 << 16 };

/* The first place in `data` where a magic may stand; `size` if there is none. */
static size_t magic_find(const uint8_t *data, size_t size)
{
    for (size_t at = RECORD_MAGIC_AT; at + 4 <= size; at++) {
        const uint8_t *found = memchr(data + at, 0xDA, size - at - 3);
        const uint8_t *blank = memchr(data + at, 0xCB, found ? (size_t)(found - data - (ptrdiff_t)at) : size - at - 3);
        found = blank ? blank : found;
        if (!found)
            return size;
        at = (size_t)(found - data);
        uint32_t magic = be32_load(found);
        if (magic == RECORD_MAGIC_V1 || magic == RECORD_MAGIC_V2 || magic == RECORD_MAGIC_BLANK)
            return at - RECORD_MAGIC_AT;
    }
    return size;
}

static int search_file(struct log_reader *reader, int64_t pos, int64_t end_pos, int64_t *ret_pos, struct record *ret_record)
{
    while (pos + RECORD_BLANK_SIZE <= end_pos) {
        const uint8_t *data;
        size_t size = end_pos - pos < LOOK ? (size_t)(end_pos - pos) : LOOK;
        int64_t next = commit_log_next_data(reader->log, pos);
        if (next < 0)
            return (int)next;
        if (next > pos) {
            pos = next;
            continue;
        }
        int r = log_reader_bytes(reader, pos, size, &data);
        if (r < 0)
            return r == -EBADMSG ? 0 : r;
        size_t at = magic_find(data, size);
        if (at == size) {
            pos += (int64_t)(size - RECORD_BLANK_SIZE + 1);
            continue;
        }
        pos += (int64_t)at;
        int kind = log_reader_record(reader, pos, true, ret_record);
        if (kind < 0)
            return kind;
        *ret_pos = pos++;
        if (kind == RECORD_MESSAGE || kind == RECORD_BLANK)
            return 1;
    }
    return 0;
}

int log_search(struct log_reader *reader, int64_t pos, int64_t limit_pos, int64_t *ret_pos, struct record *ret_record)
{
    int r = 0;
    if (limit_pos > commit_log_files_end(reader->log))
        limit_pos = commit_log_files_end(reader->log);
    while (r == 0 && pos < limit_pos) {
        int64_t file_end = commit_log_file_start(reader->log, pos) + commit_log_file_size(reader->log);
        r = search_file(reader, pos, file_end < limit_pos ? file_end : limit_pos, ret_pos, ret_record);
        pos = file_end;
    }
    return r;
}

int log_search_is_written(struct log_reader *reader, int64_t pos, int64_t end)
{
    enum { SECTOR = 512 };
    static const uint8_t zeros[SECTOR];
    if (pos % SECTOR == SECTOR - 1)
        pos++; /* the first byte of a record's size: always zero */
    while (pos < end) {
        const uint8_t *data;
        int64_t next = pos - pos % SECTOR + SECTOR < end ? pos - pos % SECTOR + SECTOR : end;
        int r = log_reader_bytes(reader, pos, (size_t)(next - pos), &data);
        if (r < 0)
            return r;
        if (memcmp(data, zeros, (size_t)(next - pos)) == 0)
            return 0;
        pos = next;
    }
    return 1;
}
