/* A queue of grants in front of an fd channel. Runs in the supervisor. Fatal is nothing: without memory or descriptors
 * the caller gets the error and ends the worker, whose successor is given everything from the start. */
#include "outbox.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "base/cleanup.h"

struct waiting {
    struct waiting *next;
    struct fd_grant grant;
    int fds[FD_GRANT_FDS_MAX];
    unsigned fd_count;
};

struct outbox {
    int socket;
    sd_event_source *source; /* on only while something waits */
    struct waiting *first, **end;
};

static void waiting_free(struct waiting *waiting)
{
    for (unsigned i = 0; i < waiting->fd_count; i++)
        close(waiting->fds[i]);
    free(waiting);
}

static int on_room(sd_event_source *source, int fd, uint32_t events, void *context)
{
    struct outbox *outbox = context;
    while (outbox->first) {
        struct waiting *waiting = outbox->first;
        int r = fd_channel_send(outbox->socket, &waiting->grant, waiting->fds, waiting->fd_count);
        if (r == -EAGAIN)
            return 0;
        outbox->first = waiting->next;
        waiting_free(waiting);
    }
    outbox->end = &outbox->first;
    return sd_event_source_set_enabled(source, SD_EVENT_OFF);
}

int outbox_create(sd_event *event, int socket, struct outbox **ret_outbox)
{
    struct outbox *outbox = calloc(1, sizeof *outbox);
    if (!outbox)
        return -ENOMEM;
    int r = sd_event_add_io(event, &outbox->source, socket, EPOLLOUT, on_room, outbox);
    if (r >= 0)
        r = sd_event_source_set_enabled(outbox->source, SD_EVENT_OFF);
    if (r < 0) {
        sd_event_source_disable_unref(outbox->source);
        free(outbox);
        return r;
    }
    outbox->socket = socket;
    outbox->end = &outbox->first;
    *ret_outbox = outbox;
    return 0;
}

void outbox_free(struct outbox *outbox)
{
    if (!outbox)
        return;
    while (outbox->first) {
        struct waiting *waiting = outbox->first;
        outbox->first = waiting->next;
        waiting_free(waiting);
    }
    sd_event_source_disable_unref(outbox->source);
    close(outbox->socket);
    free(outbox);
}

static int put_waiting(struct outbox *outbox, const struct fd_grant *grant, const int *fds, unsigned fd_count)
{
    struct waiting *waiting = calloc(1, sizeof *waiting);
    if (!waiting)
        return -ENOMEM;
    waiting->grant = *grant;
    for (; waiting->fd_count < fd_count; waiting->fd_count++) {
        int copy = fcntl(fds[waiting->fd_count], F_DUPFD_CLOEXEC, 3);
        if (copy < 0) {
            int r = -errno;
            waiting_free(waiting);
            return r;
        }
        waiting->fds[waiting->fd_count] = copy;
    }
    *outbox->end = waiting;
    outbox->end = &waiting->next;
    return sd_event_source_set_enabled(outbox->source, SD_EVENT_ON);
}

int outbox_put(struct outbox *outbox, const struct fd_grant *grant, const int *fds, unsigned fd_count)
{
    if (outbox->first)
        return put_waiting(outbox, grant, fds, fd_count);
    int r = fd_channel_send(outbox->socket, grant, fds, fd_count);
    if (r == -EAGAIN)
        return put_waiting(outbox, grant, fds, fd_count);
    return r == -EPIPE || r == -ECONNRESET ? 0 : r;
}
