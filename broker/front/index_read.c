/* Index files from outside (see index_read.h; bytes in broker/store/FORMAT.md). Which files are looked at, in which order, and
 * when a search ends is Apache's (IndexService), for clients see it in what they get.
 *
 * The store writes while this reads. It stores an entry before the slot that names it, and the count behind both. So the count
 * is read first, and only entries below it are looked at; a slot that names a newer one leads to them. Nothing that is read is
 * believed beyond that: a chain only goes down, and a position is checked by whoever reads the record. */
#include "index_read.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/java_hash.h"
#include "read_log.h"

enum {
    HEADER_SIZE = 40,
    SLOT_SIZE = 4,
    ENTRY_SIZE = 20,
    NAME_DIGITS = 17,
    CHAIN_MAX = 4 << 20, /* entries looked at in one file */
};

struct index_map {
    const uint8_t *data;
    size_t size;
    uint32_t slots, entries, count;
    int64_t begin_ms, end_ms, end_pos;
};

static int is_name(const struct dirent *entry)
{
    size_t size = strlen(entry->d_name);
    return size == NAME_DIGITS && strspn(entry->d_name, "0123456789") == size;
}

static bool header_read(struct index_map *map)
{
    uint8_t header[HEADER_SIZE];
    if (!read_log_copy(header + 32, map->data + 32, 8)) /* the counts, before what they count */
        return false;
    atomic_thread_fence(memory_order_acquire);
    if (!read_log_copy(header, map->data, 32))
        return false;
    map->begin_ms = (int64_t)be64_load(header);
    map->end_ms = (int64_t)be64_load(header + 8);
    map->end_pos = (int64_t)be64_load(header + 24);
    map->count = be32_load(header + 36);
    return map->count <= map->entries;
}

static bool map_open(const struct front_config *config, const char *path, struct index_map *ret_map)
{
    struct stat status;
    *ret_map = (struct index_map){.slots = (uint32_t)config->index_slots, .entries = (uint32_t)config->index_entries};
    ret_map->size = HEADER_SIZE + (size_t)SLOT_SIZE * ret_map->slots + (size_t)ENTRY_SIZE * ret_map->entries;
    PN_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &status) < 0 || (size_t)status.st_size != ret_map->size)
        return false;
    void *data = mmap(NULL, ret_map->size, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED)
        return false;
    madvise(data, ret_map->size, MADV_RANDOM);
    ret_map->data = data;
    if (header_read(ret_map))
        return true;
    munmap(data, ret_map->size);
    return false;
}

static bool time_fits(const struct index_map *map, int64_t begin_ms, int64_t end_ms)
{
    return (begin_ms < map->begin_ms && end_ms > map->end_ms) || (begin_ms >= map->begin_ms && begin_ms <= map->end_ms) ||
           (end_ms >= map->begin_ms && end_ms <= map->end_ms);
}

static uint32_t query_hash(const struct index_query *query)
{
    uint32_t hash = java_hash_add(java_hash_add(java_hash_add(0, query->topic), bytes_of("#")), query->key);
    int32_t value = (int32_t)hash;
    return value == INT32_MIN ? 0 : (uint32_t)(value < 0 ? -value : value);
}

static void chain_walk(const struct index_map *map, const struct index_query *query, uint32_t hash, struct index_hits *hits)
{
    uint8_t bytes[ENTRY_SIZE];
    if (!read_log_copy(bytes, map->data + HEADER_SIZE + (size_t)SLOT_SIZE * (hash % map->slots), SLOT_SIZE))
        return;
    uint32_t number = be32_load(bytes);
    for (unsigned steps = 0; number > 0 && number < map->entries && steps < CHAIN_MAX && hits->count < query->most; steps++) {
        const uint8_t *entry = map->data + HEADER_SIZE + (size_t)SLOT_SIZE * map->slots + (size_t)ENTRY_SIZE * number;
        if (!read_log_copy(bytes, entry, ENTRY_SIZE))
            return;
        uint32_t before = be32_load(bytes + 16);
        if (number < map->count) {
            int32_t seconds = (int32_t)be32_load(bytes + 12);
            if (seconds < 0)
                return;
            int64_t time_ms = map->begin_ms + seconds * (int64_t)1000;
            if (be32_load(bytes) == hash && time_ms >= query->begin_ms && time_ms <= query->end_ms)
                hits->pos[hits->count++] = (int64_t)be64_load(bytes + 4);
            if (time_ms < query->begin_ms)
                return;
        }
        if (before >= number)
            return;
        number = before;
    }
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

void index_read_find(const struct front_config *config, const struct index_query *query, struct index_hits *ret_hits)
{
    char folder[PATH_MAX], path[PATH_MAX + NAME_MAX + 2];
    struct dirent **names = NULL;
    uint32_t hash = query_hash(query);
    bool newest = true, go_on = true;
    *ret_hits = (struct index_hits){.count = 0};
    snprintf(folder, sizeof folder, "%s/index", config->store_root);
    int count = scandir(folder, &names, is_name, alphasort);
    for (int i = count - 1; i >= 0 && go_on; i--) {
        struct index_map map;
        snprintf(path, sizeof path, "%s/%s", folder, names[i]->d_name);
        if (!map_open(config, path, &map))
            continue;
        if (newest) {
            ret_hits->last_ms = map.end_ms;
            ret_hits->last_pos = map.end_pos;
            newest = false;
        }
        if (time_fits(&map, query->begin_ms, query->end_ms))
            chain_walk(&map, query, hash, ret_hits);
        go_on = map.begin_ms >= query->begin_ms && ret_hits->count < query->most;
        munmap((void *)map.data, map.size);
    }
    for (int i = 0; i < count; i++)
        free(names[i]);
    free(names);
    qsort(ret_hits->pos, ret_hits->count, sizeof ret_hits->pos[0], compare);
}
