/* The inspecting program: looks at the files of a store that no broker runs on (fsck), or at the commit log of any
 * store (log cat, grep, stat). It shares broker/format with the store and nothing else. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "broker/format/record.h"

/* As e2fsck ends. */
enum {
    INSPECT_CLEAN = 0,
    INSPECT_REPAIRED = 1,
    INSPECT_DAMAGED = 4,
};

struct fsck_options {
    bool repair, json, quiet;
    const char *log_folder; /* NULL: commitlog in the store's folder */
};

/* One store's folder. An exit code. */
int fsck_run(const char *root, const struct fsck_options *options);

enum show_what { SHOW_CAT, SHOW_GREP, SHOW_STAT };
struct show_options {
    enum show_what what;
    bool json;
    const char *log_folder, *topic, *pattern;
    int32_t queue_id; /* −1: all */
    int64_t from_pos, count;
};
int show_run(const char *root, const struct show_options *options);

/* The message's id as clients have it: the address in its record and its position, in hex. At least 57 bytes. */
void message_id(const uint8_t *data, const struct record *record, char *to);
/* What the consume queue's entry of this record must say. */
int64_t tags_code_of(const struct record *record);
/* TOPIC and queue in one folder name: none may climb out. */
bool topic_is_plain(const struct record *record);
