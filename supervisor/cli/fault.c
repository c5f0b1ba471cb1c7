/* `pintle fault`: lists fault points; arms and disarms them through the supervisor, which refuses unless the cluster was
 * started for it. Runs in the pintle program. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "contract.h"
#include "fault/fault.h"
#include "supervisor/cli/commands.h"
#include "supervisor/cli/control_client.h"

static const char usage[] =
    "usage: pintle fault list\n"
    "       pintle fault arm POINT [--target ROLE/NAME] [--action ACTION] [--skip N] [--argument N] [--dir DIR]\n"
    "       pintle fault disarm POINT [--dir DIR]\n"
    "Makes a worker die or stall at a named point. Only in a cluster started with --allow-faults.\n"
    "  --target ROLE/NAME  which worker, as store/broker-a or front/broker-a/1 (default: whoever comes there first)\n"
    "  --action ACTION     kill (default), abort, stall, match (the point's own condition decides, then abort)\n"
    "                      or try-tcp, try-write, try-read, try-exec, try-fork, try-signal, try-unknown: what its\n"
    "                      sandbox must forbid; the worker dies of it or says how it ended\n"
    "  --skip N            pass the point N times first\n"
    "  --argument N        stall: for N milliseconds\n"
    "  --dir DIR           folder of the cluster, or @NAME: that of pintle@NAME.service (default: pintle.service)\n"
    "kill and abort are for one death, then the point is disarmed.\n";

struct fault_command {
    const char *dir, *target, *action, *skip, *argument;
};

static int wrong_usage(void)
{
    fputs(usage, stderr);
    return EXIT_CODE_USAGE;
}

static int list(void)
{
    for (unsigned i = 0; i < FAULT_POINT_COUNT; i++)
        printf("%-22s %s\n", fault_point_names[i], fault_point_texts[i]);
    return EXIT_CODE_OK;
}

/* A number that was given on the command line into the request. */
static int add_number(json_t *request, const char *key, const char *text)
{
    char *end;
    if (!text)
        return 0;
    long long number = strtoll(text, &end, 10);
    if (end == text || *end || number < 0) {
        fprintf(stderr, "pintle fault: --%s wants a number, not '%s'\n", key, text);
        return -1;
    }
    return json_object_set_new(request, key, json_integer(number));
}

static int request_fault(const char *what, const char *point, const struct fault_command *command)
{
    struct control_client client;
    json_t *answer;
    json_t *request = json_pack("{s:s, s:s, s:s, s:s}", "command", "fault", "do", what, "point", point, "action",
                                command->action ? command->action : "kill");
    if (command->target)
        json_object_set_new(request, "target", json_string(command->target));
    if (add_number(request, "skip", command->skip) < 0 || add_number(request, "argument", command->argument) < 0) {
        json_decref(request);
        return EXIT_CODE_USAGE;
    }
    int r = control_client_run("fault", command->dir, request, &client, &answer);
    if (r != 0)
        return r;
    json_decref(answer);
    control_client_close(&client);
    return EXIT_CODE_OK;
}

int command_fault(int argc, char **argv)
{
    static const struct option options[] = {
        {"target", required_argument, NULL, 't'}, {"action", required_argument, NULL, 'a'},
        {"skip", required_argument, NULL, 's'},   {"argument", required_argument, NULL, 'g'},
        {"dir", required_argument, NULL, 'd'},    {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0}};
    struct fault_command command = {0};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) >= 0;)
        switch (option) {
        case 't':
            command.target = optarg;
            break;
        case 'a':
            command.action = optarg;
            break;
        case 's':
            command.skip = optarg;
            break;
        case 'g':
            command.argument = optarg;
            break;
        case 'd':
            command.dir = optarg;
            break;
        case 'h':
            fputs(usage, stdout);
            return EXIT_CODE_OK;
        default:
            return wrong_usage();
        }
    int words = argc - optind;
    const char *what = words > 0 ? argv[optind] : "";
    if (words == 1 && strcmp(what, "list") == 0)
        return list();
    if (words == 2 && (strcmp(what, "arm") == 0 || strcmp(what, "disarm") == 0))
        return request_fault(what, argv[optind + 1], &command);
    return wrong_usage();
}
