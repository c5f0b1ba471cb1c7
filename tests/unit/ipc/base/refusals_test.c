/* Which refusals get a line. */
#include "tests/unit/unit.h"

#include <stdio.h>

#include "base/refusals.h"

static void test_one_line_a_minute(void **state)
{
    struct refusals refusals = {0};
    unsigned unsaid;
    assert_true(refusals_say(&refusals, "10.0.0.1", 1000, &unsaid));
    assert_int_equal(unsaid, 0);
    for (int i = 0; i < 5; i++)
        assert_false(refusals_say(&refusals, "10.0.0.1", 1000 + i, &unsaid));
    assert_true(refusals_say(&refusals, "10.0.0.2", 2000, &unsaid));
    assert_true(refusals_say(&refusals, "10.0.0.1", 1000 + REFUSALS_QUIET_MS, &unsaid));
    assert_int_equal(unsaid, 5);
    assert_false(refusals_say(&refusals, "10.0.0.1", 1001 + REFUSALS_QUIET_MS, &unsaid));
}

static void test_many_addresses(void **state)
{
    struct refusals refusals = {0};
    unsigned unsaid, said = 0;
    char address[32];
    for (int i = 0; i < 10000; i++) {
        snprintf(address, sizeof address, "10.0.%d.%d", i / 256, i % 256);
        said += refusals_say(&refusals, address, 5000 + i, &unsaid);
    }
    assert_int_equal(said, REFUSALS_PEERS);
    /* The next minute has its lines again, and the oldest rows make room. */
    said = 0;
    for (int i = 0; i < 10000; i++) {
        snprintf(address, sizeof address, "10.1.%d.%d", i / 256, i % 256);
        said += refusals_say(&refusals, address, 5000 + REFUSALS_QUIET_MS, &unsaid);
    }
    assert_int_equal(said, 1);
    said = 0;
    for (int i = 0; i < 10000; i++) {
        snprintf(address, sizeof address, "10.2.%d.%d", i / 256, i % 256);
        said += refusals_say(&refusals, address, 20000 + 2 * REFUSALS_QUIET_MS, &unsaid);
    }
    assert_int_equal(said, REFUSALS_PEERS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_line_a_minute),
        cmocka_unit_test(test_many_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
