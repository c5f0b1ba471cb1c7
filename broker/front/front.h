/* The front process as one object: everything of a broker that speaks TCP hangs here and is freed in reverse order.
 * One thread owns all of it; helper threads (helper.h) only wait for disks.
 *
 * A turn of the loop: sockets are read and their frames go into the request rings; the reply rings are drained; queues
 * that grew wake parked polls; the request rings are published once; each connection with answers is written once. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/address_list.h"
#include "base/bytes.h"
#include "fault/fault.h"
#include "fd/fd_channel.h"
#include "shm/board.h"
#include "shm/queue_table.h"
#include "worker/worker.h"

/* From the GRANT_CONFIG text; Apache's names and defaults. Strings are owned here. */
struct front_config {
    char *broker_name, *cluster_name;
    char *region_id;
    char *store_root;
    char *commit_log_dir;
    int64_t commit_log_file_size, consume_queue_file_size; /* bytes */
    bool index;
    int64_t index_slots, index_entries; /* of one index file */
    int64_t max_message_size;
    int listen_port;
    int broker_permission;
    bool auto_create_group;
    int64_t pull_count_max, pull_bytes_max, idle_ms;
    int64_t connections_max, connection_output_max, buffered_bytes_max; /* limits.h */
    int64_t outstanding_max, polls_per_connection_max, polls_max;
    int64_t send_wait_ms;
    struct address_list admin_from; /* who may change something for everybody */
    /* What name servers of other hosts are told. */
    int64_t broker_id;
    char *broker_ip1; /* "": each is told the address by which we reach it */
    char *broker_ip2; /* of replication; "": the same */
    int ha_listen_port;
    char *namesrv_addr, *own_namesrv_addr; /* own: of this cluster, which the store serves over the bus */
    int64_t register_interval_ms, register_timeout_ms, split_topics;
    bool force_register, split_registration;
    char *broker_addr; /* "10.1.2.3:10911" */
    char store_host_hex[41]; /* upper-case hex of store host address and port: the head of every offset message id */
};

struct front {
    struct worker worker;
    /* the worker's */
    sd_event *event;
    uint64_t generation;
    uint32_t peer_id; /* as the store knows it: unique among the fronts of a broker */
    struct board *board;

    struct front_config config;
    int64_t now_ms; /* monotonic, of this turn */
    bool stopping;
    bool resume_wanted; /* a limit has room again: paused channels are to be tried */
    int64_t stop_deadline_ms;

    struct queue_table *queue_table; /* read-only */
    struct interest *interest;

    struct helper *helper;
    struct read_log *read_log;
    struct damage *damage;
    struct catalogue *catalogue;
    struct pending *pending;
    struct store_link *link;
    struct long_poll *long_poll;
    struct {
        struct pull *first, **last; /* wait for one of the few that helpers work on */
        unsigned count;             /* those */
    } cold;                         /* pull.c's */
    struct connections *connections;
    struct limits *limits;
    struct slow_store *slow_store;
    struct listeners *listeners;
    struct members *members;
    struct held_requests *held;
    struct broker_stats *stats; /* NULL in tests of single parts */
    struct admin *admin;
    struct relay *relay;
    struct relay_far *relay_far;
    struct foreign *foreign; /* NULL: another front of this broker does it */
};

enum { FRONT_PERM_READ = 4, FRONT_PERM_WRITE = 2 };

int front_config_load(struct front_config *config, int fd, char **ret_error);
/* What changed at run time, from the catalogue; a value that makes no sense is left as it was. */
void front_config_apply(struct front_config *config, struct bytes text);
void front_config_free(struct front_config *config);

/* One turn after the event loop woke up. */
void front_turn(struct front *front);
/* Stops accepting and reading; front_turn ends the loop when everything outstanding is answered or time is up. */
void front_stop(struct front *front);
