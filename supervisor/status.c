/* The cluster as JSON, from the supervisor's own memory: asking costs the workers nothing. */
#include "status.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "supervisor.h"

static json_t *ports_of(const struct worker *worker)
{
    if (worker->kind->role == ROLE_NAMESRV)
        return json_pack("[i]", worker->namesrv->port);
    if (worker->kind->role == ROLE_FRONT)
        return json_pack("[ii]", worker->broker->config->port, worker->broker->config->port - CHANNELS_VIP_DISTANCE);
    return json_array();
}

static json_t *worker_json(const struct worker *worker)
{
    return json_pack("{s:s, s:s, s:i, s:i, s:i, s:s, s:i, s:I, s:s, s:o}", "role", worker->kind->name, "broker",
                     worker->subject, "index", (int)worker->index, "number", (int)worker->number, "pid",
                     (int)worker->pid, "state", child_state_name(worker->state), "restarts", (int)worker->restarts,
                     "generation", (json_int_t)worker->generation, "status", worker->status, "ports",
                     ports_of(worker));
}

static const char *const phase_names[] = {
    [PHASE_STARTING] = "starting", [PHASE_SERVING] = "serving", [PHASE_STOPPING] = "stopping"};

json_t *status_json(const struct supervisor *supervisor)
{
    PN_FREE char *namesrvs = supervisor_namesrv_addresses(supervisor);
    json_t *workers = json_array();
    for (unsigned i = 0; workers && i < supervisor->worker_count; i++)
        if (json_array_append_new(workers, worker_json(supervisor->workers[i])) < 0) {
            json_decref(workers);
            workers = NULL;
        }
    if (!workers || !namesrvs)
        return NULL;
    return json_pack("{s:{s:i, s:s}, s:s, s:o, s:s, s:s, s:b}", "supervisor", "pid", (int)getpid(), "state",
                     phase_names[supervisor->phase], "cluster", supervisor->cluster->name, "workers", workers,
                     "namesrv", namesrvs, "dir", supervisor->cluster->runtime_dir, "faults",
                     supervisor->cluster->faults);
}
