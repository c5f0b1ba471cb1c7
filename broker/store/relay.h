/* What one front asks another: records pass through the store, which alone has rings to all of them, and looks at their
 * addresses only. They wait in memory for room in a ring; they may be lost with the store, and who asked has a time
 * limit. Store process, one thread. */
#pragma once

#include "peers.h"

/* A checked MSG_RELAY or MSG_RELAY_ANSWER. */
void relay_take(struct store *store, struct peer *from, unsigned kind, const void *payload, size_t size);
/* Into the rings, as far as there is room. */
void relay_feed(struct store *store);
void relay_peer_gone(struct peer *peer);
