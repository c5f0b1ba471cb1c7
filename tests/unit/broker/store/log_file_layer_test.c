/* The file layer: a watch sees each system call and may let it fail, interrupt it or cut it short; sites have names. */
#include "../../unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/store/file_layer.h"

struct seen {
    unsigned before[FILE_OP_COUNT], after[FILE_OP_COUNT];
    int64_t last;
    int fail[4]; /* results of the next calls; 0: go on */
    size_t most;
};

static int before(void *context, const struct file_event *event, size_t *most)
{
    struct seen *seen = context;
    if (seen->most && event->op == FILE_WRITE && *most > seen->most)
        *most = seen->most;
    int r = seen->fail[0];
    memmove(seen->fail, seen->fail + 1, sizeof seen->fail - sizeof seen->fail[0]);
    seen->fail[3] = 0;
    seen->before[event->op]++;
    return r;
}

static void after(void *context, const struct file_event *event, int64_t result)
{
    struct seen *seen = context;
    seen->after[event->op]++;
    seen->last = result;
}

static void test_watch(void **state)
{
    struct seen seen = {0};
    const struct file_watch watch = {before, after, &seen};
    char path[] = "/tmp/pintle-file-XXXXXX", data[100], back[100];
    int made = mkstemp(path);
    assert_true(made >= 0);
    close(made);
    memset(data, 'x', sizeof data);
    file_layer_watch(&watch);
    int fd = file_layer_open(path, O_RDWR, 0);
    assert_true(fd >= 0 && seen.last == fd);

    seen.most = 30;
    assert_int_equal(file_layer_pwrite(fd, data, sizeof data, 0), 0);
    assert_int_equal(seen.before[FILE_WRITE], 4);
    seen.most = 0;
    seen.fail[0] = -EINTR;
    assert_int_equal(file_layer_pwrite(fd, data, sizeof data, 0), 0);
    assert_int_equal(seen.after[FILE_WRITE], 6);
    seen.fail[0] = -ENOSPC;
    assert_int_equal(file_layer_pwrite(fd, "y", 1, 0), -ENOSPC);
    assert_int_equal(file_layer_pread(fd, back, sizeof back, 0), sizeof back);
    assert_memory_equal(back, data, sizeof data);

    /* A sync that failed is not tried again, whatever the error. */
    seen.fail[0] = -EINTR;
    assert_int_equal(file_layer_fdatasync(fd), -EINTR);
    assert_int_equal(seen.before[FILE_SYNC], 1);

    void *map;
    assert_int_equal(file_layer_map(fd, 0, sizeof data, true, &map), 0);
    file_layer_map_store((char *)map + 5, "hello", 5);
    assert_int_equal(file_layer_map_sync(map, sizeof data), 0);
    assert_int_equal(file_layer_unmap(map, sizeof data), 0);
    assert_int_equal(file_layer_pread(fd, back, sizeof back, 0), sizeof back);
    assert_memory_equal(back + 5, "hello", 5);
    file_layer_watch(NULL);
    assert_int_equal(file_layer_unlink(path), 0);
    assert_int_equal(seen.before[FILE_UNLINK], 0);
    close(fd);
}

static int compare(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void test_sites(void **state)
{
    unsigned count;
    struct file_site *const *sites = file_layer_sites(&count);
    assert_true(count > 5);
    char(*names)[128] = calloc(count, sizeof *names);
    assert_non_null(names);
    bool here = false;
    for (unsigned i = 0; i < count; i++) {
        file_site_name(sites[i], names[i], sizeof names[i]);
        here = here || strcmp(names[i], "log_file_layer_test.test_watch.write#2") == 0;
    }
    assert_true(here);
    qsort(names, count, sizeof *names, compare);
    for (unsigned i = 1; i < count; i++)
        assert_string_not_equal(names[i - 1], names[i]);
    free(names);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_watch), cmocka_unit_test(test_sites)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
