/* Log lines to stderr, one write each, so that lines of several threads and processes never mix. Text may hold foreign
 * bytes (a topic name, a path): control characters become '?', so nobody can forge a line. A line that is too long is
 * cut. Any process, any thread; a failed write is ignored, because there is nobody left to tell. */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { LOG_LINE_MAX = 4096 };

static const char *log_ident = "pintle";
static atomic_int log_least = LOG_LEVEL_INFO;
static bool log_to_journal;

static const struct {
    const char *name;
    int priority; /* syslog's, which the journal reads from a `<N>` prefix */
} log_levels[] = {
    [LOG_LEVEL_DEBUG] = {"debug", 7}, [LOG_LEVEL_INFO] = {"info", 6},   [LOG_LEVEL_WARNING] = {"warning", 4},
    [LOG_LEVEL_ERROR] = {"error", 3}, [LOG_LEVEL_FATAL] = {"fatal", 2},
};

/* JOURNAL_STREAM is inherited by everybody's children; only if it names the very file behind stderr are we read by the
 * journal (systemd.exec(5)). */
static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;
    return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
           st.st_dev == device && st.st_ino == inode;
}

void log_init(const char *ident, enum log_level least)
{
    log_ident = ident;
    atomic_store(&log_least, (int)least);
    log_to_journal = stderr_is_journal();
}

void log_set_level(enum log_level least)
{
    atomic_store(&log_least, (int)least);
}

static size_t log_prefix(char *line, size_t size, enum log_level level)
{
    int n;
    if (log_to_journal) {
        n = snprintf(line, size, "<%d>%s: ", log_levels[level].priority, log_ident);
    } else {
        struct timespec now;
        struct tm parts;
        char time_text[32] = "";
        clock_gettime(CLOCK_REALTIME, &now);
        if (localtime_r(&now.tv_sec, &parts))
            strftime(time_text, sizeof time_text, "%Y-%m-%d %H:%M:%S", &parts);
        n = snprintf(line, size, "%s.%03ld %s %s: ", time_text, now.tv_nsec / 1000000, log_ident,
                     log_levels[level].name);
    }
    return n < 0 ? 0 : (size_t)n < size ? (size_t)n : size - 1;
}

void log_write(enum log_level level, const char *format, ...)
{
    if ((int)level < atomic_load_explicit(&log_least, memory_order_relaxed))
        return;
    int saved_errno = errno;
    char line[LOG_LINE_MAX];
    size_t start = log_prefix(line, 512, level);
    va_list args;
    va_start(args, format);
    errno = saved_errno; /* for %m */
    int n = vsnprintf(line + start, sizeof line - start - 1, format, args);
    va_end(args);
    size_t size = start;
    if (n > 0 && (size_t)n < sizeof line - start - 1) {
        size += (size_t)n;
    } else if (n > 0) {
        size = sizeof line - 2;
        memcpy(line + size - 3, "...", 3);
    }
    for (size_t i = start; i < size; i++)
        if ((uint8_t)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    line[size++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, size);
    (void)written;
    errno = saved_errno;
}
