/* The mechanics of key tables, and that broker.conf's table keeps its own promises: unique names, defaults that its own
 * check takes, a sentence each. */
#include "tests/unit/unit.h"

#include <string.h>

#include "base/broker_keys.h"

static void test_table(void **state)
{
    unsigned used = 0, unused = 0;
    for (const struct key *key = broker_keys; key->name; key++) {
        char expected[160];
        if (keys_find(broker_keys, key->name) != key)
            fail_msg("%s is there twice", key->name);
        if (key->default_value && keys_check(key, key->default_value, expected, sizeof expected) < 0)
            fail_msg("the default of %s is not %s", key->name, expected);
        assert_true(key->text && key->text[strlen(key->text) - 1] == '.');
        if (key->flags & KEY_UNUSED)
            unused++;
        else
            used++;
        /* Whatever can name a file or a program must not be settable from outside. */
        if (strstr(key->name, "Path") || strcmp(key->name, "rocketmqHome") == 0)
            assert_true(key->flags & KEY_FILE_ONLY);
        assert_false((key->flags & KEY_FILE_ONLY) && (key->flags & KEY_RELOADABLE));
    }
    assert_true(used >= 25);
    assert_true(unused >= 300); /* of Apache 5.3.3's */
    assert_non_null(keys_find(broker_keys, "fileReservedTime"));
    assert_non_null(keys_find(broker_keys, "deleteWhen"));
    assert_non_null(keys_find(broker_keys, "namesrvAddr"));
}

static void test_nearest(void **state)
{
    assert_string_equal(keys_nearest(broker_keys, "autoCreateTopicEnabled"), "autoCreateTopicEnable");
    assert_string_equal(keys_nearest(broker_keys, "BROKERNAME"), "brokerName");
    assert_null(keys_nearest(broker_keys, "somethingElseAltogether"));
}

static void assert_check(const char *name, const char *value, bool good)
{
    char expected[160] = "";
    const struct key *key = keys_find(broker_keys, name);
    assert_non_null(key);
    assert_int_equal(keys_check(key, value, expected, sizeof expected) == 0, good);
    assert_int_equal(expected[0] == 0, good);
}

static void test_check(void **state)
{
    assert_check("brokerPermission", "0", true);
    assert_check("brokerPermission", "7", true);
    assert_check("brokerPermission", "8", false);
    assert_check("brokerPermission", "-1", false);
    assert_check("brokerPermission", "", false);
    assert_check("brokerPermission", "6x", false);
    assert_check("brokerPermission", "99999999999999999999", false);
    assert_check("autoCreateTopicEnable", "TRUE", true);
    assert_check("autoCreateTopicEnable", "1", false);
    assert_check("flushDiskType", "SYNC_FLUSH", true);
    assert_check("flushDiskType", "SYNC", false);
    assert_check("flushDiskType", "", false);
}

static void test_settings(void **state)
{
    struct settings settings;
    assert_int_equal(settings_init(&settings, broker_keys), 0);
    assert_false(settings_given(&settings, "brokerPermission"));
    assert_int_equal(settings_get_i64(&settings, "brokerPermission", 0), 6);
    assert_string_equal(settings_origin(&settings, "brokerPermission"), "default");
    assert_int_equal(settings_set(&settings, "brokerPermission", "4", "file"), 0);
    assert_int_equal(settings_set(&settings, "brokerPermission", "2", "run time"), 0);
    assert_int_equal(settings_get_i64(&settings, "brokerPermission", 0), 2);
    assert_string_equal(settings_origin(&settings, "brokerPermission"), "run time");
    settings_done(&settings);
    settings_done(&settings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_nearest),
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
