/* The recorder's first half: from the file layer's watch to a list of changes (see trace.h). One lock is held over each
 * system call and its note, so that the list has the order in which things happened, whatever the thread. */
#include "trace_inside.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void *grow(void *list, size_t count, size_t *room, size_t item)
{
    if (count < *room)
        return list;
    *room = *room ? *room * 2 : 64;
    void *grown = realloc(list, *room * item);
    TRACE_MUST(grown);
    return grown;
}

static uint32_t node_new(struct trace *trace, uint64_t inode, bool folder)
{
    trace->nodes = grow(trace->nodes, trace->node_count, &trace->node_room, sizeof *trace->nodes);
    trace->nodes[trace->node_count] = (struct node){.inode = inode, .folder = folder};
    return (uint32_t)trace->node_count++;
}

/* The newest of this number: an old one may have been another file's. */
static uint32_t node_of_inode(const struct trace *trace, uint64_t inode)
{
    for (size_t i = trace->node_count; i > 0; i--)
        if (trace->nodes[i - 1].inode == inode)
            return (uint32_t)(i - 1);
    return NO_NODE;
}

static uint32_t node_of_fd(const struct trace *trace, int fd)
{
    struct stat st;
    return fstat(fd, &st) < 0 ? NO_NODE : node_of_inode(trace, st.st_ino);
}

struct entry *entries_find(struct entries *entries, uint32_t parent, const char *name)
{
    for (size_t i = 0; i < entries->count; i++)
        if (entries->list[i].parent == parent && strcmp(entries->list[i].name, name) == 0)
            return &entries->list[i];
    return NULL;
}

void entries_put(struct entries *entries, uint32_t parent, const char *name, uint32_t node)
{
    struct entry *old = entries_find(entries, parent, name);
    if (old) {
        old->node = node;
        return;
    }
    entries->list = grow(entries->list, entries->count, &entries->room, sizeof *entries->list);
    entries->list[entries->count++] = (struct entry){parent, node, name};
}

void entries_remove(struct entries *entries, uint32_t parent, const char *name)
{
    struct entry *entry = entries_find(entries, parent, name);
    if (entry)
        *entry = entries->list[--entries->count];
}

/* The folder that holds the path's last name. False: it lies outside, or in a folder that nobody has seen. */
static bool path_split(struct trace *trace, const char *path, uint32_t *ret_parent, const char **ret_name)
{
    size_t root = strlen(trace->root);
    if (strncmp(path, trace->root, root) != 0 || path[root] != '/')
        return false;
    uint32_t node = 0;
    const char *part = path + root + 1, *slash;
    while ((slash = strchr(part, '/'))) {
        char name[NAME_MAX + 1];
        snprintf(name, sizeof name, "%.*s", (int)(slash - part), part);
        struct entry *entry = entries_find(&trace->now, node, name);
        if (!entry)
            return false;
        node = entry->node;
        part = slash + 1;
    }
    *ret_parent = node;
    *ret_name = part;
    return true;
}

static struct change *change_new(struct trace *trace, enum change_kind kind, const struct file_site *site, uint32_t node)
{
    trace->changes = grow(trace->changes, trace->change_count, &trace->change_room, sizeof *trace->changes);
    struct change *change = &trace->changes[trace->change_count++];
    *change = (struct change){.kind = kind, .site = site, .node = node};
    return change;
}

static const char *keep_text(struct trace *trace, const char *text)
{
    char *copy = strdup(text);
    TRACE_MUST(copy);
    trace->texts = grow(trace->texts, trace->text_count, &trace->text_room, sizeof *trace->texts);
    trace->texts[trace->text_count++] = copy;
    return copy;
}

static void note_name(struct trace *trace, const struct file_site *site, const char *path, uint32_t node)
{
    uint32_t parent;
    const char *name;
    if (!path_split(trace, path, &parent, &name))
        return;
    struct change *change = change_new(trace, CHANGE_NAME, site, node);
    change->parent = parent;
    change->name = keep_text(trace, name);
    entries_put(&trace->now, parent, change->name, node);
}

static void note_open(struct trace *trace, const struct file_event *event, int fd)
{
    uint32_t parent;
    const char *name;
    struct stat st;
    if (!path_split(trace, event->path, &parent, &name) || fstat(fd, &st) < 0)
        return;
    struct entry *entry = entries_find(&trace->now, parent, name);
    if (entry && event->flags & O_TRUNC)
        change_new(trace, CHANGE_SIZE, event->site, entry->node)->pos = 0;
    if (!entry && event->flags & O_CREAT)
        note_name(trace, event->site, event->path, node_new(trace, st.st_ino, false));
}

static void note_mkdir(struct trace *trace, const struct file_event *event)
{
    struct stat st;
    TRACE_MUST(stat(event->path, &st) == 0);
    note_name(trace, event->site, event->path, node_new(trace, st.st_ino, true));
}

static void note_unlink(struct trace *trace, const struct file_site *site, const char *path)
{
    uint32_t parent;
    const char *name;
    if (!path_split(trace, path, &parent, &name))
        return;
    struct change *change = change_new(trace, CHANGE_NO_NAME, site, NO_NODE);
    change->parent = parent;
    change->name = keep_text(trace, name);
    entries_remove(&trace->now, parent, name);
}

static void note_rename(struct trace *trace, const struct file_event *event)
{
    uint32_t from, to;
    const char *from_name, *to_name;
    if (!path_split(trace, event->path, &from, &from_name) || !path_split(trace, event->path_to, &to, &to_name))
        return;
    struct entry *entry = entries_find(&trace->now, from, from_name);
    TRACE_MUST(entry);
    uint32_t node = entry->node;
    struct change *change = change_new(trace, CHANGE_RENAME, event->site, node);
    change->parent = from;
    change->parent_to = to;
    change->name = keep_text(trace, from_name);
    change->name_to = keep_text(trace, to_name);
    entries_remove(&trace->now, from, from_name);
    entries_put(&trace->now, to, change->name_to, node);
}

static void note_link(struct trace *trace, const struct file_event *event)
{
    uint32_t parent;
    const char *name;
    if (!path_split(trace, event->path, &parent, &name))
        return;
    struct entry *entry = entries_find(&trace->now, parent, name);
    TRACE_MUST(entry);
    note_name(trace, event->site, event->path_to, entry->node);
}

static void note_bytes(struct trace *trace, const struct file_site *site, uint32_t node, int64_t pos, const void *data,
                       size_t size)
{
    if (node == NO_NODE || size == 0)
        return;
    struct change *change = change_new(trace, data ? CHANGE_BYTES : CHANGE_ZEROS, site, node);
    change->pos = pos;
    change->size = size;
    if (data) {
        change->data = malloc(size);
        TRACE_MUST(change->data);
        memcpy(change->data, data, size);
    }
}

static struct map *map_find(struct trace *trace, const void *address)
{
    for (size_t i = 0; i < trace->map_count; i++)
        if ((const uint8_t *)address >= trace->maps[i].base &&
            (const uint8_t *)address < trace->maps[i].base + trace->maps[i].size)
            return &trace->maps[i];
    return NULL;
}

static void note_map(struct trace *trace, const struct file_event *event)
{
    struct map *map = event->op == FILE_MAP ? NULL : map_find(trace, event->address);
    switch (event->op) {
    case FILE_MAP:
        trace->maps = grow(trace->maps, trace->map_count, &trace->map_room, sizeof *trace->maps);
        trace->maps[trace->map_count++] = (struct map){*(void **)event->address, event->size, event->pos,
                                                       node_of_fd(trace, event->fd)};
        break;
    case FILE_MAP_STORE:
        if (map)
            note_bytes(trace, event->site, map->node, map->pos + ((uint8_t *)event->address - map->base), event->data,
                       event->size);
        break;
    case FILE_MAP_SYNC: /* a part of a map that is synced counts for no more than its bytes */
        if (map && event->size >= map->size)
            change_new(trace, CHANGE_SYNC, event->site, map->node);
        break;
    default:
        if (map)
            *map = trace->maps[--trace->map_count];
    }
}

static void note(struct trace *trace, const struct file_event *event, int64_t result)
{
    uint32_t node = event->fd >= 0 ? node_of_fd(trace, event->fd) : NO_NODE;
    switch (event->op) {
    case FILE_OPEN:
        note_open(trace, event, (int)result);
        break;
    case FILE_WRITE:
        note_bytes(trace, event->site, node, event->pos, event->data, (size_t)result);
        break;
    case FILE_PUNCH:
        note_bytes(trace, event->site, node, event->pos, NULL, event->size);
        break;
    case FILE_TRUNCATE:
        if (node != NO_NODE)
            change_new(trace, CHANGE_SIZE, event->site, node)->pos = event->pos;
        break;
    case FILE_SYNC:
    case FILE_SYNC_FOLDER:
        if (node != NO_NODE)
            change_new(trace, CHANGE_SYNC, event->site, node);
        break;
    case FILE_SYNC_ALL:
        change_new(trace, CHANGE_SYNC_ALL, event->site, NO_NODE);
        break;
    case FILE_RENAME:
        note_rename(trace, event);
        break;
    case FILE_LINK:
        note_link(trace, event);
        break;
    case FILE_UNLINK:
        note_unlink(trace, event->site, event->path);
        break;
    case FILE_MKDIR:
        note_mkdir(trace, event);
        break;
    case FILE_MAP:
    case FILE_MAP_STORE:
    case FILE_MAP_SYNC:
    case FILE_UNMAP:
        note_map(trace, event);
        break;
    case FILE_READ:
    case FILE_RESERVE:
    case FILE_WRITE_BACK:
    case FILE_OP_COUNT:
        break;
    }
}

static int before(void *context, const struct file_event *event, size_t *most)
{
    struct trace *trace = context;
    pthread_mutex_lock(&trace->mutex);
    return 0;
}

static void after(void *context, const struct file_event *event, int64_t result)
{
    struct trace *trace = context;
    if (result >= 0)
        note(trace, event, result);
    pthread_mutex_unlock(&trace->mutex);
}

static void base_file_load(struct node *node, int folder_fd, const char *name, size_t size)
{
    node->size = size;
    node->data = calloc(1, size + 1);
    int fd = openat(folder_fd, name, O_RDONLY | O_CLOEXEC);
    TRACE_MUST(node->data && fd >= 0 && pread(fd, node->data, size, 0) == (ssize_t)size);
    close(fd);
}

static void base_load(struct trace *trace, uint32_t folder, const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *found;
    TRACE_MUST(dir);
    while ((found = readdir(dir))) {
        struct stat st;
        if (strcmp(found->d_name, ".") == 0 || strcmp(found->d_name, "..") == 0)
            continue;
        TRACE_MUST(fstatat(dirfd(dir), found->d_name, &st, 0) == 0);
        uint32_t node = node_of_inode(trace, st.st_ino); /* a second name? */
        bool is_new = node == NO_NODE;
        if (is_new)
            node = node_new(trace, st.st_ino, S_ISDIR(st.st_mode));
        entries_put(&trace->base, folder, keep_text(trace, found->d_name), node);
        char inside[PATH_MAX];
        snprintf(inside, sizeof inside, "%s/%s", path, found->d_name);
        if (S_ISDIR(st.st_mode))
            base_load(trace, node, inside);
        else if (is_new)
            base_file_load(&trace->nodes[node], dirfd(dir), found->d_name, (size_t)st.st_size);
    }
    closedir(dir);
}

struct trace *trace_begin(const char *root)
{
    struct trace *trace = calloc(1, sizeof *trace);
    struct stat st;
    TRACE_MUST(trace && stat(root, &st) == 0);
    trace->root = strdup(root);
    pthread_mutex_init(&trace->mutex, NULL);
    node_new(trace, st.st_ino, true);
    base_load(trace, 0, root);
    for (size_t i = 0; i < trace->base.count; i++)
        entries_put(&trace->now, trace->base.list[i].parent, trace->base.list[i].name, trace->base.list[i].node);
    trace->watch = (struct file_watch){before, after, trace};
    file_layer_watch(&trace->watch);
    return trace;
}

void trace_end(struct trace *trace)
{
    /* Whoever is inside a call holds the lock, and does not look at the watch again. */
    pthread_mutex_lock(&trace->mutex);
    file_layer_watch(NULL);
    pthread_mutex_unlock(&trace->mutex);
}

void trace_free(struct trace *trace)
{
    for (size_t i = 0; i < trace->change_count; i++)
        free(trace->changes[i].data);
    for (size_t i = 0; i < trace->node_count; i++)
        free(trace->nodes[i].data);
    for (size_t i = 0; i < trace->text_count; i++)
        free(trace->texts[i]);
    free(trace->texts);
    free(trace->changes);
    free(trace->nodes);
    free(trace->base.list);
    free(trace->now.list);
    free(trace->maps);
    free(trace->delays);
    free(trace->root);
    free(trace);
}

size_t trace_count(struct trace *trace)
{
    pthread_mutex_lock(&trace->mutex);
    size_t count = trace->change_count;
    pthread_mutex_unlock(&trace->mutex);
    return count;
}

size_t trace_syncs(const struct trace *trace)
{
    size_t syncs = 0;
    for (size_t i = 0; i < trace->change_count; i++)
        syncs += trace->changes[i].kind == CHANGE_SYNC || trace->changes[i].kind == CHANGE_SYNC_ALL;
    return syncs;
}

static bool is_sync_at(const struct change *change, const char *site)
{
    char name[256];
    if (change->kind != CHANGE_SYNC && change->kind != CHANGE_SYNC_ALL)
        return false;
    file_site_name(change->site, name, sizeof name);
    return strncmp(name, site, strlen(site)) == 0;
}

size_t trace_choose(const struct trace *trace, uint64_t *random)
{
    if (trace->delay_count == 0)
        return mix_below(random, trace->change_count + 1);
    uint64_t n = mix_below(random, trace->delay_count);
    return trace->delays[n].from + mix_below(random, trace->delays[n].to - trace->delays[n].from + 1);
}

size_t trace_leave_out(struct trace *trace, const char *site)
{
    size_t count = 0;
    for (size_t i = 0; i < trace->change_count; i++)
        if (is_sync_at(&trace->changes[i], site)) {
            trace->changes[i].kind = CHANGE_NOTHING;
            count++;
        }
    return count;
}

size_t trace_delay(struct trace *trace, const char *site, const char *behind, unsigned times)
{
    size_t count = 0;
    for (size_t i = trace->change_count; i > 0; i--) {
        if (!is_sync_at(&trace->changes[i - 1], site))
            continue;
        size_t at = i;
        for (unsigned passed = 0; at < trace->change_count; at++) {
            passed += is_sync_at(&trace->changes[at], behind);
            if (passed == times)
                break;
        }
        struct change moved = trace->changes[i - 1];
        if (at == trace->change_count)
            at--;
        memmove(&trace->changes[i - 1], &trace->changes[i], (at - (i - 1)) * sizeof moved);
        trace->changes[at] = moved;
        trace->delays = grow(trace->delays, trace->delay_count, &trace->delay_room, sizeof *trace->delays);
        trace->delays[trace->delay_count].from = i - 1;
        trace->delays[trace->delay_count++].to = at;
        count++;
    }
    return count;
}

void trace_print(const struct trace *trace, size_t from, size_t count)
{
    static const char *const kinds[] = {"-", "bytes", "zeros", "size", "sync", "sync-all", "name", "no-name", "rename"};
    for (size_t i = from; i < from + count && i < trace->change_count; i++) {
        const struct change *change = &trace->changes[i];
        char site[256];
        file_site_name(change->site, site, sizeof site);
        fprintf(stderr, "%6zu %-8s node %-3d at %" PRId64 " + %zu  %s %s  (%s)\n", i, kinds[change->kind],
                (int)change->node, change->pos, change->size, change->name ? change->name : "",
                change->name_to ? change->name_to : "", site);
    }
}
