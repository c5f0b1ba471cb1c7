/* Registration with the name servers of this host, over the bus: the whole table at start, when a name server asks for
 * it and every registerNameServerPeriod; a changed topic at once; a heartbeat with the data version each second, so
 * that a name server that missed anything asks. Nothing here waits. Store process, one thread. */
#pragma once

#include "store.h"
#include "topics.h"

int registration_start(struct store *store);
/* Calls back once, when every name server has confirmed a whole table or after patience_ms: a client that comes as soon
 * as the cluster says that it serves finds its routes. */
int registration_when_known(struct store *store, unsigned patience_ms, void (*call)(struct store *store));
/* Says goodbye and frees. */
void registration_stop(struct store *store);
/* The whole table to every name server: a topic is gone, or something that all of them carry has changed. */
void registration_topics(struct store *store);
void registration_topic(struct store *store, const struct topic *topic);
