/*
 * Modes `idle` and `idle-consumers`: many connections that do nothing, for whoever wants to know what they cost a
 * server. `idle` only connects. `idle-consumers` does what a consumer that waits for messages does: a heartbeat (ten
 * members to a group) and a pull at the end of a queue that is parked there for ten minutes. Prints one line of JSON
 * when all of them stand, holds them until its standard input ends, and reads nothing more: what servers send meanwhile
 * (notices about members) stays in the sockets.
 */
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MEMBERS_OF_A_GROUP = 10, SUSPEND_MS = 600000 };

/* The pull's frame goes out and is not waited for: an answer would mean that it was not parked. */
static int park(const struct options *o, struct connection *c, int64_t offset)
{
    char group[160];
    struct options own = *o;
    snprintf(group, sizeof(group), "%s-%u", o->group, c->index / MEMBERS_OF_A_GROUP);
    own.group = group;
    int r = pull_heartbeat(&own, c);
    if (r < 0)
        return r;
    char header[PULL_HEADER_MAX], frame[PULL_HEADER_MAX + REMOTING_FRAME_FIXED];
    pull_header_format(header, sizeof(header), &own,
                       &(struct pull_place){.queue_id = 0,
                                            .queue_offset = offset,
                                            .sys_flag = PULL_FLAG_SUBSCRIPTION | PULL_FLAG_SUSPEND,
                                            .suspend_ms = SUSPEND_MS,
                                            .opaque = OPAQUE_BASE});
    size_t size = remoting_put_header(frame, sizeof(frame), header, 0);
    ssize_t n = send(c->fd, frame, size, MSG_NOSIGNAL);
    return n < 0 ? -errno : n == (ssize_t)size ? 0 : -EIO;
}

static void hold(void)
{
    char byte;
    ssize_t n;

    do
        n = read(STDIN_FILENO, &byte, 1);
    while (n > 0 || (n < 0 && errno == EINTR));
}

int mode_idle(const struct options *o, bool consumers)
{
    struct connection *connections = calloc(o->connection_count, sizeof(*connections));
    int64_t offset = 0;
    int r = 0;

    if (!connections)
        abort();
    if (consumers)
        r = pull_query_offset(o, 0, REMOTING_GET_MAX_OFFSET, 0, &offset);
    for (unsigned i = 0; r >= 0 && i < o->connection_count; i++) {
        struct connection *c = &connections[i];
        c->index = i;
        c->fd = r = remoting_connect(&o->broker[0], o->timeout_ms);
        if (r >= 0 && consumers)
            r = park(o, c, offset);
    }
    if (r < 0) {
        fprintf(stderr, "loadgen: idle connections: %s\n", strerror(-r));
        return 1;
    }
    printf("{\"mode\":\"%s\",\"connections\":%u}\n", o->mode, o->connection_count);
    fflush(stdout);
    hold();
    return 0; /* the sockets close with the process */
}
