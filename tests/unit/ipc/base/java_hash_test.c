/* Hash codes as a Java 17 computed them: new String(bytes, UTF_8).hashCode(). */
#include "tests/unit/unit.h"

#include "base/java_hash.h"

static const struct {
    const char *text;
    int32_t hash;
} known[] = {
    {"", 0},
    {"TagA", 2598919},
    {"TagB", 2598920},
    {"*", 42},
    {"Größe", 69209585},
    {"订单", 1129459},
    {"😀x", 54959989},
    {"𝄞", 1772394},
    {"\xe4\xbd\xa0\xe5\xa5", 695453}, /* cut in a character */
    {"\xf0\x9f\x98", 65533},
    {"\xed\xa0\x80", 65533}, /* a surrogate */
    {"\xc0\xaf", 2097056},   /* overlong */
    {"\xff", 65533},
    {"\xe0\x80\x80", 65074269},
    {"\xf8\x88\x80\x80", 2017367872},
    {"A\xed\xa0\xbd\xed\xb8\x80"
     "B",
     66945217},
};

static void test_known_values(void **state)
{
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (java_hash(bytes_of(known[i].text)) != known[i].hash)
            fail_msg("row %zu: %d instead of %d", i, java_hash(bytes_of(known[i].text)), known[i].hash);
}

static void test_nul_is_a_character(void **state)
{
    assert_int_equal(java_hash((struct bytes){(const uint8_t *)"a\0b", 3}), ('a' * 31 + 0) * 31 + 'b');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_values),
        cmocka_unit_test(test_nul_is_a_character),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
