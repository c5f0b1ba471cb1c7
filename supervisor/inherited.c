/* Socket activation: the descriptors that a pintle.socket passes on are matched by the address on which they listen, never
 * by their order, so that the socket unit and the cluster file may be edited one without the other. What the cluster file
 * wants and nobody passed on is made (channels.c); what was passed on and nobody wants is fatal to the start, as is a
 * descriptor that is no listening TCP socket. Runs in the supervisor, before any worker; descriptors and environment belong
 * to the whole process, hence no object. */
#include "inherited.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "base/cleanup.h"
#include "channels.h"
#include "cluster.h"
#include "contract.h"

enum { INHERITED_MAX = 256 };

static struct {
    int fd; /* −1: taken */
    struct sockaddr_storage address;
} sockets[INHERITED_MAX];
static unsigned socket_count;

int inherited_open(struct failure *failure)
{
    int count = sd_listen_fds(1);
    if (count < 0)
        return failure_set(failure, EXIT_CODE_IO, "cannot read what was passed on: %s", strerror(-count));
    if (count > INHERITED_MAX)
        return failure_set(failure, EXIT_CODE_CONFIG, "%d sockets were passed on; at most %d are possible", count,
                           INHERITED_MAX);
    for (int i = 0; i < count; i++) {
        int fd = SD_LISTEN_FDS_START + i;
        socklen_t size = sizeof sockets[i].address;
        if (sd_is_socket_inet(fd, AF_UNSPEC, SOCK_STREAM, 1, 0) <= 0 ||
            getsockname(fd, (struct sockaddr *)&sockets[i].address, &size) < 0)
            return failure_set(failure, EXIT_CODE_CONFIG, "descriptor %d, which was passed on, is no listening TCP socket",
                               fd);
        if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
            return failure_set(failure, EXIT_CODE_IO, "descriptor %d cannot be used: %s", fd, strerror(errno));
        sockets[socket_count++].fd = fd;
    }
    return 0;
}

static int is_same(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
    const struct sockaddr_in *a4 = (const void *)a, *b4 = (const void *)b;
    const struct sockaddr_in6 *a6 = (const void *)a, *b6 = (const void *)b;
    if (a->ss_family != b->ss_family)
        return 0;
    if (a->ss_family == AF_INET)
        return a4->sin_port == b4->sin_port && a4->sin_addr.s_addr == b4->sin_addr.s_addr;
    return a6->sin6_port == b6->sin6_port && memcmp(&a6->sin6_addr, &b6->sin6_addr, sizeof a6->sin6_addr) == 0;
}

int inherited_take(const struct sockaddr_storage *address)
{
    for (unsigned i = 0; i < socket_count; i++)
        if (sockets[i].fd >= 0 && is_same(&sockets[i].address, address))
            return TAKE_FD(sockets[i].fd);
    return -ENOENT;
}

static void print_address(FILE *out, const struct sockaddr_storage *address)
{
    const struct sockaddr_in *v4 = (const void *)address;
    const struct sockaddr_in6 *v6 = (const void *)address;
    char text[INET6_ADDRSTRLEN] = "?";
    if (address->ss_family == AF_INET) {
        inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text);
        fprintf(out, "%s:%d", text, ntohs(v4->sin_port));
    } else {
        inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text);
        fprintf(out, "[%s]:%d", text, ntohs(v6->sin6_port));
    }
}

static void print_wanted(FILE *out, const struct cluster *cluster)
{
    const char *comma = "";
    for (unsigned i = 0; i < cluster->namesrv_count; i++, comma = ", ")
        fprintf(out, "%s%s on %s:%d", comma, cluster->namesrvs[i].name, cluster->listen, cluster->namesrvs[i].port);
    for (unsigned i = 0; i < cluster->broker_count; i++, comma = ", ")
        fprintf(out, "%s%s on %s:%d and %d", comma, cluster->brokers[i].name, cluster->brokers[i].listen,
                cluster->brokers[i].port, cluster->brokers[i].port - CHANNELS_VIP_DISTANCE);
}

int inherited_all_taken(const struct cluster *cluster, struct failure *failure)
{
    PN_FREE char *text = NULL;
    size_t size = 0;
    unsigned left = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return failure_set(failure, EXIT_CODE_IO, "out of memory");
    for (unsigned i = 0; i < socket_count; i++) {
        if (sockets[i].fd < 0)
            continue;
        fputs(left++ ? ", " : "the socket unit listens on ", out);
        print_address(out, &sockets[i].address);
    }
    fputs(", which is nobody's in the cluster file: it has ", out);
    print_wanted(out, cluster);
    if (fclose(out) != 0)
        return failure_set(failure, EXIT_CODE_IO, "out of memory");
    return left ? failure_set(failure, EXIT_CODE_CONFIG, "%s", text) : 0;
}

void inherited_close(void)
{
    for (unsigned i = 0; i < socket_count; i++)
        pn_close_p(&sockets[i].fd);
    socket_count = 0;
}
