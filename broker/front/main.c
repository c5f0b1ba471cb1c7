/* pintle-front: everything of a broker that speaks TCP. Its life as a worker is ipc/worker's; its parts are
 * lifecycle's; here is its turn in the loop. Writes no file. A failed start is fatal with one line; later only what makes this
 * process inconsistent is. */
#include <stdlib.h>
#include <string.h>

#include "base/address_list.h"
#include "base/cleanup.h"
#include "connections.h"
#include "contract.h"
#include "lifecycle.h"
#include "store_link.h"

enum { STOPPING_TURN_US = 10000 };

static int on_grant(void *context, const struct fd_grant *grant, int *fds, unsigned count)
{
    return lifecycle_grant(context, grant, fds, count);
}

static void on_stop(void *context)
{
    front_stop(context);
}

/* Apache's keys come by the catalogue, like changes over the wire; ours alone comes here. */
static void on_reload(void *context, struct conf *granted)
{
    struct front *front = context;
    struct address_list admin_from;
    const char *text = conf_get(granted, "", "adminFrom");
    if (text && address_list_parse(text, &admin_from) == 0)
        front->config.admin_from = admin_from;
}

static uint64_t before_sleep(void *context)
{
    struct front *front = context;
    front_turn(front);
    if (!store_link_may_sleep(front) || connections_waiting(front) || front->resume_wanted)
        return 0;
    return front->stopping ? STOPPING_TURN_US : UINT64_MAX;
}

static const struct worker_handlers handlers = {
    .room = SANDBOX_FRONT,
    .on_grant = on_grant,
    .on_stop = on_stop,
    .on_reload = on_reload,
    .before_sleep = before_sleep,
};

/* 0, or the exit code. */
static int start(struct front *front)
{
    PN_FREE char *error = NULL;
    struct worker *worker = &front->worker;
    int r = lifecycle_build(front);
    if (r < 0)
        return worker_failed(worker, EXIT_FAILURE, "start: %s", strerror(-r));
    int code = worker_begin(worker);
    if (code)
        return code;
    front->board = worker->board;
    if (!lifecycle_has_grants(front))
        return worker_failed(worker, EXIT_FAILURE, "the grants are not complete");
    r = front_config_load(&front->config, worker->config_fd, &error);
    if (r < 0)
        return worker_failed(worker, EXIT_CODE_CONFIG, "configuration: %s", error ? error : strerror(-r));
    r = lifecycle_start(front);
    return r < 0 ? worker_failed(worker, EXIT_FAILURE, "start: %s", strerror(-r)) : 0;
}

int main(void)
{
    struct front front = {0};
    int code = worker_init(&front.worker, &handlers, &front);
    if (code == 0)
        code = start(&front);
    if (code == 0) {
        worker_ready(&front.worker);
        code = worker_run(&front.worker);
    }
    lifecycle_free(&front);
    worker_free(&front.worker);
    return code;
}
