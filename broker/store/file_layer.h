/* The one way to the disk: every file operation of the store goes through here, so that they can be counted, faults can be
 * put in, a test can record them, and the board says when the store waits for a disk. All return 0 (or a descriptor or a
 * count) or negative errno; short writes are continued, EINTR is retried. Any thread; only the thread that attached a board
 * moves its state.
 *
 * Each call is a site with a name of its own, "commit_log.batch_write.write": the functions are macros that add it, and the
 * program's sites stand in one table. A watch sees every system call before and behind it, and may let it fail; without one
 * a call costs a predicted branch. Stores to a file's map go through file_layer_map_store for the same reason. */
#pragma once

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "shm/board.h"

enum file_op {
    FILE_OPEN,
    FILE_READ,
    FILE_WRITE,
    FILE_WRITE_BACK,
    FILE_SYNC,
    FILE_SYNC_ALL,
    FILE_TRUNCATE,
    FILE_PUNCH,
    FILE_RENAME,
    FILE_LINK,
    FILE_UNLINK,
    FILE_MKDIR,
    FILE_SYNC_FOLDER,
    FILE_MAP,
    FILE_MAP_STORE,
    FILE_MAP_SYNC,
    FILE_UNMAP,
    FILE_RESERVE,
    FILE_OP_COUNT
};
extern const char *const file_op_names[FILE_OP_COUNT];

struct file_site {
    const char *file, *function;
    enum file_op op;
    unsigned line;
    _Atomic uint64_t passes; /* system calls */
};
#define FILE_SITE(operation)                                                                                           \
    __extension__({                                                                                                    \
        static struct file_site file_site_ = {.file = __FILE__, .function = __func__, .op = (operation),               \
                                              .line = __LINE__};                                                       \
        static struct file_site *const file_site_entry_ __attribute__((section("pn_file_sites"), used)) = &file_site_; \
        &file_site_;                                                                                                   \
    })
/* Every site of this program. */
struct file_site *const *file_layer_sites(unsigned *ret_count);
/* file.function.operation, and #2, #3, … behind where that is not yet one. */
void file_site_name(const struct file_site *site, char *to, size_t size);

/* For tests: one system call, as the watch sees it. */
struct file_event {
    const struct file_site *site;
    enum file_op op;
    int fd, flags; /* what the operation has; behind an open the result is the new descriptor */
    const char *path, *path_to;
    const void *data; /* of a write or a map store */
    void *address;    /* stored to, synced or unmapped; of a new map the place where its address will stand */
    size_t size;
    int64_t pos;
};
struct file_watch {
    /* A negative errno is the call's result and nothing is done. *most: bytes that a write writes, `size` at first. */
    int (*before)(void *context, const struct file_event *event, size_t *most);
    void (*after)(void *context, const struct file_event *event, int64_t result);
    void *context;
};
/* Watches every thread from now on; NULL: nobody does. */
void file_layer_watch(const struct file_watch *watch);

/* The calling thread's board; failures are counted there. */
void file_layer_attach(struct board *board);
uint64_t file_layer_count(enum file_op op);

#define file_layer_open(path, flags, mode) file_layer_open_at(FILE_SITE(FILE_OPEN), path, flags, mode)
/* Reads up to `size` bytes; fewer only at the end of the file. */
#define file_layer_pread(fd, data, size, pos) file_layer_pread_at(FILE_SITE(FILE_READ), fd, data, size, pos)
#define file_layer_pwrite(fd, data, size, pos) file_layer_pwrite_at(FILE_SITE(FILE_WRITE), fd, data, size, pos)
/* Begins to write dirty pages back and waits for nothing: no promise, a burst less later. */
#define file_layer_write_back(fd, pos, size) file_layer_write_back_at(FILE_SITE(FILE_WRITE_BACK), fd, pos, size)
/* Data and size; of a folder (a descriptor of it) its names. */
#define file_layer_fdatasync(fd) file_layer_fdatasync_at(FILE_SITE(FILE_SYNC), fd)
/* Everything of the file system that holds the folder, names too. */
#define file_layer_sync_all(path) file_layer_sync_all_at(FILE_SITE(FILE_SYNC_ALL), path)
#define file_layer_ftruncate(fd, size) file_layer_ftruncate_at(FILE_SITE(FILE_TRUNCATE), fd, size)
/* Makes [pos, pos + size) read as zeros and frees its blocks. */
#define file_layer_zero(fd, pos, size) file_layer_zero_at(FILE_SITE(FILE_PUNCH), fd, pos, size)
/* Blocks for [pos, pos + size), whose bytes stay as they are: stores to a map of it cannot find the disk full. */
#define file_layer_reserve(fd, pos, size) file_layer_reserve_at(FILE_SITE(FILE_RESERVE), fd, pos, size)
#define file_layer_rename(from, to) file_layer_rename_at(FILE_SITE(FILE_RENAME), from, to)
#define file_layer_link(from, to) file_layer_link_at(FILE_SITE(FILE_LINK), from, to)
#define file_layer_unlink(path) file_layer_unlink_at(FILE_SITE(FILE_UNLINK), path, 0)
#define file_layer_rmdir(path) file_layer_unlink_at(FILE_SITE(FILE_UNLINK), path, AT_REMOVEDIR)
/* 0 also if it is there already. */
#define file_layer_mkdir(path) file_layer_mkdir_at(FILE_SITE(FILE_MKDIR), path)
/* mkdir, and if it was not there its name is kept. */
#define file_layer_mkdir_kept(path) file_layer_mkdir_kept_at(FILE_SITE(FILE_MKDIR), FILE_SITE(FILE_SYNC_FOLDER), path)
/* Makes names in the folder last. */
#define file_layer_sync_folder(path) file_layer_sync_folder_at(FILE_SITE(FILE_SYNC_FOLDER), path)
/* Shared map of [pos, pos + size), pos on a page. */
#define file_layer_map(fd, pos, size, writable, ret_map)                                                               \
    file_layer_map_at(FILE_SITE(FILE_MAP), fd, pos, size, writable, ret_map)
#define file_layer_map_store(to, data, size) file_layer_map_store_at(FILE_SITE(FILE_MAP_STORE), to, data, size)
#define file_layer_map_sync(map, size) file_layer_map_sync_at(FILE_SITE(FILE_MAP_SYNC), map, size)
#define file_layer_unmap(map, size) file_layer_unmap_at(FILE_SITE(FILE_UNMAP), map, size)

int file_layer_open_at(struct file_site *site, const char *path, int flags, mode_t mode);
ssize_t file_layer_pread_at(struct file_site *site, int fd, void *data, size_t size, int64_t pos);
int file_layer_pwrite_at(struct file_site *site, int fd, const void *data, size_t size, int64_t pos);
int file_layer_write_back_at(struct file_site *site, int fd, int64_t pos, int64_t size);
int file_layer_fdatasync_at(struct file_site *site, int fd);
int file_layer_sync_all_at(struct file_site *site, const char *path);
int file_layer_ftruncate_at(struct file_site *site, int fd, int64_t size);
int file_layer_zero_at(struct file_site *site, int fd, int64_t pos, int64_t size);
int file_layer_reserve_at(struct file_site *site, int fd, int64_t pos, int64_t size);
int file_layer_rename_at(struct file_site *site, const char *from, const char *to);
int file_layer_link_at(struct file_site *site, const char *from, const char *to);
int file_layer_unlink_at(struct file_site *site, const char *path, int flags);
int file_layer_mkdir_at(struct file_site *site, const char *path);
int file_layer_mkdir_kept_at(struct file_site *site, struct file_site *sync_site, const char *path);
int file_layer_sync_folder_at(struct file_site *site, const char *path);
int file_layer_map_at(struct file_site *site, int fd, int64_t pos, size_t size, bool writable, void **ret_map);
void file_layer_map_store_at(struct file_site *site, void *to, const void *data, size_t size);
int file_layer_map_sync_at(struct file_site *site, void *map, size_t size);
int file_layer_unmap_at(struct file_site *site, void *map, size_t size);
