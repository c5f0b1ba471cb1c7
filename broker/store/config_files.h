/* topics.json, subscriptionGroup.json and consumerOffset.json under STORE/config, in Apache's dialect (store facts 7), and
 * broker.properties, what was changed at run time:
 * read at a cold start, written some time after a change. The event loop makes the text; a helper thread writes, syncs
 * and renames it, so that the single writer never waits for a disk. Store process. */
#pragma once

#include <stdint.h>

#include "store.h"

enum config_file {
    CONFIG_FILE_TOPICS,
    CONFIG_FILE_GROUPS,
    CONFIG_FILE_OFFSETS,
    CONFIG_FILE_BROKER,
    CONFIG_FILE_COUNT,
};

enum {
    CONFIG_FILES_BATCH_MS = 100, /* changes of topics and groups within this time become one file */
};

/* Cold start: fills topics, groups and offsets from the files, or from their .bak. A missing file is an empty table;
 * one that is there and unreadable, with no readable .bak, is -EBADMSG: an operator must look. */
int config_files_load(struct store *store);
int config_files_start(struct store *store);
/* Nothing before config_files_start(). */
void config_files_changed(struct store *store, enum config_file file);
/* Writes what changed and waits for it. */
void config_files_stop(struct store *store);
