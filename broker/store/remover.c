/* The remover's thread: see remover.h. Store process; started by the first job. It knows nothing of topics or queues: a
 * folder under STORE/removed is nobody's any more, and files to trim are ones that the deciding thread will never open
 * again. A file that does not go is logged and left. */
#include "remover.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "file_layer.h"

enum {
    DEPTH_MAX = 4, /* removed / topic / queue / file */
    PIECE = 32 << 20,
    PIECE_PAUSE_NS = 5000000,
};
#define WHOLE_SUFFIX "-whole"

struct trim {
    struct trim *next;
    int64_t pos;
    char folder[];
};

struct remover {
    char *folder;
    unsigned taken;
    pthread_t thread;
    bool thread_runs;
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t wake;
    struct trim *trims;
    bool look, stop, working;
};

static bool stopped(struct remover *remover)
{
    pthread_mutex_lock(&remover->mutex);
    bool stop = remover->stop;
    pthread_mutex_unlock(&remover->mutex);
    return stop;
}

/* Shortened by a piece at a time, as long as it is long. What fails here the unlink will tell. */
static void shorten(struct remover *remover, const char *path)
{
    struct stat st;
    size_t length = strlen(path), suffix = strlen(WHOLE_SUFFIX);
    if (length > suffix && strcmp(path + length - suffix, WHOLE_SUFFIX) == 0)
        return;
    if (lstat(path, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size <= PIECE)
        return;
    PN_CLOSE int fd = file_layer_open(path, O_WRONLY | O_NOFOLLOW, 0);
    const struct timespec pause = {.tv_nsec = PIECE_PAUSE_NS};
    for (int64_t size = st.st_size - PIECE; fd >= 0 && size > 0 && !stopped(remover); size -= PIECE) {
        if (file_layer_ftruncate(fd, size) < 0)
            return;
        nanosleep(&pause, NULL);
    }
}

static void remove_inside(struct remover *remover, const char *folder, unsigned depth)
{
    DIR *dir = opendir(folder);
    struct dirent *entry;
    while (dir && (entry = readdir(dir)) && !stopped(remover)) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        PN_FREE char *path = NULL;
        if (asprintf(&path, "%s/%s", folder, entry->d_name) < 0)
            break;
        shorten(remover, path);
        if (stopped(remover))
            break;
        int r = file_layer_unlink(path);
        if ((r == -EISDIR || r == -EPERM) && depth < DEPTH_MAX) {
            remove_inside(remover, path, depth + 1);
            if (stopped(remover))
                break;
            r = file_layer_rmdir(path);
        }
        if (r < 0 && r != -ENOENT)
            log_warning("cannot remove %s: %s", path, strerror(-r));
    }
    if (dir)
        closedir(dir);
}

static void trim_folder(struct remover *remover, const struct trim *trim)
{
    DIR *dir = opendir(trim->folder);
    struct dirent *entry;
    while (dir && (entry = readdir(dir)) && !stopped(remover)) {
        char *end;
        int64_t pos = strtoll(entry->d_name, &end, 10);
        if (*end || end == entry->d_name || pos < 0 || pos >= trim->pos)
            continue;
        PN_FREE char *path = NULL;
        if (asprintf(&path, "%s/%s", trim->folder, entry->d_name) < 0)
            break;
        int r = file_layer_unlink(path);
        if (r < 0)
            log_warning("cannot remove %s: %s", path, strerror(-r));
    }
    if (dir)
        closedir(dir);
}

static void *run(void *argument)
{
    struct remover *remover = argument;
    pthread_setname_np(pthread_self(), "remover");
    pthread_mutex_lock(&remover->mutex);
    while (!remover->stop) {
        struct trim *trim = remover->trims;
        if (trim)
            remover->trims = trim->next;
        bool look = !trim && remover->look;
        if (!trim && !look) {
            pthread_cond_wait(&remover->wake, &remover->mutex);
            continue;
        }
        if (look)
            remover->look = false;
        remover->working = true;
        pthread_mutex_unlock(&remover->mutex);
        if (trim)
            trim_folder(remover, trim);
        else
            remove_inside(remover, remover->folder, 1);
        free(trim);
        pthread_mutex_lock(&remover->mutex);
        remover->working = false;
    }
    pthread_mutex_unlock(&remover->mutex);
    return NULL;
}

static int start(struct remover *remover)
{
    if (remover->thread_runs)
        return 0;
    int r = thread_start(&remover->thread, run, remover);
    remover->thread_runs = r == 0;
    return r;
}

static void look(struct remover *remover)
{
    pthread_mutex_lock(&remover->mutex);
    remover->look = true;
    pthread_cond_signal(&remover->wake);
    pthread_mutex_unlock(&remover->mutex);
}

int remover_new(const char *store_root, struct remover **ret_remover)
{
    struct remover *remover = calloc(1, sizeof *remover);
    if (!remover || asprintf(&remover->folder, "%s/removed", store_root) < 0) {
        free(remover);
        return -ENOMEM;
    }
    pthread_mutex_init(&remover->mutex, NULL);
    pthread_cond_init(&remover->wake, NULL);
    /* Made now: a disk that is too full, which is when it is wanted, may have no room for it. */
    bool there = access(remover->folder, F_OK) == 0;
    if (!there && access(store_root, F_OK) == 0)
        file_layer_mkdir(remover->folder);
    if (there) {
        int r = start(remover);
        if (r < 0) {
            remover_free(remover);
            return r;
        }
        look(remover);
    }
    *ret_remover = remover;
    return 0;
}

void remover_free(struct remover *remover)
{
    if (!remover)
        return;
    pthread_mutex_lock(&remover->mutex);
    remover->stop = true;
    pthread_cond_signal(&remover->wake);
    pthread_mutex_unlock(&remover->mutex);
    if (remover->thread_runs)
        pthread_join(remover->thread, NULL);
    while (remover->trims) {
        struct trim *next = remover->trims->next;
        free(remover->trims);
        remover->trims = next;
    }
    pthread_cond_destroy(&remover->wake);
    pthread_mutex_destroy(&remover->mutex);
    free(remover->folder);
    free(remover);
}

bool remover_busy(struct remover *remover)
{
    pthread_mutex_lock(&remover->mutex);
    bool busy = remover->working || remover->look || remover->trims;
    pthread_mutex_unlock(&remover->mutex);
    return busy;
}

static int take(struct remover *remover, const char *path, const char *suffix)
{
    if (access(path, F_OK) < 0)
        return errno == ENOENT ? 0 : -errno;
    int r = file_layer_mkdir(remover->folder);
    /* The time, so that a successor's names are others; clocks are set back, though, and a name may be taken. */
    bool moved = false;
    for (unsigned tries = 0; r == 0 && !moved && tries < 1000; tries++) {
        PN_FREE char *to = NULL;
        if (asprintf(&to, "%s/%" PRId64 "-%u%s", remover->folder, clock_realtime_ms(), ++remover->taken, suffix) < 0)
            return -ENOMEM;
        if (access(to, F_OK) == 0)
            continue;
        r = file_layer_rename(path, to);
        moved = r == 0;
    }
    if (r == 0 && !moved)
        return -EEXIST;
    if (r == -EXDEV) /* a disk of its own is mounted on just this folder */
        return file_layer_unlink(path);
    if (r == 0)
        r = start(remover);
    if (r == 0)
        look(remover);
    return r;
}

int remover_take(struct remover *remover, const char *path)
{
    return take(remover, path, "");
}

int remover_take_whole(struct remover *remover, const char *path)
{
    return take(remover, path, WHOLE_SUFFIX);
}

int remover_trim(struct remover *remover, const char *folder, int64_t pos)
{
    size_t size = strlen(folder) + 1;
    struct trim *trim = malloc(sizeof *trim + size);
    if (!trim)
        return -ENOMEM;
    trim->pos = pos;
    memcpy(trim->folder, folder, size);
    int r = start(remover);
    if (r < 0) {
        free(trim);
        return r;
    }
    pthread_mutex_lock(&remover->mutex);
    trim->next = remover->trims;
    remover->trims = trim;
    pthread_cond_signal(&remover->wake);
    pthread_mutex_unlock(&remover->mutex);
    return 0;
}
