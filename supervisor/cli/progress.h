/* A progress bar on standard error, only when that is a terminal. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct progress {
    bool on;
    uint64_t total; /* 0: not known, only the count and the rate are shown */
    int64_t start_ms, shown_ms;
    const char *what;
};

void progress_begin(struct progress *progress, const char *what, uint64_t total);
void progress_show(struct progress *progress, uint64_t done); /* cheap: draws ten times a second at most */
void progress_end(struct progress *progress, uint64_t done);  /* clears the line */
