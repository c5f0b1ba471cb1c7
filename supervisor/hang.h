/* Finds workers that live but do nothing: once a second, from their boards and /proc. */
#pragma once

#include "worker.h"

struct hang;

int hang_create(struct supervisor *supervisor, struct hang **ret_hang);
void hang_free(struct hang *hang);
/* A new process, or a new start of counting. */
void hang_reset(struct worker *worker);
