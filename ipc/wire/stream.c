/* The plain TCP (or Unix socket) stream. Runs wherever a connection does; owns the descriptor. Never blocks whatever
 * the descriptor's mode is, never raises SIGPIPE; every failure is an answer. */
#include "wire/stream.h"

#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

static ssize_t plain_read(struct stream *stream, void *buffer, size_t size)
{
    for (;;) {
        ssize_t n = recv(stream->fd, buffer, size, MSG_DONTWAIT);
        if (n >= 0)
            return n;
        if (errno != EINTR)
            return errno == EWOULDBLOCK ? -EAGAIN : -errno;
    }
}

static ssize_t plain_writev(struct stream *stream, const struct iovec *parts, int count)
{
    struct msghdr message = {.msg_iov = (struct iovec *)parts, .msg_iovlen = (size_t)count};
    for (;;) {
        ssize_t n = sendmsg(stream->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n >= 0)
            return n;
        if (errno != EINTR)
            return errno == EWOULDBLOCK ? -EAGAIN : -errno;
    }
}

static void plain_close(struct stream *stream)
{
    if (stream->fd >= 0)
        close(stream->fd);
    stream->fd = -1;
}

void stream_init_plain(struct stream *stream, int fd)
{
    static const struct stream_hooks hooks = {plain_read, plain_writev, plain_close};
    *stream = (struct stream){&hooks, fd, NULL};
}
