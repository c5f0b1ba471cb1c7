/* The store's configuration: Apache's keys, resolved and judged by the supervisor, out of the GRANT_CONFIG text. Unknown
 * keys are ignored here. */
#pragma once

#include "store.h"

/* Takes the descriptor. On failure `ret_error` (malloc'ed) says why. */
int config_load(int fd, struct store_config *ret_config, char **ret_error);
void config_free(struct store_config *config);
/* The bounds that Apache sets to the disk's ratios and to the rhythm of registration, whatever the file says. */
void config_clamp(struct store_config *config);
