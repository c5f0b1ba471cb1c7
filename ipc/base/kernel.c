/* Asks the kernel what it can do (kernel.h). Any process, before it restricts itself; no state. */
#include "base/kernel.h"

#include <sys/syscall.h>
#include <unistd.h>

int kernel_landlock_level(void)
{
    enum { ASK_LEVEL = 1 }; /* LANDLOCK_CREATE_RULESET_VERSION */
    long level = syscall(SYS_landlock_create_ruleset, NULL, 0, ASK_LEVEL);
    return level > 0 ? (int)level : 0;
}
