/* A reload: the files of the start are read again, and what can change while the cluster runs is changed. */
#pragma once

#include <jansson.h>

#include "failure.h"

struct supervisor;
struct worker;

/* `ret_changes`: [{"where", "key", "from", "to", "state"}], state applied, restart (waits for one), run-time (a change at
 * run time wins), unused. A file that cannot be used is a failure and changes nothing. Logged either way. */
int reload(struct supervisor *supervisor, json_t **ret_changes, struct failure *failure);
/* Tells a worker its configuration as it is now. */
void reload_tell(struct worker *worker);
