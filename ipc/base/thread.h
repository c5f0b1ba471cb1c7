/* Helper threads. Signals are the main loop's business, and a helper must not be where one is delivered: only those that a
 * fault of its own raises reach it. */
#pragma once

#include <pthread.h>

/* 0 or negative errno. */
int thread_start(pthread_t *ret_thread, void *(*run)(void *context), void *context);
