/* Boards, queue tables and interest bitmaps: sizes, births, what a worker's start resets, and last words. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/panic.h"
#include "shm/board.h"
#include "shm/queue_table.h"

static void attach_both(struct board **ret_own, struct board **ret_view)
{
    int fd = -1, view = -1;
    assert_int_equal(board_create("board", 3, &fd), 0);
    assert_int_equal(segment_reopen_readonly(fd, &view), 0);
    assert_int_equal(board_attach(fd, true, ret_own), 0);
    assert_int_equal(board_attach(view, false, ret_view), 0);
}

static void test_counters(void **state)
{
    struct board *own, *view;
    attach_both(&own, &view);
    assert_int_equal(view->header.owner, 3);
    board_add(own, COUNTER_REQUESTS, 5);
    board_add(own, COUNTER_REQUESTS, 7);
    board_set(own, COUNTER_MEMBERS, 9);
    assert_int_equal(board_get(view, COUNTER_REQUESTS), 12);
    assert_int_equal(board_get(view, COUNTER_MEMBERS), 9);
    assert_int_equal(board_get(view, COUNTER_DISK_ERRORS), 0);
    board_begin(own, 2);
    assert_int_equal(board_get(view, COUNTER_REQUESTS), 12); /* rates do not jump at a restart */
    board_add(NULL, COUNTER_REQUESTS, 1);
    board_set(NULL, COUNTER_REQUESTS, 1);
    board_detach(own);
    board_detach(view);
    board_detach(NULL);
}

static void test_state(void **state)
{
    struct board *own, *view;
    attach_both(&own, &view);
    int64_t before_ns = clock_monotonic_ns();
    board_begin(own, 8);
    assert_int_equal(view->generation, 8);
    assert_int_equal(view->state, BOARD_STARTING);
    assert_int_equal(view->progress, 0);
    board_set_state(own, BOARD_RUNNING);
    board_set_state(own, BOARD_IN_IO);
    board_set_state(own, BOARD_ASLEEP);
    board_set_state(own, BOARD_RUNNING);
    assert_int_equal(view->state, BOARD_RUNNING);
    assert_int_equal(view->progress, 2);
    assert_true(view->state_since_ns >= before_ns && view->state_since_ns <= clock_monotonic_ns());
    board_begin(own, 9);
    assert_int_equal(view->progress, 0);
    board_begin(NULL, 1);
    board_set_state(NULL, BOARD_RUNNING);
    panic_set_last_words(NULL, 0);
    board_detach(own);
    board_detach(view);
}

static void test_last_words_outlive_the_worker(void **state)
{
    struct board *own, *view;
    attach_both(&own, &view);
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGABRT, SIG_DFL);
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        close(STDERR_FILENO);
        board_begin(own, 1);
        PANIC("queue %d is upside down", 4);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_non_null(strstr(view->last_words, "queue 4 is upside down"));
    board_begin(own, 2);
    assert_string_equal(view->last_words, "");
    panic_set_last_words(NULL, 0);
    board_detach(own);
    board_detach(view);
}

static void test_texts(void **state)
{
    assert_string_equal(board_counter_texts[0].name, "REQUESTS");
    for (int i = 0; i < COUNTER_COUNT; i++)
        assert_true(board_counter_texts[i].name && board_counter_texts[i].unit && board_counter_texts[i].text);
}

static void test_queue_table(void **state)
{
    int fd = -1, view_fd = -1;
    assert_int_equal(queue_table_create("queues", 1, &fd), 0);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, sizeof(struct queue_table));
    assert_true(st.st_blocks <= 8); /* 8 MiB of address space cost one page */
    assert_int_equal(segment_reopen_readonly(fd, &view_fd), 0);
    struct queue_table *own, *view;
    struct interest *interest;
    struct board *board;
    assert_int_equal(interest_attach(fd, true, &interest), -EPROTO);
    assert_int_equal(board_attach(fd, true, &board), -EPROTO);
    assert_int_equal(queue_table_attach(fd, true, &own), 0);
    assert_int_equal(queue_table_attach(view_fd, false, &view), 0);
    own->slots[QUEUE_TABLE_SLOTS - 1].max_offset = 77;
    assert_int_equal(view->slots[QUEUE_TABLE_SLOTS - 1].max_offset, 77);
    queue_table_detach(own);
    queue_table_detach(view);
    queue_table_detach(NULL);
}

static void test_interest(void **state)
{
    int fd = -1;
    assert_int_equal(interest_create("interest", 1, &fd), 0);
    struct interest *interest;
    assert_int_equal(interest_attach(fd, true, &interest), 0);
    assert_true(interest->read_low_pos == INT64_MAX);
    assert_int_equal(interest->bits[QUEUE_TABLE_SLOTS / 64 - 1], 0);
    interest_detach(interest);
    interest_detach(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counters),
        cmocka_unit_test(test_state),
        cmocka_unit_test(test_last_words_outlive_the_worker),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_queue_table),
        cmocka_unit_test(test_interest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
