/* Listening sockets that systemd opened before we were there (pintle.socket). Supervisor only. */
#pragma once

#include <sys/socket.h>

#include "failure.h"

struct cluster;

/* Takes over what systemd passed on, if it did. Once, at the start. */
int inherited_open(struct failure *failure);
/* The one that listens on this address, ours from here on; −ENOENT: there is none. */
int inherited_take(const struct sockaddr_storage *address);
/* A socket that nobody took is a failure: its clients would wait for ever. */
int inherited_all_taken(const struct cluster *cluster, struct failure *failure);
void inherited_close(void);
