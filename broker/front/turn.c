/* One turn of the front's loop, and its end. The order matters: sockets first, so that what they bring goes into the
 * rings with this turn's one publish and wake; answers after that; what answers and woken polls made is written last.
 */
#include <sys/epoll.h>

#include "admin.h"
#include "base/clock.h"
#include "catalogue.h"
#include "connections.h"
#include "foreign.h"
#include "front.h"
#include "helper.h"
#include "limits.h"
#include "listener.h"
#include "long_poll.h"
#include "pending.h"
#include "route.h"
#include "store_link.h"

enum { STOP_TIMEOUT_MS = 5000 };

void front_turn(struct front *front)
{
    front->now_ms = clock_monotonic_ms();
    store_link_awake(front);
    connections_poll(front);
    store_link_receive(front);
    catalogue_settle(front);
    foreign_turn(front);
    held_requests_run(front);
    admin_turn(front);
    long_poll_turn(front);
    /* Behind whatever may have made room for requests that wait for a limit. */
    if (front->resume_wanted) {
        front->resume_wanted = false;
        connections_resume(front);
    }
    store_link_publish(front);
    /* Sending may let a throttled channel go on, and its requests are to be published too. */
    for (int i = 0; i < 4 && connections_flush(front); i++)
        store_link_publish(front);
    limits_settle(front);
    if (front->stopping &&
        (front->now_ms >= front->stop_deadline_ms ||
         (foreign_is_gone(front) && pending_count(front->pending) == 0 && helper_outstanding(front->helper) == 0 && connections_drained(front))))
        sd_event_exit(front->event, 0);
}

void front_stop(struct front *front)
{
    if (front->stopping)
        return;
    front->stopping = true;
    front->stop_deadline_ms = clock_monotonic_ms() + STOP_TIMEOUT_MS;
    foreign_leave(front); /* first, so that clients look elsewhere */
    listeners_stop(front);
    connections_stop_reading(front);
    long_poll_give_up_all(front);
}
