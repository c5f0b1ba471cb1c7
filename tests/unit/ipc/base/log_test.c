/* Log lines and last words, looked at where they arrive: in a pipe in place of stderr, from a child process. */
#include "tests/unit/unit.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/panic.h"

static char output[16384];

/* Runs `work` in a child whose stderr is a pipe; gives its wait status and leaves its output in `output`. */
static int run_child(void (*work)(void *), void *argument)
{
    int pipe_fds[2];
    assert_int_equal(pipe(pipe_fds), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(pipe_fds[1], STDERR_FILENO);
        close(pipe_fds[0]);
        close(pipe_fds[1]);
        signal(SIGABRT, SIG_DFL); /* cmocka catches it */
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        work(argument);
        _exit(0);
    }
    close(pipe_fds[1]);
    size_t size = 0;
    ssize_t n;
    while ((n = read(pipe_fds[0], output + size, sizeof output - 1 - size)) > 0)
        size += (size_t)n;
    output[size] = '\0';
    close(pipe_fds[0]);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void write_plain(void *argument)
{
    unsetenv("JOURNAL_STREAM");
    log_init("store broker-a/0", LOG_LEVEL_INFO);
    log_debug("hidden");
    log_info("a %s b", "x\ny\x1b[31m");
    log_set_level(LOG_LEVEL_ERROR);
    log_warning("hidden too");
    log_error("told");
}

static void test_plain_lines(void **state)
{
    assert_int_equal(run_child(write_plain, NULL), 0);
    assert_null(strstr(output, "hidden"));
    char *first = strstr(output, " store broker-a/0 info: a x?y?[31m b\n");
    assert_non_null(first);
    assert_int_equal(first - output, strlen("2025-01-01 00:00:00.000"));
    assert_non_null(strstr(first, " store broker-a/0 error: told\n"));
}

static void write_to_journal(void *argument)
{
    struct stat st;
    char stream[64];
    fstat(STDERR_FILENO, &st);
    snprintf(stream, sizeof stream, "%lu:%lu", (unsigned long)st.st_dev, (unsigned long)st.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    log_init("x", LOG_LEVEL_DEBUG);
    log_debug("d");
    log_info("i");
    log_warning("w");
    log_error("e");
    log_fatal(74, "f %d", 1);
}

static void test_journal_lines(void **state)
{
    int status = run_child(write_to_journal, NULL);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 74);
    assert_string_equal(output, "<7>x: d\n<6>x: i\n<4>x: w\n<3>x: e\n<2>x: f 1\n");
}

static void write_long(void *argument)
{
    char *text = malloc(10000);
    memset(text, 'a', 9999);
    text[9999] = '\0';
    log_init("x", LOG_LEVEL_DEBUG);
    log_info("%s", text);
    log_info("next");
    free(text);
}

static void test_long_line_is_cut(void **state)
{
    assert_int_equal(run_child(write_long, NULL), 0);
    char *end = strchr(output, '\n');
    assert_non_null(end);
    assert_int_equal(end - output, 4095 - 1);
    assert_memory_equal(end - 4, "a...", 4);
    assert_non_null(strstr(end, " x info: next\n"));
}

static void panic_now(void *place)
{
    panic_set_last_words(place, 64);
    int answer = 41;
    pn_assert(answer == 41);
    pn_assert(answer == 42);
}

static void test_panic_leaves_last_words(void **state)
{
    char *place = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(place != MAP_FAILED);
    memset(place, 'x', 4096);
    int status = run_child(panic_now, place);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_non_null(strstr(output, "panic at log_test.c:"));
    assert_non_null(strstr(output, " panic_now(): assertion failed: answer == 42\n"));
    assert_int_equal(strlen(place), 63); /* cut to the place, nothing behind it */
    assert_memory_equal(place, output, 63);
    assert_int_equal(place[64], 'x');
    munmap(place, 4096);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_lines),
        cmocka_unit_test(test_journal_lines),
        cmocka_unit_test(test_long_line_is_cut),
        cmocka_unit_test(test_panic_leaves_last_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
