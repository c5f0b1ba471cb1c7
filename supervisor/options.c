/* Reads the supervisor's command line. Any mistake ends the start with exit code 64 and says what was expected. */
#include "options.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "contract.h"

enum { OPTION_PRESET = 256, OPTION_FILE, OPTION_DIR, OPTION_NAMESRV_PORT, OPTION_BASE_PORT, OPTION_SET, OPTION_FAULTS,
       OPTION_READY_FD };

static const struct option option_table[] = {
    {"preset", required_argument, NULL, OPTION_PRESET},
    {"file", required_argument, NULL, OPTION_FILE},
    {"dir", required_argument, NULL, OPTION_DIR},
    {"namesrv-port", required_argument, NULL, OPTION_NAMESRV_PORT},
    {"base-port", required_argument, NULL, OPTION_BASE_PORT},
    {"set", required_argument, NULL, OPTION_SET},
    {"allow-faults", no_argument, NULL, OPTION_FAULTS},
    {"ready-fd", required_argument, NULL, OPTION_READY_FD},
    {NULL, 0, NULL, 0},
};

static int parse_number(const char *name, const char *text, int max, int *ret_number, struct failure *failure)
{
    char *end;
    long number = strtol(text, &end, 10);
    if (end == text || *end || number < 0 || number > max)
        return failure_set(failure, EXIT_CODE_USAGE, "--%s wants a number from 0 to %d, not '%s'", name, max, text);
    *ret_number = (int)number;
    return 0;
}

static int take_option(struct options *options, int option, struct failure *failure)
{
    switch (option) {
    case OPTION_PRESET:
        options->preset = optarg;
        return 0;
    case OPTION_FILE:
        options->file = optarg;
        return 0;
    case OPTION_DIR:
        options->dir = optarg;
        return 0;
    case OPTION_NAMESRV_PORT:
        return parse_number("namesrv-port", optarg, 65535, &options->namesrv_port, failure);
    case OPTION_BASE_PORT:
        return parse_number("base-port", optarg, 65535, &options->base_port, failure);
    case OPTION_READY_FD:
        return parse_number("ready-fd", optarg, 65535, &options->ready_fd, failure);
    case OPTION_FAULTS:
        options->allow_faults = true;
        return 0;
    case OPTION_SET:
        if (!strchr(optarg, '='))
            return failure_set(failure, EXIT_CODE_USAGE, "--set wants KEY=VALUE, not '%s'", optarg);
        if (options->setting_count == OPTIONS_SETTINGS_MAX)
            return failure_set(failure, EXIT_CODE_USAGE, "more than %d --set", OPTIONS_SETTINGS_MAX);
        options->settings[options->setting_count++] = optarg;
        return 0;
    default:
        return failure_set(failure, EXIT_CODE_USAGE, "wrong command line; `pintle up --help` shows what is possible");
    }
}

int options_parse(struct options *options, int argc, char **argv, struct failure *failure)
{
    *options = (struct options){
        .namesrv_port = OPTIONS_PORT_UNSET, .base_port = OPTIONS_PORT_UNSET, .ready_fd = -1};
    for (;;) {
        int option = getopt_long(argc, argv, "", option_table, NULL);
        if (option < 0)
            break;
        int r = take_option(options, option, failure);
        if (r < 0)
            return r;
    }
    if (optind < argc)
        return failure_set(failure, EXIT_CODE_USAGE, "unexpected argument '%s'", argv[optind]);
    if (options->preset && options->file)
        return failure_set(failure, EXIT_CODE_USAGE, "give --preset or --file, not both");
    return 0;
}
