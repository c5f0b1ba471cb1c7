/* The name server's configuration: from the supervisor, and what operators have changed over the wire since. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address_list.h"
#include "base/bytes.h"
#include "base/conf.h"

enum config_key {
    CONFIG_NAME,
    CONFIG_LISTEN,
    CONFIG_LISTEN_PORT,
    CONFIG_ADMIN_FROM,
    CONFIG_ROOT,
    CONFIG_KV_PATH,
    CONFIG_STORE_PATH,
    CONFIG_BLACK_LIST,
    CONFIG_ORDER_MESSAGE,
    CONFIG_RETURN_ORDER,
    CONFIG_ALL_TOPIC_LIST,
    CONFIG_TOPIC_LIST,
    CONFIG_ACTING_MASTER,
    CONFIG_DELETE_TOPIC,
    CONFIG_NEED_WAIT,
    CONFIG_WAIT_SECONDS,
    CONFIG_SCAN_INTERVAL,
    CONFIG_CONNECTIONS_MAX,
    CONFIG_IDLE_S,
    CONFIG_OUTPUT_MAX,
    CONFIG_BUFFERED_MAX,
    CONFIG_UNUSED_FIRST, /* and on: Apache's, kept and shown */
    CONFIG_COUNT = CONFIG_UNUSED_FIRST + 24,
};

struct config {
    char *values[CONFIG_COUNT]; /* NULL: none */
    bool flags[CONFIG_COUNT];   /* of the keys that are true or false */
    int64_t numbers[CONFIG_COUNT];
    bool changed[CONFIG_COUNT]; /* over the wire, now or before a restart: these are in the file */
    struct address_list admin_from;
};

/* `text` is the supervisor's. What was changed at run time is read from configStorePath and wins; a file that cannot be
 * read is told and passed over. On -EINVAL the reason is in `ret_error` (malloc'ed). */
int config_load(struct config *config, const char *text, size_t size, char **ret_error);
/* From the supervisor while it runs: adminFrom, and of what could be changed over the wire that which was not. */
int config_reload(struct config *config, struct conf *granted);
void config_free(struct config *config);

/* Changes all that `properties` names, durably, or nothing: -EACCES (never over the wire), -EINVAL (unknown, wrong, or
 * only with a restart), else the error of the file. The reason is in `ret_reason`. */
int config_update(struct config *config, struct bytes properties, char *ret_reason, size_t reason_size);
const char *config_key_name(enum config_key key);
