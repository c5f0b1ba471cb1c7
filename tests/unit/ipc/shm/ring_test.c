/* The ring from one thread: raw bytes, every alignment at the wrap, full and empty, random lengths against a model,
 * successors, wake flags and memory given back. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ring_pair.h"

enum { SMALL = 4096, MIB = 1 << 20 };

static uint64_t raw_u64(const struct ring_pair *pair, off_t offset)
{
    uint64_t value;
    assert_int_equal(pread(pair->fds.memory, &value, sizeof value, offset), sizeof value);
    return value;
}

static size_t used_size(size_t payload_size)
{
    return (16 + payload_size + 7) / 8 * 8;
}

/* Reads one record that must be there and hold what ring_fill made; does not release it. */
static struct ring_view take(struct ring_pair *pair, uint64_t pos, size_t size)
{
    struct ring_view view;
    assert_int_equal(ring_peek(&pair->reader, &view), 1);
    assert_true(view.record.pos == pos);
    assert_int_equal(view.payload_size, size);
    assert_true(ring_filled(view.payload, size, pos));
    ring_next(&pair->reader, &view);
    return view;
}

static uint64_t put(struct ring_pair *pair, size_t size)
{
    uint64_t pos;
    void *payload = ring_reserve(&pair->writer, 1, 0, size, &pos);
    assert_non_null(payload);
    ring_fill(payload, size, pos);
    return pos;
}

/* Moves both ends to `pos` of an empty ring. */
static void advance_to(struct ring_pair *pair, uint64_t pos)
{
    while (pair->writer.reserve_pos < pos) {
        uint64_t left = pos - pair->writer.reserve_pos;
        size_t size = left > 1040 ? 1024 : (size_t)left - 16; /* 1040 bytes, or the rest, which is never below 16 */
        if (left > 1040 && left - 1040 < 16)
            size = 512;
        uint64_t at = put(pair, size);
        ring_publish(&pair->writer);
        take(pair, at, size);
        ring_release_to(&pair->reader, pair->reader.next_pos);
    }
    assert_true(pair->writer.reserve_pos == pos);
}

static void test_raw_bytes(void **state)
{
    struct ring_pair pair;
    ring_pair_open(&pair, SMALL);
    assert_int_equal(raw_u64(&pair, 8), 4096 + SMALL);
    assert_int_equal(raw_u64(&pair, 64), SMALL);
    uint64_t pos = 99;
    memcpy(ring_reserve(&pair.writer, 0x1122, 0x3344, 5, &pos), "hello", 5);
    assert_int_equal(pos, 0);
    memcpy(ring_reserve(&pair.writer, 7, 0, 0, &pos), "", 0);
    assert_int_equal(pos, 24);
    assert_int_equal(raw_u64(&pair, 128), 0); /* nothing published */
    struct ring_view view;
    assert_int_equal(ring_peek(&pair.reader, &view), 0);

    ring_publish(&pair.writer);
    assert_int_equal(raw_u64(&pair, 128), 40);
    assert_int_equal(raw_u64(&pair, 256), 0);
    uint8_t raw[40];
    assert_int_equal(pread(pair.fds.memory, raw, sizeof raw, 4096), sizeof raw);
    const uint8_t expected[40] = {21,  0, 0, 0, 0x22, 0x11, 0x44, 0x33, 0, 0, 0, 0, 0,  0, 0, 0, 'h', 'e', 'l', 'l',
                                  'o', 0, 0, 0, 16,   0,    0,    0,    7, 0, 0, 0, 24, 0, 0, 0, 0,   0,   0,   0};
    assert_memory_equal(raw, expected, sizeof raw);

    assert_int_equal(ring_peek(&pair.reader, &view), 1);
    assert_int_equal(view.record.kind, 0x1122);
    assert_int_equal(view.record.flags, 0x3344);
    assert_int_equal(view.payload_size, 5);
    assert_memory_equal(view.payload, "hello", 5);
    ring_next(&pair.reader, &view);
    assert_int_equal(raw_u64(&pair, 256), 0); /* seen is not released */
    ring_release_to(&pair.reader, 24);
    assert_int_equal(raw_u64(&pair, 256), 24);
    assert_int_equal(ring_peek(&pair.reader, &view), 1);
    assert_int_equal(view.payload_size, 0);
    ring_next(&pair.reader, &view);
    assert_int_equal(ring_peek(&pair.reader, &view), 0);
    ring_pair_close(&pair);
}

/* A record that begins at every possible place before the end of the data, in lengths around the wrap. */
static void test_wrap_at_every_alignment(void **state)
{
    struct ring_pair pair;
    ring_pair_open(&pair, SMALL);
    uint64_t turn = SMALL;
    for (unsigned before = 8; before <= 512; before += 8) {
        for (unsigned size = 0; size <= before + 24; size++) {
            advance_to(&pair, turn + SMALL - before);
            uint64_t pos = put(&pair, size), next_pos = put(&pair, 3);
            assert_int_equal(pos % SMALL, SMALL - before);
            assert_int_equal(next_pos - pos, used_size(size));
            ring_publish(&pair.writer);
            struct ring_view view = take(&pair, pos, size);
            assert_ptr_equal(view.payload, pair.reader.data + (SMALL - before) + 16); /* in one piece */
            take(&pair, next_pos, 3);
            ring_release_to(&pair.reader, pair.reader.next_pos);
            turn += SMALL;
            while (turn + SMALL - 1024 < pair.writer.reserve_pos)
                turn += SMALL;
        }
    }
    assert_int_equal(ring_check(&pair.fds), 0);
    ring_pair_close(&pair);
}

static void test_full_ring(void **state)
{
    struct ring_pair pair;
    ring_pair_open(&pair, SMALL);
    for (int turn = 0; turn < 100; turn++) {
        unsigned count = 0;
        uint64_t start = pair.writer.reserve_pos;
        assert_int_equal(ring_room(&pair.writer), SMALL);
        while (ring_reserve(&pair.writer, 1, 0, 1, NULL))
            count++;
        assert_int_equal(count, SMALL / 24);
        assert_int_equal(ring_room(&pair.writer), SMALL % 24);
        assert_null(ring_reserve(&pair.writer, 1, 0, 1, NULL));
        assert_non_null(ring_reserve(&pair.writer, 1, 0, 0, NULL)); /* the last 16 bytes */
        assert_int_equal(ring_room(&pair.writer), 0);
        assert_null(ring_reserve(&pair.writer, 1, 0, 0, NULL));
        assert_false(ring_want_room(&pair.writer, 1));
        ring_publish(&pair.writer);
        struct ring_view view;
        for (unsigned i = 0; i < count + 1; i++) {
            assert_int_equal(ring_peek(&pair.reader, &view), 1);
            ring_next(&pair.reader, &view);
            assert_null(ring_reserve(&pair.writer, 1, 0, 0, NULL)); /* seen is not released */
        }
        assert_int_equal(ring_peek(&pair.reader, &view), 0);
        ring_release_to(&pair.reader, start + 24);
        assert_non_null(ring_reserve(&pair.writer, 1, 0, 1, NULL));
        assert_null(ring_reserve(&pair.writer, 1, 0, 9, NULL));
        ring_abandon(&pair.writer);
        ring_release_to(&pair.reader, pair.reader.next_pos);
    }
    ring_pair_close(&pair);
}

static void test_largest_payload(void **state)
{
    struct ring_pair pair;
    ring_pair_open(&pair, SMALL);
    size_t largest = ring_payload_max(SMALL);
    assert_int_equal(largest, SMALL / 4 * 3 - 16);
    assert_true(ring_payload_max(8 << 20) >= (4 << 20) + 32767 + 80 + 3 * 255);
    for (uint64_t start = 0; start < 3 * SMALL; start += 40) {
        advance_to(&pair, pair.writer.reserve_pos + 40);
        uint64_t pos = put(&pair, largest);
        assert_null(ring_reserve(&pair.writer, 1, 0, largest, NULL));
        ring_publish(&pair.writer);
        take(&pair, pos, largest);
        ring_release_to(&pair.reader, pair.reader.next_pos);
    }
    assert_null(ring_reserve(&pair.writer, 1, 0, largest + 1, NULL));
    assert_null(ring_reserve(&pair.writer, 1, 0, SIZE_MAX - 8, NULL));
    ring_pair_close(&pair);
}

static void test_shrink_and_abandon(void **state)
{
    struct ring_pair pair;
    ring_pair_open(&pair, SMALL);
    uint64_t first = put(&pair, 40), second;
    void *payload = ring_reserve(&pair.writer, 1, 0, 1000, &second);
    ring_fill(payload, 1000, second);
    ring_shrink_last(&pair.writer, second, 13);
    uint64_t third = put(&pair, 7);
    assert_int_equal(third, second + used_size(13));
    ring_publish(&pair.writer);
    put(&pair, 99);
    put(&pair, 98);
    ring_abandon(&pair.writer);
    uint64_t fourth = put(&pair, 1);
    assert_int_equal(fourth, third + used_size(7));
    ring_publish(&pair.writer);
    take(&pair, first, 40);
    take(&pair, second, 13);
    take(&pair, third, 7);
    take(&pair, fourth, 1);
    struct ring_view view;
    assert_int_equal(ring_peek(&pair.reader, &view), 0);
    ring_pair_close(&pair);
}

/* Random lengths, batches, reads and releases; the model is the pattern of each position and a list of what is open. */
static void test_random_lengths(void **state)
{
    enum { OPEN_MAX = 2048 };
    struct ring_pair pair;
    struct unit_random random = {7};
    ring_pair_open(&pair, 16384);
    struct {
        uint64_t pos;
        size_t size;
    } open[OPEN_MAX];
    uint64_t made = 0, published = 0, taken = 0, refusals = 0;
    for (int step = 0; step < 400000; step++) {
        size_t size = unit_random_below(&random, 4) ? unit_random_below(&random, 64) : unit_random_below(&random, 3000);
        if (unit_random_below(&random, 5) < 2 && made - taken < OPEN_MAX) {
            uint64_t pos;
            bool fits = used_size(size) <= ring_room(&pair.writer);
            void *payload = ring_reserve(&pair.writer, 1, 0, size, &pos);
            assert_int_equal(payload != NULL, fits);
            if (payload) {
                ring_fill(payload, size, pos);
                open[made % OPEN_MAX].pos = pos;
                open[made++ % OPEN_MAX].size = size;
            } else {
                refusals++;
            }
        } else if (unit_random_below(&random, 2)) {
            ring_publish(&pair.writer);
            published = made;
        } else if (taken < published) {
            take(&pair, open[taken % OPEN_MAX].pos, open[taken % OPEN_MAX].size);
            taken++;
            if (unit_random_below(&random, 3) == 0)
                ring_release_to(&pair.reader, pair.reader.next_pos);
        } else {
            struct ring_view view;
            assert_int_equal(ring_peek(&pair.reader, &view), 0);
            ring_release_to(&pair.reader, pair.reader.next_pos);
        }
    }
    assert_true(taken > 20000 && refusals > 1000);
    assert_true(pair.reader.next_pos > 100 * 16384);
    ring_pair_close(&pair);
}

static void test_successors(void **state)
{
    struct ring_pair pair;
    ring_pair_open(&pair, SMALL);
    uint64_t pos[4];
    for (int i = 0; i < 3; i++)
        pos[i] = put(&pair, 100);
    ring_publish(&pair.writer);
    put(&pair, 50); /* dies with its writer */
    ring_writer_detach(&pair.writer);
    struct ring_fds fds = ring_fds_dup(&pair.fds);
    assert_int_equal(ring_writer_attach(&pair.writer, &fds), 0);
    assert_int_equal(ring_bell_count(pair.fds.data), 1); /* the predecessor may have owed this */
    pos[3] = put(&pair, 20);
    assert_int_equal(pos[3], 3 * used_size(100));
    ring_publish(&pair.writer);

    take(&pair, pos[0], 100);
    ring_release_to(&pair.reader, pair.reader.next_pos);
    take(&pair, pos[1], 100);
    ring_reader_detach(&pair.reader); /* took two, released one */
    fds = ring_fds_dup(&pair.fds);
    assert_int_equal(ring_reader_attach(&pair.reader, &fds), 0);
    assert_int_equal(ring_bell_count(pair.fds.space), 1);
    take(&pair, pos[1], 100);
    assert_int_equal(ring_reader_seek(&pair.reader, pos[0]), -ERANGE);
    assert_int_equal(ring_reader_seek(&pair.reader, pos[1] - 8), -ERANGE);
    assert_int_equal(ring_reader_seek(&pair.reader, pos[2] + 4), -ERANGE);
    assert_int_equal(ring_reader_seek(&pair.reader, pos[3] + used_size(20) + 8), -ERANGE);
    assert_int_equal(ring_reader_seek(&pair.reader, pos[2]), 0);
    take(&pair, pos[2], 100);
    assert_int_equal(ring_reader_seek(&pair.reader, pos[3] + used_size(20)), 0);
    struct ring_view view;
    assert_int_equal(ring_peek(&pair.reader, &view), 0);
    assert_int_equal(ring_reader_seek(&pair.reader, pos[2] + 8), 0); /* in range, but no record begins there */
    assert_int_equal(ring_peek(&pair.reader, &view), -EBADMSG);
    ring_pair_close(&pair);
}

static void test_wake_flags(void **state)
{
    struct ring_pair pair;
    ring_pair_open(&pair, SMALL);
    put(&pair, 1);
    ring_publish(&pair.writer);
    ring_wake_reader(&pair.writer);
    assert_int_equal(ring_bell_count(pair.fds.data), 0); /* nobody sleeps */
    assert_false(ring_may_sleep(&pair.reader));          /* there is a record */
    ring_wake_reader(&pair.writer);
    assert_int_equal(ring_bell_count(pair.fds.data), 0);
    take(&pair, 0, 1);
    assert_true(ring_may_sleep(&pair.reader));
    put(&pair, 1);
    ring_wake_reader(&pair.writer);
    ring_publish(&pair.writer);
    ring_wake_reader(&pair.writer);
    ring_wake_reader(&pair.writer);
    assert_int_equal(ring_bell_count(pair.fds.data), 1); /* one sleep, one wake-up */
    take(&pair, 24, 1);
    assert_true(ring_may_sleep(&pair.reader));
    ring_awake(&pair.reader);
    ring_wake_reader(&pair.writer);
    assert_int_equal(ring_bell_count(pair.fds.data), 0);

    ring_release_to(&pair.reader, pair.reader.next_pos);
    assert_int_equal(ring_bell_count(pair.fds.space), 0);
    assert_true(ring_want_room(&pair.writer, ring_payload_max(SMALL)));
    ring_release_to(&pair.reader, pair.reader.next_pos);
    assert_int_equal(ring_bell_count(pair.fds.space), 0);
    uint64_t pos = put(&pair, 3000);
    ring_publish(&pair.writer);
    assert_false(ring_want_room(&pair.writer, 2000));
    take(&pair, pos, 3000);
    ring_release_to(&pair.reader, pair.reader.next_pos);
    ring_release_to(&pair.reader, pair.reader.next_pos);
    assert_int_equal(ring_bell_count(pair.fds.space), 1);
    ring_pair_close(&pair);
}

static bool readable(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    return poll(&poll_fd, 1, 0) == 1;
}

/* A bell whose listener is not trusted: it may leave it unread, make its end blocking, or close it. */
static void test_guarded_bell(void **state)
{
    struct ring_pair pair;
    int listener;
    ring_pair_open(&pair, SMALL);
    ring_writer_detach(&pair.writer);
    assert_int_equal(ring_bell_guard(&pair.fds.data, &listener), 0);
    struct ring_fds fds = ring_fds_dup(&pair.fds);
    assert_int_equal(ring_writer_attach(&pair.writer, &fds), 0);
    assert_true(readable(listener)); /* owed by a predecessor */
    ring_bell_clear(listener);
    assert_false(readable(listener));
    assert_true(ring_may_sleep(&pair.reader));
    ring_wake_reader(&pair.writer);
    assert_true(readable(listener));

    assert_int_equal(fcntl(listener, F_SETFL, 0), 0);
    for (int i = 0; i < 100000; i++) /* a socket holds some hundred */
        ring_call_reader(&pair.writer);
    assert_true(readable(listener));
    assert_int_equal(fcntl(listener, F_SETFL, O_NONBLOCK), 0);
    ring_bell_clear(listener);
    assert_false(readable(listener));
    ring_call_reader(&pair.writer);
    assert_true(readable(listener));
    close(listener);
    ring_call_reader(&pair.writer); /* no SIGPIPE */
    ring_pair_close(&pair);
}

static uint64_t kib_held(const struct ring_pair *pair)
{
    struct stat st;
    assert_int_equal(fstat(pair->fds.memory, &st), 0);
    return (uint64_t)st.st_blocks / 2;
}

static void test_trim(void **state)
{
    struct ring_pair pair;
    ring_pair_open(&pair, MIB);
    assert_true(kib_held(&pair) <= 4);
    /* An odd start, so that the used range crosses the end of the data in the second turn. */
    uint64_t pos[64];
    for (int turn = 0; turn < 5; turn++) {
        size_t size = 15000;
        for (int i = 0; i < 64; i++)
            pos[i] = put(&pair, size);
        ring_publish(&pair.writer);
        assert_true(kib_held(&pair) >= 900);
        for (int i = 0; i < 60; i++)
            take(&pair, pos[i], size);
        ring_writer_trim(&pair.writer); /* nothing is released: nothing but the unused rest may go */
        assert_true(kib_held(&pair) >= 900);
        ring_release_to(&pair.reader, pair.reader.next_pos);
        ring_writer_trim(&pair.writer);
        assert_true(kib_held(&pair) <= 4 * 15 + 4 + 8 + 4); /* four records and the pages that they share */
        for (int i = 60; i < 64; i++)
            take(&pair, pos[i], size); /* what the reader still reads is whole */
        ring_release_to(&pair.reader, pair.reader.next_pos);
        ring_writer_trim(&pair.writer);
        assert_true(kib_held(&pair) <= 8);
        ring_writer_trim(&pair.writer);
    }
    assert_int_equal(ring_check(&pair.fds), 0);
    ring_pair_close(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_raw_bytes),          cmocka_unit_test(test_wrap_at_every_alignment),
        cmocka_unit_test(test_full_ring),          cmocka_unit_test(test_largest_payload),
        cmocka_unit_test(test_shrink_and_abandon), cmocka_unit_test(test_random_lengths),
        cmocka_unit_test(test_successors),         cmocka_unit_test(test_wake_flags),
        cmocka_unit_test(test_guarded_bell),       cmocka_unit_test(test_trim),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
