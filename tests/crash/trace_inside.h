/* What the recorder's two halves share; private to trace*.c. */
#pragma once

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/store/file_layer.h"
#include "trace.h"

#define TRACE_MUST(e)                                                                                                  \
    do {                                                                                                               \
        if (!(e)) {                                                                                                    \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #e);                                                    \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

enum { NO_NODE = UINT32_MAX, PAGE = 4096, SECTOR = 512 };

/* A file or folder, whatever its names. */
struct node {
    uint64_t inode;
    bool folder;
    uint8_t *data; /* at the beginning */
    size_t size;
};

struct entry {
    uint32_t parent, node;
    const char *name;
};
struct entries {
    struct entry *list;
    size_t count, room;
};

enum change_kind {
    CHANGE_NOTHING, /* a sync that is left out */
    CHANGE_BYTES,
    CHANGE_ZEROS,
    CHANGE_SIZE, /* pos: the new one */
    CHANGE_SYNC,
    CHANGE_SYNC_ALL,
    CHANGE_NAME,
    CHANGE_NO_NAME,
    CHANGE_RENAME,
};

struct change {
    enum change_kind kind;
    uint32_t node, parent, parent_to;
    const struct file_site *site;
    const char *name, *name_to;
    int64_t pos;
    size_t size;
    uint8_t *data;
};

struct map {
    uint8_t *base;
    size_t size;
    int64_t pos;
    uint32_t node;
};

struct trace {
    char *root;
    struct file_watch watch;
    pthread_mutex_t mutex;
    struct node *nodes; /* 0: the root */
    size_t node_count, node_room;
    struct entries base, now;
    struct change *changes;
    size_t change_count, change_room;
    struct { size_t from, to; } *delays; /* between them a sync is owed */
    size_t delay_count, delay_room;
    char **texts; /* names */
    size_t text_count, text_room;
    struct map *maps;
    size_t map_count, map_room;
};

struct entry *entries_find(struct entries *entries, uint32_t parent, const char *name);
void entries_put(struct entries *entries, uint32_t parent, const char *name, uint32_t node);
void entries_remove(struct entries *entries, uint32_t parent, const char *name);
