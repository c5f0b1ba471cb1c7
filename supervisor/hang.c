/* Hang detection. A ready worker is hung when it runs without progress for 5 s or for 500 ms of its own (main thread's)
 * CPU time, or is stopped (state T) for 5 s; while it is in a call that waits for a disk, not before 30 s. A hung worker
 * is killed, which counts as its own fault. Runs in the supervisor. A worker whose /proc cannot be read is let alone.
 *
 * Times are summed up from check to check, each step at most two seconds: when the supervisor itself (or the whole machine)
 * was stopped for a while, nobody is found hung for that. */
#include "hang.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "notify.h"
#include "supervisor.h"

enum {
    CHECK_MS = 1000,
    STEP_MOST_MS = 2000,
    HANG_WALL_MS = 5000,
    HANG_CPU_MS = 500,
    HANG_STOPPED_MS = 5000,
    HANG_IO_MS = 30000,
};

struct hang {
    struct supervisor *supervisor;
    sd_event_source *timer;
    int64_t last_ms;
};

struct process_look {
    char state;
    uint64_t cpu_ms; /* of the main thread, whose loop should make progress */
};

static int look_at(pid_t pid, struct process_look *ret_look)
{
    char path[64], text[1024];
    unsigned long user, system;
    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", (int)pid, (int)pid);
    PN_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t size = read(fd, text, sizeof text - 1);
    if (size <= 0)
        return -EIO;
    text[size] = 0;
    /* The name in parentheses may hold anything; what follows its end is fixed (proc(5)). */
    const char *rest = strrchr(text, ')');
    if (!rest || sscanf(rest, ") %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &ret_look->state, &user,
                        &system) != 3)
        return -EBADMSG;
    ret_look->cpu_ms = (user + system) * 1000 / (unsigned long)sysconf(_SC_CLK_TCK);
    return 0;
}

void hang_reset(struct worker *worker)
{
    worker->seen_progress = UINT64_MAX;
    worker->stalled_ms = worker->stopped_ms = 0;
    worker->said_in_io = false;
}

static void kill_hung(struct worker *worker, const char *why)
{
    log_error("%s (pid %d) hangs: %s", worker->name, (int)worker->pid, why);
    worker_kill(worker, true);
}

static void judge(struct worker *worker, enum board_state state, const struct process_look *look, int64_t step_ms)
{
    worker->stopped_ms = look->state == 'T' ? worker->stopped_ms + step_ms : 0;
    worker->stalled_ms = state == BOARD_RUNNING || state == BOARD_IN_IO ? worker->stalled_ms + step_ms : 0;
    if (worker->stopped_ms >= HANG_STOPPED_MS)
        kill_hung(worker, "stopped");
    else if (look->state == 'T')
        return;
    else if (state == BOARD_RUNNING && worker->stalled_ms >= HANG_WALL_MS)
        kill_hung(worker, "no progress for 5 s");
    else if (state == BOARD_RUNNING && look->cpu_ms >= worker->cpu_ms_at_progress + HANG_CPU_MS)
        kill_hung(worker, "no progress in 500 ms of CPU time");
    else if (state == BOARD_IN_IO && worker->stalled_ms >= HANG_IO_MS)
        kill_hung(worker, "in one I/O call for 30 s");
    else if (state == BOARD_IN_IO && worker->stalled_ms >= HANG_WALL_MS && !worker->said_in_io) {
        worker->said_in_io = true;
        log_warning("%s waits for a disk", worker->name);
        notify_status(worker->supervisor);
    }
}

static void check(struct worker *worker, int64_t step_ms)
{
    uint64_t progress = atomic_load_explicit(&worker->board->progress, memory_order_relaxed);
    uint32_t state = atomic_load_explicit(&worker->board->state, memory_order_relaxed);
    struct process_look look;
    bool moved = progress != worker->seen_progress;
    if (worker->state == CHILD_STARTING && moved) { /* recovery counts what it has looked at */
        worker->seen_progress = progress;
        if (worker->supervisor->phase == PHASE_STARTING)
            notify_progress();
    }
    if (worker->state != CHILD_READY)
        return;
    if (moved) {
        bool was_in_io = worker->said_in_io;
        hang_reset(worker);
        worker->seen_progress = progress;
        if (was_in_io)
            notify_status(worker->supervisor);
    }
    if (look_at(worker->pid, &look) < 0)
        return;
    if (moved)
        worker->cpu_ms_at_progress = look.cpu_ms;
    else
        judge(worker, state, &look, step_ms);
}

static int on_check(sd_event_source *source, uint64_t usec, void *context)
{
    struct hang *hang = context;
    int64_t now_ms = clock_monotonic_ms(), step_ms = now_ms - hang->last_ms;
    hang->last_ms = now_ms;
    for (unsigned i = 0; i < hang->supervisor->worker_count; i++)
        check(hang->supervisor->workers[i], step_ms < STEP_MOST_MS ? step_ms : STEP_MOST_MS);
    sd_event_source_set_time_relative(source, CHECK_MS * 1000);
    return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

int hang_create(struct supervisor *supervisor, struct hang **ret_hang)
{
    struct hang *hang = calloc(1, sizeof *hang);
    if (!hang)
        return -ENOMEM;
    hang->supervisor = supervisor;
    hang->last_ms = clock_monotonic_ms();
    int r = sd_event_add_time_relative(supervisor->event, &hang->timer, CLOCK_MONOTONIC, CHECK_MS * 1000, 100 * 1000,
                                       on_check, hang);
    if (r < 0) {
        free(hang);
        return r;
    }
    *ret_hang = hang;
    return 0;
}

void hang_free(struct hang *hang)
{
    if (!hang)
        return;
    sd_event_source_disable_unref(hang->timer);
    free(hang);
}
