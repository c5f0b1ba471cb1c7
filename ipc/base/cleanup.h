/* Scope clean-up and ownership transfer. Owners declare the clean-up where the variable is born; giving ownership away
 * is an explicit TAKE_* that leaves the empty value behind. Any process, any thread. */
#pragma once

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define PN_CLEANUP(f) __attribute__((cleanup(f)))

static inline void pn_free_p(void *p)
{
    free(*(void **)p);
}

static inline void pn_close_p(int *fd)
{
    if (*fd >= 0) {
        int saved = errno;
        close(*fd);
        errno = saved;
    }
}

#define PN_FREE  PN_CLEANUP(pn_free_p)
#define PN_CLOSE PN_CLEANUP(pn_close_p)

#define TAKE_PTR(p)                                                                                                    \
    ({                                                                                                                 \
        __typeof__(p) *pp_ = &(p);                                                                                     \
        __typeof__(p) v_ = *pp_;                                                                                       \
        *pp_ = NULL;                                                                                                   \
        v_;                                                                                                            \
    })

#define TAKE_FD(fd)                                                                                                    \
    ({                                                                                                                 \
        int *fdp_ = &(fd);                                                                                             \
        int fdv_ = *fdp_;                                                                                              \
        *fdp_ = -1;                                                                                                    \
        fdv_;                                                                                                          \
    })
