/* What the name server's process hangs on. One thread. */
#pragma once

#include <systemd/sd-event.h>

#include "bus/bus.h"
#include "route_table.h"
#include "shm/board.h"

struct listener;

struct namesrv {
    const char *worker; /* "namesrv namesrv-a" */
    const char *runtime_dir;
    uint64_t generation;
    char *name; /* of the bus endpoint: pintle.name */
    sd_event *event;
    struct board *board;
    struct bus *supervisor_bus;
    struct bus *store_bus; /* ROUTER */
    struct listener *listener;
    struct route_table *routes;
};
