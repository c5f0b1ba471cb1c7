/* A connection over a socket pair: frames larger than the buffer, many frames in one read, foreign pieces, a full
 * socket, pages that are gone, release functions. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "wire/connection.h"

static void pair(struct connection *a, struct connection *b)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    connection_init(a, fds[0]);
    connection_init(b, fds[1]);
}

static void send_frame(struct connection *connection, int32_t opaque, const uint8_t *body, size_t body_size)
{
    struct frame_writer writer;
    size_t bound = frame_write_bound(0, 0);
    frame_write_request(&writer, connection_reserve(connection, bound), bound, 1, opaque, 0, LANGUAGE_JAVA);
    ssize_t size = frame_write_finish(&writer, body_size);
    assert_true(size > 0);
    connection_commit(connection, (size_t)size);
    if (body_size) {
        memcpy(connection_reserve(connection, body_size), body, body_size);
        connection_commit(connection, body_size);
    }
}

static void check_memory_freed(const struct connection *connection)
{
    assert_null(connection->in);
    assert_null(connection->out_first);
    assert_int_equal(connection->out_size, 0);
}

/* Sends frames with bodies of the given sizes and reads them back, in whatever pieces the socket takes. */
static void round_trip(const size_t *sizes, unsigned count)
{
    struct connection a, b;
    pair(&a, &b);
    uint8_t *body = malloc(FRAME_SIZE_MAX);
    for (size_t i = 0; i < FRAME_SIZE_MAX; i++)
        body[i] = (uint8_t)(i * 31 >> 3);
    for (unsigned i = 0; i < count; i++)
        send_frame(&a, (int32_t)i, body + i, sizes[i]);
    size_t total = a.out_size;
    unsigned received = 0;
    while (received < count) {
        assert_true(connection_flush(&a) >= 0);
        ssize_t n = connection_fill(&b);
        assert_true(n > 0 || n == -EAGAIN);
        struct frame frame;
        while (connection_next(&b, &frame) == FRAME_OK) {
            assert_int_equal(frame.opaque, received);
            assert_int_equal(frame.body.size, sizes[received]);
            assert_memory_equal(frame.body.data, body + received, sizes[received]);
            connection_consume(&b, &frame);
            received++;
        }
    }
    assert_int_equal(connection_flush(&a), 0);
    assert_int_equal(a.bytes_out, total);
    assert_int_equal(b.bytes_in, total);
    check_memory_freed(&a);
    check_memory_freed(&b);
    assert_int_equal(connection_fill(&b), -EAGAIN);
    connection_close(&a);
    assert_int_equal(connection_fill(&b), 0);
    check_memory_freed(&b);
    connection_close(&b);
    free(body);
}

static void test_small_frames(void **state)
{
    size_t sizes[5000];
    for (unsigned i = 0; i < 5000; i++)
        sizes[i] = i % 7 * 100;
    round_trip(sizes, 5000);
}

static void test_large_frames(void **state)
{
    const size_t sizes[] = {10, 65000, 65536, 70000, 0, 4u << 20, 3, 100000, 65400, FRAME_SIZE_MAX - 300, 1};
    round_trip(sizes, sizeof sizes / sizeof *sizes);
}

static void test_byte_by_byte(void **state)
{
    struct connection a, b;
    pair(&a, &b);
    struct frame frame;
    uint8_t bytes[512];
    struct frame_writer writer;
    frame_write_request(&writer, bytes, sizeof bytes, 1, 9, 0, LANGUAGE_JAVA);
    size_t size = (size_t)frame_write_finish(&writer, 3);
    memcpy(bytes + size, "xyz", 3);
    size += 3;
    for (size_t i = 0; i < size; i++) {
        assert_int_equal(connection_next(&b, &frame), FRAME_MORE);
        assert_int_equal(write(a.stream.fd, bytes + i, 1), 1);
        assert_int_equal(connection_fill(&b), 1);
    }
    assert_int_equal(connection_next(&b, &frame), FRAME_OK);
    assert_true(bytes_equal_text(frame.body, "xyz"));
    connection_close(&a);
    connection_close(&b); /* with an unconsumed frame in its buffer */
}

static void release(void *context)
{
    ++*(int *)context;
}

static void test_foreign(void **state)
{
    struct connection a, b;
    pair(&a, &b);
    int released = 0;
    char got[1024] = "", expected[1024] = "";
    for (int i = 0; i < 100; i++) { /* more pieces than one writev takes */
        memcpy(connection_reserve(&a, 2), "ab", 2);
        connection_commit(&a, 2);
        assert_int_equal(connection_add_foreign(&a, "foreign", 7, release, &released), 0);
        strcat(expected, "abforeign");
    }
    assert_int_equal(connection_add_foreign(&a, "", 0, release, &released), 0);
    assert_int_equal(a.out_size, 900);
    assert_int_equal(connection_flush(&a), 0);
    assert_int_equal(released, 101);
    check_memory_freed(&a);
    assert_int_equal(read(b.stream.fd, got, sizeof got), 900);
    assert_string_equal(got, expected);
    connection_close(&a);
    connection_close(&b);
}

static void test_full_socket(void **state)
{
    struct connection a, b;
    pair(&a, &b);
    int released = 0;
    size_t size = 4u << 20;
    char *data = calloc(1, size);
    assert_int_equal(connection_add_foreign(&a, data, size, release, &released), 0);
    assert_int_equal(connection_add_foreign(&a, "end", 3, release, &released), 0);
    assert_int_equal(connection_flush(&a), 1);
    assert_true(a.out_size > 0 && a.out_size < size + 3);
    assert_int_equal(released, 0);
    char *sink = malloc(1 << 20);
    size_t got = 0;
    while (got < size + 3) {
        ssize_t n = recv(b.stream.fd, sink, 1 << 20, 0);
        assert_true(n > 0);
        got += (size_t)n;
        assert_true(connection_flush(&a) >= 0);
    }
    assert_int_equal(released, 2);
    assert_int_equal(a.out_size, 0);
    /* What is not sent is released by the close, once. */
    assert_int_equal(connection_add_foreign(&a, data, size, release, &released), 0);
    assert_int_equal(connection_flush(&a), 1);
    connection_close(&a);
    assert_int_equal(released, 3);
    connection_close(&b);
    free(sink);
    free(data);
}

static void test_page_gone(void **state)
{
    struct connection a, b;
    pair(&a, &b);
    int released = 0;
    int fd = memfd_create("wire-test", MFD_CLOEXEC);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    assert_int_equal(ftruncate(fd, (off_t)(2 * page)), 0);
    uint8_t *map = mmap(NULL, 2 * page, PROT_READ, MAP_SHARED, fd, 0);
    assert_true(map != MAP_FAILED);
    assert_int_equal(ftruncate(fd, (off_t)page), 0);
    assert_int_equal(connection_add_foreign(&a, map, 2 * page, release, &released), 0);
    assert_int_equal(connection_flush(&a), -EFAULT);
    connection_close(&a);
    assert_int_equal(released, 1);
    connection_close(&b);
    munmap(map, 2 * page);
    close(fd);
}

static void test_peer_gone(void **state)
{
    struct connection a, b;
    pair(&a, &b);
    connection_close(&b);
    send_frame(&a, 1, NULL, 0);
    assert_int_equal(connection_flush(&a), -EPIPE); /* and no SIGPIPE */
    connection_close(&a);
}

static void test_skip(void **state)
{
    struct connection a, b;
    pair(&a, &b);
    static const uint8_t empty[] = {0, 0, 0, 6, 0, 0, 0, 2, '[', ']'};
    memcpy(connection_reserve(&a, sizeof empty), empty, sizeof empty);
    connection_commit(&a, sizeof empty);
    send_frame(&a, 5, NULL, 0);
    assert_int_equal(connection_flush(&a), 0);
    assert_true(connection_fill(&b) > 0);
    struct frame frame;
    assert_int_equal(connection_next(&b, &frame), FRAME_SKIP);
    connection_consume(&b, &frame);
    assert_int_equal(connection_next(&b, &frame), FRAME_OK);
    assert_int_equal(frame.opaque, 5);
    connection_consume(&b, &frame);
    connection_close(&a);
    connection_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_frames), cmocka_unit_test(test_large_frames), cmocka_unit_test(test_byte_by_byte),
        cmocka_unit_test(test_foreign),      cmocka_unit_test(test_full_socket),  cmocka_unit_test(test_page_gone),
        cmocka_unit_test(test_peer_gone),    cmocka_unit_test(test_skip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
