/* What `pintle status --json` shows. */
#pragma once

#include <jansson.h>

struct supervisor;

json_t *status_json(const struct supervisor *supervisor); /* NULL without memory */
