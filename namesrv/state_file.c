/* The two files of a name server (KV configuration, what was changed at run time) are small and written when an
 * operator asks for a change, so they are written whole: beside, fsync, rename, fsync of the folder. Runs in the name
 * server, in its loop: route queries wait for these two fsyncs, which an operator's rare change is worth. */
#include "state_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

enum { SIZE_MAX_BYTES = 64 << 20 };

static int read_all(int fd, struct bytes *ret_bytes)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) || st.st_size > SIZE_MAX_BYTES)
        return -EINVAL;
    size_t size = (size_t)st.st_size, have = 0;
    PN_FREE uint8_t *data = malloc(size + 1);
    if (!data)
        return -ENOMEM;
    while (have < size) {
        ssize_t n = read(fd, data + have, size - have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        have += (size_t)n;
    }
    data[size] = 0;
    *ret_bytes = (struct bytes){TAKE_PTR(data), size};
    return 0;
}

int state_file_read(const char *path, struct bytes *ret_bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int r = read_all(fd, ret_bytes);
    close(fd);
    return r;
}

static int make_folders(const char *path)
{
    PN_FREE char *folder = strdup(path);
    if (!folder)
        return -ENOMEM;
    for (char *slash = strchr(folder + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (mkdir(folder, 0750) < 0 && errno != EEXIST)
            return -errno;
        *slash = '/';
    }
    return 0;
}

static int write_and_sync(int fd, struct bytes bytes)
{
    while (bytes.size > 0) {
        ssize_t n = write(fd, bytes.data, bytes.size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        bytes = (struct bytes){bytes.data + n, bytes.size - (size_t)n};
    }
    return fsync(fd) < 0 ? -errno : 0;
}

static int sync_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    PN_FREE char *folder = !slash ? strdup(".") : slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
    int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd < 0)
        return folder ? -errno : -ENOMEM;
    int r = fsync(fd) < 0 ? -errno : 0;
    close(fd);
    return r;
}

int state_file_write(const char *path, struct bytes bytes)
{
    PN_FREE char *beside = NULL;
    int r = make_folders(path);
    if (r < 0)
        return r;
    if (asprintf(&beside, "%s.tmp", path) < 0)
        return -ENOMEM;
    int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (fd < 0)
        return -errno;
    r = write_and_sync(fd, bytes);
    close(fd);
    if (r == 0 && rename(beside, path) < 0)
        r = -errno;
    if (r < 0) {
        (void)unlink(beside);
        return r;
    }
    return sync_folder(path);
}
