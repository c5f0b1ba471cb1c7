/* Reads the files of the start again, compares key by key with what is in force, takes over what its row in the key table
 * calls reloadable, and tells every worker, whose successors then get the same. What waits for a restart stays as it was
 * also for successors: a key never changes because one worker happens to die. Runs in the supervisor. Not fatal: a bad
 * file is refused whole. */
#include "reload.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/panic.h"
#include "bus/bus_msg.h"
#include "contract.h"
#include "notify.h"
#include "supervisor.h"

/* One table of keys: what is in force, what the files say now, and what was changed at run time (NULL: nothing can be). */
struct comparison {
    const char *where;
    struct settings *now;
    const struct settings *fresh, *run_time;
    json_t *changes;
};

static const char *state_of(const struct key *key)
{
    return key->flags & KEY_RELOADABLE ? "applied" : key->flags & KEY_UNUSED ? "unused" : "restart";
}

static bool is_same(const struct key *key, const char *a, const char *b)
{
    if (!a || !b)
        return a == b;
    return key->type == KEY_BOOL ? keys_is_true(a) == keys_is_true(b) : strcmp(a, b) == 0;
}

static void add(json_t *changes, const char *where, const char *key, const char *from, const char *to, const char *state)
{
    json_t *change = json_pack("{s:s, s:s, s:s?, s:s?, s:s}", "where", where, "key", key, "from", from, "to", to, "state",
                               state);
    if (!change || json_array_append_new(changes, change) < 0)
        PANIC("out of memory");
    log_info("reload: %s: %s is %s, was %s: %s", where, key, to ? to : "not given", from ? from : "not given", state);
}

static void compare(const struct comparison *c)
{
    for (const struct key *key = c->now->table; key->name; key++) {
        const char *was = settings_get(c->now, key->name), *is = settings_get(c->fresh, key->name);
        if (c->run_time && settings_given(c->run_time, key->name)) {
            const char *wins = settings_get(c->run_time, key->name);
            if (settings_given(c->fresh, key->name) && !is_same(key, wins, is))
                add(c->changes, c->where, key->name, wins, is, "run-time");
            continue;
        }
        if (is_same(key, was, is))
            continue;
        add(c->changes, c->where, key->name, was, is, state_of(key));
        if (key->flags & (KEY_RELOADABLE | KEY_UNUSED) && settings_copy(c->now, c->fresh, key->name) < 0)
            PANIC("out of memory");
    }
}

static struct cluster_broker *find_broker(const struct cluster *cluster, const char *name)
{
    for (unsigned i = 0; i < cluster->broker_count; i++)
        if (strcmp(cluster->brokers[i].name, name) == 0)
            return &cluster->brokers[i];
    return NULL;
}

static struct cluster_namesrv *find_namesrv(const struct cluster *cluster, const char *name)
{
    for (unsigned i = 0; i < cluster->namesrv_count; i++)
        if (strcmp(cluster->namesrvs[i].name, name) == 0)
            return &cluster->namesrvs[i];
    return NULL;
}

static void compare_broker(struct cluster_broker *broker, const struct cluster_broker *fresh,
                           const struct settings *run_time, json_t *changes)
{
    char section[128], conf[128];
    snprintf(section, sizeof section, "broker %s", broker->name);
    snprintf(conf, sizeof conf, "broker.conf %s", broker->name);
    compare(&(struct comparison){section, &broker->section, &fresh->section, NULL, changes});
    compare(&(struct comparison){conf, &broker->settings, &fresh->settings, run_time, changes});
}

/* Sections that have come or gone: processes and ports, so a restart. */
static void compare_names(const struct cluster *now, const struct cluster *fresh, json_t *changes)
{
    for (unsigned i = 0; i < fresh->broker_count; i++)
        if (!find_broker(now, fresh->brokers[i].name))
            add(changes, "broker", fresh->brokers[i].name, NULL, "there", "restart");
    for (unsigned i = 0; i < now->broker_count; i++)
        if (!find_broker(fresh, now->brokers[i].name))
            add(changes, "broker", now->brokers[i].name, "there", NULL, "restart");
    for (unsigned i = 0; i < fresh->namesrv_count; i++)
        if (!find_namesrv(now, fresh->namesrvs[i].name))
            add(changes, "namesrv", fresh->namesrvs[i].name, NULL, "there", "restart");
    for (unsigned i = 0; i < now->namesrv_count; i++)
        if (!find_namesrv(fresh, now->namesrvs[i].name))
            add(changes, "namesrv", now->namesrvs[i].name, "there", NULL, "restart");
}

static int compare_all(struct cluster *now, const struct cluster *fresh, json_t *changes, struct failure *failure)
{
    compare(&(struct comparison){"cluster", &now->settings, &fresh->settings, NULL, changes});
    compare_names(now, fresh, changes);
    for (unsigned i = 0; i < now->namesrv_count; i++) {
        struct cluster_namesrv *namesrv = &now->namesrvs[i], *other = find_namesrv(fresh, namesrv->name);
        char where[128];
        snprintf(where, sizeof where, "namesrv %s", namesrv->name);
        if (other)
            compare(&(struct comparison){where, &namesrv->settings, &other->settings, NULL, changes});
    }
    int r = 0;
    for (unsigned i = 0; i < now->broker_count && r == 0; i++) {
        struct cluster_broker *broker = &now->brokers[i], *other = find_broker(fresh, broker->name);
        struct settings run_time;
        if (!other)
            continue;
        if (settings_init(&run_time, broker_keys) < 0)
            return failure_set(failure, EXIT_CODE_IO, "out of memory");
        r = cluster_read_run_time_file(now, broker, &run_time, failure);
        if (r == 0)
            compare_broker(broker, other, &run_time, changes);
        settings_done(&run_time);
    }
    return r;
}

void reload_tell(struct worker *worker)
{
    const struct cluster *cluster = worker->supervisor->cluster;
    PN_FREE char *text = worker->broker ? cluster_broker_config(cluster, worker->broker->config)
                                        : cluster_namesrv_config(cluster, worker->namesrv);
    struct bytes message = {NULL, 0};
    if (!text || bus_msg_encode_reload(text, &message) < 0) {
        log_error("%s: no memory to tell it its configuration", worker->name);
        return;
    }
    (void)bus_send(worker->supervisor->bus, bytes_of(worker->name), message); /* else it is told at its next hello */
    free((void *)message.data);
}

static int take(struct supervisor *supervisor, const struct cluster *fresh, json_t *changes, struct failure *failure)
{
    struct cluster *cluster = supervisor->cluster;
    char *admin_from = strdup(fresh->admin_from);
    if (!admin_from)
        return failure_set(failure, EXIT_CODE_IO, "out of memory");
    int r = compare_all(cluster, fresh, changes, failure);
    free(cluster->admin_from);
    cluster->admin_from = admin_from;
    supervisor->was_reloaded = true;
    for (unsigned i = 0; i < supervisor->worker_count; i++)
        if (supervisor->workers[i]->said_hello)
            reload_tell(supervisor->workers[i]);
    return r;
}

int reload(struct supervisor *supervisor, json_t **ret_changes, struct failure *failure)
{
    struct options options = *supervisor->options;
    struct cluster *fresh = NULL;
    if (supervisor->phase != PHASE_SERVING)
        return failure_set(failure, EXIT_CODE_IO, "the cluster is %s",
                           supervisor->phase == PHASE_STARTING ? "still starting" : "stopping");
    *ret_changes = json_array();
    if (!*ret_changes)
        return failure_set(failure, EXIT_CODE_IO, "out of memory");
    notify_reloading();
    options.files_only = true;
    int r = cluster_load(&options, &fresh, failure);
    if (r == 0)
        r = take(supervisor, fresh, *ret_changes, failure);
    cluster_free(fresh);
    if (r < 0)
        log_error("reload: %s; everything stays as it was", failure->text);
    else
        log_info("reload: %zu change%s", json_array_size(*ret_changes), json_array_size(*ret_changes) == 1 ? "" : "s");
    notify_reloaded(supervisor);
    return r;
}
