/* The bus between two processes, either of which is killed and started again. The other side is this program itself,
 * run with a role as argument (libzmq wants its context made after exec). */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "bus/bus.h"

enum { PATIENCE_US = 30000000 };

struct seen {
    char last[64], peer[64];
    unsigned empty, messages;
};

static char dir[512];

static void keep(void *context, struct bytes peer, struct bytes message)
{
    struct seen *seen = context;
    snprintf(seen->peer, sizeof seen->peer, "%.*s", (int)peer.size, peer.data ? (const char *)peer.data : "");
    if (message.size == 0) {
        seen->empty++;
        return;
    }
    seen->messages++;
    snprintf(seen->last, sizeof seen->last, "%.*s", (int)message.size, message.data);
}

/* Runs the loop until the condition holds; a loop that waits longer than anybody's patience fails the test. */
#define RUN_UNTIL(event, condition)                                                                                    \
    while (!(condition)) {                                                                                             \
        int run_ = sd_event_run(event, PATIENCE_US);                                                                   \
        if (run_ <= 0)                                                                                                 \
            fail_msg("line %d: nothing came: %s", __LINE__, #condition);                                               \
    }

static pid_t start(const char *role, const char *argument)
{
    pid_t pid = fork();
    if (pid == 0) {
        execl("/proc/self/exe", "bus_test", role, dir, argument, (char *)NULL);
        _exit(127);
    }
    assert_true(pid > 0);
    return pid;
}

static int end_of(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void kill_and_wait(pid_t pid)
{
    kill(pid, SIGKILL);
    assert_true(WIFSIGNALED(end_of(pid)));
}

/* A worker that says its argument, and ends well when it hears "go". */
static int role_worker(const char *argument)
{
    struct seen seen = {0};
    sd_event *event;
    struct bus *bus;
    if (sd_event_new(&event) < 0 || bus_connect(event, dir, "bus", "worker", keep, &seen, &bus) < 0)
        return 1;
    while (bus_send(bus, (struct bytes){NULL, 0}, bytes_of(argument)) == -EAGAIN)
        sd_event_run(event, 1000);
    while (strcmp(seen.last, "go") != 0)
        if (sd_event_run(event, PATIENCE_US) <= 0)
            return 2;
    bus_free(bus);
    sd_event_unref(event);
    return 0;
}

static struct bus *server_bus;

static void ask_again(void *context, struct bytes peer, struct bytes message)
{
    if (message.size == 0)
        (void)bus_send(server_bus, peer, bytes_of(context));
    else
        (void)bus_send(server_bus, peer, message); /* echo */
}

static int role_server(const char *argument)
{
    sd_event *event;
    if (sd_event_new(&event) < 0)
        return 1;
    int r = bus_bind(event, dir, "ns", ask_again, (void *)argument, &server_bus);
    if (r < 0) {
        sd_event_unref(event);
        return -r;
    }
    for (;;)
        if (sd_event_run(event, PATIENCE_US) <= 0)
            return 2;
}

static void test_worker_restarts(void **state)
{
    struct seen seen = {0};
    sd_event *event;
    struct bus *bus;
    assert_true(sd_event_new(&event) >= 0);
    assert_int_equal(bus_bind(event, dir, "bus", keep, &seen, &bus), 0);
    assert_int_equal(bus_send(bus, bytes_of("worker"), bytes_of("go")), -EAGAIN);
    for (unsigned life = 1; life <= 5; life++) {
        char words[16];
        snprintf(words, sizeof words, "life %u", life);
        pid_t pid = start("worker", words);
        RUN_UNTIL(event, strcmp(seen.last, words) == 0);
        assert_string_equal(seen.peer, "worker");
        assert_int_equal(seen.empty, life);
        if (life < 5) {
            kill_and_wait(pid);
        } else {
            assert_int_equal(bus_send(bus, bytes_of("worker"), bytes_of("go")), 0);
            assert_int_equal(end_of(pid), 0);
        }
    }
    bus_free(bus);
    sd_event_unref(event);
}

static void test_server_restarts(void **state)
{
    struct seen seen = {0};
    sd_event *event;
    struct bus *bus;
    assert_true(sd_event_new(&event) >= 0);
    assert_int_equal(bus_connect(event, dir, "ns", "store", keep, &seen, &bus), 0);
    assert_int_equal(bus_send(bus, (struct bytes){NULL, 0}, bytes_of("x")), -EAGAIN);
    for (unsigned life = 1; life <= 5; life++) {
        char words[16];
        snprintf(words, sizeof words, "life %u", life);
        pid_t pid = start("server", words);
        RUN_UNTIL(event, strcmp(seen.last, words) == 0);
        assert_int_equal(seen.empty, life);
        assert_int_equal(bus_send(bus, (struct bytes){NULL, 0}, bytes_of("back")), 0);
        RUN_UNTIL(event, strcmp(seen.last, "back") == 0);
        pid_t second = start("server", "second"); /* must not steal the socket's path */
        int status = end_of(second);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), EADDRINUSE);
        kill_and_wait(pid);
    }
    bus_free(bus);
    sd_event_unref(event);
}

/* More messages than one turn takes, while the descriptor's edge has long been seen. */
static void test_burst(void **state)
{
    enum { COUNT = 20000, AHEAD = 500 };
    struct seen seen = {0};
    sd_event *event;
    struct bus *bus;
    pid_t pid = start("server", "hello");
    assert_true(sd_event_new(&event) >= 0);
    assert_int_equal(bus_connect(event, dir, "ns", "store", keep, &seen, &bus), 0);
    RUN_UNTIL(event, seen.messages == 1);
    for (unsigned sent = 0; seen.messages < COUNT + 1;) {
        while (sent < COUNT && sent < seen.messages + AHEAD &&
               bus_send(bus, (struct bytes){NULL, 0}, bytes_of("ping")) == 0)
            sent++;
        unsigned before = seen.messages;
        RUN_UNTIL(event, seen.messages > before);
    }
    assert_int_equal(seen.messages, COUNT + 1);
    kill_and_wait(pid);
    bus_free(bus);
    sd_event_unref(event);
}

static struct bus *own_bus;

static void free_own_bus(void *context, struct bytes peer, struct bytes message)
{
    ++*(unsigned *)context;
    bus_free(own_bus);
}

static void test_handler_frees(void **state)
{
    unsigned called = 0;
    sd_event *event;
    pid_t pid = start("server", "hello");
    assert_true(sd_event_new(&event) >= 0);
    assert_int_equal(bus_connect(event, dir, "ns", "store", free_own_bus, &called, &own_bus), 0);
    RUN_UNTIL(event, called == 1);
    kill_and_wait(pid);
    sd_event_unref(event);
}

static void remove_dir(const char *path)
{
    char command[1200];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    assert_int_equal(system(command), 0);
}

/* The short links to folders of this one. */
static int short_links(const char *path)
{
    char command[1200];
    int count = -1;
    snprintf(command, sizeof command, "find /tmp -mindepth 2 -maxdepth 2 -name d -lname '%s*' 2>&- | wc -l", path);
    FILE *out = popen(command, "r");
    assert_non_null(out);
    assert_int_equal(fscanf(out, "%d", &count), 1);
    pclose(out);
    return count;
}

static void test_long_path(void **state)
{
    char old[sizeof dir], template[] = "/tmp/pintle-test-XXXXXX";
    strcpy(old, dir);
    assert_non_null(mkdtemp(template));
    int size = snprintf(dir, sizeof dir, "%s/", template);
    memset(dir + size, 'd', 120);
    dir[size + 120] = 0;
    assert_int_equal(mkdir(dir, 0700), 0);
    test_server_restarts(NULL);
    assert_int_equal(short_links(template), 1);
    bus_tidy(dir);
    assert_int_equal(short_links(template), 0);
    remove_dir(template);
    strcpy(dir, old);
}

int main(int argc, char **argv)
{
    if (argc == 4) {
        snprintf(dir, sizeof dir, "%s", argv[2]);
        return strcmp(argv[1], "worker") == 0 ? role_worker(argv[3]) : role_server(argv[3]);
    }
    strcpy(dir, "/tmp/pintle-test-XXXXXX");
    if (!mkdtemp(dir))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_worker_restarts), cmocka_unit_test(test_server_restarts), cmocka_unit_test(test_burst),
        cmocka_unit_test(test_handler_frees),   cmocka_unit_test(test_long_path),
    };
    int r = cmocka_run_group_tests(tests, NULL, NULL);
    remove_dir(dir);
    return r;
}
