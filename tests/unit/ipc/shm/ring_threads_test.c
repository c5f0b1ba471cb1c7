/* Both ends as threads. For ThreadSanitizer the ends share one map (it compares addresses, and two maps of one page are
 * strangers to it), so that it sees every pair of accesses to payload, header and positions. Sleeping and waking are
 * part of it: both sides sleep whenever they may. */
#include "tests/unit/unit.h"

#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/panic.h"
#include "ring_pair.h"

struct run {
    struct ring_pair pair;
    uint64_t records;
    size_t size_max;
    uint64_t writer_sleeps, reader_sleeps;
};

static int watch(int fd)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    pn_assert(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0);
    return epoll;
}

static void wait_for_bell(int epoll)
{
    struct epoll_event event;
    pn_assert(epoll_wait(epoll, &event, 1, 60000) ==
              1); /* a lost wake-up, or a machine that stood still for a minute */
}

/* Sizes are made of the record's number on both sides. */
static size_t size_of(const struct run *run, uint64_t number)
{
    struct unit_random random = {number};
    return unit_random_below(&random, unit_random_below(&random, 16) ? 100 : run->size_max);
}

static void *write_all(void *argument)
{
    struct run *run = argument;
    struct ring_writer *writer = &run->pair.writer;
    int epoll = watch(writer->fds.space);
    for (uint64_t number = 0; number < run->records; number++) {
        size_t size = size_of(run, number);
        uint64_t pos;
        void *payload = ring_reserve(writer, (uint16_t)number, 0, size, &pos);
        while (!payload) {
            ring_publish(writer);
            ring_wake_reader(writer);
            if (!ring_want_room(writer, size)) {
                run->writer_sleeps++;
                wait_for_bell(epoll);
            }
            payload = ring_reserve(writer, (uint16_t)number, 0, size, &pos);
        }
        ring_fill(payload, size, pos);
        if (number % 7 == 0) {
            ring_publish(writer);
            ring_wake_reader(writer);
        }
    }
    ring_publish(writer);
    ring_wake_reader(writer);
    close(epoll);
    return NULL;
}

static void read_all(struct run *run)
{
    struct ring_reader *reader = &run->pair.reader;
    int epoll = watch(reader->fds.data);
    uint64_t number = 0;
    while (number < run->records) {
        struct ring_view view;
        int r = ring_peek(reader, &view);
        assert_true(r >= 0);
        if (r == 0) {
            ring_release_to(reader, reader->next_pos);
            if (ring_may_sleep(reader)) {
                run->reader_sleeps++;
                wait_for_bell(epoll);
            }
            continue;
        }
        assert_int_equal(view.record.kind, (uint16_t)number);
        assert_int_equal(view.payload_size, size_of(run, number));
        assert_true(ring_filled(view.payload, view.payload_size, view.record.pos));
        ring_next(reader, &view);
        number++;
        if (number % 13 == 0)
            ring_release_to(reader, reader->next_pos);
    }
    struct ring_view view;
    assert_int_equal(ring_peek(reader, &view), 0);
    close(epoll);
}

static void run_both(size_t capacity, uint64_t records)
{
    struct run run = {.records = records, .size_max = ring_payload_max(capacity)};
    ring_pair_open(&run.pair, capacity);
    struct ring_reader own_map = run.pair.reader;
    run.pair.reader.shared = run.pair.writer.shared;
    run.pair.reader.data = run.pair.writer.data;

    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, write_all, &run), 0);
    read_all(&run);
    assert_int_equal(pthread_join(thread, NULL), 0);
    print_message("%lu records through %zu bytes; sleeps: writer %lu, reader %lu\n", (unsigned long)records, capacity,
                  (unsigned long)run.writer_sleeps, (unsigned long)run.reader_sleeps);
    run.pair.reader.shared = own_map.shared;
    run.pair.reader.data = own_map.data;
    ring_pair_close(&run.pair);
}

static void test_tight_ring(void **state)
{
    run_both(4096, 100000);
}

static void test_wide_ring(void **state)
{
    run_both(1 << 18, 100000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tight_ring), cmocka_unit_test(test_wide_ring)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
