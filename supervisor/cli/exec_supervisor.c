/* Finds the supervisor's program and becomes it. Runs in the pintle program, for commands that are the supervisor's own. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "supervisor/cli/commands.h"

/* Beside this program, as in a build folder, or in libexec, as installed. */
static char *find_supervisor(void)
{
    char self[4096];
    char *path = NULL;
    ssize_t size = readlink("/proc/self/exe", self, sizeof self - 1);
    self[size > 0 ? size : 0] = 0;
    char *slash = strrchr(self, '/');
    if (slash) {
        *slash = 0;
        if (asprintf(&path, "%s/pintle-supervisor", self) < 0)
            return NULL;
        if (access(path, X_OK) == 0)
            return path;
        free(path);
    }
    return strdup(PINTLE_LIBEXEC "/pintle-supervisor");
}

void command_become_supervisor(char **arguments)
{
    PN_FREE char *path = find_supervisor();
    if (!path)
        return;
    arguments[0] = (char *)"pintle-supervisor";
    execv(path, arguments);
    fprintf(stderr, "pintle: %s: %s\n", path, strerror(errno));
}
