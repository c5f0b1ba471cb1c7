/* log cat, grep and stat (see inspect.h): reads the commit log of any store, also of one that runs: it is only looked
 * at, and what is being written at its end may not be shown. The inspecting program, its one thread. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "contract.h"
#include "inspect.h"
#include "json/json_body.h"
#include "log_files.h"
#include "log_walk.h"
#include "queue_files.h"

enum { BODY_SHOWN = 200 };

struct show {
    const struct show_options *options;
    struct queue_files queues; /* stat: counts alone, nothing of the disk */
    uint64_t records, bytes, damaged, shown;
    int64_t first_ms, last_ms;
};

static struct bytes shown_part(struct bytes body)
{
    return (struct bytes){body.data, body.size < BODY_SHOWN ? body.size : BODY_SHOWN};
}

static void print_bytes(struct bytes bytes)
{
    for (size_t i = 0; i < bytes.size; i++) {
        uint8_t c = bytes.data[i];
        if (c == '\n' || c == '\\')
            printf("\\%c", c == '\n' ? 'n' : '\\');
        else if (c < ' ' || c == 127)
            printf("\\x%02x", c);
        else
            putchar(c);
    }
}

static void print_properties(struct bytes text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] == 1)
            putchar('=');
        else if (text.data[i] == 2)
            fputs("  ", stdout);
        else
            print_bytes((struct bytes){text.data + i, 1});
    }
}

static void print_time(int64_t ms)
{
    char text[32];
    time_t s = (time_t)(ms / 1000);
    struct tm local;
    localtime_r(&s, &local);
    strftime(text, sizeof text, "%F %T", &local);
    printf("%s.%03d", text, (int)(ms % 1000));
}

/* A text that JSON can hold: what is no UTF-8 is shown byte by byte. */
static json_t *json_text(struct bytes bytes)
{
    json_t *text = json_stringn((const char *)bytes.data, bytes.size);
    if (text)
        return text;
    PN_FREE char *wide = malloc(bytes.size * 4 + 1);
    size_t n = 0;
    if (!wide)
        return json_null();
    for (size_t i = 0; i < bytes.size; i++) {
        uint8_t c = bytes.data[i];
        if (c >= ' ' && c < 127)
            wide[n++] = (char)c;
        else
            n += (size_t)snprintf(wide + n, 5, "\\x%02x", c);
    }
    return json_stringn(wide, n);
}

static void print_json(const struct log_item *item, const char *id)
{
    const struct record *record = &item->record;
    json_t *line = json_object();
    json_object_set_new(line, "position", json_integer(item->pos));
    json_object_set_new(line, "size", json_integer(item->size));
    json_object_set_new(line, "id", json_string(id));
    json_object_set_new(line, "topic", json_text(record->topic));
    json_object_set_new(line, "queue", json_integer(record->queue_id));
    json_object_set_new(line, "offset", json_integer(record->queue_offset));
    json_object_set_new(line, "storeTime", json_integer(record->store_ms));
    json_object_set_new(line, "sysFlag", json_integer(record->sys_flag));
    json_object_set_new(line, "properties", json_text(record->properties));
    json_object_set_new(line, "bodySize", json_integer((json_int_t)record->body.size));
    json_object_set_new(line, "body", json_text(shown_part(record->body)));
    json_object_set_new(line, "damaged", json_boolean(item->kind == LOG_BAD_BODY));
    json_dumpf(line, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(line);
}

static void print_record(const struct show *show, const struct log_item *item)
{
    const struct record *record = &item->record;
    char id[64];
    message_id(item->data, record, id);
    if (show->options->json) {
        print_json(item, id);
        return;
    }
    printf("%" PRId64 "  ", item->pos);
    print_time(record->store_ms);
    fputs("  ", stdout);
    print_bytes(record->topic);
    printf("/%" PRId32 "@%" PRId64 "  %s%s\n    ", record->queue_id, record->queue_offset, id,
           item->kind == LOG_BAD_BODY ? "  DAMAGED BODY" : "");
    print_properties(record->properties);
    printf("\n    %zu bytes: ", record->body.size);
    print_bytes(shown_part(record->body));
    puts(record->body.size > BODY_SHOWN ? "…" : "");
}

static bool contains(struct bytes where, const char *what)
{
    return memmem(where.data, where.size, what, strlen(what)) != NULL;
}

static bool wanted(const struct show *show, const struct log_item *item)
{
    const struct show_options *options = show->options;
    const struct record *record = &item->record;
    if (options->topic && !bytes_equal_text(record->topic, options->topic))
        return false;
    if (options->queue_id >= 0 && record->queue_id != options->queue_id)
        return false;
    if (!options->pattern)
        return true;
    char id[64];
    message_id(item->data, record, id);
    return contains(record->properties, options->pattern) || contains(record->body, options->pattern) ||
           strcmp(id, options->pattern) == 0;
}

static void count(struct show *show, const struct log_item *item)
{
    const struct record *record = &item->record;
    struct queue *queue =
        topic_is_plain(record) ? queue_files_get(&show->queues, record->topic, record->queue_id) : NULL;
    show->records++;
    show->bytes += (uint64_t)item->size;
    show->damaged += item->kind == LOG_BAD_BODY;
    if (show->first_ms == 0 || record->store_ms < show->first_ms)
        show->first_ms = record->store_ms;
    if (record->store_ms > show->last_ms)
        show->last_ms = record->store_ms;
    if (!queue)
        return;
    if (queue->records++ == 0)
        queue->first_offset = record->queue_offset;
    queue->bytes += (uint64_t)item->size;
    queue->next_offset = record->queue_offset + 1;
}

static int compare_queues(struct queue *a, struct queue *b)
{
    int order = strcmp(a->topic, b->topic);
    return order ? order : (a->queue_id > b->queue_id) - (a->queue_id < b->queue_id);
}

static void print_stat_json(struct show *show, const struct log_files *log)
{
    json_t *whole = json_object(), *list = json_array();
    json_object_set_new(whole, "firstPosition", json_integer(log->first_pos));
    json_object_set_new(whole, "fileSize", json_integer(log->file_size));
    json_object_set_new(whole, "files",
                        json_integer(log->file_size ? (log->end_pos - log->first_pos) / log->file_size : 0));
    json_object_set_new(whole, "records", json_integer((json_int_t)show->records));
    json_object_set_new(whole, "bytes", json_integer((json_int_t)show->bytes));
    json_object_set_new(whole, "damaged", json_integer((json_int_t)show->damaged));
    json_object_set_new(whole, "firstStoreTime", json_integer(show->first_ms));
    json_object_set_new(whole, "lastStoreTime", json_integer(show->last_ms));
    for (struct queue *queue = show->queues.queues; queue; queue = queue->hh.next) {
        json_t *row = json_object();
        json_object_set_new(row, "topic", json_text(bytes_of(queue->topic)));
        json_object_set_new(row, "queue", json_integer(queue->queue_id));
        json_object_set_new(row, "records", json_integer((json_int_t)queue->records));
        json_object_set_new(row, "bytes", json_integer((json_int_t)queue->bytes));
        json_object_set_new(row, "firstOffset", json_integer(queue->first_offset));
        json_object_set_new(row, "endOffset", json_integer(queue->next_offset));
        json_array_append_new(list, row);
    }
    json_object_set_new(whole, "queues", list);
    json_dumpf(whole, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(whole);
}

static void print_stat(struct show *show, const struct log_files *log)
{
    HASH_SORT(show->queues.queues, compare_queues);
    if (show->options->json) {
        print_stat_json(show, log);
        return;
    }
    printf("%" PRId64 " files of %" PRId64 " bytes from position %" PRId64 "; %" PRIu64 " records, %" PRIu64
           " bytes, %" PRIu64 " with a damaged body\n",
           log->file_size ? (log->end_pos - log->first_pos) / log->file_size : 0, log->file_size, log->first_pos,
           show->records, show->bytes, show->damaged);
    if (show->records) {
        fputs("stored from ", stdout);
        print_time(show->first_ms);
        fputs(" to ", stdout);
        print_time(show->last_ms);
        printf("\n%12s %14s %12s %12s  topic/queue\n", "records", "bytes", "first", "end");
    }
    for (struct queue *queue = show->queues.queues; queue; queue = queue->hh.next)
        printf("%12" PRIu64 " %14" PRIu64 " %12" PRId64 " %12" PRId64 "  %s/%" PRId32 "\n", queue->records,
               queue->bytes, queue->first_offset, queue->next_offset, queue->topic, queue->queue_id);
}

static int walk_all(struct show *show, struct log_files *log)
{
    struct log_walk walk;
    struct log_item item;
    int64_t from = show->options->from_pos;
    bool inside = from > log->first_pos && from < log->end_pos;
    if (from > 0 && !inside && from != log->first_pos && log->end_pos > log->first_pos)
        fprintf(stderr, "pintle log: the log has positions %" PRId64 " to %" PRId64 "\n", log->first_pos, log->end_pos);
    log_walk_begin(&walk, log, inside ? from : log->first_pos, 0);
    for (;;) {
        int r = log_walk_next(&walk, &item);
        if (r < 0)
            return r;
        if (item.kind == LOG_END || item.kind == LOG_TAIL)
            return 0;
        if (item.kind == LOG_NO_RECORD) {
            fprintf(stderr, "pintle log: %" PRId64 " bytes from position %" PRId64 " on are no record\n", item.size,
                    item.pos);
            show->damaged++;
        } else if (wanted(show, &item)) {
            if (show->options->what == SHOW_STAT)
                count(show, &item);
            else
                print_record(show, &item);
            if (show->options->what != SHOW_STAT && ++show->shown == (uint64_t)show->options->count)
                return 0;
        }
    }
}

int show_run(const char *root, const struct show_options *options)
{
    PN_FREE char *folder = NULL, *problem = NULL;
    struct show show = {.options = options};
    struct log_files log = {.fd = -1};
    if (options->log_folder ? !(folder = strdup(options->log_folder)) : asprintf(&folder, "%s/commitlog", root) < 0)
        return EXIT_CODE_IO;
    int r = log_files_open(folder, &log, &problem);
    if (r == 0)
        r = walk_all(&show, &log);
    if (r < 0)
        fprintf(stderr, "pintle log: %s\n", problem ? problem : strerror(-r));
    else if (options->what == SHOW_STAT)
        print_stat(&show, &log);
    int code = r < 0 ? EXIT_CODE_IO : options->what == SHOW_GREP && show.shown == 0 ? 1 : EXIT_CODE_OK;
    queue_files_close(&show.queues);
    log_files_close(&log);
    return code;
}
