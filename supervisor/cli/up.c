/* `pintle up`: becomes the supervisor, or with --detach starts one and waits until it serves. The supervisor reads all
 * other options itself, so there is one place that knows them. Runs in the pintle program. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "contract.h"
#include "supervisor/cli/commands.h"

static const char usage[] =
    "usage: pintle up [--preset 1m|2m | --file CLUSTERFILE] [options]\n"
    "Starts a cluster: its name servers and brokers under one supervisor. In the foreground until Ctrl-C, or --detach.\n"
    "  --preset 1m|2m     two name servers and one or two masters\n"
    "  --file CLUSTERFILE cluster file (default: DIR/etc/cluster.conf, without --dir /etc/pintle/cluster.conf)\n"
    "  --dir DIR          folder for everything (run, store, log); default: the system's folders\n"
    "  --detach           return when it serves, and leave it running; it logs to DIR/log/supervisor.log\n"
    "  --namesrv-port N   port of the first name server, the others count up; 0 takes free ones\n"
    "  --base-port N      port of the first broker, the others are 10 apart; 0 takes free ones\n"
    "  --set KEY=VALUE    a key of broker.conf for all brokers, for example flushDiskType=SYNC_FLUSH; repeatable\n"
    "  --allow-faults     lets `pintle fault` make workers die (tests)\n";

#define READY_FD 3
#define READY_OPTION "--ready-fd=3"

/* Everything the supervisor writes until it closes the pipe, which it does when it serves or gives up. */
static size_t read_report(int fd, char *text, size_t size)
{
    size_t used = 0;
    while (used < size - 1) {
        ssize_t n = read(fd, text + used, size - 1 - used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        used += (size_t)n;
    }
    text[used] = 0;
    return used;
}

static void print_how_to_stop(int argc, char **argv)
{
    const char *dir = NULL;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--dir=", 6) == 0)
            dir = argv[i] + 6;
        else if (strcmp(argv[i], "--dir") == 0 && i + 1 < argc)
            dir = argv[i + 1];
    }
    printf("Stop it with: pintle down%s%s\n", dir ? " --dir " : "", dir ? dir : "");
}

static int wait_until_serves(int report_fd, pid_t pid, int argc, char **argv)
{
    static const char ready[] = "READY\n", failed[] = "FAILED ";
    char text[8192];
    int status = 0;
    read_report(report_fd, text, sizeof text);
    if (strncmp(text, ready, strlen(ready)) == 0) {
        fputs(text + strlen(ready), stdout);
        print_how_to_stop(argc, argv);
        return EXIT_CODE_OK;
    }
    waitpid(pid, &status, 0);
    if (strncmp(text, failed, strlen(failed)) == 0) {
        const char *line = strchr(text, '\n');
        fprintf(stderr, "pintle up: %s", line ? line + 1 : "failed\n");
    } else if (!WIFEXITED(status) || WEXITSTATUS(status) == 0) {
        fputs("pintle up: the supervisor died before it served; see its log\n", stderr);
    }
    return WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : EXIT_CODE_IO;
}

static int start_detached(int argc, char **argv, char **arguments)
{
    int report[2];
    if (pipe2(report, O_CLOEXEC) < 0)
        return EXIT_CODE_IO;
    pid_t pid = fork();
    if (pid < 0) {
        fprintf(stderr, "pintle up: cannot fork: %s\n", strerror(errno));
        return EXIT_CODE_IO;
    }
    if (pid == 0) {
        int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
        setsid();
        if (null >= 0)
            dup2(null, STDIN_FILENO);
        /* dup2 onto itself would leave the close-on-exec flag. */
        if (report[1] == READY_FD)
            fcntl(READY_FD, F_SETFD, 0);
        else
            dup2(report[1], READY_FD);
        command_become("pintle-supervisor", arguments);
        _exit(EXIT_CODE_IO);
    }
    close(report[1]);
    int r = wait_until_serves(report[0], pid, argc, argv);
    close(report[0]);
    return r;
}

int command_up(int argc, char **argv)
{
    PN_FREE char **arguments = calloc((size_t)argc + 2, sizeof *arguments);
    if (!arguments)
        return EXIT_CODE_IO;
    int count = 1;
    int detach = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            fputs(usage, stdout);
            return EXIT_CODE_OK;
        }
        if (strcmp(argv[i], "--detach") == 0)
            detach = 1;
        else
            arguments[count++] = argv[i];
    }
    if (!detach) {
        command_become("pintle-supervisor", arguments);
        return EXIT_CODE_IO;
    }
    arguments[count++] = (char *)READY_OPTION;
    return start_detached(argc, argv, arguments);
}
