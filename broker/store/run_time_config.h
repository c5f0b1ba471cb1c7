/* The broker's configuration while it runs: what it was started with, and what was changed since (UPDATE_BROKER_CONFIG).
 * A change is judged by the key table, is in the image before it is answered, in config/broker.properties soon after, and
 * known to every front by the catalogue. Store process, its one thread. */
#pragma once

#include "base/conf.h"
#include "data_version.h"
#include "image.h"
#include "json/json_body.h"
#include "store.h"

struct run_time_config;

/* `store->config` is what it was started with. */
int run_time_config_new(struct store *store, struct run_time_config **ret_config);
void run_time_config_free(struct run_time_config *config);

/* MSG_CONFIG_PUT: lines key=value, all or none. `ret_remark` is valid until the next call. */
int32_t run_time_config_put(struct store *store, struct bytes text, const char **ret_remark);

/* A reload: what would be granted now. Takes what acts at once; what was changed at run time still wins. */
void run_time_config_reload(struct store *store, struct conf *granted);

/* What is in force, as properties text, and as comments what is from the next start on. Valid until the next change. */
struct bytes run_time_config_text(const struct run_time_config *config);
struct data_version run_time_config_version(const struct run_time_config *config);

void run_time_config_write_image(struct run_time_config *config, struct image *image);
int run_time_config_apply_image(struct store *store, struct bytes payload);
/* The file, for config_files.c. A start that is not from the image reads it; -ENOENT: there is none. */
void run_time_config_print_file(struct store *store, struct text *text);
int run_time_config_load_file(struct store *store, const char *folder);
