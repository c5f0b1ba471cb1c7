/* Windows of counts, and what view_is_record believes. */
#include "tests/unit/unit.h"

#include <isa-l/crc.h>
#include <string.h>

#include "broker/front/stats.h"
#include "broker/front/view.h"

enum { S = 1000, MINUTE = 60 * S, HOUR = 60 * MINUTE };

static void count(struct stats_item *item, unsigned nums)
{
    item->now.nums += nums;
    item->now.bytes += nums * 10;
    item->now.calls++;
}

static void test_windows(void **state)
{
    struct stats stats;
    stats_init(&stats, 5 * S);
    struct stats_item *item = stats_get(&stats, bytes_of("a"));
    assert_ptr_equal(stats_get(&stats, bytes_of("a")), item);
    assert_null(stats_find(&stats, bytes_of("b")));
    struct stats_sum sum = stats_sum(&stats, item, STATS_MINUTE, 5 * S);
    assert_int_equal(sum.value.nums, 0);
    assert_int_equal(sum.elapsed_ms, 1000);

    int64_t now_ms = 5 * S;
    for (int i = 0; i < 30; i++) { /* five minutes, one a second */
        now_ms += 10 * S;
        count(item, 10);
        stats_tick(&stats, now_ms);
    }
    sum = stats_sum(&stats, item, STATS_MINUTE, now_ms);
    assert_int_equal(sum.value.nums, 60);
    assert_int_equal(sum.value.bytes, 600);
    assert_int_equal(sum.value.calls, 6);
    assert_int_equal(sum.elapsed_ms, MINUTE);
    sum = stats_sum(&stats, item, STATS_HOUR, now_ms); /* all there is */
    assert_int_equal(sum.value.nums, 300);
    assert_int_equal(sum.elapsed_ms, 5 * MINUTE);
    /* Between two ticks the window is a bit longer, and what came last is in it. */
    count(item, 7);
    sum = stats_sum(&stats, item, STATS_MINUTE, now_ms + 4 * S);
    assert_int_equal(sum.value.nums, 67);
    assert_int_equal(sum.elapsed_ms, 64 * S);
    stats_done(&stats);
}

/* Without ticks, because nothing was counted, old counts leave the window all the same. */
static void test_idle(void **state)
{
    struct stats stats;
    stats_init(&stats, 0);
    struct stats_item *item = stats_get(&stats, bytes_of("a"));
    count(item, 5);
    stats_tick(&stats, 10 * S);
    struct stats_sum sum = stats_sum(&stats, item, STATS_MINUTE, 20 * MINUTE);
    assert_int_equal(sum.value.nums, 0);
    assert_int_equal(sum.elapsed_ms, 70 * S);
    count(item, 3);
    stats_tick(&stats, 20 * MINUTE);
    sum = stats_sum(&stats, item, STATS_MINUTE, 20 * MINUTE + 2 * S);
    assert_int_equal(sum.value.nums, 3);
    assert_int_equal(sum.elapsed_ms, 70 * S);
    assert_int_equal(stats_sum(&stats, item, STATS_DAY, 20 * MINUTE).value.nums, 8);
    stats_done(&stats);
}

static void test_day(void **state)
{
    struct stats stats;
    stats_init(&stats, 0);
    struct stats_item *item = stats_get(&stats, bytes_of("a"));
    for (int64_t now_ms = 10 * S; now_ms <= 50ll * HOUR; now_ms += 10 * S) {
        if (now_ms <= 30ll * HOUR)
            count(item, 1);
        stats_tick(&stats, now_ms);
        if (now_ms == 30ll * HOUR) {
            assert_int_equal(stats_sum(&stats, item, STATS_DAY, now_ms).value.nums, 24 * 360);
            assert_int_equal(stats_sum(&stats, item, STATS_HOUR, now_ms).value.nums, 360);
            assert_int_equal(stats_sum(&stats, item, STATS_MINUTE, now_ms).value.nums, 6);
        }
    }
    assert_int_equal(stats_sum(&stats, item, STATS_DAY, 50ll * HOUR).value.nums, 4 * 360);
    assert_int_equal(stats_sum(&stats, item, STATS_HOUR, 50ll * HOUR).value.nums, 0);
    stats_forget_idle(&stats);
    assert_non_null(stats_find(&stats, bytes_of("a")));
    for (int64_t now_ms = 50ll * HOUR; now_ms <= 56ll * HOUR; now_ms += 10 * S)
        stats_tick(&stats, now_ms);
    stats_forget_idle(&stats);
    assert_null(stats_find(&stats, bytes_of("a")));
    stats_done(&stats);
}

enum { POS = 4096, BODY = 20, TOPIC = 5, PROPERTIES = 7, SIZE = 91 + BODY + TOPIC + PROPERTIES };

static void make_record(uint8_t *record)
{
    memset(record, 0, SIZE);
    be32_store(record, SIZE);
    be32_store(record + 4, 0xDAA320A7u);
    be64_store(record + 28, POS);
    be32_store(record + 84, BODY);
    memset(record + 88, 'b', BODY);
    be32_store(record + 8, crc32_gzip_refl(0, record + 88, BODY) & 0x7FFFFFFF);
    record[88 + BODY] = TOPIC;
    be16_store(record + 88 + BODY + 1 + TOPIC, PROPERTIES);
    memset(record + 88 + BODY + 1 + TOPIC + 2, 'p', PROPERTIES);
}

static void test_record(void **state)
{
    uint8_t record[SIZE];
    make_record(record);
    assert_true(view_is_record(record, SIZE, POS));
    assert_false(view_is_record(record, SIZE, POS + 1));
    for (size_t size = 0; size < SIZE; size++)
        assert_false(view_is_record(record, size, POS));
    /* Whatever bit of what binds a record together is wrong, it is none. */
    static const struct {
        size_t at, size;
    } parts[] = {{0, 4}, {4, 4}, {8, 4}, {28, 8}, {84, 4}, {88, BODY + 1}, {88 + BODY + 1 + TOPIC, 2}};
    for (size_t part = 0; part < sizeof parts / sizeof *parts; part++)
        for (size_t bit = 0; bit < parts[part].size * 8; bit++) {
            record[parts[part].at + bit / 8] ^= (uint8_t)(1u << bit % 8);
            if (view_is_record(record, SIZE, POS))
                fail_msg("byte %zu, bit %zu", parts[part].at + bit / 8, bit % 8);
            record[parts[part].at + bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    assert_true(view_is_record(record, SIZE, POS));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_idle),
        cmocka_unit_test(test_day),
        cmocka_unit_test(test_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
