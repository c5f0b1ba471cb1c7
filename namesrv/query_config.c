/* Requests for the KV configuration, and for the name server's own. Changes are on disk before they are answered. Runs
 * in the name server; the ones that change come only from peers of adminFrom. */
#include "query_config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

static void answer_result(struct query *query, int r, const char *what)
{
    if (r == 0) {
        answer_ok(query);
        return;
    }
    if (r != -EINVAL && r != -E2BIG) {
        board_add(query->namesrv->board, COUNTER_DISK_ERRORS, 1);
        log_error("%s: %s", config_key_name(CONFIG_KV_PATH), strerror(-r));
    }
    answer_refuse(query, RESPONSE_SYSTEM_ERROR, "%s: %s", what,
                  r == -EINVAL  ? "not proper UTF-8, or a key with a NUL byte"
                  : r == -E2BIG ? "the KV configuration would be too large"
                                : strerror(-r));
}

void query_config_put(struct query *query)
{
    const struct bytes *space = answer_need(query, "namespace"), *key = space ? answer_need(query, "key") : NULL;
    const struct bytes *value = key ? answer_need(query, "value") : NULL;
    if (!value)
        return;
    int r = kv_config_put(&query->namesrv->kv, *space, *key, *value);
    if (r == 0)
        log_info("%s put KV configuration %.*s of %.*s", query->peer->address, (int)key->size, (const char *)key->data,
                 (int)space->size, (const char *)space->data);
    answer_result(query, r, "put");
}

/* Apache finds nothing too where the question is not complete. */
void query_config_get(struct query *query)
{
    const struct bytes *space = frame_get(query->frame, "namespace"), *key = frame_get(query->frame, "key");
    struct answer_field field = {"value", {NULL, 0}};
    char remark[256] = "namespace or key is missing";
    if (space && key && kv_config_get(&query->namesrv->kv, *space, *key, &field.value)) {
        answer(query, RESPONSE_SUCCESS, NULL, &field, 1, (struct bytes){NULL, 0});
        return;
    }
    if (space && key)
        snprintf(remark, sizeof remark, "namespace %.*s has no key %.*s", (int)space->size, (const char *)space->data,
                 (int)key->size, (const char *)key->data);
    answer(query, RESPONSE_QUERY_NOT_FOUND, remark, &field, 0, (struct bytes){NULL, 0});
}

void query_config_delete(struct query *query)
{
    const struct bytes *space = answer_need(query, "namespace"), *key = space ? answer_need(query, "key") : NULL;
    if (!key)
        return;
    int r = kv_config_delete(&query->namesrv->kv, *space, *key);
    if (r == 0)
        log_info("%s deleted KV configuration %.*s of %.*s", query->peer->address, (int)key->size,
                 (const char *)key->data, (int)space->size, (const char *)space->data);
    answer_result(query, r, "delete");
}

void query_config_list(struct query *query)
{
    const struct bytes *space = frame_get(query->frame, "namespace");
    struct text text = {NULL, 0, 0};
    if (space && kv_config_list(&query->namesrv->kv, *space, &text))
        answer_text(query, &text);
    else
        answer_refuse(query, RESPONSE_QUERY_NOT_FOUND, "no namespace %.*s", space ? (int)space->size : 0,
                      space ? (const char *)space->data : "");
}

void query_config_update_own(struct query *query)
{
    char reason[256] = "";
    int r = config_update(&query->namesrv->config, query->frame->body, reason, sizeof reason);
    if (r < 0) {
        log_warning("%s asked for a change of the configuration: %s", query->peer->address, reason);
        answer_refuse(query, r == -EACCES ? RESPONSE_NO_PERMISSION : RESPONSE_SYSTEM_ERROR, "%s", reason);
        return;
    }
    log_info("%s changed the configuration", query->peer->address);
    answer_ok(query);
}

void query_config_get_own(struct query *query)
{
    const struct config *config = &query->namesrv->config;
    struct text text = {NULL, 0, 0};
    for (enum config_key key = 0; key < CONFIG_COUNT; key++)
        if (config->values[key])
            text_add(&text, "%s=%s\n", config_key_name(key), config->values[key]);
    answer_text(query, &text);
}
