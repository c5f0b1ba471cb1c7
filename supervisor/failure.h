/* Why something could not start: the exit code that the program ends with and the one line that it prints. Supervisor
 * only. A function that fills it returns a negative errno; nothing of what it began is left over. */
#pragma once

struct failure {
    int exit_code; /* enum exit_code of contract.h */
    char text[512];
};

/* Returns -EINVAL, so that callers can write `return failure_set(…)`. The first failure stays: it is the cause. */
int failure_set(struct failure *failure, int exit_code, const char *format, ...) __attribute__((format(printf, 3, 4)));
