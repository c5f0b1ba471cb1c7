/* `pintle status`: a table for people, or the supervisor's own JSON. Runs in the pintle program. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "contract.h"
#include "supervisor/cli/commands.h"
#include "supervisor/cli/control_client.h"
#include "supervisor/cli/plain_options.h"

static const char usage[] =
    "usage: pintle status [--dir DIR] [--json]\n"
    "Shows the cluster's processes.\n"
    "  --dir DIR   folder of the cluster, or @NAME: that of pintle@NAME.service (default: pintle.service)\n"
    "  --json      for programs\n";

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static void print_worker(const json_t *worker)
{
    const json_t *ports = json_object_get(worker, "ports");
    char name[160];
    snprintf(name, sizeof name, "%s %s/%" JSON_INTEGER_FORMAT, text_of(worker, "role"), text_of(worker, "broker"),
             json_integer_value(json_object_get(worker, "index")));
    printf("%-28s %8" JSON_INTEGER_FORMAT "  %-9s %8" JSON_INTEGER_FORMAT "  ", name,
           json_integer_value(json_object_get(worker, "pid")), text_of(worker, "state"),
           json_integer_value(json_object_get(worker, "restarts")));
    for (size_t i = 0; i < json_array_size(ports); i++)
        printf("%s%" JSON_INTEGER_FORMAT, i ? "," : "", json_integer_value(json_array_get(ports, i)));
    printf("%s%s\n", *text_of(worker, "status") ? "  " : "", text_of(worker, "status"));
}

static void print_table(const json_t *status)
{
    const json_t *supervisor = json_object_get(status, "supervisor"), *workers = json_object_get(status, "workers");
    printf("%-28s %8s  %-9s %8s  %s\n", "WORKER", "PID", "STATE", "RESTARTS", "PORTS");
    printf("%-28s %8" JSON_INTEGER_FORMAT "  %-9s\n", "supervisor",
           json_integer_value(json_object_get(supervisor, "pid")), text_of(supervisor, "state"));
    for (size_t i = 0; i < json_array_size(workers); i++)
        print_worker(json_array_get(workers, i));
    printf("cluster %s, name servers %s\n", text_of(status, "cluster"), text_of(status, "namesrv"));
}

static int show(const char *dir, bool as_json)
{
    struct control_client client;
    json_t *status;
    int r = control_client_run("status", dir, json_pack("{s:s}", "command", "status"), &client, &status);
    if (r != 0)
        return r;
    if (as_json) {
        PN_FREE char *text = json_dumps(status, JSON_INDENT(2));
        puts(text ? text : "");
    } else {
        print_table(status);
    }
    json_decref(status);
    control_client_close(&client);
    return EXIT_CODE_OK;
}

int command_status(int argc, char **argv)
{
    const char *dir;
    bool as_json = false;
    int exit_code;
    return plain_options(argc, argv, usage, &dir, &as_json, &exit_code) ? show(dir, as_json) : exit_code;
}
