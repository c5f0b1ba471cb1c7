/* What can be done with any table of keys: find a row, suggest the nearest, check a value, keep values. Any process; no
 * state; who reads files and says file and line is the caller. */
#include "base/keys.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/address_list.h"
#include "base/conf.h"
#include "base/endpoint_list.h"
#include "base/panic.h"

const struct key *keys_find(const struct key *table, const char *name)
{
    for (const struct key *key = table; key->name; key++)
        if (strcmp(key->name, name) == 0)
            return key;
    return NULL;
}

const char *keys_nearest(const struct key *table, const char *name)
{
    enum { ROWS_MAX = 1024 };
    const char *names[ROWS_MAX];
    unsigned count = 0;
    for (const struct key *key = table; key->name; key++) {
        pn_assert(count < ROWS_MAX - 1);
        names[count++] = key->name;
    }
    names[count] = NULL;
    return conf_nearest(name, names);
}

static bool one_of(const char *value, const char *const *words)
{
    for (; *words; words++)
        if (strcasecmp(value, *words) == 0)
            return true;
    return false;
}

bool keys_is_true(const char *value)
{
    return one_of(value, (const char *const[]){"true", "on", "yes", NULL});
}

static bool is_choice(const char *choices, const char *value)
{
    size_t size = strlen(value);
    for (const char *p = choices; p && size > 0; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
        if (strncmp(p, value, size) == 0 && (p[size] == '|' || p[size] == 0))
            return true;
    return false;
}

void keys_expected(const struct key *key, char *ret_text, unsigned text_size)
{
    switch (key->type) {
    case KEY_TEXT:
        snprintf(ret_text, text_size, "text");
        return;
    case KEY_BOOL:
        snprintf(ret_text, text_size, "true or false");
        return;
    case KEY_INTEGER:
        snprintf(ret_text, text_size, "a number from %lld to %lld%s%s", (long long)key->min, (long long)key->max,
                 key->unit ? " " : "", key->unit ? key->unit : "");
        return;
    case KEY_CHOICE:
        snprintf(ret_text, text_size, "%s", key->choices);
        return;
    case KEY_PEERS:
        snprintf(ret_text, text_size, "addresses, networks like 10.0.0.0/8, loopback or any, at most %d",
                 ADDRESS_LIST_MAX);
        return;
    case KEY_SERVERS:
        snprintf(ret_text, text_size, "host:port;host:port, at most %d", ENDPOINT_LIST_MAX);
        return;
    }
    PANIC("key type %d", key->type);
}

static bool is_number(const struct key *key, const char *value)
{
    char *end;
    errno = 0;
    long long number = strtoll(value, &end, 10);
    return errno == 0 && end != value && *end == 0 && number >= key->min && number <= key->max;
}

int keys_check(const struct key *key, const char *value, char *ret_error, unsigned error_size)
{
    bool good = false;
    switch (key->type) {
    case KEY_TEXT:
        good = true;
        break;
    case KEY_BOOL:
        good = keys_is_true(value) || one_of(value, (const char *const[]){"false", "off", "no", NULL});
        break;
    case KEY_INTEGER:
        good = is_number(key, value);
        break;
    case KEY_CHOICE:
        good = is_choice(key->choices, value);
        break;
    case KEY_PEERS:
        good = address_list_parse(value, &(struct address_list){.count = 0}) == 0;
        break;
    case KEY_SERVERS:
        good = endpoint_list_parse(value, NULL) >= 0;
        break;
    }
    if (good)
        return 0;
    keys_expected(key, ret_error, error_size);
    return -EINVAL;
}

int settings_init(struct settings *settings, const struct key *table)
{
    unsigned count = 0;
    while (table[count].name)
        count++;
    settings->table = table;
    settings->values = calloc(count, sizeof *settings->values);
    settings->origins = calloc(count, sizeof *settings->origins);
    if (settings->values && settings->origins)
        return 0;
    settings_done(settings);
    return -ENOMEM;
}

void settings_done(struct settings *settings)
{
    for (unsigned i = 0; settings->values && settings->table[i].name; i++)
        free(settings->values[i]);
    free(settings->values);
    free(settings->origins);
    settings->values = NULL;
    settings->origins = NULL;
}

static unsigned row_of(const struct settings *settings, const char *name)
{
    const struct key *key = keys_find(settings->table, name);
    pn_assert(key);
    return (unsigned)(key - settings->table);
}

int settings_set(struct settings *settings, const char *name, const char *value, const char *origin)
{
    unsigned row = row_of(settings, name);
    char **slot = &settings->values[row];
    char *copy = strdup(value);
    if (!copy)
        return -ENOMEM;
    free(*slot);
    *slot = copy;
    settings->origins[row] = origin;
    return 0;
}

int settings_copy(struct settings *settings, const struct settings *from, const char *name)
{
    unsigned row = row_of(settings, name);
    if (from->values[row])
        return settings_set(settings, name, from->values[row], from->origins[row]);
    free(settings->values[row]);
    settings->values[row] = NULL;
    return 0;
}

const char *settings_get(const struct settings *settings, const char *name)
{
    unsigned row = row_of(settings, name);
    return settings->values[row] ? settings->values[row] : settings->table[row].default_value;
}

int64_t settings_get_i64(const struct settings *settings, const char *name, int64_t default_value)
{
    const char *value = settings_get(settings, name);
    return value ? strtoll(value, NULL, 10) : default_value;
}

bool settings_given(const struct settings *settings, const char *name)
{
    return settings->values[row_of(settings, name)] != NULL;
}

const char *settings_origin(const struct settings *settings, const char *name)
{
    unsigned row = row_of(settings, name);
    return settings->values[row] ? settings->origins[row] : "default";
}
