/* `pintle reload`: the supervisor reads its files again and says what that changed. Runs in the pintle program. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "contract.h"
#include "supervisor/cli/commands.h"
#include "supervisor/cli/control_client.h"
#include "supervisor/cli/plain_options.h"

static const char usage[] =
    "usage: pintle reload [--dir DIR] [--json]\n"
    "Takes changes of the cluster file and of the brokers' files. Says of each changed key whether it is in force now or\n"
    "waits for a restart. A file that cannot be used is refused whole (78) and everything stays as it was.\n"
    "  --dir DIR   folder of the cluster, or @NAME: that of pintle@NAME.service (default: pintle.service)\n"
    "  --json      for programs\n";

static const char *text_of(const json_t *change, const char *key)
{
    const char *text = json_string_value(json_object_get(change, key));
    return text ? text : "not given";
}

static const char *meaning(const char *state)
{
    static const struct {
        const char *state, *text;
    } texts[] = {{"applied", "in force"},
                 {"restart", "needs a restart of the cluster"},
                 {"run-time", "a change at run time wins"},
                 {"unused", "not used here"}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (strcmp(texts[i].state, state) == 0)
            return texts[i].text;
    return state;
}

static void print_changes(const json_t *changes)
{
    if (json_array_size(changes) == 0)
        puts("nothing has changed");
    for (size_t i = 0; i < json_array_size(changes); i++) {
        const json_t *change = json_array_get(changes, i);
        printf("%s: %s = %s (was %s): %s\n", text_of(change, "where"), text_of(change, "key"), text_of(change, "to"),
               text_of(change, "from"), meaning(text_of(change, "state")));
    }
}

static int run(const char *dir, bool as_json)
{
    struct control_client client;
    json_t *answer;
    int r = control_client_run("reload", dir, json_pack("{s:s}", "command", "reload"), &client, &answer);
    if (r != 0)
        return r;
    if (as_json) {
        PN_FREE char *text = json_dumps(answer, JSON_INDENT(2));
        puts(text ? text : "");
    } else {
        print_changes(json_object_get(answer, "changes"));
    }
    json_decref(answer);
    control_client_close(&client);
    return EXIT_CODE_OK;
}

int command_reload(int argc, char **argv)
{
    const char *dir;
    bool as_json = false;
    int exit_code;
    return plain_options(argc, argv, usage, &dir, &as_json, &exit_code) ? run(dir, as_json) : exit_code;
}
