/* What a name server keeps in files: KV configuration, and switches that were changed at run time. */
#include "../unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "namesrv/config.h"
#include "namesrv/kv_config.h"
#include "namesrv/state_file.h"

static char folder[] = "/tmp/namesrv-config-XXXXXX";
static char kv_path[128], own_path[128];

static int make_folder(void **state)
{
    if (!mkdtemp(folder))
        return -1;
    snprintf(kv_path, sizeof kv_path, "%s/a/b/kvConfig.json", folder);
    snprintf(own_path, sizeof own_path, "%s/a/b/namesrv.properties", folder);
    log_init("test", LOG_LEVEL_ERROR);
    return 0;
}

static int remove_folder(void **state)
{
    static const char *const names[] = {
        "a/b/kvConfig.json", "a/b/kvConfig.json.damaged", "a/b/namesrv.properties", "a/b", "a", ""};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        (void)remove(path);
    }
    return 0;
}

static void check_value(const struct kv_config *kv, const char *space, const char *key, const char *value)
{
    struct bytes found;
    bool is_there = kv_config_get(kv, bytes_of(space), bytes_of(key), &found);
    assert_int_equal(is_there, value != NULL);
    if (value)
        assert_true(bytes_equal_text(found, value));
}

static void check_file(const char *path, const char *text)
{
    struct bytes bytes;
    assert_int_equal(state_file_read(path, &bytes), 0);
    assert_string_equal((const char *)bytes.data, text);
    free((void *)bytes.data);
}

static void test_kv(void **state)
{
    struct kv_config kv;
    assert_int_equal(kv_config_load(&kv, kv_path), 0);
    assert_int_equal(kv_config_put(&kv, bytes_of("N"), bytes_of("k"), bytes_of("v")), 0);
    assert_int_equal(kv_config_put(&kv, bytes_of("N"), bytes_of("k"), bytes_of("w")), 0);
    assert_int_equal(kv_config_put(&kv, bytes_of("M"), bytes_of(""), bytes_of("")), 0);
    assert_int_equal(kv_config_put(&kv, bytes_of("N"), bytes_of("bad"), bytes_of("\xff")), -EINVAL);
    assert_int_equal(kv_config_put(&kv, bytes_of("\xff"), bytes_of("bad"), bytes_of("v")), -EINVAL);
    assert_int_equal(kv_config_delete(&kv, bytes_of("none"), bytes_of("k")), 0);
    kv_config_free(&kv);

    assert_int_equal(kv_config_load(&kv, kv_path), 0);
    check_value(&kv, "N", "k", "w");
    check_value(&kv, "M", "", "");
    check_value(&kv, "N", "bad", NULL);
    check_value(&kv, "none", "k", NULL);
    assert_int_equal(kv_config_delete(&kv, bytes_of("N"), bytes_of("k")), 0);
    struct text text = {NULL, 0, 0};
    assert_true(kv_config_list(&kv, bytes_of("N"), &text)); /* the namespace stays, as Apache's does */
    assert_true(bytes_equal_text((struct bytes){(uint8_t *)text.data, text.size}, "{\"table\":{}}"));
    text_free(&text);
    assert_false(kv_config_list(&kv, bytes_of("none"), &text));
    kv_config_free(&kv);
}

static void test_kv_too_large(void **state)
{
    struct kv_config kv;
    size_t size = 9 << 20;
    char *large = malloc(size + 1);
    assert_non_null(large);
    memset(large, 'x', size);
    large[size] = 0;
    assert_int_equal(kv_config_load(&kv, kv_path), 0);
    assert_int_equal(kv_config_put(&kv, bytes_of("L"), bytes_of("k"), bytes_of("small")), 0);
    assert_int_equal(kv_config_put(&kv, bytes_of("L"), bytes_of("k"), bytes_of(large)), -E2BIG);
    assert_int_equal(kv_config_put(&kv, bytes_of("L2"), bytes_of("k"), bytes_of(large)), -E2BIG);
    check_value(&kv, "L", "k", "small");
    check_value(&kv, "L2", "k", NULL);
    kv_config_free(&kv);
    free(large);
}

static void test_kv_damaged(void **state)
{
    static const char *const bad[] = {"", "{", "{\"configTable\":[]}", "{\"configTable\":{\"N\":1}}",
                                      "{\"configTable\":{\"N\":{\"k\":1}}}"};
    char aside[160];
    struct kv_config kv;
    snprintf(aside, sizeof aside, "%s.damaged", kv_path);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(state_file_write(kv_path, bytes_of(bad[i])), 0);
        assert_int_equal(kv_config_load(&kv, kv_path), 0);
        assert_int_equal(json_object_size(kv.namespaces), 0);
        kv_config_free(&kv);
        check_file(aside, bad[i]);
        assert_int_equal(access(kv_path, F_OK), -1);
    }
    /* As Apache writes it. */
    assert_int_equal(state_file_write(kv_path, bytes_of("{\n\t\"configTable\":{\"N\":{\"k\":\"v\"}\n\t}\n}")), 0);
    assert_int_equal(kv_config_load(&kv, kv_path), 0);
    check_value(&kv, "N", "k", "v");
    kv_config_free(&kv);
}

/* A file in the place of a folder: nothing changes, in memory neither. */
static void test_kv_no_disk(void **state)
{
    struct kv_config kv;
    char path[160];
    snprintf(path, sizeof path, "%s/x", kv_path);
    assert_int_equal(state_file_write(kv_path, bytes_of("{\"configTable\":{}}")), 0);
    assert_int_equal(kv_config_load(&kv, NULL), 0);
    kv.path = strdup(path);
    assert_int_equal(kv_config_put(&kv, bytes_of("N"), bytes_of("k"), bytes_of("v")), -ENOTDIR);
    check_value(&kv, "N", "k", NULL);
    kv_config_free(&kv);
}

static void load(struct config *config, const char *more, int result)
{
    char text[512];
    char *error = NULL;
    snprintf(text, sizeof text, "pintle.name=n\nlisten=127.0.0.1\nlistenPort=1\nstorePathRootDir=%s/a/b\n%s", folder,
             more);
    *config = (struct config){0};
    assert_int_equal(config_load(config, text, strlen(text), &error), result);
    free(error);
}

static void check_refused(struct config *config, const char *properties, int result, const char *reason)
{
    char text[256] = "";
    assert_int_equal(config_update(config, bytes_of(properties), text, sizeof text), result);
    if (!strstr(text, reason))
        fail_msg("%s: %s", properties, text);
}

static void test_switches(void **state)
{
    struct config config;
    char reason[256];
    load(&config, "", 0);
    assert_string_equal(config.values[CONFIG_KV_PATH], kv_path);
    assert_false(config.flags[CONFIG_ORDER_MESSAGE]);
    assert_true(config.flags[CONFIG_TOPIC_LIST]);
    assert_int_equal(config.admin_from.count, 2);
    assert_int_equal(config_update(&config, bytes_of("orderMessageEnable = TRUE \n# x\n"), reason, sizeof reason), 0);
    assert_int_equal(config_update(&config, bytes_of("enableTopicList=false"), reason, sizeof reason), 0);
    assert_int_equal(config_update(&config, (struct bytes){NULL, 0}, reason, sizeof reason), 0);
    assert_true(config.flags[CONFIG_ORDER_MESSAGE]);
    check_file(own_path, "orderMessageEnable=TRUE\nenableTopicList=false\n");
    config_free(&config);
    /* After a restart the change wins; what was not changed is the cluster file's. */
    load(&config, "orderMessageEnable=false\nsupportActingMaster=true\n", 0);
    assert_true(config.flags[CONFIG_ORDER_MESSAGE]);
    assert_false(config.flags[CONFIG_TOPIC_LIST]);
    assert_true(config.flags[CONFIG_ACTING_MASTER]);
    config_free(&config);
    /* A file that is not one is passed over, and only switches are taken from it. */
    assert_int_equal(state_file_write(own_path, bytes_of("orderMessageEnable=perhaps\nadminFrom=any\nlistenPort=2\n")),
                     0);
    load(&config, "", 0);
    assert_false(config.flags[CONFIG_ORDER_MESSAGE]);
    assert_string_equal(config.values[CONFIG_LISTEN_PORT], "1");
    assert_int_equal(config.admin_from.count, 2);
    config_free(&config);
}

static void test_refusals(void **state)
{
    static const char *const never[] = {"adminFrom",    "kvConfigPath",     "configStorePath",   "configBlackList",
                                        "rocketmqHome", "storePathRootDir", "enableAllTopicList"};
    struct config config;
    load(&config, "configBlackList=x; enableAllTopicList", 0);
    for (size_t i = 0; i < sizeof never / sizeof *never; i++) {
        char text[128];
        snprintf(text, sizeof text, "orderMessageEnable=true\n%s=any\n", never[i]);
        check_refused(&config, text, -EACCES, never[i]);
        assert_false(config.flags[CONFIG_ORDER_MESSAGE]); /* all or nothing */
    }
    check_refused(&config, "listenPort=2", -EINVAL, "wants a restart");
    check_refused(&config, "orderMessageEnabled=true", -EINVAL, "did you mean orderMessageEnable");
    check_refused(&config, "orderMessageEnable=1", -EINVAL, "true or false");
    check_refused(&config, "=\\u00", -EINVAL, "request");
    config_free(&config);
    load(&config, "orderMessageEnable=perhaps", -EINVAL);
    config_free(&config);
    load(&config, "adminFrom=10.0.0.0/99", -EINVAL);
    config_free(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kv),         cmocka_unit_test(test_kv_too_large), cmocka_unit_test(test_kv_damaged),
        cmocka_unit_test(test_kv_no_disk), cmocka_unit_test(test_switches),     cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
