/* The store's turn: what it does each time something waits in a ring, and when it may sleep. */
#pragma once

#include "store.h"

int turn_new(struct store *store, struct turn **ret_turn);
void turn_free(struct turn *turn);

/* One turn; false: there was nothing to do. turn_loop is this and sleep. */
bool turn_run(struct turn *turn);
/* Runs until turn_stop, then takes what still lies in the rings and waits for its flush (bounded). */
int turn_loop(struct store *store);
void turn_stop(struct turn *turn);
/* After a restart: indexes and answers what the predecessor left. */
int turn_resume(struct store *store);
/* Before the process ends: everything written is on the disk, queues too. */
int turn_flush_all(struct store *store);
