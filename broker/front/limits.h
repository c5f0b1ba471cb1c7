/* What one peer, and all of them together, may hold of this front: connections, memory, requests under way, time. A
 * limit is a pause in reading where that can end by itself (the client's TCP window fills), else the connection is
 * closed: counted, and said once in a while with the peer's address. */
#pragma once

#include "connections.h"

enum {
    LIMITS_HEAVY_MAX = 64, /* requests of one connection that need a helper or a job: further ones wait */
};

struct limits;
int limits_new(struct limits **ret_limits);
void limits_free(struct limits *limits);

/* "10.0.0.1:4711" */
enum { PEER_TEXT_SIZE = 80 };
void limits_peer_text(const struct channel *channel, char ret_text[PEER_TEXT_SIZE]);

/* How many connections may be open: what is configured, and what the limit on open files leaves. */
unsigned limits_connections(const struct front *front);
/* Refused before it became a channel; `why` is for the log. */
void limits_refuse_socket(struct front *front, int fd, const char *why);
/* Closes it, with a line in the log (not for every one of a peer) and one more in `counter`. */
void limits_close(struct channel *channel, enum board_counter counter, const char *why);

/* What the channel holds has changed. */
void limits_account(struct channel *channel);
void limits_forget(struct channel *channel);
/* Over the limit of all, who holds most is closed. Only where nobody walks a list of channels. */
void limits_settle(struct front *front);
/* Closes what is idle, silent or stuck. */
void limits_expire(struct front *front);
