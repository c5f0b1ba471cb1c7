/* What `pintle down`, `reload` and `status` have in common on their command lines. */
#pragma once

#include <stdbool.h>

/* False: the command ends with *ret_exit_code, the usage is printed. `ret_as_json` (false so far) NULL: no --json. */
bool plain_options(int argc, char **argv, const char *usage, const char **ret_dir, bool *ret_as_json, int *ret_exit_code);
