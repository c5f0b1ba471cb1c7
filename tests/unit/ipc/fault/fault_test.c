/* Fault points: off until armed, exact in when and whom they hit. Deaths are had by children. */
#include "tests/unit/unit.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "fault/fault.h"

enum { WORKER = 3 };

static struct fault_page *page; /* the supervisor's map */

static int attach(void **state)
{
    int fd = -1, view = -1;
    if (fault_page_create(&fd) < 0 || segment_reopen_readonly(fd, &view) < 0 || fault_page_map_writable(fd, &page) < 0)
        return -1;
    FAULT_POINT(STORE_TAKEN); /* works before there is a page */
    return fault_page_attach(view, WORKER);
}

/* Passes the point up to `passes` times in a child: how many it survived, negative signal if it died. */
static int survive(unsigned passes)
{
    int *survived = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(survived != MAP_FAILED);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        signal(SIGABRT, SIG_DFL);
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        close(STDERR_FILENO);
        for (unsigned i = 0; i < passes; i++) {
            FAULT_POINT(STORE_APPENDED);
            ++*survived;
        }
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    int result = WIFSIGNALED(status) ? -(*survived * 1000 + WTERMSIG(status)) : *survived;
    munmap(survived, 4096);
    return result;
}
#define DIED(survived, signal) (-((survived)*1000 + (signal)))

static void test_kill_and_abort(void **state)
{
    assert_int_equal(survive(100), 100);
    fault_page_arm(page, FAULT_STORE_APPENDED, FAULT_ACTION_KILL, 0, 0, 0);
    assert_int_equal(survive(100), DIED(0, SIGKILL));
    fault_page_arm(page, FAULT_STORE_APPENDED, FAULT_ACTION_ABORT, 0, 7, 0);
    assert_int_equal(survive(100), DIED(7, SIGABRT));
    assert_int_equal(survive(100), DIED(7, SIGABRT)); /* a successor counts anew */
    assert_int_equal(survive(7), 7);
    fault_page_disarm(page, FAULT_STORE_APPENDED);
    assert_int_equal(survive(100), 100);
}

static void test_target(void **state)
{
    fault_page_arm(page, FAULT_STORE_APPENDED, FAULT_ACTION_KILL, WORKER + 1, 0, 0);
    assert_int_equal(survive(10), 10);
    fault_page_arm(page, FAULT_STORE_APPENDED, FAULT_ACTION_KILL, WORKER, 2, 0);
    assert_int_equal(survive(10), DIED(2, SIGKILL));
    fault_page_disarm(page, FAULT_STORE_APPENDED);
}

static void test_other_points_are_not_hit(void **state)
{
    for (int i = 0; i < FAULT_POINT_COUNT; i++)
        if (i != FAULT_STORE_APPENDED)
            fault_page_arm(page, (enum fault_point)i, FAULT_ACTION_KILL, 0, 0, 0);
    assert_int_equal(survive(10), 10);
    for (int i = 0; i < FAULT_POINT_COUNT; i++)
        fault_page_disarm(page, (enum fault_point)i);
}

static void test_arming_again_counts_anew(void **state)
{
    fault_page_arm(page, FAULT_FRONT_PULL, FAULT_ACTION_STALL, 0, 3, 0);
    for (int i = 0; i < 3; i++)
        FAULT_POINT(FRONT_PULL);
    fault_page_arm(page, FAULT_FRONT_PULL, FAULT_ACTION_STALL, 0, 3, 5000);
    for (int i = 0; i < 3; i++)
        FAULT_POINT(FRONT_PULL);
    fault_page_arm(page, FAULT_FRONT_PULL, FAULT_ACTION_STALL, 0, 0, 20);
    int64_t before_ms = clock_monotonic_ms();
    FAULT_POINT(FRONT_PULL);
    assert_true(clock_monotonic_ms() - before_ms >= 19); /* a lower bound holds on any machine */
    fault_page_disarm(page, FAULT_FRONT_PULL);
}

static void test_match(void **state)
{
    assert_false(FAULT_MATCH(STORE_POISON));
    fault_page_arm(page, FAULT_STORE_POISON, FAULT_ACTION_MATCH, WORKER, 0, 0);
    assert_true(FAULT_MATCH(STORE_POISON));
    assert_true(FAULT_MATCH(STORE_POISON));
    FAULT_POINT(STORE_POISON); /* only the caller's condition makes it strike */
    fault_page_arm(page, FAULT_STORE_POISON, FAULT_ACTION_MATCH, WORKER + 1, 0, 0);
    assert_false(FAULT_MATCH(STORE_POISON));
    fault_page_arm(page, FAULT_STORE_POISON, FAULT_ACTION_STALL, 0, 0, 0);
    assert_false(FAULT_MATCH(STORE_POISON));
    fault_page_disarm(page, FAULT_STORE_POISON);
}

static void test_workers_cannot_write_the_page(void **state)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        signal(SIGSEGV, SIG_DFL);
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        atomic_store(&fault_page->slots[0].action, FAULT_ACTION_KILL);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(page->slots[0].action, FAULT_ACTION_NONE);
}

static void test_names(void **state)
{
    for (int i = 0; i < FAULT_POINT_COUNT; i++) {
        assert_int_equal(fault_point_find(fault_point_names[i]), i); /* so they differ */
        assert_true(strlen(fault_point_texts[i]) > 0);
    }
    assert_int_equal(fault_point_find("store.nothing"), FAULT_POINT_COUNT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kill_and_abort),
        cmocka_unit_test(test_target),
        cmocka_unit_test(test_other_points_are_not_hit),
        cmocka_unit_test(test_arming_again_counts_anew),
        cmocka_unit_test(test_match),
        cmocka_unit_test(test_workers_cannot_write_the_page),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, attach, NULL);
}
