/* Accepting; see listener.h. The front's one thread. Out of descriptors, a spare one is given up for a moment, so that
 * a waiting client is closed at once instead of hanging, and the level-triggered listener does not spin. */
#include "listener.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "connections.h"

enum { LISTENERS_MAX = 8, ACCEPTS_PER_TURN = 64 };

struct listeners {
    struct {
        int fd;
        bool vip;
    } list[LISTENERS_MAX];
    unsigned count;
    int spare_fd;
    bool refused_before; /* one log line per run of refusals */
};

int listeners_new(struct listeners **ret_listeners)
{
    struct listeners *listeners = calloc(1, sizeof *listeners);
    if (!listeners)
        return -ENOMEM;
    listeners->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    *ret_listeners = listeners;
    return 0;
}

void listeners_free(struct listeners *listeners)
{
    if (!listeners)
        return;
    for (unsigned i = 0; i < listeners->count; i++)
        close(listeners->list[i].fd);
    if (listeners->spare_fd >= 0)
        close(listeners->spare_fd);
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

int listeners_start(struct front *front)
{
    struct listeners *listeners = front->listeners;
    for (unsigned i = 0; i < listeners->count; i++) {
        int r =
            connections_watch(front->connections, listeners->list[i].fd, EPOLLIN | EPOLLEXCLUSIVE, POLL_LISTENER, i);
        if (r < 0)
            return r;
    }
    return 0;
}

void listeners_stop(struct front *front)
{
    struct listeners *listeners = front->listeners;
    /* Closing would not do: the supervisor holds the same sockets, so epoll would keep watching them. */
    for (unsigned i = 0; i < listeners->count; i++) {
        epoll_ctl(connections_epoll_fd(front->connections), EPOLL_CTL_DEL, listeners->list[i].fd, NULL);
        close(listeners->list[i].fd);
    }
    listeners->count = 0;
}

static void refuse_one(struct front *front, int listen_fd, int error)
{
    struct listeners *listeners = front->listeners;
    if (!listeners->refused_before)
        log_warning("connections are refused: %s", strerror(error));
    listeners->refused_before = true;
    board_add(front->board, COUNTER_CONNECTIONS_REFUSED, 1);
    if (listeners->spare_fd < 0)
        return;
    close(listeners->spare_fd);
    int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0)
        close(fd);
    listeners->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

void listeners_accept(struct front *front, uint32_t index)
{
    struct listeners *listeners = front->listeners;
    for (int i = 0; i < ACCEPTS_PER_TURN && index < listeners->count; i++) {
        int fd = accept4(listeners->list[index].fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
                refuse_one(front, listeners->list[index].fd, errno);
            else if (errno != EAGAIN)
                continue; /* ECONNABORTED and its like concern one client, not us */
            return;
        }
        int r = connections_add(front, fd, listeners->list[index].vip);
        if (r < 0) {
            board_add(front->board, COUNTER_CONNECTIONS_REFUSED, 1);
            continue;
        }
        listeners->refused_before = false;
    }
}
