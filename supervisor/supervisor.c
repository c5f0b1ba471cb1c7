/* Makes the supervisor object, starts the workers at once, and ends them stage by stage. Everything made here (memory,
 * sockets, folder) is freed in reverse order by supervisor_free, also of a half-built object. A failure before the first
 * worker serves ends the whole start; later nothing ends the supervisor but a signal or `pintle down`. */
#include "supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/panic.h"
#include "bus_in.h"
#include "contract.h"
#include "control.h"
#include "hang.h"
#include "inherited.h"
#include "notify.h"
#include "shm/segment.h"

enum { START_FAILED_STOP_MS = 300 }; /* nothing was acknowledged yet: a start that fails ends within a second */

static int make_fault_page(struct supervisor *supervisor)
{
    int r = fault_page_create(&supervisor->fault_page_fd);
    if (r == 0)
        r = segment_reopen_readonly(supervisor->fault_page_fd, &supervisor->fault_page_readonly_fd);
    if (r == 0)
        r = fault_page_map_writable(supervisor->fault_page_fd, &supervisor->fault_page);
    return r;
}

static int add_worker(struct supervisor *supervisor, enum worker_role role, const char *subject, unsigned index,
                      struct worker **ret_worker, struct failure *failure)
{
    struct worker **list =
        reallocarray(supervisor->workers, supervisor->worker_count + 1, sizeof *supervisor->workers);
    if (!list)
        return failure_set(failure, EXIT_CODE_IO, "out of memory");
    supervisor->workers = list;
    int r = worker_create(supervisor, role, subject, index, ret_worker, failure);
    if (r == 0)
        list[supervisor->worker_count++] = *ret_worker;
    return r;
}

/* Before its workers close themselves in: what they may open is found by these folders. One that cannot be made is told
 * by the worker that wants it. */
static void make_store_folders(const struct cluster *cluster, const struct cluster_broker *broker)
{
    PN_FREE char *root = cluster_store_root(cluster, broker);
    const char *commit_log = settings_get(&broker->settings, "storePathCommitLog");
    if (root)
        (void)runtime_dir_make_folder(root, 0755);
    if (commit_log)
        (void)runtime_dir_make_folder(commit_log, 0755);
}

static int make_broker(struct supervisor *supervisor, struct broker *broker, struct cluster_broker *config,
                       struct failure *failure)
{
    *broker = (struct broker){.config = config, .memory = {-1, -1, -1, -1}, .listen_fds = {-1, -1}};
    int r = channels_listen_pair(config->name, config->listen, &config->port, broker->listen_fds, failure);
    if (r < 0)
        return r;
    r = channels_broker_memory_create(config->name, &broker->memory);
    if (r < 0)
        return failure_set(failure, EXIT_CODE_IO, "cannot make the memory of %s: %s", config->name, strerror(-r));
    make_store_folders(supervisor->cluster, config);
    broker->fronts = calloc(config->front_count, sizeof *broker->fronts);
    if (!broker->fronts)
        return failure_set(failure, EXIT_CODE_IO, "out of memory");
    for (unsigned i = 0; i < config->front_count && r == 0; i++) {
        r = add_worker(supervisor, ROLE_FRONT, config->name, i, &broker->fronts[i], failure);
        if (r == 0)
            broker->fronts[broker->front_count++]->broker = broker;
    }
    if (r == 0)
        r = add_worker(supervisor, ROLE_STORE, config->name, 0, &broker->store, failure);
    if (r == 0)
        broker->store->broker = broker;
    return r < 0 ? r : attach_create(supervisor, broker, &broker->attach, failure);
}

static int make_namesrv(struct supervisor *supervisor, struct cluster_namesrv *config, struct failure *failure)
{
    struct worker *worker;
    int r = add_worker(supervisor, ROLE_NAMESRV, config->name, 0, &worker, failure);
    if (r < 0)
        return r;
    worker->namesrv = config;
    PN_FREE char *root = NULL; /* as for a broker */
    if (asprintf(&root, "%s/%s", supervisor->cluster->store_dir, config->name) > 0)
        (void)runtime_dir_make_folder(root, 0755);
    char endpoint[128];
    snprintf(endpoint, sizeof endpoint, CONTRACT_BUS_NAMESRV, config->name);
    r = bus_prepare(supervisor->cluster->runtime_dir, endpoint);
    if (r < 0)
        return failure_set(failure, EXIT_CODE_IO, "no short way to the folder %s: %s", supervisor->cluster->runtime_dir,
                           strerror(-r));
    return channels_listen(config->name, supervisor->cluster->listen, &config->port, &worker->listen_fd, failure);
}

static int make_workers(struct supervisor *supervisor, struct failure *failure)
{
    struct cluster *cluster = supervisor->cluster;
    supervisor->brokers = calloc(cluster->broker_count, sizeof *supervisor->brokers);
    if (!supervisor->brokers)
        return failure_set(failure, EXIT_CODE_IO, "out of memory");
    int r = 0;
    for (unsigned i = 0; i < cluster->broker_count; i++)
        supervisor->brokers[i] = (struct broker){.memory = {-1, -1, -1, -1}, .listen_fds = {-1, -1}};
    for (unsigned i = 0; i < cluster->broker_count && r == 0; i++)
        r = make_broker(supervisor, &supervisor->brokers[i], &cluster->brokers[i], failure);
    for (unsigned i = 0; i < cluster->namesrv_count && r == 0; i++)
        r = make_namesrv(supervisor, &cluster->namesrvs[i], failure);
    return r;
}

static int make_parts(struct supervisor *supervisor, struct failure *failure)
{
    const char *dir = supervisor->cluster->runtime_dir;
    if (pipe2(supervisor->life_line, O_CLOEXEC) < 0)
        return failure_set(failure, EXIT_CODE_IO, "cannot make the life line: %s", strerror(errno));
    int r = make_fault_page(supervisor);
    if (r < 0)
        return failure_set(failure, EXIT_CODE_IO, "cannot make the fault page: %s", strerror(-r));
    r = inherited_open(failure);
    if (r == 0)
        r = make_workers(supervisor, failure);
    if (r == 0)
        r = inherited_all_taken(supervisor->cluster, failure);
    if (r < 0)
        return r;
    r = bus_bind(supervisor->event, dir, CONTRACT_BUS_SUPERVISOR, bus_in_message, supervisor, &supervisor->bus);
    if (r < 0)
        return failure_set(failure, EXIT_CODE_IO, "cannot make the bus in %s: %s", dir, strerror(-r));
    r = control_create(supervisor, &supervisor->control);
    if (r < 0)
        return failure_set(failure, EXIT_CODE_IO, "cannot listen on %s/" CONTRACT_CONTROL_SOCKET ": %s", dir,
                           strerror(-r));
    r = hang_create(supervisor, &supervisor->hang);
    return r < 0 ? failure_set(failure, EXIT_CODE_IO, "no timer: %s", strerror(-r)) : 0;
}

int supervisor_create(sd_event *event, const struct options *options, struct cluster *cluster,
                      struct runtime_dir *runtime_dir, struct supervisor **ret_supervisor, struct failure *failure)
{
    struct supervisor *supervisor = calloc(1, sizeof *supervisor);
    if (!supervisor)
        return failure_set(failure, EXIT_CODE_IO, "out of memory");
    *supervisor = (struct supervisor){.event = event, .options = options, .cluster = cluster, .runtime_dir = runtime_dir,
                                      .life_line = {-1, -1}, .fault_page_fd = -1, .fault_page_readonly_fd = -1,
                                      .stop_timeout_ms = CONTRACT_STOP_TIMEOUT_MS};
    if (!cluster->sandbox)
        log_warning("sandbox = off: nothing keeps workers from what they must not do; for debuggers only");
    int r = make_parts(supervisor, failure);
    if (r < 0) {
        supervisor_free(supervisor);
        return r;
    }
    *ret_supervisor = supervisor;
    return 0;
}

void supervisor_free(struct supervisor *supervisor)
{
    if (!supervisor)
        return;
    hang_free(supervisor->hang);
    control_free(supervisor->control);
    bus_free(supervisor->bus);
    bus_tidy(supervisor->cluster->runtime_dir);
    for (unsigned i = 0; supervisor->brokers && i < supervisor->cluster->broker_count; i++) {
        struct broker *broker = &supervisor->brokers[i];
        attach_free(broker->attach);
        channels_broker_memory_close(&broker->memory);
        pn_close_p(&broker->listen_fds[CHANNELS_MAIN]);
        pn_close_p(&broker->listen_fds[CHANNELS_VIP]);
        free(broker->fronts);
    }
    for (unsigned i = 0; i < supervisor->worker_count; i++)
        worker_free(supervisor->workers[i]);
    inherited_close();
    free(supervisor->workers);
    free(supervisor->brokers);
    pn_close_p(&supervisor->fault_page_readonly_fd);
    pn_close_p(&supervisor->life_line[0]);
    pn_close_p(&supervisor->life_line[1]);
    free(supervisor);
}

void supervisor_start(struct supervisor *supervisor)
{
    for (unsigned i = 0; i < supervisor->worker_count; i++)
        worker_event(supervisor->workers[i], CHILD_EVENT_START);
}

/* Served or given up, each of them: then READY is true. */
static bool is_settled(const struct supervisor *supervisor)
{
    for (unsigned i = 0; i < supervisor->worker_count; i++)
        if (supervisor->workers[i]->state != CHILD_READY && supervisor->workers[i]->state != CHILD_FAILED)
            return false;
    return true;
}

void supervisor_worker_ready(struct supervisor *supervisor, struct worker *worker)
{
    if (supervisor->phase == PHASE_STARTING && is_settled(supervisor)) {
        supervisor->phase = PHASE_SERVING;
        notify_ready(supervisor);
        return;
    }
    if (supervisor->phase == PHASE_SERVING)
        log_info("%s serves again", worker->name);
    notify_status(supervisor);
}

void supervisor_worker_failed(struct supervisor *supervisor, struct worker *worker, int exit_code, const char *text)
{
    if (supervisor->phase == PHASE_STARTING) {
        failure_set(&supervisor->failure, exit_code, "%s cannot start: %s", worker->name, text);
        supervisor->stop_timeout_ms = START_FAILED_STOP_MS;
        supervisor_stop(supervisor);
        return;
    }
    log_error("%s failed and is not started again: %s", worker->name, text);
    notify_status(supervisor);
}

static bool stage_is_gone(const struct supervisor *supervisor)
{
    for (unsigned i = 0; i < supervisor->worker_count; i++)
        if (supervisor->workers[i]->kind->stop_stage == supervisor->stop_stage &&
            supervisor->workers[i]->state != CHILD_STOPPED)
            return false;
    return true;
}

/* A cluster may have no worker in a stage: no name server of its own, or no broker. */
static void stop_stage(struct supervisor *supervisor)
{
    while (supervisor->stop_stage < PLAN_STOP_STAGES && stage_is_gone(supervisor))
        supervisor->stop_stage++;
    unsigned stage = supervisor->stop_stage;
    if (stage == PLAN_STOP_STAGES) {
        sd_event_exit(supervisor->event, 0);
        return;
    }
    for (unsigned i = 0; i < supervisor->worker_count; i++)
        if (supervisor->workers[i]->kind->stop_stage == stage)
            worker_event(supervisor->workers[i], CHILD_EVENT_STOP);
}

void supervisor_worker_gone(struct supervisor *supervisor, struct worker *worker)
{
    if (supervisor->phase == PHASE_STOPPING && stage_is_gone(supervisor)) {
        supervisor->stop_stage++;
        stop_stage(supervisor);
    }
}

void supervisor_stop(struct supervisor *supervisor)
{
    if (supervisor->phase == PHASE_STOPPING) {
        log_warning("asked to stop once more: whoever still runs is killed");
        for (unsigned i = 0; i < supervisor->worker_count; i++)
            worker_kill(supervisor->workers[i], false);
        return;
    }
    log_info("stopping");
    notify_stopping(supervisor);
    supervisor->phase = PHASE_STOPPING;
    stop_stage(supervisor);
}

char *supervisor_namesrv_addresses(const struct supervisor *supervisor)
{
    const struct cluster *cluster = supervisor->cluster;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    const char *host = strcmp(cluster->listen, "0.0.0.0") == 0 ? "127.0.0.1" : cluster->listen;
    for (unsigned i = 0; i < cluster->namesrv_count; i++)
        fprintf(out, "%s%s:%d", i ? ";" : "", host, cluster->namesrvs[i].port);
    if (cluster->namesrv_count == 0) /* then every broker has some of other hosts */
        fputs(cluster_namesrv_addr(cluster, &cluster->brokers[0]), out);
    return fclose(out) == 0 ? text : NULL;
}

struct worker *supervisor_find_worker(struct supervisor *supervisor, const char *name)
{
    for (unsigned i = 0; i < supervisor->worker_count; i++)
        if (strcmp(supervisor->workers[i]->name, name) == 0)
            return supervisor->workers[i];
    return NULL;
}
