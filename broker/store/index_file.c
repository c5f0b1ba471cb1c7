/* Index files (see index_file.h). Index thread of the store.
 *
 * Order of stores for death at any instruction: entry → its slot → … → header's times and positions → used slots and count,
 * two words in one aligned store. What a successor finds in the page cache then is: entries below the count, whole; slots
 * that may point at or behind the count, to entries that were written before them and still say what their slot held. It
 * puts the same entries at the same numbers again, for they come from the same log in the same order; what a slot held is
 * found by following such entries down to below the count. So nothing has to be repaired at a start, nothing is lost or
 * there twice, and the bytes are those of a life without deaths.
 *
 * After a power cut pages are missing at will; see index_file_cut, which makes slots again out of entries that a sync has
 * promised. A page that cannot be read is -EIO (SIGBUS is caught), and the file is made again by the caller. */
#include "index_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/panic.h"
#include "fault/fault.h"
#include "file_layer.h"
#include "broker/format/layout.h"

enum { RESERVE_ENTRIES = 1 << 17, PREFETCH = 16, READ_ENTRIES = 4096 };
_Static_assert(INDEX_SLOTS_USED_AT % 8 == 0 && INDEX_COUNT_AT == INDEX_SLOTS_USED_AT + 4, "one aligned store");

/* SIGBUS: the disk cannot give a page of the map. */
static _Thread_local sigjmp_buf *bus_escape;

static void on_bus_error(int signal_number, siginfo_t *info, void *context)
{
    if (bus_escape)
        siglongjmp(*bus_escape, 1);
    signal(SIGBUS, SIG_DFL); /* not ours: die of it */
}

/* Does `work` with the file; -EIO if a page was not there. */
static int guarded(int (*work)(struct index_file *file, void *context), struct index_file *file, void *context)
{
    sigjmp_buf escape;
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_NODEFER};
    static atomic_bool installed;
    if (!atomic_exchange(&installed, true))
        sigaction(SIGBUS, &action, NULL);
    if (sigsetjmp(escape, 0) != 0) {
        bus_escape = NULL;
        return -EIO;
    }
    bus_escape = &escape;
    atomic_signal_fence(memory_order_seq_cst);
    int r = work(file, context);
    atomic_signal_fence(memory_order_seq_cst);
    bus_escape = NULL;
    return r;
}

static size_t entries_at(const struct index_shape *shape)
{
    return INDEX_HEADER_SIZE + (size_t)INDEX_SLOT_SIZE * shape->slots;
}

static size_t entry_at(const struct index_file *file, uint32_t number)
{
    return entries_at(&file->shape) + (size_t)INDEX_ENTRY_SIZE * number;
}

static size_t slot_at(const struct index_file *file, uint32_t hash)
{
    return INDEX_HEADER_SIZE + (size_t)INDEX_SLOT_SIZE * (hash % file->shape.slots);
}

size_t index_file_size(const struct index_shape *shape)
{
    return entries_at(shape) + (size_t)INDEX_ENTRY_SIZE * shape->entries;
}

static struct index_file *file_new(const char *path, const struct index_shape *shape)
{
    struct index_file *file = calloc(1, sizeof *file);
    if (!file || !(file->path = strdup(path))) {
        free(file);
        return NULL;
    }
    const char *base = strrchr(path, '/');
    file->name = strtoll(base ? base + 1 : path, NULL, 10);
    file->shape = *shape;
    file->count = 1;
    file->fd = -1;
    return file;
}

void index_file_free(struct index_file *file)
{
    if (!file)
        return;
    index_file_unmap(file);
    free(file->path);
    free(file);
}

static int header_read(struct index_file *file)
{
    uint8_t header[INDEX_HEADER_SIZE];
    struct stat status;
    PN_CLOSE int fd = file_layer_open(file->path, O_RDONLY, 0);
    if (fd < 0)
        return fd;
    if (fstat(fd, &status) < 0)
        return -errno;
    if (!S_ISREG(status.st_mode) || (size_t)status.st_size != index_file_size(&file->shape))
        return -EUCLEAN;
    ssize_t n = file_layer_pread(fd, header, sizeof header, 0);
    if (n < 0)
        return (int)n;
    file->begin_ms = (int64_t)be64_load(header + INDEX_BEGIN_MS_AT);
    file->end_ms = (int64_t)be64_load(header + INDEX_END_MS_AT);
    file->begin_pos = (int64_t)be64_load(header + INDEX_BEGIN_POS_AT);
    file->end_pos = (int64_t)be64_load(header + INDEX_END_POS_AT);
    int32_t used = (int32_t)be32_load(header + INDEX_SLOTS_USED_AT), count = (int32_t)be32_load(header + INDEX_COUNT_AT);
    if (used < 0 || used > count || count > (int64_t)file->shape.entries)
        return -EUCLEAN;
    file->slots_used = (uint32_t)used;
    file->count = count < 1 ? 1 : (uint32_t)count;
    return 0;
}

int index_file_load(const char *path, const struct index_shape *shape, struct index_file **ret_file)
{
    struct index_file *file = file_new(path, shape);
    if (!file)
        return -ENOMEM;
    int r = header_read(file);
    if (r < 0) {
        index_file_free(file);
        return r;
    }
    *ret_file = file;
    return 0;
}

int index_file_create(const char *path, const struct index_shape *shape, const struct index_file *before,
                      struct index_file **ret_file)
{
    struct index_file *file = file_new(path, shape);
    if (!file)
        return -ENOMEM;
    file->fd = file_layer_open(path, O_RDWR | O_CREAT | O_EXCL, 0644);
    int r = file->fd < 0 ? file->fd : file_layer_ftruncate(file->fd, (int64_t)index_file_size(shape));
    if (r == 0)
        r = index_file_map(file, before);
    if (r < 0) {
        if (file->fd >= 0)
            file_layer_unlink(path);
        index_file_free(file);
        return r;
    }
    *ret_file = file;
    return 0;
}

/* A store to the header's i64 fields. */
static void header_store(struct index_file *file, size_t at, int64_t value)
{
    uint8_t bytes[8];
    be64_store(bytes, (uint64_t)value);
    file_layer_map_store(file->map + at, bytes, sizeof bytes);
}

static void counts_store(struct index_file *file)
{
    uint8_t bytes[8];
    be32_store(bytes, file->slots_used);
    be32_store(bytes + 4, file->count);
    atomic_thread_fence(memory_order_release); /* whoever reads the count finds what it counts */
    file_layer_map_store(file->map + INDEX_SLOTS_USED_AT, bytes, sizeof bytes);
}

static int begin_as_new(struct index_file *file, void *context)
{
    const struct index_file *before = context;
    file->begin_ms = file->end_ms = before && before->end_ms > 0 ? before->end_ms : 0;
    file->begin_pos = file->end_pos = before && before->end_pos > 0 ? before->end_pos : 0;
    header_store(file, INDEX_BEGIN_MS_AT, file->begin_ms);
    header_store(file, INDEX_END_MS_AT, file->end_ms);
    header_store(file, INDEX_BEGIN_POS_AT, file->begin_pos);
    header_store(file, INDEX_END_POS_AT, file->end_pos);
    return 0;
}

int index_file_map(struct index_file *file, const struct index_file *before)
{
    void *map;
    if (file->fd < 0)
        file->fd = file_layer_open(file->path, O_RDWR, 0);
    if (file->fd < 0)
        return file->fd;
    /* Blocks for header and slots now: a store to a hole of a full disk would be a SIGBUS. */
    int r = file_layer_reserve(file->fd, 0, (int64_t)entries_at(&file->shape));
    if (r == 0)
        r = file_layer_map(file->fd, 0, index_file_size(&file->shape), true, &map);
    if (r < 0)
        return r;
    file->map = map;
    file->reserved = 0;
    madvise(map, index_file_size(&file->shape), MADV_RANDOM); /* no reading ahead of slots */
    return file->count == 1 ? guarded(begin_as_new, file, (void *)before) : 0;
}

void index_file_unmap(struct index_file *file)
{
    if (file->map)
        file_layer_unmap(file->map, index_file_size(&file->shape));
    file->map = NULL;
    pn_close_p(&file->fd);
    file->fd = -1;
}

/* Blocks for entries below `count`. */
static int reserve(struct index_file *file, uint32_t count)
{
    if (count <= file->reserved)
        return 0;
    uint32_t from = file->reserved ? file->reserved : file->count;
    uint64_t to = (uint64_t)count + RESERVE_ENTRIES;
    if (to > file->shape.entries)
        to = file->shape.entries;
    size_t at = entry_at(file, from), end = entry_at(file, (uint32_t)to);
    int r = file_layer_reserve(file->fd, (int64_t)at, (int64_t)(end - at));
    if (r == 0)
        file->reserved = (uint32_t)to;
    return r;
}

/* What the slot held before the next entry: see the top about entries at and behind the count. */
static uint32_t slot_value(const struct index_file *file, size_t at)
{
    uint32_t value = be32_load(file->map + at);
    while (value >= file->count) {
        if (value >= file->shape.entries)
            return 0;
        uint32_t before = be32_load(file->map + entry_at(file, value) + INDEX_ENTRY_BEFORE_AT);
        if (before >= value)
            return 0;
        value = before;
    }
    return value;
}

static uint32_t seconds_since_begin(const struct index_file *file, int64_t store_ms)
{
    if (file->begin_ms <= 0 || store_ms < file->begin_ms)
        return 0;
    int64_t seconds = (store_ms - file->begin_ms) / 1000;
    return seconds > INT_MAX ? INT_MAX : (uint32_t)seconds;
}

static void put_one(struct index_file *file, const struct index_entry *entry)
{
    uint8_t bytes[INDEX_ENTRY_SIZE], slot[INDEX_SLOT_SIZE];
    size_t at = slot_at(file, entry->hash);
    uint32_t before = slot_value(file, at);
    be32_store(bytes + INDEX_ENTRY_HASH_AT, entry->hash);
    be64_store(bytes + INDEX_ENTRY_POS_AT, (uint64_t)entry->pos);
    be32_store(bytes + INDEX_ENTRY_SECONDS_AT, seconds_since_begin(file, entry->store_ms));
    be32_store(bytes + INDEX_ENTRY_BEFORE_AT, before);
    be32_store(slot, file->count);
    file_layer_map_store(file->map + entry_at(file, file->count), bytes, sizeof bytes);
    atomic_thread_fence(memory_order_release);
    file_layer_map_store(file->map + at, slot, sizeof slot);
    if (file->count <= 1) {
        file->begin_ms = entry->store_ms;
        file->begin_pos = entry->pos;
    }
    file->slots_used += before == 0;
    file->count++;
    file->end_ms = entry->store_ms;
    file->end_pos = entry->pos;
}

struct put {
    const struct index_entry *entries;
    unsigned count;
};

static int put_all(struct index_file *file, void *context)
{
    const struct put *put = context;
    bool first = file->count <= 1;
    for (unsigned i = 0; i < put->count && i < PREFETCH; i++)
        __builtin_prefetch(file->map + slot_at(file, put->entries[i].hash), 1);
    for (unsigned i = 0; i < put->count; i++) {
        if (i + PREFETCH < put->count)
            __builtin_prefetch(file->map + slot_at(file, put->entries[i + PREFETCH].hash), 1);
        put_one(file, &put->entries[i]);
    }
    FAULT_POINT(STORE_INDEX_ENTRIES);
    if (first) {
        header_store(file, INDEX_BEGIN_MS_AT, file->begin_ms);
        header_store(file, INDEX_BEGIN_POS_AT, file->begin_pos);
    }
    header_store(file, INDEX_END_MS_AT, file->end_ms);
    header_store(file, INDEX_END_POS_AT, file->end_pos);
    FAULT_POINT(STORE_INDEX_HEADER);
    counts_store(file);
    return (int)put->count;
}

int index_file_put(struct index_file *file, const struct index_entry *entries, unsigned count)
{
    pn_assert(file->map);
    unsigned room = file->shape.entries - file->count;
    if (index_file_is_full(file) || count == 0)
        return 0;
    struct put put = {entries, count < room ? count : room};
    int r = reserve(file, file->count + put.count);
    return r < 0 ? r : guarded(put_all, file, &put);
}

int index_file_entry(struct index_file *file, uint32_t number, int64_t *ret_pos, uint32_t *ret_hash)
{
    uint8_t bytes[INDEX_ENTRY_SIZE];
    PN_CLOSE int opened = -1;
    int fd = file->fd;
    if (fd < 0)
        fd = opened = file_layer_open(file->path, O_RDONLY, 0);
    if (fd < 0)
        return fd;
    ssize_t n = file_layer_pread(fd, bytes, sizeof bytes, (int64_t)entry_at(file, number));
    if (n != sizeof bytes)
        return n < 0 ? (int)n : -EIO;
    *ret_hash = be32_load(bytes + INDEX_ENTRY_HASH_AT);
    *ret_pos = (int64_t)be64_load(bytes + INDEX_ENTRY_POS_AT);
    return 0;
}

int index_file_find(struct index_file *file, int64_t pos, uint32_t *ret_number)
{
    uint32_t low = 1, high = file->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2, hash;
        int64_t found;
        int r = index_file_entry(file, middle, &found, &hash);
        if (r < 0)
            return r;
        if (found < pos)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_number = low;
    return 0;
}

struct cut {
    uint32_t *slots;
    uint32_t used;
    uint32_t count;
    int64_t end_ms, end_pos;
};

/* -EBADMSG: an entry does not say what its slot held before, or goes back in the log. */
static int slots_collect(struct index_file *file, struct cut *cut)
{
    PN_FREE uint8_t *bytes = malloc((size_t)READ_ENTRIES * INDEX_ENTRY_SIZE);
    int64_t last_pos = 0;
    if (!bytes)
        return -ENOMEM;
    for (uint32_t first = 1; first < cut->count; first += READ_ENTRIES) {
        uint32_t n = cut->count - first < READ_ENTRIES ? cut->count - first : READ_ENTRIES;
        ssize_t size = (ssize_t)n * INDEX_ENTRY_SIZE;
        ssize_t got = file_layer_pread(file->fd, bytes, (size_t)size, (int64_t)entry_at(file, first));
        if (got != size)
            return got < 0 ? (int)got : -EIO;
        for (uint32_t i = 0; i < n; i++) {
            const uint8_t *entry = bytes + (size_t)i * INDEX_ENTRY_SIZE;
            uint32_t hash = be32_load(entry + INDEX_ENTRY_HASH_AT), before = be32_load(entry + INDEX_ENTRY_BEFORE_AT);
            int64_t pos = (int64_t)be64_load(entry + INDEX_ENTRY_POS_AT);
            uint32_t *slot = &cut->slots[hash % file->shape.slots];
            if (hash > INT_MAX || before != *slot || pos < last_pos)
                return -EBADMSG;
            cut->used += before == 0;
            *slot = first + i;
            last_pos = pos;
        }
    }
    cut->end_pos = last_pos;
    return 0;
}

/* Only where they differ: most pages stay as they are. */
static int cut_store(struct index_file *file, void *context)
{
    const struct cut *cut = context;
    for (uint32_t i = 0; i < file->shape.slots; i++) {
        uint8_t *at = file->map + INDEX_HEADER_SIZE + (size_t)INDEX_SLOT_SIZE * i, slot[INDEX_SLOT_SIZE];
        if (be32_load(at) == cut->slots[i])
            continue;
        be32_store(slot, cut->slots[i]);
        file_layer_map_store(at, slot, sizeof slot);
    }
    file->count = cut->count;
    file->slots_used = cut->used;
    file->end_ms = cut->end_ms;
    file->end_pos = cut->end_pos;
    header_store(file, INDEX_END_MS_AT, file->end_ms);
    header_store(file, INDEX_END_POS_AT, file->end_pos);
    counts_store(file);
    return 0;
}

int index_file_cut(struct index_file *file, uint32_t count, int64_t end_ms)
{
    pn_assert(file->map && count >= 2 && count <= file->shape.entries);
    PN_FREE uint32_t *slots = calloc(file->shape.slots, sizeof *slots);
    struct cut cut = {.slots = slots, .count = count, .end_ms = end_ms};
    if (!slots)
        return -ENOMEM;
    int r = slots_collect(file, &cut);
    if (r == 0)
        r = guarded(cut_store, file, &cut);
    size_t at = entry_at(file, count), size = index_file_size(&file->shape);
    file->reserved = 0;
    return r < 0 ? r : file_layer_zero(file->fd, (int64_t)at, (int64_t)(size - at));
}
