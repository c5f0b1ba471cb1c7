/*
 * Mode `first-ack`: what a client does that starts together with the cluster. Asks the name server for a route and
 * sends one message to the master it names, again and again a millisecond apart, until a message is acknowledged;
 * prints the monotonic time of that acknowledgement. Whoever started the cluster has the other end of the interval.
 */
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { RETRY_NS = 1000 * 1000, STEP_TIMEOUT_MS = 2000 };

static int send_one(const struct options *o, const struct sockaddr_in *master)
{
    static const char body[1024];
    char header[1024], buffer[16 * 1024];
    struct frame frame;

    int fd = remoting_connect(master, STEP_TIMEOUT_MS);
    if (fd < 0)
        return fd;
    send_header_format(header, sizeof(header), o, OPAQUE_BASE);
    int r = remoting_call(fd, header, body, sizeof(body), buffer, sizeof(buffer), &frame);
    close(fd);
    if (r >= 0 && (frame.code != REMOTING_SUCCESS || !frame.has_message_id))
        r = -EAGAIN;
    return r;
}

int mode_first_ack(const struct options *o)
{
    const struct timespec pause = {0, RETRY_NS};
    struct sockaddr_in namesrv, master;
    int64_t begin_ns = clock_now_ns(CLOCK_MONOTONIC), route_ns = 0;
    unsigned attempts = 0;
    int r = remoting_parse_address(o->namesrv, &namesrv);

    while (r != -EINVAL) {
        attempts++;
        r = remoting_find_masters(&namesrv, o->topic, STEP_TIMEOUT_MS, &master, 1);
        if (r >= 0) {
            if (route_ns == 0)
                route_ns = clock_now_ns(CLOCK_MONOTONIC);
            r = send_one(o, &master);
        }
        int64_t now_ns = clock_now_ns(CLOCK_MONOTONIC);
        if (r >= 0) {
            printf("{\"mode\":\"first-ack\",\"attempts\":%u,\"route_ns\":%lld,\"ack_ns\":%lld}\n", attempts,
                   (long long)route_ns, (long long)now_ns);
            return 0;
        }
        if (now_ns - begin_ns > (int64_t)o->timeout_ms * 1000000)
            break;
        nanosleep(&pause, NULL);
    }
    fprintf(stderr, "loadgen: no acknowledged message from %s after %u attempts: %s\n", o->namesrv, attempts,
            strerror(-r));
    return 1;
}
