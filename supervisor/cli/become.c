/* Finds another program of ours and becomes it. Runs in the pintle program, for commands that are not its own. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "supervisor/cli/commands.h"

/* Beside this program, as in a build folder; where an installation has them, from here or as it was configured. */
static char *find_program(const char *name)
{
    char self[4096];
    char *path = NULL;
    ssize_t size = readlink("/proc/self/exe", self, sizeof self - 1);
    self[size > 0 ? size : 0] = 0;
    char *slash = strrchr(self, '/');
    if (slash) {
        static const char *const places[] = {"", PINTLE_LIBEXEC_FROM_BIN "/"};
        *slash = 0;
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
            if (asprintf(&path, "%s/%s%s", self, places[i], name) < 0)
                return NULL;
            if (access(path, X_OK) == 0)
                return path;
            free(path);
        }
    }
    return asprintf(&path, PINTLE_LIBEXEC "/%s", name) < 0 ? NULL : path;
}

void command_become(const char *program, char **arguments)
{
    PN_FREE char *path = find_program(program);
    if (!path)
        return;
    arguments[0] = (char *)program;
    execv(path, arguments);
    fprintf(stderr, "pintle: %s: %s\n", path, strerror(errno));
}
