/* Accepting; see listener.h. The front's one thread. Whoever is over a limit is closed at once, with a line in the log;
 * limits.c leaves enough descriptors that accept does not run out of them. When the system does (ENFILE, ENOMEM), we
 * stop accepting for a second and say so: the clients wait in the kernel's queue. */
#include "listener.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "connections.h"
#include "limits.h"

enum { LISTENERS_MAX = 8, ACCEPTS_PER_TURN = 64, PAUSE_MS = 1000 };

struct listeners {
    struct {
        int fd;
        bool vip;
    } list[LISTENERS_MAX];
    unsigned count;
    bool paused;
    sd_event_source *again;
};

int listeners_new(struct listeners **ret_listeners)
{
    struct listeners *listeners = calloc(1, sizeof *listeners);
    if (!listeners)
        return -ENOMEM;
    *ret_listeners = listeners;
    return 0;
}

void listeners_free(struct listeners *listeners)
{
    if (!listeners)
        return;
    for (unsigned i = 0; i < listeners->count; i++)
        close(listeners->list[i].fd);
    sd_event_source_disable_unref(listeners->again);
    free(listeners);
}

int listeners_add(struct listeners *listeners, const struct fd_grant *grant, int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (listeners->count == LISTENERS_MAX)
        return -E2BIG;
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    listeners->list[listeners->count].fd = fd;
    listeners->list[listeners->count++].vip = grant->index == 1;
    return 0;
}

unsigned listeners_count(const struct listeners *listeners)
{
    return listeners->count;
}

static int watch(struct front *front)
{
    struct listeners *listeners = front->listeners;
    for (unsigned i = 0; i < listeners->count; i++) {
        /* Not EPOLLEXCLUSIVE: this epoll descriptor is watched by sd-event's, nobody sleeps on it itself, so that every
         * front would be woken all the same. */
        int r = connections_watch(front->connections, listeners->list[i].fd, EPOLLIN, POLL_LISTENER, i);
        if (r < 0)
            return r;
    }
    return 0;
}

static void unwatch(struct front *front)
{
    struct listeners *listeners = front->listeners;
    for (unsigned i = 0; i < listeners->count; i++)
        epoll_ctl(connections_epoll_fd(front->connections), EPOLL_CTL_DEL, listeners->list[i].fd, NULL);
}

static void pause_accepting(struct front *front, int error)
{
    struct listeners *listeners = front->listeners;
    if (listeners->paused)
        return;
    log_warning("accepting stops for a second: %s", strerror(error));
    board_add(front->board, COUNTER_ACCEPT_PAUSES, 1);
    listeners->paused = true;
    unwatch(front);
    sd_event_source_set_time_relative(listeners->again, PAUSE_MS * 1000);
    sd_event_source_set_enabled(listeners->again, SD_EVENT_ONESHOT);
}

static int on_again(sd_event_source *source, uint64_t usec, void *context)
{
    struct front *front = context;
    if (!front->listeners->paused || front->listeners->count == 0)
        return 0;
    front->listeners->paused = false;
    int r = watch(front);
    if (r < 0) { /* out of the kernel's memory for watches, say: an event source that fails is never called again */
        unwatch(front);
        pause_accepting(front, -r);
    }
    return 0;
}

int listeners_start(struct front *front)
{
    int r = sd_event_add_time_relative(front->event, &front->listeners->again, CLOCK_MONOTONIC, 0, 10000, on_again,
                                       front);
    if (r >= 0)
        r = sd_event_source_set_enabled(front->listeners->again, SD_EVENT_OFF);
    return r < 0 ? r : watch(front);
}

void listeners_stop(struct front *front)
{
    struct listeners *listeners = front->listeners;
    /* Closing would not do: the supervisor holds the same sockets, so epoll would keep watching them. */
    unwatch(front);
    for (unsigned i = 0; i < listeners->count; i++)
        close(listeners->list[i].fd);
    listeners->count = 0;
}

static void refuse_over_limit(struct front *front, int fd)
{
    char why[128];
    snprintf(why, sizeof why, "%u connections are open, the most there may be (maxConnections, or the limit on open files)",
             connections_count(front->connections));
    limits_refuse_socket(front, fd, why);
}

void listeners_accept(struct front *front, uint32_t index)
{
    struct listeners *listeners = front->listeners;
    for (int i = 0; i < ACCEPTS_PER_TURN && index < listeners->count; i++) {
        int fd = accept4(listeners->list[index].fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
                pause_accepting(front, errno);
            else if (errno != EAGAIN)
                continue; /* ECONNABORTED and its like concern one client, not us */
            return;
        }
        if (connections_count(front->connections) >= limits_connections(front)) {
            refuse_over_limit(front, fd);
            continue;
        }
        int r = connections_add(front, fd, listeners->list[index].vip);
        if (r < 0) {
            log_warning("a connection is refused: %s", strerror(-r));
            board_add(front->board, COUNTER_CONNECTIONS_REFUSED, 1);
        }
    }
}
