/* Segments: what they are born with, and everything that is refused as one. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/segment.h"

enum { SIZE = 3 * 4096, VERSION = 7 };

static int make(void)
{
    int fd = -1;
    assert_int_equal(segment_create("test", SEGMENT_BOARD, VERSION, SIZE, 42, &fd), 0);
    return fd;
}

static void test_birth(void **state)
{
    int fd = make();
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, SIZE);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_true(st.st_blocks <= 8); /* the header's page and no other */
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(ftruncate(fd, 4096), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(ftruncate(fd, 2 * SIZE), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    assert_int_equal(errno, EPERM);

    uint8_t raw[80];
    assert_int_equal(pread(fd, raw, sizeof raw, 0), sizeof raw);
    uint8_t expected[80] = {'P', 'N', 'T', 'L', SEGMENT_BOARD, 0, VERSION, 0, 0, 0x30, 0, 0, 0, 0, 0, 0, 42};
    assert_memory_equal(raw, expected, sizeof raw);
    close(fd);
}

static void test_attach_and_share(void **state)
{
    int fd = make(), other = dup(fd);
    struct segment a, b;
    assert_int_equal(segment_attach(fd, SEGMENT_BOARD, VERSION, true, &a), 0);
    assert_int_equal(segment_attach(other, SEGMENT_BOARD, VERSION, false, &b), 0);
    assert_int_equal(a.size, SIZE);
    ((char *)a.base)[SIZE - 1] = 'z';
    assert_int_equal(((char *)b.base)[SIZE - 1], 'z');
    segment_detach(&a);
    assert_null(a.base);
    segment_detach(&a); /* harmless */
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    segment_detach(&b);
}

static void test_readonly_view(void **state)
{
    int fd = make(), view = -1;
    assert_int_equal(segment_reopen_readonly(fd, &view), 0);
    assert_true(fcntl(view, F_GETFD) & FD_CLOEXEC);
    assert_ptr_equal(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, view, 0), MAP_FAILED);
    assert_int_equal(errno, EACCES);
    struct segment segment;
    assert_int_equal(segment_attach(view, SEGMENT_BOARD, VERSION, true, &segment), -EACCES);
    assert_int_equal(write(view, "x", 1), -1);
    assert_int_equal(segment_attach(view, SEGMENT_BOARD, VERSION, false, &segment), 0);
    assert_int_equal(mprotect(segment.base, SIZE, PROT_READ | PROT_WRITE), -1);
    assert_int_equal(errno, EACCES);
    segment_detach(&segment);
    close(fd);
}

/* A refused descriptor stays its owner's. */
static void assert_refused(int fd, int expected)
{
    struct segment segment = {.fd = -77};
    assert_int_equal(segment_attach(fd, SEGMENT_BOARD, VERSION, false, &segment), expected);
    assert_int_equal(segment.fd, -77);
    assert_true(fcntl(fd, F_GETFD) >= 0);
    close(fd);
}

static void test_wrong_header(void **state)
{
    int fd = make();
    struct segment segment;
    assert_int_equal(segment_attach(fd, SEGMENT_RING, VERSION, false, &segment), -EPROTO);
    assert_int_equal(segment_attach(fd, SEGMENT_BOARD, VERSION + 1, false, &segment), -EPROTONOSUPPORT);
    assert_int_equal(pwrite(fd, "", 1, 0), 1); /* magic */
    assert_refused(fd, -EPROTO);
    fd = make();
    assert_int_equal(pwrite(fd, "\0", 2, 6), 2); /* version 0: not made up yet */
    assert_refused(fd, -EPROTONOSUPPORT);
    fd = make();
    assert_int_equal(pwrite(fd, "\1", 1, 8), 1); /* a size that the kernel does not confirm */
    assert_refused(fd, -EPROTO);
}

static void test_not_a_segment(void **state)
{
    char path[] = "/tmp/pintle-segment-XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0);
    unlink(path);
    assert_int_equal(ftruncate(file, SIZE), 0);
    assert_refused(file, -EPROTO);

    /* The same bytes, but somebody could still shrink it under the map. */
    int unsealed = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING), fd = make();
    uint8_t raw[SIZE];
    assert_int_equal(pread(fd, raw, SIZE, 0), SIZE);
    assert_int_equal(write(unsealed, raw, SIZE), SIZE);
    close(fd);
    assert_int_equal(fcntl(unsealed, F_ADD_SEALS, F_SEAL_GROW), 0);
    assert_refused(unsealed, -EPROTO);

    int tiny = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(write(tiny, raw, 63), 63);
    assert_int_equal(fcntl(tiny, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
    assert_refused(tiny, -EPROTO);

    struct segment segment;
    assert_int_equal(segment_attach(-1, SEGMENT_BOARD, VERSION, false, &segment), -EBADF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_birth),         cmocka_unit_test(test_attach_and_share),
        cmocka_unit_test(test_readonly_view), cmocka_unit_test(test_wrong_header),
        cmocka_unit_test(test_not_a_segment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
