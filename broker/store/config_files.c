/* Config files of the store: see config_files.h. The main thread marks what changed; a timer makes the text; the helper
 * thread writes it. Per file at most one text waits: a newer one replaces it. The helper touches nothing but its queue;
 * a write that failed is tried again with the next timer. The files are behind the image by CONFIG_FILES_BATCH_MS
 * (topics, groups) or flushConsumerOffsetInterval (offsets); only a cold start and Apache ever read them. Offsets go to
 * the metadata journal in the same rhythm. */
#include "config_files.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/broker_keys.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/panic.h"
#include "base/thread.h"
#include "config_tables.h"
#include "delay.h"
#include "groups.h"
#include "image.h"
#include "journal.h"
#include "json_file.h"
#include "offsets.h"
#include "run_time_config.h"
#include "shm/board.h"
#include "topics.h"

/* What a file is to hold, and as of when. */
struct image_of_file {
    struct text text;
    struct journal_note note;
};

struct config_files {
    struct store *store;
    char folder[4000];
    bool changed[CONFIG_FILE_COUNT];
    sd_event_source *batch_timer, *offset_timer;
    bool batch_armed;
    _Atomic unsigned failed; /* bits; set by the helper, taken by the main thread */

    pthread_t thread;
    bool thread_runs;
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t wake, idle;
    struct image_of_file waiting[CONFIG_FILE_COUNT];
    bool busy, stop;
};

static const struct {
    const char *name;
    void (*print)(struct store *store, struct text *text);
    int (*load)(struct store *store, json_t *json); /* NULL: not JSON */
} files[CONFIG_FILE_COUNT] = {
    [CONFIG_FILE_TOPICS] = {"topics.json", config_tables_print_topics, config_tables_load_topics},
    [CONFIG_FILE_GROUPS] = {"subscriptionGroup.json", config_tables_print_groups, config_tables_load_groups},
    [CONFIG_FILE_OFFSETS] = {"consumerOffset.json", config_tables_print_offsets, config_tables_load_offsets},
    [CONFIG_FILE_BROKER] = {BROKER_RUN_TIME_FILE, run_time_config_print_file, NULL},
    [CONFIG_FILE_DELAY] = {"delayOffset.json", delay_print, delay_load},
};

int config_files_folder(const struct store *store, char *folder, size_t size)
{
    int n = snprintf(folder, size, "%s/config", store->config.store_root);
    return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

const char *config_files_name(enum config_file file)
{
    return files[file].name;
}

bool config_files_is_json(enum config_file file)
{
    return files[file].load;
}

int config_files_take(struct store *store, enum config_file file, json_t *json)
{
    char folder[sizeof(((struct config_files *)0)->folder)];
    int r = config_files_folder(store, folder, sizeof folder);
    if (r < 0)
        return r;
    return files[file].load ? files[file].load(store, json) : run_time_config_load_file(store, folder);
}

/* Helper thread. */

static int take_waiting(struct config_files *config, struct image_of_file *ret_image)
{
    for (int i = 0; i < CONFIG_FILE_COUNT; i++) {
        if (!config->waiting[i].text.data)
            continue;
        *ret_image = config->waiting[i];
        config->waiting[i].text = (struct text){NULL, 0, 0};
        return i;
    }
    return -1;
}

/* The note is on the disk before the file has its name, or after a power cut our own file would pass for Apache's. */
static int write_one(struct config_files *config, struct image_of_file *image)
{
    struct json_file_stamp stamp = json_file_stamp(image->text.data, image->text.size);
    image->note.size = stamp.size;
    image->note.crc32 = stamp.crc32;
    int r = journal_note(config->store->journal, &image->note);
    return r < 0 ? r : json_file_write(config->folder, files[image->note.file].name, image->text.data, image->text.size);
}

static void *run(void *argument)
{
    struct config_files *config = argument;
    pthread_setname_np(pthread_self(), "config-files");
    pthread_mutex_lock(&config->mutex);
    for (;;) {
        struct image_of_file image;
        int file = take_waiting(config, &image);
        if (file < 0) {
            config->busy = false;
            pthread_cond_broadcast(&config->idle);
            if (config->stop)
                break;
            pthread_cond_wait(&config->wake, &config->mutex);
            continue;
        }
        config->busy = true;
        pthread_mutex_unlock(&config->mutex);
        int r = write_one(config, &image);
        if (r < 0) {
            log_error("cannot write %s/%s: %s; it will be tried again", config->folder, files[file].name, strerror(-r));
            atomic_fetch_or(&config->failed, 1u << file);
        }
        text_free(&image.text);
        pthread_mutex_lock(&config->mutex);
    }
    pthread_mutex_unlock(&config->mutex);
    return NULL;
}

/* Main thread. */

static struct data_version version_of(const struct store *store, enum config_file file)
{
    return file == CONFIG_FILE_TOPICS    ? topics_version(store->topics)
           : file == CONFIG_FILE_GROUPS  ? groups_version(store->groups)
           : file == CONFIG_FILE_OFFSETS ? offsets_version(store->offsets)
           : file == CONFIG_FILE_DELAY   ? delay_version(store->delay)
                                         : (struct data_version){0, 0, 0};
}

static void hand_over(struct config_files *config, enum config_file file)
{
    struct store *store = config->store;
    struct image_of_file image = {.note = {.file = (uint8_t)file,
                                           .version = version_of(store, file),
                                           .covers_pos = journal_end_pos(store->journal)}};
    files[file].print(store, &image.text);
    config->changed[file] = false;
    pthread_mutex_lock(&config->mutex);
    struct text old = config->waiting[file].text;
    config->waiting[file] = image;
    pthread_cond_signal(&config->wake);
    pthread_mutex_unlock(&config->mutex);
    text_free(&old);
}

static void hand_over_changed(struct config_files *config)
{
    for (unsigned i = 0; i < CONFIG_FILE_COUNT; i++)
        if (config->changed[i])
            hand_over(config, i);
}

static void take_failures(struct config_files *config)
{
    unsigned failed = atomic_exchange(&config->failed, 0);
    for (unsigned i = 0; i < CONFIG_FILE_COUNT; i++) {
        if (!(failed & 1u << i))
            continue;
        board_add(config->store->board, COUNTER_DISK_ERRORS, 1);
        config->changed[i] = true;
    }
}

/* Progress, which moves all the time. */
static bool is_slow(enum config_file file)
{
    return file == CONFIG_FILE_OFFSETS || file == CONFIG_FILE_DELAY;
}

static int on_batch(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct config_files *config = userdata;
    config->batch_armed = false;
    for (unsigned i = 0; i < CONFIG_FILE_COUNT; i++)
        if (!is_slow(i) && config->changed[i])
            hand_over(config, i);
    return 0;
}

static int on_offsets(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct config_files *config = userdata;
    take_failures(config);
    if (config->changed[CONFIG_FILE_OFFSETS] || config->changed[CONFIG_FILE_DELAY])
        journal_want_offsets(config->store->journal, image_mark(config->store->image));
    hand_over_changed(config);
    int r = sd_event_source_set_time_relative(source, (uint64_t)config->store->config.flush_offset_interval_ms * 1000);
    return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

void config_files_changed(struct store *store, enum config_file file)
{
    struct config_files *config = store->config_files;
    if (!config)
        return;
    config->changed[file] = true;
    if (is_slow(file) || config->batch_armed)
        return;
    if (sd_event_source_set_time_relative(config->batch_timer, CONFIG_FILES_BATCH_MS * 1000) < 0 ||
        sd_event_source_set_enabled(config->batch_timer, SD_EVENT_ONESHOT) < 0)
        return; /* the offset timer takes it along */
    config->batch_armed = true;
}

static void config_files_free(struct config_files *config)
{
    if (!config)
        return;
    sd_event_source_disable_unref(config->batch_timer);
    sd_event_source_disable_unref(config->offset_timer);
    if (config->thread_runs) {
        pthread_mutex_lock(&config->mutex);
        config->stop = true;
        pthread_cond_signal(&config->wake);
        pthread_mutex_unlock(&config->mutex);
        pthread_join(config->thread, NULL);
    }
    for (unsigned i = 0; i < CONFIG_FILE_COUNT; i++)
        text_free(&config->waiting[i].text);
    pthread_cond_destroy(&config->wake);
    pthread_cond_destroy(&config->idle);
    pthread_mutex_destroy(&config->mutex);
    free(config);
}

static void config_files_free_p(struct config_files **config)
{
    config_files_free(*config);
}

static int add_timer(struct config_files *config, sd_event_source **ret_source, int64_t after_ms,
                     sd_event_time_handler_t handler)
{
    return sd_event_add_time_relative(config->store->event, ret_source, CLOCK_MONOTONIC, (uint64_t)after_ms * 1000,
                                      1000, handler, config);
}

int config_files_start(struct store *store)
{
    PN_CLEANUP(config_files_free_p) struct config_files *config = calloc(1, sizeof *config);
    if (!config)
        return -ENOMEM;
    config->store = store;
    pthread_mutex_init(&config->mutex, NULL);
    pthread_cond_init(&config->wake, NULL);
    pthread_cond_init(&config->idle, NULL);
    int r = config_files_folder(store, config->folder, sizeof config->folder);
    if (r < 0)
        return r;
    r = add_timer(config, &config->batch_timer, CONFIG_FILES_BATCH_MS, on_batch);
    if (r < 0)
        return r;
    config->batch_armed = true;
    r = add_timer(config, &config->offset_timer, store->config.flush_offset_interval_ms, on_offsets);
    if (r < 0)
        return r;
    r = thread_start(&config->thread, run, config);
    if (r < 0)
        return r;
    config->thread_runs = true;
    /* What the image or the log knew and a file did not; also a cold start's system topics. */
    for (unsigned i = 0; i < CONFIG_FILE_COUNT; i++)
        config->changed[i] = i != CONFIG_FILE_BROKER || run_time_config_version(store->run_time_config).counter > 0;
    store->config_files = TAKE_PTR(config);
    return 0;
}

void config_files_stop(struct store *store)
{
    struct config_files *config = store->config_files;
    if (!config)
        return;
    hand_over_changed(config);
    pthread_mutex_lock(&config->mutex);
    config->busy = true;
    pthread_cond_signal(&config->wake);
    while (config->busy)
        pthread_cond_wait(&config->idle, &config->mutex);
    pthread_mutex_unlock(&config->mutex);
    if (atomic_load(&config->failed))
        log_error("the last state of config/ could not be written");
    config_files_free(TAKE_PTR(store->config_files));
}
