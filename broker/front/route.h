/* Requests by number: the table in route.c says for each request code which function serves it and where. */
#pragma once

#include "connections.h"

/* A handler answers, passes on to the store, or parks. 0: taken care of; -EAGAIN: a request ring is full, the frame is
 * kept and the handler called again when there is room (so it must not have done anything yet); other negative values
 * close the connection. A handler never closes a channel itself. */
typedef int (*route_handler)(struct front *front, struct channel *channel, const struct frame *frame);

int route_request(struct front *front, struct channel *channel, const struct frame *frame);

/* Requests that must wait for a whole catalogue are kept here, whatever their code, and routed again when there is one.
 */
struct held_requests *held_requests_new(void);
void held_requests_free(struct held_requests *held);
/* -ENOSPC over the limit: the caller refuses. */
int held_requests_add(struct front *front, struct channel *channel, const struct frame *frame);
void held_requests_run(struct front *front);
