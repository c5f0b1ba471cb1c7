/* `pintle config`: shows and checks configuration. The supervisor alone knows how to read it, so it does the work, in a
 * process that starts nothing. Runs in the pintle program. */
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "contract.h"
#include "supervisor/cli/commands.h"

int command_config(int argc, char **argv)
{
    PN_FREE char **arguments = calloc((size_t)argc + 2, sizeof *arguments);
    if (!arguments)
        return EXIT_CODE_IO;
    for (int i = 0; i < argc; i++)
        arguments[i + 1] = argv[i];
    command_become("pintle-supervisor", arguments);
    return EXIT_CODE_IO;
}
