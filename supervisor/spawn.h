/* Starts one worker process as contract.h promises: fd 3 and nothing else, own process group, clean signals. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

struct spawn_request {
    const char *program;     /* path */
    const char *worker;      /* "store broker-a/0": title and environment */
    uint64_t generation;
    const char *runtime_dir;
};

struct spawned {
    pid_t pid;
    int pidfd;
    int channel; /* supervisor's side, non-blocking */
};

int spawn_worker(const struct spawn_request *request, struct spawned *ret_spawned);

/* Where the program is: the folder of the running supervisor first, then libexec. malloc'ed; -ENOENT. */
int spawn_find_program(const char *program, char **ret_path);
