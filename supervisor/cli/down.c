/* `pintle down`: asks the supervisor to stop and waits until it is gone. Runs in the pintle program. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "contract.h"
#include "supervisor/cli/commands.h"
#include "supervisor/cli/control_client.h"
#include "supervisor/cli/plain_options.h"

static const char usage[] =
    "usage: pintle down [--dir DIR]\n"
    "Stops the cluster in order (fronts drain, stores flush) and waits for its end.\n"
    "  --dir DIR   folder of the cluster, or @NAME: that of pintle@NAME.service (default: pintle.service)\n";

/* The connection's other end, whoever that is: a pidfd taken before the request cannot mean a later process. */
static int pidfd_of(int socket)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        return -errno;
    int fd = (int)syscall(SYS_pidfd_open, peer.pid, 0);
    return fd < 0 ? -errno : fd;
}

static int stop(const char *dir)
{
    struct control_client client;
    json_t *answer;
    int r = control_client_open(dir, &client);
    if (r == -ENOENT || r == -ECONNREFUSED) {
        printf("nothing runs in %s\n", client.runtime_dir);
        return EXIT_CODE_OK;
    }
    PN_CLOSE int pidfd = r < 0 ? -1 : pidfd_of(client.socket);
    if (r == 0 && pidfd < 0)
        r = pidfd;
    if (r == 0)
        r = control_client_ask(&client, json_pack("{s:s}", "command", "down"), &answer);
    control_client_close(&client);
    if (r < 0) {
        fprintf(stderr, "pintle down: %s: %s\n", client.runtime_dir, strerror(-r));
        return EXIT_CODE_IO;
    }
    json_decref(answer);
    /* Three stages, each with its own limit, and a little. */
    struct pollfd end = {.fd = pidfd, .events = POLLIN};
    while ((r = poll(&end, 1, 3 * CONTRACT_STOP_TIMEOUT_MS + 2000)) < 0 && errno == EINTR)
        ;
    if (r == 1)
        return EXIT_CODE_OK;
    fprintf(stderr, "pintle down: the supervisor in %s does not end\n", client.runtime_dir);
    return EXIT_CODE_IO;
}

int command_down(int argc, char **argv)
{
    const char *dir;
    int exit_code;
    return plain_options(argc, argv, usage, &dir, NULL, &exit_code) ? stop(dir) : exit_code;
}
