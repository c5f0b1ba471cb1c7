/* The thin file layer (see file_layer.h). Library code of the store's process: never logs, nothing is fatal. */
#include "file_layer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

const char *const file_op_names[FILE_OP_COUNT] = {
    [FILE_OPEN] = "open",           [FILE_READ] = "read",         [FILE_WRITE] = "write",
    [FILE_WRITE_BACK] = "write-back", [FILE_SYNC] = "sync",       [FILE_SYNC_ALL] = "sync-all",
    [FILE_TRUNCATE] = "truncate",   [FILE_PUNCH] = "punch",       [FILE_RENAME] = "rename",
    [FILE_LINK] = "link",           [FILE_UNLINK] = "unlink",     [FILE_MKDIR] = "mkdir",
    [FILE_SYNC_FOLDER] = "sync-folder", [FILE_MAP] = "map",       [FILE_MAP_STORE] = "map-store",
    [FILE_MAP_SYNC] = "map-sync",   [FILE_UNMAP] = "unmap",     [FILE_RESERVE] = "reserve",
};

/* The linker's names for the two ends of the table. */
extern struct file_site *const __start_pn_file_sites[];
extern struct file_site *const __stop_pn_file_sites[];

static _Atomic uint64_t counts[FILE_OP_COUNT];
static _Thread_local struct board *own_board;
static _Thread_local enum board_state state_before;
static const struct file_watch *_Atomic watch;

struct file_site *const *file_layer_sites(unsigned *ret_count)
{
    *ret_count = (unsigned)(__stop_pn_file_sites - __start_pn_file_sites);
    return __start_pn_file_sites;
}

static bool same_place(const struct file_site *a, const struct file_site *b)
{
    return a->op == b->op && strcmp(a->function, b->function) == 0 && strcmp(a->file, b->file) == 0;
}

void file_site_name(const struct file_site *site, char *to, size_t size)
{
    const char *base = strrchr(site->file, '/');
    base = base ? base + 1 : site->file;
    unsigned count, before = 0;
    struct file_site *const *sites = file_layer_sites(&count);
    for (unsigned i = 0; i < count; i++)
        before += same_place(sites[i], site) && sites[i]->line < site->line;
    int n = snprintf(to, size, "%.*s.%s.%s", (int)strcspn(base, "."), base, site->function, file_op_names[site->op]);
    if (before && n > 0 && (size_t)n < size)
        snprintf(to + n, size - (size_t)n, "#%u", before + 1);
}

void file_layer_watch(const struct file_watch *new_watch)
{
    atomic_store_explicit(&watch, new_watch, memory_order_release);
}

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

static const struct file_watch *watching(struct file_site *site)
{
    atomic_fetch_add_explicit(&site->passes, 1, memory_order_relaxed);
    return atomic_load_explicit(&watch, memory_order_acquire);
}

/* One system call: the watch may refuse it, and sees what became of it. `call` gives −1 and errno, or a result ≥ 0. */
#define CALLED(site_, operation_, fd_, call, ...)                                                                      \
    __extension__({                                                                                                    \
        const struct file_watch *watch_ = watching(site_);                                                             \
        struct file_event event_ = {.site = (site_), .op = (operation_), .fd = (fd_), __VA_ARGS__};                 \
        size_t most = event_.size;                                                                                     \
        int64_t result_ = __builtin_expect(watch_ != NULL, 0) ? watch_->before(watch_->context, &event_, &most) : 0;   \
        if (result_ >= 0) {                                                                                            \
            result_ = (int64_t)(call);                                                                                 \
            result_ = result_ < 0 ? -errno : result_;                                                                  \
        }                                                                                                              \
        (void)most;                                                                                                    \
        if (__builtin_expect(watch_ != NULL, 0))                                                                       \
            watch_->after(watch_->context, &event_, result_);                                                          \
        result_;                                                                                                       \
    })

int file_layer_open_at(struct file_site *site, const char *path, int flags, mode_t mode)
{
    int64_t fd;
    begin(FILE_OPEN);
    do {
        fd = CALLED(site, FILE_OPEN, -1, open(path, flags | O_CLOEXEC, mode), .path = path, .flags = flags);
    } while (fd == -EINTR);
    return end((int)fd);
}

ssize_t file_layer_pread_at(struct file_site *site, int fd, void *data, size_t size, int64_t pos)
{
    begin(FILE_READ);
    size_t done = 0;
    while (done < size) {
        int64_t n = CALLED(site, FILE_READ, fd, pread(fd, (uint8_t *)data + done, size - done, pos + (int64_t)done),
                           .size = size - done, .pos = pos + (int64_t)done);
        if (n == -EINTR)
            continue;
        if (n < 0)
            return end((int)n);
        if (n == 0)
            break;
        done += (size_t)n;
    }
    end(0);
    return (ssize_t)done;
}

static int write_all(struct file_site *site, int fd, const void *data, size_t size, int64_t pos)
{
    size_t done = 0;
    while (done < size) {
        const uint8_t *from = (const uint8_t *)data + done;
        int64_t n = CALLED(site, FILE_WRITE, fd, pwrite(fd, from, most, pos + (int64_t)done), .data = from,
                           .size = size - done, .pos = pos + (int64_t)done);
        if (n == -EINTR)
            continue;
        if (n < 0)
            return (int)n;
        if (n == 0)
            return -EIO;
        done += (size_t)n;
    }
    return 0;
}

int file_layer_pwrite_at(struct file_site *site, int fd, const void *data, size_t size, int64_t pos)
{
    begin(FILE_WRITE);
    return end(write_all(site, fd, data, size, pos));
}

int file_layer_write_back_at(struct file_site *site, int fd, int64_t pos, int64_t size)
{
    begin(FILE_WRITE_BACK);
    return end((int)CALLED(site, FILE_WRITE_BACK, fd, sync_file_range(fd, pos, size, SYNC_FILE_RANGE_WRITE), .pos = pos,
                           .size = (size_t)size));
}

/* Never again after an error, EINTR included: pages that could not be written are clean now, and a second try would
 * succeed over what is lost. */
int file_layer_fdatasync_at(struct file_site *site, int fd)
{
    begin(FILE_SYNC);
    return end((int)CALLED(site, FILE_SYNC, fd, fdatasync(fd), .size = 0));
}

int file_layer_sync_all_at(struct file_site *site, const char *path)
{
    begin(FILE_SYNC_ALL);
    PN_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return end(-errno);
    return end((int)CALLED(site, FILE_SYNC_ALL, fd, syncfs(fd), .path = path));
}

int file_layer_ftruncate_at(struct file_site *site, int fd, int64_t size)
{
    int64_t r;
    begin(FILE_TRUNCATE);
    do {
        r = CALLED(site, FILE_TRUNCATE, fd, ftruncate(fd, size), .pos = size);
    } while (r == -EINTR);
    return end((int)r);
}

/* A file system that cannot punch holes gets the zeros written. */
static int zeros_write(struct file_site *site, int fd, int64_t pos, int64_t size)
{
    static const uint8_t zeros[65536];
    while (size > 0) {
        size_t part = size < (int64_t)sizeof zeros ? (size_t)size : sizeof zeros;
        int r = write_all(site, fd, zeros, part, pos);
        if (r < 0)
            return r;
        pos += (int64_t)part;
        size -= (int64_t)part;
    }
    return 0;
}

int file_layer_zero_at(struct file_site *site, int fd, int64_t pos, int64_t size)
{
    int64_t r;
    if (size <= 0)
        return 0;
    begin(FILE_PUNCH);
    do {
        r = CALLED(site, FILE_PUNCH, fd, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, pos, size), .pos = pos,
                   .size = (size_t)size);
    } while (r == -EINTR);
    if (r == -EOPNOTSUPP || r == -ENOSYS)
        r = zeros_write(site, fd, pos, size);
    return end((int)r);
}

/* What a file system without fallocate gets: bytes written again as they are. Nobody else writes there. */
static int bytes_rewrite(struct file_site *site, int fd, int64_t pos, int64_t size)
{
    uint8_t bytes[4096];
    while (size > 0) {
        size_t part = size < (int64_t)sizeof bytes ? (size_t)size : sizeof bytes;
        ssize_t n = pread(fd, bytes, part, pos);
        int r = n < 0 ? -errno : n == 0 ? -EIO : write_all(site, fd, bytes, (size_t)n, pos);
        if (r < 0)
            return r;
        pos += n;
        size -= n;
    }
    return 0;
}

int file_layer_reserve_at(struct file_site *site, int fd, int64_t pos, int64_t size)
{
    int64_t r;
    if (size <= 0)
        return 0;
    begin(FILE_RESERVE);
    do {
        r = CALLED(site, FILE_RESERVE, fd, fallocate(fd, FALLOC_FL_KEEP_SIZE, pos, size), .pos = pos, .size = (size_t)size);
    } while (r == -EINTR);
    if (r == -EOPNOTSUPP || r == -ENOSYS)
        r = bytes_rewrite(site, fd, pos, size);
    return end((int)r);
}

int file_layer_rename_at(struct file_site *site, const char *from, const char *to)
{
    begin(FILE_RENAME);
    return end((int)CALLED(site, FILE_RENAME, -1, rename(from, to), .path = from, .path_to = to));
}

int file_layer_link_at(struct file_site *site, const char *from, const char *to)
{
    begin(FILE_LINK);
    return end((int)CALLED(site, FILE_LINK, -1, link(from, to), .path = from, .path_to = to));
}

int file_layer_unlink_at(struct file_site *site, const char *path, int flags)
{
    begin(FILE_UNLINK);
    return end((int)CALLED(site, FILE_UNLINK, -1, unlinkat(AT_FDCWD, path, flags), .path = path, .flags = flags));
}

int file_layer_mkdir_at(struct file_site *site, const char *path)
{
    begin(FILE_MKDIR);
    int64_t r = CALLED(site, FILE_MKDIR, -1, mkdir(path, 0755), .path = path);
    return end(r == -EEXIST ? 0 : (int)r);
}

int file_layer_mkdir_kept_at(struct file_site *site, struct file_site *sync_site, const char *path)
{
    char parent[4096];
    struct stat st;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return 0;
    int n = snprintf(parent, sizeof parent, "%s", path);
    if (n < 0 || n >= (int)sizeof parent)
        return -ENAMETOOLONG;
    int r = file_layer_mkdir_at(site, path);
    char *slash = strrchr(parent, '/');
    if (r < 0 || !slash)
        return r;
    slash[slash == parent] = 0; /* "/" stays */
    return file_layer_sync_folder_at(sync_site, parent);
}

int file_layer_sync_folder_at(struct file_site *site, const char *path)
{
    begin(FILE_SYNC_FOLDER);
    PN_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return end(-errno);
    return end((int)CALLED(site, FILE_SYNC_FOLDER, fd, fsync(fd), .path = path));
}

int file_layer_map_at(struct file_site *site, int fd, int64_t pos, size_t size, bool writable, void **ret_map)
{
    void *map = MAP_FAILED;
    int protection = PROT_READ | (writable ? PROT_WRITE : 0);
    begin(FILE_MAP);
    int64_t r = CALLED(site, FILE_MAP, fd, (map = mmap(NULL, size, protection, MAP_SHARED, fd, pos)) == MAP_FAILED ? -1 : 0,
                       .pos = pos, .size = size, .address = &map);
    if (r == 0)
        *ret_map = map;
    return end((int)r);
}

void file_layer_map_store_at(struct file_site *site, void *to, const void *data, size_t size)
{
    atomic_fetch_add_explicit(&counts[FILE_MAP_STORE], 1, memory_order_relaxed);
    /* A store cannot fail: what the watch says is not asked for. */
    (void)CALLED(site, FILE_MAP_STORE, -1, (memcpy(to, data, size), 0), .data = data, .size = size, .address = to);
}

int file_layer_map_sync_at(struct file_site *site, void *map, size_t size)
{
    begin(FILE_MAP_SYNC);
    return end((int)CALLED(site, FILE_MAP_SYNC, -1, msync(map, size, MS_SYNC), .address = map, .size = size));
}

int file_layer_unmap_at(struct file_site *site, void *map, size_t size)
{
    begin(FILE_UNMAP);
    return end((int)CALLED(site, FILE_UNMAP, -1, munmap(map, size), .address = map, .size = size));
}
