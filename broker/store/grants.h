/* What the supervisor gives to a store: memory before the start, peers then and later. */
#pragma once

#include "store.h"

/* Handlers of struct worker_handlers; the context is the store. */
int grants_take(void *context, const struct fd_grant *grant, int *fds, unsigned count);
void grants_take_later(void *context, const struct fd_grant *grant, int *fds, unsigned count);
