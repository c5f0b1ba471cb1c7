/* ZeroMQ sockets in an sd-event loop. The supervisor and each name
 * server bind a ROUTER, workers and stores connect DEALERs. One thread of ours and one of libzmq per process, whatever
 * the number of sockets. Messages are not looked at here.
 *
 * The descriptor of a ZeroMQ socket is edge-triggered and any call on the socket may swallow the edge. So the io
 * callback is only a hint: a prepare callback, which sd-event runs before each sleep, asks for ZMQ_EVENTS, and if there
 * is something switches on a defer source that receives. Only RECEIVE_MAX messages per turn, so that a talkative peer
 * does not starve the process.
 *
 * libzmq aborts the process when it gets no descriptor (EMFILE): the soft limit is raised to the hard one. */
#include "bus/bus.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <zmq.h>

#include "base/cleanup.h"
#include "base/panic.h"

enum {
    RECEIVE_MAX = 64,
    RECONNECT_MS = 5,
    QUEUE_MESSAGES_MAX = 1000,
    MESSAGE_SIZE_MAX = 64 << 20,
    LINGER_AT_END_MS = 50,
    SOCKETS_MAX = 64,
    LOCKS_MAX = 8,
    PATH_SIZE = sizeof(((struct sockaddr_un *)0)->sun_path),
    FOLDER_SIZE = 4096,
    SHORT_SIZE = 64,
};

struct bus {
    void *socket;
    sd_event_source *io, *defer;
    bus_handler handler;
    void *context;
    bool router;
    bool in_handler, freed; /* a handler may free its own bus */
};

/* One context per process. Locks of endpoints are held until it ends, because only then has its thread removed the
 * socket files: a successor that binds earlier would lose its own file. */
static struct {
    void *context;
    unsigned buses;
    int locks[LOCKS_MAX];
    unsigned lock_count;
} shared;

static int shared_take(void)
{
    if (shared.buses++ > 0)
        return 0;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    shared.context = zmq_ctx_new();
    if (!shared.context) {
        shared.buses--;
        return -errno;
    }
    zmq_ctx_set(shared.context, ZMQ_IO_THREADS, 1);
    zmq_ctx_set(shared.context, ZMQ_MAX_SOCKETS, SOCKETS_MAX);
    return 0;
}

static void shared_drop(void)
{
    pn_assert(shared.buses > 0);
    if (--shared.buses > 0)
        return;
    while (zmq_ctx_term(shared.context) < 0 && errno == EINTR)
        ;
    shared.context = NULL;
    while (shared.lock_count)
        close(shared.locks[--shared.lock_count]);
}

static int lock_endpoint(const char *runtime_dir, const char *endpoint)
{
    char path[FOLDER_SIZE];
    if (snprintf(path, sizeof path, "%s/%s.lock", runtime_dir, endpoint) >= (int)sizeof path)
        return -ENAMETOOLONG;
    PN_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK ? -EADDRINUSE : -errno;
    if (shared.lock_count == LOCKS_MAX)
        return -ENOBUFS;
    shared.locks[shared.lock_count++] = TAKE_FD(fd);
    return 0;
}

static void short_name(const char *real, char ret_folder[SHORT_SIZE])
{
    uint64_t hash = 14695981039346656037ull; /* FNV-1a */
    for (const char *p = real; *p; p++)
        hash = (hash ^ (uint8_t)*p) * 1099511628211ull;
    snprintf(ret_folder, SHORT_SIZE, "/tmp/pintle-%u-%016llx", (unsigned)geteuid(), (unsigned long long)hash);
}

/* A link `/tmp/pintle-UID-HASH/d` to the folder; the folder in between is ours, so nobody can exchange the link. */
static int short_folder(const char *runtime_dir, char *ret_path, size_t size)
{
    PN_FREE char *real = realpath(runtime_dir, NULL);
    if (!real)
        return -errno;
    char folder[SHORT_SIZE];
    short_name(real, folder);
    struct stat st; /* looked at before it is made: a worker may not make folders, and the supervisor has made it */
    if (lstat(folder, &st) < 0 && (errno != ENOENT || mkdir(folder, 0700) < 0 || lstat(folder, &st) < 0))
        return -errno;
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077) != 0)
        return -EPERM;
    snprintf(ret_path, size, "%s/d", folder);
    char target[FOLDER_SIZE];
    ssize_t n = readlink(ret_path, target, sizeof target);
    if (n < 0)
        return errno == ENOENT && symlink(real, ret_path) == 0 ? 0 : -errno;
    return (size_t)n == strlen(real) && memcmp(target, real, (size_t)n) == 0 ? 0 : -EEXIST;
}

static int make_address(const char *runtime_dir, const char *endpoint, char *ret_address, size_t size)
{
    char link[PATH_SIZE];
    const char *folder = runtime_dir;
    if (strlen(runtime_dir) + 1 + strlen(endpoint) + 1 > PATH_SIZE) {
        int r = short_folder(runtime_dir, link, sizeof link);
        if (r < 0)
            return r;
        folder = link;
    }
    int n = snprintf(ret_address, size, "ipc://%s/%s", folder, endpoint);
    return n < 0 || (size_t)n - strlen("ipc://") >= PATH_SIZE ? -ENAMETOOLONG : 0;
}

int bus_prepare(const char *runtime_dir, const char *endpoint)
{
    char address[PATH_SIZE + 16];
    return make_address(runtime_dir, endpoint, address, sizeof address);
}

void bus_tidy(const char *runtime_dir)
{
    PN_FREE char *real = realpath(runtime_dir, NULL);
    if (!real)
        return;
    char folder[SHORT_SIZE], link[SHORT_SIZE + 2], target[FOLDER_SIZE];
    short_name(real, folder);
    snprintf(link, sizeof link, "%s/d", folder);
    ssize_t n = readlink(link, target, sizeof target);
    if (n >= 0 && (size_t)n == strlen(real) && memcmp(target, real, (size_t)n) == 0 && unlink(link) == 0)
        (void)rmdir(folder);
}

static bool has_input(struct bus *bus)
{
    int events = 0;
    size_t size = sizeof events;
    return zmq_getsockopt(bus->socket, ZMQ_EVENTS, &events, &size) == 0 && (events & ZMQ_POLLIN) != 0;
}

/* One part of a message, without waiting. */
static int receive_part(struct bus *bus, zmq_msg_t *part)
{
    zmq_msg_init(part);
    if (zmq_msg_recv(part, bus->socket, ZMQ_DONTWAIT) >= 0)
        return 0;
    int r = -errno;
    zmq_msg_close(part);
    return r;
}

static struct bytes part_bytes(zmq_msg_t *part)
{
    return (struct bytes){zmq_msg_data(part), zmq_msg_size(part)};
}

/* 1: a message was handled; 0: there is none. */
static int receive_one(struct bus *bus)
{
    zmq_msg_t peer, message, extra;
    if (receive_part(bus, &message) < 0)
        return 0;
    zmq_msg_init(&peer);
    if (bus->router && zmq_msg_more(&message)) {
        zmq_msg_move(&peer, &message);
        if (receive_part(bus, &message) < 0)
            zmq_msg_init(&message);
    }
    bool odd = false; /* more parts than we ever send: not ours */
    for (bool more = zmq_msg_more(&message); more;) {
        odd = true;
        more = receive_part(bus, &extra) == 0 && zmq_msg_more(&extra);
        zmq_msg_close(&extra);
    }
    if (!odd)
        bus->handler(bus->context, part_bytes(&peer), part_bytes(&message));
    zmq_msg_close(&peer);
    zmq_msg_close(&message);
    return 1;
}

static void bus_destroy(struct bus *bus)
{
    sd_event_source_disable_unref(bus->io);
    sd_event_source_disable_unref(bus->defer);
    if (bus->socket)
        zmq_close(bus->socket);
    free(bus);
    shared_drop();
}

static int receive(struct bus *bus)
{
    bus->in_handler = true;
    for (unsigned i = 0; i < RECEIVE_MAX && !bus->freed && receive_one(bus) > 0; i++)
        ;
    bus->in_handler = false;
    if (bus->freed)
        bus_destroy(bus);
    return 0;
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    return receive(userdata);
}

static int on_defer(sd_event_source *source, void *userdata)
{
    return receive(userdata);
}

static int on_prepare(sd_event_source *source, void *userdata)
{
    struct bus *bus = userdata;
    if (has_input(bus))
        sd_event_source_set_enabled(bus->defer, SD_EVENT_ONESHOT);
    return 0;
}

static int set_option(struct bus *bus, int option, int value)
{
    return zmq_setsockopt(bus->socket, option, &value, sizeof value) < 0 ? -errno : 0;
}

static int set_options(struct bus *bus, const char *identity)
{
    int r = 0;
#define SET(option, value)                                                                                             \
    if (r == 0)                                                                                                        \
        r = set_option(bus, option, value);
    SET(ZMQ_LINGER, 0)
    SET(ZMQ_SNDHWM, QUEUE_MESSAGES_MAX)
    SET(ZMQ_RCVHWM, QUEUE_MESSAGES_MAX)
    SET(ZMQ_RECONNECT_IVL, RECONNECT_MS)
    SET(ZMQ_IMMEDIATE, 1) /* nothing queues for a peer that is not there */
    if (bus->router) {
        SET(ZMQ_ROUTER_MANDATORY, 1) /* tell that a peer is not there instead of dropping */
        SET(ZMQ_ROUTER_HANDOVER, 1)  /* a restarted worker takes over its predecessor's identity */
    }
    SET(ZMQ_PROBE_ROUTER, 1) /* an empty message on each connect: the other side learns of us at once */
#undef SET
    int64_t size = MESSAGE_SIZE_MAX;
    if (r == 0 && zmq_setsockopt(bus->socket, ZMQ_MAXMSGSIZE, &size, sizeof size) < 0)
        r = -errno;
    if (r == 0 && identity && zmq_setsockopt(bus->socket, ZMQ_ROUTING_ID, identity, strlen(identity)) < 0)
        r = -errno;
    return r;
}

static int add_sources(struct bus *bus, sd_event *event)
{
    int fd;
    size_t size = sizeof fd;
    if (zmq_getsockopt(bus->socket, ZMQ_FD, &fd, &size) < 0)
        return -errno;
    int r = sd_event_add_io(event, &bus->io, fd, EPOLLIN, on_io, bus);
    if (r < 0)
        return r;
    r = sd_event_source_set_prepare(bus->io, on_prepare);
    if (r < 0)
        return r;
    r = sd_event_add_defer(event, &bus->defer, on_defer, bus);
    if (r < 0)
        return r;
    return sd_event_source_set_enabled(bus->defer, SD_EVENT_OFF);
}

static void destroy_p(struct bus **bus)
{
    if (*bus)
        bus_destroy(*bus);
}

static int bus_new(sd_event *event, bool router, const char *identity, bus_handler handler, void *context,
                   struct bus **ret_bus)
{
    int r = shared_take();
    if (r < 0)
        return r;
    PN_CLEANUP(destroy_p) struct bus *bus = calloc(1, sizeof *bus);
    if (!bus) {
        shared_drop();
        return -ENOMEM;
    }
    bus->router = router;
    bus->handler = handler;
    bus->context = context;
    bus->socket = zmq_socket(shared.context, router ? ZMQ_ROUTER : ZMQ_DEALER);
    if (!bus->socket)
        return -errno;
    r = set_options(bus, identity);
    if (r < 0)
        return r;
    r = add_sources(bus, event);
    if (r < 0)
        return r;
    *ret_bus = TAKE_PTR(bus);
    return 0;
}

int bus_bind(sd_event *event, const char *runtime_dir, const char *endpoint, bus_handler handler, void *context,
             struct bus **ret_bus)
{
    char address[PATH_SIZE + 16];
    int r = make_address(runtime_dir, endpoint, address, sizeof address);
    if (r < 0)
        return r;
    PN_CLEANUP(destroy_p) struct bus *bus = NULL;
    r = bus_new(event, true, NULL, handler, context, &bus);
    if (r < 0)
        return r;
    r = lock_endpoint(runtime_dir, endpoint);
    if (r < 0)
        return r;
    if (zmq_bind(bus->socket, address) < 0)
        return -errno;
    *ret_bus = TAKE_PTR(bus);
    return 0;
}

int bus_connect(sd_event *event, const char *runtime_dir, const char *endpoint, const char *identity,
                bus_handler handler, void *context, struct bus **ret_bus)
{
    char address[PATH_SIZE + 16];
    int r = make_address(runtime_dir, endpoint, address, sizeof address);
    if (r < 0)
        return r;
    PN_CLEANUP(destroy_p) struct bus *bus = NULL;
    r = bus_new(event, false, identity, handler, context, &bus);
    if (r < 0)
        return r;
    if (zmq_connect(bus->socket, address) < 0)
        return -errno;
    *ret_bus = TAKE_PTR(bus);
    return 0;
}

void bus_free(struct bus *bus)
{
    if (!bus)
        return;
    /* Last words (failed, unregister) that a connected peer is taking; a stuck peer holds us no longer than this. */
    (void)set_option(bus, ZMQ_LINGER, LINGER_AT_END_MS);
    if (bus->in_handler)
        bus->freed = true;
    else
        bus_destroy(bus);
}

int bus_send(struct bus *bus, struct bytes peer, struct bytes message)
{
    if (bus->router && zmq_send(bus->socket, peer.data, peer.size, ZMQ_DONTWAIT | ZMQ_SNDMORE) < 0)
        return errno == EHOSTUNREACH ? -EAGAIN : -errno;
    if (zmq_send(bus->socket, message.data, message.size, ZMQ_DONTWAIT) < 0)
        return errno == EHOSTUNREACH ? -EAGAIN : -errno;
    return 0;
}
