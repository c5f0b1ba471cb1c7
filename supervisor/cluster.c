/* Makes the cluster from a preset or a cluster file (INI dialect), each broker's unchanged Apache broker.conf and the
 * command line, in this order; the later one wins. Runs in the supervisor before anything else exists, so every mistake
 * is fatal to the start: exit code 78, with file and line. Only an unknown key in an Apache file is a warning: Apache has
 * hundreds of keys, and a file that worked there must work here. */
#include "cluster.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/conf.h"
#include "base/log.h"
#include "contract.h"

enum {
    NAMESRV_PORT = 9876,
    BROKER_PORT = 10911,
    BROKER_PORT_STEP = 10,
    NAME_MAX_SIZE = 64,
};

#define SYSTEM_CLUSTER_FILE "/etc/pintle/cluster.conf"

static const struct {
    const char *name;
    unsigned broker_count;
} presets[] = {{"1m", 1}, {"2m", 2}};

static int out_of_memory(struct failure *failure)
{
    return failure_set(failure, EXIT_CODE_IO, "out of memory");
}

/* Names become file names, socket names and part of bus identities. */
static bool name_is_valid(const char *name)
{
    size_t size = strlen(name);
    if (size == 0 || size > NAME_MAX_SIZE || name[0] == '.')
        return false;
    for (; *name; name++)
        if (!isalnum((unsigned char)*name) && !strchr("-_.", *name))
            return false;
    return true;
}

static struct cluster_namesrv *add_namesrv(struct cluster *cluster, const char *name)
{
    struct cluster_namesrv *list =
        reallocarray(cluster->namesrvs, cluster->namesrv_count + 1, sizeof *cluster->namesrvs);
    if (!list)
        return NULL;
    cluster->namesrvs = list;
    struct cluster_namesrv *namesrv = &list[cluster->namesrv_count];
    *namesrv = (struct cluster_namesrv){.name = strdup(name), .port = NAMESRV_PORT + (int)cluster->namesrv_count};
    cluster->namesrv_count++;
    return namesrv->name && settings_init(&namesrv->settings, keys_namesrv) == 0 ? namesrv : NULL;
}

static struct cluster_broker *add_broker(struct cluster *cluster, const char *name)
{
    struct cluster_broker *list = reallocarray(cluster->brokers, cluster->broker_count + 1, sizeof *cluster->brokers);
    if (!list)
        return NULL;
    cluster->brokers = list;
    struct cluster_broker *broker = &list[cluster->broker_count];
    *broker = (struct cluster_broker){.name = strdup(name), .front_count = 1};
    broker->port = BROKER_PORT + BROKER_PORT_STEP * (int)cluster->broker_count;
    cluster->broker_count++;
    if (!broker->name || settings_init(&broker->section, keys_broker) < 0)
        return NULL;
    return settings_init(&broker->settings, broker_keys) == 0 ? broker : NULL;
}

static int make_preset(struct cluster *cluster, const char *preset, struct failure *failure)
{
    unsigned broker_count = 0;
    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++)
        if (strcmp(presets[i].name, preset) == 0)
            broker_count = presets[i].broker_count;
    if (broker_count == 0)
        return failure_set(failure, EXIT_CODE_USAGE, "unknown preset '%s'; there are 1m and 2m", preset);
    for (char letter = 'a'; letter < 'c'; letter++)
        if (!add_namesrv(cluster, (char[]){'n', 'a', 'm', 'e', 's', 'r', 'v', '-', letter, 0}))
            return out_of_memory(failure);
    for (unsigned i = 0; i < broker_count; i++)
        if (!add_broker(cluster, (char[]){'b', 'r', 'o', 'k', 'e', 'r', '-', (char)('a' + i), 0}))
            return out_of_memory(failure);
    return 0;
}

/* The file being read, for messages. */
struct source {
    const struct conf *conf;
    struct failure *failure;
};

static int bad_entry(const struct source *source, const struct conf_entry *entry, const char *what, const char *hint)
{
    return failure_set(source->failure, EXIT_CODE_CONFIG, "%s:%d: %s%s%s%s", source->conf->file, entry->line, what,
                       hint ? "; did you mean '" : "", hint ? hint : "", hint ? "'?" : "");
}

static int check_value(const struct source *source, const struct conf_entry *entry, const struct key *key)
{
    char expected[160], what[320];
    if (keys_check(key, entry->value, expected, sizeof expected) == 0)
        return 0;
    snprintf(what, sizeof what, "%s is '%.60s', expected %s", key->name, entry->value, expected);
    return bad_entry(source, entry, what, NULL);
}

static void warn_unknown(const char *file, const struct conf_entry *entry)
{
    const char *nearest = keys_nearest(broker_keys, entry->key);
    log_warning("%s:%d: unknown key '%s'%s%s%s", file, entry->line, entry->key, nearest ? "; did you mean '" : "",
                nearest ? nearest : "", nearest ? "'?" : "");
}

static void tell_unused(const struct settings *settings, const char *file)
{
    char names[1024] = "";
    size_t used = 0;
    for (unsigned i = 0; settings->table[i].name && used < sizeof names; i++)
        if (settings->values[i] && settings->table[i].flags & KEY_UNUSED)
            used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", settings->table[i].name);
    if (used)
        log_info("%s: known, not used here: %s%s", file, names, used < sizeof names ? "" : "…");
}

static void trim_end(char *text)
{
    /* java.util.Properties keeps blanks at the end, Apache trims them */
    for (char *end = text + strlen(text); end > text && isspace((unsigned char)end[-1]);)
        *--end = 0;
}

int cluster_read_broker_file(struct settings *settings, const char *file, struct failure *failure)
{
    struct conf *conf = NULL;
    PN_FREE char *error = NULL;
    if (conf_read_file(file, CONF_PROPERTIES, &conf, &error) < 0)
        return failure_set(failure, EXIT_CODE_CONFIG, "%s", error ? error : file);
    struct source source = {conf, failure};
    int r = 0;
    for (size_t i = 0; i < conf->count && r == 0; i++) {
        struct conf_entry *entry = &conf->entries[i];
        const struct key *key = keys_find(broker_keys, entry->key);
        if (!key) {
            warn_unknown(file, entry);
            continue;
        }
        trim_end(entry->value);
        r = check_value(&source, entry, key);
        if (r == 0 && settings_set(settings, entry->key, entry->value, "file") < 0)
            r = out_of_memory(failure);
    }
    conf_free(conf);
    if (r == 0)
        tell_unused(settings, file);
    return r;
}

static char *beside(const char *file, const char *path)
{
    const char *slash = strrchr(file, '/');
    char *joined = NULL;
    if (path[0] == '/' || !slash)
        return strdup(path);
    return asprintf(&joined, "%.*s/%s", (int)(slash - file), file, path) < 0 ? NULL : joined;
}

/* The keys of one section into `settings`; a section may stand in several pieces. */
static int read_section(const struct source *source, const char *section, struct settings *settings)
{
    for (size_t i = 0; i < source->conf->count; i++) {
        struct conf_entry *entry = &source->conf->entries[i];
        if (entry->key[0] == 0 || strcmp(entry->section, section) != 0)
            continue;
        const struct key *key = keys_find(settings->table, entry->key);
        if (!key) {
            char what[320];
            snprintf(what, sizeof what, "unknown key '%.100s' in [%.100s]", entry->key, section);
            return bad_entry(source, entry, what, keys_nearest(settings->table, entry->key));
        }
        int r = check_value(source, entry, key);
        if (r < 0)
            return r;
        if (settings_set(settings, entry->key, entry->value, "file") < 0)
            return out_of_memory(source->failure);
    }
    return 0;
}

static int take_cluster_section(struct cluster *cluster, const struct settings *settings, const char *file,
                                char **ret_dir)
{
    const char *dir = settings_get(settings, "dir");
    cluster->name = strdup(settings_get(settings, "name"));
    cluster->listen = strdup(settings_get(settings, "listen"));
    cluster->admin_from = strdup(settings_get(settings, "adminFrom"));
    cluster->faults = keys_is_true(settings_get(settings, "faults"));
    *ret_dir = dir ? beside(file, dir) : NULL;
    return cluster->name && cluster->listen && cluster->admin_from && (!dir || *ret_dir) ? 0 : -ENOMEM;
}

static int take_broker_section(struct cluster *cluster, const char *name, struct settings *settings,
                               const struct source *source)
{
    struct cluster_broker *broker = add_broker(cluster, name);
    if (!broker)
        return out_of_memory(source->failure);
    settings_done(&broker->section);
    broker->section = *settings;
    *settings = (struct settings){.table = keys_broker};
    settings = &broker->section;
    const char *conf = settings_get(settings, "conf");
    if (conf) {
        PN_FREE char *file = beside(source->conf->file, conf);
        if (!file)
            return out_of_memory(source->failure);
        int r = cluster_read_broker_file(&broker->settings, file, source->failure);
        if (r < 0)
            return r;
    }
    broker->port = (int)settings_get_i64(settings, "port",
                                         settings_get_i64(&broker->settings, "listenPort", broker->port));
    broker->front_count = (unsigned)settings_get_i64(settings, "fronts", 1);
    const char *id = settings_get(settings, "id");
    if (id && settings_set(&broker->settings, "brokerId", id, "file") < 0)
        return out_of_memory(source->failure);
    return 0;
}

static int take_named_section(struct cluster *cluster, const struct conf_entry *entry, const struct source *source)
{
    static const char *const kinds[] = {"cluster", "namesrv", "broker", NULL};
    char kind[32] = "";
    const char *name = strchr(entry->section, ' ');
    size_t kind_size = name ? (size_t)(name - entry->section) : strlen(entry->section);
    if (kind_size < sizeof kind)
        memcpy(kind, entry->section, kind_size);
    while (name && *name == ' ')
        name++;
    const struct key *table = strcmp(kind, "namesrv") == 0 ? keys_namesrv
                              : strcmp(kind, "broker") == 0 ? keys_broker
                                                            : NULL;
    if (!table)
        return bad_entry(source, entry, "unknown section", conf_nearest(kind, kinds));
    if (!name || !name_is_valid(name))
        return bad_entry(source, entry, "a name server and a broker need a name of letters, digits, '-', '_', '.'", NULL);

    struct settings settings;
    if (settings_init(&settings, table) < 0)
        return out_of_memory(source->failure);
    int r = read_section(source, entry->section, &settings);
    if (r == 0 && table == keys_broker)
        r = take_broker_section(cluster, name, &settings, source);
    if (r == 0 && table == keys_namesrv) {
        struct cluster_namesrv *namesrv = add_namesrv(cluster, name);
        r = namesrv ? 0 : out_of_memory(source->failure);
        if (namesrv) {
            namesrv->port = (int)settings_get_i64(&settings, "port", namesrv->port);
            settings_done(&namesrv->settings);
            namesrv->settings = settings;
            return r;
        }
    }
    settings_done(&settings);
    return r;
}

static bool seen_before(const struct conf *conf, size_t at)
{
    for (size_t i = 0; i < at; i++)
        if (conf->entries[i].key[0] == 0 && strcmp(conf->entries[i].section, conf->entries[at].section) == 0)
            return true;
    return false;
}

static int read_sections(struct cluster *cluster, const struct source *source, char **ret_dir)
{
    int r = read_section(source, "cluster", &cluster->settings);
    if (r == 0 && take_cluster_section(cluster, &cluster->settings, source->conf->file, ret_dir) < 0)
        r = out_of_memory(source->failure);

    for (size_t i = 0; i < source->conf->count && r == 0; i++) {
        const struct conf_entry *entry = &source->conf->entries[i];
        if (entry->section[0] == 0)
            r = bad_entry(source, entry, "a key before the first section", NULL);
        else if (entry->key[0] == 0 && strcmp(entry->section, "cluster") != 0)
            r = seen_before(source->conf, i) ? bad_entry(source, entry, "this section was there before", NULL)
                                             : take_named_section(cluster, entry, source);
    }
    return r;
}

static int read_cluster_file(struct cluster *cluster, const char *file, char **ret_dir, struct failure *failure)
{
    struct conf *conf = NULL;
    PN_FREE char *error = NULL;
    if (conf_read_file(file, CONF_INI, &conf, &error) < 0)
        return failure_set(failure, EXIT_CODE_CONFIG, "%s", error ? error : file);
    struct source source = {conf, failure};
    int r = read_sections(cluster, &source, ret_dir);
    if (r == 0 && cluster->namesrv_count == 0 && cluster->broker_count == 0)
        r = failure_set(failure, EXIT_CODE_CONFIG, "%s: needs at least one [namesrv NAME] or [broker NAME]", file);
    conf_free(conf);
    return r;
}

/* Without --preset and --file: etc/cluster.conf of the folder, or the system's. */
static int find_cluster_file(const struct options *options, char **ret_file, struct failure *failure)
{
    if (options->file) {
        *ret_file = strdup(options->file);
        return *ret_file ? 0 : out_of_memory(failure);
    }
    if (options->dir ? asprintf(ret_file, "%s/etc/cluster.conf", options->dir) < 0
                     : !(*ret_file = strdup(SYSTEM_CLUSTER_FILE)))
        return out_of_memory(failure);
    if (access(*ret_file, F_OK) == 0)
        return 0;
    return failure_set(failure, EXIT_CODE_USAGE, "%s is not there; give --preset 1m or 2m%s, or --file CLUSTERFILE",
                       *ret_file, options->dir ? "" : " with --dir DIR");
}

static char *absolute(const char *path)
{
    char *joined = NULL;
    PN_FREE char *here = path[0] == '/' ? strdup("") : getcwd(NULL, 0);
    while (path[0] == '.' && path[1] == '/')
        path += 2;
    return here && asprintf(&joined, "%s%s%s", here, path[0] == '/' ? "" : "/", path) > 0 ? joined : NULL;
}

/* What systemd made for this instance (RuntimeDirectory= and so on), else the default. */
static const char *given_folder(const char *variable, const char *otherwise)
{
    const char *path = getenv(variable);
    return path && path[0] == '/' && !strchr(path, ':') ? path : otherwise;
}

/* `dir` NULL: the system's folders. */
static int set_folders(struct cluster *cluster, const char *dir)
{
    if (!dir) {
        cluster->runtime_dir = strdup(given_folder("RUNTIME_DIRECTORY", "/run/pintle"));
        cluster->log_dir = strdup(given_folder("LOGS_DIRECTORY", "/var/log/pintle"));
        if (asprintf(&cluster->store_dir, "%s/store", given_folder("STATE_DIRECTORY", "/var/lib/pintle")) < 0)
            return -ENOMEM;
        return cluster->runtime_dir && cluster->log_dir ? 0 : -ENOMEM;
    }
    PN_FREE char *base = absolute(dir);
    if (!base || asprintf(&cluster->runtime_dir, "%s/run", base) < 0 ||
        asprintf(&cluster->store_dir, "%s/store", base) < 0 || asprintf(&cluster->log_dir, "%s/log", base) < 0)
        return -ENOMEM;
    return 0;
}

static int apply_setting(struct cluster *cluster, const char *setting, struct failure *failure)
{
    const char *equals = strchr(setting, '='), *value = equals + 1;
    char name[128], expected[160];
    snprintf(name, sizeof name, "%.*s", (int)(equals - setting), setting);
    const struct key *key = keys_find(broker_keys, name);
    if (!key) {
        const char *nearest = keys_nearest(broker_keys, name);
        return failure_set(failure, EXIT_CODE_USAGE, "--set: unknown key '%s'%s%s%s", name,
                           nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
    }
    if (strcmp(name, "listenPort") == 0 || strcmp(name, "brokerName") == 0)
        return failure_set(failure, EXIT_CODE_USAGE, "--set is for all brokers, %s differs in each; use --base-port or a "
                           "cluster file", name);
    if (keys_check(key, value, expected, sizeof expected) < 0)
        return failure_set(failure, EXIT_CODE_USAGE, "--set %s: expected %s, not '%s'", name, expected, value);
    for (unsigned i = 0; i < cluster->broker_count; i++)
        if (settings_set(&cluster->brokers[i].settings, name, value, "command line") < 0)
            return out_of_memory(failure);
    return 0;
}

static int move_ports(struct cluster *cluster, const struct options *options, struct failure *failure)
{
    for (unsigned i = 0; options->namesrv_port >= 0 && i < cluster->namesrv_count; i++)
        cluster->namesrvs[i].port = options->namesrv_port ? options->namesrv_port + (int)i : 0;
    for (unsigned i = 0; options->base_port >= 0 && i < cluster->broker_count; i++)
        cluster->brokers[i].port = options->base_port ? options->base_port + BROKER_PORT_STEP * (int)i : 0;
    for (unsigned i = 0; i < cluster->namesrv_count; i++)
        if (cluster->namesrvs[i].port > 65535)
            return failure_set(failure, EXIT_CODE_USAGE, "%s would get a port over 65535", cluster->namesrvs[i].name);
    for (unsigned i = 0; i < cluster->broker_count; i++)
        if (cluster->brokers[i].port > 65534 || (cluster->brokers[i].port > 0 && cluster->brokers[i].port < 3))
            return failure_set(failure, EXIT_CODE_USAGE, "%s would get port %d; from 3 to 65534 there is room for the "
                               "ports beside it", cluster->brokers[i].name, cluster->brokers[i].port);
    return 0;
}

/* Values that are Apache's and sound, and that this version cannot keep what they promise of. */
static const struct {
    const char *key, *value;
    bool is_fatal; /* what would start is not what the file means */
    const char *text;
} not_yet[] = {
    {"brokerRole", "SLAVE", true, "there is no replication yet, a slave would have nothing"},
    {"brokerRole", "SYNC_MASTER", false, "there is no replication yet, answers wait for no slave"},
    {"brokerId", "-1", true, "there is no controller yet that could give it a number"},
    {"enableControllerMode", "true", true, "there is no controller mode yet"},
    {"enableDLegerCommitLog", "true", true, "logs of DLedger cannot be read or written"},
};

int cluster_judge_broker(const char *who, const struct settings *settings, struct failure *failure)
{
    for (size_t i = 0; i < sizeof not_yet / sizeof *not_yet; i++) {
        const char *value = settings_get(settings, not_yet[i].key);
        if (!value || strcmp(value, not_yet[i].value) != 0)
            continue;
        if (not_yet[i].is_fatal && failure)
            return failure_set(failure, EXIT_CODE_CONFIG, "%s: %s=%s: %s", who, not_yet[i].key, value, not_yet[i].text);
        log_warning("%s: %s=%s: %s", who, not_yet[i].key, value, not_yet[i].text);
    }
    return 0;
}

static int apply_options(struct cluster *cluster, const struct options *options, struct failure *failure)
{
    int r = move_ports(cluster, options, failure);
    for (unsigned i = 0; i < options->setting_count && r == 0; i++)
        r = apply_setting(cluster, options->settings[i], failure);
    cluster->sandbox = keys_is_true(settings_get(&cluster->settings, "sandbox"));
    if (options->allow_faults)
        cluster->faults = true;
    for (unsigned i = 0; i < cluster->broker_count && r == 0; i++) {
        r = cluster_judge_broker(cluster->brokers[i].name, &cluster->brokers[i].settings, failure);
        if (r < 0)
            break;
        const char *listen = settings_get(&cluster->brokers[i].settings, "bindAddress");
        cluster->brokers[i].listen = strdup(listen ? listen : cluster->listen);
        if (!cluster->brokers[i].listen)
            r = out_of_memory(failure);
        else if (cluster->namesrv_count == 0 && !cluster_namesrv_addr(cluster, &cluster->brokers[i]))
            r = failure_set(failure, EXIT_CODE_CONFIG, "%s has no name server: add a [namesrv NAME] or namesrvAddr",
                            cluster->brokers[i].name);
    }
    return r;
}

char *cluster_store_root(const struct cluster *cluster, const struct cluster_broker *broker)
{
    const char *root = settings_get(&broker->settings, "storePathRootDir");
    char *path = NULL;
    if (root)
        return strdup(root);
    return asprintf(&path, "%s/%s", cluster->store_dir, broker->name) < 0 ? NULL : path;
}

/* What was changed at run time (UPDATE_BROKER_CONFIG) and kept by the store: it wins over file and command line. Nobody
 * types this file, so what is wrong with it is a warning. */
int cluster_read_run_time_file(const struct cluster *cluster, const struct cluster_broker *broker,
                               struct settings *settings, struct failure *failure)
{
    PN_FREE char *root = cluster_store_root(cluster, broker), *file = NULL, *error = NULL;
    struct conf *conf = NULL;
    unsigned count = 0;
    if (!root || asprintf(&file, "%s/config/" BROKER_RUN_TIME_FILE, root) < 0)
        return out_of_memory(failure);
    int r = conf_read_file(file, CONF_PROPERTIES, &conf, &error);
    if (r == -ENOENT || r == -ENOTDIR)
        return 0;
    if (r < 0) {
        log_warning("%s; what was changed at run time is not in force", error ? error : file);
        return 0;
    }
    for (size_t i = 0; i < conf->count && r == 0; i++) {
        const struct conf_entry *entry = &conf->entries[i];
        const struct key *key = keys_find(broker_keys, entry->key);
        char expected[160];
        if (!key || key->flags & KEY_FILE_ONLY || keys_check(key, entry->value, expected, sizeof expected) < 0) {
            log_warning("%s:%d: '%s' cannot be used and is left out", file, entry->line, entry->key);
            continue;
        }
        if (settings_set(settings, entry->key, entry->value, "run time") < 0)
            r = out_of_memory(failure);
        count++;
    }
    conf_free(conf);
    if (r == 0 && count)
        log_info("%s: %u key%s as changed at run time (%s)", broker->name, count, count == 1 ? "" : "s", file);
    return r;
}

static int fill(struct cluster *cluster, const struct options *options, struct failure *failure)
{
    PN_FREE char *file = NULL, *dir = NULL;
    int r;
    if (options->preset) {
        cluster->name = strdup(keys_find(keys_cluster, "name")->default_value);
        cluster->listen = strdup(keys_find(keys_cluster, "listen")->default_value);
        cluster->admin_from = strdup(keys_find(keys_cluster, "adminFrom")->default_value);
        r = cluster->name && cluster->listen && cluster->admin_from ? make_preset(cluster, options->preset, failure) : out_of_memory(failure);
    } else {
        r = find_cluster_file(options, &file, failure);
        if (r == 0)
            r = read_cluster_file(cluster, file, &dir, failure);
    }
    if (r < 0)
        return r;
    if (options->preset && !options->dir)
        return failure_set(failure, EXIT_CODE_USAGE, "--preset wants --dir DIR, the folder that holds its files");
    if (set_folders(cluster, options->dir ? options->dir : dir) < 0)
        return out_of_memory(failure);
    r = apply_options(cluster, options, failure);
    for (unsigned i = 0; i < cluster->broker_count && r == 0 && !options->files_only; i++)
        r = cluster_read_run_time_file(cluster, &cluster->brokers[i], &cluster->brokers[i].settings, failure);
    return r;
}

int cluster_load(const struct options *options, struct cluster **ret_cluster, struct failure *failure)
{
    struct cluster *cluster = calloc(1, sizeof *cluster);
    if (!cluster)
        return out_of_memory(failure);
    int r = settings_init(&cluster->settings, keys_cluster) < 0 ? out_of_memory(failure) : fill(cluster, options, failure);
    if (r < 0) {
        cluster_free(cluster);
        return r;
    }
    *ret_cluster = cluster;
    return 0;
}

void cluster_free(struct cluster *cluster)
{
    if (!cluster)
        return;
    for (unsigned i = 0; i < cluster->namesrv_count; i++) {
        free(cluster->namesrvs[i].name);
        settings_done(&cluster->namesrvs[i].settings);
    }
    for (unsigned i = 0; i < cluster->broker_count; i++) {
        free(cluster->brokers[i].name);
        free(cluster->brokers[i].listen);
        settings_done(&cluster->brokers[i].section);
        settings_done(&cluster->brokers[i].settings);
    }
    settings_done(&cluster->settings);
    free(cluster->namesrvs);
    free(cluster->brokers);
    free(cluster->name);
    free(cluster->listen);
    free(cluster->admin_from);
    free(cluster->runtime_dir);
    free(cluster->store_dir);
    free(cluster->log_dir);
    free(cluster);
}
