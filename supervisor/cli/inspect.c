/* `pintle fsck` and `pintle log`: another program's work, which knows the files of a store. Runs in the pintle program.
 */
#include <stdlib.h>

#include "base/cleanup.h"
#include "contract.h"
#include "supervisor/cli/commands.h"

int command_inspect(int argc, char **argv)
{
    PN_FREE char **arguments = calloc((size_t)argc + 2, sizeof *arguments);
    if (!arguments)
        return EXIT_CODE_IO;
    for (int i = 0; i < argc; i++)
        arguments[i + 1] = argv[i];
    command_become("pintle-inspect", arguments);
    return EXIT_CODE_IO;
}
