/* The fd channel: one SEQPACKET message is one grant with its descriptors. Used by the supervisor, every worker and
 * native clients. The receiver may be told anything (a native client attaches to whoever listens): a message that is
 * not a grant is refused as a whole, and no descriptor that came with it is leaked. One thread per end. */
#include "fd/fd_channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/panic.h"

/* Room for more descriptors than any grant has: a message with too many is refused here. An even number, because the
 * kernel fills the room up to its rounded end: with an odd one it installs one descriptor more than we would look for.
 */
enum { FDS_RECEIVE_MAX = FD_GRANT_FDS_MAX + 2 };
_Static_assert(CMSG_SPACE(FDS_RECEIVE_MAX * sizeof(int)) == CMSG_LEN(FDS_RECEIVE_MAX * sizeof(int)), "no rounding");

union control {
    char space[CMSG_SPACE(FDS_RECEIVE_MAX * sizeof(int))];
    struct cmsghdr align;
};

int fd_channel_pair(int *ret_parent_fd, int *ret_child_fd)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
        return -errno;
    int flags = fcntl(fds[0], F_GETFL);
    if (flags < 0 || fcntl(fds[0], F_SETFL, flags | O_NONBLOCK) < 0) {
        int r = -errno;
        close(fds[0]);
        close(fds[1]);
        return r;
    }
    *ret_parent_fd = fds[0];
    *ret_child_fd = fds[1];
    return 0;
}

int fd_channel_send(int socket, const struct fd_grant *grant, const int *fds, unsigned fd_count)
{
    pn_assert(fd_count <= FD_GRANT_FDS_MAX);
    struct iovec part = {(void *)grant, sizeof *grant};
    union control control = {0};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd_count > 0) {
        message.msg_control = control.space;
        message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        memcpy(CMSG_DATA(header), fds, fd_count * sizeof(int));
    }
    ssize_t n;
    do {
        n = sendmsg(socket, &message, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0; /* SEQPACKET: all or nothing */
}

static unsigned take_fds(struct msghdr *message, int ret_fds[FDS_RECEIVE_MAX])
{
    unsigned count = 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        size_t size = header->cmsg_len - CMSG_LEN(0);
        for (size_t i = 0; i < size / sizeof(int) && count < FDS_RECEIVE_MAX; i++)
            memcpy(&ret_fds[count++], CMSG_DATA(header) + i * sizeof(int), sizeof(int));
    }
    return count;
}

int fd_channel_receive(int socket, struct fd_grant *ret_grant, int ret_fds[FD_GRANT_FDS_MAX], unsigned *ret_fd_count)
{
    union control control;
    struct iovec part = {ret_grant, sizeof *ret_grant};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
    ssize_t n;
    do {
        n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == ECONNRESET ? 0 : -errno;

    int fds[FDS_RECEIVE_MAX];
    unsigned count = take_fds(&message, fds);
    if (n == 0 && count == 0)
        return 0;
    bool whole = n == (ssize_t)sizeof *ret_grant && !(message.msg_flags & (MSG_TRUNC | MSG_CTRUNC));
    if (!whole || count > FD_GRANT_FDS_MAX || ret_grant->magic != FD_GRANT_MAGIC ||
        ret_grant->version != FD_GRANT_VERSION) {
        for (unsigned i = 0; i < count; i++)
            close(fds[i]);
        return -EBADMSG;
    }
    ret_grant->name[sizeof ret_grant->name - 1] = '\0';
    memcpy(ret_fds, fds, count * sizeof(int));
    *ret_fd_count = count;
    return 1;
}

struct fd_grant fd_grant_make(enum grant_kind kind, uint32_t index, uint64_t generation, uint64_t arg, const char *name)
{
    struct fd_grant grant = {.magic = FD_GRANT_MAGIC,
                             .version = FD_GRANT_VERSION,
                             .kind = (uint16_t)kind,
                             .index = index,
                             .generation = generation,
                             .arg = arg};
    snprintf(grant.name, sizeof grant.name, "%s", name ? name : "");
    return grant;
}

const char *grant_kind_name(enum grant_kind kind)
{
    static const char *const names[] = {
        [GRANT_LIFE_LINE] = "life line",
        [GRANT_CONFIG] = "config",
        [GRANT_START] = "start",
        [GRANT_FAULT_PAGE] = "fault page",
        [GRANT_BOARD] = "board",
        [GRANT_LISTEN] = "listen",
        [GRANT_QUEUE_TABLE] = "queue table",
        [GRANT_INTEREST] = "interest",
        [GRANT_LEDGER] = "ledger",
        [GRANT_IMAGE] = "image",
        [GRANT_RING_SET] = "ring set",
        [GRANT_RING_DROP] = "ring drop",
        [GRANT_DONE] = "done",
        [GRANT_PEER_BOARD] = "peer board",
    };
    unsigned index = (unsigned)kind;
    return index < sizeof names / sizeof names[0] && names[index] ? names[index] : "unknown";
}
