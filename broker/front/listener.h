/* Listening sockets: the main port and the fast port (listenPort − 2, the VIP channel). Made by the supervisor, so that
 * a restarted front finds the connections that came in meanwhile; several fronts may share them. */
#pragma once

#include "front.h"

int listeners_new(struct listeners **ret_listeners);
void listeners_free(struct listeners *listeners);
/* A GRANT_LISTEN; takes the descriptor. */
int listeners_add(struct listeners *listeners, const struct fd_grant *grant, int fd);
unsigned listeners_count(const struct listeners *listeners);
/* From now on connections are accepted. */
int listeners_start(struct front *front);
void listeners_stop(struct front *front);
void listeners_accept(struct front *front, uint32_t index);
