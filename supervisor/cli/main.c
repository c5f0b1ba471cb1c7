/* pintle: the program that people type. Finds the command in the table and hands over; a command knows its own options.
 * Ends with the command's exit code; 64 when there is no such command. */
#include <stdio.h>
#include <string.h>

#include "base/conf.h"
#include "contract.h"
#include "supervisor/cli/commands.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *text;
} commands[] = {
    {"up", command_up, "start a cluster on this host"},
    {"down", command_down, "stop it"},
    {"status", command_status, "show its processes"},
    {"reload", command_reload, "take changes of its configuration files"},
    {"config", command_config, "show and check configuration"},
    {"send", command_send, "send messages to a topic"},
    {"consume", command_consume, "consume messages of a topic"},
    {"fsck", command_inspect, "check and repair the files of a store"},
    {"log", command_inspect, "show the commit log of a store: cat, grep, stat"},
    {"fault", command_fault, "make a process die or stall at a named point (tests)"},
};

enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

static void print_usage(FILE *out)
{
    fputs("usage: pintle COMMAND [options]\n", out);
    for (unsigned i = 0; i < COMMAND_COUNT; i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].text);
    fputs("`pintle COMMAND --help` shows its options. Version " PINTLE_VERSION ".\n", out);
}

int main(int argc, char **argv)
{
    const char *names[COMMAND_COUNT + 1] = {0};
    if (argc < 2) {
        print_usage(stderr);
        return EXIT_CODE_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        print_usage(stdout);
        return EXIT_CODE_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("pintle " PINTLE_VERSION);
        return EXIT_CODE_OK;
    }
    for (unsigned i = 0; i < COMMAND_COUNT; i++) {
        names[i] = commands[i].name;
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    }
    const char *nearest = conf_nearest(argv[1], names);
    fprintf(stderr, "pintle: unknown command '%s'%s%s%s\n", argv[1], nearest ? "; did you mean '" : "",
            nearest ? nearest : "", nearest ? "'?" : "");
    return EXIT_CODE_USAGE;
}
