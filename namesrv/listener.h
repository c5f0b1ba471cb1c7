/* The name server's TCP side: one listening socket, and a connection per client. */
#pragma once

#include "namesrv.h"

/* Takes the descriptor. Connections that waited during our restart are accepted first. */
int listener_start(struct namesrv *namesrv, int listen_fd, struct listener **ret_listener);
/* The connection of that number ends; nothing happens if it has already. */
void listener_close(struct listener *listener, uint64_t connection);
/* adminFrom has changed. */
void listener_judge_again(struct listener *listener);
/* Closes what it has; answers that a client has not taken are lost, as with any end of a connection. */
void listener_free(struct listener *listener);
