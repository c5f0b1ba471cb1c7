/* Helper threads: whatever may wait for a disk runs here. A job is handed over whole, run on a helper thread, and
 * handed back to the loop's thread, which alone touches the front. Jobs of one front start in order and may end out of
 * order. */
#pragma once

#include "front.h"

struct helper_job {
    void (*run)(struct helper_job *job);                       /* helper thread */
    void (*done)(struct helper_job *job, struct front *front); /* loop's thread; frees the job */
    struct helper_job *next;
};

int helper_new(struct helper **ret_helper);
/* Waits for running jobs; jobs not run or not collected are given to `done` by helper_collect first. */
void helper_free(struct helper *helper);
void helper_submit(struct helper *helper, struct helper_job *job);
int helper_event_fd(const struct helper *helper); /* readable (edge) when jobs are done */
void helper_collect(struct helper *helper, struct front *front);
unsigned helper_outstanding(const struct helper *helper);
