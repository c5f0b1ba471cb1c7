/* Registrations, heartbeats and farewells of this host's stores. A store that connects (the bus says so by an empty
 * message) and one whose heartbeat shows that something is missing here is asked for its whole table; so a name server
 * that starts is whole as soon as its stores have connected. A whole table that was taken is confirmed. Runs in the name server. A message that does not decode is
 * logged and passed over. */
#include "bus_in.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "bus/bus_msg.h"
#include "fault/fault.h"

static void tell(struct namesrv *namesrv, struct bytes peer, enum bus_msg_kind kind)
{
    struct bytes message;
    int r = bus_msg_encode_plain(kind, &message);
    if (r == 0) {
        r = bus_send(namesrv->store_bus, peer, message);
        free((void *)message.data);
    }
    if (r < 0 && r != -EAGAIN) /* gone again: it is asked when it comes back */
        log_warning("cannot answer %.*s: %s", (int)peer.size, (const char *)peer.data, strerror(-r));
}

static int take_registration(struct namesrv *namesrv, struct bytes peer, struct bytes message,
                             enum route_answer *ret_answer)
{
    struct bus_registration registration;
    int r = bus_msg_decode_registration(message, &registration);
    if (r < 0)
        return r;
    FAULT_POINT(NAMESRV_REGISTER);
    bool is_new = !route_table_broker(namesrv->routes, registration.broker_name);
    *ret_answer = route_table_register(namesrv->routes, &registration, clock_monotonic_ms());
    board_add(namesrv->board, COUNTER_REGISTRATIONS, 1);
    if (*ret_answer == ROUTE_IGNORED)
        log_warning(
            "broker %.*s id %" PRId64 " at %.*s is not taken: the id belongs to another address with a newer state",
            (int)registration.broker_name.size, (const char *)registration.broker_name.data, registration.broker_id,
            (int)registration.broker_addr.size, (const char *)registration.broker_addr.data);
    else if (is_new && *ret_answer == ROUTE_OK)
        log_info("broker %.*s registered with %u topics", (int)registration.broker_name.size,
                 (const char *)registration.broker_name.data, registration.topic_count);
    if (registration.whole && *ret_answer == ROUTE_OK)
        tell(namesrv, peer, BUS_REGISTERED);
    bus_registration_free(&registration);
    return 0;
}

static int take_heartbeat(struct namesrv *namesrv, struct bytes message, enum bus_msg_kind kind,
                          enum route_answer *ret_answer)
{
    struct bus_heartbeat heartbeat;
    int r = bus_msg_decode_heartbeat(message, &heartbeat);
    if (r < 0)
        return r;
    if (kind == BUS_HEARTBEAT)
        *ret_answer = route_table_heartbeat(namesrv->routes, &heartbeat, clock_monotonic_ms());
    else if (route_table_unregister(namesrv->routes, &heartbeat))
        log_info("broker %.*s id %" PRId64 " has left", (int)heartbeat.broker_name.size,
                 (const char *)heartbeat.broker_name.data, heartbeat.broker_id);
    return 0;
}

void bus_in_message(void *context, struct bytes peer, struct bytes message)
{
    struct namesrv *namesrv = context;
    enum route_answer answer = ROUTE_OK;
    enum bus_msg_kind kind = BUS_NAMESRV_HELLO;
    int r = message.size ? bus_msg_kind(message, &kind) : 0;
    if (r == 0 && kind == BUS_NAMESRV_HELLO)
        answer = ROUTE_ASK_WHOLE;
    else if (r == 0 && kind == BUS_REGISTER)
        r = take_registration(namesrv, peer, message, &answer);
    else if (r == 0 && (kind == BUS_HEARTBEAT || kind == BUS_UNREGISTER))
        r = take_heartbeat(namesrv, message, kind, &answer);
    else if (r == 0)
        r = -EBADMSG;
    if (r < 0)
        log_warning("a message of %.*s is refused: %s", (int)peer.size, (const char *)peer.data, strerror(-r));
    else if (answer == ROUTE_ASK_WHOLE)
        tell(namesrv, peer, BUS_REGISTER_AGAIN);
}
