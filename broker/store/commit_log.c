/* The commit log's files (see commit_log.h, format/FORMAT.md). Runs in the store on its deciding thread. A failed write is kept:
 * the caller refuses everything from then on, because what the disk holds behind the end is not known any more. */
#include "commit_log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/panic.h"
#include "checkpoint.h"
#include "fault/fault.h"
#include "file_layer.h"

enum { READ_FILES = 2, WINDOW_SIZE = 1 << 20 };

struct commit_log {
    char *folder;
    int64_t file_size;
    int64_t first_pos, files_end; /* the row of files is contiguous; equal: there is none */
    int64_t end_pos;
    int write_fd;
    int64_t write_file_pos;
    int read_fds[READ_FILES];
    int64_t read_file_pos[READ_FILES];
    unsigned read_turn;
    int error; /* negative errno of the first failed write or sync, which was … */
    const char *error_what;
    int64_t error_pos;
    size_t torn_size; /* behind the end lie bytes of a batch that did not fit on the disk, and could not be taken away */
};

void commit_log_file_path(const char *folder, int64_t file_pos, char *to, size_t size)
{
    snprintf(to, size, "%s/%0*" PRId64, folder, FILE_NAME_DIGITS, file_pos);
}

static bool name_parse(const char *name, int64_t *ret_pos)
{
    char *end;
    if (*name < '0' || *name > '9')
        return false;
    errno = 0;
    *ret_pos = strtoll(name, &end, 10);
    return *end == 0 && errno == 0;
}

static int compare_pos(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int folder_list(const char *folder, int64_t **ret_positions, size_t *ret_count)
{
    DIR *dir = opendir(folder);
    if (!dir)
        return -errno;
    int r = 0;
    int64_t *list = NULL;
    size_t count = 0;
    struct dirent *entry;
    while (r == 0 && (entry = readdir(dir))) {
        int64_t pos;
        if (entry->d_name[0] == '.' || entry->d_type == DT_DIR)
            continue;
        if (!name_parse(entry->d_name, &pos)) {
            r = -EUCLEAN;
            break;
        }
        int64_t *grown = realloc(list, (count + 1) * sizeof *list);
        if (!grown) {
            r = -ENOMEM;
            break;
        }
        list = grown;
        list[count++] = pos;
    }
    closedir(dir);
    if (r < 0) {
        free(list);
        return r;
    }
    if (count)
        qsort(list, count, sizeof *list, compare_pos);
    *ret_positions = list;
    *ret_count = count;
    return 0;
}

static int file_length(const struct commit_log *log, int64_t pos, int64_t *ret_length)
{
    char path[4096];
    struct stat st;
    commit_log_file_path(log->folder, pos, path, sizeof path);
    if (stat(path, &st) < 0)
        return -errno;
    *ret_length = st.st_size;
    return 0;
}

/* Its maker died between open and ftruncate, or in the middle of a cut. */
static int file_lengthen(const struct commit_log *log, int64_t pos)
{
    char path[4096];
    commit_log_file_path(log->folder, pos, path, sizeof path);
    PN_CLOSE int fd = file_layer_open(path, O_RDWR, 0);
    return fd < 0 ? fd : file_layer_ftruncate(fd, log->file_size);
}

/* Store time of the file's first record; 0: it has none. */
static int64_t file_first_ms(const struct commit_log *log, int64_t pos)
{
    char path[4096];
    uint8_t head[RECORD_BORN_HOST_AT + RECORD_HOST_V6_SIZE + 8];
    commit_log_file_path(log->folder, pos, path, sizeof path);
    PN_CLOSE int fd = file_layer_open(path, O_RDONLY, 0);
    if (fd < 0 || file_layer_pread(fd, head, sizeof head, 0) != (ssize_t)sizeof head)
        return 0;
    uint32_t magic = be32_load(head + RECORD_MAGIC_AT);
    if ((magic != RECORD_MAGIC_V1 && magic != RECORD_MAGIC_V2) || (int64_t)be64_load(head + RECORD_POS_AT) != pos)
        return 0;
    bool ipv6 = be32_load(head + RECORD_SYS_FLAG_AT) & SYS_FLAG_BORN_IPV6;
    return (int64_t)be64_load(head + RECORD_BORN_HOST_AT + (ipv6 ? RECORD_HOST_V6_SIZE : RECORD_HOST_V4_SIZE));
}

/* Files behind a hole in the row, after an unclean stop: a power cut may keep a later file's name and not an earlier one's,
 * but nothing that was promised lies there. They go to the quarantine, where people may look at them. A file that
 * the checkpoint vouches for is another matter: -EUCLEAN. */
static int files_set_aside(const struct commit_log *log, const char *root, const int64_t *list, size_t count)
{
    char from[4096], to[4200], folder[4096];
    struct checkpoint checkpoint;
    int r = checkpoint_read(root, &checkpoint);
    for (size_t i = 0; r == 0 && i < count; i++) {
        int64_t first_ms = file_first_ms(log, list[i]);
        if (first_ms > 0 && first_ms < checkpoint.physic_ms)
            r = -EUCLEAN;
    }
    snprintf(folder, sizeof folder, "%s/quarantine", root);
    if (r == 0)
        r = file_layer_mkdir(folder);
    for (size_t i = count; r == 0 && i > 0; i--) {
        commit_log_file_path(log->folder, list[i - 1], from, sizeof from);
        snprintf(to, sizeof to, "%s/%" PRId64 "-commitlog-%0*" PRId64, folder, clock_realtime_ms(), FILE_NAME_DIGITS,
                 list[i - 1]);
        log_warning("%s lies behind a hole in the log that an unclean stop left; it goes to %s", from, to);
        r = file_layer_rename(from, to);
    }
    return r;
}

static int files_load(struct commit_log *log, const char *root)
{
    PN_FREE int64_t *list = NULL;
    size_t count = 0, n = 0;
    bool unclean = checkpoint_abort_exists(root);
    int r = folder_list(log->folder, &list, &count);
    for (size_t i = 0; r == 0 && i < count; i++)
        if (list[i] % log->file_size != 0)
            return -EUCLEAN;
    while (r == 0 && n < count && (n == 0 || list[n] == list[n - 1] + log->file_size)) {
        int64_t length;
        r = file_length(log, list[n], &length);
        if (r == 0 && length > log->file_size)
            return -EUCLEAN;
        n++;
        if (r == 0 && length < log->file_size) {
            if (n < count && !unclean) /* else the power went before its length was kept */
                return -EUCLEAN;
            r = file_lengthen(log, list[n - 1]);
            break;
        }
    }
    if (r == 0 && n < count)
        r = unclean ? files_set_aside(log, root, list + n, count - n) : -EUCLEAN;
    if (r == 0 && count > 0) {
        log->first_pos = list[0];
        log->files_end = list[n - 1] + log->file_size;
    }
    return r;
}

int commit_log_open(const struct store_config *config, struct commit_log **ret_log)
{
    struct commit_log *log = calloc(1, sizeof *log);
    if (!log)
        return -ENOMEM;
    log->write_fd = -1;
    for (unsigned i = 0; i < READ_FILES; i++)
        log->read_fds[i] = -1;
    log->file_size = config->commit_log_file_size;
    log->folder = strdup(config->commit_log_dir);
    int r = log->folder ? file_layer_mkdir_kept(log->folder) : -ENOMEM;
    if (r == 0)
        r = files_load(log, config->store_root);
    if (r < 0) {
        commit_log_free(log);
        return r;
    }
    log->end_pos = log->first_pos;
    *ret_log = log;
    return 0;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void commit_log_free(struct commit_log *log)
{
    if (!log)
        return;
    close_fd(&log->write_fd);
    for (unsigned i = 0; i < READ_FILES; i++)
        close_fd(&log->read_fds[i]);
    free(log->folder);
    free(log);
}

const char *commit_log_folder(const struct commit_log *log)
{
    return log->folder;
}

int64_t commit_log_file_size(const struct commit_log *log)
{
    return log->file_size;
}

bool commit_log_is_empty(const struct commit_log *log)
{
    return log->first_pos == log->files_end;
}

int64_t commit_log_min_pos(const struct commit_log *log)
{
    return log->first_pos;
}

int64_t commit_log_files_end(const struct commit_log *log)
{
    return log->files_end;
}

int64_t commit_log_end(const struct commit_log *log)
{
    return log->end_pos;
}

int64_t commit_log_file_start(const struct commit_log *log, int64_t pos)
{
    return pos - pos % log->file_size;
}

int64_t commit_log_file_left(const struct commit_log *log, int64_t pos)
{
    return log->file_size - pos % log->file_size;
}

void commit_log_set_end(struct commit_log *log, int64_t pos)
{
    pn_assert(pos >= log->first_pos && pos <= log->files_end);
    log->end_pos = pos;
}

int commit_log_error(const struct commit_log *log)
{
    return log->error;
}

void commit_log_fail(struct commit_log *log, int error, const char *what, int64_t pos)
{
    if (log->error)
        return;
    log->error = error;
    log->error_what = what;
    log->error_pos = pos;
}

void commit_log_error_text(const struct commit_log *log, bool short_name, char *to, size_t size)
{
    char path[4096];
    *to = 0;
    if (!log->error)
        return;
    commit_log_file_path(log->folder, commit_log_file_start(log, log->error_pos), path, sizeof path);
    const char *slash = strrchr(path, '/');
    snprintf(to, size, "%s of %s at log position %" PRId64 ": %s", log->error_what, short_name && slash ? slash + 1 : path,
             log->error_pos, strerror(-log->error));
}

bool commit_log_out_of_space(int error)
{
    return error == -ENOSPC || error == -EDQUOT;
}

/* Makes the file at the row's end, sparse and at once at full length: readers and Apache accept no other. */
static int file_make(struct commit_log *log)
{
    char path[4096];
    commit_log_file_path(log->folder, log->files_end, path, sizeof path);
    int fd = file_layer_open(path, O_RDWR | O_CREAT, 0644);
    if (fd < 0)
        return fd;
    int r = file_layer_ftruncate(fd, log->file_size);
    if (r < 0) {
        close(fd);
        return r;
    }
    close_fd(&log->write_fd);
    log->write_fd = fd;
    log->write_file_pos = log->files_end;
    log->files_end += log->file_size;
    return 0;
}

static int write_file_ready(struct commit_log *log)
{
    int64_t file_pos = commit_log_file_start(log, log->end_pos);
    if (log->write_fd >= 0 && log->write_file_pos == file_pos)
        return 0;
    if (log->end_pos == log->files_end)
        return file_make(log);
    char path[4096];
    commit_log_file_path(log->folder, file_pos, path, sizeof path);
    close_fd(&log->write_fd);
    int fd = file_layer_open(path, O_RDWR, 0);
    if (fd < 0)
        return fd;
    log->write_fd = fd;
    log->write_file_pos = file_pos;
    return 0;
}

static bool point_armed(enum fault_point point)
{
    return atomic_load_explicit(&fault_page->slots[point].action, memory_order_relaxed) != 0;
}

static int batch_write(struct commit_log *log, const uint8_t *data, size_t size)
{
    int64_t at = log->end_pos - log->write_file_pos;
    size_t half = 0;
    if (__builtin_expect(point_armed(FAULT_STORE_APPEND_PARTIAL), 0)) {
        half = size / 2;
        int r = file_layer_pwrite(log->write_fd, data, half, at);
        if (r < 0)
            return r;
        FAULT_POINT(STORE_APPEND_PARTIAL);
    }
    return file_layer_pwrite(log->write_fd, data + half, size - half, at + (int64_t)half);
}

/* A batch that did not fit leaves whole records behind, which were refused: they must not be found by a recovery. */
static int torn_clear(struct commit_log *log)
{
    if (log->torn_size == 0)
        return 0;
    int r = commit_log_zero(log, log->end_pos, (int64_t)log->torn_size);
    if (r == 0)
        log->torn_size = 0;
    return r;
}

static int batch_append(struct commit_log *log, const uint8_t *data, size_t size)
{
    int r = torn_clear(log);
    if (r == 0)
        r = write_file_ready(log);
    if (r < 0)
        return r;
    r = batch_write(log, data, size);
    if (r < 0)
        log->torn_size = size;
    if (commit_log_out_of_space(r))
        (void)torn_clear(log); /* else with the next batch */
    return r;
}

int commit_log_append(struct commit_log *log, const uint8_t *data, size_t size, bool ends_file)
{
    if (log->error)
        return log->error;
    pn_assert((int64_t)size <= commit_log_file_left(log, log->end_pos));
    int r = batch_append(log, data, size);
    if (r < 0) {
        if (!commit_log_out_of_space(r))
            commit_log_fail(log, r, "write", log->end_pos);
        return r;
    }
    log->end_pos += (int64_t)size;
    if (ends_file) {
        log->end_pos = log->write_file_pos + log->file_size;
        FAULT_POINT(STORE_ROLL);
        r = write_file_ready(log); /* this batch is safe; without a file nothing more is taken */
        if (r < 0 && !commit_log_out_of_space(r))
            commit_log_fail(log, r, "making", log->end_pos);
    }
    return 0;
}

int commit_log_cut(struct commit_log *log, int64_t pos)
{
    char path[4096];
    pn_assert(pos >= log->first_pos && pos <= log->files_end);
    /* A file that begins at pos stays, empty: the record before it may be a blank one, which wants a file behind it. */
    while (log->files_end > log->first_pos && log->files_end - log->file_size > pos) {
        commit_log_file_path(log->folder, log->files_end - log->file_size, path, sizeof path);
        int r = file_layer_unlink(path);
        if (r < 0 && r != -ENOENT)
            return r;
        log->files_end -= log->file_size;
    }
    close_fd(&log->write_fd);
    for (unsigned i = 0; i < READ_FILES; i++)
        close_fd(&log->read_fds[i]);
    log->end_pos = pos;
    return pos < log->files_end ? commit_log_zero(log, pos, log->files_end - pos) : 0;
}

void commit_log_forget_before(struct commit_log *log, int64_t pos)
{
    pn_assert(pos % log->file_size == 0 && pos >= log->first_pos && pos < log->files_end && pos <= log->end_pos);
    for (unsigned i = 0; i < READ_FILES; i++)
        if (log->read_fds[i] >= 0 && log->read_file_pos[i] < pos)
            close_fd(&log->read_fds[i]);
    log->first_pos = pos;
}

int commit_log_zero(struct commit_log *log, int64_t pos, int64_t size)
{
    while (size > 0 && pos < log->files_end) {
        char path[4096];
        int64_t part = commit_log_file_left(log, pos) < size ? commit_log_file_left(log, pos) : size;
        commit_log_file_path(log->folder, commit_log_file_start(log, pos), path, sizeof path);
        PN_CLOSE int fd = file_layer_open(path, O_RDWR, 0);
        if (fd < 0)
            return fd;
        int r = file_layer_zero(fd, pos % log->file_size, part);
        if (r < 0)
            return r;
        pos += part;
        size -= part;
    }
    return 0;
}

int commit_log_sync(struct commit_log *log, int64_t from, int64_t to)
{
    for (int64_t pos = commit_log_file_start(log, from); pos < to && pos < log->files_end; pos += log->file_size) {
        char path[4096];
        commit_log_file_path(log->folder, pos, path, sizeof path);
        PN_CLOSE int fd = file_layer_open(path, O_RDWR, 0);
        int r = fd < 0 ? fd : file_layer_fdatasync(fd);
        if (r < 0)
            return r;
    }
    return file_layer_sync_folder(log->folder);
}

int commit_log_drop_cache(struct commit_log *log, int64_t from)
{
    for (int64_t pos = commit_log_file_start(log, from); pos < log->files_end; pos += log->file_size) {
        char path[4096];
        commit_log_file_path(log->folder, pos, path, sizeof path);
        PN_CLOSE int fd = file_layer_open(path, O_RDWR, 0);
        int r = fd < 0 ? fd : file_layer_fdatasync(fd);
        if (r < 0)
            return r;
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    }
    return 0;
}

static int read_fd(struct commit_log *log, int64_t file_pos)
{
    for (unsigned i = 0; i < READ_FILES; i++)
        if (log->read_fds[i] >= 0 && log->read_file_pos[i] == file_pos)
            return log->read_fds[i];
    char path[4096];
    commit_log_file_path(log->folder, file_pos, path, sizeof path);
    int fd = file_layer_open(path, O_RDONLY, 0);
    if (fd < 0)
        return fd;
    unsigned i = log->read_turn++ % READ_FILES;
    close_fd(&log->read_fds[i]);
    log->read_fds[i] = fd;
    log->read_file_pos[i] = file_pos;
    return fd;
}

ssize_t commit_log_pread(struct commit_log *log, int64_t pos, void *data, size_t size)
{
    if (pos < log->first_pos || pos >= log->files_end)
        return 0;
    int fd = read_fd(log, commit_log_file_start(log, pos));
    if (fd < 0)
        return fd;
    int64_t left = commit_log_file_left(log, pos);
    return file_layer_pread(fd, data, (int64_t)size < left ? size : (size_t)left, pos % log->file_size);
}

int64_t commit_log_next_data(struct commit_log *log, int64_t pos)
{
    int64_t start = commit_log_file_start(log, pos);
    int fd = read_fd(log, start);
    if (fd < 0)
        return fd;
    off_t next = lseek(fd, pos - start, SEEK_DATA);
    if (next < 0 && errno == ENXIO)
        return start + log->file_size;
    return next < 0 || next > log->file_size ? pos : start + next; /* cannot say: perhaps here */
}

void log_reader_init(struct log_reader *reader, struct commit_log *log)
{
    *reader = (struct log_reader){.log = log};
}

void log_reader_done(struct log_reader *reader)
{
    free(reader->data);
    *reader = (struct log_reader){0};
}

void log_reader_forget(struct log_reader *reader)
{
    reader->size = 0;
}

/* At least `want` bytes at pos unless the file ends before; what is there in *ret_size. */
static int window_move(struct log_reader *reader, int64_t pos, size_t want, const uint8_t **ret_data, size_t *ret_size)
{
    if (!(pos >= reader->base_pos && pos + (int64_t)want <= reader->base_pos + (int64_t)reader->size)) {
        size_t capacity = want > WINDOW_SIZE ? want : WINDOW_SIZE;
        if (capacity > reader->capacity) {
            uint8_t *grown = realloc(reader->data, capacity);
            if (!grown)
                return -ENOMEM;
            reader->data = grown;
            reader->capacity = capacity;
        }
        reader->size = 0;
        if (reader->limit_pos > pos && reader->limit_pos - pos < (int64_t)capacity)
            capacity = (size_t)(reader->limit_pos - pos);
        ssize_t n = commit_log_pread(reader->log, pos, reader->data, capacity);
        if (n < 0)
            return (int)n;
        reader->base_pos = pos;
        reader->size = (size_t)n;
    }
    size_t skip = (size_t)(pos - reader->base_pos);
    *ret_data = reader->data ? reader->data + skip : NULL;
    *ret_size = reader->size - skip;
    return 0;
}

int log_reader_record(struct log_reader *reader, int64_t pos, bool check_crc, struct record *ret_record)
{
    size_t want = RECORD_BORN_HOST_AT;
    int64_t left = commit_log_file_left(reader->log, pos);
    for (;;) {
        const uint8_t *data = NULL;
        size_t size = 0;
        if ((int64_t)want > left)
            want = (size_t)left;
        int r = window_move(reader, pos, want, &data, &size);
        if (r < 0)
            return r;
        enum record_kind kind = record_parse(data, size, pos, left, check_crc, ret_record);
        if (kind != RECORD_SHORT)
            return (int)kind;
        if (size < want || ret_record->size <= size)
            return RECORD_BAD; /* the files end here */
        want = ret_record->size;
    }
}

int log_reader_bytes(struct log_reader *reader, int64_t pos, size_t size, const uint8_t **ret_data)
{
    size_t have = 0;
    int r = window_move(reader, pos, size, ret_data, &have);
    if (r < 0)
        return r;
    return have >= size ? 0 : -EBADMSG;
}
