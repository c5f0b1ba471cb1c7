/* Owns the runtime folder. The lock file decides who may bind in it: a second bind would steal a socket's path silently.
 * Runs in the supervisor; everything here is fatal to the start. */
#include "runtime_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "contract.h"

#define LOCK_NAME "lock"
enum { HOLDER_ENDS_MS = 2000, HOLDER_LOOK_MS = 5 };

struct runtime_dir {
    int fd, lock_fd;
};

int runtime_dir_make_folder(const char *path, unsigned mode)
{
    PN_FREE char *copy = strdup(path);
    if (!copy)
        return -ENOMEM;
    for (char *p = strchr(copy + 1, '/'); p; p = strchr(p + 1, '/')) {
        *p = 0;
        if (mkdir(copy, 0755) < 0 && errno != EEXIST)
            return -errno;
        *p = '/';
    }
    return mkdir(copy, mode) < 0 && errno != EEXIST ? -errno : 0;
}

/* The holder removes the file when it ends: whoever waited for the old file locks a name that is gone, and looks again. */
static int is_still_the_file(int dir_fd, int lock_fd)
{
    struct stat ours, named;
    return fstat(lock_fd, &ours) == 0 && fstatat(dir_fd, LOCK_NAME, &named, 0) == 0 && ours.st_ino == named.st_ino &&
           ours.st_dev == named.st_dev;
}

/* Whether the supervisor that wrote its number into the lock still runs. One that was killed has lost its memory, and with
 * it the link to its program, some time before its descriptors; and a child that it was just making holds them, too. */
static bool holder_runs(const char *pid)
{
    char path[64], program[16];
    snprintf(path, sizeof path, "/proc/%s/exe", pid);
    return *pid && readlink(path, program, sizeof program) >= 0;
}

static int take_lock(struct runtime_dir *dir, const char *path, struct failure *failure)
{
    for (int64_t until_ms = clock_monotonic_ms() + HOLDER_ENDS_MS;;) {
        char holder[32] = "";
        PN_CLOSE int fd = openat(dir->fd, LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0)
            return failure_set(failure, EXIT_CODE_IO, "cannot make %s/" LOCK_NAME ": %s", path, strerror(errno));
        if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
            if (read(fd, holder, sizeof holder - 1) > 0)
                holder[strcspn(holder, "\n")] = 0;
            if (!holder_runs(holder) && clock_monotonic_ms() < until_ms) {
                usleep(HOLDER_LOOK_MS * 1000);
                continue;
            }
            return failure_set(failure, EXIT_CODE_IO, "a supervisor already runs in %s (pid %s)", path, holder);
        }
        if (!is_still_the_file(dir->fd, fd))
            continue;
        if (ftruncate(fd, 0) < 0 || dprintf(fd, "%d\n", (int)getpid()) < 0)
            return failure_set(failure, EXIT_CODE_IO, "cannot write %s/" LOCK_NAME ": %s", path, strerror(errno));
        dir->lock_fd = TAKE_FD(fd);
        return 0;
    }
}

int runtime_dir_open(const char *path, struct runtime_dir **ret_dir, struct failure *failure)
{
    int r = runtime_dir_make_folder(path, 0700);
    if (r < 0)
        return failure_set(failure, EXIT_CODE_IO, "cannot make the folder %s: %s", path, strerror(-r));
    struct runtime_dir *dir = calloc(1, sizeof *dir);
    if (!dir)
        return failure_set(failure, EXIT_CODE_IO, "out of memory");
    dir->lock_fd = -1;
    dir->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir->fd < 0 || fchmod(dir->fd, 0700) < 0)
        r = failure_set(failure, EXIT_CODE_IO, "cannot use the folder %s: %s", path, strerror(errno));
    if (r == 0)
        r = take_lock(dir, path, failure);
    if (r < 0) {
        runtime_dir_close(dir);
        return r;
    }
    *ret_dir = dir;
    return 0;
}

/* Sockets and their lock files, of workers that were killed too: libzmq leaves them. Our lock goes last. */
static void sweep(struct runtime_dir *dir)
{
    int fd = openat(dir->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (!folder) {
        pn_close_p(&fd);
        return;
    }
    for (struct dirent *entry; (entry = readdir(folder));) {
        const char *dot = strrchr(entry->d_name, '.');
        if (entry->d_type == DT_SOCK || (dot && strcmp(dot, ".lock") == 0))
            runtime_dir_unlink(dir, entry->d_name);
    }
    closedir(folder);
    runtime_dir_unlink(dir, LOCK_NAME);
}

void runtime_dir_close(struct runtime_dir *dir)
{
    if (!dir)
        return;
    if (dir->lock_fd >= 0)
        sweep(dir);
    pn_close_p(&dir->lock_fd);
    pn_close_p(&dir->fd);
    free(dir);
}

int runtime_dir_listen(struct runtime_dir *dir, const char *name, int *ret_fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    /* Through the folder's descriptor the path is short, however long the folder's own is (107 bytes are the limit). */
    int size = snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", dir->fd, name);
    if (size < 0 || (size_t)size >= sizeof address.sun_path)
        return -ENAMETOOLONG;
    PN_CLOSE int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    runtime_dir_unlink(dir, name); /* of a supervisor that was killed: we hold the lock */
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 64) < 0)
        return -errno;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

void runtime_dir_unlink(struct runtime_dir *dir, const char *name)
{
    unlinkat(dir->fd, name, 0);
}
