/* The tables of the cluster file's keys. Runs in the supervisor, which alone reads that file. */
#include "cluster_keys.h"

#include <limits.h>
#include <stddef.h>

const struct key keys_cluster[] = {
    KEY_ROW_TEXT("name", 0, "DefaultCluster", "Name of the cluster, as clients and mqadmin see it."),
    KEY_ROW_TEXT("listen", 0, "127.0.0.1",
                 "Address on which name servers and brokers listen; 0.0.0.0 for every IPv4 address."),
    KEY_ROW_TEXT("dir", 0, NULL,
                 "Folder for everything of this cluster (run, store, log); default: the system's folders."),
    KEY_ROW_PEERS(
        "adminFrom", KEY_RELOADABLE, "loopback",
        "Who may send requests that change something for everybody: addresses, networks (10.0.0.0/8), loopback, any."),
    KEY_ROW_SERVERS("namesrvAddr", KEY_RELOADABLE,
                    "Name servers of other hosts with which every broker registers that does not name its own."),
    KEY_ROW_BOOL("faults", 0, "off", "Whether `pintle fault` may make workers die and stall; for tests only."),
    KEY_ROW_BOOL("sandbox", 0, "on",
                 "Whether workers give up what they never need (system calls, folders); off is for debuggers only."),
    KEYS_END,
};

const struct key keys_namesrv[] = {
    KEY_ROW_NUMBER("port", 0, 0, 65535, NULL, NULL,
                   "Port; 0 takes a free one. Default: 9876, 9877, … in the order of the file."),
    KEY_ROW_TEXT("kvConfigPath", 0, NULL, "File of the KV configuration; default: kvConfig.json in store/NAME."),
    KEY_ROW_TEXT("configStorePath", 0, NULL,
                 "File of what was changed at run time; default: namesrv.properties in store/NAME."),
    KEY_ROW_TEXT("configBlackList", 0, "configBlackList;configStorePath;kvConfigPath",
                 "Keys that nobody may change at run time."),
    KEY_ROW_BOOL("orderMessageEnable", KEY_RELOADABLE, "false", "Tell clients the order configuration of a topic in its route."),
    KEY_ROW_BOOL("returnOrderTopicConfigToBroker", KEY_RELOADABLE, "true",
                 "Tell brokers the order configurations when they register."),
    KEY_ROW_BOOL("enableAllTopicList", KEY_RELOADABLE, "true", "Answer who asks for the names of all topics."),
    KEY_ROW_BOOL("enableTopicList", KEY_RELOADABLE, "true", "Answer who asks for the topics of a cluster, of units, of the system."),
    KEY_ROW_BOOL("supportActingMaster", KEY_RELOADABLE, "false",
                 "Show the first slave of a broker without master as a read-only master."),
    KEY_ROW_BOOL("deleteTopicWithBrokerRegistration", KEY_RELOADABLE, "false",
                 "A topic that a broker no longer registers leaves its route."),
    KEY_ROW_BOOL("needWaitForService", 0, "false", "Answer no route before waitSecondsForService have passed."),
    KEY_ROW_NUMBER("waitSecondsForService", 0, 0, 86400, "45", "s",
                   "How long after its start a name server waits for brokers to register."),
    KEY_ROW_NUMBER("scanNotActiveBrokerInterval", KEY_RELOADABLE, 1, 3600000, "5000", "ms",
                   "Rhythm of looking for brokers that are silent for too long; never more than once per second."),
    KEY_ROW_NUMBER("maxConnections", 0, 1, 1 << 20, "50000", "connections",
                   "Most connections; more are closed at once. The limit on open files may allow fewer."),
    KEY_ROW_NUMBER("serverChannelMaxIdleTimeSeconds", 0, 1, INT_MAX / 1000, "120", "s",
                   "A connection on which nothing happened for so long is closed."),
    KEY_ROW_NUMBER("maxConnectionOutputBytes", 0, 65536, INT_MAX, "1048576", "bytes",
                   "With more unsent answers a connection is not read."),
    KEY_ROW_NUMBER("maxBufferedBytes", 0, 1048576, INT64_MAX / 2, "268435456", "bytes",
                   "Memory for unfinished requests and unsent answers; over it who holds most is closed."),
    KEYS_END,
};

const struct key keys_broker[] = {
    KEY_ROW_NUMBER(
        "port", 0, 0, 65535, NULL, NULL,
        "Main port (the VIP port is 2 below); 0 takes free ones. Default: listenPort of `conf`, else 10911, 10921, …"),
    KEY_ROW_TEXT("conf", 0, NULL,
                 "An unchanged Apache broker.conf for this broker; relative to the folder of the cluster file."),
    KEY_ROW_NUMBER("id", 0, 0, INT_MAX, NULL, NULL, "brokerId: 0 is a master. Default: brokerId of `conf`, else 0."),
    KEY_ROW_NUMBER("fronts", 0, 1, 16, "1", NULL, "Number of front processes that share this broker's ports."),
    KEYS_END,
};
