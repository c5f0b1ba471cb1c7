/* Answers to requests of the remoting protocol: who takes request N. */
#pragma once

#include "namesrv.h"
#include "wire/connection.h"

/* Who asks. */
struct query_peer {
    uint64_t number;       /* of the connection; never used twice */
    struct bytes own_host; /* by which the peer reached us: the host part of brokers of this host that have none */
    const char *address;   /* for logs */
    bool is_admin;         /* its address is in adminFrom */
    bool is_broker;        /* it has registered one */
    bool was_refused;      /* one log line for each connection */
};

/* Answers one request into the connection's output. */
void query_take(struct namesrv *namesrv, struct connection *connection, const struct frame *frame,
                struct query_peer *peer);
/* The connection has ended: brokers that have registered on it leave at once. */
void query_peer_gone(struct namesrv *namesrv, const struct query_peer *peer);
