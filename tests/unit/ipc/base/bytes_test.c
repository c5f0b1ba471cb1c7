/* The bounded cursor and big-endian words. Buffers have exactly their size, so that a sanitizer sees a byte too much.
 */
#include "tests/unit/unit.h"

#include <stdlib.h>

#include "base/bytes.h"

static void test_big_endian(void **state)
{
    uint8_t raw[8];
    be64_store(raw, 0x0102030405060708u);
    const uint8_t expected[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    assert_memory_equal(raw, expected, 8);
    assert_true(be64_load(raw) == 0x0102030405060708u);
    assert_int_equal(be32_load(raw + 1), 0x02030405);
    assert_int_equal(be16_load(raw + 3), 0x0405);
    be16_store(raw + 1, 0xFFFE);
    be32_store(raw + 3, 0xA0B0C0D0u);
    const uint8_t changed[8] = {1, 0xFF, 0xFE, 0xA0, 0xB0, 0xC0, 0xD0, 8};
    assert_memory_equal(raw, changed, 8);
}

static size_t put_all(struct cursor *c, uint8_t *start)
{
    cursor_put_u8(c, 0xAB);
    cursor_put_u16(c, 0xBCDE);
    cursor_put_u32(c, 0xDEADBEEFu);
    cursor_put_i32(c, INT32_MIN);
    cursor_put_u64(c, UINT64_MAX - 1);
    cursor_put_i64(c, INT64_MIN);
    cursor_put_string(c, bytes_of("queue"));
    cursor_put_string(c, bytes_of(""));
    return (size_t)(c->pos - start);
}

static void test_round_trip(void **state)
{
    uint8_t buffer[64];
    struct cursor c = cursor_over(buffer, sizeof buffer);
    size_t size = put_all(&c, buffer);
    assert_false(c.bad);
    assert_int_equal(size, 1 + 2 + 4 + 4 + 8 + 8 + 7 + 2);
    c = cursor_over(buffer, size);
    assert_int_equal(cursor_get_u8(&c), 0xAB);
    assert_int_equal(cursor_get_u16(&c), 0xBCDE);
    assert_true(cursor_get_u32(&c) == 0xDEADBEEFu);
    assert_true(cursor_get_i32(&c) == INT32_MIN);
    assert_true(cursor_get_u64(&c) == UINT64_MAX - 1);
    assert_true(cursor_get_i64(&c) == INT64_MIN);
    assert_true(bytes_equal_text(cursor_get_string(&c), "queue"));
    struct bytes empty = cursor_get_string(&c);
    assert_int_equal(empty.size, 0);
    assert_false(c.bad);
    assert_ptr_equal(c.pos, c.end);
}

/* However short the room: no byte behind it, and bad from the first overrun on. */
static void test_every_cut(void **state)
{
    uint8_t whole[64];
    struct cursor c = cursor_over(whole, sizeof whole);
    size_t full = put_all(&c, whole);
    for (size_t size = 0; size < full; size++) {
        uint8_t *cut = malloc(size ? size : 1);
        c = cursor_over(cut, size);
        put_all(&c, cut);
        assert_true(c.bad);
        assert_true(c.pos <= cut + size);

        memcpy(cut, whole, size);
        c = cursor_over(cut, size);
        cursor_get_u8(&c);
        cursor_get_u16(&c);
        cursor_get_u32(&c);
        cursor_get_i32(&c);
        cursor_get_u64(&c);
        cursor_get_i64(&c);
        cursor_get_string(&c);
        struct bytes last = cursor_get_string(&c);
        assert_true(c.bad);
        assert_int_equal(last.size, 0);
        assert_int_equal(cursor_get_u64(&c), 0); /* stays bad, also for what would fit */
        assert_int_equal(cursor_get_u8(&c), 0);
        free(cut);
    }
}

static void test_string_of_64_kib_is_refused(void **state)
{
    uint8_t *long_text = calloc(1, 65536), *room = malloc(70000);
    struct cursor c = cursor_over(room, 70000);
    cursor_put_string(&c, (struct bytes){long_text, 65535});
    assert_false(c.bad);
    c = cursor_over(room, 70000);
    cursor_put_string(&c, (struct bytes){long_text, 65536});
    assert_true(c.bad);
    assert_ptr_equal(c.pos, room);
    free(long_text);
    free(room);
}

static void test_equality(void **state)
{
    assert_true(bytes_equal(bytes_of("a"), bytes_of("a")));
    assert_false(bytes_equal(bytes_of("a"), bytes_of("b")));
    assert_false(bytes_equal(bytes_of("a"), bytes_of("aa")));
    assert_true(bytes_equal((struct bytes){NULL, 0}, bytes_of("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_big_endian), cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_every_cut),  cmocka_unit_test(test_string_of_64_kib_is_refused),
        cmocka_unit_test(test_equality),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
