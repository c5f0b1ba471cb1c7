/* Attach: one connect, one grant. Runs in the client's process; everything received is checked, because a client may point
 * us at a folder that is not a broker's. */
#include "client/attach.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "contract.h"
#include "fd/fd_channel.h"

/* The folder's path may be longer than a Unix socket address; /proc/self/fd/N is a short name for it. */
static int connect_in_folder(const char *runtime_dir, const char *broker, int *ret_socket)
{
    PN_CLOSE int folder = open(runtime_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return -errno;
    PN_CLOSE int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;

    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char name[80];
    int length = snprintf(name, sizeof name, CONTRACT_ATTACH_SOCKET, broker);
    if (length < 0 || (size_t)length >= sizeof name || strchr(broker, '/'))
        return -EINVAL;
    length = snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", folder, name);
    if (length < 0 || (size_t)length >= sizeof address.sun_path)
        return -ENAMETOOLONG;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return -errno;
    *ret_socket = TAKE_FD(fd);
    return 0;
}

static int receive_rings(int socket, struct fd_grant *ret_grant, int fds[FD_GRANT_FDS_MAX])
{
    struct pollfd poll_fd = {.fd = socket, .events = POLLIN};
    int r = poll(&poll_fd, 1, ATTACH_TIMEOUT_MS);
    if (r < 0)
        return -errno;
    if (r == 0)
        return -ETIMEDOUT;

    unsigned count = 0;
    r = fd_channel_receive(socket, ret_grant, fds, &count);
    if (r == 0)
        return -EUSERS; /* closed without a word: the supervisor's limit of clients is reached */
    if (r < 0)
        return r;
    if (ret_grant->kind == GRANT_RING_SET && ret_grant->arg == RING_SET_NATIVE && count == 6)
        return 0;
    for (unsigned i = 0; i < count; i++)
        close(fds[i]);
    return -EPROTO;
}

int attach_open(const char *runtime_dir, const char *broker, struct attachment *ret_attachment)
{
    PN_CLOSE int socket = -1;
    int r = connect_in_folder(runtime_dir, broker, &socket);
    if (r < 0)
        return r;

    struct fd_grant grant;
    int fds[FD_GRANT_FDS_MAX];
    r = receive_rings(socket, &grant, fds);
    if (r < 0)
        return r;

    struct ring_fds request = {fds[0], fds[1], fds[2]}, reply = {fds[3], fds[4], fds[5]};
    struct attachment attachment = {.generation = grant.generation};
    r = ring_writer_attach(&attachment.request, &request);
    if (r < 0) {
        ring_fds_close(&request);
        ring_fds_close(&reply);
        return r;
    }
    r = ring_reader_attach(&attachment.reply, &reply);
    if (r < 0) {
        ring_writer_detach(&attachment.request);
        ring_fds_close(&reply);
        return r;
    }
    attachment.socket = TAKE_FD(socket);
    *ret_attachment = attachment;
    return 0;
}

void attach_close(struct attachment *attachment)
{
    ring_writer_detach(&attachment->request);
    ring_reader_detach(&attachment->reply);
    close(attachment->socket);
}
