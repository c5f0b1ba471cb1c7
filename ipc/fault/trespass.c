/* Trespassing on demand, for tests of the sandbox; only in clusters that allow faults. Runs in any worker, on the thread
 * that passes the fault point. What succeeds is undone at once. */
#include "fault/trespass.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "contract.h"

const char *const trespass_names[TRESPASS_COUNT] = {
#define X(id, name) [TRESPASS_##id] = name,
    TRESPASSES(X)
#undef X
};

static int try_open(int flags)
{
    char path[4096];
    const char *folder = getenv(CONTRACT_ENV_RUNTIME_DIR);
    snprintf(path, sizeof path, "%s/trespass", folder ? folder : "");
    int fd = open(path, flags | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int try_exec(void)
{
    char *arguments[] = {(char *)"true", NULL};
    execv("/bin/true", arguments);
    return -errno;
}

static int try_fork(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    if (pid > 0)
        waitpid(pid, NULL, 0);
    return pid < 0 ? -errno : 0;
}

static int try(enum trespass what)
{
    int r = 0;
    switch (what) {
    case TRESPASS_TCP:
        r = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        break;
    case TRESPASS_WRITE:
        return try_open(O_WRONLY);
    case TRESPASS_READ:
        return try_open(O_RDONLY);
    case TRESPASS_EXEC:
        return try_exec();
    case TRESPASS_FORK:
        return try_fork();
    case TRESPASS_SIGNAL:
        r = kill(getppid(), 0);
        break;
    case TRESPASS_NEW:
        r = (int)syscall(SYS_personality, 0xffffffff); /* asks, changes nothing */
        break;
    case TRESPASS_COUNT:
        return -EINVAL;
    }
    return r < 0 ? -errno : r;
}

void trespass(enum trespass what)
{
    if (what >= TRESPASS_COUNT)
        return;
    int r = try(what);
    if (r > STDERR_FILENO && (what == TRESPASS_TCP || what == TRESPASS_WRITE || what == TRESPASS_READ))
        close(r);
    log_warning("trespass %s: %s", trespass_names[what], r < 0 ? strerror(-r) : "done, nothing forbids it");
}
