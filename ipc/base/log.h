/* Log lines of programs (library code never logs). To stderr: with a `<N>` priority prefix when stderr is the journal
 * (JOURNAL_STREAM is set), else with time, program and level. Any thread; a line is one write. */
#pragma once

#include <stdlib.h>

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR, LOG_LEVEL_FATAL };

/* `ident` (kept by reference) names the process in each line, for example "store broker-a/0". */
void log_init(const char *ident, enum log_level least);
void log_set_level(enum log_level least);
void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_debug(...)   log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(...)    log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__) /* went on */
#define log_error(...)   log_write(LOG_LEVEL_ERROR, __VA_ARGS__)   /* this request failed */

/* The environment is unusable: one clear line, then exit(code). See enum exit_code in contract.h. */
#define log_fatal(code, ...)                                                                                           \
    do {                                                                                                               \
        log_write(LOG_LEVEL_FATAL, __VA_ARGS__);                                                                       \
        exit(code);                                                                                                    \
    } while (0)
