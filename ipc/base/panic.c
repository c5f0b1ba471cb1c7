/* Panic: last words to stderr and, where a process has registered one, to a place in shared memory that outlives it;
 * then abort(), so that the supervisor sees a death by own fault. Any process, any thread; nothing here allocates or
 * takes a lock, because the heap or a lock may be what is broken. */
#include "base/panic.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Registered once at start by the only thread there is then; read once, at the end. */
static char *_Atomic last_words_place;
static atomic_size_t last_words_size;

void panic_set_last_words(char *place, size_t size)
{
    /* Taken back first, so that no size is ever used with the other place. */
    atomic_store(&last_words_place, NULL);
    atomic_store(&last_words_size, size);
    if (size > 0)
        atomic_store(&last_words_place, place);
}

static void leave_last_words(const char *text)
{
    static atomic_flag left = ATOMIC_FLAG_INIT;
    char *place = atomic_load(&last_words_place);
    if (!place || atomic_flag_test_and_set(&left)) /* the first panic is the cause, later ones are its echo */
        return;
    size_t room = atomic_load(&last_words_size) - 1;
    size_t size = strlen(text);
    if (size > room)
        size = room;
    memcpy(place, text, size);
    place[size] = '\0';
}

void panic_leave_last_words(const char *text)
{
    leave_last_words(text);
    ssize_t written = write(STDERR_FILENO, text, strlen(text));
    written = write(STDERR_FILENO, "\n", 1);
    (void)written;
}

void pn_panic(const char *file, int line, const char *func, const char *format, ...)
{
    char text[1024];
    const char *base = strrchr(file, '/');
    int used = snprintf(text, sizeof text - 1, "panic at %s:%d %s(): ", base ? base + 1 : file, line, func);
    if (used < 0)
        used = 0;
    size_t size = (size_t)used < sizeof text - 2 ? (size_t)used : sizeof text - 2;
    va_list args;
    va_start(args, format);
    int more = vsnprintf(text + size, sizeof text - 1 - size, format, args);
    va_end(args);
    if (more > 0)
        size += (size_t)more < sizeof text - 2 - size ? (size_t)more : sizeof text - 2 - size;
    text[size] = '\0';
    leave_last_words(text);

    text[size++] = '\n';
    ssize_t written = write(STDERR_FILENO, text, size);
    (void)written;
    abort();
}
