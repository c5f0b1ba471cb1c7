/* Consumer groups of this broker: SubscriptionGroupConfig (remoting facts 6.4). Made by the first heartbeat of a group,
 * system groups at start; kept in the image and in config/subscriptionGroup.json. Store process, one thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>

#include "base/bytes.h"
#include "data_version.h"
#include "image.h"
#include "msg/msg.h"
#include "store.h"

struct group {
    char *name;
    int64_t broker_id, which_broker_when_slow;
    int32_t retry_max_times, retry_queues, sys_flag, consume_timeout_minutes;
    bool consume_enable, from_min_enable, broadcast_enable, orderly, notify_members_changed;
    char
        *extra; /* JSON object text of what else the file says of it (attributes, groupRetryPolicy, …); NULL: nothing */
    UT_hash_handle hh;
};

int groups_new(struct groups **ret_groups);
void groups_free(struct groups *groups);
struct group *groups_find(struct groups *groups, struct bytes name);
int groups_each(struct groups *groups, int (*visit)(struct group *group, void *context), void *context);

/* The group, made now with Apache's defaults if there is leave (config, or a system group). NULL: no such group, a name
 * that is not allowed, or no room for it. */
struct group *groups_ensure(struct store *store, struct bytes name);
/* Creates or changes as `wish` says (its name and extra are copied) and tells everybody. -ENOSPC, -EINVAL. */
int groups_put(struct store *store, const struct group *wish, struct group **ret_group);
/* MSG_GROUP_PUT: the rules of UPDATE_AND_CREATE_SUBSCRIPTIONGROUP. Response codes. */
int32_t groups_admin_put(struct store *store, const struct msg_group_put *put, struct bytes name, struct bytes extra,
                         const char **ret_remark);
/* Its configuration and what it may not read; with clean_offsets its offsets too. Members stay, and the next heartbeat
 * makes it anew, as with Apache. */
int32_t groups_admin_drop(struct store *store, struct bytes name, bool clean_offsets, const char **ret_remark);
int32_t groups_forbid(struct store *store, struct bytes name, struct bytes topic, bool forbidden,
                      const char **ret_remark);
/* For each group that may not read something: the JSON object of its topics. */
void groups_each_forbidden(struct groups *groups, void (*visit)(const char *group, const char *json, void *context),
                           void *context);
struct group groups_default(char *name);

int groups_make_system(struct store *store);
int groups_apply_image(struct store *store, enum image_type type, struct bytes payload);
/* A record of the metadata journal at a cold start: a drop leaves offsets to the caller. */
int groups_apply_journal(struct store *store, enum image_type type, struct bytes payload);
/* Whom a put or drop is about; empty if it makes no sense. */
struct bytes groups_image_name(enum image_type type, struct bytes payload, bool *ret_clean_offsets);
void groups_write_image(struct groups *groups, struct image *image);
struct data_version groups_version(const struct groups *groups);
void groups_set_version(struct groups *groups, const struct data_version *version);

/* forbiddenTable of the file (JSON object text, "" = {}): not ours to use yet, but not ours to lose either. */
const char *groups_forbidden(const struct groups *groups);
/* Before the image is written. */
void groups_set_forbidden(struct groups *groups, const char *json, size_t size);
