/* The front's part of the broker's configuration, from the GRANT_CONFIG text. The supervisor has judged the keys; a
 * value that cannot be used here ends the start with one line. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/conf.h"
#include "front.h"
#include "pull.h"

static int read_text(int fd, char **ret_text, size_t *ret_size)
{
    struct stat status;
    if (fstat(fd, &status) < 0)
        return -errno;
    PN_FREE char *text = malloc((size_t)status.st_size + 1);
    if (!text)
        return -ENOMEM;
    if (pread(fd, text, (size_t)status.st_size, 0) != status.st_size)
        return -EIO;
    text[status.st_size] = 0;
    *ret_size = (size_t)status.st_size;
    *ret_text = TAKE_PTR(text);
    return 0;
}

/* The head of offset message ids: the store's host address and port, as they stand in each record. */
static int make_store_host(struct front_config *config, const char *ip)
{
    uint8_t address[20];
    size_t size = 0;
    if (inet_pton(AF_INET, ip, address) == 1)
        size = 4;
    else if (inet_pton(AF_INET6, ip, address) == 1)
        size = 16;
    else
        return -EINVAL;
    be32_store(address + size, (uint32_t)config->listen_port);
    for (size_t i = 0; i < size + 4; i++)
        snprintf(config->store_host_hex + 2 * i, 3, "%02X", address[i]);
    return 0;
}

static char *copy_or(struct conf *conf, const char *key, const char *missing)
{
    const char *value = conf_get(conf, "", key);
    return strdup(value && *value ? value : missing);
}

/* Rows of the key table have checked these; a text that is not there leaves what was. */
static void take_registration(struct front_config *config, struct conf *conf)
{
    const char *servers = conf_get(conf, "", "namesrvAddr");
    char *copy = strdup(servers ? servers : "");
    if (copy) {
        free(config->namesrv_addr);
        config->namesrv_addr = copy;
    }
    conf_get_i64(conf, "", "registerNameServerPeriod", 30000, &config->register_interval_ms);
    conf_get_i64(conf, "", "registerBrokerTimeoutMills", 24000, &config->register_timeout_ms);
    conf_get_i64(conf, "", "splitRegistrationSize", 800, &config->split_topics);
    conf_get_bool(conf, "", "forceRegister", true, &config->force_register);
    conf_get_bool(conf, "", "enableSplitRegistration", false, &config->split_registration);
}

/* What may change while we run. Once more behind the checks of a start, so that there is one list of these keys. */
static void take_run_time(struct front_config *config, struct conf *conf)
{
    int64_t permission, idle_s;
    if (conf_get_i64(conf, "", "brokerPermission", 6, &permission) == 0)
        config->broker_permission = (int)permission;
    if (conf_get_i64(conf, "", "serverChannelMaxIdleTimeSeconds", 120, &idle_s) == 0)
        config->idle_ms = idle_s * 1000;
    conf_get_i64(conf, "", "maxMessageSize", 4194304, &config->max_message_size);
    conf_get_i64(conf, "", "maxTransferCountOnMessageInMemory", 32, &config->pull_count_max);
    conf_get_i64(conf, "", "maxTransferBytesOnMessageInMemory", 262144, &config->pull_bytes_max);
    conf_get_bool(conf, "", "autoCreateSubscriptionGroup", true, &config->auto_create_group);
    conf_get_i64(conf, "", "maxConnections", 50000, &config->connections_max);
    conf_get_i64(conf, "", "maxConnectionOutputBytes", 8 << 20, &config->connection_output_max);
    conf_get_i64(conf, "", "maxBufferedBytes", 1 << 30, &config->buffered_bytes_max);
    conf_get_i64(conf, "", "maxOutstandingRequestsPerConnection", 65536, &config->outstanding_max);
    conf_get_i64(conf, "", "maxParkedPullsPerConnection", 16384, &config->polls_per_connection_max);
    conf_get_i64(conf, "", "maxParkedPulls", 1000000, &config->polls_max);
    conf_get_i64(conf, "", "waitTimeMillsInSendQueue", 10000, &config->send_wait_ms);
    if (config->pull_count_max > PULL_COUNT_MAX)
        config->pull_count_max = PULL_COUNT_MAX;
    if (config->pull_bytes_max > PULL_BYTES_MAX)
        config->pull_bytes_max = PULL_BYTES_MAX;
    take_registration(config, conf);
}

static int take_numbers(struct front_config *config, struct conf *conf)
{
    int64_t port, ha_port, permission;
    if (conf_get_i64(conf, "", "listenPort", 10911, &port) < 0 ||
        conf_get_i64(conf, "", "haListenPort", port + 1, &ha_port) < 0 ||
        conf_get_i64(conf, "", "brokerId", 0, &config->broker_id) < 0 ||
        conf_get_i64(conf, "", "brokerPermission", 6, &permission) < 0 ||
        conf_get_i64(conf, "", "maxMessageSize", 4194304, &config->max_message_size) < 0 ||
        conf_get_i64(conf, "", "mappedFileSizeCommitLog", 1073741824, &config->commit_log_file_size) < 0 ||
        conf_get_i64(conf, "", "mappedFileSizeConsumeQueue", 6000000, &config->consume_queue_file_size) < 0 ||
        conf_get_i64(conf, "", "maxHashSlotNum", 5000000, &config->index_slots) < 0 ||
        conf_get_i64(conf, "", "maxIndexNum", 20000000, &config->index_entries) < 0 ||
        conf_get_bool(conf, "", "messageIndexEnable", true, &config->index) < 0 ||
        conf_get_bool(conf, "", "autoCreateSubscriptionGroup", true, &config->auto_create_group) < 0)
        return -EINVAL;
    take_run_time(config, conf);
    if (port < 0 || port > UINT16_MAX || ha_port < 0 || ha_port > UINT16_MAX || config->commit_log_file_size < 4096 || config->consume_queue_file_size < 20 ||
        config->index_slots < 1 || config->index_slots > 1 << 28 || config->index_entries < 2 || config->index_entries > 100000000)
        return -ERANGE;
    config->consume_queue_file_size = (config->consume_queue_file_size + 19) / 20 * 20; /* as Apache rounds it */
    config->listen_port = (int)port;
    config->ha_listen_port = (int)ha_port;
    config->broker_permission = (int)permission;
    return 0;
}

static int take_texts(struct front_config *config, struct conf *conf)
{
    const char *root = conf_get(conf, "", "storePathRootDir"), *log = conf_get(conf, "", "storePathCommitLog");
    const char *ip = conf_get(conf, "", "brokerIP1"), *admin_from = conf_get(conf, "", "adminFrom");
    if (address_list_parse(admin_from ? admin_from : "loopback", &config->admin_from) < 0)
        return -EINVAL;
    if (!root || !*root)
        return -EINVAL;
    config->broker_name = copy_or(conf, "brokerName", "broker-a");
    config->cluster_name = copy_or(conf, "brokerClusterName", "DefaultCluster");
    /* Without an address of its own the broker is where its clients reach it; here that is told as the local one. */
    if (asprintf(&config->broker_addr, "%s:%d", ip && *ip ? ip : "127.0.0.1", config->listen_port) < 0)
        return -ENOMEM;
    config->broker_ip1 = copy_or(conf, "brokerIP1", "");
    config->broker_ip2 = copy_or(conf, "brokerIP2", "");
    config->own_namesrv_addr = copy_or(conf, "pintle.namesrvAddr", "");
    config->region_id = copy_or(conf, "regionId", "DefaultRegion");
    config->store_root = strdup(root);
    if (log && *log)
        config->commit_log_dir = strdup(log);
    else if (asprintf(&config->commit_log_dir, "%s/commitlog", root) < 0)
        config->commit_log_dir = NULL;
    if (!config->broker_ip1 || !config->broker_ip2 || !config->own_namesrv_addr || !config->namesrv_addr)
        return -ENOMEM;
    if (!config->broker_name || !config->cluster_name || !config->region_id || !config->store_root || !config->commit_log_dir)
        return -ENOMEM;
    return make_store_host(config, ip && *ip ? ip : "127.0.0.1"); /* as the store writes it into each record */
}

int front_config_load(struct front_config *config, int fd, char **ret_error)
{
    PN_FREE char *text = NULL;
    size_t size = 0;
    struct conf *conf = NULL;
    int r = read_text(fd, &text, &size);
    if (r < 0)
        return r;
    r = conf_read_text("configuration", text, size, CONF_PROPERTIES, &conf, ret_error);
    if (r < 0)
        return r;
    r = take_numbers(config, conf);
    if (r == 0)
        r = take_texts(config, conf);
    conf_free(conf);
    return r;
}

void front_config_apply(struct front_config *config, struct bytes text)
{
    struct conf *conf;
    if (conf_read_text("catalogue", (const char *)text.data, text.size, CONF_PROPERTIES, &conf, NULL) < 0)
        return;
    take_run_time(config, conf);
    conf_free(conf);
}

void front_config_free(struct front_config *config)
{
    free(config->broker_name);
    free(config->cluster_name);
    free(config->broker_addr);
    free(config->region_id);
    free(config->broker_ip1);
    free(config->broker_ip2);
    free(config->namesrv_addr);
    free(config->own_namesrv_addr);
    free(config->store_root);
    free(config->commit_log_dir);
    *config = (struct front_config){0};
}
