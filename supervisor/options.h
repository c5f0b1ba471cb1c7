/* Command line of `pintle up`, which is the supervisor's own: the pintle program passes it on unchanged. */
#pragma once

#include <stdbool.h>

#include "failure.h"

enum { OPTIONS_SETTINGS_MAX = 64, OPTIONS_PORT_UNSET = -1 };

struct options {
    const char *preset; /* NULL: not given */
    const char *file;   /* cluster file */
    const char *dir;
    int namesrv_port, base_port; /* OPTIONS_PORT_UNSET, or 0 = free ones */
    bool allow_faults;
    bool files_only; /* not what brokers keep of changes at run time */
    int ready_fd; /* write end of a pipe that waits for one line about readiness; −1: foreground */
    const char *settings[OPTIONS_SETTINGS_MAX + 1]; /* "key=value", NULL-terminated */
    unsigned setting_count;
};

int options_parse(struct options *options, int argc, char **argv, struct failure *failure);
