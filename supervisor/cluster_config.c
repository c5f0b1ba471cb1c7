/* The text that each worker gets as GRANT_CONFIG: Apache-style key=value lines with every default and dependency
 * resolved, so that a worker needs no defaults of its own and two workers of a broker never differ. Runs in the
 * supervisor; the text is small and made anew for each start of a worker. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cluster.h"

/* The .properties dialect reads a backslash as an escape. Values have no line ends: they come from single lines. */
static void put(FILE *out, const char *name, const char *value)
{
    fprintf(out, "%s=", name);
    for (; *value; value++)
        fprintf(out, *value == '\\' ? "\\%c" : "%c", *value);
    fputc('\n', out);
}

__attribute__((format(printf, 3, 4))) static void put_format(FILE *out, const char *name, const char *format, ...)
{
    char value[4096];
    va_list args;
    va_start(args, format);
    vsnprintf(value, sizeof value, format, args);
    va_end(args);
    put(out, name, value);
}

const char *cluster_namesrv_addr(const struct cluster *cluster, const struct cluster_broker *broker)
{
    const char *own = settings_get(&broker->settings, "namesrvAddr");
    return own || !cluster->settings.table ? own : settings_get(&cluster->settings, "namesrvAddr");
}

static bool is_wildcard(const char *address)
{
    return strcmp(address, "0.0.0.0") == 0 || strcmp(address, "::") == 0;
}

char *cluster_namesrv_config(const struct cluster *cluster, const struct cluster_namesrv *namesrv)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    put(out, "pintle.name", namesrv->name);
    put(out, "listen", cluster->listen);
    put_format(out, "listenPort", "%d", namesrv->port);
    put(out, "adminFrom", cluster->admin_from);
    put(out, "sandbox", cluster->sandbox ? "true" : "false");
    put_format(out, "storePathRootDir", "%s/%s", cluster->store_dir, namesrv->name);
    for (const struct key *key = keys_namesrv; key->name; key++) {
        const char *value = settings_get(&namesrv->settings, key->name);
        if (value && strcmp(key->name, "port") != 0)
            put(out, key->name, key->type != KEY_BOOL ? value : keys_is_true(value) ? "true" : "false");
    }
    return fclose(out) == 0 ? text : NULL;
}

/* Keys whose value depends on something outside the Apache file. */
static void put_resolved(FILE *out, const struct cluster *cluster, const struct cluster_broker *broker, const char *root)
{
    const struct settings *settings = &broker->settings;
    const char *name = settings_get(settings, "brokerName"), *cluster_name = settings_get(settings, "brokerClusterName");
    const char *ip1 = settings_get(settings, "brokerIP1");
    const char *ip2 = settings_get(settings, "brokerIP2"), *commit_log = settings_get(settings, "storePathCommitLog");
    if (!ip1)
        ip1 = is_wildcard(broker->listen) ? "" : broker->listen;
    put(out, "brokerName", name ? name : broker->name);
    put(out, "brokerClusterName", cluster_name ? cluster_name : cluster->name);
    put(out, "brokerIP1", ip1);
    put(out, "brokerIP2", ip2 ? ip2 : ip1);
    put(out, "listen", broker->listen);
    put(out, "bindAddress", broker->listen);
    put_format(out, "listenPort", "%d", broker->port);
    put(out, "adminFrom", cluster->admin_from);
    put(out, "sandbox", cluster->sandbox ? "true" : "false");
    put_format(out, "haListenPort", "%d", (int)settings_get_i64(settings, "haListenPort", broker->port + 1));
    put(out, "storePathRootDir", root);
    if (commit_log)
        put(out, "storePathCommitLog", commit_log);
    const char *foreign = cluster_namesrv_addr(cluster, broker);
    if (foreign)
        put(out, "namesrvAddr", foreign);
    fputs("pintle.namesrvs=", out);
    for (unsigned i = 0; i < cluster->namesrv_count; i++)
        fprintf(out, "%s%s", i ? ";" : "", cluster->namesrvs[i].name);
    /* So that a front knows them when namesrvAddr names them too. */
    fputs("\npintle.namesrvAddr=", out);
    for (unsigned i = 0; i < cluster->namesrv_count; i++)
        fprintf(out, "%s%s:%d", i ? ";" : "", cluster->listen, cluster->namesrvs[i].port);
    fputc('\n', out);
}

/* Rows without a default are resolved above, or Apache's alone and passed on if given: mqadmin shows them. */
char *cluster_broker_config(const struct cluster *cluster, const struct cluster_broker *broker)
{
    char *text = NULL;
    size_t size = 0;
    PN_FREE char *root = cluster_store_root(cluster, broker);
    FILE *out = root ? open_memstream(&text, &size) : NULL;
    if (!out)
        return NULL;
    put_resolved(out, cluster, broker, root);
    for (const struct key *key = broker_keys; key->name; key++) {
        const char *value = settings_get(&broker->settings, key->name);
        if (value && (key->default_value || key->flags & KEY_UNUSED))
            put(out, key->name, key->type != KEY_BOOL ? value : keys_is_true(value) ? "true" : "false");
    }
    return fclose(out) == 0 ? text : NULL;
}
