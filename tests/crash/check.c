/* Judges a recovered store (see check.h): its files against what the life before the cut wrote. */
#include "check.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <isa-l/crc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/java_hash.h"
#include "broker/format/properties.h"
#include "broker/store/commit_log.h"
#include "broker/store/consume_queue.h"
#include "broker/store/offsets.h"
#include "broker/store/topics.h"
#include "trace_inside.h"

static bool wrong(char *text, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
static bool wrong(char *text, size_t size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, size, format, arguments);
    va_end(arguments);
    return false;
}

void expected_promise(struct expected *expected, size_t at, int64_t pos)
{
    struct promises *list = &expected->acknowledged;
    if (list->count > 0 && list->list[list->count - 1].pos >= pos)
        return;
    if (list->count == list->room) {
        list->room = list->room ? list->room * 2 : 64;
        list->list = realloc(list->list, list->room * sizeof *list->list);
        TRACE_MUST(list->list);
    }
    list->list[list->count++] = (struct promise){at, pos};
}

static void entry_add(struct expected *expected, const struct record *record)
{
    unsigned topic = 0;
    struct properties found;
    while (topic < STAGE_TOPICS && !bytes_equal_text(record->topic, stage_topic(topic)))
        topic++;
    TRACE_MUST(topic < STAGE_TOPICS && record->queue_id < STAGE_QUEUES);
    properties_scan(record->properties, &found);
    if (expected->entry_count == expected->entry_room) {
        expected->entry_room = expected->entry_room ? expected->entry_room * 2 : 256;
        expected->entries = realloc(expected->entries, expected->entry_room * sizeof *expected->entries);
        TRACE_MUST(expected->entries);
    }
    expected->entries[expected->entry_count++] =
        (struct expected_entry){topic, record->queue_id, record->queue_offset, record->pos, record->size,
                                found.tags.size ? java_hash(found.tags) : 0};
}

static void log_read(const char *root, int64_t from, int64_t to, uint8_t *data)
{
    for (int64_t pos = from; pos < to;) {
        char folder[PATH_MAX], path[PATH_MAX];
        int64_t file = pos - pos % STAGE_LOG_FILE, end = file + STAGE_LOG_FILE < to ? file + STAGE_LOG_FILE : to;
        snprintf(folder, sizeof folder, "%s/commitlog", root);
        commit_log_file_path(folder, file, path, sizeof path);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        TRACE_MUST(fd >= 0 && pread(fd, data + (pos - from), (size_t)(end - pos), pos - file) == end - pos);
        close(fd);
        pos = end;
    }
}

void expected_load(struct expected *expected, const char *root, int64_t log_end)
{
    struct record record;
    expected->log = calloc(1, (size_t)log_end + 1);
    expected->log_end = log_end;
    TRACE_MUST(expected->log);
    log_read(root, 0, log_end, expected->log);
    for (int64_t pos = 0; pos < log_end; pos += record.size) {
        int64_t left = STAGE_LOG_FILE - pos % STAGE_LOG_FILE;
        enum record_kind kind = record_parse(expected->log + pos, (size_t)(log_end - pos), pos, left, true, &record);
        TRACE_MUST(kind == RECORD_MESSAGE || kind == RECORD_BLANK);
        if (kind == RECORD_MESSAGE)
            entry_add(expected, &record);
    }
}

void expected_free(struct expected *expected)
{
    free(expected->log);
    free(expected->entries);
    free(expected->acknowledged.list);
    *expected = (struct expected){0};
}

static bool log_check(const struct expected *expected, struct stage *stage, size_t upto, char *text, size_t size)
{
    struct commit_log *log = stage->store.commit_log;
    int64_t end = commit_log_end(log), files_end = commit_log_files_end(log);
    const struct promises *promises = &expected->acknowledged;
    for (size_t i = 0; i < promises->count && promises->list[i].at <= upto; i++)
        if (promises->list[i].pos > end)
            return wrong(text, size, "the log ends at %" PRId64 ", but was promised up to %" PRId64 " at change %zu", end,
                         promises->list[i].pos, promises->list[i].at);
    if (commit_log_min_pos(log) != 0 || end > expected->log_end)
        return wrong(text, size, "the log goes from %" PRId64 " to %" PRId64 ", but %" PRId64 " was written",
                     commit_log_min_pos(log), end, expected->log_end);
    uint8_t *data = malloc((size_t)files_end + 1);
    TRACE_MUST(data);
    log_read(stage->root, 0, files_end, data);
    bool same = memcmp(data, expected->log, (size_t)end) == 0;
    int64_t behind = end;
    while (behind < files_end && data[behind] == 0)
        behind++;
    for (int64_t i = same ? behind : 0; i < files_end; i++)
        if (data[i] != (i < end ? expected->log[i] : 0)) {
            same = wrong(text, size, "the log ends at %" PRId64 "; its byte %" PRId64 " is %02x, not %02x", end, i, data[i],
                         i < end ? expected->log[i] : 0);
            break;
        }
    free(data);
    return same;
}

/* Every byte of a queue's files: entries up to `count`, zeros behind them. */
static bool queue_files_check(const struct expected *expected, const char *folder, unsigned topic, int32_t queue_id,
                              int64_t log_end, int64_t count, char *text, size_t size)
{
    size_t next = 0;
    for (int64_t file = 0; file < (count + 1) * 20 + 16 * STAGE_QUEUE_FILE; file += STAGE_QUEUE_FILE) {
        char path[PATH_MAX];
        uint8_t data[STAGE_QUEUE_FILE] = {0};
        commit_log_file_path(folder, file, path, sizeof path);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 && file < count * 20)
            return wrong(text, size, "%s is not there, and the queue has %" PRId64 " entries", path, count);
        if (fd < 0)
            continue;
        ssize_t n = pread(fd, data, sizeof data, 0);
        close(fd);
        if (n != STAGE_QUEUE_FILE)
            return wrong(text, size, "%s has %zd bytes", path, n);
        for (int64_t at = 0; at < STAGE_QUEUE_FILE; at += 20) {
            uint8_t want[20] = {0};
            int64_t offset = (file + at) / 20;
            while (offset < count && next < expected->entry_count &&
                   !(expected->entries[next].topic == topic && expected->entries[next].queue_id == queue_id &&
                     expected->entries[next].queue_offset == offset))
                next++;
            if (offset < count) {
                TRACE_MUST(next < expected->entry_count && expected->entries[next].log_pos < log_end);
                be64_store(want, (uint64_t)expected->entries[next].log_pos);
                be32_store(want + 8, expected->entries[next].size);
                be64_store(want + 12, (uint64_t)expected->entries[next].tags_code);
            }
            if (memcmp(want, data + at, 20) != 0)
                return wrong(text, size, "%s: entry %" PRId64 " of %" PRId64 " has position %" PRId64 ", not %" PRId64, path,
                             offset, count, (int64_t)be64_load(data + at), (int64_t)be64_load(want));
        }
    }
    return true;
}

static bool queue_check(const struct expected *expected, struct stage *stage, unsigned topic, int32_t queue_id, char *text,
                        size_t size)
{
    int64_t count = 0, end = commit_log_end(stage->store.commit_log);
    for (size_t i = 0; i < expected->entry_count; i++) {
        const struct expected_entry *entry = &expected->entries[i];
        if (entry->topic != topic || entry->queue_id != queue_id || entry->log_pos >= end)
            continue;
        if (entry->queue_offset != count)
            return wrong(text, size, "%s/%d: the record at %" PRId64 " has offset %" PRId64 ", not %" PRId64,
                         stage_topic(topic), queue_id, entry->log_pos, entry->queue_offset, count);
        count++;
    }
    struct topic *known = topics_find(stage->store.topics, bytes_of(stage_topic(topic)));
    if (count > 0 && (!known || known->slot_count <= (uint32_t)queue_id))
        return wrong(text, size, "%s/%d: has messages and is not known", stage_topic(topic), queue_id);
    if (known && known->slot_count > (uint32_t)queue_id) {
        const struct queue_slot *slot = &stage->store.queue_table->slots[known->slot_base + (uint32_t)queue_id];
        int64_t max = atomic_load(&slot->max_offset), min = atomic_load(&slot->min_offset);
        if (max != count || min != 0)
            return wrong(text, size, "%s/%d: %" PRId64 " to %" PRId64 ", but the log has %" PRId64 " messages",
                         stage_topic(topic), queue_id, min, max, count);
    }
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s/consumequeue/%s/%d", stage->root, stage_topic(topic), queue_id);
    return queue_files_check(expected, folder, topic, queue_id, end, count, text, size);
}

struct offsets_context {
    struct stage *stage;
    char *text;
    size_t size;
    bool good;
};

static int64_t offset_look(const char *topic_at_group, int32_t queue_id, int64_t offset, void *context)
{
    struct offsets_context *c = context;
    char topic[64];
    snprintf(topic, sizeof topic, "%.*s", (int)strcspn(topic_at_group, "@"), topic_at_group);
    struct topic *known = topics_find(c->stage->store.topics, bytes_of(topic));
    int64_t max = 0;
    if (known && (uint32_t)queue_id < known->slot_count)
        max = atomic_load(&c->stage->store.queue_table->slots[known->slot_base + (uint32_t)queue_id].max_offset);
    if (c->good && offset > max)
        c->good = wrong(c->text, c->size, "%s/%d: a group stands at %" PRId64 " behind the end %" PRId64, topic, queue_id,
                        offset, max);
    return offset;
}

bool check_recovered(const struct expected *expected, struct stage *stage, size_t upto, char *ret_text, size_t size)
{
    const struct queue_table *table = stage->store.queue_table;
    int64_t end = commit_log_end(stage->store.commit_log);
    if (atomic_load(&table->log_readable_pos) != end || atomic_load(&table->dispatched_pos) != end ||
        atomic_load(&table->log_flushed_pos) != end)
        return wrong(ret_text, size, "the log ends at %" PRId64 ", the watermarks say otherwise", end);
    if (!log_check(expected, stage, upto, ret_text, size))
        return false;
    for (unsigned topic = 0; topic < STAGE_TOPICS; topic++)
        for (int32_t queue_id = 0; queue_id < STAGE_QUEUES; queue_id++)
            if (!queue_check(expected, stage, topic, queue_id, ret_text, size))
                return false;
    struct offsets_context context = {stage, ret_text, size, true};
    offsets_each(stage->store.offsets, offset_look, &context);
    return context.good;
}

static uint64_t folder_sum(const char *path)
{
    DIR *dir = opendir(path);
    uint64_t sum = 0;
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        char inside[PATH_MAX];
        static uint8_t data[STAGE_LOG_FILE];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(inside, sizeof inside, "%s/%s", path, entry->d_name);
        uint32_t own = crc32_gzip_refl(1, (const uint8_t *)inside, strlen(inside));
        if (entry->d_type == DT_DIR) {
            sum += own + folder_sum(inside);
            continue;
        }
        int fd = open(inside, O_RDONLY | O_CLOEXEC);
        ssize_t n = pread(fd, data, sizeof data, 0);
        TRACE_MUST(fd >= 0 && n >= 0);
        close(fd);
        sum += crc32_gzip_refl(own, data, (uint64_t)n) * 0x9E3779B97F4A7C15u;
    }
    if (dir)
        closedir(dir);
    return sum;
}

uint64_t check_files_sum(const char *root)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/commitlog", root);
    uint64_t sum = folder_sum(path);
    snprintf(path, sizeof path, "%s/consumequeue", root);
    return sum + 3 * folder_sum(path);
}
