/* Route of a topic, asked from the name servers as every client does it. */
#pragma once

#include <stdbool.h>

struct route_queue {
    char broker[128];
    char address[128]; /* of the broker's master */
    int queue_id;
};

struct route {
    struct route_queue *queues;
    unsigned count;
};

/* `namesrvs`: "host:port;host:port", tried in order. Queues that can be written (for_write) or read. A topic that nobody
 * knows yet: the route of TBW102 for writing (auto creation), -ENOENT for reading. `ret_error` is one line (malloc'ed). */
int route_find(const char *namesrvs, const char *topic, bool for_write, struct route *ret_route, char **ret_error);
void route_free(struct route *route);
