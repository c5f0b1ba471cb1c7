/* Every scanNotActiveBrokerInterval (Apache's 5 s): brokers whose heartbeats have stopped (their registration says how long they may be silent) leave
 * the table. A store that ends says so itself, so this is for one that hangs or was killed for good. If this process
 * slept (stopped, or the machine was), nobody could be heard meanwhile and that time does not count. Runs in the name
 * server. */
#include "expiry.h"

#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "listener.h"

enum { SCAN_MS = 1000, SLEPT_MS = 3 * SCAN_MS };

static int64_t last_scan_ms, last_expiry_ms;

static int on_scan(sd_event_source *source, uint64_t usec, void *context)
{
    struct namesrv *namesrv = context;
    int64_t now_ms = clock_monotonic_ms();
    char text[512];
    uint64_t connection;
    if (now_ms - last_scan_ms > SLEPT_MS)
        route_table_forgive(namesrv->routes, now_ms - last_scan_ms);
    last_scan_ms = now_ms;
    bool is_due = now_ms - last_expiry_ms >= namesrv->config.numbers[CONFIG_SCAN_INTERVAL];
    if (is_due)
        last_expiry_ms = now_ms;
    while (is_due && route_table_expire(namesrv->routes, now_ms, text, sizeof text, &connection)) {
        log_warning("broker %s is removed: silent for too long", text);
        if (connection)
            listener_close(namesrv->listener, connection); /* so that it notices and registers again */
    }
    int r = sd_event_source_set_time(source, (uint64_t)(now_ms + SCAN_MS) * 1000);
    return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

int expiry_start(struct namesrv *namesrv)
{
    last_scan_ms = clock_monotonic_ms();
    /* A wide margin, so that the timer wakes nobody alone. */
    return sd_event_add_time(namesrv->event, NULL, CLOCK_MONOTONIC, (uint64_t)(last_scan_ms + SCAN_MS) * 1000, 250000,
                             on_scan, namesrv);
}
