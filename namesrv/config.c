/* One row per key. Switches and numbers can be changed over the wire (requests 318); whatever is a path, or says who may
 * change things, never. Keys that Apache 5.3.3 knows and nothing looks at here are kept and shown. Changes go to
 * the file configStorePath before they count, and only they: the rest stays with the supervisor's cluster file. Runs in the name server. */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/conf.h"
#include "base/log.h"
#include "json/json_body.h"
#include "state_file.h"

enum kind { FIXED, FORBIDDEN, SWITCH, NUMBER, UNUSED };

/* clang-format off */
#define UNUSED_ROW(name) {name, UNUSED, NULL, 0, 0}
#define OFF_ROW(name)    {name, UNUSED, "false", 0, 0} /* shown, since operators look for it */

static const struct {
    const char *name;
    enum kind kind;
    const char *default_value;
    int64_t min, max;
} rows[] = {
    [CONFIG_NAME] = {"pintle.name", FIXED, NULL, 0, 0},
    [CONFIG_LISTEN] = {"listen", FIXED, NULL, 0, 0},
    [CONFIG_LISTEN_PORT] = {"listenPort", FIXED, NULL, 0, 0},
    [CONFIG_ADMIN_FROM] = {"adminFrom", FORBIDDEN, "loopback", 0, 0},
    [CONFIG_ROOT] = {"storePathRootDir", FORBIDDEN, NULL, 0, 0},
    [CONFIG_KV_PATH] = {"kvConfigPath", FORBIDDEN, NULL, 0, 0},
    [CONFIG_STORE_PATH] = {"configStorePath", FORBIDDEN, NULL, 0, 0},
    [CONFIG_BLACK_LIST] = {"configBlackList", FORBIDDEN, "configBlackList;configStorePath;kvConfigPath", 0, 0},
    [CONFIG_ORDER_MESSAGE] = {"orderMessageEnable", SWITCH, "false", 0, 0},
    [CONFIG_RETURN_ORDER] = {"returnOrderTopicConfigToBroker", SWITCH, "true", 0, 0},
    [CONFIG_ALL_TOPIC_LIST] = {"enableAllTopicList", SWITCH, "true", 0, 0},
    [CONFIG_TOPIC_LIST] = {"enableTopicList", SWITCH, "true", 0, 0},
    [CONFIG_ACTING_MASTER] = {"supportActingMaster", SWITCH, "false", 0, 0},
    [CONFIG_DELETE_TOPIC] = {"deleteTopicWithBrokerRegistration", SWITCH, "false", 0, 0},
    [CONFIG_NEED_WAIT] = {"needWaitForService", SWITCH, "false", 0, 0},
    [CONFIG_WAIT_SECONDS] = {"waitSecondsForService", NUMBER, "45", 0, 86400},
    [CONFIG_SCAN_INTERVAL] = {"scanNotActiveBrokerInterval", NUMBER, "5000", 1, 3600000},
    [CONFIG_CONNECTIONS_MAX] = {"maxConnections", NUMBER, "50000", 1, 1 << 20},
    [CONFIG_IDLE_S] = {"serverChannelMaxIdleTimeSeconds", NUMBER, "120", 1, INT_MAX / 1000},
    [CONFIG_OUTPUT_MAX] = {"maxConnectionOutputBytes", NUMBER, "1048576", 65536, INT_MAX},
    [CONFIG_BUFFERED_MAX] = {"maxBufferedBytes", NUMBER, "268435456", 1048576, INT64_MAX / 2},
    [CONFIG_UNUSED_FIRST] =
    UNUSED_ROW("productEnvName"), OFF_ROW("clusterTest"), UNUSED_ROW("clientRequestThreadPoolNums"),
    UNUSED_ROW("defaultThreadPoolNums"), UNUSED_ROW("clientRequestThreadPoolQueueCapacity"),
    UNUSED_ROW("defaultThreadPoolQueueCapacity"), UNUSED_ROW("unRegisterBrokerQueueCapacity"),
    OFF_ROW("notifyMinBrokerIdChanged"), OFF_ROW("enableControllerInNamesrv"), UNUSED_ROW("serverWorkerThreads"),
    UNUSED_ROW("serverCallbackExecutorThreads"), UNUSED_ROW("serverSelectorThreads"),
    UNUSED_ROW("serverOnewaySemaphoreValue"), UNUSED_ROW("serverAsyncSemaphoreValue"),
    UNUSED_ROW("serverSocketSndBufSize"),
    UNUSED_ROW("serverSocketRcvBufSize"), UNUSED_ROW("writeBufferHighWaterMark"),
    UNUSED_ROW("writeBufferLowWaterMark"), UNUSED_ROW("serverSocketBacklog"),
    UNUSED_ROW("serverNettyWorkerGroupEnable"), UNUSED_ROW("serverPooledByteBufAllocatorEnable"),
    UNUSED_ROW("enableShutdownGracefully"), UNUSED_ROW("shutdownWaitTimeSeconds"),
    UNUSED_ROW("useEpollNativeSelector"),
};
/* clang-format on */
_Static_assert(sizeof rows / sizeof *rows == CONFIG_COUNT, "a row for each key");

const char *config_key_name(enum config_key key)
{
    return rows[key].name;
}

static int set(struct config *config, enum config_key key, const char *value)
{
    char *copy = strdup(value);
    if (!copy)
        return -ENOMEM;
    free(config->values[key]);
    config->values[key] = copy;
    config->flags[key] = strcasecmp(value, "true") == 0;
    config->numbers[key] = rows[key].kind == NUMBER ? strtoll(value, NULL, 10) : 0;
    return 0;
}

static bool is_switch_value(const char *value)
{
    return strcasecmp(value, "true") == 0 || strcasecmp(value, "false") == 0;
}

/* Unused ones go into a file and an answer of lines, so they must be plain. */
static bool is_plain(const char *value)
{
    size_t size = strlen(value);
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)value[i] < ' ' || value[i] == '\\')
            return false;
    return size <= 256;
}

static bool is_good_number(enum config_key key, const char *value)
{
    char *end;
    errno = 0;
    long long number = strtoll(value, &end, 10);
    return errno == 0 && end != value && *end == 0 && number >= rows[key].min && number <= rows[key].max;
}

/* Whether this key can have this value at run time; of others there is nothing to say. */
static bool is_good(enum config_key key, const char *value)
{
    switch (rows[key].kind) {
    case SWITCH:
        return is_switch_value(value);
    case NUMBER:
        return is_good_number(key, value);
    case UNUSED:
        return is_plain(value);
    case FIXED:
    case FORBIDDEN:
        return true;
    }
    return false;
}

static bool is_changeable(enum config_key key)
{
    return rows[key].kind != FIXED && rows[key].kind != FORBIDDEN;
}

static int set_default_path(struct config *config, enum config_key key, const char *name)
{
    PN_FREE char *path = NULL;
    if (config->values[key] || !config->values[CONFIG_ROOT])
        return 0;
    if (asprintf(&path, "%s/%s", config->values[CONFIG_ROOT], name) < 0)
        return -ENOMEM;
    return set(config, key, path);
}

static int take_text(struct config *config, struct conf *conf)
{
    int r = 0;
    for (enum config_key key = 0; key < CONFIG_COUNT && r == 0; key++) {
        const char *value = conf_get(conf, "", rows[key].name);
        if (!value)
            value = rows[key].default_value;
        if (value && !is_good(key, value))
            return -EINVAL;
        r = value ? set(config, key, value) : 0;
    }
    if (r == 0)
        r = address_list_parse(config->values[CONFIG_ADMIN_FROM], &config->admin_from);
    if (r == 0)
        r = set_default_path(config, CONFIG_KV_PATH, "kvConfig.json");
    return r < 0 ? r : set_default_path(config, CONFIG_STORE_PATH, "namesrv.properties");
}

/* What an operator changed before a restart. */
static int take_file(struct config *config)
{
    const char *path = config->values[CONFIG_STORE_PATH];
    struct conf *conf = NULL;
    PN_FREE char *error = NULL;
    struct bytes text = {NULL, 0};
    int r = path ? state_file_read(path, &text) : -ENOENT;
    if (r == 0)
        r = conf_read_text(path, (const char *)text.data, text.size, CONF_PROPERTIES, &conf, &error);
    free((void *)text.data);
    if (r < 0) {
        if (r != -ENOENT)
            log_warning("%s is passed over: %s", path, error ? error : strerror(-r));
        return 0;
    }
    for (enum config_key key = 0; key < CONFIG_COUNT && r == 0; key++) {
        const char *value = is_changeable(key) ? conf_get(conf, "", rows[key].name) : NULL;
        if (!value || !is_good(key, value))
            continue;
        config->changed[key] = true;
        r = set(config, key, value);
    }
    conf_free(conf);
    return r;
}

int config_load(struct config *config, const char *text, size_t size, char **ret_error)
{
    struct conf *conf = NULL;
    int r = conf_read_text("configuration", text, size, CONF_PROPERTIES, &conf, ret_error);
    if (r < 0)
        return r;
    r = take_text(config, conf);
    conf_free(conf);
    return r < 0 ? r : take_file(config);
}

int config_reload(struct config *config, struct conf *granted)
{
    struct address_list admin_from;
    const char *peers = conf_get(granted, "", rows[CONFIG_ADMIN_FROM].name);
    int r = 0;
    if (peers && address_list_parse(peers, &admin_from) == 0) {
        r = set(config, CONFIG_ADMIN_FROM, peers);
        config->admin_from = admin_from;
    }
    for (enum config_key key = 0; key < CONFIG_COUNT && r == 0; key++) {
        const char *value = conf_get(granted, "", rows[key].name), *now = config->values[key];
        if (!value || config->changed[key] || rows[key].kind == FIXED ||
            rows[key].kind == FORBIDDEN || (now && strcmp(now, value) == 0))
            continue;
        r = set(config, key, value);
        log_info("%s is %s now", rows[key].name, value);
    }
    return r;
}

void config_free(struct config *config)
{
    for (enum config_key key = 0; key < CONFIG_COUNT; key++)
        free(config->values[key]);
    *config = (struct config){0};
}

static int find_key(const char *name)
{
    for (int key = 0; key < CONFIG_COUNT; key++)
        if (strcmp(rows[key].name, name) == 0)
            return key;
    return -1;
}

static bool is_listed(const char *list, const char *name)
{
    size_t size = strlen(name);
    while (list && *list) {
        size_t word = strcspn(list, "; ");
        if (word == size && memcmp(list, name, size) == 0)
            return true;
        list += word + strspn(list + word, "; ");
    }
    return false;
}

static void say_expected(enum config_key key, char *ret_text, size_t size)
{
    if (rows[key].kind == SWITCH)
        snprintf(ret_text, size, "%s is true or false", rows[key].name);
    else if (rows[key].kind == NUMBER)
        snprintf(ret_text, size, "%s is a number from %lld to %lld", rows[key].name, (long long)rows[key].min,
                 (long long)rows[key].max);
    else
        snprintf(ret_text, size, "%s is at most 256 plain characters", rows[key].name);
}

static int check(const struct config *config, const struct conf_entry *entry, char *ret_reason, size_t size)
{
    const char *names[CONFIG_COUNT + 1] = {NULL};
    int key = find_key(entry->key);
    /* rocketmqHome is a path of Apache's; here it is nothing, but the refusal is the same. */
    if ((key >= 0 && rows[key].kind == FORBIDDEN) || is_listed(config->values[CONFIG_BLACK_LIST], entry->key) ||
        strcmp(entry->key, "rocketmqHome") == 0) {
        snprintf(ret_reason, size, "%s cannot be changed over the wire", entry->key);
        return -EACCES;
    }
    if (key >= 0 && rows[key].kind == FIXED) {
        snprintf(ret_reason, size, "%s is said in the cluster file and wants a restart", entry->key);
        return -EINVAL;
    }
    if (key >= 0 && is_good((enum config_key)key, entry->value))
        return 0;
    if (key >= 0) {
        say_expected((enum config_key)key, ret_reason, size);
        return -EINVAL;
    }
    for (enum config_key i = 0; i < CONFIG_COUNT; i++)
        names[i] = rows[i].name;
    const char *nearest = conf_nearest(entry->key, names);
    snprintf(ret_reason, size, "%s is not a key of this name server%s%s", entry->key, nearest ? "; did you mean " : "",
             nearest ? nearest : "");
    return -EINVAL;
}

/* `next` has the value after the change where there is one. */
static int store(const struct config *config, const char *const next[CONFIG_COUNT])
{
    struct text text = {NULL, 0, 0};
    if (!config->values[CONFIG_STORE_PATH])
        return -ENOENT;
    for (enum config_key key = 0; key < CONFIG_COUNT; key++)
        if (next[key] || config->changed[key])
            text_add(&text, "%s=%s\n", rows[key].name, next[key] ? next[key] : config->values[key]);
    int r = state_file_write(config->values[CONFIG_STORE_PATH], (struct bytes){(const uint8_t *)text.data, text.size});
    text_free(&text);
    return r;
}

static int change(struct config *config, struct conf *conf, char *ret_reason, size_t reason_size)
{
    const char *next[CONFIG_COUNT] = {NULL};
    int r;
    for (size_t i = 0; i < conf->count; i++) {
        struct conf_entry *entry = &conf->entries[i];
        if (entry->key[0] == 0)
            continue;
        size_t length = strlen(entry->value);
        while (length > 0 && strchr(" \t\r", entry->value[length - 1]))
            entry->value[--length] = 0;
        r = check(config, entry, ret_reason, reason_size);
        if (r < 0)
            return r;
        next[find_key(entry->key)] = entry->value;
    }
    r = store(config, next);
    if (r < 0) {
        snprintf(ret_reason, reason_size, "%s: %s", config_key_name(CONFIG_STORE_PATH), strerror(-r));
        return r;
    }
    for (enum config_key key = 0; key < CONFIG_COUNT; key++)
        if (next[key]) {
            config->changed[key] = true;
            r = set(config, key, next[key]);
            if (r < 0)
                return r;
            log_info("%s is %s now%s", rows[key].name, next[key],
                     rows[key].kind == UNUSED ? ", which changes nothing here" : "");
        }
    return 0;
}

int config_update(struct config *config, struct bytes properties, char *ret_reason, size_t reason_size)
{
    struct conf *conf = NULL;
    PN_FREE char *error = NULL;
    int r = conf_read_text("request", properties.size ? (const char *)properties.data : "", properties.size,
                           CONF_PROPERTIES, &conf, &error);
    if (r < 0) {
        snprintf(ret_reason, reason_size, "%s", error ? error : strerror(-r));
        return r;
    }
    r = change(config, conf, ret_reason, reason_size);
    conf_free(conf);
    return r;
}
