/* Native clients of one broker: a socket in the runtime folder; each connection gets a ring set of its own. */
#pragma once

#include "channels.h"
#include "runtime_dir.h"

struct attach;
struct supervisor;
struct broker;

int attach_create(struct supervisor *supervisor, struct broker *broker, struct attach **ret_attach,
                  struct failure *failure);
void attach_free(struct attach *attach);

/* Calls back for each client; stops at the first negative return and returns it. `attach` may be NULL. */
int attach_each(struct attach *attach, int (*visit)(const struct ring_set *set, const char *name, void *context),
                void *context);
