/* See queue_trim.h. Store process, the retention thread. */
#include "queue_trim.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "file_layer.h"
#include "broker/format/layout.h"

int queue_trims_add(struct queue_trims *trims, const char *topic, const struct queue_trim *trim)
{
    size_t size = strlen(topic) + 1;
    /* Queues of one topic come together and share its name. */
    bool same = trims->count > 0 && strcmp(trims->names + trims->list[trims->count - 1].topic_at, topic) == 0;
    if (trims->count == trims->room) {
        size_t room = trims->room ? trims->room * 2 : 256;
        struct queue_trim *grown = realloc(trims->list, room * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        trims->list = grown;
        trims->room = room;
    }
    if (!same && trims->names_size + size > trims->names_room) {
        size_t room = 2 * (trims->names_room + size);
        char *grown = realloc(trims->names, room);
        if (!grown)
            return -ENOMEM;
        trims->names = grown;
        trims->names_room = room;
    }
    struct queue_trim *added = &trims->list[trims->count];
    *added = *trim;
    added->topic_at = same ? trims->list[trims->count - 1].topic_at : (uint32_t)trims->names_size;
    if (!same) {
        memcpy(trims->names + trims->names_size, topic, size);
        trims->names_size += size;
    }
    trims->count++;
    return 0;
}

/* 1: the entry lies in the log that is left; 0: before it, or its file is gone already. */
static int entry_stays(const struct queue_trims *trims, const struct queue_trim *trim, int64_t offset, int *fd,
                       int64_t *fd_pos)
{
    int64_t pos = offset * QUEUE_ENTRY_SIZE, file_pos = pos - pos % trims->file_size;
    if (*fd < 0 || *fd_pos != file_pos) {
        char path[4096];
        pn_close_p(fd);
        *fd = -1;
        snprintf(path, sizeof path, "%s/%s/%" PRId32 "/%0*" PRId64, trims->folder, trims->names + trim->topic_at,
                 trim->queue_id, FILE_NAME_DIGITS, file_pos);
        int r = file_layer_open(path, O_RDONLY, 0);
        if (r < 0)
            return r == -ENOENT ? 0 : r;
        *fd = r;
        *fd_pos = file_pos;
    }
    uint8_t data[QUEUE_ENTRY_SIZE];
    ssize_t n = file_layer_pread(*fd, data, sizeof data, pos % trims->file_size);
    if (n != (ssize_t)sizeof data)
        return n < 0 ? (int)n : -EIO;
    int64_t log_pos = (int64_t)be64_load(data);
    return log_pos >= trims->log_min_pos;
}

static int trim_find(const struct queue_trims *trims, struct queue_trim *trim)
{
    PN_CLOSE int fd = -1;
    int64_t fd_pos = 0, low = trim->min_offset, high = trim->max_offset;
    int r = low < high ? entry_stays(trims, trim, low, &fd, &fd_pos) : 1;
    if (r != 0)
        return r < 0 ? r : 0;
    while (low < high) { /* entries grow with their log position */
        int64_t middle = low + (high - low) / 2;
        r = entry_stays(trims, trim, middle, &fd, &fd_pos);
        if (r < 0)
            return r;
        if (r)
            high = middle;
        else
            low = middle + 1;
    }
    trim->min_offset = low;
    return 0;
}

size_t queue_trims_find(struct queue_trims *trims, const bool *stop)
{
    size_t failed = 0;
    for (size_t i = 0; i < trims->count && !__atomic_load_n(stop, __ATOMIC_RELAXED); i++)
        failed += trim_find(trims, &trims->list[i]) < 0;
    return failed;
}

void queue_trims_done(struct queue_trims *trims)
{
    free(trims->folder);
    free(trims->list);
    free(trims->names);
    *trims = (struct queue_trims){0};
}
