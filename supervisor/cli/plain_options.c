/* The options of commands that only ask a running cluster: --dir, --help and, where it is theirs, --json. Runs in the
 * pintle program. */
#include "supervisor/cli/plain_options.h"

#include <getopt.h>
#include <stdio.h>

#include "contract.h"

bool plain_options(int argc, char **argv, const char *usage, const char **ret_dir, bool *ret_as_json, int *ret_exit_code)
{
    static const struct option options[] = {{"dir", required_argument, NULL, 'd'},
                                            {"help", no_argument, NULL, 'h'},
                                            {"json", no_argument, NULL, 'j'},
                                            {NULL, 0, NULL, 0}};
    static const struct option without_json[] = {
        {"dir", required_argument, NULL, 'd'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    *ret_dir = NULL;
    *ret_exit_code = EXIT_CODE_USAGE;
    for (int option; (option = getopt_long(argc, argv, "", ret_as_json ? options : without_json, NULL)) >= 0;)
        switch (option) {
        case 'd':
            *ret_dir = optarg;
            break;
        case 'j':
            *ret_as_json = true;
            break;
        case 'h':
            fputs(usage, stdout);
            *ret_exit_code = EXIT_CODE_OK;
            return false;
        default:
            fputs(usage, stderr);
            return false;
        }
    if (optind == argc)
        return true;
    fputs(usage, stderr);
    return false;
}
