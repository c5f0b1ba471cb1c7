/* See progress.h. Runs in the `pintle` program. */
#include "supervisor/cli/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

enum { WIDTH = 30, EVERY_MS = 100 };

void progress_begin(struct progress *progress, const char *what, uint64_t total)
{
    int64_t now_ms = clock_monotonic_ms();
    *progress = (struct progress){isatty(STDERR_FILENO) != 0, total, now_ms, now_ms, what};
}

static void draw(struct progress *progress, uint64_t done, int64_t now_ms)
{
    int64_t took_ms = now_ms - progress->start_ms;
    uint64_t rate = took_ms > 0 ? done * 1000 / (uint64_t)took_ms : 0;
    if (progress->total == 0) {
        fprintf(stderr, "\r%s %" PRIu64 "  %" PRIu64 "/s\033[K", progress->what, done, rate);
        return;
    }
    uint64_t shown = done < progress->total ? done : progress->total;
    int full = (int)(shown * WIDTH / progress->total);
    char bar[WIDTH + 1];
    memset(bar, '#', (size_t)full);
    memset(bar + full, '.', (size_t)(WIDTH - full));
    bar[WIDTH] = '\0';
    fprintf(stderr, "\r%s [%s] %3" PRIu64 " %%  %" PRIu64 "/s\033[K", progress->what, bar, shown * 100 / progress->total,
            rate);
}

void progress_show(struct progress *progress, uint64_t done)
{
    if (!progress->on)
        return;
    int64_t now_ms = clock_monotonic_ms();
    if (now_ms - progress->shown_ms < EVERY_MS)
        return;
    progress->shown_ms = now_ms;
    draw(progress, done, now_ms);
}

void progress_end(struct progress *progress, uint64_t done)
{
    if (progress->on)
        fprintf(stderr, "\r\033[K");
}
