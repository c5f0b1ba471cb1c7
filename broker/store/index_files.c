/* The row of index files (see index_files.h). What is believed after which death, and why, stands in FORMAT.md. */
#include "index_files.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "file_layer.h"
#include "index_keys.h"
#include "broker/format/layout.h"

int index_files_init(struct index_files *files, struct store *store, enum index_trust trust,
                     const struct checkpoint *checkpoint)
{
    *files = (struct index_files){.store = store, .trust = trust};
    files->shape = (struct index_shape){(uint32_t)store->config.index_slots, (uint32_t)store->config.index_entries};
    files->full_ms = checkpoint->index_ms;
    files->synced = checkpoint->index;
    return asprintf(&files->folder, "%s/index", store->config.store_root) < 0 ? -ENOMEM : 0;
}

static void forget(struct index_files *files)
{
    for (unsigned i = 0; i < files->count; i++)
        index_file_free(files->list[i]);
    files->count = 0;
}

void index_files_done(struct index_files *files)
{
    forget(files);
    free(files->list);
    free(files->folder);
    *files = (struct index_files){0};
}

struct index_file *index_files_newest(const struct index_files *files)
{
    return files->count ? files->list[files->count - 1] : NULL;
}

static struct index_file *before_newest(const struct index_files *files)
{
    return files->count > 1 ? files->list[files->count - 2] : NULL;
}

static int add(struct index_files *files, struct index_file *file)
{
    if (files->count == files->room) {
        unsigned room = files->room ? files->room * 2 : 8;
        struct index_file **grown = realloc(files->list, room * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        files->list = grown;
        files->room = room;
    }
    files->list[files->count++] = file;
    return 0;
}

static void drop_newest_silently(struct index_files *files)
{
    struct index_file *file = files->list[--files->count];
    index_file_unmap(file);
    int r = file_layer_unlink(file->path);
    if (r < 0 && r != -ENOENT)
        log_warning("cannot remove %s: %s", file->path, strerror(-r));
    index_file_free(file);
    files->unsynced = false;
}

/* Keeps the oldest. */
static void drop_behind(struct index_files *files, unsigned keep, const char *why)
{
    if (files->count > keep)
        log_warning("index file %s%s made again: %s", files->list[keep]->path,
                    files->count > keep + 1 ? " and those behind it are" : " is", why);
    while (files->count > keep)
        drop_newest_silently(files);
}

static void drop_newest(struct index_files *files, const char *why)
{
    drop_behind(files, files->count - 1, why);
}

void index_files_drop(struct index_files *files, int64_t name, const char *why)
{
    unsigned keep = 0;
    while (keep < files->count && files->list[keep]->name < name)
        keep++;
    drop_behind(files, keep, why);
}

static int is_name(const struct dirent *entry)
{
    size_t size = strlen(entry->d_name);
    return size == INDEX_NAME_DIGITS && strspn(entry->d_name, "0123456789") == size;
}

/* Files in the folder, oldest first. One that is not what it should be, and all behind it, are removed. */
static int load(struct index_files *files)
{
    struct dirent **names = NULL;
    int count = scandir(files->folder, &names, is_name, alphasort), r = 0;
    if (count < 0)
        return errno == ENOENT ? 0 : -errno;
    bool bad = false;
    for (int i = 0; i < count && r == 0; i++) {
        char path[4096];
        struct index_file *file = NULL;
        snprintf(path, sizeof path, "%s/%s", files->folder, names[i]->d_name);
        r = bad ? -EUCLEAN : index_file_load(path, &files->shape, &file);
        if (r == 0) {
            r = add(files, file);
            if (r < 0)
                index_file_free(file);
        } else if (r == -EUCLEAN || r == -EIO) {
            log_warning("index file %s is made again: %s", path, bad ? "one before it is" : "its size or header is wrong");
            bad = true;
            r = file_layer_unlink(path);
        }
    }
    for (int i = 0; i < count; i++)
        free(names[i]);
    free(names);
    return r;
}

/* Keeps entries below `count` of the newest file that lie before end_pos; 0 also if nothing is left and it is gone. */
static int cut_newest(struct index_files *files, struct index_log *log, uint32_t count, int64_t end_pos)
{
    struct index_file *file = index_files_newest(files);
    struct record record;
    uint32_t number, hash;
    int64_t pos;
    file->count = count;
    int r = index_file_find(file, end_pos, &number);
    if (r == 0 && number <= 1) {
        drop_newest(files, "none of its messages is in the log");
        return 0;
    }
    if (r == 0)
        r = index_file_entry(file, number - 1, &pos, &hash);
    if (r == 0 && index_log_record(log, pos, end_pos, &record) != RECORD_MESSAGE)
        r = -EBADMSG;
    if (r == 0)
        r = index_file_map(file, before_newest(files));
    if (r == 0)
        r = index_file_cut(file, number, record.store_ms);
    if (r == -EBADMSG || r == -EIO) {
        drop_newest(files, "it does not agree with itself or the log");
        return 0;
    }
    files->unsynced = true;
    return r;
}

/* Our own word names the file, for one that was made again may end at the same time. Where the checkpoint's time is not the
 * one that goes with it, an Apache broker wrote it since. */
static bool is_synced_full(const struct index_files *files, const struct index_file *file)
{
    if (!index_file_is_full(file))
        return false;
    return files->synced.full_ms == files->full_ms ? file->name <= files->synced.full_name : file->end_ms <= files->full_ms;
}

bool index_files_is_synced(const struct index_files *files, unsigned number)
{
    return is_synced_full(files, files->list[number]);
}

/* Nobody knows which pages of a power cut's time are on the disk. Full files that the checkpoint speaks of are; of the one
 * behind them as many entries as it says; the rest goes. */
static int believe_synced(struct index_files *files, struct index_log *log, int64_t end_pos)
{
    const struct checkpoint_index *synced = &files->synced;
    unsigned keep = 0;
    while (keep < files->count && is_synced_full(files, files->list[keep]))
        keep++;
    bool part = keep < files->count && files->list[keep]->name == synced->name && synced->count > 1 &&
                synced->count <= files->shape.entries;
    drop_behind(files, keep + part, "the stop was not clean and not all was synced");
    return part ? cut_newest(files, log, (uint32_t)synced->count, end_pos) : 0;
}

/* Nothing of the index points behind the log's end. */
static int agree_with_end(struct index_files *files, struct index_log *log, int64_t end_pos)
{
    int r = 0;
    while (r == 0 && files->count > 0) {
        struct index_file *file = index_files_newest(files), *last = file->count > 1 ? file : before_newest(files);
        int64_t pos;
        uint32_t hash;
        r = last && last->count > 1 ? index_file_entry(last, last->count - 1, &pos, &hash) : 0;
        if (!last || last->count <= 1 || (r == 0 && pos < end_pos))
            break;
        if (r == 0 && last == file)
            r = cut_newest(files, log, file->count, end_pos);
        else if (r == 0)
            drop_newest(files, "the log ends before it");
    }
    return r;
}

struct tail {
    int64_t pos;
    uint32_t *hashes; /* newest first */
    uint32_t count;
};

/* Entries of the last record that is indexed, from the end backwards, also over files. */
static int tail_collect(struct index_files *files, struct tail *tail)
{
    unsigned room = 0;
    for (unsigned i = files->count; i-- > 0;) {
        struct index_file *file = files->list[i];
        for (uint32_t number = file->count; number-- > 1;) {
            int64_t pos;
            uint32_t hash;
            int r = index_file_entry(file, number, &pos, &hash);
            if (r < 0)
                return r;
            if (tail->count > 0 && pos != tail->pos)
                return 0;
            if (tail->count == room) {
                room = room ? room * 2 : 16;
                uint32_t *grown = realloc(tail->hashes, room * sizeof *grown);
                if (!grown)
                    return -ENOMEM;
                tail->hashes = grown;
            }
            tail->pos = pos;
            tail->hashes[tail->count++] = hash;
        }
    }
    return 0;
}

/* The record's first keys are these hashes. */
static bool tail_agrees(const struct tail *tail, const struct record *record)
{
    struct index_topic topic = {.size = 0};
    struct properties found;
    struct index_keys keys;
    uint32_t hash;
    properties_scan(record->properties, &found);
    index_keys_begin(&keys, &topic, record, &found);
    for (uint32_t i = tail->count; i-- > 0;)
        if (!index_keys_next(&keys, &hash) || hash != tail->hashes[i])
            return false;
    return true;
}

static int resume(struct index_files *files, struct index_log *log, int64_t end_pos, int64_t *ret_pos, uint32_t *ret_skip)
{
    struct tail tail = {.count = 0};
    struct record record;
    int64_t min_pos = atomic_load_explicit(&files->store->queue_table->log_min_pos, memory_order_acquire);
    int r = tail_collect(files, &tail);
    *ret_pos = min_pos;
    *ret_skip = 0;
    if (r == 0 && tail.count > 0 && tail.pos >= min_pos) {
        int kind = index_log_record(log, tail.pos, end_pos, &record);
        if (kind == RECORD_MESSAGE && tail_agrees(&tail, &record)) {
            *ret_pos = tail.pos;
            *ret_skip = tail.count;
        } else if (kind < 0) {
            r = kind;
        } else {
            drop_behind(files, 0, "the log has other messages");
        }
    }
    free(tail.hashes);
    return r;
}

int index_files_open(struct index_files *files, struct index_log *log, int64_t end_pos, int64_t *ret_pos, uint32_t *ret_skip)
{
    forget(files);
    int r = load(files);
    if (r == 0 && files->trust == INDEX_TRUST_SYNCED)
        r = believe_synced(files, log, end_pos);
    if (r == 0)
        r = agree_with_end(files, log, end_pos);
    if (r == 0)
        r = resume(files, log, end_pos, ret_pos, ret_skip);
    struct index_file *file = index_files_newest(files);
    if (r == 0 && file && !file->map && !index_file_is_full(file))
        r = index_file_map(file, before_newest(files));
    if (r == -EIO && index_files_newest(files))
        drop_newest(files, "it cannot be read");
    if (r < 0)
        return r;
    files->trust = INDEX_TRUST_ALL; /* a second look is at our own doing */
    files->unsynced = files->unsynced || file != NULL;
    return 0;
}

/* Java's names: local time. Always behind the newest, whatever the clock does. */
static int64_t next_name(const struct index_files *files)
{
    int64_t now_ms = clock_realtime_ms();
    time_t seconds = now_ms / 1000;
    struct tm tm;
    localtime_r(&seconds, &tm);
    int64_t name = tm.tm_year + 1900;
    name = name * 100 + tm.tm_mon + 1;
    name = name * 100 + tm.tm_mday;
    name = name * 100 + tm.tm_hour;
    name = name * 100 + tm.tm_min;
    name = name * 100 + tm.tm_sec;
    name = name * 1000 + now_ms % 1000;
    const struct index_file *newest = index_files_newest(files);
    return newest && newest->name >= name ? newest->name + 1 : name;
}

int index_files_roll(struct index_files *files)
{
    char path[4096];
    struct index_file *file, *newest = index_files_newest(files);
    int r = file_layer_mkdir(files->folder);
    if (r < 0)
        return r;
    snprintf(path, sizeof path, "%s/%0*" PRId64, files->folder, INDEX_NAME_DIGITS, next_name(files));
    r = index_file_create(path, &files->shape, newest, &file);
    if (r < 0)
        return r;
    r = add(files, file);
    if (r < 0) {
        index_file_free(file);
        return r;
    }
    if (newest)
        index_file_unmap(newest);
    return 0;
}

void index_files_expire(struct index_files *files, int64_t log_min_pos)
{
    while (files->count > 1 && files->list[0]->end_pos < log_min_pos) {
        struct index_file *file = files->list[0];
        int r = file_layer_unlink(file->path);
        if (r < 0 && r != -ENOENT) {
            log_warning("cannot remove %s: %s", file->path, strerror(-r));
            return;
        }
        log_info("index file %s goes: its messages are gone", file->path);
        memmove(files->list, files->list + 1, --files->count * sizeof *files->list);
        index_file_free(file);
    }
}
