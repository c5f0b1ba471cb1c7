/* One JSON file in config/, read and written so that a death at any instruction leaves a whole file: NAME or NAME.bak.
 * Also the writer of fastjson's pretty dialect (TAB indent, integer keys bare). Store process; json_file_write() runs
 * on the helper thread of config_files.c, the rest on the main thread at start. */
#pragma once

#include <jansson.h>

#include "json/json_body.h"

/* What identifies the bytes of a file. */
struct json_file_stamp {
    uint64_t size;
    uint32_t crc32;
    int64_t changed_ms; /* as its folder tells */
    bool is_bak;
};
struct json_file_stamp json_file_stamp(const char *data, size_t size);

/* All bytes of a file, malloc'ed, with a 0 behind them. -ENOENT also if it is empty: that is what a broker leaves that was
 * killed between truncating and writing. */
int json_file_bytes(const char *path, char **ret_data, struct json_file_stamp *ret_stamp);

/* The parsed file, or that of its .bak where the file is missing, empty or not JSON (Apache may have left it so).
 * -ENOENT: neither holds anything. -EBADMSG: what is there is not JSON. */
int json_file_read(const char *folder, const char *name, json_t **ret_json, struct json_file_stamp *ret_stamp);

/* NAME.tmp, fsync, the old one becomes NAME.bak, rename, fsync of the folder. */
int json_file_write(const char *folder, const char *name, const char *data, size_t size);

/* A value as fastjson prints it at this depth; object keys sorted. */
void json_file_print(struct text *text, json_t *value, unsigned depth);
void json_file_indent(struct text *text, unsigned depth); /* newline and tabs */
void json_file_int(struct text *text, int64_t value);
