/* Round trip of one message at a time: native client over shared memory beside TCP, same broker, same topic, one run.
 *     native_rtt RUNTIME_DIR BROKER HOST:PORT [COUNT [SIZE]]
 * Prints a line for each way: p50, p99, max in microseconds and the client's own CPU per message. */
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "client/pintle.h"
#include "wire/codes.h"
#include "wire/connection.h"

static const char topic[] = "native_rtt";

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void print(const char *way, int64_t *ns, size_t count, int64_t cpu_ns)
{
    qsort(ns, count, sizeof *ns, compare);
    printf("%-7s %zu messages: p50 %.2f us, p99 %.2f us, max %.2f us, client CPU %.2f us each\n", way, count,
           (double)ns[count / 2] / 1e3, (double)ns[count * 99 / 100] / 1e3, (double)ns[count - 1] / 1e3,
           (double)cpu_ns / (double)count / 1e3);
}

static void die(const char *what, int r)
{
    fprintf(stderr, "native_rtt: %s: %s\n", what, strerror(r < 0 ? -r : r));
    exit(1);
}

static void native(const char *runtime_dir, const char *broker, const char *body, size_t size, int64_t *ns, size_t count)
{
    pintle_producer *producer;
    int r = pintle_producer_open(runtime_dir, broker, "native_rtt", &producer);
    if (r < 0)
        die("attach", r);
    pintle_message message = {.topic = topic, .tags = "native", .body = body, .body_size = size, .queue_id = 0};
    pintle_receipt receipt;
    int64_t cpu_ns = 0;
    for (size_t i = 0; i < count + count / 10; i++) { /* the first tenth warms up */
        size_t place = i < count / 10 ? 0 : i - count / 10;
        if (i == count / 10)
            cpu_ns = clock_thread_cpu_ns();
        int64_t start_ns = clock_monotonic_ns();
        r = pintle_send_wait(producer, &message, &receipt, 5000000);
        ns[place] = clock_monotonic_ns() - start_ns;
        if (r < 0)
            die("send", r);
        if (receipt.code != 0) {
            fprintf(stderr, "native_rtt: the broker answered %d\n", receipt.code);
            exit(1);
        }
    }
    cpu_ns = clock_thread_cpu_ns() - cpu_ns;
    pintle_producer_close(producer);
    print("native", ns, count, cpu_ns);
}

static int connect_to(const char *address)
{
    char host[64];
    const char *colon = strrchr(address, ':');
    if (!colon || (size_t)(colon - address) >= sizeof host)
        die(address, EINVAL);
    memcpy(host, address, (size_t)(colon - address));
    host[colon - address] = '\0';
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(colon + 1))};
    inet_pton(AF_INET, host, &to.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
        die(address, errno);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static void put(struct connection *connection, const char *body, size_t size, int32_t opaque)
{
    size_t bound = frame_write_bound(256, 13);
    uint8_t *at = connection_reserve(connection, bound + size);
    struct frame_writer w;
    frame_write_request(&w, at, bound, REQUEST_SEND_MESSAGE_V2, opaque, 0, LANGUAGE_CPP);
    frame_write_text(&w, "a", bytes_of("native_rtt"));
    frame_write_text(&w, "b", bytes_of(topic));
    frame_write_text(&w, "c", bytes_of("TBW102"));
    frame_write_i64(&w, "d", 4);
    frame_write_i64(&w, "e", 0);
    frame_write_i64(&w, "f", 0);
    frame_write_i64(&w, "g", clock_realtime_ms());
    frame_write_i64(&w, "h", 0);
    frame_write_text(&w, "i", bytes_of("TAGS\x01tcp\x02"));
    frame_write_i64(&w, "j", 0);
    frame_write_bool(&w, "k", false);
    ssize_t head = frame_write_finish(&w, size);
    memcpy(at + head, body, size);
    connection_commit(connection, (size_t)head + size);
    int r = connection_flush(connection);
    if (r < 0)
        die("tcp send", r);
}

static void answer(struct connection *connection)
{
    struct frame frame;
    while (connection_next(connection, &frame) != FRAME_OK) {
        ssize_t n = connection_fill(connection);
        if (n == 0 || (n < 0 && n != -EAGAIN))
            die("tcp receive", n == 0 ? EPIPE : (int)n);
        if (n == -EAGAIN) {
            struct pollfd fd = {.fd = connection->stream.fd, .events = POLLIN};
            poll(&fd, 1, 5000);
        }
    }
    if (frame.code != RESPONSE_SUCCESS) {
        fprintf(stderr, "native_rtt: TCP: the broker answered %d\n", frame.code);
        exit(1);
    }
    connection_consume(connection, &frame);
}

static void tcp(const char *address, const char *body, size_t size, int64_t *ns, size_t count)
{
    struct connection connection;
    connection_init(&connection, connect_to(address));
    int64_t cpu_ns = 0;
    for (size_t i = 0; i < count + count / 10; i++) {
        if (i == count / 10)
            cpu_ns = clock_thread_cpu_ns();
        int64_t start_ns = clock_monotonic_ns();
        put(&connection, body, size, (int32_t)i);
        answer(&connection);
        ns[i < count / 10 ? 0 : i - count / 10] = clock_monotonic_ns() - start_ns;
    }
    cpu_ns = clock_thread_cpu_ns() - cpu_ns;
    connection_close(&connection);
    print("tcp", ns, count, cpu_ns);
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: native_rtt RUNTIME_DIR BROKER HOST:PORT [COUNT [SIZE]]\n");
        return 64;
    }
    size_t count = argc > 4 ? strtoul(argv[4], NULL, 10) : 20000, size = argc > 5 ? strtoul(argv[5], NULL, 10) : 1024;
    if (count < 100 || size == 0)
        return 64;
    int64_t *ns = calloc(count, sizeof *ns);
    char *body = malloc(size);
    memset(body, 'n', size);
    native(argv[1], argv[2], body, size, ns, count);
    tcp(argv[3], body, size, ns, count);
    free(body);
    free(ns);
    return 0;
}
