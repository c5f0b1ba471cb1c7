/* Consumer groups: see groups.h. Order of a change as for topics: room in the image, table, image record, then
 * catalogue and file. Nothing is fatal here but our own inconsistency. */
#include "groups.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/panic.h"
#include "catalogue.h"
#include "codes.h"
#include "config_files.h"
#include "msg/names.h"
#include "offsets.h"

enum {
    GROUP_EXTRA_MAX = MSG_EXTRA_MAX,
    FORBIDDEN_READ = 4, /* Apache's bit: 1 << INDEX_PERM_READ */
};

struct groups {
    struct group *by_name;
    struct data_version version;
    char *forbidden;
};

int groups_new(struct groups **ret_groups)
{
    *ret_groups = calloc(1, sizeof **ret_groups);
    return *ret_groups ? 0 : -ENOMEM;
}

void groups_free(struct groups *groups)
{
    if (!groups)
        return;
    struct group *group, *next;
    HASH_ITER(hh, groups->by_name, group, next)
    {
        HASH_DEL(groups->by_name, group);
        free(group->name);
        free(group->extra);
        free(group);
    }
    free(groups->forbidden);
    free(groups);
}

struct group *groups_find(struct groups *groups, struct bytes name)
{
    struct group *group = NULL;
    if (name.size > 0)
        HASH_FIND(hh, groups->by_name, name.data, name.size, group);
    return group;
}

int groups_each(struct groups *groups, int (*visit)(struct group *group, void *context), void *context)
{
    struct group *group, *next;
    HASH_ITER(hh, groups->by_name, group, next)
    {
        int r = visit(group, context);
        if (r != 0)
            return r;
    }
    return 0;
}

struct data_version groups_version(const struct groups *groups)
{
    return groups->version;
}

void groups_set_version(struct groups *groups, const struct data_version *version)
{
    groups->version = *version;
}

const char *groups_forbidden(const struct groups *groups)
{
    return groups->forbidden ? groups->forbidden : "";
}

void groups_set_forbidden(struct groups *groups, const char *json, size_t size)
{
    if (size > GROUP_EXTRA_MAX) {
        log_warning("subscriptionGroup.json: forbiddenTable of %zu bytes is too large and is dropped", size);
        size = 0;
    }
    free(groups->forbidden);
    groups->forbidden = size ? strndup(json, size) : NULL;
}

static const char *const system_groups[] = {
    "TOOLS_CONSUMER",  "FILTERSRV_CONSUMER",    "SELF_TEST_C_GROUP", "CID_ONS-HTTP-PROXY",
    "CID_ONSAPI_PULL", "CID_ONSAPI_PERMISSION", "CID_ONSAPI_OWNER",  "CID_RMQ_SYS_TRANS",
};
enum { SYSTEM_GROUP_COUNT = sizeof system_groups / sizeof *system_groups };

static bool is_system(struct bytes name)
{
    for (size_t i = 0; i < SYSTEM_GROUP_COUNT; i++)
        if (bytes_equal_text(name, system_groups[i]))
            return true;
    static const char prefix[] = "CID_RMQ_SYS_";
    return name.size >= sizeof prefix - 1 && memcmp(name.data, prefix, sizeof prefix - 1) == 0;
}

/* Image. */

static void write_record(struct groups *groups, struct image *image, const struct group *group)
{
    struct cursor c = image_begin(image, IMAGE_GROUP_PUT);
    data_version_put(&c, &groups->version);
    cursor_put_i64(&c, group->broker_id);
    cursor_put_i64(&c, group->which_broker_when_slow);
    cursor_put_i32(&c, group->retry_max_times);
    cursor_put_i32(&c, group->retry_queues);
    cursor_put_i32(&c, group->sys_flag);
    cursor_put_i32(&c, group->consume_timeout_minutes);
    cursor_put_u8(&c, group->consume_enable);
    cursor_put_u8(&c, group->from_min_enable);
    cursor_put_u8(&c, group->broadcast_enable);
    cursor_put_u8(&c, group->orderly);
    cursor_put_u8(&c, group->notify_members_changed);
    cursor_put_string(&c, bytes_of(group->name));
    cursor_put_string(&c, bytes_of(group->extra ? group->extra : ""));
    image_end(image, &c);
}

static void write_version(struct groups *groups, struct image *image)
{
    struct cursor c = image_begin(image, IMAGE_GROUPS_VERSION);
    data_version_put(&c, &groups->version);
    cursor_put_string(&c, bytes_of(groups_forbidden(groups)));
    image_end(image, &c);
}

void groups_write_image(struct groups *groups, struct image *image)
{
    struct group *group, *next;
    HASH_ITER(hh, groups->by_name, group, next)
    write_record(groups, image, group);
    write_version(groups, image);
}

/* Everything of `wish` but its name, which the entry keeps. */
static void copy_into(struct group *group, const struct group *wish)
{
    char *extra = wish->extra && *wish->extra ? strdup(wish->extra) : NULL;
    pn_assert(extra || !wish->extra || !*wish->extra);
    free(group->extra);
    struct group copy = *wish;
    copy.name = group->name;
    copy.extra = extra;
    copy.hh = group->hh;
    *group = copy;
}

static struct group *new_group(struct groups *groups, struct bytes name)
{
    struct group *group = calloc(1, sizeof *group);
    pn_assert(group);
    group->name = strndup((const char *)name.data, name.size);
    pn_assert(group->name);
    HASH_ADD_KEYPTR(hh, groups->by_name, group->name, name.size, group);
    return group;
}

static int read_put(struct cursor *c, struct data_version *ret_version, struct group *ret_group, struct bytes *ret_name,
                    struct bytes *ret_extra)
{
    *ret_version = data_version_get(c);
    ret_group->broker_id = cursor_get_i64(c);
    ret_group->which_broker_when_slow = cursor_get_i64(c);
    ret_group->retry_max_times = cursor_get_i32(c);
    ret_group->retry_queues = cursor_get_i32(c);
    ret_group->sys_flag = cursor_get_i32(c);
    ret_group->consume_timeout_minutes = cursor_get_i32(c);
    ret_group->consume_enable = cursor_get_u8(c);
    ret_group->from_min_enable = cursor_get_u8(c);
    ret_group->broadcast_enable = cursor_get_u8(c);
    ret_group->orderly = cursor_get_u8(c);
    ret_group->notify_members_changed = cursor_get_u8(c);
    *ret_name = cursor_get_string(c);
    *ret_extra = cursor_get_string(c);
    return c->bad || ret_name->size == 0 || memchr(ret_name->data, 0, ret_name->size) ? -EBADMSG : 0;
}

static int apply_put(struct groups *groups, struct cursor *c)
{
    struct group read = {0};
    struct data_version version;
    struct bytes name, extra;
    if (read_put(c, &version, &read, &name, &extra) < 0)
        return -EBADMSG;
    struct group *group = groups_find(groups, name);
    if (!group)
        group = new_group(groups, name);
    read.extra = strndup((const char *)extra.data, extra.size);
    copy_into(group, &read);
    free(read.extra);
    groups->version = version;
    return 0;
}

static void remove_group(struct groups *groups, struct bytes name)
{
    struct group *group = groups_find(groups, name);
    if (!group)
        return;
    HASH_DEL(groups->by_name, group);
    free(group->name);
    free(group->extra);
    free(group);
}

static int read_drop(struct cursor *c, struct data_version *ret_version, bool *ret_clean_offsets, struct bytes *ret_name)
{
    *ret_version = data_version_get(c);
    *ret_clean_offsets = cursor_get_u8(c);
    *ret_name = cursor_get_string(c);
    return c->bad || ret_name->size == 0 ? -EBADMSG : 0;
}

struct bytes groups_image_name(enum image_type type, struct bytes payload, bool *ret_clean_offsets)
{
    struct cursor c = cursor_over(payload.data, payload.size);
    struct data_version version;
    struct group read;
    struct bytes name = {NULL, 0}, extra;
    *ret_clean_offsets = false;
    int r = type == IMAGE_GROUP_PUT    ? read_put(&c, &version, &read, &name, &extra)
            : type == IMAGE_GROUP_DROP ? read_drop(&c, &version, ret_clean_offsets, &name)
                                       : -EBADMSG;
    return r < 0 ? (struct bytes){NULL, 0} : name;
}

static int apply_drop(struct store *store, struct cursor *c)
{
    struct data_version version;
    bool clean_offsets;
    struct bytes name;
    if (read_drop(c, &version, &clean_offsets, &name) < 0)
        return -EBADMSG;
    remove_group(store->groups, name);
    if (clean_offsets)
        offsets_forget_group(store->offsets, name);
    store->groups->version = version;
    return 0;
}

int groups_apply_image(struct store *store, enum image_type type, struct bytes payload)
{
    struct cursor c = cursor_over(payload.data, payload.size);
    if (type == IMAGE_GROUP_PUT)
        return apply_put(store->groups, &c);
    if (type == IMAGE_GROUP_DROP)
        return apply_drop(store, &c);
    if (type != IMAGE_GROUPS_VERSION)
        return -EBADMSG;
    store->groups->version = data_version_get(&c);
    struct bytes forbidden = cursor_get_string(&c);
    groups_set_forbidden(store->groups, (const char *)forbidden.data, forbidden.size);
    return c.bad ? -EBADMSG : 0;
}

int groups_apply_journal(struct store *store, enum image_type type, struct bytes payload)
{
    struct cursor c = cursor_over(payload.data, payload.size);
    if (type != IMAGE_GROUP_DROP)
        return groups_apply_image(store, type, payload);
    struct data_version version;
    bool clean_offsets;
    struct bytes name;
    if (read_drop(&c, &version, &clean_offsets, &name) < 0)
        return -EBADMSG;
    remove_group(store->groups, name);
    store->groups->version = version;
    return 0;
}

/* Changes. */

struct group groups_default(char *name)
{
    return (struct group){.name = name,
                          .which_broker_when_slow = 1,
                          .retry_max_times = 16,
                          .retry_queues = 1,
                          .consume_timeout_minutes = 15,
                          .consume_enable = true,
                          .from_min_enable = true,
                          .broadcast_enable = true,
                          .notify_members_changed = true};
}

int groups_put(struct store *store, const struct group *wish, struct group **ret_group)
{
    struct bytes name = bytes_of(wish->name);
    size_t extra_size = wish->extra ? strlen(wish->extra) : 0;
    if (!name_group_valid(name) || extra_size > GROUP_EXTRA_MAX)
        return -EINVAL;
    int r = image_make_room(store->image, 1, name.size + extra_size + 128);
    if (r < 0)
        return r;
    struct group *group = groups_find(store->groups, name);
    if (!group)
        group = new_group(store->groups, name);
    copy_into(group, wish);
    data_version_next(&store->groups->version);
    write_record(store->groups, store->image, group);
    catalogue_group(store, group);
    config_files_changed(store, CONFIG_FILE_GROUPS);
    *ret_group = group;
    return 0;
}

struct group *groups_ensure(struct store *store, struct bytes name)
{
    struct group *group = groups_find(store->groups, name);
    if (group)
        return group;
    if (!name_group_valid(name) || !(store->config.auto_create_group || is_system(name)))
        return NULL;
    char text[NAME_GROUP_MAX + 1];
    memcpy(text, name.data, name.size);
    text[name.size] = 0;
    struct group wish = groups_default(text);
    int r = groups_put(store, &wish, &group);
    if (r < 0)
        log_error("cannot make group %s: %s", text, strerror(-r));
    return r < 0 ? NULL : group;
}

int groups_make_system(struct store *store)
{
    for (size_t i = 0; i < SYSTEM_GROUP_COUNT; i++)
        if (!groups_ensure(store, bytes_of(system_groups[i])))
            return -ENOSPC;
    return 0;
}

/* Administration. */

static int32_t refused(int r, const char **ret_remark)
{
    *ret_remark = r == -EINVAL ? "the group's name is empty, too long or has other characters than %|a-zA-Z0-9_-, or its "
                                 "further settings are too long"
                               : "no room for more groups";
    return r == -EINVAL ? CODE_INVALID_PARAMETER : CODE_SYSTEM_ERROR;
}

static int32_t auto_create(struct store *store, struct bytes name, const char **ret_remark)
{
    if (groups_ensure(store, name))
        return CODE_SUCCESS;
    *ret_remark = "the consumer group does not exist and may not be made";
    return CODE_SUBSCRIPTION_GROUP_NOT_EXIST;
}

int32_t groups_admin_put(struct store *store, const struct msg_group_put *put, struct bytes name, struct bytes extra,
                         const char **ret_remark)
{
    *ret_remark = "";
    if (put->flags & MSG_GROUP_AUTO)
        return auto_create(store, name, ret_remark);
    PN_FREE char *name_text = strndup((const char *)name.data, name.size);
    PN_FREE char *extra_text = strndup((const char *)extra.data, extra.size);
    pn_assert(name_text && extra_text);
    if (strlen(name_text) != name.size || strlen(extra_text) != extra.size)
        return refused(-EINVAL, ret_remark);
    struct group wish = {
        .name = name_text,
        .broker_id = put->broker_id,
        .which_broker_when_slow = put->which_broker_when_slow,
        .retry_max_times = put->retry_max_times,
        .retry_queues = put->retry_queues,
        .sys_flag = put->group_sys_flag,
        .consume_timeout_minutes = put->consume_timeout_minutes,
        .consume_enable = put->consume_enable,
        .from_min_enable = put->consume_from_min_enable,
        .broadcast_enable = put->consume_broadcast_enable,
        .orderly = put->consume_orderly,
        .notify_members_changed = put->notify_members_changed,
        .extra = extra_text,
    };
    struct group *group;
    int r = groups_put(store, &wish, &group);
    return r < 0 ? refused(r, ret_remark) : CODE_SUCCESS;
}

static void json_decref_p(json_t **json)
{
    json_decref(*json);
}

static json_t *forbidden_table(const struct groups *groups)
{
    json_t *table = *groups_forbidden(groups) ? json_loads(groups_forbidden(groups), 0, NULL) : json_object();
    if (json_is_object(table))
        return table;
    json_decref(table);
    return json_object();
}

void groups_each_forbidden(struct groups *groups, void (*visit)(const char *group, const char *json, void *context),
                           void *context)
{
    if (!groups->forbidden)
        return;
    PN_CLEANUP(json_decref_p) json_t *table = forbidden_table(groups);
    const char *group;
    json_t *topics;
    json_object_foreach(table, group, topics)
    {
        PN_FREE char *text = json_is_object(topics) ? json_dumps(topics, JSON_COMPACT) : NULL;
        if (text)
            visit(group, text, context);
    }
}

/* The table after a change, in memory, image and catalogue. -ENOSPC. */
static int put_forbidden(struct store *store, json_t *table, const char *group)
{
    PN_FREE char *text = json_object_size(table) ? json_dumps(table, JSON_COMPACT) : strdup("");
    pn_assert(text);
    size_t size = strlen(text);
    if (size > GROUP_EXTRA_MAX || image_make_room(store->image, 1, size + 64) < 0)
        return -ENOSPC;
    groups_set_forbidden(store->groups, text, size);
    data_version_next(&store->groups->version);
    write_version(store->groups, store->image);
    PN_FREE char *topics = json_dumps(json_object_get(table, group), JSON_COMPACT);
    catalogue_forbidden(store, group, topics ? topics : "");
    config_files_changed(store, CONFIG_FILE_GROUPS);
    return 0;
}

int32_t groups_forbid(struct store *store, struct bytes name, struct bytes topic, bool forbidden,
                      const char **ret_remark)
{
    *ret_remark = "";
    PN_FREE char *group = strndup((const char *)name.data, name.size);
    PN_FREE char *topic_name = strndup((const char *)topic.data, topic.size);
    pn_assert(group && topic_name);
    PN_CLEANUP(json_decref_p) json_t *table = forbidden_table(store->groups);
    json_t *topics = json_object_get(table, group);
    int64_t bits = json_integer_value(json_object_get(topics, topic_name));
    int64_t wanted = forbidden ? bits | FORBIDDEN_READ : bits & ~FORBIDDEN_READ;
    if (wanted == bits)
        return CODE_SUCCESS;
    if (!json_is_object(topics)) {
        topics = json_object();
        if (json_object_set_new(table, group, topics) < 0)
            return refused(-EINVAL, ret_remark);
    }
    if (wanted && json_object_set_new(topics, topic_name, json_integer(wanted)) < 0)
        return refused(-EINVAL, ret_remark);
    if (!wanted)
        json_object_del(topics, topic_name);
    if (json_object_size(topics) == 0)
        json_object_del(table, group);
    int r = put_forbidden(store, table, group);
    return r < 0 ? refused(r, ret_remark) : CODE_SUCCESS;
}

int32_t groups_admin_drop(struct store *store, struct bytes name, bool clean_offsets, const char **ret_remark)
{
    *ret_remark = "";
    PN_FREE char *text = strndup((const char *)name.data, name.size);
    pn_assert(text);
    PN_CLEANUP(json_decref_p) json_t *table = forbidden_table(store->groups);
    int r = json_object_del(table, text) == 0 ? put_forbidden(store, table, text) : 0;
    if (r == 0)
        r = image_make_room(store->image, 1, name.size + 64);
    if (r < 0)
        return refused(r, ret_remark);
    bool is_known = groups_find(store->groups, name);
    if (is_known)
        data_version_next(&store->groups->version);
    if (clean_offsets)
        offsets_forget_group(store->offsets, name);
    remove_group(store->groups, name);
    struct cursor c = image_begin(store->image, IMAGE_GROUP_DROP);
    data_version_put(&c, &store->groups->version);
    cursor_put_u8(&c, clean_offsets);
    cursor_put_string(&c, name);
    image_end(store->image, &c);
    if (is_known)
        catalogue_group_drop(store, text);
    config_files_changed(store, CONFIG_FILE_GROUPS);
    if (clean_offsets)
        config_files_changed(store, CONFIG_FILE_OFFSETS);
    return CODE_SUCCESS;
}
