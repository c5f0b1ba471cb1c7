/* What a worker is given: the initial set by the table of plan.c, and later changes of a store's peers. */
#pragma once

#include "worker.h"

struct attach_client;

/* New ring sets and interest for the process of a front that starts now; tells its store. */
int grants_renew_front(struct worker *front);
/* The initial set, GRANT_DONE included. */
int grants_send_initial(struct worker *worker);

/* Changes of a store's peers; nothing if it has no process (its next one gets the whole set). */
void grants_add_native(struct worker *store, const struct ring_set *set, const char *name);
void grants_drop_peer(struct worker *store, uint32_t peer, uint64_t generation, const char *name);
