/* What the name server's process hangs on. One thread. */
#pragma once

#include <systemd/sd-event.h>

#include "bus/bus.h"
#include "config.h"
#include "kv_config.h"
#include "route_table.h"
#include "shm/board.h"
#include "worker/worker.h"

struct listener;

struct namesrv {
    struct worker worker;
    /* the worker's */
    sd_event *event;
    struct board *board;

    int64_t started_ms; /* monotonic */
    struct config config;
    struct kv_config kv;
    int listen_fd;         /* until the listener has it */
    struct bus *store_bus; /* ROUTER */
    struct listener *listener;
    struct route_table *routes;
};
