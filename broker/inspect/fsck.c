/* fsck of one store (see inspect.h): the log's records one by one, with every consume queue's entries beside them; then
 * what the queues have that the log has not; then checkpoint and configuration. What can be made again from the log is
 * made again on request; what cannot is named. The inspecting program, its one thread. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "contract.h"
#include "inspect.h"
#include "json/json_body.h"
#include "log_files.h"
#include "log_walk.h"
#include "queue_files.h"

enum { LOCK_WAIT_MS = 3000, SHOW_MS = 200, REPORTED_MAX = 1000 };

struct fsck {
    const char *root;
    const struct fsck_options *options;
    struct log_files log;
    struct queue_files queues;
    json_t *findings; /* with json */
    uint64_t records, bytes, damaged, repaired, notes;
    uint64_t reported;
    int64_t begun_ms, shown_ms;
    bool bar;
    bool clean_stop;
};

/* Telling. */

enum weight { NOTE, REPAIRED, DAMAGE };

static void bar_clear(const struct fsck *fsck)
{
    if (fsck->bar)
        fputs("\r\033[K", stderr);
}

__attribute__((format(printf, 4, 5))) static void tell(struct fsck *fsck, enum weight weight, const char *kind,
                                                       const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fsck->damaged += weight == DAMAGE;
    fsck->repaired += weight == REPAIRED;
    fsck->notes += weight == NOTE;
    if (++fsck->reported > REPORTED_MAX)
        return;
    if (fsck->options->json) {
        json_array_append_new(fsck->findings, json_pack("{ssssss}", "weight",
                                                        weight == NOTE     ? "note"
                                                        : weight == DAMAGE ? "damage"
                                                                           : "repaired",
                                                        "kind", kind, "text", text));
        return;
    }
    bar_clear(fsck);
    printf("%s: %s%s\n", kind, text, weight == REPAIRED ? " (repaired)" : "");
    if (fsck->reported == REPORTED_MAX)
        printf("(what follows is counted, not shown)\n");
}

static void bar_show(struct fsck *fsck, int64_t pos)
{
    int64_t now_ms = clock_monotonic_ms();
    if (!fsck->bar || now_ms - fsck->shown_ms < SHOW_MS)
        return;
    fsck->shown_ms = now_ms;
    int64_t all = fsck->log.end_pos - fsck->log.first_pos, done = pos - fsck->log.first_pos;
    int64_t took_ms = now_ms - fsck->begun_ms;
    fprintf(stderr, "\r\033[K%3d %%  %" PRId64 " of %" PRId64 " MiB  %" PRId64 " MiB/s  %" PRIu64 " records",
            all > 0 ? (int)(done * 100 / all) : 100, done >> 20, all >> 20,
            took_ms > 0 ? (done >> 10) * 1000 / took_ms >> 10 : 0, fsck->records);
}

/* "topic T queue 3 offset 17 id 7F000001… key K" */
static void describe(const struct log_item *item, char *to, size_t size)
{
    char id[64];
    message_id(item->data, &item->record, id);
    snprintf(to, size,
             "log position %" PRId64 ", %" PRId64 " bytes, topic %.*s, queue %" PRId32 ", offset %" PRId64 ", id %s",
             item->pos, item->size, (int)item->record.topic.size, (const char *)item->record.topic.data,
             item->record.queue_id, item->record.queue_offset, id);
}

/* Queues beside the log. */

static void entry_mend(struct fsck *fsck, struct queue *queue, int64_t offset, const struct queue_entry_bytes *wanted,
                       const char *what)
{
    if (!fsck->options->repair) {
        tell(fsck, DAMAGE, "queue", "%s/%" PRId32 " offset %" PRId64 ": %s", queue->topic, queue->queue_id, offset,
             what);
        return;
    }
    if (fsck->queues.file_size == 0)
        fsck->queues.file_size = 6000000; /* Apache's; a store with another size makes its queues itself */
    int r = queue_entry_write(queue, offset, wanted);
    tell(fsck, r < 0 ? DAMAGE : REPAIRED, "queue", "%s/%" PRId32 " offset %" PRId64 ": %s%s%s", queue->topic,
         queue->queue_id, offset, what, r < 0 ? "; cannot be written: " : "", r < 0 ? strerror(-r) : "");
}

static void record_in_queue(struct fsck *fsck, const struct log_item *item)
{
    const struct record *record = &item->record;
    int transaction = record->sys_flag & SYS_FLAG_TRANSACTION;
    if (!topic_is_plain(record) || (transaction && transaction != SYS_FLAG_COMMIT) || record->queue_id < 0)
        return; /* prepared and rolled back ones stand in no queue */
    struct queue *queue = queue_files_get(&fsck->queues, record->topic, record->queue_id);
    if (!queue)
        return;
    queue->records++;
    queue->bytes += (uint64_t)item->size;
    if (queue->next_offset >= 0 && record->queue_offset > queue->next_offset)
        tell(fsck, NOTE, "queue", "%s/%" PRId32 ": no record of offsets %" PRId64 " to %" PRId64, queue->topic,
             queue->queue_id, queue->next_offset, record->queue_offset - 1);
    if (queue->next_offset < 0 || record->queue_offset < queue->next_offset) {
        queue->first_offset = record->queue_offset;
        queue->missing_count = 0; /* what came before was of a topic of this name that was dropped */
    }
    queue->next_offset = record->queue_offset + 1;

    struct queue_entry_bytes wanted = {
        .log_pos = item->pos, .size = (int32_t)item->size, .tags_code = tags_code_of(record)};
    struct queue_entry_bytes entry = {0};
    bool there = queue_entry_read(queue, record->queue_offset, &entry) && entry.size > 0;
    if (bytes_equal_text(record->topic, "SCHEDULE_TOPIC_XXXX"))
        wanted.tags_code = entry.tags_code; /* the time of delivery, by levels that may have been changed since */
    /* One that points further: the offset may have been given again, to a topic that was dropped and made anew. */
    bool further = there && entry.log_pos > item->pos && entry.size != (int32_t)QUEUE_ENTRY_PREBLANK_SIZE;
    if ((!there || further) && queue_missing_add(queue, record->queue_offset, &wanted) < 0)
        tell(fsck, DAMAGE, "queue", "%s/%" PRId32 ": out of memory for what it lacks", queue->topic, queue->queue_id);
    else if (there && !further && entry.log_pos != wanted.log_pos)
        entry_mend(fsck, queue, record->queue_offset, &wanted, "the entry points at another position");
    else if (there && !further && (entry.size != wanted.size || entry.tags_code != wanted.tags_code))
        entry_mend(fsck, queue, record->queue_offset, &wanted, "the entry has another size or tags code");
}

/* Records without an entry. A topic of which no queue has files was dropped; its records go with the log. */
static void queue_missing_mend(struct fsck *fsck, struct queue *queue)
{
    if (queue->missing_count == 0)
        return;
    if (!queue_topic_on_disk(queue)) {
        tell(fsck, NOTE, "queue", "%s/%" PRId32 ": %zu records, but no queue of this topic has files", queue->topic,
             queue->queue_id, queue->missing_count);
        return;
    }
    for (size_t i = 0; i < queue->missing_count; i++)
        entry_mend(fsck, queue, queue->missing[i].offset, &queue->missing[i].entry, "no entry for this record of the log");
}

/* Entries behind the last record of their queue. */
static void queue_ends(struct fsck *fsck, struct queue *queue, int64_t log_end)
{
    if (!queue->on_disk)
        return;
    int64_t from = queue->next_offset;
    if (from < 0) { /* no record at all: every entry must be of the part of the log that went */
        struct queue_entry_bytes last;
        if (queue->written_offset * QUEUE_ENTRY_SIZE <= queue->first_pos ||
            !queue_entry_read(queue, queue->written_offset - 1, &last) || last.log_pos < fsck->log.first_pos)
            return;
        from = queue->written_offset - 1;
        struct queue_entry_bytes before;
        while (from > queue->first_pos / QUEUE_ENTRY_SIZE && queue_entry_read(queue, from - 1, &before) &&
               before.log_pos >= fsck->log.first_pos && before.size != (int32_t)QUEUE_ENTRY_PREBLANK_SIZE)
            from--;
    }
    for (int64_t offset = from; offset < queue->written_offset; offset++) {
        struct queue_entry_bytes entry, none = {0};
        if (!queue_entry_read(queue, offset, &entry) || entry.size <= 0)
            break;
        entry_mend(fsck, queue, offset, &none,
                   entry.log_pos >= log_end ? "points behind the end of the log" : "points at no record of this queue");
    }
}

/* The log. */

static int log_check(struct fsck *fsck, int64_t *ret_end)
{
    struct log_walk walk;
    struct log_item item = {0};
    char text[768];
    log_walk_begin(&walk, &fsck->log, fsck->log.first_pos, queue_files_log_end(&fsck->queues, fsck->log.end_pos));
    for (;;) {
        int r = log_walk_next(&walk, &item);
        if (r < 0)
            return r;
        switch (item.kind) {
        case LOG_END:
            *ret_end = item.pos;
            return 0;
        case LOG_TAIL:
            tell(fsck, fsck->clean_stop ? DAMAGE : NOTE, "log",
                 "%" PRId64 " bytes from position %" PRId64 " on are no record; a start ends the log there", item.size,
                 item.pos);
            *ret_end = item.pos;
            return 0;
        case LOG_NO_RECORD:
            tell(fsck, DAMAGE, "log", "%" PRId64 " bytes from position %" PRId64 " on are no record", item.size,
                 item.pos);
            break;
        case LOG_BAD_BODY:
            describe(&item, text, sizeof text);
            tell(fsck, DAMAGE, "message", "its body is damaged: %s", text);
            record_in_queue(fsck, &item);
            break;
        case LOG_RECORD:
            record_in_queue(fsck, &item);
            break;
        }
        if (item.kind == LOG_RECORD || item.kind == LOG_BAD_BODY) {
            fsck->records++;
            fsck->bytes += (uint64_t)item.size;
        }
        bar_show(fsck, item.pos);
    }
}

/* The rest. */

static char *file_read(const char *path, size_t *ret_size)
{
    FILE *file = fopen(path, "re");
    char *text = NULL;
    size_t room = 0;
    if (!file)
        return NULL;
    ssize_t n = getdelim(&text, &room, 0, file); /* text files hold no zero byte: the whole */
    *ret_size = n > 0 ? (size_t)n : 0;
    bool more = n > 0 && text[n - 1] == 0;
    fclose(file);
    if (n < 0 || more) { /* empty, or with zeros in it: no JSON */
        free(text);
        return NULL;
    }
    return text;
}

static bool json_good(const char *path)
{
    size_t size = 0;
    PN_FREE char *text = file_read(path, &size);
    const char *error;
    json_t *value = text ? json_body_parse((struct bytes){(const uint8_t *)text, size}, &error) : NULL;
    bool good = value != NULL;
    json_decref(value);
    return good;
}

static void config_check(struct fsck *fsck)
{
    PN_FREE char *folder = NULL;
    if (asprintf(&folder, "%s/config", fsck->root) < 0)
        return;
    DIR *dir = opendir(folder);
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        size_t length = strlen(entry->d_name);
        if (length < 5 || strcmp(entry->d_name + length - 5, ".json") != 0)
            continue;
        char path[4096], spare[4104];
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        snprintf(spare, sizeof spare, "%s.bak", path);
        if (json_good(path))
            continue;
        if (json_good(spare))
            tell(fsck, NOTE, "config", "%s is empty or no JSON; its .bak is read instead", path);
        else
            tell(fsck, DAMAGE, "config", "%s is empty or no JSON, and there is no good .bak", path);
    }
    if (dir)
        closedir(dir);
}

static void on_queue_problem(void *context, const char *text)
{
    tell(context, DAMAGE, "queue", "%s", text);
}

static int parts_check(struct fsck *fsck)
{
    PN_FREE char *queues = NULL, *log = NULL, *problem = NULL;
    if (asprintf(&queues, "%s/consumequeue", fsck->root) < 0)
        return -ENOMEM;
    if (fsck->options->log_folder ? !(log = strdup(fsck->options->log_folder))
                                  : asprintf(&log, "%s/commitlog", fsck->root) < 0)
        return -ENOMEM;
    int64_t log_end = 0;
    int r = log_files_open(log, &fsck->log, &problem);
    if (r == -EUCLEAN) {
        tell(fsck, DAMAGE, "log", "%s", problem);
        return 0;
    }
    if (r == 0)
        r = queue_files_open(queues, &fsck->queues, on_queue_problem, fsck);
    if (r == 0)
        r = log_check(fsck, &log_end);
    for (struct queue *queue = fsck->queues.queues; r == 0 && queue; queue = queue->hh.next) {
        queue_ends(fsck, queue, log_end);
        queue_missing_mend(fsck, queue);
    }
    if (fsck->log.unreadable)
        tell(fsck, DAMAGE, "log", "the disk did not give %" PRIu64 " bytes", fsck->log.unreadable);
    config_check(fsck);
    return r;
}

static void sum_up(struct fsck *fsck)
{
    int64_t took_ms = clock_monotonic_ms() - fsck->begun_ms;
    int64_t rate = took_ms > 0 ? (int64_t)(fsck->bytes >> 10) * 1000 / took_ms >> 10 : 0;
    if (fsck->options->json) {
        json_t *whole = json_object();
        json_object_set_new(whole, "store", json_string(fsck->root));
        json_object_set_new(whole, "records", json_integer((json_int_t)fsck->records));
        json_object_set_new(whole, "bytes", json_integer((json_int_t)fsck->bytes));
        json_object_set_new(whole, "damaged", json_integer((json_int_t)fsck->damaged));
        json_object_set_new(whole, "repaired", json_integer((json_int_t)fsck->repaired));
        json_object_set_new(whole, "notes", json_integer((json_int_t)fsck->notes));
        json_object_set_new(whole, "milliseconds", json_integer(took_ms));
        json_object_set_new(whole, "findings", json_incref(fsck->findings));
        json_dumpf(whole, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(whole);
        return;
    }
    bar_clear(fsck);
    if (!fsck->options->quiet || fsck->damaged || fsck->repaired)
        printf("%s: %" PRIu64 " records, %" PRIu64 " MiB in %" PRId64 " ms (%" PRId64 " MiB/s), %" PRIu64
               " damaged, %" PRIu64 " repaired, %" PRIu64 " notes\n",
               fsck->root, fsck->records, fsck->bytes >> 20, took_ms, rate, fsck->damaged, fsck->repaired, fsck->notes);
}

/* The lock that a broker holds, Pintle's or Apache's: a range of the file `lock`. Nothing is written. */
static int lock_take(const char *root, int *ret_fd)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/lock", root);
    PN_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
    /* A broker that was killed holds it until its last descriptor is closed. */
    for (int64_t until_ms = clock_monotonic_ms() + LOCK_WAIT_MS; fcntl(fd, F_SETLK, &lock) < 0; usleep(20000)) {
        if (errno != EACCES && errno != EAGAIN)
            return -errno;
        if (clock_monotonic_ms() >= until_ms)
            return -EBUSY;
    }
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static bool stopped_cleanly(const char *root)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/abort", root);
    return access(path, F_OK) < 0;
}

int fsck_run(const char *root, const struct fsck_options *options)
{
    struct fsck fsck = {.root = root,
                        .options = options,
                        .begun_ms = clock_monotonic_ms(),
                        .findings = json_array(),
                        .bar = !options->json && !options->quiet && isatty(STDERR_FILENO),
                        .log = {.fd = -1}};
    PN_CLOSE int lock_fd = -1;
    if (access(root, F_OK) < 0) {
        fprintf(stderr, "pintle fsck: %s: %s\n", root, strerror(errno));
        json_decref(fsck.findings);
        return EXIT_CODE_IO;
    }
    int r = lock_take(root, &lock_fd);
    if (r == -EBUSY)
        fprintf(stderr, "pintle fsck: a broker uses %s: stop it first\n", root);
    fsck.clean_stop = stopped_cleanly(root);
    if (r == 0)
        r = parts_check(&fsck);
    if (r == 0)
        sum_up(&fsck);
    else if (r != -EBUSY)
        fprintf(stderr, "pintle fsck: %s: %s\n", root, strerror(-r));
    queue_files_close(&fsck.queues);
    log_files_close(&fsck.log);
    json_decref(fsck.findings);
    return r < 0 ? EXIT_CODE_IO : fsck.damaged ? INSPECT_DAMAGED : fsck.repaired ? INSPECT_REPAIRED : INSPECT_CLEAN;
}
