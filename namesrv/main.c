/* pintle-namesrv: tells clients which broker has which topic. Its life as a worker is ipc/worker's. Its table is on
 * no disk: it comes from the brokers' registrations and is whole again in milliseconds after a restart. A failed start
 * is fatal with one line; later only what makes this process inconsistent is. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/clock.h"
#include "bus_in.h"
#include "contract.h"
#include "expiry.h"
#include "listener.h"
#include "namesrv.h"

enum { NAME_SIZE_MAX = 64 };

static int on_grant(void *context, const struct fd_grant *grant, int *fds, unsigned count)
{
    struct namesrv *namesrv = context;
    if (grant->kind == GRANT_LISTEN && count == 1 && namesrv->listen_fd < 0)
        namesrv->listen_fd = TAKE_FD(fds[0]);
    return 0; /* else not for a name server */
}

static void on_stop(void *context)
{
    struct namesrv *namesrv = context;
    sd_event_exit(namesrv->event, 0);
}

static void on_reload(void *context, struct conf *granted)
{
    struct namesrv *namesrv = context;
    if (config_reload(&namesrv->config, granted) < 0)
        log_error("the new configuration is not taken whole: no memory");
    listener_judge_again(namesrv->listener);
}

static const struct worker_handlers handlers = {.room = SANDBOX_NAMESRV, .on_grant = on_grant, .on_stop = on_stop, .on_reload = on_reload};

static int load_config(struct namesrv *namesrv, int fd, char **ret_error)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    void *text = st.st_size ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0) : NULL;
    if (text == MAP_FAILED)
        return -errno;
    namesrv->started_ms = clock_monotonic_ms();
    int r = config_load(&namesrv->config, text ? text : "", (size_t)st.st_size, ret_error);
    if (text)
        munmap(text, (size_t)st.st_size);
    if (r < 0)
        return r;
    const char *name = namesrv->config.values[CONFIG_NAME];
    if (!name || !*name || strlen(name) > NAME_SIZE_MAX || strchr(name, '/'))
        return -EINVAL;
    return kv_config_load(&namesrv->kv, namesrv->config.values[CONFIG_KV_PATH]);
}

static int build(struct namesrv *namesrv)
{
    char endpoint[NAME_SIZE_MAX + 8];
    snprintf(endpoint, sizeof endpoint, CONTRACT_BUS_NAMESRV, namesrv->config.values[CONFIG_NAME]);
    namesrv->routes = route_table_new();
    if (!namesrv->routes)
        return -ENOMEM;
    int r =
        bus_bind(namesrv->event, namesrv->worker.runtime_dir, endpoint, bus_in_message, namesrv, &namesrv->store_bus);
    if (r == 0)
        r = listener_start(namesrv, TAKE_FD(namesrv->listen_fd), &namesrv->listener);
    return r < 0 ? r : expiry_start(namesrv);
}

/* 0, or the exit code. */
static int start(struct namesrv *namesrv)
{
    PN_FREE char *error = NULL;
    struct worker *worker = &namesrv->worker;
    int code = worker_begin(worker);
    if (code)
        return code;
    namesrv->event = worker->event;
    namesrv->board = worker->board;
    if (namesrv->listen_fd < 0)
        return worker_failed(worker, EXIT_FAILURE, "the grants are not complete");
    int r = load_config(namesrv, worker->config_fd, &error);
    if (r < 0)
        return worker_failed(worker, EXIT_CODE_CONFIG, "configuration: %s", error ? error : strerror(-r));
    r = build(namesrv);
    if (r < 0)
        return worker_failed(worker, r == -EADDRINUSE ? EXIT_CODE_IO : EXIT_FAILURE, "start: %s", strerror(-r));
    return 0;
}

static void tear_down(struct namesrv *namesrv)
{
    listener_free(namesrv->listener);
    bus_free(namesrv->store_bus);
    route_table_free(namesrv->routes);
    kv_config_free(&namesrv->kv);
    config_free(&namesrv->config);
    pn_close_p(&namesrv->listen_fd);
    worker_free(&namesrv->worker);
}

int main(void)
{
    struct namesrv namesrv = {.listen_fd = -1};
    int code = worker_init(&namesrv.worker, &handlers, &namesrv);
    if (code == 0)
        code = start(&namesrv);
    if (code == 0) {
        worker_ready(&namesrv.worker);
        code = worker_run(&namesrv.worker);
    }
    tear_down(&namesrv);
    return code;
}
