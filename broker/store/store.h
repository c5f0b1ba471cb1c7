/* The store process as one object: every part hangs here and is freed in reverse order. The log half (peers, commit log,
 * queues, ledger, flush, recovery, turn) and the metadata half (topics, groups, offsets, members, locks, catalogue,
 * registration) meet in this header, peers.h, topics.h and metadata.h. One thread decides; helper threads only do what may
 * block (fdatasync, unlink) and touch nothing here but their own queue. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "fd/fd_channel.h"
#include "shm/board.h"
#include "shm/queue_table.h"
#include "worker/worker.h"

enum { DELAY_LEVELS_MAX = 128 };

/* Apache's keys (broker.conf), resolved by config.c from the GRANT_CONFIG text; strings owned here. */
struct store_config {
    char *broker_name, *cluster_name, *broker_ip1, *ha_ip, *region_id;
    int64_t broker_id;
    int listen_port, ha_listen_port;
    char *store_root, *commit_log_dir;
    int64_t commit_log_file_size, consume_queue_file_size; /* bytes */
    bool sync_flush;
    bool auto_create_topic, auto_create_group;
    int default_topic_queues; /* TBW102's */
    int64_t max_message_size;
    int broker_permission;
    int64_t flush_offset_interval_ms;
    int64_t register_interval_ms; /* whole registration; heartbeats go each second */
    int64_t sync_flush_timeout_ms;
    int64_t flush_interval_ms, flush_least_pages, flush_thorough_ms; /* ASYNC_FLUSH */
    char *delete_when; /* local hours, "04;05" */
    int64_t file_reserved_hours, clean_interval_ms, delete_batch_files, delete_pause_ms, reader_patience_ms;
    int64_t disk_clean_percent, disk_force_percent, disk_warning_percent;
    int64_t disk_free_least, disk_free_enough; /* bytes */
    bool clean_forcibly;
    bool index, whole_crc;
    int64_t delay_ms[DELAY_LEVELS_MAX]; /* of level n + 1 */
    unsigned delay_levels;
    int64_t index_slots, index_entries; /* of one file */
    char **namesrvs; /* local name servers' names, NULL-terminated */
    struct conf *granted; /* the text itself */
};

struct store {
    struct worker worker;
    /* the worker's */
    sd_event *event;
    uint64_t generation;
    enum start_cause cause;
    char *runtime_dir;
    struct board *board;

    struct store_config config;
    struct queue_table *queue_table;
    int image_fd; /* until the metadata half has it */
    int lock_fd;  /* holds the folder's lock */
    struct peers *peers;

    /* log half */
    struct ledger *ledger;
    struct commit_log *commit_log;
    struct consume_queues *consume_queues;
    struct flush *flush;
    bool index_unsure; /* what a predecessor left of it is only what was synced */
    struct index *index;
    struct turn *turn;
    struct queue_mend *queue_mend;
    struct retention *retention;
    struct delay *delay;

    /* metadata half */
    struct image *image;
    struct topics *topics;
    struct groups *groups;
    struct offsets *offsets;
    struct members *members;
    struct queue_locks *queue_locks;
    struct catalogue *catalogue;
    struct registration *registration;
    struct config_files *config_files;
    struct journal *journal;
    struct held_answers *held_answers;
    struct run_time_config *run_time_config;
    struct metadata *metadata;
};
