/* Grants over a socket pair: what arrives, what is refused, and that no descriptor is leaked on the way. */
#include "tests/unit/unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fd/fd_channel.h"

struct pair {
    int parent, child;
};

static struct pair open_pair(void)
{
    struct pair pair;
    assert_int_equal(fd_channel_pair(&pair.parent, &pair.child), 0);
    return pair;
}

static void close_pair(struct pair pair)
{
    close(pair.parent);
    close(pair.child);
}

static int open_fds(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

static bool same_file(int a, int b)
{
    struct stat x, y;
    assert_int_equal(fstat(a, &x), 0);
    assert_int_equal(fstat(b, &y), 0);
    return x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static void test_pair(void **state)
{
    struct pair pair = open_pair();
    assert_true(fcntl(pair.parent, F_GETFL) & O_NONBLOCK);
    assert_false(fcntl(pair.child, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(pair.parent, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(pair.child, F_GETFD) & FD_CLOEXEC);
    struct fd_grant grant;
    int fds[FD_GRANT_FDS_MAX];
    unsigned count;
    assert_int_equal(fd_channel_receive(pair.parent, &grant, fds, &count), -EAGAIN);
    close(pair.child);
    assert_int_equal(fd_channel_receive(pair.parent, &grant, fds, &count), 0);
    grant = fd_grant_make(GRANT_DONE, 0, 0, 0, NULL);
    assert_int_equal(fd_channel_send(pair.parent, &grant, NULL, 0), -EPIPE); /* and no SIGPIPE */
    close(pair.parent);
}

static void test_round_trip(void **state)
{
    struct pair pair = open_pair();
    int before = open_fds(), sent[FD_GRANT_FDS_MAX];
    for (unsigned i = 0; i < FD_GRANT_FDS_MAX; i++)
        sent[i] = memfd_create("x", MFD_CLOEXEC);
    for (unsigned n = 0; n <= FD_GRANT_FDS_MAX; n++) {
        struct fd_grant grant = fd_grant_make(GRANT_RING_SET, n, 1ull << 40, RING_SET_CONTROL, "front broker-a/0");
        assert_int_equal(fd_channel_send(pair.parent, &grant, sent, n), 0);
        struct fd_grant got;
        int fds[FD_GRANT_FDS_MAX];
        unsigned count = 99;
        assert_int_equal(fd_channel_receive(pair.child, &got, fds, &count), 1);
        assert_int_equal(count, n);
        assert_memory_equal(&got, &grant, sizeof got);
        for (unsigned i = 0; i < n; i++) {
            assert_true(same_file(fds[i], sent[i]));
            assert_true(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
            close(fds[i]);
        }
    }
    for (unsigned i = 0; i < FD_GRANT_FDS_MAX; i++)
        close(sent[i]);
    assert_int_equal(open_fds(), before);
    close_pair(pair);
}

static void test_grants_keep_their_borders(void **state)
{
    struct pair pair = open_pair();
    for (unsigned i = 0; i < 10; i++) {
        struct fd_grant grant = fd_grant_make(GRANT_LISTEN, i, 0, 0, "127.0.0.1:0");
        assert_int_equal(fd_channel_send(pair.parent, &grant, &pair.parent, i % 2), 0);
    }
    for (unsigned i = 0; i < 10; i++) {
        struct fd_grant grant;
        int fds[FD_GRANT_FDS_MAX];
        unsigned count;
        assert_int_equal(fd_channel_receive(pair.child, &grant, fds, &count), 1);
        assert_int_equal(grant.index, i);
        assert_int_equal(count, i % 2);
        if (count)
            close(fds[0]);
    }
    close_pair(pair);
}

/* One raw message with `fd_count` descriptors. */
static void send_raw(int socket, const void *data, size_t size, unsigned fd_count)
{
    union {
        char space[CMSG_SPACE(32 * sizeof(int))];
        struct cmsghdr align;
    } control;
    memset(&control, 0, sizeof control);
    struct iovec part = {(void *)data, size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd_count) {
        message.msg_control = control.space;
        message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        for (unsigned i = 0; i < fd_count; i++)
            memcpy(CMSG_DATA(header) + i * sizeof(int), &socket, sizeof(int));
    }
    assert_int_equal(sendmsg(socket, &message, 0), (ssize_t)size);
}

static void assert_refused(struct pair pair)
{
    struct fd_grant grant;
    int fds[FD_GRANT_FDS_MAX];
    unsigned count;
    assert_int_equal(fd_channel_receive(pair.child, &grant, fds, &count), -EBADMSG);
}

static void test_refusals_leak_nothing(void **state)
{
    struct pair pair = open_pair();
    int before = open_fds();
    struct fd_grant good = fd_grant_make(GRANT_BOARD, 0, 0, 0, "x"), bad;
    uint8_t large[sizeof good + 1] = {0};
    memcpy(large, &good, sizeof good);
    for (unsigned n = 0; n < 3; n++) {
        for (size_t size = 1; size <= sizeof large; size++) {
            if (size == sizeof good)
                continue;
            send_raw(pair.parent, large, size, n);
            assert_refused(pair);
        }
        bad = good;
        bad.magic ^= 1;
        send_raw(pair.parent, &bad, sizeof bad, n);
        assert_refused(pair);
        bad = good;
        bad.version++;
        send_raw(pair.parent, &bad, sizeof bad, n);
        assert_refused(pair);
    }
    for (unsigned n = FD_GRANT_FDS_MAX + 1; n <= 32; n++) {
        send_raw(pair.parent, &good, sizeof good, n);
        assert_refused(pair);
    }
    assert_int_equal(open_fds(), before);

    memset(good.name, 'n', sizeof good.name); /* a name without an end is cut, not believed */
    send_raw(pair.parent, &good, sizeof good, 0);
    struct fd_grant got;
    int fds[FD_GRANT_FDS_MAX];
    unsigned count;
    assert_int_equal(fd_channel_receive(pair.child, &got, fds, &count), 1);
    assert_int_equal(strlen(got.name), sizeof got.name - 1);
    close_pair(pair);
}

static void test_full_socket(void **state)
{
    struct pair pair = open_pair();
    struct fd_grant grant = fd_grant_make(GRANT_DONE, 0, 0, 0, "x"), got;
    unsigned sent = 0, received = 0, count;
    int fds[FD_GRANT_FDS_MAX], r;
    while ((r = fd_channel_send(pair.parent, &grant, NULL, 0)) == 0)
        sent++;
    assert_int_equal(r, -EAGAIN);
    assert_true(sent > 10);
    close(pair.parent);
    while (fd_channel_receive(pair.child, &got, fds, &count) == 1)
        received++;
    assert_int_equal(received, sent);
    close(pair.child);
}

static void test_names(void **state)
{
    for (int kind = GRANT_LIFE_LINE; kind <= GRANT_PEER_BOARD; kind++)
        assert_string_not_equal(grant_kind_name((enum grant_kind)kind), "unknown");
    assert_string_equal(grant_kind_name((enum grant_kind)0), "unknown");
    assert_string_equal(grant_kind_name((enum grant_kind)(GRANT_PEER_BOARD + 1)), "unknown");
    assert_string_equal(grant_kind_name((enum grant_kind) - 1), "unknown");
    struct fd_grant grant = fd_grant_make(GRANT_START, 1, 2, 3, NULL);
    assert_string_equal(grant.name, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pair),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_grants_keep_their_borders),
        cmocka_unit_test(test_refusals_leak_nothing),
        cmocka_unit_test(test_full_socket),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
