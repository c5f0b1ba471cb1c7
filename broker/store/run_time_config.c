/* Changes of configuration at run time: see run_time_config.h. Three layers: `started` (the granted text, the same for
 * store and fronts and for every successor of either), `changed` (kept for ever), and what is in force now: `started`
 * with the reloadable ones of `changed`. A key that needs a restart so takes effect when the supervisor starts the
 * whole broker anew and reads the file, never when one worker happens to die. Nothing here is fatal. */
#include "run_time_config.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/broker_keys.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/conf.h"
#include "base/log.h"
#include "base/panic.h"
#include "catalogue.h"
#include "codes.h"
#include "config.h"
#include "config_files.h"
#include "registration.h"
#include "topics.h"

enum {
    CHANGED_MAX = 32 * 1024, /* bytes of what may be kept; twice that and the started text fit one record */
    TEXT_MAX = 65000,
};

struct run_time_config {
    struct settings started, changed;
    struct data_version version;
    struct text text;
    char remark[512];
};

/* Where a key acts at once. */
static const struct {
    const char *name;
    enum { FIELD_BOOL, FIELD_INT, FIELD_I64, FIELD_TEXT } type;
    size_t offset;
} fields[] = {
#define FIELD(key, type, member)                                                                                       \
    {                                                                                                                  \
        key, type, offsetof(struct store_config, member)                                                               \
    }
    FIELD("autoCreateTopicEnable", FIELD_BOOL, auto_create_topic),
    FIELD("autoCreateSubscriptionGroup", FIELD_BOOL, auto_create_group),
    FIELD("brokerPermission", FIELD_INT, broker_permission),
    FIELD("maxMessageSize", FIELD_I64, max_message_size),
    FIELD("flushIntervalCommitLog", FIELD_I64, flush_interval_ms),
    FIELD("flushCommitLogLeastPages", FIELD_I64, flush_least_pages),
    FIELD("flushCommitLogThoroughInterval", FIELD_I64, flush_thorough_ms),
    FIELD("flushConsumerOffsetInterval", FIELD_I64, flush_offset_interval_ms),
    FIELD("registerNameServerPeriod", FIELD_I64, register_interval_ms),
    FIELD("deleteWhen", FIELD_TEXT, delete_when),
    FIELD("fileReservedTime", FIELD_I64, file_reserved_hours),
    FIELD("deleteFileBatchMax", FIELD_I64, delete_batch_files),
    FIELD("deleteCommitLogFilesInterval", FIELD_I64, delete_pause_ms),
    FIELD("destroyMapedFileIntervalForcibly", FIELD_I64, reader_patience_ms),
    FIELD("diskMaxUsedSpaceRatio", FIELD_I64, disk_clean_percent),
    FIELD("diskSpaceCleanForciblyRatio", FIELD_I64, disk_force_percent),
    FIELD("diskSpaceWarningLevelRatio", FIELD_I64, disk_warning_percent),
    FIELD("diskFreeLeast", FIELD_I64, disk_free_least),
    FIELD("diskFreeEnough", FIELD_I64, disk_free_enough),
    FIELD("cleanFileForciblyEnable", FIELD_BOOL, clean_forcibly),
#undef FIELD
};

static void take_text(char **field, const char *value)
{
    char *copy = strdup(value);
    if (!copy)
        return; /* the old one stays in force */
    free(*field);
    *field = copy;
}

static void take_field(struct store_config *config, const char *name, const char *value)
{
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        void *field = (char *)config + fields[i].offset;
        if (strcmp(fields[i].name, name) != 0)
            continue;
        if (fields[i].type == FIELD_BOOL)
            *(bool *)field = keys_is_true(value);
        else if (fields[i].type == FIELD_INT)
            *(int *)field = (int)strtol(value, NULL, 10);
        else if (fields[i].type == FIELD_I64)
            *(int64_t *)field = strtoll(value, NULL, 10);
        else
            take_text(field, value);
    }
    config_clamp(config);
}

int run_time_config_new(struct store *store, struct run_time_config **ret_config)
{
    struct run_time_config *config = calloc(1, sizeof *config);
    if (!config)
        return -ENOMEM;
    config->version.timestamp_ms = clock_realtime_ms();
    int r = settings_init(&config->started, broker_keys);
    if (r == 0)
        r = settings_init(&config->changed, broker_keys);
    const struct conf *conf = store->config.granted;
    for (size_t i = 0; conf && i < conf->count && r == 0; i++)
        if (keys_find(broker_keys, conf->entries[i].key)) /* others are between supervisor and workers */
            r = settings_set(&config->started, conf->entries[i].key, conf->entries[i].value, "start");
    /* Exports read from this key of Apache's how many processors the broker has: there it is the key's default. */
    char processors[24];
    snprintf(processors, sizeof processors, "%ld", sysconf(_SC_NPROCESSORS_ONLN));
    if (r == 0 && !settings_given(&config->started, "clientCallbackExecutorThreads"))
        r = settings_set(&config->started, "clientCallbackExecutorThreads", processors, "start");
    if (r < 0) {
        run_time_config_free(config);
        return r;
    }
    *ret_config = config;
    return 0;
}

void run_time_config_free(struct run_time_config *config)
{
    if (!config)
        return;
    settings_done(&config->started);
    settings_done(&config->changed);
    text_free(&config->text);
    free(config);
}

/* A line that does not fit (somebody's file is very long) is left out of what is shown. */
static bool fits(const struct text *text, const char *name, const char *value)
{
    return text->size + strlen(name) + 2 * strlen(value) + 64 <= TEXT_MAX;
}

/* .properties: a backslash is an escape, and a blank at the start of a value is none of it. */
static void print_line(struct text *text, const char *mark, const char *name, const char *value)
{
    text_add(text, "%s%s=", mark, name);
    for (const char *p = value; *p; p++) {
        bool escape = *p == '\\' || (*p == ' ' && p == value) || *p == '\n' || *p == '\r';
        text_add(text, escape ? "\\%c" : "%c", *p == '\n' ? 'n' : *p == '\r' ? 'r' : *p);
    }
    text_add(text, "\n");
}

/* In the form in which Apache shows it. */
static const char *plain(const struct key *key, const char *value)
{
    return key->type != KEY_BOOL ? value : keys_is_true(value) ? "true" : "false";
}

static void print_changed(const struct settings *changed, struct text *text)
{
    for (const struct key *key = broker_keys; key->name; key++)
        if (settings_given(changed, key->name))
            print_line(text, "", key->name, plain(key, settings_get(changed, key->name)));
}

/* A key that nothing looks at is in force as much as it ever will be. */
static bool acts_at_once(const struct key *key)
{
    return key->flags & (KEY_RELOADABLE | KEY_UNUSED);
}

static void make_text(struct run_time_config *config)
{
    text_free(&config->text);
    for (const struct key *key = broker_keys; key->name; key++) {
        const char *started = settings_get(&config->started, key->name), *value = started;
        bool is_changed = settings_given(&config->changed, key->name);
        if (is_changed && acts_at_once(key))
            value = settings_get(&config->changed, key->name);
        if (value && fits(&config->text, key->name, value))
            print_line(&config->text, "", key->name, plain(key, value));
        const char *later = is_changed ? settings_get(&config->changed, key->name) : value;
        if (!acts_at_once(key) && later && fits(&config->text, key->name, later) &&
            (!started || strcmp(plain(key, later), plain(key, started)) != 0))
            print_line(&config->text, "# from the next start: ", key->name, plain(key, later));
    }
}

struct bytes run_time_config_text(const struct run_time_config *config)
{
    struct run_time_config *mine = (struct run_time_config *)config;
    if (!mine->text.data)
        make_text(mine);
    return (struct bytes){(const uint8_t *)mine->text.data, mine->text.size};
}

struct data_version run_time_config_version(const struct run_time_config *config)
{
    return config->version;
}

/* Judging. */

static bool is_listed(const char *list, const char *name)
{
    size_t size = strlen(name);
    for (const char *p = list; p && *p; p += strcspn(p, ";"), p += *p == ';')
        if (strcspn(p, ";") == size && strncmp(p, name, size) == 0)
            return true;
    return false;
}

__attribute__((format(printf, 2, 3))) static void remark(struct run_time_config *config, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(config->remark, sizeof config->remark, format, arguments);
    va_end(arguments);
}

static int32_t judge(struct run_time_config *config, const struct conf_entry *entry)
{
    const struct key *key = keys_find(broker_keys, entry->key);
    char expected[160];
    if (is_listed(settings_get(&config->started, "configBlackList"), entry->key) ||
        (key && key->flags & KEY_FILE_ONLY)) {
        remark(config, "%.100s can only be changed in the broker's file", entry->key);
        return CODE_NO_PERMISSION;
    }
    if (!key) {
        const char *nearest = keys_nearest(broker_keys, entry->key);
        remark(config, "there is no key %.100s%s%s%s", entry->key, nearest ? "; did you mean " : "",
               nearest ? nearest : "", nearest ? "?" : "");
        return CODE_SYSTEM_ERROR;
    }
    if (keys_check(key, entry->value, expected, sizeof expected) < 0) {
        remark(config, "%s is '%.60s', expected %s", key->name, entry->value, expected);
        return CODE_SYSTEM_ERROR;
    }
    return CODE_SUCCESS;
}

static int32_t judge_all(struct run_time_config *config, const struct conf *conf)
{
    size_t size = 0;
    for (size_t i = 0; i < conf->count; i++) {
        int32_t code = judge(config, &conf->entries[i]);
        if (code != CODE_SUCCESS)
            return code;
        size += strlen(conf->entries[i].key) + 2 * strlen(conf->entries[i].value) + 2;
    }
    for (const struct key *key = broker_keys; key->name; key++)
        if (settings_given(&config->changed, key->name))
            size += strlen(key->name) + 2 * strlen(settings_get(&config->changed, key->name)) + 2;
    if (size <= CHANGED_MAX / 2)
        return CODE_SUCCESS;
    remark(config, "more than %d bytes of changed configuration cannot be kept", CHANGED_MAX / 2);
    return CODE_SYSTEM_ERROR;
}

/* Applying. */

static void append_name(char *list, size_t size, const char *name)
{
    size_t used = strlen(list);
    snprintf(list + used, size - used, "%s%s", used ? ", " : "", name);
}

static void take(struct store *store, const char *name, const char *value)
{
    struct run_time_config *config = store->run_time_config;
    const struct key *key = keys_find(broker_keys, name);
    if (settings_set(&config->changed, name, value, "run time") < 0)
        PANIC("out of memory");
    if (key->flags & KEY_RELOADABLE)
        take_field(&store->config, name, value);
}

static void say_what_waits(struct run_time_config *config, const struct conf *conf)
{
    char later[200] = "", unused[200] = "";
    for (size_t i = 0; i < conf->count; i++) {
        const struct key *key = keys_find(broker_keys, conf->entries[i].key);
        if (key->flags & KEY_UNUSED)
            append_name(unused, sizeof unused, key->name);
        else if (!(key->flags & KEY_RELOADABLE))
            append_name(later, sizeof later, key->name);
    }
    remark(config, "%s%s%s%s%s", later, later[0] ? " kept; in force after a restart of the cluster" : "",
           later[0] && unused[0] ? "; " : "", unused, unused[0] ? " kept; not used here" : "");
}

/* What others must know of a change; `before` is how it was. */
static void announce(struct store *store, const struct store_config *before)
{
    struct run_time_config *config = store->run_time_config;
    data_version_next(&config->version);
    text_free(&config->text);
    run_time_config_write_image(config, store->image);
    catalogue_config(store);
    config_files_changed(store, CONFIG_FILE_BROKER);
    if (store->config.auto_create_topic && !before->auto_create_topic)
        (void)topics_make_system(store); /* the template; what failed was said, and sends are refused by name */
    if (before->broker_permission != store->config.broker_permission) {
        topics_next_version(store); /* or name servers take the registration for what they have */
        registration_topics(store);
    }
}

static int apply(struct store *store, const struct conf *conf)
{
    struct store_config before = store->config; /* only its numbers are looked at: a text may be freed */
    int r = image_make_room(store->image, 2, CHANGED_MAX + 256);
    if (r < 0)
        return r;
    for (size_t i = 0; i < conf->count; i++)
        take(store, conf->entries[i].key, conf->entries[i].value);
    announce(store, &before);
    return 0;
}

/* True if it is another one now. */
static bool take_started(struct store *store, const struct key *key, const char *value)
{
    struct run_time_config *config = store->run_time_config;
    const char *now = settings_get(&config->started, key->name);
    if (now && strcmp(plain(key, now), plain(key, value)) == 0)
        return false;
    if (settings_set(&config->started, key->name, value, "reload") < 0)
        PANIC("out of memory");
    if (key->flags & KEY_RELOADABLE && !settings_given(&config->changed, key->name)) {
        take_field(&store->config, key->name, value);
        log_info("configuration: %s=%s", key->name, value);
    }
    return true;
}

void run_time_config_reload(struct store *store, struct conf *granted)
{
    struct store_config before = store->config;
    bool changed = false;
    if (image_make_room(store->image, 2, CHANGED_MAX + 256) < 0) {
        log_error("the new configuration is not taken: the metadata image is full");
        return;
    }
    for (size_t i = 0; i < granted->count; i++) {
        const struct key *key = keys_find(broker_keys, granted->entries[i].key);
        if (key && acts_at_once(key))
            changed |= take_started(store, key, granted->entries[i].value);
    }
    if (changed)
        announce(store, &before);
}

int32_t run_time_config_put(struct store *store, struct bytes text, const char **ret_remark)
{
    struct run_time_config *config = store->run_time_config;
    struct conf *conf = NULL;
    PN_FREE char *error = NULL;
    *ret_remark = config->remark;
    if (conf_read_text("request", (const char *)text.data, text.size, CONF_PROPERTIES, &conf, &error) < 0) {
        remark(config, "the body is no properties text: %s", error ? error : "");
        return CODE_SYSTEM_ERROR;
    }
    int32_t code = judge_all(config, conf);
    if (code == CODE_SUCCESS) {
        if (conf->count && apply(store, conf) < 0) {
            remark(config, "the metadata image is full");
            code = CODE_SYSTEM_ERROR;
        } else {
            say_what_waits(config, conf);
        }
    }
    for (size_t i = 0; code == CODE_SUCCESS && i < conf->count; i++)
        log_info("configuration: %s=%s", conf->entries[i].key, conf->entries[i].value);
    conf_free(conf);
    return code;
}

/* Homes. */

void run_time_config_write_image(struct run_time_config *config, struct image *image)
{
    struct text text = {NULL, 0, 0};
    print_changed(&config->changed, &text);
    struct cursor c = image_begin(image, IMAGE_RUN_TIME_CONFIG);
    data_version_put(&c, &config->version);
    cursor_put_string(&c, (struct bytes){(const uint8_t *)text.data, text.size});
    image_end(image, &c);
    text_free(&text);
}

static void load_all(struct store *store, const struct conf *conf, const char *where)
{
    for (size_t i = 0; i < conf->count; i++) {
        if (judge(store->run_time_config, &conf->entries[i]) == CODE_SUCCESS)
            take(store, conf->entries[i].key, conf->entries[i].value);
        else
            log_warning("%s: %s; left out", where, store->run_time_config->remark);
    }
    store->run_time_config->remark[0] = 0;
    text_free(&store->run_time_config->text);
}

int run_time_config_apply_image(struct store *store, struct bytes payload)
{
    struct cursor c = cursor_over(payload.data, payload.size);
    struct conf *conf;
    store->run_time_config->version = data_version_get(&c);
    struct bytes text = cursor_get_string(&c);
    if (c.bad || conf_read_text("image", (const char *)text.data, text.size, CONF_PROPERTIES, &conf, NULL) < 0)
        return -EBADMSG;
    load_all(store, conf, "image");
    conf_free(conf);
    return 0;
}

void run_time_config_print_file(struct store *store, struct text *text)
{
    text_add(text,
             "# Changed at run time (UPDATE_BROKER_CONFIG); wins over the broker's file. Written by the store.\n");
    print_changed(&store->run_time_config->changed, text);
}

int run_time_config_load_file(struct store *store, const char *folder)
{
    PN_FREE char *path = NULL, *error = NULL;
    struct conf *conf;
    if (asprintf(&path, "%s/" BROKER_RUN_TIME_FILE, folder) < 0)
        return -ENOMEM;
    int r = conf_read_file(path, CONF_PROPERTIES, &conf, &error);
    if (r == -EINVAL) /* the supervisor said so, too, and started the broker without it */
        log_warning("%s", error ? error : path);
    if (r < 0)
        return r == -EINVAL || r == -ENOTDIR ? -ENOENT : r;
    load_all(store, conf, path);
    conf_free(conf);
    return 0;
}
