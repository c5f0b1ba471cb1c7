/* The supervisor as one object: the cluster, what it made for it, and the workers. Parts hang here and are freed in
 * reverse order. One thread, one loop (ZeroMQ has its own, which touches nothing here). */
#pragma once

#include <systemd/sd-event.h>

#include "attach.h"
#include "bus/bus.h"
#include "channels.h"
#include "cluster.h"
#include "fault/fault.h"
#include "runtime_dir.h"
#include "worker.h"

enum phase { PHASE_STARTING, PHASE_SERVING, PHASE_STOPPING };

/* A broker at run time: what its workers share, and who they are. */
struct broker {
    struct cluster_broker *config;
    struct broker_memory memory;
    int listen_fds[2]; /* main, VIP: shared by all its fronts */
    struct worker *store;
    struct worker **fronts;
    unsigned front_count;
    struct attach *attach;
};

struct supervisor {
    sd_event *event;
    const struct options *options; /* as it was started: a reload reads the same files */
    struct cluster *cluster;
    bool was_reloaded;
    struct runtime_dir *runtime_dir;
    int life_line[2]; /* read end: granted to all; write end: only ours */
    int fault_page_fd, fault_page_readonly_fd;
    struct fault_page *fault_page;
    struct broker *brokers; /* as many as the cluster has */
    struct worker **workers; /* fronts, stores, name servers; number = index + 1 */
    unsigned worker_count;
    struct bus *bus;
    struct control *control;
    struct hang *hang;

    enum phase phase;
    unsigned stop_stage;
    uint64_t stop_timeout_ms;
    struct failure failure; /* why the start failed */
};

int supervisor_create(sd_event *event, const struct options *options, struct cluster *cluster,
                      struct runtime_dir *runtime_dir, struct supervisor **ret_supervisor, struct failure *failure);
void supervisor_free(struct supervisor *supervisor);

/* Starts every worker at once. */
void supervisor_start(struct supervisor *supervisor);
/* Stops in order; the loop ends when nobody is left. A second call kills who is still there. */
void supervisor_stop(struct supervisor *supervisor);

/* From workers: something changed that decides about the whole. */
void supervisor_worker_ready(struct supervisor *supervisor, struct worker *worker);
void supervisor_worker_failed(struct supervisor *supervisor, struct worker *worker, int exit_code, const char *text);
void supervisor_worker_gone(struct supervisor *supervisor, struct worker *worker);

/* "127.0.0.1:9876;127.0.0.1:9877": our own, else those of other hosts that the first broker has; malloc'ed. */
char *supervisor_namesrv_addresses(const struct supervisor *supervisor);
struct worker *supervisor_find_worker(struct supervisor *supervisor, const char *name);
