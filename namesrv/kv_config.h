/* Key/value configuration by namespace: the one thing that a name server keeps. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/bytes.h"
#include "json/json_body.h"

/* Where brokers and clients look for the order of topics. */
#define KV_SPACE_ORDER "ORDER_TOPIC_CONFIG"

struct kv_config {
    char *path;
    json_t *namespaces; /* {"NAMESPACE":{"key":"value"}} */
};

/* A file that is damaged is put aside (.damaged) and told, and the configuration starts empty. */
int kv_config_load(struct kv_config *config, const char *path);
void kv_config_free(struct kv_config *config);

/* In the file when these return 0, else nothing has changed: -EINVAL (no proper UTF-8), -E2BIG, or the file's error.
 * Deleting what is not there is fine. */
int kv_config_put(struct kv_config *config, struct bytes space, struct bytes key, struct bytes value);
int kv_config_delete(struct kv_config *config, struct bytes space, struct bytes key);
/* False: none. The value is the configuration's. */
bool kv_config_get(const struct kv_config *config, struct bytes space, struct bytes key, struct bytes *ret_value);
/* {"table":{…}}; false: no such namespace. */
bool kv_config_list(const struct kv_config *config, struct bytes space, struct text *text);
