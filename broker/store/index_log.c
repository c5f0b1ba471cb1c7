/* The index thread's own way through the log's files (see index_log.h): its descriptors and its window, so that a slow disk
 * holds nobody else up. Bytes below the readable end never change. */
#include "index_log.h"

#include <fcntl.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "commit_log.h"
#include "file_layer.h"

enum { WINDOW = 256 * 1024 };

void index_log_init(struct index_log *log, const char *folder, int64_t file_size)
{
    *log = (struct index_log){.folder = folder, .file_size = file_size, .fd = -1};
}

void index_log_done(struct index_log *log)
{
    pn_close_p(&log->fd);
    free(log->data);
    *log = (struct index_log){.fd = -1};
}

static int file_open(struct index_log *log, int64_t file_pos)
{
    char path[4096];
    if (log->fd >= 0 && log->file_pos == file_pos)
        return 0;
    pn_close_p(&log->fd);
    commit_log_file_path(log->folder, file_pos, path, sizeof path);
    log->fd = file_layer_open(path, O_RDONLY, 0);
    log->file_pos = file_pos;
    return log->fd < 0 ? log->fd : 0;
}

/* Bytes from pos to the end of its file or `until`; at least `want` if there are so many. */
static int window(struct index_log *log, int64_t pos, int64_t until, size_t want, const uint8_t **ret_data, size_t *ret_size)
{
    int64_t file_pos = pos - pos % log->file_size, end = file_pos + log->file_size;
    end = until < end ? until : end;
    if ((int64_t)want > end - pos)
        want = (size_t)(end - pos);
    if (pos < log->base_pos || pos + (int64_t)want > log->base_pos + (int64_t)log->size) {
        size_t size = want > WINDOW ? want : WINDOW;
        if (size > log->capacity) {
            uint8_t *grown = realloc(log->data, size);
            if (!grown)
                return -ENOMEM;
            log->data = grown;
            log->capacity = size;
        }
        if ((int64_t)size > end - pos)
            size = (size_t)(end - pos);
        log->size = 0;
        int r = file_open(log, file_pos);
        if (r < 0)
            return r;
        ssize_t n = file_layer_pread(log->fd, log->data, size, pos - file_pos);
        if (n < 0)
            return (int)n;
        log->base_pos = pos;
        log->size = (size_t)n;
    }
    *ret_data = log->data + (pos - log->base_pos);
    *ret_size = log->size - (size_t)(pos - log->base_pos);
    return 0;
}

int index_log_record(struct index_log *log, int64_t pos, int64_t until, struct record *ret_record)
{
    size_t want = RECORD_BORN_HOST_AT;
    int64_t left = log->file_size - pos % log->file_size;
    for (;;) {
        const uint8_t *data = NULL;
        size_t size = 0;
        int r = window(log, pos, until, want, &data, &size);
        if (r < 0)
            return r;
        enum record_kind kind = record_parse(data, size, pos, left, false, ret_record);
        if (kind != RECORD_SHORT)
            return (int)kind;
        if (size < want || ret_record->size <= size)
            return RECORD_BAD;
        want = ret_record->size;
    }
}
