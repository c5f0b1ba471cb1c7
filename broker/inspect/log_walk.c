/* See log_walk.h. */
#include "log_walk.h"

#include <string.h>

#include "base/bytes.h"

enum { HEAD = 1 << 16 };

/* The record at pos with all its bytes. Negative errno, or enum record_kind (never RECORD_SHORT). */
static int record_at(struct log_files *files, int64_t pos, bool check_crc, struct record *ret_record,
                     const uint8_t **ret_data)
{
    size_t size, wanted = HEAD;
    for (unsigned tries = 0; tries < 3; tries++) {
        int r = log_files_read(files, pos, wanted, ret_data, &size);
        if (r < 0)
            return r;
        enum record_kind kind =
            record_parse(*ret_data, size, pos, log_files_file_left(files, pos), check_crc, ret_record);
        if (kind != RECORD_SHORT)
            return (int)kind;
        wanted = ret_record->size;
    }
    return RECORD_BAD; /* longer than any record */
}

/* The next place in pos's file where a whole record or the file's closing blank one stands; the file's end if there is
 * none. */
static int search(struct log_files *files, int64_t pos, int64_t *ret_pos)
{
    int64_t end = log_files_file_start(files, pos) + files->file_size;
    while (pos + RECORD_BLANK_SIZE <= end) {
        const uint8_t *data;
        size_t size;
        int r = log_files_read(files, pos, HEAD, &data, &size);
        if (r < 0)
            return r;
        size_t looked = size < RECORD_BLANK_SIZE ? size : size - RECORD_BLANK_SIZE + 1, i = 0;
        for (; i < looked; i++) {
            uint32_t magic = be32_load(data + i + RECORD_MAGIC_AT);
            if (magic == RECORD_MAGIC_V1 || magic == RECORD_MAGIC_V2 || magic == RECORD_MAGIC_BLANK)
                break;
        }
        pos += (int64_t)i;
        if (i == looked)
            continue;
        struct record record;
        const uint8_t *bytes;
        int kind = record_at(files, pos, true, &record, &bytes);
        if (kind < 0)
            return kind;
        if (kind == RECORD_MESSAGE || kind == RECORD_BLANK) {
            *ret_pos = pos;
            return 0;
        }
        pos++;
    }
    *ret_pos = end;
    return 0;
}

void log_walk_begin(struct log_walk *walk, struct log_files *files, int64_t pos, int64_t known_end)
{
    *walk = (struct log_walk){.files = files, .pos = pos, .known_end = known_end};
}

static int end(struct log_walk *walk, struct log_item *item)
{
    walk->ended = true;
    *item = (struct log_item){.kind = LOG_END, .pos = walk->pos};
    return 0;
}

/* Whether nothing follows pos's file: none at all, or those that Apache makes ahead, which a kill leaves behind. */
static int is_last(struct log_files *files, int64_t pos, bool *ret_last)
{
    int64_t first;
    *ret_last = true;
    for (pos = log_files_file_start(files, pos) + files->file_size; pos < files->end_pos; pos += files->file_size) {
        int r = log_files_is_zero(files, pos, ret_last, &first);
        if (r < 0 || !*ret_last)
            return r;
    }
    return 0;
}

/* What stands at pos is no record. Nothing but zeros, or a tail behind which nobody knows of anything: the end. */
static int no_record(struct log_walk *walk, struct log_item *item)
{
    struct log_files *files = walk->files;
    int64_t file_end = log_files_file_start(files, walk->pos) + files->file_size, next = file_end, first;
    bool last = true, zero = true;
    int r = is_last(files, walk->pos, &last);
    if (r == 0)
        r = log_files_is_zero(files, walk->pos, &zero, &first);
    if (r == 0 && last && zero && walk->pos >= walk->known_end)
        return end(walk, item);
    if (r == 0 && !zero)
        r = search(files, walk->pos + 1, &next);
    if (r < 0)
        return r;
    bool was_one = walk->pos < walk->known_end || !last;
    *item = (struct log_item){.kind = was_one ? LOG_NO_RECORD : LOG_TAIL, .pos = walk->pos, .size = next - walk->pos};
    /* Old bytes behind the end that look like records (Apache leaves them) are none any more. */
    walk->pos = was_one ? next : files->end_pos;
    return 0;
}

int log_walk_next(struct log_walk *walk, struct log_item *ret_item)
{
    struct log_files *files = walk->files;
    struct log_item *item = ret_item;
    for (;;) {
        if (walk->ended || walk->pos >= files->end_pos)
            return end(walk, item);
        *item = (struct log_item){.pos = walk->pos};
        int kind = record_at(files, walk->pos, false, &item->record, &item->data);
        if (kind < 0)
            return kind;
        if (kind == RECORD_BLANK) {
            walk->pos += item->record.size;
            continue;
        }
        if (kind != RECORD_MESSAGE)
            return no_record(walk, item);
        struct record checked;
        kind = record_at(files, walk->pos, true, &checked, &item->data);
        if (kind < 0)
            return kind;
        item->kind = kind == RECORD_MESSAGE ? LOG_RECORD : LOG_BAD_BODY;
        item->size = item->record.size;
        walk->pos += item->size;
        return 0;
    }
}
