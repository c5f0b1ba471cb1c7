/* A byte stream under a connection: plain TCP now; TLS takes the same three hooks. All non-blocking. */
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

struct stream;
struct stream_hooks {
    ssize_t (*read)(struct stream *stream, void *buffer, size_t size);              /* > 0, 0 = end, -EAGAIN, -errno */
    ssize_t (*writev)(struct stream *stream, const struct iovec *parts, int count); /* > 0, -EAGAIN, -EFAULT, -errno */
    void (*close)(struct stream *stream);
};
struct stream {
    const struct stream_hooks *hooks;
    int fd;
    void *state; /* the hooks' own */
};

void stream_init_plain(struct stream *stream, int fd);
