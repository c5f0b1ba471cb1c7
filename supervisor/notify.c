/* Readiness, status and failure to the outside. Runs in the supervisor; without systemd every sd_notify does nothing. A
 * reader that has gone (the waiting `pintle up` was interrupted) is no error. */
#include "notify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "supervisor.h"

static int starter_fd = -1; /* of the waiting `pintle up --detach` */
static bool has_log;        /* stderr is a log file of ours */

void notify_set_starter(int fd)
{
    starter_fd = fd;
}

void notify_set_log(void)
{
    has_log = true;
}

/* "READY\n" and lines for people, or "FAILED code\n" and one line; then the pipe closes. */
static void tell_starter(const char *text)
{
    if (starter_fd < 0)
        return;
    if (write(starter_fd, text, strlen(text)) < 0)
        log_debug("nobody waits for readiness any more");
    close(starter_fd);
    starter_fd = -1;
}

static char *describe(const struct supervisor *supervisor)
{
    char *text = NULL;
    size_t size = 0;
    PN_FREE char *namesrvs = supervisor_namesrv_addresses(supervisor);
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    fprintf(out, "pintle serves.\n  name servers  %s\n", namesrvs ? namesrvs : "?");
    for (unsigned i = 0; i < supervisor->cluster->broker_count; i++) {
        const struct cluster_broker *broker = &supervisor->cluster->brokers[i];
        fprintf(out, "  %-12s  %s:%d\n", broker->name, broker->listen, broker->port);
    }
    return fclose(out) == 0 ? text : NULL;
}

void notify_ready(struct supervisor *supervisor)
{
    PN_FREE char *text = describe(supervisor), *starter_text = NULL;
    sd_notify(0, "READY=1");
    notify_status(supervisor);
    log_info("serves, pid %d, in %s", (int)getpid(), supervisor->cluster->runtime_dir);
    if (!text)
        return;
    if (starter_fd < 0) {
        fputs(text, stdout);
        fflush(stdout);
    } else if (asprintf(&starter_text, "READY\n%s", text) > 0) {
        tell_starter(starter_text);
    }
}

void notify_status(struct supervisor *supervisor)
{
    char text[512];
    unsigned ready = 0, restarts = 0;
    size_t used = 0;
    for (unsigned i = 0; i < supervisor->worker_count; i++)
        ready += supervisor->workers[i]->state == CHILD_READY, restarts += supervisor->workers[i]->restarts;
    used = (size_t)snprintf(text, sizeof text, "STATUS=%u of %u workers serve", ready, supervisor->worker_count);
    if (restarts)
        used += (size_t)snprintf(text + used, sizeof text - used, "; %u restart%s", restarts, restarts == 1 ? "" : "s");
    for (unsigned i = 0; i < supervisor->worker_count && used < sizeof text; i++) {
        const struct worker *worker = supervisor->workers[i];
        if (worker->state == CHILD_FAILED)
            used += (size_t)snprintf(text + used, sizeof text - used, "; %s failed: %s", worker->name, worker->status);
        else if (worker->said_in_io)
            used += (size_t)snprintf(text + used, sizeof text - used, "; %s waits for a disk", worker->name);
        else if (worker->state == CHILD_STARTING && worker->status[0])
            used += (size_t)snprintf(text + used, sizeof text - used, "; %s: %s", worker->name, worker->status);
    }
    sd_notify(0, text);
}

void notify_progress(void)
{
    enum { EXTEND_US = 30 * 1000 * 1000 };
    sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%d", EXTEND_US);
}

void notify_reloading(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu", /* which Type=notify-reload wants, systemd 253 */
               (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000);
}

void notify_reloaded(struct supervisor *supervisor)
{
    sd_notify(0, "READY=1");
    notify_status(supervisor);
}

void notify_stopping(struct supervisor *supervisor)
{
    sd_notify(0, "STOPPING=1\nSTATUS=stopping");
}

void notify_failure(const struct failure *failure)
{
    char text[640];
    sd_notifyf(0, "STATUS=cannot start: %s", failure->text);
    if (starter_fd < 0 || has_log) /* else the starter prints it, and once is enough */
        log_write(LOG_LEVEL_FATAL, "%s", failure->text);
    snprintf(text, sizeof text, "FAILED %d\n%s\n", failure->exit_code, failure->text);
    tell_starter(text);
}

int notify_watchdog(sd_event *event)
{
    return sd_event_set_watchdog(event, true);
}
