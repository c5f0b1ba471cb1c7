/* Attributes of a topic: see topic_attributes.h. Nothing is fatal; a change is applied whole or not at all. */
#include "topic_attributes.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/panic.h"

static void json_decref_p(json_t **json)
{
    json_decref(*json);
}

struct attribute {
    const char *name;
    bool immutable;
    const char *values[8]; /* none: any */
};

/* BatchCQ and COMPACTION are absent from the values: this broker does not have those queues. */
static const struct attribute attributes[] = {
    {"queue.type", true, {"SimpleCQ"}},
    {"cleanup.policy", true, {"DELETE"}},
    {"message.type", false, {"UNSPECIFIED", "NORMAL", "FIFO", "DELAY", "TRANSACTION"}},
    {"reserve.time", false, {NULL}},
};

static const struct attribute *find(const char *name)
{
    for (size_t i = 0; i < sizeof attributes / sizeof *attributes; i++)
        if (strcmp(name, attributes[i].name) == 0)
            return &attributes[i];
    return NULL;
}

static bool allows(const struct attribute *attribute, const char *value)
{
    if (!attribute->values[0])
        return *value != 0;
    for (size_t i = 0; i < sizeof attribute->values / sizeof *attribute->values && attribute->values[i]; i++)
        if (strcmp(value, attribute->values[i]) == 0)
            return true;
    return false;
}

/* One of "+name=value" and "-name"; NULL or the reason why not. */
static const char *change_one(json_t *held, char *item, bool is_new)
{
    if (*item != '+' && *item != '-')
        return "an attribute must begin with + or -";
    char *name = item + 1, *value = strchr(name, '=');
    if (value)
        *value++ = 0;
    const struct attribute *attribute = find(name);
    if (!attribute)
        return "unknown attribute";
    if (attribute->immutable && !is_new)
        return "the attribute cannot be changed";
    if (*item == '-') {
        if (is_new)
            return "a new topic has no attribute to take away";
        json_object_del(held, name);
        return NULL;
    }
    if (!value || !allows(attribute, value))
        return "the attribute has no such value here";
    return json_object_set_new(held, name, json_string(value)) < 0 ? "the attribute's value is not UTF-8" : NULL;
}

int topic_attributes_change(const char *extra, struct bytes change, bool is_new, char **ret_extra,
                            const char **ret_remark)
{
    PN_CLEANUP(json_decref_p) json_t *whole = extra && *extra ? json_loads(extra, 0, NULL) : json_object();
    pn_assert(json_is_object(whole));
    json_t *held = json_object_get(whole, "attributes");
    if (!json_is_object(held)) {
        held = json_object();
        json_object_set_new(whole, "attributes", held);
    }
    PN_FREE char *text = strndup((const char *)change.data, change.size);
    pn_assert(text);
    char *rest = NULL;
    for (char *item = strtok_r(text, ",", &rest); item; item = strtok_r(NULL, ",", &rest)) {
        *ret_remark = change_one(held, item, is_new);
        if (*ret_remark)
            return -EINVAL;
    }
    *ret_remark = "";
    if (json_object_size(held) == 0)
        json_object_del(whole, "attributes");
    *ret_extra = json_object_size(whole) ? json_dumps(whole, JSON_COMPACT | JSON_SORT_KEYS) : strdup("");
    pn_assert(*ret_extra);
    return 0;
}
