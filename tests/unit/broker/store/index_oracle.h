/* What index files have to hold, made a second time and as simply as possible: Apache's steps on plain memory, one key after
 * the other, without batches, maps or deaths. Tests give it every record of a log in order and compare whole files. */
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"

struct oracle_file {
    uint8_t *data;
    uint32_t count;
};

struct oracle {
    uint32_t slots, entries;
    struct oracle_file *files;
    unsigned file_count;
};

static inline size_t oracle_file_size(const struct oracle *o)
{
    return 40 + 4 * (size_t)o->slots + 20 * (size_t)o->entries;
}

static inline uint32_t oracle_get32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static inline void oracle_set32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> (24 - 8 * i));
}

static inline int64_t oracle_get64(const uint8_t *at)
{
    return (int64_t)((uint64_t)oracle_get32(at) << 32 | oracle_get32(at + 4));
}

static inline void oracle_set64(uint8_t *at, int64_t value)
{
    oracle_set32(at, (uint32_t)((uint64_t)value >> 32));
    oracle_set32(at + 4, (uint32_t)value);
}

static inline struct oracle_file *oracle_file(struct oracle *o)
{
    struct oracle_file *last = o->file_count ? &o->files[o->file_count - 1] : NULL;
    if (last && last->count < o->entries)
        return last;
    uint8_t *data = calloc(1, oracle_file_size(o));
    o->files = realloc(o->files, (o->file_count + 1) * sizeof *o->files);
    if (!data || !o->files)
        abort();
    if (last) {
        last = &o->files[o->file_count - 1];
        memcpy(data, last->data + 8, 8);
        memcpy(data + 8, last->data + 8, 8);
        memcpy(data + 16, last->data + 24, 8);
        memcpy(data + 24, last->data + 24, 8);
    }
    o->files[o->file_count] = (struct oracle_file){data, 1};
    return &o->files[o->file_count++];
}

/* ASCII only: the product's handling of other text has tests of its own. */
static inline uint32_t oracle_hash(struct bytes topic, struct bytes key)
{
    uint32_t hash = 0;
    for (size_t i = 0; i < topic.size; i++)
        hash = hash * 31 + topic.data[i];
    hash = hash * 31 + '#';
    for (size_t i = 0; i < key.size; i++)
        hash = hash * 31 + key.data[i];
    return hash == 0x80000000u ? 0 : hash & 0x80000000u ? 0u - hash : hash;
}

static inline void oracle_put(struct oracle *o, struct bytes topic, struct bytes key, int64_t pos, int64_t store_ms)
{
    struct oracle_file *file = oracle_file(o);
    uint32_t hash = oracle_hash(topic, key);
    uint8_t *slot = file->data + 40 + 4 * (size_t)(hash % o->slots);
    uint8_t *entry = file->data + 40 + 4 * (size_t)o->slots + 20 * (size_t)file->count;
    int64_t begin_ms = oracle_get64(file->data), diff = begin_ms > 0 ? (store_ms - begin_ms) / 1000 : 0;
    oracle_set32(entry, hash);
    oracle_set64(entry + 4, pos);
    oracle_set32(entry + 12, diff < 0 ? 0 : diff > INT32_MAX ? INT32_MAX : (uint32_t)diff);
    memcpy(entry + 16, slot, 4);
    if (oracle_get32(slot) == 0)
        oracle_set32(file->data + 32, oracle_get32(file->data + 32) + 1);
    oracle_set32(slot, file->count);
    if (file->count == 1) {
        oracle_set64(file->data, store_ms);
        oracle_set64(file->data + 16, pos);
    }
    oracle_set32(file->data + 36, ++file->count);
    oracle_set64(file->data + 8, store_ms);
    oracle_set64(file->data + 24, pos);
}

static inline struct bytes oracle_property(struct bytes properties, const char *name)
{
    size_t size = strlen(name);
    struct bytes found = {NULL, 0};
    for (size_t i = 0; i < properties.size;) {
        size_t end = i;
        while (end < properties.size && properties.data[end] != 2)
            end++;
        if (end - i > size && memcmp(properties.data + i, name, size) == 0 && properties.data[i + size] == 1)
            found = (struct bytes){properties.data + i + size + 1, end - i - size - 1};
        i = end + 1;
    }
    return found;
}

/* A whole record; not one that was rolled back. */
static inline void oracle_record(struct oracle *o, struct bytes topic, struct bytes properties, int64_t pos, int64_t store_ms)
{
    struct bytes uniq = oracle_property(properties, "UNIQ_KEY"), keys = oracle_property(properties, "KEYS");
    if (uniq.size)
        oracle_put(o, topic, uniq, pos, store_ms);
    for (size_t i = 0; i < keys.size;) {
        size_t end = i;
        while (end < keys.size && keys.data[end] != ' ')
            end++;
        if (end > i)
            oracle_put(o, topic, (struct bytes){keys.data + i, end - i}, pos, store_ms);
        i = end + 1;
    }
}

static inline int oracle_is_name(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* Compares with STORE/index; says what differs. */
static inline bool oracle_agrees(const struct oracle *o, const char *store_root)
{
    char folder[512];
    struct dirent **names = NULL;
    snprintf(folder, sizeof folder, "%s/index", store_root);
    int count = scandir(folder, &names, oracle_is_name, alphasort);
    bool agrees = count == (int)o->file_count || (count < 0 && o->file_count == 0);
    if (!agrees)
        fprintf(stderr, "index: %d files, expected %u\n", count, o->file_count);
    size_t size = oracle_file_size(o);
    uint8_t *data = malloc(size + 1);
    for (int i = 0; i < count && i < (int)o->file_count; i++) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]->d_name);
        int fd = open(path, O_RDONLY);
        ssize_t n = fd < 0 ? -1 : read(fd, data, size + 1);
        if (fd >= 0)
            close(fd);
        if (n != (ssize_t)size) {
            fprintf(stderr, "index file %s: %zd bytes, expected %zu\n", path, n, size);
            agrees = false;
            continue;
        }
        unsigned differing = 0;
        for (size_t at = 0; at < size && differing < 8; at += 4)
            if (memcmp(data + at, o->files[i].data + at, 4) != 0) {
                bool in_entries = at >= 40 + 4 * (size_t)o->slots;
                fprintf(stderr, "index file %s (%d of %d) at %zu (%s %zu): %u, expected %u\n", path, i, count, at,
                        in_entries ? "entry" : at < 40 ? "header" : "slot",
                        in_entries ? (at - 40 - 4 * (size_t)o->slots) / 20 : at < 40 ? at : (at - 40) / 4,
                        oracle_get32(data + at), oracle_get32(o->files[i].data + at));
                differing++;
            }
        agrees = agrees && differing == 0;
    }
    for (int i = 0; i < count; i++)
        free(names[i]);
    free(names);
    free(data);
    return agrees;
}

static inline void oracle_done(struct oracle *o)
{
    for (unsigned i = 0; i < o->file_count; i++)
        free(o->files[i].data);
    free(o->files);
    *o = (struct oracle){0};
}
