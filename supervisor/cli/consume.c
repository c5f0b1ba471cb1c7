/* `pintle consume`: a member of a consumer group that prints what it gets, one message per line. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "contract.h"
#include "supervisor/cli/commands.h"
#include "supervisor/cli/consumer.h"
#include "supervisor/cli/progress.h"

static const char usage[] =
    "usage: pintle consume --topic TOPIC [options]\n"
    "Prints the bodies of messages, a line each, until Ctrl-C, --count or --idle.\n"
    "  --group GROUP      consumer group; its offsets are kept by the broker (pintle-consume)\n"
    "  --tag EXPRESSION   'A', 'A || B' or '*' (all)\n"
    "  --key KEY          only messages that carry this key\n"
    "  --count N          stop after N messages\n"
    "  --from first|last  where a new group begins (first)\n"
    "  --idle SECONDS     stop when nothing came for so long\n"
    "  --verbose          before each body: broker, queue, offset, store time, tags, keys\n"
    "  --quiet            count only\n"
    "  --namesrv H:P[;…]  name servers (default: $NAMESRV_ADDR, or those of the cluster in --dir)\n"
    "  --dir DIR          folder of the cluster\n";

struct printer {
    const char *key;
    bool verbose, quiet;
    uint64_t limit, count;
    int64_t first_ms, last_ms;
    struct progress progress;
};

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    stop = number;
}

/* KEYS holds several keys, separated by spaces. */
static bool key_wanted(const char *key, struct bytes keys)
{
    size_t size = strlen(key);
    for (size_t at = 0; at < keys.size;) {
        const uint8_t *space = memchr(keys.data + at, ' ', keys.size - at);
        size_t n = space ? (size_t)(space - keys.data) - at : keys.size - at;
        if (n == size && memcmp(keys.data + at, key, size) == 0)
            return true;
        at += n + 1;
    }
    return false;
}

static bool take(void *context, const struct consumer_message *message)
{
    struct printer *printer = context;
    struct bytes keys = consumer_property(message->properties, "KEYS");
    if (printer->key && !key_wanted(printer->key, keys))
        return true;
    printer->last_ms = clock_monotonic_ms();
    if (printer->count++ == 0)
        printer->first_ms = printer->last_ms;
    if (!printer->quiet) {
        struct bytes tags = consumer_property(message->properties, "TAGS");
        if (printer->verbose)
            printf("%s/%d@%" PRId64 " %" PRId64 " [%.*s] [%.*s] ", message->broker, message->queue_id,
                   message->queue_offset, message->store_ms, (int)tags.size, (const char *)tags.data, (int)keys.size,
                   (const char *)keys.data);
        fwrite(message->body.data, 1, message->body.size, stdout);
        putchar('\n');
    }
    return printer->limit == 0 || printer->count < printer->limit;
}

static void idle(void *context)
{
    struct printer *printer = context;
    fflush(stdout);
    if (printer->quiet)
        progress_show(&printer->progress, printer->count);
}

static int parse(struct consumer_options *options, struct printer *printer, int argc, char **argv,
                 const char **ret_namesrv, const char **ret_dir)
{
    static const struct option rows[] = {
        {"topic", 1, 0, 't'}, {"group", 1, 0, 'p'},   {"tag", 1, 0, 'g'},     {"key", 1, 0, 'k'},
        {"count", 1, 0, 'c'}, {"from", 1, 0, 'f'},    {"idle", 1, 0, 'i'},    {"verbose", 0, 0, 'v'},
        {"quiet", 0, 0, 'q'}, {"namesrv", 1, 0, 'n'}, {"dir", 1, 0, 'd'},     {"help", 0, 0, 'h'},
        {0, 0, 0, 0}};
    int c;
    while ((c = getopt_long(argc, argv, "", rows, NULL)) >= 0) {
        char *end = "";
        switch (c) {
        case 't': options->topic = optarg; break;
        case 'p': options->group = optarg; break;
        case 'g': options->expression = optarg; break;
        case 'k': printer->key = optarg; break;
        case 'c': printer->limit = strtoull(optarg, &end, 10); break;
        case 'i': options->idle_stop_ms = (int64_t)(strtod(optarg, &end) * 1000); break;
        case 'f':
            options->from_last = strcmp(optarg, "last") == 0;
            if (!options->from_last && strcmp(optarg, "first") != 0)
                end = "?";
            break;
        case 'v': printer->verbose = true; break;
        case 'q': printer->quiet = true; break;
        case 'n': *ret_namesrv = optarg; break;
        case 'd': *ret_dir = optarg; break;
        case 'h': fputs(usage, stdout); return -1;
        default: fputs(usage, stderr); return EXIT_CODE_USAGE;
        }
        if (*end)
            return fprintf(stderr, "pintle consume: bad value: %s\n", optarg), EXIT_CODE_USAGE;
    }
    if (options->topic && optind == argc)
        return 0;
    fputs(usage, stderr);
    return EXIT_CODE_USAGE;
}

int command_consume(int argc, char **argv)
{
    struct printer printer = {0};
    struct consumer_options options = {.group = "pintle-consume", .expression = "*", .take = take, .idle = idle,
                                       .context = &printer, .stop = &stop};
    const char *namesrv_given = NULL, *dir = NULL;
    int r = parse(&options, &printer, argc, argv, &namesrv_given, &dir);
    if (r != 0)
        return r < 0 ? 0 : r;
    PN_FREE char *namesrvs = command_namesrvs(namesrv_given, dir);
    options.namesrvs = namesrvs;
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    progress_begin(&printer.progress, "consuming", printer.limit);
    r = consumer_run(&options);
    progress_end(&printer.progress, printer.count);
    fflush(stdout);
    int64_t took_ms = printer.last_ms - printer.first_ms;
    fprintf(stderr, "%" PRIu64 " consumed in %" PRId64 " ms (%" PRIu64 "/s)\n", printer.count, took_ms,
            took_ms ? printer.count * 1000 / (uint64_t)took_ms : printer.count);
    if (r == 0 && printer.limit && printer.count < printer.limit && !stop)
        return 1;
    return r;
}
