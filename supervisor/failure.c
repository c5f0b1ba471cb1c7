/* One line and an exit code, carried up from where a start went wrong. Runs in the supervisor; nothing here is fatal. */
#include "failure.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

int failure_set(struct failure *failure, int exit_code, const char *format, ...)
{
    if (failure->exit_code != 0)
        return -EINVAL;
    failure->exit_code = exit_code;
    va_list args;
    va_start(args, format);
    vsnprintf(failure->text, sizeof failure->text, format, args);
    va_end(args);
    return -EINVAL;
}
