/* The image: what a successor finds after a cut at any record, after a torn tail, after flips, and after a writer that
 * was killed at any moment. */
#include <signal.h>
#include <sched.h>

#include "base/clock.h"
#include "meta_fixture.h"

enum { RECORDS = 200, COUNTERS = 100 };

static int make_image(void)
{
    int fd;
    assert_int_equal(segment_create("image", SEGMENT_IMAGE, CONTRACT_IMAGE_VERSION, CONTRACT_IMAGE_SIZE, 1, &fd), 0);
    return fd;
}

/* The state of these tests: some counters, and a padding that makes records large. */
struct counters {
    uint64_t values[COUNTERS];
    uint64_t applied;
    unsigned padding;
    bool die_in_snapshot;
};

static void append(struct image *image, uint32_t index, uint64_t value, unsigned padding)
{
    struct cursor c = image_begin(image, IMAGE_OFFSET);
    cursor_put_u32(&c, index);
    cursor_put_u64(&c, value);
    uint8_t *p = cursor_take(&c, padding);
    assert_non_null(p);
    memset(p, (int)value, padding);
    image_end(image, &c);
}

static void snapshot(struct image *image, void *context)
{
    struct counters *counters = context;
    for (uint32_t i = 0; i < COUNTERS; i++) {
        append(image, i, counters->values[i], counters->padding);
        if (counters->die_in_snapshot && i == COUNTERS / 2)
            kill(getpid(), SIGKILL);
    }
}

static int apply(void *context, enum image_type type, struct bytes payload)
{
    struct counters *counters = context;
    struct cursor c = cursor_over(payload.data, payload.size);
    uint32_t index = cursor_get_u32(&c);
    uint64_t value = cursor_get_u64(&c);
    if (c.bad || index >= COUNTERS || type != IMAGE_OFFSET)
        return -EBADMSG;
    counters->values[index] = value;
    counters->applied++;
    return 0;
}

static struct image *attach(int fd, struct counters *counters)
{
    struct image *image;
    assert_int_equal(image_open(dup(fd), snapshot, counters, &image), 0);
    return image;
}

static int replay(int fd, struct counters *ret_counters)
{
    memset(ret_counters, 0, sizeof *ret_counters);
    struct image *image = attach(fd, ret_counters);
    int r = image_replay(image, apply, ret_counters);
    image_free(image);
    return r;
}

static void set(struct image *image, struct counters *counters, uint32_t index, uint64_t value)
{
    assert_int_equal(image_make_room(image, 1, 12 + counters->padding), 0);
    counters->values[index] = value;
    append(image, index, value, counters->padding);
}

static struct image_layout *map_layout(int fd)
{
    void *base = mmap(NULL, CONTRACT_IMAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(base != MAP_FAILED);
    return base;
}

static void test_fresh(void **state)
{
    int fd = make_image();
    struct counters found;
    assert_int_equal(replay(fd, &found), -ENODATA);
    close(fd);
}

/* Fills one half with RECORDS records and tells where each ended. */
static void fill(int fd, uint64_t ends[RECORDS + 1])
{
    struct counters counters = {.padding = 0};
    struct image *image = attach(fd, &counters);
    image_forget(image);
    assert_int_equal(image_flip(image), 0);
    ends[0] = image_end_pos(image);
    for (uint32_t i = 0; i < RECORDS; i++) {
        counters.padding = i * 7 % 61;
        set(image, &counters, i % COUNTERS, 1000 + i);
        ends[i + 1] = image_end_pos(image);
    }
    image_free(image);
}

static void test_cut_at_each_record(void **state)
{
    int fd = make_image();
    uint64_t ends[RECORDS + 1];
    fill(fd, ends);
    struct image_layout *layout = map_layout(fd);
    unsigned half = layout->active & 1;
    uint8_t *data = (uint8_t *)layout + IMAGE_PAGE + half * IMAGE_HALF_SIZE;
    for (unsigned cut = 0; cut <= RECORDS; cut++) {
        struct counters found;
        layout->end_pos[half] = ends[cut];
        assert_int_equal(replay(fd, &found), 0);
        assert_int_equal(found.applied, COUNTERS + cut);
        for (unsigned i = 0; i < COUNTERS; i++) {
            unsigned last = cut > i ? i + (cut - 1 - i) / COUNTERS * COUNTERS : 0;
            assert_int_equal(found.values[i], cut > i ? 1000 + last : 0);
        }
    }
    /* Half-written bytes behind the end mean nothing. */
    memset(data + ends[RECORDS], 0xa5, 4096);
    struct counters found;
    assert_int_equal(replay(fd, &found), 0);
    assert_int_equal(found.applied, COUNTERS + RECORDS);
    munmap(layout, CONTRACT_IMAGE_SIZE);
    close(fd);
}

static void test_nonsense_is_refused(void **state)
{
    int fd = make_image();
    uint64_t ends[RECORDS + 1];
    fill(fd, ends);
    struct image_layout *layout = map_layout(fd);
    unsigned half = layout->active & 1;
    uint8_t *data = (uint8_t *)layout + IMAGE_PAGE + half * IMAGE_HALF_SIZE;
    struct counters found;
    for (unsigned i = 0; i < RECORDS; i++) {
        struct image_record *record = (void *)(data + ends[i]);
        for (unsigned at = 0; at < record->size; at++) {
            data[ends[i] + at] ^= 1 << i % 8;
            assert_int_equal(replay(fd, &found), -EBADMSG);
            data[ends[i] + at] ^= 1 << i % 8;
        }
    }
    for (uint64_t end = ends[RECORDS] - 64; end < ends[RECORDS]; end++) {
        layout->end_pos[half] = end;
        assert_int_equal(replay(fd, &found), end == ends[RECORDS - 1] || end == ends[RECORDS - 2] ? 0 : -EBADMSG);
    }
    layout->end_pos[half] = IMAGE_HALF_SIZE + 8;
    assert_int_equal(replay(fd, &found), -EBADMSG);
    munmap(layout, CONTRACT_IMAGE_SIZE);
    close(fd);
}

static void test_flips(void **state)
{
    int fd = make_image();
    struct counters counters = {.padding = 48 * 1024}, found;
    struct image *image = attach(fd, &counters);
    image_forget(image);
    assert_int_equal(image_flip(image), 0);
    struct image_layout *layout = map_layout(fd);
    uint64_t first_turn = layout->active;
    for (uint64_t i = 0; i < 9000; i++) { /* 430 MB through halves of 128 MiB */
        set(image, &counters, (uint32_t)(i % COUNTERS), i);
        if (i % 1000 == 0) {
            assert_int_equal(replay(fd, &found), 0);
            assert_memory_equal(found.values, counters.values, sizeof found.values);
        }
    }
    assert_true(layout->active >= first_turn + 3);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_true(st.st_blocks * 512ull < IMAGE_HALF_SIZE + (1 << 20)); /* the other half was given back */
    image_free(image);
    assert_int_equal(replay(fd, &found), 0);
    assert_memory_equal(found.values, counters.values, sizeof found.values);
    munmap(layout, CONTRACT_IMAGE_SIZE);
    close(fd);
}

static void test_killed_in_a_flip(void **state)
{
    int fd = make_image();
    struct counters counters = {.padding = 100}, found;
    struct image *image = attach(fd, &counters);
    image_forget(image);
    assert_int_equal(image_flip(image), 0);
    for (uint32_t i = 0; i < 500; i++)
        set(image, &counters, i % COUNTERS, i);
    pid_t pid = fork();
    if (pid == 0) {
        counters.die_in_snapshot = true;
        image_flip(image);
        _exit(1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(replay(fd, &found), 0);
    assert_memory_equal(found.values, counters.values, sizeof found.values);
    /* And the successor flips over what the dead one left. */
    image_free(image);
    image = attach(fd, &counters);
    assert_int_equal(image_replay(image, apply, &found), 0);
    assert_int_equal(image_flip(image), 0);
    image_free(image);
    assert_int_equal(replay(fd, &found), 0);
    assert_memory_equal(found.values, counters.values, sizeof found.values);
    close(fd);
}

/* A writer that says what it has published, killed at any moment: nothing published is missing, nothing else is there
 * but the one under way. */
static void test_killed_anywhere(void **state)
{
    int fd = make_image();
    struct counters found;
    struct image *image = attach(fd, &found);
    memset(&found, 0, sizeof found);
    image_forget(image);
    assert_int_equal(image_flip(image), 0);
    image_free(image);
    _Atomic uint64_t *said = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(said != MAP_FAILED);
    for (unsigned round = 0; round < 100; round++) {
        uint64_t before = *said;
        pid_t pid = fork();
        if (pid == 0) {
            struct counters mine = {.padding = 0};
            image = attach(fd, &mine);
            if (image_replay(image, apply, &mine) < 0)
                _exit(2);
            mine.padding = 20000; /* a half is full after some 6,000 of them: rounds die in flips too */
            for (uint64_t n = *said + 1;; n++) {
                set(image, &mine, 0, n);
                *said = n;
            }
        }
        int status;
        while (*said < before + 20 + round * 7 % 400) {
            assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
            sched_yield();
        }
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        assert_int_equal(replay(fd, &found), 0);
        assert_true(found.values[0] == *said || found.values[0] == *said + 1);
        *said = found.values[0];
    }
    munmap((void *)said, 4096);
    close(fd);
}

/* A change that a half cannot hold is a refusal, and what was there stays. */
static void test_too_large(void **state)
{
    int fd = make_image();
    struct counters counters = {.padding = 100}, found;
    struct image *image = attach(fd, &counters);
    image_forget(image);
    assert_int_equal(image_flip(image), 0);
    set(image, &counters, 1, 11);
    assert_int_equal(image_make_room(image, 1, IMAGE_HALF_SIZE), -ENOSPC);
    set(image, &counters, 2, 22);
    image_free(image);
    assert_int_equal(replay(fd, &found), 0);
    assert_int_equal(found.values[1], 11);
    assert_int_equal(found.values[2], 22);
    close(fd);
}

static void big_snapshot(struct image *image, void *context)
{
    for (unsigned round = 0; round < 25; round++)
        snapshot(image, context);
}

static void test_snapshot_overrun(void **state)
{
    int fd = make_image();
    struct counters counters = {.padding = 100}, found;
    struct image *image = attach(fd, &counters);
    image_forget(image);
    assert_int_equal(image_flip(image), 0);
    set(image, &counters, 1, 11);
    image_free(image);
    assert_int_equal(image_open(dup(fd), big_snapshot, &counters, &image), 0);
    assert_int_equal(image_replay(image, apply, &counters), 0);
    counters.padding = 65000; /* 25 × 100 × 65,000 bytes */
    assert_int_equal(image_flip(image), -ENOSPC);
    counters.padding = 100;
    set(image, &counters, 2, 22);
    image_free(image);
    assert_int_equal(replay(fd, &found), 0);
    assert_int_equal(found.values[1], 11);
    assert_int_equal(found.values[2], 22);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fresh),
        cmocka_unit_test(test_cut_at_each_record),
        cmocka_unit_test(test_nonsense_is_refused),
        cmocka_unit_test(test_flips),
        cmocka_unit_test(test_killed_in_a_flip),
        cmocka_unit_test(test_killed_anywhere),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_snapshot_overrun),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
