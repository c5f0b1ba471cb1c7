/* Configuration keys, one row each: the cluster file's own and those of Apache's broker.conf that this version honours.
 * Checking, defaults and the texts that people read come from these rows and from nowhere else. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum key_type {
    KEY_TEXT,
    KEY_BOOL,    /* true, false; the cluster file takes on, off, yes, no too */
    KEY_INTEGER, /* min … max */
    KEY_CHOICE,  /* one of `choices`, separated by '|' */
    KEY_PEERS,   /* a list of addresses and networks (base/address_list.h) */
};

struct key {
    const char *name;
    enum key_type type;
    int64_t min, max;
    const char *choices;
    const char *default_value; /* NULL: none, or worked out (said in `text`) */
    const char *unit;
    const char *text; /* one sentence */
};

/* Each ends with a row whose name is NULL. */
extern const struct key keys_cluster[]; /* [cluster] */
extern const struct key keys_namesrv[]; /* [namesrv NAME] */
extern const struct key keys_broker[];  /* [broker NAME] */
extern const struct key keys_apache[];  /* broker.conf */

const struct key *keys_find(const struct key *table, const char *name);
/* For "did you mean": NULL if none is near. */
const char *keys_nearest(const struct key *table, const char *name);
/* 0, or -EINVAL and in `ret_error` what was expected ("a number from 1 to 65535"). */
int keys_check(const struct key *key, const char *value, char *ret_error, unsigned error_size);
bool keys_is_true(const char *value);

/* The values of one section or file. */
struct settings {
    const struct key *table;
    char **values; /* one per row, NULL = not given */
};

int settings_init(struct settings *settings, const struct key *table);
void settings_done(struct settings *settings);
/* The key must be in the table and the value checked. */
int settings_set(struct settings *settings, const char *name, const char *value);
const char *settings_get(const struct settings *settings, const char *name); /* the default if not given; may be NULL */
int64_t settings_get_i64(const struct settings *settings, const char *name, int64_t default_value);
bool settings_given(const struct settings *settings, const char *name);
