/* Configuration of the store (see config.h). Defaults are Apache's. A bad value is an error of the start: the supervisor
 * should have refused it with file and line. */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/conf.h"
#include "broker/format/layout.h"

enum { CONFIG_MAX = 1 << 20, LEAST_LOG_FILE = 64 * 1024 };

static char *text_get(struct conf *conf, const char *key, const char *fallback)
{
    const char *value = conf_get(conf, "", key);
    return strdup(value && *value ? value : fallback);
}

static int64_t clamp(int64_t value, int64_t least, int64_t most)
{
    return value < least ? least : value > most ? most : value;
}

void config_clamp(struct store_config *config)
{
    config->disk_clean_percent = clamp(config->disk_clean_percent, 10, 95);
    config->disk_force_percent = clamp(config->disk_force_percent, 30, 85);
    config->disk_warning_percent = clamp(config->disk_warning_percent, 35, 90);
    config->register_interval_ms = clamp(config->register_interval_ms, 10000, 60000);
}

static int numbers_get(struct conf *conf, struct store_config *config, const char **ret_key)
{
    int64_t listen_port, ha_port, queues, permission;
    const struct {
        const char *key;
        int64_t fallback, least, most;
        int64_t *to;
    } rows[] = {
        {"brokerId", 0, 0, INT64_MAX, &config->broker_id},
        {"listenPort", 10911, 1, 65535, &listen_port},
        {"haListenPort", 0, 0, 65535, &ha_port},
        {"mappedFileSizeCommitLog", 1073741824, LEAST_LOG_FILE, INT32_MAX, &config->commit_log_file_size},
        {"mappedFileSizeConsumeQueue", 6000000, QUEUE_ENTRY_SIZE, INT32_MAX - QUEUE_ENTRY_SIZE,
         &config->consume_queue_file_size},
        {"defaultTopicQueueNums", 8, 1, QUEUE_TABLE_SLOTS, &queues},
        {"maxMessageSize", 4194304, 1, 4194304, &config->max_message_size},
        {"brokerPermission", 6, 0, 7, &permission},
        {"maxHashSlotNum", 5000000, 1, 1 << 28, &config->index_slots},
        {"maxIndexNum", 20000000, 2, 100000000, &config->index_entries},
        {"flushConsumerOffsetInterval", 5000, 10, INT32_MAX, &config->flush_offset_interval_ms},
        {"registerNameServerPeriod", 30000, 0, INT32_MAX, &config->register_interval_ms},
        {"flushIntervalCommitLog", 500, 1, INT32_MAX, &config->flush_interval_ms},
        {"flushCommitLogLeastPages", 4, 0, 1 << 20, &config->flush_least_pages},
        {"flushCommitLogThoroughInterval", 10000, 0, INT32_MAX, &config->flush_thorough_ms},
        {"syncFlushTimeout", 5000, 1, INT32_MAX, &config->sync_flush_timeout_ms},
        {"fileReservedTime", 72, 0, INT32_MAX, &config->file_reserved_hours},
        {"cleanResourceInterval", 10000, 10, INT32_MAX, &config->clean_interval_ms},
        {"deleteFileBatchMax", 10, 1, 10000, &config->delete_batch_files},
        {"deleteCommitLogFilesInterval", 100, 0, 60000, &config->delete_pause_ms},
        {"destroyMapedFileIntervalForcibly", 120000, 0, INT32_MAX, &config->reader_patience_ms},
        {"diskMaxUsedSpaceRatio", 75, 1, 100, &config->disk_clean_percent},
        {"diskSpaceCleanForciblyRatio", 85, 1, 100, &config->disk_force_percent},
        {"diskSpaceWarningLevelRatio", 90, 1, 100, &config->disk_warning_percent},
        {"diskFreeLeast", 16777216, 0, INT64_MAX, &config->disk_free_least},
        {"diskFreeEnough", 0, 0, INT64_MAX, &config->disk_free_enough},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int r = conf_get_i64(conf, "", rows[i].key, rows[i].fallback, rows[i].to);
        if (r < 0 || *rows[i].to < rows[i].least || *rows[i].to > rows[i].most) {
            *ret_key = rows[i].key;
            return -EINVAL;
        }
    }
    config->listen_port = (int)listen_port;
    config->ha_listen_port = ha_port > 0 ? (int)ha_port : config->listen_port + 1;
    config->default_topic_queues = (int)queues;
    config->broker_permission = (int)permission;
    config_clamp(config);
    int64_t rest = config->consume_queue_file_size % QUEUE_ENTRY_SIZE; /* rounded up, as Apache does */
    config->consume_queue_file_size += rest ? QUEUE_ENTRY_SIZE - rest : 0;
    return 0;
}

static int flags_get(struct conf *conf, struct store_config *config, const char **ret_key)
{
    const char *flush = conf_get(conf, "", "flushDiskType");
    config->sync_flush = flush && strcmp(flush, "SYNC_FLUSH") == 0;
    if (flush && !config->sync_flush && strcmp(flush, "ASYNC_FLUSH") != 0) {
        *ret_key = "flushDiskType";
        return -EINVAL;
    }
    if (conf_get_bool(conf, "", "autoCreateTopicEnable", true, &config->auto_create_topic) < 0)
        *ret_key = "autoCreateTopicEnable";
    if (conf_get_bool(conf, "", "autoCreateSubscriptionGroup", true, &config->auto_create_group) < 0)
        *ret_key = "autoCreateSubscriptionGroup";
    if (conf_get_bool(conf, "", "cleanFileForciblyEnable", true, &config->clean_forcibly) < 0)
        *ret_key = "cleanFileForciblyEnable";
    if (conf_get_bool(conf, "", "enabledAppendPropCRC", false, &config->whole_crc) < 0)
        *ret_key = "enabledAppendPropCRC";
    if (conf_get_bool(conf, "", "messageIndexEnable", true, &config->index) < 0)
        *ret_key = "messageIndexEnable";
    return *ret_key ? -EINVAL : 0;
}

/* "1s 5s 10m 2h": units s, m, h, d. */
static int delays_get(struct conf *conf, struct store_config *config, const char **ret_key)
{
    static const char key[] = "messageDelayLevel";
    PN_FREE char *list = text_get(conf, key, "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h");
    if (!list)
        return -ENOMEM;
    char *rest = NULL;
    for (char *word = strtok_r(list, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        char *unit;
        long long number = strtoll(word, &unit, 10);
        int64_t ms = *unit == 's' ? 1000 : *unit == 'm' ? 60000 : *unit == 'h' ? 3600000 : *unit == 'd' ? 86400000 : 0;
        if (unit == word || ms == 0 || unit[1] || number < 0 || number > 36500 || config->delay_levels == DELAY_LEVELS_MAX) {
            *ret_key = key;
            return -EINVAL;
        }
        config->delay_ms[config->delay_levels++] = number * ms;
    }
    if (config->delay_levels == 0)
        *ret_key = key;
    return config->delay_levels ? 0 : -EINVAL;
}

static int namesrvs_get(struct conf *conf, struct store_config *config)
{
    PN_FREE char *list = text_get(conf, "pintle.namesrvs", "");
    size_t count = 0;
    config->namesrvs = calloc(list ? strlen(list) + 2 : 1, sizeof(char *));
    if (!list || !config->namesrvs)
        return -ENOMEM;
    char *rest = NULL;
    for (char *name = strtok_r(list, "; ", &rest); name; name = strtok_r(NULL, "; ", &rest))
        if (!(config->namesrvs[count++] = strdup(name)))
            return -ENOMEM;
    return 0;
}

static int texts_get(struct conf *conf, struct store_config *config)
{
    const char *root = conf_get(conf, "", "storePathRootDir");
    const char *log_dir = conf_get(conf, "", "storePathCommitLog");
    config->broker_name = text_get(conf, "brokerName", "broker");
    config->cluster_name = text_get(conf, "brokerClusterName", "DefaultCluster");
    config->broker_ip1 = text_get(conf, "brokerIP1", "");
    config->ha_ip = text_get(conf, "brokerIP2", config->broker_ip1 ? config->broker_ip1 : "");
    config->region_id = text_get(conf, "regionId", "DefaultRegion");
    config->delete_when = text_get(conf, "deleteWhen", "04");
    config->store_root = strdup(root ? root : "");
    if (log_dir && *log_dir)
        config->commit_log_dir = strdup(log_dir);
    else if (asprintf(&config->commit_log_dir, "%s/commitlog", root ? root : "") < 0)
        config->commit_log_dir = NULL;
    return config->broker_name && config->cluster_name && config->broker_ip1 && config->ha_ip && config->region_id &&
                   config->delete_when && config->store_root && config->commit_log_dir
               ? namesrvs_get(conf, config)
               : -ENOMEM;
}

static int text_read(int fd, char **ret_text, size_t *ret_size)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (st.st_size > CONFIG_MAX)
        return -EFBIG;
    PN_FREE char *text = malloc((size_t)st.st_size + 1);
    if (!text)
        return -ENOMEM;
    ssize_t n = pread(fd, text, (size_t)st.st_size, 0);
    if (n < 0)
        return -errno;
    text[n] = 0;
    *ret_size = (size_t)n;
    *ret_text = TAKE_PTR(text);
    return 0;
}

int config_load(int fd, struct store_config *ret_config, char **ret_error)
{
    PN_CLOSE int owned = fd;
    PN_FREE char *text = NULL;
    size_t size = 0;
    *ret_config = (struct store_config){0};
    int r = text_read(owned, &text, &size);
    if (r < 0)
        return r;
    struct conf *conf;
    r = conf_read_text("configuration of the store", text, size, CONF_PROPERTIES, &conf, ret_error);
    if (r < 0)
        return r;
    const char *key = NULL;
    r = numbers_get(conf, ret_config, &key);
    if (r == 0)
        r = flags_get(conf, ret_config, &key);
    if (r == 0)
        r = delays_get(conf, ret_config, &key);
    if (r == 0)
        r = texts_get(conf, ret_config);
    if (r == 0 && !*ret_config->store_root) {
        key = "storePathRootDir";
        r = -EINVAL;
    }
    ret_config->granted = conf;
    if (key && asprintf(ret_error, "configuration of the store: %s is missing or out of its range", key) < 0)
        *ret_error = NULL;
    return r;
}

void config_free(struct store_config *config)
{
    free(config->broker_name);
    free(config->cluster_name);
    free(config->broker_ip1);
    free(config->ha_ip);
    free(config->region_id);
    free(config->delete_when);
    free(config->store_root);
    free(config->commit_log_dir);
    for (char **name = config->namesrvs; name && *name; name++)
        free(*name);
    free(config->namesrvs);
    conf_free(config->granted);
    *config = (struct store_config){0};
}
