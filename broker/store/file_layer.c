/* The thin file layer (see file_layer.h). Library code of the store's process: never logs, nothing is fatal. */
#include "file_layer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

const char *const file_op_names[FILE_OP_COUNT] = {
    [FILE_OPEN] = "open",     [FILE_READ] = "read",     [FILE_WRITE] = "write",   [FILE_SYNC] = "sync",
    [FILE_TRUNCATE] = "truncate", [FILE_PUNCH] = "punch", [FILE_RENAME] = "rename", [FILE_UNLINK] = "unlink",
    [FILE_MKDIR] = "mkdir",   [FILE_SYNC_FOLDER] = "sync-folder",
};

static _Atomic uint64_t counts[FILE_OP_COUNT];
static _Thread_local struct board *own_board;
static _Thread_local enum board_state state_before;

void file_layer_attach(struct board *board)
{
    own_board = board;
}

uint64_t file_layer_count(enum file_op op)
{
    return atomic_load_explicit(&counts[op], memory_order_relaxed);
}

static void begin(enum file_op op)
{
    atomic_fetch_add_explicit(&counts[op], 1, memory_order_relaxed);
    if (own_board) {
        state_before = atomic_load_explicit(&own_board->state, memory_order_relaxed);
        board_set_state(own_board, BOARD_IN_IO);
    }
}

static int end(int r)
{
    if (own_board) {
        board_set_state(own_board, state_before);
        if (r < 0 && r != -ENOENT && r != -EEXIST)
            board_add(own_board, COUNTER_DISK_ERRORS, 1);
    }
    return r;
}

int file_layer_open(const char *path, int flags, mode_t mode)
{
    begin(FILE_OPEN);
    int fd;
    do {
        fd = open(path, flags | O_CLOEXEC, mode);
    } while (fd < 0 && errno == EINTR);
    return end(fd < 0 ? -errno : fd);
}

ssize_t file_layer_pread(int fd, void *data, size_t size, int64_t pos)
{
    begin(FILE_READ);
    size_t done = 0;
    while (done < size) {
        ssize_t n = pread(fd, (uint8_t *)data + done, size - done, pos + (int64_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return end(-errno);
        if (n == 0)
            break;
        done += (size_t)n;
    }
    end(0);
    return (ssize_t)done;
}

int file_layer_pwrite(int fd, const void *data, size_t size, int64_t pos)
{
    begin(FILE_WRITE);
    size_t done = 0;
    while (done < size) {
        ssize_t n = pwrite(fd, (const uint8_t *)data + done, size - done, pos + (int64_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return end(-errno);
        if (n == 0)
            return end(-EIO);
        done += (size_t)n;
    }
    return end(0);
}

int file_layer_fdatasync(int fd)
{
    begin(FILE_SYNC);
    return end(fdatasync(fd) < 0 ? -errno : 0);
}

int file_layer_ftruncate(int fd, int64_t size)
{
    begin(FILE_TRUNCATE);
    return end(ftruncate(fd, size) < 0 ? -errno : 0);
}

/* A file system that cannot punch holes gets the zeros written. */
static int zeros_write(int fd, int64_t pos, int64_t size)
{
    static const uint8_t zeros[65536];
    while (size > 0) {
        size_t part = size < (int64_t)sizeof zeros ? (size_t)size : sizeof zeros;
        int r = file_layer_pwrite(fd, zeros, part, pos);
        if (r < 0)
            return r;
        pos += (int64_t)part;
        size -= (int64_t)part;
    }
    return 0;
}

int file_layer_zero(int fd, int64_t pos, int64_t size)
{
    if (size <= 0)
        return 0;
    begin(FILE_PUNCH);
    int r = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, pos, size) < 0 ? -errno : 0;
    if (r != -EOPNOTSUPP && r != -ENOSYS)
        return end(r);
    end(0);
    return zeros_write(fd, pos, size);
}

int file_layer_rename(const char *from, const char *to)
{
    begin(FILE_RENAME);
    return end(rename(from, to) < 0 ? -errno : 0);
}

int file_layer_unlink(const char *path)
{
    begin(FILE_UNLINK);
    return end(unlink(path) < 0 ? -errno : 0);
}

int file_layer_rmdir(const char *path)
{
    begin(FILE_UNLINK);
    return end(rmdir(path) < 0 ? -errno : 0);
}

int file_layer_mkdir(const char *path)
{
    begin(FILE_MKDIR);
    int r = mkdir(path, 0755) < 0 ? -errno : 0;
    return end(r == -EEXIST ? 0 : r);
}

int file_layer_sync_folder(const char *path)
{
    begin(FILE_SYNC_FOLDER);
    PN_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return end(-errno);
    return end(fsync(fd) < 0 ? -errno : 0);
}
