/* Cluster files, Apache files, presets and what workers are told: right ones and each kind of mistake. */
#include "tests/unit/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/conf.h"
#include "contract.h"
#include "supervisor/cluster.h"

static char folder[] = "/tmp/pintle-cluster-test-XXXXXX";

static const char *write_file(const char *name, const char *text)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
    return path;
}

static struct options no_options(void)
{
    return (struct options){.namesrv_port = OPTIONS_PORT_UNSET, .base_port = OPTIONS_PORT_UNSET, .ready_fd = -1};
}

static struct cluster *load_text(const char *text, struct failure *failure)
{
    struct options options = no_options();
    struct cluster *cluster = NULL;
    options.file = write_file("cluster.conf", text);
    options.dir = folder;
    int r = cluster_load(&options, &cluster, failure);
    assert_int_equal(r == 0, cluster != NULL);
    return cluster;
}

#define GOOD_REST "[namesrv ns]\n[broker b]\nport = 12345\n"

static void assert_refused(const char *text, const char *expected)
{
    struct failure failure = {0};
    struct cluster *cluster = load_text(text, &failure);
    assert_null(cluster);
    assert_int_equal(failure.exit_code, EXIT_CODE_CONFIG);
    if (!strstr(failure.text, expected))
        fail_msg("'%s' does not say '%s'", failure.text, expected);
}

static void test_mistakes(void **state)
{
    assert_refused("[cluster]\nname = c\nlissten = 127.0.0.1\n" GOOD_REST,
                   "cluster.conf:3: unknown key 'lissten' in [cluster]; did you mean 'listen'?");
    assert_refused("[cluster]\n[namesrv ns]\nport = x\n", "cluster.conf:3: port is 'x', expected a number from 0 to 65535");
    assert_refused("[cluster]\n[namesrv ns]\nport = 65536\n", "cluster.conf:3: port");
    assert_refused("[cluster]\nfaults = maybe\n" GOOD_REST, "cluster.conf:2: faults is 'maybe', expected true or false");
    assert_refused("[broker b]\nfront = 2\n", "did you mean 'fronts'?");
    assert_refused("[brokr b]\n", "cluster.conf:1: unknown section; did you mean 'broker'?");
    assert_refused("[broker]\n", "cluster.conf:1: a name server and a broker need a name");
    assert_refused("[broker ../x]\n", "cluster.conf:1: a name server and a broker need a name");
    assert_refused(GOOD_REST "[broker b]\n", "cluster.conf:4: this section was there before");
    assert_refused("port = 1\n" GOOD_REST, "cluster.conf:1: a key before the first section");
    assert_refused("[cluster\n", "cluster.conf:1:");
    assert_refused("[cluster]\n", "needs at least one [namesrv NAME] or [broker NAME]");
    assert_refused("[broker b]\n", "b has no name server: add a [namesrv NAME] or namesrvAddr");
    assert_refused("[cluster]\nnamesrvAddr = here\n" GOOD_REST, "expected host:port;host:port");
    assert_refused("[broker b]\nconf = absent.conf\n", "absent.conf");
}

static void test_apache_file(void **state)
{
    struct failure failure = {0};
    /* An unknown key is only a warning; blanks at the end are Apache's habit. */
    write_file("b.conf", "brokerName=alpha\nbrokerId = 0\nlistenPort=20911 \nflushDiskType=SYNC_FLUSH\n"
                         "brokerIP1=10.1.2.3\nsomeKeyOfApache=1\nregisterNameServerPeriod=1000\n");
    struct cluster *cluster = load_text("[cluster]\nname = c1\n[namesrv n1]\n[namesrv n2]\n[broker b]\nconf = b.conf\n",
                                        &failure);
    assert_non_null(cluster);
    assert_int_equal(cluster->namesrvs[0].port, 9876);
    assert_int_equal(cluster->namesrvs[1].port, 9877);
    assert_int_equal(cluster->brokers[0].port, 20911);

    PN_FREE char *text = cluster_broker_config(cluster, &cluster->brokers[0]);
    struct conf *conf = NULL;
    assert_int_equal(conf_read_text("text", text, strlen(text), CONF_PROPERTIES, &conf, NULL), 0);
    assert_string_equal(conf_get(conf, "", "brokerName"), "alpha");
    assert_string_equal(conf_get(conf, "", "brokerClusterName"), "c1");
    assert_string_equal(conf_get(conf, "", "brokerIP1"), "10.1.2.3");
    assert_string_equal(conf_get(conf, "", "listen"), "127.0.0.1");
    assert_string_equal(conf_get(conf, "", "listenPort"), "20911");
    assert_string_equal(conf_get(conf, "", "haListenPort"), "20912");
    assert_string_equal(conf_get(conf, "", "flushDiskType"), "SYNC_FLUSH");
    assert_string_equal(conf_get(conf, "", "mappedFileSizeCommitLog"), "1073741824");
    assert_string_equal(conf_get(conf, "", "pintle.namesrvs"), "n1;n2");
    char root[300];
    snprintf(root, sizeof root, "%s/store/b", folder);
    assert_string_equal(conf_get(conf, "", "storePathRootDir"), root);
    conf_free(conf);
    cluster_free(cluster);

    write_file("b.conf", "brokerName=alpha\nflushDiskType=SOMETIMES\n");
    assert_refused("[namesrv n]\n[broker b]\nconf = b.conf\n",
                   "b.conf:2: flushDiskType is 'SOMETIMES', expected ASYNC_FLUSH|SYNC_FLUSH");
}

/* What the store kept of changes at run time wins; nonsense in that file is left out, never fatal. */
static void test_run_time_file(void **state)
{
    struct failure failure = {0};
    char path[300];
    for (const char *const *part = (const char *const[]){"store", "store/b", "store/b/config", NULL}; *part; part++) {
        snprintf(path, sizeof path, "%s/%s", folder, *part);
        assert_int_equal(mkdir(path, 0755), 0);
    }
    write_file("store/b/config/" BROKER_RUN_TIME_FILE,
               "brokerPermission=4\nflushDiskType=NEVER\nstorePathRootDir=/\nwhat=1\ndeleteWhen=05\n");
    write_file("b.conf", "brokerPermission=2\nfileReservedTime=48\nautoCreateTopicEnable=off\n");
    struct cluster *cluster = load_text("[namesrv n1]\n[broker b]\nconf = b.conf\n", &failure);
    assert_non_null(cluster);
    PN_FREE char *text = cluster_broker_config(cluster, &cluster->brokers[0]);
    struct conf *conf = NULL;
    assert_int_equal(conf_read_text("text", text, strlen(text), CONF_PROPERTIES, &conf, NULL), 0);
    assert_string_equal(conf_get(conf, "", "brokerPermission"), "4");
    assert_string_equal(conf_get(conf, "", "flushDiskType"), "ASYNC_FLUSH");
    assert_string_equal(conf_get(conf, "", "autoCreateTopicEnable"), "false");
    assert_string_equal(conf_get(conf, "", "fileReservedTime"), "48"); /* Apache's alone: passed on */
    assert_string_equal(conf_get(conf, "", "deleteWhen"), "05");
    assert_null(conf_get(conf, "", "what"));
    assert_string_equal(settings_origin(&cluster->brokers[0].settings, "brokerPermission"), "run time");
    assert_string_equal(settings_origin(&cluster->brokers[0].settings, "fileReservedTime"), "file");
    snprintf(path, sizeof path, "%s/store/b", folder);
    assert_string_equal(conf_get(conf, "", "storePathRootDir"), path);
    conf_free(conf);
    cluster_free(cluster);
    for (const char *const *part = (const char *const[]){"store/b/config/" BROKER_RUN_TIME_FILE, "store/b/config",
                                                          "store/b", "store", NULL}; *part; part++) {
        snprintf(path, sizeof path, "%s/%s", folder, *part);
        assert_int_equal(remove(path), 0);
    }
}

static void test_namesrv(void **state)
{
    struct failure failure = {0};
    struct cluster *cluster = load_text("[cluster]\nadminFrom = 10.0.0.0/8, loopback\n"
                                        "[namesrv n]\norderMessageEnable = on\nkvConfigPath = /kv\n[broker b]\n",
                                        &failure);
    assert_non_null(cluster);
    PN_FREE char *text = cluster_namesrv_config(cluster, &cluster->namesrvs[0]);
    struct conf *conf = NULL;
    assert_int_equal(conf_read_text("text", text, strlen(text), CONF_PROPERTIES, &conf, NULL), 0);
    assert_string_equal(conf_get(conf, "", "pintle.name"), "n");
    assert_string_equal(conf_get(conf, "", "listenPort"), "9876");
    assert_string_equal(conf_get(conf, "", "adminFrom"), "10.0.0.0/8, loopback");
    assert_string_equal(conf_get(conf, "", "orderMessageEnable"), "true");
    assert_string_equal(conf_get(conf, "", "enableTopicList"), "true");
    assert_string_equal(conf_get(conf, "", "kvConfigPath"), "/kv");
    assert_null(conf_get(conf, "", "port"));
    char root[300];
    snprintf(root, sizeof root, "%s/store/n", folder);
    assert_string_equal(conf_get(conf, "", "storePathRootDir"), root);
    conf_free(conf);
    cluster_free(cluster);
    assert_refused("[cluster]\nadminFrom = 10.0.0.0/99\n" GOOD_REST,
                   "cluster.conf:2: adminFrom is '10.0.0.0/99', expected addresses, networks");
    assert_refused("[namesrv n]\norderMessageEnabled = on\n[broker b]\n", "did you mean 'orderMessageEnable'?");
}

static void test_presets(void **state)
{
    struct options options = no_options();
    struct failure failure = {0};
    struct cluster *cluster = NULL;
    options.preset = "2m";
    options.dir = "/tmp/x";
    options.namesrv_port = 42500;
    options.base_port = 0;
    options.settings[options.setting_count++] = "flushDiskType=SYNC_FLUSH";
    assert_int_equal(cluster_load(&options, &cluster, &failure), 0);
    assert_int_equal(cluster->namesrv_count, 2);
    assert_int_equal(cluster->broker_count, 2);
    assert_string_equal(cluster->namesrvs[1].name, "namesrv-b");
    assert_int_equal(cluster->namesrvs[1].port, 42501);
    assert_string_equal(cluster->brokers[1].name, "broker-b");
    assert_int_equal(cluster->brokers[1].port, 0);
    assert_string_equal(cluster->runtime_dir, "/tmp/x/run");
    assert_string_equal(settings_get(&cluster->brokers[1].settings, "flushDiskType"), "SYNC_FLUSH");
    cluster_free(cluster);
}

static void assert_usage(struct options options, const char *expected)
{
    struct failure failure = {0};
    struct cluster *cluster = NULL;
    assert_true(cluster_load(&options, &cluster, &failure) < 0);
    assert_int_equal(failure.exit_code, EXIT_CODE_USAGE);
    if (!strstr(failure.text, expected))
        fail_msg("'%s' does not say '%s'", failure.text, expected);
}

static void test_option_mistakes(void **state)
{
    struct options options = no_options();
    options.dir = "/tmp/x";
    assert_usage(options, "give --preset 1m or 2m, or --file");
    options.preset = "9m";
    assert_usage(options, "unknown preset '9m'");
    options.preset = "1m";
    options.settings[0] = "flushDiskTipe=SYNC_FLUSH";
    options.setting_count = 1;
    assert_usage(options, "did you mean 'flushDiskType'?");
    options.settings[0] = "flushDiskType=sync";
    assert_usage(options, "expected ASYNC_FLUSH|SYNC_FLUSH");
    options.settings[0] = "listenPort=1";
    assert_usage(options, "--base-port");
    options.setting_count = 0;
    options.base_port = 1;
    assert_usage(options, "port 1");
    options.base_port = OPTIONS_PORT_UNSET;
    options.dir = NULL;
    assert_usage(options, "--preset wants --dir");
}

static int make_folder(void **state)
{
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    static const char *const names[] = {"cluster.conf", "b.conf"};
    char path[256];
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_apache_file),
        cmocka_unit_test(test_run_time_file),
        cmocka_unit_test(test_namesrv),
        cmocka_unit_test(test_presets),
        cmocka_unit_test(test_option_mistakes),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
