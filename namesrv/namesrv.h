/* What the name server's process hangs on. One thread. */
#pragma once

#include <systemd/sd-event.h>

#include "bus/bus.h"
#include "config.h"
#include "kv_config.h"
#include "route_table.h"
#include "shm/board.h"

struct listener;

struct namesrv {
    const char *worker; /* "namesrv namesrv-a" */
    const char *runtime_dir;
    uint64_t generation;
    struct config config;
    struct kv_config kv;
    sd_event *event;
    struct board *board;
    struct bus *supervisor_bus;
    struct bus *store_bus; /* ROUTER */
    struct listener *listener;
    struct route_table *routes;
};
