/* The one way to the disk: every file operation of the store goes through here, so that they can be counted, faults can be
 * put in, and the board says when the store waits for a disk. All return 0 (or a descriptor or a count) or negative errno;
 * short writes are continued, EINTR is retried. Any thread; only the thread that attached a board moves its state. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "shm/board.h"

enum file_op {
    FILE_OPEN,
    FILE_READ,
    FILE_WRITE,
    FILE_SYNC,
    FILE_TRUNCATE,
    FILE_PUNCH,
    FILE_RENAME,
    FILE_UNLINK,
    FILE_MKDIR,
    FILE_SYNC_FOLDER,
    FILE_OP_COUNT
};
extern const char *const file_op_names[FILE_OP_COUNT];

/* The calling thread's board; failures are counted there. */
void file_layer_attach(struct board *board);
uint64_t file_layer_count(enum file_op op);

int file_layer_open(const char *path, int flags, mode_t mode);
/* Reads up to `size` bytes; fewer only at the end of the file. */
ssize_t file_layer_pread(int fd, void *data, size_t size, int64_t pos);
int file_layer_pwrite(int fd, const void *data, size_t size, int64_t pos);
int file_layer_fdatasync(int fd);
int file_layer_ftruncate(int fd, int64_t size);
/* Makes [pos, pos + size) read as zeros and frees its blocks. */
int file_layer_zero(int fd, int64_t pos, int64_t size);
int file_layer_rename(const char *from, const char *to);
int file_layer_unlink(const char *path);
int file_layer_rmdir(const char *path); /* counted as unlink */
/* 0 also if it is there already. */
int file_layer_mkdir(const char *path);
/* Makes names in the folder last. */
int file_layer_sync_folder(const char *path);
