/* What to do when we are inconsistent ourselves: say last words and abort. Assertions are on in release builds: a broken
 * invariant in the store must stop it before it writes, and the supervisor restarts it from state that is good.
 * A process may register a place (its board page) where the last words survive it. Any thread. */
#pragma once

#include <stddef.h>

/* Last words are copied to `place` (NUL-terminated, cut to `size`) before abort(). NULL takes it back. */
void panic_set_last_words(char *place, size_t size);

/* For who dies in another way: text to stderr and to the place. Safe in a signal handler. */
void panic_leave_last_words(const char *text);

void pn_panic(const char *file, int line, const char *func, const char *format, ...)
    __attribute__((noreturn, cold, format(printf, 4, 5)));

#define pn_assert(e)                                                                                                   \
    do {                                                                                                               \
        if (__builtin_expect(!(e), 0))                                                                                 \
            pn_panic(__FILE__, __LINE__, __func__, "assertion failed: %s", #e);                                        \
    } while (0)

#define PANIC(...) pn_panic(__FILE__, __LINE__, __func__, __VA_ARGS__)
