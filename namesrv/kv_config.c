/* The KV configuration in memory and in Apache's file kvConfig.json, {"configTable":{ns:{key:value}}}. It is kept as
 * the JSON that it is. Runs in the name server; the file is written before a change is answered. */
#include "kv_config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "state_file.h"

enum { FILE_SIZE_MAX = 8 << 20 }; /* a namespace must fit into a frame */

static const char *text_of(struct bytes bytes)
{
    return bytes.size ? (const char *)bytes.data : "";
}

static json_t *find_space(const struct kv_config *config, struct bytes space)
{
    return json_object_getn(config->namespaces, text_of(space), space.size);
}

/* NULL if it is not what Apache writes. */
static json_t *parse(struct bytes text)
{
    const char *error, *name, *key;
    json_t *root = json_body_parse_file(text, &error), *space, *value;
    json_t *table = json_incref(json_object_get(root, "configTable"));
    json_decref(root);
    bool is_good = json_is_object(table);
    json_object_foreach(table, name, space)
    {
        is_good = is_good && json_is_object(space);
        json_object_foreach(space, key, value) is_good = is_good && json_is_string(value);
    }
    if (is_good)
        return table;
    json_decref(table);
    return NULL;
}

static int put_aside(const char *path)
{
    PN_FREE char *aside = NULL;
    if (asprintf(&aside, "%s.damaged", path) < 0)
        return -ENOMEM;
    if (rename(path, aside) < 0)
        return -errno;
    log_error("%s is damaged: it is %s now, the KV configuration starts empty", path, aside);
    return 0;
}

int kv_config_load(struct kv_config *config, const char *path)
{
    struct bytes text = {NULL, 0};
    config->path = path ? strdup(path) : NULL;
    config->namespaces = NULL;
    if (path && !config->path)
        return -ENOMEM;
    int r = path ? state_file_read(path, &text) : -ENOENT;
    if (r < 0 && r != -ENOENT)
        return r;
    if (r == 0) {
        config->namespaces = parse(text);
        free((void *)text.data);
        r = config->namespaces ? 0 : put_aside(path);
        if (r < 0)
            return r;
    }
    if (!config->namespaces)
        config->namespaces = json_object();
    return config->namespaces ? 0 : -ENOMEM;
}

void kv_config_free(struct kv_config *config)
{
    json_decref(config->namespaces);
    free(config->path);
    *config = (struct kv_config){NULL, NULL};
}

static int store(const struct kv_config *config)
{
    if (!config->path)
        return -ENOENT;
    json_t *root = json_pack("{sO}", "configTable", config->namespaces);
    PN_FREE char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    json_decref(root);
    if (!text)
        return -ENOMEM;
    return strlen(text) > FILE_SIZE_MAX ? -E2BIG : state_file_write(config->path, bytes_of(text));
}

/* jansson writes a key with a NUL byte and does not read it again: the next start would find a damaged file. */
static bool has_nul(struct bytes text)
{
    return text.size && memchr(text.data, 0, text.size);
}

int kv_config_put(struct kv_config *config, struct bytes space, struct bytes key, struct bytes value)
{
    if (has_nul(space) || has_nul(key))
        return -EINVAL;
    json_t *text = json_stringn(text_of(value), value.size), *table = find_space(config, space);
    bool is_new = !table;
    if (!text)
        return -EINVAL;
    if (is_new && json_object_setn_new(config->namespaces, text_of(space), space.size, table = json_object()) < 0) {
        json_decref(text);
        return -EINVAL;
    }
    json_t *old = json_incref(json_object_getn(table, text_of(key), key.size));
    int r = json_object_setn_new(table, text_of(key), key.size, text) < 0 ? -EINVAL : store(config);
    if (r < 0 && is_new)
        json_object_deln(config->namespaces, text_of(space), space.size);
    else if (r < 0 && old)
        json_object_setn(table, text_of(key), key.size, old);
    else if (r < 0)
        json_object_deln(table, text_of(key), key.size);
    json_decref(old);
    return r;
}

int kv_config_delete(struct kv_config *config, struct bytes space, struct bytes key)
{
    json_t *table = find_space(config, space);
    json_t *old = json_incref(json_object_getn(table, text_of(key), key.size));
    if (!old)
        return 0;
    json_object_deln(table, text_of(key), key.size);
    int r = store(config);
    if (r < 0)
        json_object_setn(table, text_of(key), key.size, old);
    json_decref(old);
    return r;
}

bool kv_config_get(const struct kv_config *config, struct bytes space, struct bytes key, struct bytes *ret_value)
{
    const json_t *value = json_object_getn(find_space(config, space), text_of(key), key.size);
    if (!value)
        return false;
    *ret_value = (struct bytes){(const uint8_t *)json_string_value(value), json_string_length(value)};
    return true;
}

bool kv_config_list(const struct kv_config *config, struct bytes space, struct text *text)
{
    const json_t *table = find_space(config, space);
    PN_FREE char *dump = table ? json_dumps(table, JSON_COMPACT) : NULL;
    if (!dump)
        return false;
    text_add(text, "{\"table\":%s}", dump);
    return true;
}
