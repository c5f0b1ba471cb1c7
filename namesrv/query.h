/* Answers to requests of the remoting protocol. */
#pragma once

#include "namesrv.h"
#include "wire/connection.h"

/* Answers one request into the connection's output. `own_host` is the address by which the client reached us: the host
 * part of brokers of this host that have none. */
void query_take(struct namesrv *namesrv, struct connection *connection, const struct frame *frame,
                struct bytes own_host);
