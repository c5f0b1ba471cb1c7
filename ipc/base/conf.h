/* Reader for both configuration dialects: our cluster file (INI: [section name], key = value) and Apache's .properties
 * (key=value, # and ! comments, \ continuation, \uXXXX). Knows file and line of each key; lines may be any length up to
 * 64 KiB. It only reads; which keys exist and what they mean is the caller's table. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum conf_dialect { CONF_INI, CONF_PROPERTIES };

struct conf_entry {
    char *section; /* "" before the first section; for "[broker broker-a]" the text "broker broker-a" */
    char *key;     /* "" for the section's own line: a section without keys is there too */
    char *value;
    int line;
    bool used; /* for the caller: set when a table row took it */
};

struct conf {
    char *file; /* as given, for messages */
    struct conf_entry *entries;
    size_t count;
};

/* On a syntax error returns -EINVAL and puts "FILE:LINE: what" into `ret_error` (malloc'ed). */
int conf_read_file(const char *file, enum conf_dialect dialect, struct conf **ret_conf, char **ret_error);
int conf_read_text(const char *name, const char *text, size_t size, enum conf_dialect dialect, struct conf **ret_conf,
                   char **ret_error);
void conf_free(struct conf *conf);

/* The last entry wins, as in Java's Properties. NULL if absent. */
const char *conf_get(struct conf *conf, const char *section, const char *key);
int conf_get_i64(struct conf *conf, const char *section, const char *key, int64_t default_value, int64_t *ret_value);
int conf_get_bool(struct conf *conf, const char *section, const char *key, bool default_value, bool *ret_value);

/* The nearest of `names` (NULL-terminated) to `word` by edit distance, for "did you mean"; NULL if none is near. */
const char *conf_nearest(const char *word, const char *const *names);
