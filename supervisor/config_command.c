/* Shows and checks configuration as `pintle up` with the same options would take it, and prints the tables of keys:
 * what people read about a key comes from its row. Runs in a supervisor process that starts nothing. Every mistake is
 * one line on stderr and exit code 64 or 78. */
#include "config_command.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/conf.h"
#include "cluster.h"
#include "contract.h"

static const char usage[] =
    "usage: pintle config show [--all] [--json] [options of `pintle up`]\n"
    "       pintle config diff [--json] [options of `pintle up`]\n"
    "       pintle config check FILE\n"
    "       pintle config sample [cluster|broker]\n"
    "show   what `pintle up` with these options would use; with --all every key with what it means, as a sample file\n"
    "diff   only what differs from the defaults, and where it comes from\n"
    "check  whether FILE (a cluster file or an Apache broker.conf) can be used: 0, or 78 with file, line and what is "
    "wrong\n"
    "sample a cluster file (or a broker's file) with every key, its range, default and what it means\n";

/* One table with its values. `resolved` (from the text that a worker gets) knows what a row's default is worked out to.
 */
struct part {
    const char *section;
    const char *name; /* NULL: the section has one piece */
    const struct settings *settings;
    struct conf *resolved;
};

struct view {
    bool all, diff;
    json_t *json; /* NULL: text */
};

static const char *value_of(const struct part *part, const struct key *key)
{
    const char *value = settings_get(part->settings, key->name);
    if (!value && part->resolved)
        value = conf_get(part->resolved, "", key->name);
    return value;
}

static bool differs(const struct part *part, const struct key *key)
{
    if (!settings_given(part->settings, key->name))
        return false;
    return !key->default_value || strcmp(settings_get(part->settings, key->name), key->default_value) != 0;
}

static bool is_shown(const struct view *view, const struct part *part, const struct key *key)
{
    if (view->diff)
        return differs(part, key);
    if (view->all)
        return true;
    return !(key->flags & KEY_UNUSED) || settings_given(part->settings, key->name);
}

static const char *type_name(enum key_type type)
{
    static const char *const names[] = {[KEY_TEXT] = "text",
                                        [KEY_BOOL] = "boolean",
                                        [KEY_INTEGER] = "integer",
                                        [KEY_CHOICE] = "choice",
                                        [KEY_PEERS] = "peers",
                                        [KEY_SERVERS] = "servers"};
    return names[type];
}

static json_t *text_or_null(const char *text)
{
    return text ? json_string(text) : json_null();
}

static void add_json(const struct view *view, const struct part *part, const struct key *key)
{
    json_t *row = json_object();
    json_object_set_new(row, "section", json_string(part->section));
    json_object_set_new(row, "name", text_or_null(part->name));
    json_object_set_new(row, "key", json_string(key->name));
    json_object_set_new(row, "value", text_or_null(value_of(part, key)));
    json_object_set_new(row, "default", text_or_null(key->default_value));
    json_object_set_new(row, "origin", json_string(settings_origin(part->settings, key->name)));
    json_object_set_new(row, "type", json_string(type_name(key->type)));
    if (key->type == KEY_INTEGER) {
        json_object_set_new(row, "min", json_integer(key->min));
        json_object_set_new(row, "max", json_integer(key->max));
    }
    json_object_set_new(row, "choices", text_or_null(key->choices));
    json_object_set_new(row, "unit", text_or_null(key->unit));
    json_object_set_new(row, "reloadable", json_boolean(key->flags & KEY_RELOADABLE));
    json_object_set_new(row, "used", json_boolean(!(key->flags & KEY_UNUSED)));
    json_object_set_new(row, "text", json_string(key->text));
    json_array_append_new(view->json, row);
}

/* As in a sample file: the sentence, then the key, as a comment where it is the default. */
static void print_sample(const struct part *part, const struct key *key)
{
    char expected[160];
    const char *value = value_of(part, key);
    bool given = settings_given(part->settings, key->name);
    if (key->flags & KEY_UNUSED) { /* four hundred of them: a line each */
        printf("%s%s =%s%s\n", given ? "" : "#", key->name, value && *value ? " " : "", value ? value : "");
        return;
    }
    keys_expected(key, expected, sizeof expected);
    printf("\n# %s\n# %s; %s%s%s%s%s\n", key->text, expected, key->default_value ? "default " : "no fixed default",
           key->default_value ? key->default_value : "", key->flags & KEY_RELOADABLE ? "; a change acts at once" : "",
           given ? "; from " : "", given ? settings_origin(part->settings, key->name) : "");
    printf("%s%s =%s%s\n", given ? "" : "#", key->name, value && *value ? " " : "", value ? value : "");
}

static void print_part(const struct view *view, const struct part *part)
{
    bool headed = false, unused_headed = false;
    for (const struct key *key = part->settings->table; key->name; key++) {
        if (!is_shown(view, part, key))
            continue;
        if (view->json) {
            add_json(view, part, key);
            continue;
        }
        if (!headed)
            printf("%s[%s%s%s]\n", part->section[0] == 'c' ? "" : "\n", part->section, part->name ? " " : "",
                   part->name ? part->name : "");
        headed = true;
        if (view->all && key->flags & KEY_UNUSED && !unused_headed) {
            puts("\n# Known to Apache RocketMQ, not used here:");
            unused_headed = true;
        }
        const char *value = value_of(part, key);
        if (view->all)
            print_sample(part, key);
        else if (view->diff)
            printf("%s = %s  # %s; default %s\n", key->name, value, settings_origin(part->settings, key->name),
                   key->default_value ? key->default_value : "none");
        else if (value)
            printf("%s = %s\n", key->name, value);
    }
}

static void print_table(const char *section, const char *name, const struct key *table)
{
    struct settings none;
    struct part part = {.section = section, .name = name, .settings = &none};
    if (settings_init(&none, table) < 0)
        return;
    if (section)
        printf("\n[%s%s%s]\n", section, name ? " " : "", name ? name : "");
    for (const struct key *key = table; key->name; key++)
        if (!(key->flags & KEY_UNUSED))
            print_sample(&part, key);
    settings_done(&none);
}

/* units/cluster.conf and units/broker.conf are this, and a test holds them against it. */
static int sample(const char *what)
{
    if (strcmp(what, "cluster") == 0) {
        puts("# Pintle's cluster file, a sample: `pintle config sample`. Installed as /etc/pintle/cluster.conf it is what\n"
             "# pintle.service starts: one name server and one broker, for this host alone. An unknown key is an error.");
        print_table("cluster", NULL, keys_cluster);
        print_table("namesrv", "namesrv-a", keys_namesrv);
        print_table("broker", "broker-a", keys_broker);
        return EXIT_CODE_OK;
    }
    if (strcmp(what, "broker") == 0) {
        puts("# A broker's file, a sample: `pintle config sample broker`. Keys and dialect are Apache RocketMQ's: an unchanged\n"
             "# broker.conf will do. Its place is the key `conf` in the [broker NAME] section of the cluster file.");
        print_table(NULL, NULL, broker_keys);
        return EXIT_CODE_OK;
    }
    fputs(usage, stderr);
    return EXIT_CODE_USAGE;
}

static struct conf *resolve(const struct cluster *cluster, const struct cluster_broker *broker)
{
    struct conf *conf = NULL;
    PN_FREE char *text = cluster_broker_config(cluster, broker);
    if (text && conf_read_text(broker->name, text, strlen(text), CONF_PROPERTIES, &conf, NULL) < 0)
        conf = NULL;
    return conf;
}

static void print_cluster(const struct view *view, const struct cluster *cluster)
{
    print_part(view, &(struct part){.section = "cluster", .settings = &cluster->settings});
    for (unsigned i = 0; i < cluster->namesrv_count; i++)
        print_part(view, &(struct part){.section = "namesrv",
                                        .name = cluster->namesrvs[i].name,
                                        .settings = &cluster->namesrvs[i].settings});
    for (unsigned i = 0; i < cluster->broker_count; i++) {
        const struct cluster_broker *broker = &cluster->brokers[i];
        struct part section = {.section = "broker", .name = broker->name, .settings = &broker->section};
        struct part part = {.section = "broker.conf",
                            .name = broker->name,
                            .settings = &broker->settings,
                            .resolved = resolve(cluster, broker)};
        print_part(view, &section);
        print_part(view, &part);
        conf_free(part.resolved);
    }
}

static int say(const struct failure *failure)
{
    fprintf(stderr, "pintle config: %s\n", failure->text);
    return failure->exit_code;
}

/* Takes the flag out of the arguments, so that the rest is `pintle up`'s. */
static bool take_flag(int *argc, char **argv, const char *flag)
{
    bool found = false;
    int kept = 0;
    for (int i = 0; i < *argc; i++) {
        if (strcmp(argv[i], flag) == 0)
            found = true;
        else
            argv[kept++] = argv[i];
    }
    argv[kept] = NULL;
    *argc = kept;
    return found;
}

static int show(int argc, char **argv, bool diff)
{
    struct options options;
    struct failure failure = {0};
    struct cluster *cluster = NULL;
    struct view view = {.diff = diff, .all = !diff && take_flag(&argc, argv, "--all")};
    if (take_flag(&argc, argv, "--json") && !(view.json = json_array()))
        return EXIT_CODE_IO;
    if (options_parse(&options, argc, argv, &failure) < 0 || cluster_load(&options, &cluster, &failure) < 0) {
        json_decref(view.json);
        return say(&failure);
    }
    print_cluster(&view, cluster);
    if (view.json) {
        json_dumpf(view.json, stdout, JSON_INDENT(1));
        putchar('\n');
    }
    json_decref(view.json);
    cluster_free(cluster);
    return EXIT_CODE_OK;
}

/* A cluster file has sections; .properties has none. */
static bool has_sections(const char *file)
{
    FILE *in = fopen(file, "r");
    char line[256];
    bool found = false;
    if (!in)
        return false;
    while (!found && fgets(line, sizeof line, in))
        found = line[strspn(line, " \t")] == '[';
    fclose(in);
    return found;
}

static int check(const char *file)
{
    struct failure failure = {0};
    int r;
    if (has_sections(file)) {
        struct options options = {
            .namesrv_port = OPTIONS_PORT_UNSET, .base_port = OPTIONS_PORT_UNSET, .ready_fd = -1, .file = file};
        struct cluster *cluster = NULL;
        r = cluster_load(&options, &cluster, &failure);
        cluster_free(cluster);
    } else {
        struct settings settings;
        if (settings_init(&settings, broker_keys) < 0)
            return EXIT_CODE_IO;
        r = cluster_read_broker_file(&settings, file, &failure);
        if (r == 0)
            r = cluster_judge_broker(file, &settings, NULL);
        settings_done(&settings);
    }
    if (r < 0)
        return say(&failure);
    printf("%s can be used\n", file);
    return EXIT_CODE_OK;
}

int config_command(int argc, char **argv)
{
    if (argc >= 2 && strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
        return EXIT_CODE_OK;
    }
    if (argc >= 2 && strcmp(argv[1], "show") == 0)
        return show(argc - 1, argv + 1, false);
    if (argc >= 2 && strcmp(argv[1], "diff") == 0)
        return show(argc - 1, argv + 1, true);
    if (argc == 3 && strcmp(argv[1], "check") == 0)
        return check(argv[2]);
    if ((argc == 2 || argc == 3) && strcmp(argv[1], "sample") == 0)
        return sample(argc == 3 ? argv[2] : "cluster");
    fputs(usage, stderr);
    return EXIT_CODE_USAGE;
}
