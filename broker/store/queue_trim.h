/* Where consume queues begin once the commit log has lost its first files. Works on copies and on the queues' files alone,
 * so any thread may run it; the files below a written offset never change. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct queue_trim {
    uint32_t slot, generation;
    int32_t queue_id;
    uint32_t topic_at; /* its topic's name in `names` */
    int64_t min_offset, max_offset;
};

struct queue_trims {
    char *folder; /* of all consume queues */
    int64_t file_size;
    int64_t log_min_pos;
    struct queue_trim *list;
    size_t count, room;
    char *names;
    size_t names_size, names_room;
};

/* -ENOMEM */
int queue_trims_add(struct queue_trims *trims, const char *topic, const struct queue_trim *trim);
/* Moves every min_offset to the first entry at or behind log_min_pos, or to max_offset. Ends early once *stop. What cannot be
 * read keeps its place; the count of those is returned. */
size_t queue_trims_find(struct queue_trims *trims, const bool *stop);
void queue_trims_done(struct queue_trims *trims);
