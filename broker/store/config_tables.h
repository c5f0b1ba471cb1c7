/* The tables of config_files.h as text in Apache's dialect, and back. What a file says beyond what we know (attributes,
 * retry policies, keys of other versions) is kept as it is. Store process, main thread. */
#pragma once

#include <jansson.h>

#include "data_version.h"
#include "json/json_body.h"
#include "store.h"

void config_tables_print_topics(struct store *store, struct text *text);
void config_tables_print_groups(struct store *store, struct text *text);
void config_tables_print_offsets(struct store *store, struct text *text);

/* -EBADMSG: not the table. -ENOSPC: more than fits. */
int config_tables_load_topics(struct store *store, json_t *json);
int config_tables_load_groups(struct store *store, json_t *json);
int config_tables_load_offsets(struct store *store, json_t *json);
struct data_version config_tables_version(json_t *json);
