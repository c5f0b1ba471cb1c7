/* Where a command that acts as a client finds its name servers. Runs in the pintle program. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "contract.h"
#include "supervisor/cli/commands.h"
#include "supervisor/cli/control_client.h"

static char *copy(const char *text)
{
    char *result = strdup(text);
    if (!result)
        abort();
    return result;
}

char *command_namesrvs(const char *given, const char *dir)
{
    const char *variable = getenv("NAMESRV_ADDR");
    struct control_client client;
    json_t *answer;
    if (given)
        return copy(given);
    if (!dir && variable && *variable)
        return copy(variable);
    int r = control_client_run("client", dir, json_pack("{s:s}", "command", "status"), &client, &answer);
    if (r != 0) {
        fputs("Give --namesrv HOST:PORT, set NAMESRV_ADDR, or give the --dir DIR of a running cluster.\n", stderr);
        exit(r);
    }
    const char *namesrvs = json_string_value(json_object_get(answer, "namesrv"));
    char *result = copy(namesrvs ? namesrvs : "");
    json_decref(answer);
    control_client_close(&client);
    return result;
}
