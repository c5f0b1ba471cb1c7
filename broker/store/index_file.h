/* One index file (bytes in FORMAT.md): keys of messages by hash, each with its message's log position. Derived from the
 * log. The newest one is mapped and written by the index thread alone; older ones are only known by their headers. Fronts
 * read all of them at any time. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct index_shape {
    uint32_t slots, entries; /* maxHashSlotNum, maxIndexNum */
};

struct index_entry {
    int64_t pos, store_ms;
    uint32_t hash;
};

struct index_file {
    char *path;
    int64_t name; /* as a number */
    struct index_shape shape;
    int64_t begin_ms, end_ms, begin_pos, end_pos;
    uint32_t slots_used, count; /* count: entries and 1, as in the file */
    /* of the newest */
    int fd;
    uint8_t *map;
    uint32_t reserved; /* entries below it have their blocks */
};

/* What a file's entries point to, and no file's last entry points behind it. */
static inline bool index_file_is_full(const struct index_file *file)
{
    return file->count >= file->shape.entries;
}
size_t index_file_size(const struct index_shape *shape);

/* From its header. -EUCLEAN: it is no index file of this shape, or nonsense. */
int index_file_load(const char *path, const struct index_shape *shape, struct index_file **ret_file);
/* A new one behind `before` (NULL: the first one). */
int index_file_create(const char *path, const struct index_shape *shape, const struct index_file *before,
                      struct index_file **ret_file);
void index_file_free(struct index_file *file);
/* Ready for writing. A file without entries takes its times and positions from `before`, as a new one does. */
int index_file_map(struct index_file *file, const struct index_file *before);
void index_file_unmap(struct index_file *file);

/* Puts as many as there is room for; returns how many, or negative errno with nothing put: -ENOSPC and the like (the
 * blocks are reserved first), -EIO if a page cannot be read. */
int index_file_put(struct index_file *file, const struct index_entry *entries, unsigned count);

/* Log position of an entry, and its hash; negative errno. */
int index_file_entry(struct index_file *file, uint32_t number, int64_t *ret_pos, uint32_t *ret_hash);
/* The first entry at or behind `pos`, or the count. */
int index_file_find(struct index_file *file, int64_t pos, uint32_t *ret_number);
/* Keeps entries below `count` (≥ 2), makes the slots again out of them, and clears the rest. The last one's message
 * was stored at end_ms. The file must be mapped. */
int index_file_cut(struct index_file *file, uint32_t count, int64_t end_ms);
