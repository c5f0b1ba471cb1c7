/* Where a cold start's metadata comes from: see cold_load.h. Deciding thread of the store, before it serves.
 *
 * Per table (topics, groups, offsets, run-time configuration) one of two counts:
 * - the file, where somebody else wrote it last. Each file of ours is noted in the journal before it gets its name, so one
 *   that matches no note is not ours; it is newer if its data version is higher than that of the last note, or equal and the
 *   file was changed later (Apache raises the version of offsets with each 500th commit only);
 * - else the journal.
 * A journal that is damaged in the middle is named and kept aside; what it still says goes on top of our last file. */
#include "cold_load.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "config_tables.h"
#include "delay.h"
#include "file_layer.h"
#include "groups.h"
#include "image.h"
#include "json_file.h"
#include "offsets.h"
#include "run_time_config.h"
#include "topics.h"

enum { NOTES_MAX = 16 }; /* per table; the journal keeps fewer when it makes a new file */

struct table {
    int read; /* 0: the file is there and makes sense */
    json_t *json;
    struct json_file_stamp stamp;
    struct data_version version;
    struct journal_note notes[NOTES_MAX]; /* the last ones */
    unsigned note_count;
    bool in_journal; /* it says something of this table */

    bool use_journal, use_file;
    uint64_t from_pos; /* of the journal */
};

struct load {
    struct store *store;
    char folder[3900], journal_path[4000];
    char *journal; /* NULL: there is none that can be read */
    size_t journal_size;
    struct journal_scan scan;
    struct table tables[CONFIG_FILE_COUNT];
};

static int table_of(uint16_t type)
{
    switch (type) {
    case IMAGE_TOPIC_PUT:
    case IMAGE_TOPIC_DROP:
    case IMAGE_TOPICS_VERSION:
        return CONFIG_FILE_TOPICS;
    case IMAGE_GROUP_PUT:
    case IMAGE_GROUP_DROP:
    case IMAGE_GROUPS_VERSION:
        return CONFIG_FILE_GROUPS;
    case IMAGE_OFFSET:
    case IMAGE_OFFSETS_VERSION:
        return CONFIG_FILE_OFFSETS;
    case IMAGE_RUN_TIME_CONFIG:
        return CONFIG_FILE_BROKER;
    case IMAGE_DELAY:
        return CONFIG_FILE_DELAY;
    default:
        return -1;
    }
}

/* The journal: what there is. */

static void keep_aside(const struct load *load, const char *data, size_t size)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/quarantine", load->store->config.store_root);
    int r = file_layer_mkdir(path);
    snprintf(path, sizeof path, "%s/quarantine/" JOURNAL_NAME ".%" PRId64, load->store->config.store_root,
             clock_realtime_ms());
    PN_CLOSE int fd = r < 0 ? r : file_layer_open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    r = fd < 0 ? fd : file_layer_pwrite(fd, data, size, 0);
    if (r == 0)
        r = file_layer_fdatasync(fd);
    if (r < 0)
        log_error("cannot keep %s aside in %s: %s", load->journal_path, path, strerror(-r));
    else
        log_warning("%s, as it was found, is kept in %s", load->journal_path, path);
}

static int collect(void *context, uint64_t pos, uint16_t type, struct bytes payload)
{
    struct load *load = context;
    struct journal_note note;
    int table = table_of(type);
    if (table >= 0)
        load->tables[table].in_journal = true;
    if (type != JOURNAL_NOTE || !journal_file_note(payload, &note) || note.file >= CONFIG_FILE_COUNT)
        return 0;
    struct table *of = &load->tables[note.file];
    if (of->note_count == NOTES_MAX)
        memmove(of->notes, of->notes + 1, --of->note_count * sizeof *of->notes);
    of->notes[of->note_count++] = note;
    return 0;
}

static int read_journal(struct load *load)
{
    struct json_file_stamp stamp;
    char *data = NULL;
    int r = json_file_bytes(load->journal_path, &data, &stamp);
    if (r == -ENOENT)
        return 0;
    if (r < 0) {
        log_error("cannot read %s: %s; the JSON files count", load->journal_path, strerror(-r));
        return r == -ENOMEM ? r : 0;
    }
    size_t size = stamp.size;
    r = journal_file_scan((const uint8_t *)data, size, collect, load, &load->scan);
    if (r < 0) {
        log_error("%s: %s; the JSON files count", load->journal_path,
                  r == -EPROTONOSUPPORT ? "it is of another version" : "there is no valid record in it");
        keep_aside(load, data, size);
        free(data);
        return 0;
    }
    if (load->scan.damages)
        log_error("%s: damaged at %" PRIu64 ": %u stretches of bytes that are no record, with valid ones behind them",
                  load->journal_path, load->scan.damage_pos, load->scan.damages);
    if (load->scan.torn)
        log_warning("%s: its end at %" PRIu64 " is torn: %" PRIu64 " bytes are cut", load->journal_path,
                    load->scan.end_pos, load->scan.torn);
    if (load->scan.damages || load->scan.torn)
        keep_aside(load, data, size);
    load->journal = data;
    load->journal_size = size;
    return 0;
}

/* Files: what there is, and which one counts. */

static void read_file(struct load *load, enum config_file file)
{
    struct table *table = &load->tables[file];
    const char *name = config_files_name(file);
    if (config_files_is_json(file)) {
        table->read = json_file_read(load->folder, name, &table->json, &table->stamp);
        if (table->read == 0)
            table->version = config_tables_version(table->json);
        return;
    }
    PN_FREE char *path = NULL, *data = NULL;
    table->read = asprintf(&path, "%s/%s", load->folder, name) < 0 ? -ENOMEM
                                                                   : json_file_bytes(path, &data, &table->stamp);
}

static bool is_ours(const struct table *table)
{
    for (unsigned i = 0; i < table->note_count; i++)
        if (table->notes[i].size == table->stamp.size && table->notes[i].crc32 == table->stamp.crc32)
            return true;
    return false;
}

static int compare(int64_t a, int64_t b)
{
    return a < b ? -1 : a > b;
}

/* Somebody else wrote it: behind our last word, or before it (a copy that was put back)? */
static bool is_newer(const struct table *table)
{
    if (table->note_count == 0)
        return true;
    const struct journal_note *last = &table->notes[table->note_count - 1];
    int order = compare(table->version.state_version, last->version.state_version);
    if (order == 0)
        order = compare(table->version.counter, last->version.counter);
    if (order == 0)
        order = compare(table->version.timestamp_ms, last->version.timestamp_ms);
    return order > 0 || (order == 0 && table->stamp.changed_ms > last->time_ms);
}

static uint64_t covered_by_file(const struct table *table)
{
    uint64_t pos = 0;
    for (unsigned i = 0; i < table->note_count; i++)
        if (table->notes[i].size == table->stamp.size && table->notes[i].crc32 == table->stamp.crc32)
            pos = table->notes[i].covers_pos;
    return pos;
}

static int choose(struct load *load, enum config_file file)
{
    struct table *table = &load->tables[file];
    const char *name = config_files_name(file);
    bool is_readable = table->read == 0;
    table->use_journal = load->journal && table->in_journal;
    table->use_file = !table->use_journal && table->read != -ENOENT;
    if (!table->use_journal) {
        if (table->use_file && !is_readable)
            log_error("cannot read %s/%s: %s", load->folder, name,
                      table->read == -EBADMSG ? "it is not what RocketMQ writes, and there is no good .bak"
                                              : strerror(-table->read));
        return table->use_file ? table->read : 0;
    }
    if (!is_readable) {
        if (table->read != -ENOENT)
            log_error("cannot read %s/%s: %s; the journal has what it held", load->folder, name,
                      table->read == -EBADMSG ? "it is not what RocketMQ writes" : strerror(-table->read));
        return 0;
    }
    if (is_ours(table)) {
        table->use_file = load->scan.damages > 0;
        table->from_pos = table->use_file ? covered_by_file(table) : 0;
        return 0;
    }
    if (is_newer(table)) {
        log_info("%s/%s was written by another broker since: it counts", load->folder, name);
        table->use_file = true;
        table->use_journal = false;
    } else {
        log_warning("%s/%s is older than the journal's last word on it and is not looked at", load->folder, name);
    }
    return 0;
}

/* Records. */

static bool counts(const struct load *load, enum config_file file, uint64_t pos)
{
    return load->tables[file].use_journal && pos >= load->tables[file].from_pos;
}

static int apply_topic(struct load *load, uint64_t pos, enum image_type type, struct bytes payload)
{
    if (type == IMAGE_TOPIC_DROP && counts(load, CONFIG_FILE_OFFSETS, pos))
        offsets_forget_topic(load->store->offsets, topics_image_name(type, payload));
    return counts(load, CONFIG_FILE_TOPICS, pos) ? topics_apply_journal(load->store, type, payload) : 0;
}

/* A group's record may take offsets along, and those may be somebody else's. */
static int apply_group(struct load *load, uint64_t pos, enum image_type type, struct bytes payload)
{
    bool clean_offsets;
    struct bytes name = groups_image_name(type, payload, &clean_offsets);
    if (type == IMAGE_GROUP_DROP && name.size == 0)
        return -EBADMSG;
    if (clean_offsets && counts(load, CONFIG_FILE_OFFSETS, pos))
        offsets_forget_group(load->store->offsets, name);
    return counts(load, CONFIG_FILE_GROUPS, pos) ? groups_apply_journal(load->store, type, payload) : 0;
}

static int apply(void *context, uint64_t pos, uint16_t type, struct bytes payload)
{
    struct load *load = context;
    int table = table_of(type), r = 0;
    if (table == CONFIG_FILE_TOPICS)
        r = apply_topic(load, pos, type, payload);
    else if (table == CONFIG_FILE_GROUPS)
        r = apply_group(load, pos, type, payload);
    else if (table == CONFIG_FILE_OFFSETS && counts(load, table, pos))
        r = offsets_apply_image(load->store, type, payload);
    else if (table == CONFIG_FILE_BROKER && counts(load, table, pos))
        r = run_time_config_apply_image(load->store, payload);
    else if (table == CONFIG_FILE_DELAY && counts(load, table, pos))
        r = delay_apply_journal(load->store, payload);
    if (r == -EBADMSG) /* its CRC holds: we wrote it so */
        log_error("%s: the record at %" PRIu64 " (type %u) makes no sense and is passed over", load->journal_path, pos,
                  type);
    return r == -EBADMSG ? 0 : r;
}

static int load_tables(struct load *load)
{
    int r = 0;
    for (unsigned i = 0; i < CONFIG_FILE_COUNT && r == 0; i++) {
        if (!load->tables[i].use_file)
            continue;
        r = config_files_take(load->store, i, load->tables[i].json);
        if (r == -EBADMSG && load->tables[i].use_journal)
            r = 0; /* it was to mend the journal only */
        if (r == -ENOENT && !config_files_is_json(i))
            r = 0; /* not one line of it can be used, which was said */
        if (r < 0)
            log_error("cannot read %s/%s: %s", load->folder, config_files_name(i),
                      r == -EBADMSG ? "it is not what RocketMQ writes" : strerror(-r));
    }
    if (r == 0 && load->journal)
        r = journal_file_scan((const uint8_t *)load->journal, load->journal_size, apply, load, &load->scan);
    return r;
}

static unsigned note_files(const struct load *load, struct journal_note *ret_notes)
{
    unsigned count = 0;
    for (unsigned i = 0; i < CONFIG_FILE_COUNT; i++) {
        const struct table *table = &load->tables[i];
        if (table->read == 0)
            ret_notes[count++] = (struct journal_note){.file = (uint8_t)i, .crc32 = table->stamp.crc32,
                                                       .size = table->stamp.size, .version = table->version,
                                                       .time_ms = clock_realtime_ms()};
    }
    return count;
}

static void load_free(struct load *load)
{
    if (!load)
        return;
    for (unsigned i = 0; i < CONFIG_FILE_COUNT; i++)
        json_decref(load->tables[i].json);
    free(load->journal);
    free(load);
}

static void load_free_p(struct load **load)
{
    load_free(*load);
}

int cold_load(struct store *store, struct journal_note *ret_notes, unsigned *ret_count)
{
    PN_CLEANUP(load_free_p) struct load *load = calloc(1, sizeof *load);
    if (!load)
        return -ENOMEM;
    load->store = store;
    int r = config_files_folder(store, load->folder, sizeof load->folder);
    if (r < 0)
        return r;
    snprintf(load->journal_path, sizeof load->journal_path, "%s/" JOURNAL_NAME, load->folder);
    r = read_journal(load);
    for (unsigned i = 0; i < CONFIG_FILE_COUNT && r == 0; i++) {
        read_file(load, i);
        r = choose(load, i);
    }
    if (r == 0)
        r = load_tables(load);
    *ret_count = r == 0 ? note_files(load, ret_notes) : 0;
    return r;
}
