/* Checkpoint, abort and lock file (see checkpoint.h). checkpoint_write runs on the flush thread while the store lives,
 * everything else on the deciding thread before and after it. */
#include "checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <isa-l/crc.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "file_layer.h"
#include "broker/format/layout.h"

enum {
    CHECKPOINT_NUMBERS = 5,
    SAFE_MARGIN_MS = 3000, /* Apache's */
    LOCK_WAIT_MS = 3000,   /* one that was killed holds the lock until the kernel has taken its maps apart, or its disk has answered */
};

static int root_file_open(const char *root, const char *name, int flags)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", root, name) >= (int)sizeof path)
        return -ENAMETOOLONG;
    return file_layer_open(path, flags, 0644);
}

static void note_read(const uint8_t *note, struct checkpoint_index *ret_index)
{
    uint32_t crc = crc32_gzip_refl(0, note, CHECKPOINT_INDEX_NOTE_SIZE - 8);
    *ret_index = (struct checkpoint_index){0};
    if (be64_load(note) != CHECKPOINT_INDEX_NOTE_MAGIC || be32_load(note + CHECKPOINT_INDEX_NOTE_SIZE - 8) != crc)
        return; /* none, or not ours */
    ret_index->name = (int64_t)be64_load(note + 8);
    ret_index->count = (int64_t)be64_load(note + 16);
    ret_index->full_name = (int64_t)be64_load(note + 24);
    ret_index->full_ms = (int64_t)be64_load(note + 32);
}

static void note_write(uint8_t *note, const struct checkpoint_index *index)
{
    be64_store(note, CHECKPOINT_INDEX_NOTE_MAGIC);
    be64_store(note + 8, (uint64_t)index->name);
    be64_store(note + 16, (uint64_t)index->count);
    be64_store(note + 24, (uint64_t)index->full_name);
    be64_store(note + 32, (uint64_t)index->full_ms);
    be32_store(note + CHECKPOINT_INDEX_NOTE_SIZE - 8, crc32_gzip_refl(0, note, CHECKPOINT_INDEX_NOTE_SIZE - 8));
}

/* The five numbers in the order of the file. */
static int64_t *numbers_of(struct checkpoint *checkpoint, unsigned n)
{
    int64_t *const list[] = {&checkpoint->physic_ms, &checkpoint->logics_ms, &checkpoint->index_ms,
                             &checkpoint->master_flushed_pos, &checkpoint->confirm_pos};
    return list[n];
}

static void copy_write(uint8_t *copy, const uint8_t *numbers)
{
    be64_store(copy, CHECKPOINT_COPY_MAGIC);
    memcpy(copy + 8, numbers, CHECKPOINT_NUMBERS * 8);
    be32_store(copy + CHECKPOINT_COPY_SIZE - 8, crc32_gzip_refl(0, copy, CHECKPOINT_COPY_SIZE - 8));
}

/* Apache's broker knows of no copy, so a difference may be its work. Either way the smaller number is the careful one. */
static void copy_compare(const uint8_t *data, struct checkpoint *checkpoint)
{
    static const uint8_t none[CHECKPOINT_COPY_SIZE];
    const uint8_t *copy = data + CHECKPOINT_COPY_AT;
    if (memcmp(copy, none, sizeof none) == 0)
        return;
    if (be64_load(copy) != CHECKPOINT_COPY_MAGIC || be32_load(copy + CHECKPOINT_COPY_SIZE - 4) != 0 ||
        be32_load(copy + CHECKPOINT_COPY_SIZE - 8) != crc32_gzip_refl(0, copy, CHECKPOINT_COPY_SIZE - 8)) {
        log_warning("checkpoint: the copy of its times is damaged; the times themselves count");
        return;
    }
    if (memcmp(data, copy + 8, CHECKPOINT_NUMBERS * 8) == 0)
        return;
    log_warning("checkpoint: its times are not those of their copy: another broker wrote it, or it is damaged; the earlier ones count");
    for (unsigned i = 0; i < CHECKPOINT_NUMBERS; i++) {
        int64_t other = (int64_t)be64_load(copy + 8 + 8 * i), *number = numbers_of(checkpoint, i);
        *number = other < *number ? other : *number;
    }
}

int checkpoint_read(const char *root, struct checkpoint *ret_checkpoint)
{
    uint8_t data[CHECKPOINT_SIZE] = {0};
    *ret_checkpoint = (struct checkpoint){0};
    PN_CLOSE int fd = root_file_open(root, "checkpoint", O_RDONLY);
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    ssize_t n = file_layer_pread(fd, data, sizeof data, 0);
    if (n < 0)
        return (int)n;
    ret_checkpoint->physic_ms = (int64_t)be64_load(data + CHECKPOINT_PHYSIC_AT);
    ret_checkpoint->logics_ms = (int64_t)be64_load(data + CHECKPOINT_LOGICS_AT);
    ret_checkpoint->index_ms = (int64_t)be64_load(data + CHECKPOINT_INDEX_AT);
    ret_checkpoint->master_flushed_pos = (int64_t)be64_load(data + CHECKPOINT_MASTER_FLUSHED_AT);
    ret_checkpoint->confirm_pos = (int64_t)be64_load(data + CHECKPOINT_CONFIRM_AT);
    note_read(data + CHECKPOINT_INDEX_NOTE_AT, &ret_checkpoint->index);
    copy_compare(data, ret_checkpoint);
    return 0;
}

int checkpoint_write(const char *root, const struct checkpoint *checkpoint)
{
    uint8_t data[CHECKPOINT_SIZE] = {0};
    PN_CLOSE int fd = root_file_open(root, "checkpoint", O_RDWR | O_CREAT);
    if (fd < 0)
        return fd;
    be64_store(data + CHECKPOINT_PHYSIC_AT, (uint64_t)checkpoint->physic_ms);
    be64_store(data + CHECKPOINT_LOGICS_AT, (uint64_t)checkpoint->logics_ms);
    be64_store(data + CHECKPOINT_INDEX_AT, (uint64_t)checkpoint->index_ms);
    be64_store(data + CHECKPOINT_MASTER_FLUSHED_AT, (uint64_t)checkpoint->master_flushed_pos);
    be64_store(data + CHECKPOINT_CONFIRM_AT, (uint64_t)checkpoint->confirm_pos);
    note_write(data + CHECKPOINT_INDEX_NOTE_AT, &checkpoint->index);
    copy_write(data + CHECKPOINT_COPY_AT, data);
    int r = file_layer_pwrite(fd, data, sizeof data, 0);
    return r < 0 ? r : file_layer_fdatasync(fd);
}

int64_t checkpoint_safe_ms(const struct checkpoint *checkpoint)
{
    int64_t least = checkpoint->physic_ms < checkpoint->logics_ms ? checkpoint->physic_ms : checkpoint->logics_ms;
    return least > SAFE_MARGIN_MS ? least - SAFE_MARGIN_MS : 0;
}

bool checkpoint_abort_exists(const char *root)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/abort", root);
    return access(path, F_OK) == 0;
}

int checkpoint_abort_make(const char *root)
{
    PN_CLOSE int fd = root_file_open(root, "abort", O_RDWR | O_CREAT | O_TRUNC);
    if (fd < 0)
        return fd;
    char pid[16];
    int n = snprintf(pid, sizeof pid, "%d", (int)getpid());
    int r = file_layer_pwrite(fd, pid, (size_t)n, 0);
    /* Lost with the power, it would make the next start believe in a clean stop. */
    return r < 0 ? r : file_layer_sync_folder(root);
}

int checkpoint_abort_remove(const char *root)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/abort", root);
    int r = file_layer_unlink(path);
    return r == -ENOENT ? 0 : r;
}

int checkpoint_lock_take(const char *root, int *ret_fd)
{
    PN_CLOSE int fd = root_file_open(root, "lock", O_RDWR | O_CREAT);
    if (fd < 0)
        return fd;
    /* The lock that Java's FileChannel.tryLock(0, 1) takes: an Apache broker and we exclude each other. */
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
    int64_t until_ms = clock_monotonic_ms() + LOCK_WAIT_MS;
    while (fcntl(fd, F_SETLK, &lock) < 0 && (errno == EACCES || errno == EAGAIN) && clock_monotonic_ms() < until_ms)
        usleep(10000);
    if (fcntl(fd, F_SETLK, &lock) < 0)
        return errno == EACCES || errno == EAGAIN ? -EBUSY : -errno;
    /* Only once: a write to the file may wait for the file system's journal, and a successor is waited for. */
    struct stat status;
    int r = fstat(fd, &status) == 0 && status.st_size >= 4 ? 0 : file_layer_pwrite(fd, "lock", 4, 0);
    if (r < 0)
        return r;
    *ret_fd = TAKE_FD(fd);
    return 0;
}
