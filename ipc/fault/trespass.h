/* What a fault point tries where a test wants to see that the sandbox holds (worker/sandbox.h). Either the process dies of
 * it, or one line tells how it ended. */
#pragma once

enum trespass {
#define TRESPASSES(X)                                                                                                  \
    X(TCP, "try-tcp")       /* make a TCP socket */                                                                    \
    X(WRITE, "try-write")   /* open the file `trespass` of the runtime folder for writing; a test puts a link there */ \
    X(READ, "try-read")     /* the same for reading */                                                                 \
    X(EXEC, "try-exec")     /* become another program */                                                               \
    X(FORK, "try-fork")     /* make a process */                                                                       \
    X(SIGNAL, "try-signal") /* ask whether the supervisor could be signalled */                                        \
    X(NEW, "try-unknown")   /* a system call that no room needs */
#define X(id, name) TRESPASS_##id,
    TRESPASSES(X)
#undef X
        TRESPASS_COUNT
};

extern const char *const trespass_names[TRESPASS_COUNT];
void trespass(enum trespass what);
