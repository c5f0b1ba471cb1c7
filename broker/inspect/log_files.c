/* See log_files.h. The inspecting program, its one thread. */
#include "log_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "broker/format/layout.h"

enum { WINDOW = 8 << 20, SECTOR = 4096 };

static int path_make(const struct log_files *files, int64_t file_pos, char *to, size_t size)
{
    int n = snprintf(to, size, "%s/%0*" PRId64, files->folder, FILE_NAME_DIGITS, file_pos);
    return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

static int compare_pos(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int folder_list(const char *folder, int64_t **ret_list, size_t *ret_count, char **ret_problem)
{
    DIR *dir = opendir(folder);
    if (!dir)
        return errno == ENOENT ? 0 : -errno;
    int r = 0;
    struct dirent *entry;
    while (r == 0 && (entry = readdir(dir))) {
        char *end;
        if (entry->d_name[0] == '.')
            continue;
        int64_t pos = strtoll(entry->d_name, &end, 10);
        int64_t *grown = realloc(*ret_list, (*ret_count + 1) * sizeof **ret_list);
        if (!grown) {
            r = -ENOMEM;
        } else if (*end || end == entry->d_name || pos < 0) {
            *ret_list = grown;
            r = asprintf(ret_problem, "%s/%s is no file of a commit log", folder, entry->d_name) < 0 ? -ENOMEM
                                                                                                     : -EUCLEAN;
        } else {
            *ret_list = grown;
            grown[(*ret_count)++] = pos;
        }
    }
    closedir(dir);
    if (r == 0 && *ret_count)
        qsort(*ret_list, *ret_count, sizeof **ret_list, compare_pos);
    return r;
}

/* The last file may be shorter: its maker died between making it and giving it its length. */
static int files_check(struct log_files *files, const int64_t *list, size_t count, char **ret_problem)
{
    for (size_t i = 0; i < count; i++) {
        char path[4096];
        struct stat st;
        int r = path_make(files, list[i], path, sizeof path);
        if (r < 0)
            return r;
        if (stat(path, &st) < 0)
            return -errno;
        if (i == 0)
            files->file_size = st.st_size;
        bool right_place = files->file_size > 0 && list[i] % files->file_size == 0 &&
                           (i == 0 || list[i] == list[i - 1] + files->file_size);
        bool right_size = st.st_size == files->file_size || (i + 1 == count && st.st_size < files->file_size);
        if (right_place && right_size)
            continue;
        return asprintf(ret_problem, "%s: %s", path,
                        right_place ? "not as long as the first file" : "does not follow the file before it") < 0
                   ? -ENOMEM
                   : -EUCLEAN;
    }
    return 0;
}

int log_files_open(const char *folder, struct log_files *ret_files, char **ret_problem)
{
    PN_FREE int64_t *list = NULL;
    size_t count = 0;
    *ret_files = (struct log_files){.fd = -1, .folder = strdup(folder), .window = malloc(WINDOW)};
    int r = ret_files->folder && ret_files->window ? folder_list(folder, &list, &count, ret_problem) : -ENOMEM;
    if (r == 0)
        r = files_check(ret_files, list, count, ret_problem);
    if (r < 0) {
        log_files_close(ret_files);
        return r;
    }
    if (count > 0) {
        ret_files->first_pos = list[0];
        ret_files->end_pos = list[count - 1] + ret_files->file_size;
    }
    return 0;
}

void log_files_close(struct log_files *files)
{
    pn_close_p(&files->fd);
    free(files->folder);
    free(files->window);
    *files = (struct log_files){.fd = -1};
}

int64_t log_files_file_start(const struct log_files *files, int64_t pos)
{
    return pos - pos % files->file_size;
}

int64_t log_files_file_left(const struct log_files *files, int64_t pos)
{
    return files->file_size - pos % files->file_size;
}

static int file_use(struct log_files *files, int64_t file_pos, int flags)
{
    char path[4096];
    if (files->fd >= 0 && files->fd_pos == file_pos && flags == O_RDONLY)
        return 0;
    int r = path_make(files, file_pos, path, sizeof path);
    if (r < 0)
        return r;
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    pn_close_p(&files->fd);
    files->fd = fd;
    files->fd_pos = file_pos;
    return 0;
}

/* Sector by sector, where the whole could not be had. */
static void read_around(struct log_files *files, uint8_t *to, size_t size, int64_t at)
{
    for (size_t done = 0; done < size; done += SECTOR) {
        size_t part = size - done < SECTOR ? size - done : SECTOR;
        ssize_t n = pread(files->fd, to + done, part, at + (int64_t)done);
        if (n < 0)
            files->unreadable += part;
        if (n < (ssize_t)part)
            memset(to + done + (n > 0 ? n : 0), 0, part - (size_t)(n > 0 ? n : 0));
    }
}

static int window_fill(struct log_files *files, int64_t pos)
{
    int r = file_use(files, log_files_file_start(files, pos), O_RDONLY);
    if (r < 0)
        return r;
    int64_t left = log_files_file_left(files, pos);
    size_t size = left < WINDOW ? (size_t)left : WINDOW, done = 0;
    while (done < size) {
        ssize_t n = pread(files->fd, files->window + done, size - done, pos % files->file_size + (int64_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            read_around(files, files->window + done, size - done, pos % files->file_size + (int64_t)done);
            break;
        }
        if (n == 0) { /* a short last file */
            memset(files->window + done, 0, size - done);
            break;
        }
        done += (size_t)n;
    }
    files->window_pos = pos;
    files->window_size = size;
    return 0;
}

int log_files_read(struct log_files *files, int64_t pos, size_t size, const uint8_t **ret_data, size_t *ret_size)
{
    int64_t left = log_files_file_left(files, pos);
    size_t wanted = (int64_t)size < left ? size : (size_t)left;
    if (wanted > WINDOW)
        wanted = WINDOW;
    bool inside = files->window_size > 0 && pos >= files->window_pos &&
                  pos + (int64_t)wanted <= files->window_pos + (int64_t)files->window_size;
    int r = inside ? 0 : window_fill(files, pos);
    if (r < 0)
        return r;
    *ret_data = files->window + (pos - files->window_pos);
    *ret_size = files->window_size - (size_t)(pos - files->window_pos);
    return 0;
}

int log_files_is_zero(struct log_files *files, int64_t pos, bool *ret_zero, int64_t *ret_pos)
{
    int64_t start = log_files_file_start(files, pos), end = start + files->file_size;
    *ret_zero = true;
    int r = file_use(files, start, O_RDONLY);
    if (r < 0)
        return r;
    off_t data_at = lseek(files->fd, pos - start, SEEK_DATA); /* most of a log's last file is a hole */
    if (data_at < 0 && errno == ENXIO)
        return 0;
    if (data_at > pos - start)
        pos = start + data_at;
    while (pos < end) {
        const uint8_t *data;
        size_t size;
        r = log_files_read(files, pos, WINDOW, &data, &size);
        if (r < 0)
            return r;
        for (size_t i = 0; i < size; i++) {
            if (data[i]) {
                *ret_zero = false;
                *ret_pos = pos + (int64_t)i;
                return 0;
            }
        }
        pos += (int64_t)size;
    }
    return 0;
}

int log_files_write(struct log_files *files, int64_t pos, const void *data, size_t size)
{
    int r = file_use(files, log_files_file_start(files, pos), O_RDWR);
    if (r < 0)
        return r;
    files->window_size = 0;
    ssize_t n = pwrite(files->fd, data, size, pos % files->file_size);
    return n == (ssize_t)size ? 0 : n < 0 ? -errno : -EIO;
}
