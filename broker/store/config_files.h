/* topics.json, subscriptionGroup.json and consumerOffset.json under STORE/config, in Apache's dialect (store facts 7), and
 * broker.properties, what was changed at run time:
 * written some time after a change; cold_load.c reads them. The event loop makes the text; a helper thread writes, syncs
 * and renames it, so that the single writer never waits for a disk. Each write is noted in the metadata journal first: a file that is not
 * noted there was written by somebody else. Store process. */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "store.h"

enum config_file {
    CONFIG_FILE_TOPICS,
    CONFIG_FILE_GROUPS,
    CONFIG_FILE_OFFSETS,
    CONFIG_FILE_BROKER,
    CONFIG_FILE_DELAY,
    CONFIG_FILE_COUNT,
};

enum {
    CONFIG_FILES_BATCH_MS = 100, /* changes of topics and groups within this time become one file */
};

/* Cold start, for cold_load.c: the name of a file; what it holds into its table. `json` is NULL where the file is none. */
const char *config_files_name(enum config_file file);
bool config_files_is_json(enum config_file file);
int config_files_take(struct store *store, enum config_file file, json_t *json);
int config_files_folder(const struct store *store, char *folder, size_t size);

int config_files_start(struct store *store);
/* Nothing before config_files_start(). */
void config_files_changed(struct store *store, enum config_file file);
/* Writes what changed and waits for it. */
void config_files_stop(struct store *store);
