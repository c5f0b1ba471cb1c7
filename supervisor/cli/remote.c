/* See remote.h. Runs in the `pintle` program only. The server's bytes are parsed by ipc/wire, which refuses nonsense. */
#include "supervisor/cli/remote.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/panic.h"

enum { CONNECT_TIMEOUT_MS = 3000, REMOTES_MAX = 256 };

static int connect_one(const struct addrinfo *info, int *ret_fd)
{
    PN_CLOSE int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, info->ai_addr, info->ai_addrlen) < 0 && errno != EINPROGRESS)
        return -errno;
    struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
    int r = poll(&poll_fd, 1, CONNECT_TIMEOUT_MS);
    if (r <= 0)
        return r < 0 ? -errno : -ETIMEDOUT;
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
        return -errno;
    if (error)
        return -error;
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static int connect_to(const char *address, int *ret_fd)
{
    char host[128];
    const char *colon = strrchr(address, ':');
    if (!colon || colon == address || (size_t)(colon - address) >= sizeof host)
        return -EINVAL;
    memcpy(host, address, (size_t)(colon - address));
    host[colon - address] = '\0';

    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
    if (getaddrinfo(host, colon + 1, &hints, &list) != 0)
        return -EINVAL;
    int r = -EINVAL;
    for (struct addrinfo *i = list; i; i = i->ai_next) {
        r = connect_one(i, ret_fd);
        if (r == 0)
            break;
    }
    freeaddrinfo(list);
    return r;
}

int remote_open(const char *address, remote_handler handler, void *context, struct remote **ret_remote)
{
    PN_FREE struct remote *remote = calloc(1, sizeof *remote);
    if (!remote)
        return -ENOMEM;
    if (strlen(address) >= sizeof remote->address)
        return -EINVAL;
    int fd = -1;
    int r = connect_to(address, &fd);
    if (r < 0)
        return r;
    memcpy(remote->address, address, strlen(address) + 1);
    connection_init(&remote->connection, fd);
    remote->handler = handler;
    remote->context = context;
    *ret_remote = TAKE_PTR(remote);
    return 0;
}

void remote_close(struct remote *remote)
{
    if (!remote)
        return;
    connection_close(&remote->connection);
    free(remote);
}

void remote_begin(struct remote *remote, struct remote_request *request, int32_t code, int32_t flag, size_t text_bytes,
                  unsigned fields, size_t body_size)
{
    size_t bound = frame_write_bound(text_bytes, fields);
    request->buffer = connection_reserve(&remote->connection, bound + body_size);
    pn_assert(request->buffer != NULL);
    request->opaque = ++remote->last_opaque;
    frame_write_request(&request->writer, request->buffer, bound, code, request->opaque, flag, LANGUAGE_CPP);
}

int32_t remote_end(struct remote *remote, struct remote_request *request, struct bytes body)
{
    ssize_t size = frame_write_finish(&request->writer, body.size);
    pn_assert(size > 0);
    if (body.size)
        memcpy(request->buffer + size, body.data, body.size);
    connection_commit(&remote->connection, (size_t)size + body.size);
    return request->opaque;
}

static int handle_input(struct remote *remote)
{
    ssize_t n = connection_fill(&remote->connection);
    if (n == 0 || (n < 0 && n != -EAGAIN)) {
        remote->broken = true;
        return 0;
    }
    for (int handled = 0;;) {
        struct frame frame;
        enum frame_result result = connection_next(&remote->connection, &frame);
        if (result == FRAME_BAD)
            remote->broken = true;
        if (result == FRAME_BAD || result == FRAME_MORE)
            return handled;
        if (result == FRAME_OK && remote->handler) {
            remote->handler(remote->context, remote, &frame);
            handled++;
        }
        connection_consume(&remote->connection, &frame);
    }
}

int remote_poll(struct remote **remotes, unsigned count, int timeout_ms)
{
    struct pollfd fds[REMOTES_MAX];
    pn_assert(count <= REMOTES_MAX);
    for (unsigned i = 0; i < count; i++) {
        int r = remotes[i]->broken ? 0 : connection_flush(&remotes[i]->connection);
        if (r < 0)
            remotes[i]->broken = true;
        fds[i] = (struct pollfd){.fd = remotes[i]->broken ? -1 : remotes[i]->connection.stream.fd,
                                 .events = (short)(POLLIN | (r == 1 ? POLLOUT : 0))};
    }
    int r = poll(fds, count, timeout_ms);
    if (r < 0)
        return errno == EINTR ? 0 : -errno;
    int handled = 0;
    for (unsigned i = 0; i < count; i++)
        if (fds[i].revents & (POLLIN | POLLERR | POLLHUP))
            handled += handle_input(remotes[i]);
    return handled;
}

struct waiting {
    int32_t opaque;
    bool done;
    remote_handler answer, handler;
    void *answer_context, *context;
};

static void pass_on(void *context, struct remote *remote, const struct frame *frame)
{
    struct waiting *waiting = context;
    if ((frame->flag & FRAME_FLAG_RESPONSE) && frame->opaque == waiting->opaque && !waiting->done) {
        waiting->done = true;
        waiting->answer(waiting->answer_context, remote, frame);
    } else if (waiting->handler) {
        waiting->handler(waiting->context, remote, frame);
    }
}

int remote_wait(struct remote *remote, int32_t opaque, int timeout_ms, remote_handler answer, void *context)
{
    struct waiting waiting = {opaque, false, answer, remote->handler, context, remote->context};
    remote->handler = pass_on;
    remote->context = &waiting;
    int64_t deadline_ms = clock_monotonic_ms() + timeout_ms;
    int r = 0;
    while (!waiting.done && r >= 0) {
        int64_t left_ms = deadline_ms - clock_monotonic_ms();
        if (remote->broken)
            r = -EPIPE;
        else if (left_ms <= 0)
            r = -ETIMEDOUT;
        else
            r = remote_poll(&remote, 1, (int)left_ms);
    }
    remote->handler = waiting.handler;
    remote->context = waiting.context;
    return waiting.done ? 0 : r;
}
