/* fork and exec of a worker. The supervisor has a ZeroMQ thread, so the child does only what is safe after fork in a
 * threaded process: everything that needs memory is prepared before. Runs in the supervisor; the child part ends in exec
 * or _exit. */
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "contract.h"
#include "fd/fd_channel.h"

extern char **environ;

enum { OUR_VARIABLES = 3, TEXT_SIZE = 512 };

/* Ours to talk to systemd, or the predecessor's: not the worker's. */
static int is_withheld(const char *variable)
{
    static const char *const names[] = {"NOTIFY_SOCKET=", "WATCHDOG_", "LISTEN_", "FDSTORE=", "PINTLE_WORKER=",
                                        "PINTLE_GENERATION=", "PINTLE_RUNTIME_DIR="};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strncmp(variable, names[i], strlen(names[i])) == 0)
            return 1;
    return 0;
}

struct prepared {
    char title[TEXT_SIZE], texts[OUR_VARIABLES][TEXT_SIZE * 8];
    char **environment;
};

static int prepare(const struct spawn_request *request, struct prepared *prepared)
{
    size_t count = 0, kept = 0;
    while (environ[count])
        count++;
    prepared->environment = calloc(count + OUR_VARIABLES + 1, sizeof *prepared->environment);
    if (!prepared->environment)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++)
        if (!is_withheld(environ[i]))
            prepared->environment[kept++] = environ[i];
    snprintf(prepared->title, sizeof prepared->title, "pintle: %s", request->worker);
    snprintf(prepared->texts[0], sizeof prepared->texts[0], CONTRACT_ENV_WORKER "=%s", request->worker);
    snprintf(prepared->texts[1], sizeof prepared->texts[1], CONTRACT_ENV_GENERATION "=%llu",
             (unsigned long long)request->generation);
    snprintf(prepared->texts[2], sizeof prepared->texts[2], CONTRACT_ENV_RUNTIME_DIR "=%s", request->runtime_dir);
    for (unsigned i = 0; i < OUR_VARIABLES; i++)
        prepared->environment[kept++] = prepared->texts[i];
    return 0;
}

__attribute__((noreturn)) static void run_child(const char *program, struct prepared *prepared, int channel)
{
    struct sigaction standard = {.sa_handler = SIG_DFL};
    sigset_t none;
    char *arguments[] = {prepared->title, NULL};

    /* A group of its own: Ctrl-C at the terminal reaches the supervisor alone, which then stops everybody in order. */
    setpgid(0, 0);
    for (int number = 1; number < NSIG; number++)
        sigaction(number, &standard, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);

    int null = open("/dev/null", O_RDONLY);
    if (null >= 0)
        dup2(null, STDIN_FILENO);
    if (channel == CONTRACT_FD_CHANNEL)
        fcntl(channel, F_SETFD, 0);
    else
        dup2(channel, CONTRACT_FD_CHANNEL);
    syscall(SYS_close_range, CONTRACT_FD_CHANNEL + 1, ~0U, 0);
    execve(program, arguments, prepared->environment);
    _exit(EXIT_CODE_IO);
}

int spawn_worker(const struct spawn_request *request, struct spawned *ret_spawned)
{
    struct prepared prepared;
    PN_CLOSE int ours = -1;
    PN_CLOSE int theirs = -1;
    int r = fd_channel_pair(&ours, &theirs);
    if (r < 0)
        return r;
    r = prepare(request, &prepared);
    if (r < 0)
        return r;
    pid_t pid = fork();
    if (pid == 0)
        run_child(request->program, &prepared, theirs);
    r = pid < 0 ? -errno : 0;
    free(prepared.environment);
    if (r < 0)
        return r;
    /* Not reaped before we do it, so the number is still this child's. */
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0) {
        r = -errno;
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return r;
    }
    *ret_spawned = (struct spawned){pid, pidfd, TAKE_FD(ours)};
    return 0;
}

int spawn_find_program(const char *program, char **ret_path)
{
    char self[4096];
    PN_FREE char *path = NULL;
    ssize_t size = readlink("/proc/self/exe", self, sizeof self - 1);
    self[size > 0 ? size : 0] = 0;
    char *slash = strrchr(self, '/');
    if (slash) {
        *slash = 0;
        if (asprintf(&path, "%s/%s", self, program) < 0)
            return -ENOMEM;
        if (access(path, X_OK) == 0) {
            *ret_path = TAKE_PTR(path);
            return 0;
        }
        free(TAKE_PTR(path));
    }
    if (asprintf(&path, "%s/%s", PINTLE_LIBEXEC, program) < 0)
        return -ENOMEM;
    if (access(path, X_OK) < 0)
        return -errno;
    *ret_path = TAKE_PTR(path);
    return 0;
}
