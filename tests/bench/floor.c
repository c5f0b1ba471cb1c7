/*
 * floor: the least that any broker must do for a send over TCP, as the lower bound in the benchmark's table. Parses the
 * frame's fixed part, finds the opaque id in the JSON header, copies the body behind the last one into a mapped file,
 * writes a reply that is fixed but for that id. One process, one thread, one epoll. No topics, no records, no index, no
 * durability: it is a floor, not a broker.
 *
 *   floor --dir DIR [--port N]     prints "PORT\n" when it listens, ends on SIGTERM
 *
 * The file (64 MiB, begun again at its end) is populated beforehand, so that page faults are no part of the floor.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    FILE_SIZE = 64 * 1024 * 1024,
    IN_SIZE = 4 * 1024 * 1024,
    OUT_SIZE = 256 * 1024,
    FRAME_FIXED = 8,
    EVENTS_PER_TURN = 64,
};

struct connection {
    int fd;
    size_t in_len;
    char in[IN_SIZE];
};

static const char reply_header[] =
    "{\"code\":0,\"extFields\":{\"MSG_REGION\":\"DefaultRegion\",\"TRACE_ON\":\"true\",\"msgId\":"
    "\"7F00000100002A9F0000000000000000\",\"queueId\":\"0\",\"queueOffset\":\"0\"},\"flag\":1,\"language\":\"JAVA\","
    "\"opaque\":OOOOOOOOOO,\"version\":479}";

static char reply[FRAME_FIXED + sizeof(reply_header)];
static size_t reply_len, reply_opaque_at;
static char *file_map;
static size_t file_pos;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint32_t read_be32(const char *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof(v));
    return ntohl(v);
}

static void build_reply(void)
{
    size_t header_len = sizeof(reply_header) - 1;
    uint32_t words[2] = {htonl((uint32_t)(4 + header_len)), htonl((uint32_t)header_len)};

    memcpy(reply, words, sizeof(words));
    memcpy(reply + FRAME_FIXED, reply_header, header_len);
    reply_len = FRAME_FIXED + header_len;
    reply_opaque_at = (size_t)(strstr(reply + FRAME_FIXED, "OOOOOOOOOO") - reply);
}

static void map_file(const char *dir)
{
    char path[4096];

    snprintf(path, sizeof(path), "%s/floor.data", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, FILE_SIZE) < 0)
        die(path);
    file_map = mmap(NULL, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (file_map == MAP_FAILED || madvise(file_map, FILE_SIZE, MADV_POPULATE_WRITE) < 0)
        die(path);
    close(fd);
}

static void keep_body(const char *body, size_t body_len)
{
    if (file_pos + body_len > FILE_SIZE)
        file_pos = 0;
    memcpy(file_map + file_pos, body, body_len);
    file_pos += body_len;
}

/* Serves one whole frame; the reply goes to out. Returns the frame's size, 0 if it is not whole, -1 if it is none. */
static ssize_t serve_frame(const char *in, size_t in_len, char *out)
{
    if (in_len < FRAME_FIXED)
        return 0;
    size_t frame_len = read_be32(in), header_len = read_be32(in + 4) & 0xffffff;
    if (frame_len + 4 > IN_SIZE || header_len + 4 > frame_len)
        return -1;
    if (in_len < frame_len + 4)
        return 0;
    const char *opaque = memmem(in + FRAME_FIXED, header_len, "\"opaque\":", 9);
    const char *header_end = in + FRAME_FIXED + header_len;
    if (!opaque || header_end - opaque < 9 + 10)
        return -1;
    keep_body(header_end, frame_len - 4 - header_len);
    memcpy(out, reply, reply_len);
    memcpy(out + reply_opaque_at, opaque + 9, 10); /* the load generator's ids have ten digits */
    return (ssize_t)frame_len + 4;
}

static void send_all(int fd, const char *p, size_t len)
{
    while (len > 0) { /* blocking: one generator that always reads cannot make it wait long */
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        p += n;
        len -= (size_t)n;
    }
}

/* False when the connection is over. */
static int serve(struct connection *c)
{
    static char out[OUT_SIZE];
    size_t pos = 0, out_len = 0;
    ssize_t n = recv(c->fd, c->in + c->in_len, IN_SIZE - c->in_len, MSG_DONTWAIT);

    if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EINTR);
    c->in_len += (size_t)n;
    for (;;) {
        ssize_t size = serve_frame(c->in + pos, c->in_len - pos, out + out_len);
        if (size < 0)
            return 0;
        if (size == 0)
            break;
        pos += (size_t)size;
        out_len += reply_len;
        if (out_len + reply_len > OUT_SIZE) {
            send_all(c->fd, out, out_len);
            out_len = 0;
        }
    }
    send_all(c->fd, out, out_len);
    c->in_len -= pos;
    memmove(c->in, c->in + pos, c->in_len);
    return 1;
}

static int listen_on(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t address_len = sizeof(address);
    const int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 128) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &address_len) < 0)
        die("listen");
    printf("%u\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static void accept_one(int epoll_fd, int listen_fd)
{
    const int on = 1;
    struct connection *c = malloc(sizeof(*c));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};

    if (!c)
        die("malloc");
    c->in_len = 0;
    c->fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
    if (c->fd < 0) {
        free(c);
        return;
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event) < 0)
        die("epoll_ctl");
}

int main(int argc, char **argv)
{
    const char *dir = NULL;
    unsigned long port = 0;

    for (int i = 1; i + 1 < argc; i += 2)
        if (strcmp(argv[i], "--dir") == 0)
            dir = argv[i + 1];
        else if (strcmp(argv[i], "--port") == 0)
            port = strtoul(argv[i + 1], NULL, 10);
    if (!dir || port > 65535) {
        fprintf(stderr, "usage: floor --dir DIR [--port N]\n");
        return 64;
    }
    build_reply();
    map_file(dir);
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC), listen_fd = listen_on((uint16_t)port);
    struct epoll_event events[EVENTS_PER_TURN], event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listen_fd, &event) < 0)
        die("epoll");
    for (;;) {
        int n = epoll_wait(epoll_fd, events, EVENTS_PER_TURN, -1);
        if (n < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (!c)
                accept_one(epoll_fd, listen_fd);
            else if (!serve(c)) {
                close(c->fd);
                free(c);
            }
        }
    }
}
