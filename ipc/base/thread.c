/* See thread.h. Any process; nothing is fatal here. */
#include "thread.h"

#include <signal.h>

int thread_start(pthread_t *ret_thread, void *(*run)(void *context), void *context)
{
    sigset_t others, before;
    sigfillset(&others);
    sigdelset(&others, SIGSEGV);
    sigdelset(&others, SIGBUS);
    sigdelset(&others, SIGILL);
    sigdelset(&others, SIGFPE);
    sigdelset(&others, SIGABRT);
    sigdelset(&others, SIGSYS);
    pthread_sigmask(SIG_SETMASK, &others, &before);
    int r = -pthread_create(ret_thread, NULL, run, context);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return r;
}
