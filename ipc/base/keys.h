/* Configuration keys, one row each. Checking, defaults and the texts that people read come from these rows and from
 * nowhere else: the supervisor's tables stand in supervisor/cluster_keys.c, broker.conf's, which the store judges too,
 * in base/broker_keys.c. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum key_type {
    KEY_TEXT,
    KEY_BOOL,    /* true, false; the cluster file takes on, off, yes, no too */
    KEY_INTEGER, /* min … max */
    KEY_CHOICE,  /* one of `choices`, separated by '|' */
    KEY_PEERS,   /* a list of addresses and networks (base/address_list.h) */
    KEY_SERVERS, /* host:port;host:port (base/endpoint_list.h) */
};

enum key_flags {
    KEY_RELOADABLE = 1, /* a change acts at once */
    KEY_FILE_ONLY = 2,  /* a path, a command or an identity: never changed over the wire */
    KEY_UNUSED = 4,     /* Apache's, known, kept and shown, but nothing here looks at it */
};

struct key {
    const char *name;
    enum key_type type;
    unsigned flags; /* enum key_flags */
    int64_t min, max;
    const char *choices;
    const char *default_value; /* NULL: none, or worked out (said in `text`) */
    const char *unit;
    const char *text; /* one sentence */
};

/* For tables: name, flags, … Each table ends with KEYS_END. */
#define KEY_ROW_TEXT(n, f, def, sentence)              {n, KEY_TEXT, f, 0, 0, NULL, def, NULL, sentence}
#define KEY_ROW_BOOL(n, f, def, sentence)              {n, KEY_BOOL, f, 0, 0, NULL, def, NULL, sentence}
#define KEY_ROW_NUMBER(n, f, lo, hi, def, u, sentence) {n, KEY_INTEGER, f, lo, hi, NULL, def, u, sentence}
#define KEY_ROW_CHOICE(n, f, list, def, sentence)      {n, KEY_CHOICE, f, 0, 0, list, def, NULL, sentence}
#define KEY_ROW_PEERS(n, f, def, sentence)             {n, KEY_PEERS, f, 0, 0, NULL, def, NULL, sentence}
#define KEY_ROW_SERVERS(n, f, sentence)                {n, KEY_SERVERS, f, 0, 0, NULL, NULL, NULL, sentence}
#define KEYS_END                                       {NULL, KEY_TEXT, 0, 0, 0, NULL, NULL, NULL, NULL}

const struct key *keys_find(const struct key *table, const char *name);
/* For "did you mean": NULL if none is near. */
const char *keys_nearest(const struct key *table, const char *name);
/* 0, or -EINVAL and in `ret_error` what was expected ("a number from 1 to 65535"). */
int keys_check(const struct key *key, const char *value, char *ret_error, unsigned error_size);
bool keys_is_true(const char *value);
/* "a number from 1 to 65535", for people: what any value of this key must be. */
void keys_expected(const struct key *key, char *ret_text, unsigned text_size);

/* The values of one section or file. */
struct settings {
    const struct key *table;
    char **values;        /* one per row, NULL = not given */
    const char **origins; /* where each value came from, for people; literals */
};

int settings_init(struct settings *settings, const struct key *table);
void settings_done(struct settings *settings);
/* The key must be in the table and the value checked. */
int settings_set(struct settings *settings, const char *name, const char *value, const char *origin);
const char *settings_get(const struct settings *settings, const char *name); /* the default if not given; may be NULL */
int64_t settings_get_i64(const struct settings *settings, const char *name, int64_t default_value);
/* As in `from`, which may be: not given. */
int settings_copy(struct settings *settings, const struct settings *from, const char *name);
bool settings_given(const struct settings *settings, const char *name);
const char *settings_origin(const struct settings *settings, const char *name); /* "default" if not given */
