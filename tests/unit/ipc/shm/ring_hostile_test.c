/* A peer that writes anything anywhere in the ring that both map: the other side must neither crash nor look outside
 * its map nor be talked into giving away what it still needs. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ring_pair.h"

enum { CAPACITY = 4096 };

static void assert_inside(const struct ring_pair *pair, const struct ring_view *view)
{
    const uint8_t *start = pair->reader.data, *end = start + 2 * pair->reader.capacity;
    assert_true(view->payload >= start + 16 && view->payload <= end);
    assert_true(view->payload_size <= (size_t)(end - view->payload));
    assert_true(view->payload_size <= pair->reader.capacity);
    volatile uint8_t sum = 0;
    for (uint32_t i = 0; i < view->payload_size; i++)
        sum += view->payload[i];
}

/* Numbers that lie near the edges more often than not. */
static uint64_t odd_number(struct unit_random *random, uint64_t near)
{
    static const uint64_t edges[] = {0,
                                     8,
                                     16,
                                     24,
                                     CAPACITY - 16,
                                     CAPACITY - 8,
                                     CAPACITY,
                                     CAPACITY + 8,
                                     2 * CAPACITY,
                                     UINT32_MAX - 7,
                                     UINT32_MAX,
                                     UINT64_MAX - 7,
                                     UINT64_MAX,
                                     1ull << 63};
    uint64_t edge = edges[unit_random_below(random, sizeof edges / sizeof edges[0])];
    switch (unit_random_below(random, 5)) {
    case 0:
        return unit_random(random);
    case 1:
        return near - edge;
    case 2:
        return edge;
    case 3:
        return near + unit_random_below(random, 2 * CAPACITY);
    default:
        return near + edge;
    }
}

static void test_random_writer(void **state)
{
    struct ring_pair pair;
    struct unit_random random = {11};
    unsigned records = 0, refused = 0, nothing = 0;
    ring_pair_open(&pair, CAPACITY);
    for (int round = 0; round < 300000; round++) {
        struct ring_layout *shared = pair.writer.shared;
        if (unit_random_below(&random, 2)) {
            shared->write_pos = odd_number(&random, pair.reader.next_pos);
        } else {
            shared->write_pos = pair.reader.next_pos + unit_random_below(&random, CAPACITY + 8) / 8 * 8;
            /* Headers that are right in all but one thing, or in all. */
            struct ring_record record = {(uint32_t)(16 + unit_random_below(&random, 300)), 1, 0, pair.reader.next_pos};
            if (unit_random_below(&random, 3) == 0)
                record.size = (uint32_t)odd_number(&random, 16);
            if (unit_random_below(&random, 3) == 0)
                record.pos = odd_number(&random, record.pos);
            memcpy(pair.writer.data + pair.reader.next_pos % CAPACITY, &record, sizeof record);
        }
        if (unit_random_below(&random, 8) == 0)
            shared->reader_asleep = (uint32_t)unit_random(&random);
        ring_may_sleep(&pair.reader);
        struct ring_view view;
        int r = ring_peek(&pair.reader, &view);
        if (r == 1) {
            records++;
            assert_inside(&pair, &view);
            ring_next(&pair.reader, &view);
            ring_release_to(&pair.reader, pair.reader.next_pos);
        } else if (r == 0) {
            nothing++;
        } else {
            refused++;
            assert_int_equal(r, -EBADMSG);
            uint64_t pos = pair.reader.next_pos; /* the ring would be given up; here it is another one */
            pair.reader.write_pos = pos;
        }
    }
    assert_true(records > 5000 && refused > 100000 && nothing > 1000);
    ring_pair_close(&pair);
}

static void test_random_reader(void **state)
{
    struct ring_pair pair;
    struct unit_random random = {12};
    unsigned given = 0, refused = 0;
    ring_pair_open(&pair, CAPACITY);
    for (int round = 0; round < 300000; round++) {
        struct ring_writer *writer = &pair.writer;
        uint64_t released = writer->read_pos; /* what the reader has once said that it needs no more */
        uint64_t claim =
            unit_random_below(&random, 4) ? odd_number(&random, writer->published_pos) : writer->published_pos;
        writer->shared->read_pos = claim;
        if (claim >= released && claim <= writer->published_pos)
            released = claim;
        writer->shared->writer_asleep = (uint32_t)unit_random(&random);
        uint64_t pos;
        size_t size = unit_random_below(&random, ring_payload_max(CAPACITY) + 100);
        uint8_t *payload = ring_reserve(writer, 1, 0, size, &pos);
        if (payload) {
            given++;
            assert_true(payload >= writer->data + 16 && payload + size <= writer->data + 2 * CAPACITY);
            memset(payload, 0xEE, size);
            assert_true(pos + 16 + size - released <= CAPACITY); /* nothing that was not released */
        } else {
            refused++;
        }
        assert_true(ring_room(writer) <= CAPACITY);
        ring_want_room(writer, size);
        if (unit_random_below(&random, 50) == 0)
            ring_writer_trim(writer);
        if (unit_random_below(&random, 2))
            ring_publish(writer);
        else
            ring_abandon(writer);
    }
    print_message("%u given, %u refused\n", given, refused);
    assert_true(given > 20000 && refused > 20000);
    ring_pair_close(&pair);
}

static void test_attach_to_nonsense(void **state)
{
    static const struct {
        uint64_t read_pos, write_pos;
        int expected;
    } rows[] = {
        {0, 0, 0},        {8, 8, 0},
        {0, CAPACITY, 0}, {UINT64_MAX - 7, UINT64_MAX - 7, 0},
        {8, 0, -EBADMSG}, {0, CAPACITY + 8, -EBADMSG},
        {0, 4, -EBADMSG}, {4, 8, -EBADMSG},
        {4, 4, -EBADMSG}, {0, UINT64_MAX - 7, -EBADMSG},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct ring_pair pair;
        ring_pair_open(&pair, CAPACITY);
        pair.writer.shared->read_pos = rows[i].read_pos;
        pair.writer.shared->write_pos = rows[i].write_pos;
        struct ring_fds fds = ring_fds_dup(&pair.fds);
        struct ring_writer writer;
        int r = ring_writer_attach(&writer, &fds);
        assert_int_equal(r, rows[i].expected);
        if (r == 0)
            ring_writer_detach(&writer);
        else
            ring_fds_close(&fds); /* still ours */
        fds = ring_fds_dup(&pair.fds);
        struct ring_reader reader;
        r = ring_reader_attach(&reader, &fds);
        assert_int_equal(r, rows[i].expected);
        if (r == 0)
            ring_reader_detach(&reader);
        else
            ring_fds_close(&fds);
        if (rows[i].expected < 0)
            assert_int_equal(ring_check(&pair.fds), -EBADMSG);
        ring_pair_close(&pair);
    }
}

static void test_attach_to_other_objects(void **state)
{
    struct ring_pair pair;
    ring_pair_open(&pair, CAPACITY);
    static const uint64_t capacities[] = {0, 1, 4095, 2048, 8192, 12288, 1ull << 31, 1ull << 63, UINT64_MAX};
    for (size_t i = 0; i < sizeof capacities / sizeof capacities[0]; i++) {
        pair.writer.shared->capacity = capacities[i];
        struct ring_reader reader;
        assert_int_equal(ring_reader_attach(&reader, &pair.fds), -EPROTO);
        assert_int_equal(ring_check(&pair.fds), -EPROTO);
    }
    ring_pair_close(&pair);

    struct ring_fds fds = {-1, -1, -1};
    struct ring_writer writer;
    assert_int_equal(segment_create("small", SEGMENT_RING, RING_VERSION, 4096, 0, &fds.memory), 0);
    assert_int_equal(ring_writer_attach(&writer, &fds), -EPROTO);
    close(fds.memory);
    assert_int_equal(segment_create("other", SEGMENT_BOARD, RING_VERSION, 8192, 0, &fds.memory), 0);
    assert_int_equal(ring_writer_attach(&writer, &fds), -EPROTO);
    close(fds.memory);
    assert_int_equal(segment_create("newer", SEGMENT_RING, RING_VERSION + 1, 8192, 0, &fds.memory), 0);
    assert_int_equal(ring_writer_attach(&writer, &fds), -EPROTONOSUPPORT);
    close(fds.memory);
}

/* Another process changes the words while we read: each check must hold for the copy that is used. */
static void scribble(struct ring_layout *shared, uint8_t *data)
{
    struct unit_random random = {13};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        uint64_t pos = atomic_load(&shared->read_pos);
        struct ring_record record = {16 + (uint32_t)unit_random_below(&random, 64), 1, 0, pos};
        if (unit_random_below(&random, 4) == 0)
            record.size = (uint32_t)odd_number(&random, 16);
        memcpy(data + pos % CAPACITY, &record, sizeof record);
        atomic_store(&shared->write_pos,
                     unit_random_below(&random, 8) ? pos + (16 + record.size + 7) / 8 * 8 : odd_number(&random, pos));
        *(volatile uint32_t *)(data + pos % CAPACITY) = (uint32_t)odd_number(&random, record.size);
    }
}

static void test_words_change_under_the_check(void **state)
{
    struct ring_pair pair;
    ring_pair_open(&pair, CAPACITY);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        scribble(pair.writer.shared, pair.writer.data);
    unsigned records = 0, refused = 0;
    for (long round = 0; round < 100000000 && (records < 20000 || refused < 20000); round++) {
        struct ring_view view;
        int r = ring_peek(&pair.reader, &view);
        if (r == 1) {
            records++;
            assert_inside(&pair, &view);
            ring_next(&pair.reader, &view);
            ring_release_to(&pair.reader, pair.reader.next_pos);
        } else if (r < 0) {
            refused++;
            pair.reader.write_pos = pair.reader.next_pos;
        }
    }
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    print_message("%u records, %u refusals\n", records, refused);
    assert_true(records > 0 && refused > 0);
    ring_pair_close(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_writer),
        cmocka_unit_test(test_random_reader),
        cmocka_unit_test(test_attach_to_nonsense),
        cmocka_unit_test(test_attach_to_other_objects),
        cmocka_unit_test(test_words_change_under_the_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
