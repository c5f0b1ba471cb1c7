/* The cluster as configured: pure data, resolved from a preset or a cluster file, the brokers' Apache files and the
 * command line. After the start a port of 0 becomes the one
 * that was found free, and a reload changes what can change (reload.c). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/broker_keys.h"
#include "cluster_keys.h"
#include "failure.h"
#include "options.h"

struct cluster_namesrv {
    char *name;
    int port;
    struct settings settings; /* keys_namesrv, as given */
};

struct cluster_broker {
    char *name; /* of its section: names the processes, sockets and the folder */
    int port;   /* main; the VIP port is 2 below */
    unsigned front_count;
    char *listen;             /* bindAddress of the Apache file, else the cluster's */
    struct settings section;  /* keys_broker, as given */
    struct settings settings; /* broker_keys, as given */
};

struct cluster {
    struct settings settings; /* keys_cluster, as given */
    char *name, *listen, *admin_from;
    char *runtime_dir, *store_dir, *log_dir;
    bool faults, sandbox;
    struct cluster_namesrv *namesrvs;
    unsigned namesrv_count;
    struct cluster_broker *brokers;
    unsigned broker_count;
};

int cluster_load(const struct options *options, struct cluster **ret_cluster, struct failure *failure);
void cluster_free(struct cluster *cluster);
/* One broker.conf into `settings` (broker_keys). */
int cluster_read_broker_file(struct settings *settings, const char *file, struct failure *failure);
/* What a broker's file asks for and does not get yet: told as a warning, unless `failure` is given and it would be wrong to
 * start without it. */
int cluster_judge_broker(const char *who, const struct settings *settings, struct failure *failure);
/* What was changed at run time, into `settings` (broker_keys). A file that is not there is no failure. */
int cluster_read_run_time_file(const struct cluster *cluster, const struct cluster_broker *broker,
                               struct settings *settings, struct failure *failure);
/* storePathRootDir, resolved. malloc'ed; NULL without memory. */
char *cluster_store_root(const struct cluster *cluster, const struct cluster_broker *broker);

/* Its name servers of other hosts; NULL: none. */
const char *cluster_namesrv_addr(const struct cluster *cluster, const struct cluster_broker *broker);

/* What a worker gets as GRANT_CONFIG: key=value lines with everything resolved. malloc'ed; NULL without memory. */
char *cluster_namesrv_config(const struct cluster *cluster, const struct cluster_namesrv *namesrv);
char *cluster_broker_config(const struct cluster *cluster, const struct cluster_broker *broker);
