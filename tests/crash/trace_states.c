/* The recorder's second half: states of the disk after a power cut (see trace.h for what is allowed). */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "trace_inside.h"

enum whole { KEEP_ALL, KEEP_SYNCED, KEEP_SOME };
enum some { SOME_ALL, SOME_NONE, SOME_UNTIL, SOME_PAGES, SOME_SECTORS, SOME_CHANGES, SOME_COUNT };

struct cut {
    const struct trace *trace;
    size_t upto;
    uint64_t seed;
    enum whole whole;
    struct entries entries;
    uint8_t *data; /* of the file being made */
    size_t size, room;
};

static bool is_content(const struct change *change, uint32_t node)
{
    return change->node == node &&
           (change->kind == CHANGE_BYTES || change->kind == CHANGE_ZEROS || change->kind == CHANGE_SIZE);
}

/* One behind the last sync of the node; 0: there was none. */
static size_t synced_until(const struct cut *cut, uint32_t node)
{
    for (size_t i = cut->upto; i > 0; i--) {
        const struct change *change = &cut->trace->changes[i - 1];
        if (change->kind == CHANGE_SYNC_ALL || (change->kind == CHANGE_SYNC && change->node == node))
            return i;
    }
    return 0;
}

static void data_reach(struct cut *cut, size_t size)
{
    if (size <= cut->room)
        return;
    uint8_t *grown = realloc(cut->data, size);
    TRACE_MUST(grown);
    memset(grown + cut->room, 0, size - cut->room);
    cut->data = grown;
    cut->room = size;
}

/* A change to the bytes [from, to) alone, sizes apart. */
static void bytes_apply(struct cut *cut, const struct change *change, size_t from, size_t to)
{
    if (change->kind == CHANGE_SIZE) {
        size_t begin = (size_t)change->pos > from ? (size_t)change->pos : from;
        if (to > cut->room)
            to = cut->room;
        if (begin < to)
            memset(cut->data + begin, 0, to - begin);
        return;
    }
    size_t begin = (size_t)change->pos > from ? (size_t)change->pos : from;
    size_t end = (size_t)change->pos + change->size < to ? (size_t)change->pos + change->size : to;
    if (begin >= end)
        return;
    data_reach(cut, end);
    if (change->kind == CHANGE_BYTES)
        memcpy(cut->data + begin, change->data + (begin - (size_t)change->pos), end - begin);
    else
        memset(cut->data + begin, 0, end - begin);
}

static void size_apply(struct cut *cut, const struct change *change)
{
    if (change->kind == CHANGE_SIZE)
        cut->size = (size_t)change->pos;
    else if (change->kind == CHANGE_BYTES && (size_t)change->pos + change->size > cut->size)
        cut->size = (size_t)change->pos + change->size;
}

static void change_apply(struct cut *cut, const struct change *change)
{
    bytes_apply(cut, change, 0, SIZE_MAX);
    size_apply(cut, change);
}

/* Each unit of the file as it was behind some number of the changes. */
static void units_apply(struct cut *cut, const struct change *change, uint64_t number, uint64_t count, size_t unit,
                        uint64_t seed)
{
    size_t begin = (size_t)change->pos, end = change->kind == CHANGE_SIZE ? cut->room : begin + change->size;
    for (size_t at = begin - begin % unit; at < end; at += unit) {
        uint64_t state = seed ^ (at / unit * 0x9E3779B97F4A7C15u);
        if (number < mix_below(&state, count + 1))
            bytes_apply(cut, change, at, at + unit);
    }
}

static void pending_apply(struct cut *cut, uint32_t node, size_t from, uint64_t count, uint64_t *random)
{
    enum some some = cut->whole == KEEP_ALL ? SOME_ALL : cut->whole == KEEP_SYNCED ? SOME_NONE : mix_below(random, SOME_COUNT);
    uint64_t until = mix_below(random, count + 1), size_until = mix_below(random, count + 1), seed = mix(random), number = 0;
    for (size_t i = from; i < cut->upto; i++) {
        const struct change *change = &cut->trace->changes[i];
        if (!is_content(change, node))
            continue;
        if (some == SOME_ALL || (some == SOME_UNTIL && number < until) || (some == SOME_CHANGES && mix(random) & 1))
            change_apply(cut, change);
        if (some == SOME_PAGES || some == SOME_SECTORS) {
            units_apply(cut, change, number, count, some == SOME_PAGES ? PAGE : SECTOR, seed);
            if (number < size_until)
                size_apply(cut, change);
        }
        number++;
    }
}

static void content_make(struct cut *cut, uint32_t node)
{
    const struct node *base = &cut->trace->nodes[node];
    if (cut->data)
        memset(cut->data, 0, cut->room);
    data_reach(cut, base->size);
    if (base->size)
        memcpy(cut->data, base->data, base->size);
    cut->size = base->size;
    size_t synced = synced_until(cut, node);
    uint64_t count = 0, random = cut->seed ^ (node + 1) * 0xD6E8FEB86659FD93u;
    for (size_t i = 0; i < cut->upto; i++) {
        const struct change *change = &cut->trace->changes[i];
        if (!is_content(change, node))
            continue;
        if (i < synced)
            change_apply(cut, change);
        else
            count++;
    }
    if (count)
        pending_apply(cut, node, synced, count, &random);
}

static void file_make(struct cut *cut, uint32_t node, const char *path)
{
    content_make(cut, node);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    TRACE_MUST(fd >= 0);
    size_t used = cut->size < cut->room ? cut->size : cut->room;
    while (used > 0 && cut->data[used - 1] == 0)
        used--;
    if (used > 0)
        TRACE_MUST(pwrite(fd, cut->data, used, 0) == (ssize_t)used);
    TRACE_MUST(used == cut->size || ftruncate(fd, (off_t)cut->size) == 0);
    close(fd);
}

static bool name_is_kept(const struct cut *cut, const struct change *change, size_t at)
{
    return at < synced_until(cut, change->parent) ||
           (change->kind == CHANGE_RENAME && at < synced_until(cut, change->parent_to));
}

static void name_apply(struct cut *cut, const struct change *change)
{
    struct entry *entry;
    if (change->kind == CHANGE_NAME) {
        entries_put(&cut->entries, change->parent, change->name, change->node);
    } else if (change->kind == CHANGE_NO_NAME) {
        entries_remove(&cut->entries, change->parent, change->name);
    } else if ((entry = entries_find(&cut->entries, change->parent, change->name))) {
        uint32_t node = entry->node;
        entries_remove(&cut->entries, change->parent, change->name);
        entries_put(&cut->entries, change->parent_to, change->name_to, node);
    }
}

/* Names last up to one moment for all folders, or to one of its own for each. */
static void names_make(struct cut *cut)
{
    const struct trace *trace = cut->trace;
    uint64_t random = cut->seed ^ 0xA0761D6478BD642Fu;
    enum whole whole = cut->whole == KEEP_SOME ? mix_below(&random, 4) : cut->whole;
    uint64_t until = mix_below(&random, cut->upto + 1), seed = mix(&random);
    for (size_t i = 0; i < trace->base.count; i++)
        entries_put(&cut->entries, trace->base.list[i].parent, trace->base.list[i].name, trace->base.list[i].node);
    for (size_t i = 0; i < cut->upto; i++) {
        const struct change *change = &trace->changes[i];
        if (change->kind < CHANGE_NAME)
            continue;
        if (!name_is_kept(cut, change, i)) {
            uint64_t own = seed ^ change->parent * 0xD6E8FEB86659FD93u;
            if (whole == KEEP_SYNCED || (whole == KEEP_SOME && i >= until) ||
                (whole > KEEP_SOME && i >= mix_below(&own, cut->upto + 1)))
                continue;
        }
        name_apply(cut, change);
    }
}

static void folder_make(struct cut *cut, uint32_t folder, const char *path)
{
    for (size_t i = 0; i < cut->entries.count; i++) {
        const struct entry *entry = &cut->entries.list[i];
        char inside[PATH_MAX];
        if (entry->parent != folder)
            continue;
        snprintf(inside, sizeof inside, "%s/%s", path, entry->name);
        if (!cut->trace->nodes[entry->node].folder) {
            file_make(cut, entry->node, inside);
            continue;
        }
        TRACE_MUST(mkdir(inside, 0755) == 0);
        folder_make(cut, entry->node, inside);
    }
}

void trace_materialize(const struct trace *trace, size_t upto, uint64_t seed, const char *to)
{
    struct cut cut = {.trace = trace, .upto = upto, .seed = seed, .whole = KEEP_ALL};
    TRACE_MUST(upto <= trace->change_count);
    if (seed) {
        uint64_t random = seed, dice = mix_below(&random, 10);
        cut.whole = dice == 0 ? KEEP_ALL : dice <= 2 ? KEEP_SYNCED : KEEP_SOME;
    }
    names_make(&cut);
    folder_make(&cut, 0, to);
    free(cut.entries.list);
    free(cut.data);
}
