/* pintle-inspect: `pintle fsck` and `pintle log` become it. Looks at the files of stores; a process of its own, so that
 * the program that people type knows nothing of files and a store nothing of people. */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "contract.h"
#include "inspect.h"

static const char fsck_usage[] = "usage: pintle fsck DIR [--repair] [--json] [--quiet] [--log DIR]\n"
                                 "Checks the files of a store that no broker runs on; also one that Apache RocketMQ "
                                 "wrote. DIR is the store's folder\n"
                                 "(storePathRootDir), or the folder of a cluster: then each of its stores is checked.\n"
                                 "  --repair   write queue entries anew where they disagree with the log\n"
                                 "  --log DIR  the commit log is in another folder (storePathCommitLog)\n"
                                 "  --json     findings for programs\n"
                                 "  --quiet    say nothing about a good store\n"
                                 "Exit code: 0 good, 1 repaired, 4 damage is left, 64 usage, 74 cannot look.\n";

static const char log_usage[] =
    "usage: pintle log cat|stat DIR [--topic T] [--queue N] [--from POSITION] [--count N] [--json] [--log DIR]\n"
    "       pintle log grep TEXT DIR …\n"
    "Shows the commit log of a store, running or not. DIR is the store's folder; cat shows every record, grep those "
    "with the\n"
    "text in body or properties or with it as id, stat counts by topic and queue. --from must be the start of a "
    "record.\n";

static int usage(const char *text, bool asked)
{
    fputs(text, asked ? stdout : stderr);
    return asked ? EXIT_CODE_OK : EXIT_CODE_USAGE;
}

static int number(const char *text, int64_t *ret)
{
    char *end;
    errno = 0;
    *ret = strtoll(text, &end, 10);
    return errno || *end || end == text || *ret < 0 ? -EINVAL : 0;
}

static int is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Calls back for DIR, or for each DIR/store/BROKER if it is a cluster's folder. The worst exit code. */
static int each_store(const char *dir, int (*run)(const char *root, const void *options), const void *options)
{
    PN_FREE char *stores = NULL, *log = NULL;
    if (asprintf(&stores, "%s/store", dir) < 0 || asprintf(&log, "%s/commitlog", dir) < 0)
        return EXIT_CODE_IO;
    DIR *list = is_folder(log) ? NULL : opendir(stores);
    if (!list)
        return run(dir, options);
    int worst = 0;
    struct dirent *entry;
    while ((entry = readdir(list))) {
        PN_FREE char *root = NULL;
        if (entry->d_name[0] == '.')
            continue;
        if (asprintf(&root, "%s/%s", stores, entry->d_name) < 0)
            return EXIT_CODE_IO;
        int code = run(root, options);
        worst = code > worst ? code : worst;
    }
    closedir(list);
    return worst;
}

static int run_fsck(const char *root, const void *options)
{
    return fsck_run(root, options);
}

static int run_show(const char *root, const void *options)
{
    return show_run(root, options);
}

static int fsck_main(int argc, char **argv)
{
    static const struct option options[] = {{"repair", no_argument, NULL, 'r'}, {"json", no_argument, NULL, 'j'},
                                            {"quiet", no_argument, NULL, 'q'},  {"log", required_argument, NULL, 'l'},
                                            {"help", no_argument, NULL, 'h'},   {0}};
    struct fsck_options fsck = {0};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 'r':
            fsck.repair = true;
            break;
        case 'j':
            fsck.json = true;
            break;
        case 'q':
            fsck.quiet = true;
            break;
        case 'l':
            fsck.log_folder = optarg;
            break;
        default:
            return usage(fsck_usage, c == 'h');
        }
    }
    return optind + 1 == argc ? each_store(argv[optind], run_fsck, &fsck) : usage(fsck_usage, false);
}

static int log_main(int argc, char **argv)
{
    static const struct option options[] = {
        {"topic", required_argument, NULL, 't'}, {"queue", required_argument, NULL, 'q'},
        {"from", required_argument, NULL, 'f'},  {"count", required_argument, NULL, 'n'},
        {"json", no_argument, NULL, 'j'},        {"log", required_argument, NULL, 'l'},
        {"help", no_argument, NULL, 'h'},        {0}};
    struct show_options show = {.queue_id = -1};
    int64_t queue = -1;
    int r = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 't':
            show.topic = optarg;
            break;
        case 'q':
            r |= number(optarg, &queue);
            break;
        case 'f':
            r |= number(optarg, &show.from_pos);
            break;
        case 'n':
            r |= number(optarg, &show.count);
            break;
        case 'j':
            show.json = true;
            break;
        case 'l':
            show.log_folder = optarg;
            break;
        default:
            return usage(log_usage, c == 'h');
        }
    }
    const char *what = optind < argc ? argv[optind++] : "";
    show.what = strcmp(what, "grep") == 0 ? SHOW_GREP : strcmp(what, "stat") == 0 ? SHOW_STAT : SHOW_CAT;
    if (show.what == SHOW_GREP && optind < argc)
        show.pattern = argv[optind++];
    show.queue_id = (int32_t)queue;
    if (r < 0 || optind + 1 != argc || (show.what == SHOW_CAT && strcmp(what, "cat") != 0))
        return usage(log_usage, false);
    return each_store(argv[optind], run_show, &show);
}

int main(int argc, char **argv)
{
    const char *command = argc > 1 ? argv[1] : "";
    if (strcmp(command, "fsck") == 0)
        return fsck_main(argc - 1, argv + 1);
    if (strcmp(command, "log") == 0)
        return log_main(argc - 1, argv + 1);
    fputs(fsck_usage, stderr);
    fputs(log_usage, stderr);
    return EXIT_CODE_USAGE;
}
