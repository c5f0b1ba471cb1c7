/* The steps of a front's life, in this order. */
#pragma once

#include "front.h"

/* The parts that grants go to. Needs the worker's event loop and generation. */
int lifecycle_build(struct front *front);
int lifecycle_grant(struct front *front, const struct fd_grant *grant, int *fds, unsigned count);
bool lifecycle_has_grants(const struct front *front);
/* Everything else; from here on it serves. Needs board, grants and configuration. */
int lifecycle_start(struct front *front);
/* Everything but the worker's own; half-built fronts too. */
void lifecycle_free(struct front *front);
