/* The key tables and what can be done with any of them: find a row, suggest the nearest, check a value, keep values.
 * Runs in the supervisor. Who reads files and says file and line is cluster.c. */
#include "keys.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/address_list.h"
#include "base/conf.h"
#include "base/panic.h"

#define TEXT(n, def, sentence)              {n, KEY_TEXT, 0, 0, NULL, def, NULL, sentence}
#define BOOL(n, def, sentence)              {n, KEY_BOOL, 0, 0, NULL, def, NULL, sentence}
#define NUMBER(n, lo, hi, def, u, sentence) {n, KEY_INTEGER, lo, hi, NULL, def, u, sentence}
#define CHOICE(n, list, def, sentence)      {n, KEY_CHOICE, 0, 0, list, def, NULL, sentence}
#define PEERS(n, def, sentence)             {n, KEY_PEERS, 0, 0, NULL, def, NULL, sentence}
#define END                                 {NULL, KEY_TEXT, 0, 0, NULL, NULL, NULL, NULL}

const struct key keys_cluster[] = {
    TEXT("name", "DefaultCluster", "Name of the cluster, as clients and mqadmin see it."),
    TEXT("listen", "127.0.0.1", "Address on which name servers and brokers listen; 0.0.0.0 for every IPv4 address."),
    TEXT("dir", NULL, "Folder for everything of this cluster (run, store, log); default: the system's folders."),
    PEERS("adminFrom", "loopback",
          "Who may send requests that change something for everybody: addresses, networks (10.0.0.0/8), loopback, any."),
    BOOL("faults", "off", "Whether `pintle fault` may make workers die and stall; for tests only."),
    END,
};

const struct key keys_namesrv[] = {
    NUMBER("port", 0, 65535, NULL, NULL, "Port; 0 takes a free one. Default: 9876, 9877, … in the order of the file."),
    TEXT("kvConfigPath", NULL, "File of the KV configuration; default: kvConfig.json in store/NAME."),
    TEXT("configStorePath", NULL, "File of what was changed at run time; default: namesrv.properties in store/NAME."),
    TEXT("configBlackList", "configBlackList;configStorePath;kvConfigPath", "Keys that nobody may change at run time."),
    BOOL("orderMessageEnable", "false", "Tell clients the order configuration of a topic in its route."),
    BOOL("returnOrderTopicConfigToBroker", "true", "Tell brokers the order configurations when they register."),
    BOOL("enableAllTopicList", "true", "Answer who asks for the names of all topics."),
    BOOL("enableTopicList", "true", "Answer who asks for the topics of a cluster, of units, of the system."),
    BOOL("supportActingMaster", "false", "Show the first slave of a broker without master as a read-only master."),
    BOOL("deleteTopicWithBrokerRegistration", "false", "A topic that a broker no longer registers leaves its route."),
    END,
};

const struct key keys_broker[] = {
    NUMBER("port", 0, 65535, NULL, NULL,
           "Main port (the VIP port is 2 below); 0 takes free ones. Default: listenPort of `conf`, else 10911, 10921, …"),
    TEXT("conf", NULL, "An unchanged Apache broker.conf for this broker; relative to the folder of the cluster file."),
    NUMBER("id", 0, INT_MAX, NULL, NULL, "brokerId: 0 is a master. Default: brokerId of `conf`, else 0."),
    NUMBER("fronts", 1, 16, "1", NULL, "Number of front processes that share this broker's ports."),
    END,
};

const struct key keys_apache[] = {
    TEXT("brokerName", NULL, "Name of the broker in routes; default: the name of its section."),
    TEXT("brokerClusterName", NULL, "Name of the cluster; default: the cluster file's."),
    NUMBER("brokerId", 0, INT_MAX, "0", NULL, "0 is a master."),
    CHOICE("brokerRole", "ASYNC_MASTER", "ASYNC_MASTER", "Role; replication comes later."),
    TEXT("brokerIP1", NULL, "Address announced to clients; default: the listen address, or what a client connected to."),
    TEXT("brokerIP2", NULL, "Address announced to slaves; default: brokerIP1."),
    TEXT("bindAddress", NULL, "Listen address of this broker; default: the cluster file's `listen`."),
    NUMBER("listenPort", 0, 65535, NULL, NULL, "Main port; the VIP port is 2 below."),
    NUMBER("haListenPort", 0, 65535, NULL, NULL, "Replication port; default: listenPort + 1."),
    TEXT("storePathRootDir", NULL, "Root of the broker's files; default: store/NAME in the cluster's folder."),
    TEXT("storePathCommitLog", NULL, "Folder of the commit log; default: commitlog in the root."),
    NUMBER("mappedFileSizeCommitLog", 65536, 1ll << 40, "1073741824", "bytes", "Size of one commit log file."),
    NUMBER("mappedFileSizeConsumeQueue", 20, 1ll << 31, "6000000", "bytes", "Size of one consume queue file."),
    CHOICE("flushDiskType", "ASYNC_FLUSH|SYNC_FLUSH", "ASYNC_FLUSH", "Whether an answer waits for fdatasync."),
    NUMBER("flushIntervalCommitLog", 1, INT_MAX, "500", "ms", "Rhythm of flushing with ASYNC_FLUSH."),
    NUMBER("flushConsumerOffsetInterval", 1, INT_MAX, "5000", "ms", "Rhythm of writing consumerOffset.json."),
    BOOL("autoCreateTopicEnable", "true", "Make a topic when a producer sends to it."),
    BOOL("autoCreateSubscriptionGroup", "true", "Make a group when a consumer uses it."),
    NUMBER("defaultTopicQueueNums", 1, 16384, "8", "queues", "Most queues of a topic that is made automatically."),
    NUMBER("maxMessageSize", 1, 4 * 1024 * 1024, "4194304", "bytes", "Largest body of a message."),
    NUMBER("brokerPermission", 0, 6, "6", NULL, "4 readable, 2 writable, 6 both."),
    NUMBER("registerNameServerPeriod", 10000, 60000, "30000", "ms", "Rhythm of whole registrations."),
    TEXT("regionId", "DefaultRegion", "Value of the message property MSG_REGION."),
    END,
};

const struct key *keys_find(const struct key *table, const char *name)
{
    for (const struct key *key = table; key->name; key++)
        if (strcmp(key->name, name) == 0)
            return key;
    return NULL;
}

const char *keys_nearest(const struct key *table, const char *name)
{
    const char *names[64];
    unsigned count = 0;
    for (const struct key *key = table; key->name; key++) {
        pn_assert(count < 63);
        names[count++] = key->name;
    }
    names[count] = NULL;
    return conf_nearest(name, names);
}

static bool one_of(const char *value, const char *const *words)
{
    for (; *words; words++)
        if (strcasecmp(value, *words) == 0)
            return true;
    return false;
}

bool keys_is_true(const char *value)
{
    return one_of(value, (const char *const[]){"true", "on", "yes", NULL});
}

static bool is_choice(const char *choices, const char *value)
{
    size_t size = strlen(value);
    for (const char *p = choices; p && size > 0; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
        if (strncmp(p, value, size) == 0 && (p[size] == '|' || p[size] == 0))
            return true;
    return false;
}

int keys_check(const struct key *key, const char *value, char *ret_error, unsigned error_size)
{
    switch (key->type) {
    case KEY_TEXT:
        return 0;
    case KEY_BOOL:
        if (keys_is_true(value) || one_of(value, (const char *const[]){"false", "off", "no", NULL}))
            return 0;
        snprintf(ret_error, error_size, "true or false");
        return -EINVAL;
    case KEY_INTEGER: {
        char *end;
        errno = 0;
        long long number = strtoll(value, &end, 10);
        if (errno == 0 && end != value && *end == 0 && number >= key->min && number <= key->max)
            return 0;
        snprintf(ret_error, error_size, "a number from %lld to %lld%s%s", (long long)key->min, (long long)key->max,
                 key->unit ? " " : "", key->unit ? key->unit : "");
        return -EINVAL;
    }
    case KEY_CHOICE:
        if (is_choice(key->choices, value))
            return 0;
        snprintf(ret_error, error_size, "%s", key->choices);
        return -EINVAL;
    case KEY_PEERS:
        if (address_list_parse(value, &(struct address_list){.count = 0}) == 0)
            return 0;
        snprintf(ret_error, error_size, "addresses, networks like 10.0.0.0/8, loopback or any, at most %d",
                 ADDRESS_LIST_MAX);
        return -EINVAL;
    }
    PANIC("key type %d", key->type);
}

int settings_init(struct settings *settings, const struct key *table)
{
    unsigned count = 0;
    while (table[count].name)
        count++;
    settings->table = table;
    settings->values = calloc(count, sizeof *settings->values);
    return settings->values ? 0 : -ENOMEM;
}

void settings_done(struct settings *settings)
{
    if (!settings->values)
        return;
    for (unsigned i = 0; settings->table[i].name; i++)
        free(settings->values[i]);
    free(settings->values);
    settings->values = NULL;
}

static unsigned row_of(const struct settings *settings, const char *name)
{
    const struct key *key = keys_find(settings->table, name);
    pn_assert(key);
    return (unsigned)(key - settings->table);
}

int settings_set(struct settings *settings, const char *name, const char *value)
{
    char **slot = &settings->values[row_of(settings, name)];
    char *copy = strdup(value);
    if (!copy)
        return -ENOMEM;
    free(*slot);
    *slot = copy;
    return 0;
}

const char *settings_get(const struct settings *settings, const char *name)
{
    unsigned row = row_of(settings, name);
    return settings->values[row] ? settings->values[row] : settings->table[row].default_value;
}

int64_t settings_get_i64(const struct settings *settings, const char *name, int64_t default_value)
{
    const char *value = settings_get(settings, name);
    return value ? strtoll(value, NULL, 10) : default_value;
}

bool settings_given(const struct settings *settings, const char *name)
{
    return settings->values[row_of(settings, name)] != NULL;
}
