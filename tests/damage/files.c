/* See files.h. */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

static struct files *loading;
static size_t prefix;

static enum file_kind kind_of(const char *name)
{
    static const struct {
        const char *begin;
        enum file_kind kind;
    } rows[] = {{"commitlog/", FILE_LOG},     {"consumequeue/", FILE_QUEUE},         {"index/", FILE_INDEX},
                {"checkpoint", FILE_CHECKPOINT}, {"config/metadata.journal", FILE_JOURNAL}, {"config/", FILE_JSON}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strncmp(name, rows[i].begin, strlen(rows[i].begin)) == 0)
            return rows[i].kind;
    return FILE_OTHER;
}

static int load_one(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    if (type != FTW_F)
        return 0;
    loading->list = realloc(loading->list, (loading->count + 1) * sizeof *loading->list);
    FUZZ_CHECK(loading->list);
    struct file *file = &loading->list[loading->count++];
    *file = (struct file){.size = (size_t)status->st_size,
                          .changed_ns = status->st_mtim.tv_sec * 1000000000ll + status->st_mtim.tv_nsec};
    FUZZ_CHECK(strlen(path + prefix) < sizeof file->name);
    strcpy(file->name, path + prefix);
    file->kind = kind_of(file->name);
    if (file->kind == FILE_LOG || file->kind == FILE_QUEUE)
        file->first = strtoll(strrchr(file->name, '/') + 1, NULL, 10);
    file->bytes = malloc(file->size + 1);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    FUZZ_CHECK(fd >= 0 && file->bytes && read(fd, file->bytes, file->size) == (ssize_t)file->size);
    close(fd);
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct file *)a)->name, ((const struct file *)b)->name);
}

void files_load(struct files *files, const char *folder)
{
    *files = (struct files){0};
    loading = files;
    prefix = strlen(folder) + 1;
    FUZZ_CHECK(nftw(folder, load_one, 16, FTW_PHYS) == 0);
    qsort(files->list, files->count, sizeof *files->list, by_name);
}

void files_free(struct files *files)
{
    for (unsigned i = 0; i < files->count; i++)
        free(files->list[i].bytes);
    free(files->list);
    *files = (struct files){0};
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    return walk->level > 0 ? remove(path) : 0;
}

static int open_in(const char *folder, const char *name, int flags)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, flags | O_CLOEXEC, 0644);
    for (char *slash = path + strlen(folder); fd < 0 && errno == ENOENT && flags & O_CREAT && (slash = strchr(slash + 1, '/'));) {
        *slash = 0;
        FUZZ_CHECK(mkdir(path, 0755) == 0 || errno == EEXIST);
        *slash = '/';
        fd = open(path, flags | O_CLOEXEC, 0644);
    }
    return fd;
}

static void keep_time(int fd, const struct file *file)
{
    struct timespec times[2];
    times[0] = times[1] = (struct timespec){file->changed_ns / 1000000000, file->changed_ns % 1000000000};
    FUZZ_CHECK(futimens(fd, times) == 0);
}

void files_lay(const struct files *files, const char *folder)
{
    nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    for (unsigned i = 0; i < files->count; i++) {
        const struct file *file = &files->list[i];
        int fd = open_in(folder, file->name, O_RDWR | O_CREAT | O_TRUNC);
        FUZZ_CHECK(fd >= 0 && write(fd, file->bytes, file->size) == (ssize_t)file->size);
        keep_time(fd, file);
        close(fd);
    }
}

bool files_damage(const struct files *files, const char *folder, const struct damage_place *place)
{
    static const uint8_t zeros[4096];
    const struct file *file = &files->list[place->file];
    uint8_t byte = (uint8_t)(file->bytes[place->at] ^ 1u << (place->bit & 7));
    const uint8_t *data = place->bit < 0 ? zeros : &byte;
    if (memcmp(file->bytes + place->at, data, place->size) == 0)
        return false;
    int fd = open_in(folder, file->name, O_RDWR);
    FUZZ_CHECK(fd >= 0 && pwrite(fd, data, place->size, (off_t)place->at) == (ssize_t)place->size);
    keep_time(fd, file);
    close(fd);
    return true;
}

bool files_healed(const struct files *files, const char *folder, const struct damage_place *place)
{
    uint8_t now[4096];
    const struct file *file = &files->list[place->file];
    int fd = open_in(folder, file->name, O_RDONLY);
    if (fd < 0)
        return false;
    bool same = pread(fd, now, place->size, (off_t)place->at) == (ssize_t)place->size &&
                memcmp(now, file->bytes + place->at, place->size) == 0;
    close(fd);
    return same;
}
