/* pintle-supervisor: reads the configuration, builds one object, runs the loop, tears down. `pintle up` becomes this
 * program by exec; systemd sees it as the service's main process. Every failure before it serves is one line on stderr
 * and an exit code of contract.h, and leaves no process and no file in the runtime folder. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "config_command.h"
#include "contract.h"
#include "notify.h"
#include "reload.h"
#include "supervisor.h"

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *context)
{
    supervisor_stop(context);
    return 0;
}

static int on_hangup(sd_event_source *source, const struct signalfd_siginfo *info, void *context)
{
    struct failure failure = {0};
    json_t *changes = NULL;
    (void)reload(context, &changes, &failure); /* logged */
    json_decref(changes);
    return 0;
}

/* Fronts hold a descriptor per connection, and workers inherit the limit. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* Detached: the terminal belongs to somebody else, lines go to the log folder. */
static int redirect_output(const struct cluster *cluster, struct failure *failure)
{
    PN_FREE char *path = NULL;
    int r = runtime_dir_make_folder(cluster->log_dir, 0755);
    if (r < 0)
        return failure_set(failure, EXIT_CODE_IO, "cannot make the folder %s: %s", cluster->log_dir, strerror(-r));
    if (asprintf(&path, "%s/supervisor.log", cluster->log_dir) < 0)
        return failure_set(failure, EXIT_CODE_IO, "out of memory");
    PN_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0)
        return failure_set(failure, EXIT_CODE_IO, "cannot write %s: %s", path, strerror(errno));
    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
    log_init("supervisor", LOG_LEVEL_INFO);
    notify_set_log();
    return 0;
}

static int run_loop(sd_event *event, struct supervisor *supervisor, struct failure *failure)
{
    int r = sd_event_add_signal(event, NULL, SIGTERM, on_signal, supervisor);
    if (r >= 0)
        r = sd_event_add_signal(event, NULL, SIGINT, on_signal, supervisor);
    if (r >= 0)
        r = sd_event_add_signal(event, NULL, SIGHUP, on_hangup, supervisor);
    if (r >= 0)
        r = notify_watchdog(event);
    if (r < 0)
        return failure_set(failure, EXIT_CODE_IO, "cannot make the event loop: %s", strerror(-r));
    supervisor_start(supervisor);
    r = sd_event_loop(event);
    if (r < 0)
        return failure_set(failure, EXIT_CODE_IO, "the event loop failed: %s", strerror(-r));
    *failure = supervisor->failure;
    return failure->exit_code ? -EINVAL : 0;
}

static int run(const struct options *options, struct failure *failure)
{
    struct cluster *cluster = NULL;
    struct runtime_dir *runtime_dir = NULL;
    struct supervisor *supervisor = NULL;
    sd_event *event = NULL;
    int r = cluster_load(options, &cluster, failure);
    if (r == 0)
        r = runtime_dir_open(cluster->runtime_dir, &runtime_dir, failure);
    if (r == 0 && options->ready_fd >= 0)
        r = redirect_output(cluster, failure);
    if (r == 0 && sd_event_default(&event) < 0)
        r = failure_set(failure, EXIT_CODE_IO, "cannot make an event loop");
    if (r == 0)
        r = supervisor_create(event, options, cluster, runtime_dir, &supervisor, failure);
    if (r == 0)
        r = run_loop(event, supervisor, failure);
    supervisor_free(supervisor);
    sd_event_unref(event);
    runtime_dir_close(runtime_dir);
    cluster_free(cluster);
    return r;
}

int main(int argc, char **argv)
{
    struct options options;
    struct failure failure = {0};
    sigset_t handled;

    log_init("supervisor", LOG_LEVEL_INFO);
    if (argc > 1 && strcmp(argv[1], "config") == 0)
        return config_command(argc - 1, argv + 1);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); /* for it and all workers; its own calls and folders stay open: see README */
    /* Before any thread exists: ZeroMQ's must not take the signals that the loop reads. */
    sigemptyset(&handled);
    sigaddset(&handled, SIGTERM);
    sigaddset(&handled, SIGINT);
    sigaddset(&handled, SIGHUP);
    sigprocmask(SIG_BLOCK, &handled, NULL);
    raise_descriptor_limit();

    int r = options_parse(&options, argc, argv, &failure);
    if (r == 0 && options.ready_fd >= 0) {
        fcntl(options.ready_fd, F_SETFD, FD_CLOEXEC);
        notify_set_starter(options.ready_fd);
    }
    if (r == 0)
        r = run(&options, &failure);
    if (r == 0) {
        log_info("stopped");
        return EXIT_CODE_OK;
    }
    notify_failure(&failure);
    return failure.exit_code;
}
