/* Makes what crosses process boundaries: segments, ring sets, listening sockets, texts. Runs in the supervisor, which
 * owns every descriptor made here; at the cluster's start a failure is fatal, later only the worker that needed it
 * waits and is tried again. */
#include "channels.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <fcntl.h>

#include "base/cleanup.h"
#include "base/panic.h"
#include "contract.h"
#include "inherited.h"
#include "shm/queue_table.h"
#include "shm/segment.h"

enum {
    LISTEN_BACKLOG = 4096, /* the kernel cuts it to net.core.somaxconn */
    FREE_PAIR_TRIES = 100,
};

static const struct {
    const char *name;
    size_t request_size, reply_size;
} ring_sizes[] = {
    [RING_SET_DATA] = {"data", 8 << 20, 1 << 20},
    [RING_SET_CONTROL] = {"control", 256 << 10, 1 << 20},
    [RING_SET_NATIVE] = {"native", 1 << 20, 256 << 10},
};

static const struct ring_fds no_ring = {-1, -1, -1};

int channels_ring_set_create(enum ring_set_role role, const char *peer_name, uint32_t peer, uint64_t generation,
                             struct ring_set *ret_set)
{
    struct ring_set set = {role, peer, generation, no_ring, no_ring, true};
    char name[128];
    snprintf(name, sizeof name, "%s %s request", peer_name, ring_sizes[role].name);
    int r = ring_create(name, ring_sizes[role].request_size, peer, &set.request);
    if (r < 0)
        return r;
    snprintf(name, sizeof name, "%s %s reply", peer_name, ring_sizes[role].name);
    r = ring_create(name, ring_sizes[role].reply_size, peer, &set.reply);
    if (r < 0) {
        ring_fds_close(&set.request);
        return r;
    }
    *ret_set = set;
    return 0;
}

void channels_ring_set_close(struct ring_set *set)
{
    if (!set->made)
        return;
    ring_fds_close(&set->request);
    ring_fds_close(&set->reply);
    set->made = false;
}

void channels_ring_set_fds(const struct ring_set *set, int ret_fds[6])
{
    pn_assert(set->made);
    memcpy(ret_fds,
           (int[6]){set->request.memory, set->request.data, set->request.space, set->reply.memory, set->reply.data,
                    set->reply.space},
           6 * sizeof(int));
}

enum { REQUEST_SPACE = 2, REPLY_DATA = 4 }; /* places in a grant of the bells that the reader of requests rings */

int channels_native_set_create(const char *peer_name, uint32_t peer, struct ring_set *ret_set, int ret_client_fds[6])
{
    struct ring_set set;
    int space = -1, data = -1;
    int r = channels_ring_set_create(RING_SET_NATIVE, peer_name, peer, 1, &set);
    if (r < 0)
        return r;
    r = ring_bell_guard(&set.request.space, &space);
    if (r == 0)
        r = ring_bell_guard(&set.reply.data, &data);
    if (r < 0) {
        pn_close_p(&space);
        channels_ring_set_close(&set);
        return r;
    }
    channels_ring_set_fds(&set, ret_client_fds);
    ret_client_fds[REQUEST_SPACE] = space;
    ret_client_fds[REPLY_DATA] = data;
    *ret_set = set;
    return 0;
}

void channels_client_fds_close(int client_fds[6])
{
    pn_close_p(&client_fds[REQUEST_SPACE]);
    pn_close_p(&client_fds[REPLY_DATA]);
}

int channels_broker_memory_create(const char *broker, struct broker_memory *ret_memory)
{
    struct broker_memory memory = {-1, -1, -1, -1};
    char name[128];
    snprintf(name, sizeof name, "%s queue table", broker);
    int r = queue_table_create(name, 0, &memory.queue_table);
    if (r == 0)
        r = segment_reopen_readonly(memory.queue_table, &memory.queue_table_readonly);
    snprintf(name, sizeof name, "%s ledger", broker);
    if (r == 0)
        r = segment_create(name, SEGMENT_LEDGER, CONTRACT_LEDGER_VERSION, CONTRACT_LEDGER_SIZE, 0, &memory.ledger);
    snprintf(name, sizeof name, "%s image", broker);
    if (r == 0)
        r = segment_create(name, SEGMENT_IMAGE, CONTRACT_IMAGE_VERSION, CONTRACT_IMAGE_SIZE, 0, &memory.image);
    if (r < 0) {
        channels_broker_memory_close(&memory);
        return r;
    }
    *ret_memory = memory;
    return 0;
}

void channels_broker_memory_close(struct broker_memory *memory)
{
    pn_close_p(&memory->queue_table);
    pn_close_p(&memory->queue_table_readonly);
    pn_close_p(&memory->ledger);
    pn_close_p(&memory->image);
    *memory = (struct broker_memory){-1, -1, -1, -1};
}

static int make_address(const char *text, int port, struct sockaddr_storage *ret_address, socklen_t *ret_size)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)ret_address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret_address;
    memset(ret_address, 0, sizeof *ret_address);
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        *ret_size = sizeof *v4;
        return 0;
    }
    if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        *ret_size = sizeof *v6;
        return 0;
    }
    return -EINVAL;
}

static int open_listening(const struct sockaddr_storage *address, socklen_t size)
{
    int on = 1;
    PN_CLOSE int fd = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    /* Connections of the last run in TIME_WAIT must not keep this one from starting; a live listener still does. */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(fd, (const struct sockaddr *)address, size) < 0 || listen(fd, LISTEN_BACKLOG) < 0)
        return -errno;
    return TAKE_FD(fd);
}

static int port_of(int fd)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &size) < 0)
        return -errno;
    return ntohs(address.ss_family == AF_INET ? ((struct sockaddr_in *)&address)->sin_port
                                              : ((struct sockaddr_in6 *)&address)->sin6_port);
}

int channels_listen(const char *who, const char *address, int *port, int *ret_fd, struct failure *failure)
{
    struct sockaddr_storage socket_address;
    socklen_t size;
    if (make_address(address, *port, &socket_address, &size) < 0)
        return failure_set(failure, EXIT_CODE_CONFIG, "%s: '%s' is not an IP address to listen on", who, address);
    int fd = *port ? inherited_take(&socket_address) : -ENOENT;
    if (fd < 0)
        fd = open_listening(&socket_address, size);
    if (fd < 0)
        return failure_set(failure, EXIT_CODE_IO, "%s cannot listen on %s:%d: %s", who, address, *port, strerror(-fd));
    if (*port == 0)
        *port = port_of(fd);
    *ret_fd = fd;
    return 0;
}

/* With port 0: any free main port whose VIP port is free too. */
int channels_listen_pair(const char *who, const char *address, int *port, int ret_fds[2], struct failure *failure)
{
    bool any = *port == 0;
    for (int try = 1;; try++) {
        struct failure this_time = {0};
        int main_port = *port, main_fd = -1;
        int r = channels_listen(who, address, &main_port, &main_fd, &this_time);
        if (r == 0) {
            int vip_port = main_port - CHANNELS_VIP_DISTANCE;
            r = channels_listen(who, address, &vip_port, &ret_fds[CHANNELS_VIP], &this_time);
            if (r == 0) {
                ret_fds[CHANNELS_MAIN] = main_fd;
                *port = main_port;
                return 0;
            }
            pn_close_p(&main_fd);
        }
        if (!any || try == FREE_PAIR_TRIES)
            return failure_set(failure, this_time.exit_code, "%s", this_time.text);
    }
}

int channels_text(const char *name, const char *text, int *ret_fd)
{
    size_t size = strlen(text);
    PN_CLOSE int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    if (fchmod(fd, 0600) < 0)
        return -errno;
    ssize_t n = write(fd, text, size);
    if (n != (ssize_t)size)
        return n < 0 ? -errno : -EIO;
    if (lseek(fd, 0, SEEK_SET) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
        return -errno;
    *ret_fd = TAKE_FD(fd);
    return 0;
}
