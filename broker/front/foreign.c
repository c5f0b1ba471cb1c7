/* The list of foreign name servers, see foreign.h. The front's one thread. Changes are noted as they come and acted upon
 * once per turn; a server that has ended is freed then, so that none is freed under its own callback. */
#include "foreign.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "catalogue.h"
#include "foreign_server.h"
#include "registration.h"

enum { WHOLE_SOON_MS = 100 /* many topics that are dropped one after the other are one table */ };

struct foreign {
    struct foreign_server *servers;
    bool stopping, is_new; /* is_new: something for the next turn */
};

/* "front broker-a/0": the first one of a broker registers it. */
static bool is_first(const struct front *front)
{
    const char *number = front->worker.name ? strrchr(front->worker.name, '/') : NULL;
    return number && strcmp(number, "/0") == 0;
}

int foreign_new(struct front *front)
{
    if (!is_first(front))
        return 0;
    front->foreign = calloc(1, sizeof *front->foreign);
    if (!front->foreign)
        return -ENOMEM;
    foreign_configure(front);
    return 0;
}

void foreign_free(struct foreign *foreign)
{
    if (!foreign)
        return;
    for (struct foreign_server *server = foreign->servers, *next; server; server = next) {
        next = server->next;
        foreign_server_free(server);
    }
    free(foreign);
}

static struct foreign_server *find(struct foreign *foreign, const struct endpoint *endpoint)
{
    struct foreign_server *server = foreign->servers;
    while (server && (server->state == FOREIGN_ENDED || !endpoint_equal(&server->endpoint, endpoint)))
        server = server->next;
    return server;
}

static bool is_listed(const struct endpoint *list, int count, const struct endpoint *endpoint)
{
    for (int i = 0; i < count; i++)
        if (endpoint_equal(&list[i], endpoint))
            return true;
    return false;
}

static void add(struct front *front, const struct endpoint *endpoint)
{
    struct foreign_server *server;
    int r = foreign_server_new(front, endpoint, &server);
    if (r < 0) {
        log_error("name server %s:%s: %s", endpoint->host, endpoint->port, strerror(-r));
        return;
    }
    server->next = front->foreign->servers;
    front->foreign->servers = server;
}

void foreign_configure(struct front *front)
{
    struct foreign *foreign = front->foreign;
    struct endpoint list[ENDPOINT_LIST_MAX];
    if (!foreign || foreign->stopping)
        return;
    int count = endpoint_list_parse(front->config.namesrv_addr, list);
    if (count < 0) {
        log_error("namesrvAddr is no list of host:port, what was is kept: %s", front->config.namesrv_addr);
        return;
    }
    for (struct foreign_server *server = foreign->servers; server; server = server->next)
        if (!is_listed(list, count, &server->endpoint))
            foreign_server_leave(server);
    for (int i = 0; i < count; i++) {
        struct foreign_server *known = find(foreign, &list[i]);
        if (known)
            known->leaving = false; /* one that is told so just now is told anew behind it */
        else
            add(front, &list[i]);
    }
    foreign->is_new = true; /* other keys of it may have changed, too */
}

void foreign_topic(struct front *front, struct bytes name)
{
    if (!front->foreign)
        return;
    for (struct foreign_server *server = front->foreign->servers; server; server = server->next)
        foreign_server_topic(server, name);
    front->foreign->is_new = true;
}

void foreign_topic_gone(struct front *front)
{
    if (!front->foreign)
        return;
    for (struct foreign_server *server = front->foreign->servers; server; server = server->next)
        foreign_server_whole(server, WHOLE_SOON_MS);
    front->foreign->is_new = true;
}

void foreign_catalogue_whole(struct front *front)
{
    if (!front->foreign)
        return;
    struct msg_version version = catalogue_topics_data_version(front->catalogue);
    for (struct foreign_server *server = front->foreign->servers; server; server = server->next)
        if (!registration_same_version(version, server->told))
            foreign_server_whole(server, 0);
    front->foreign->is_new = true;
}

static void sweep(struct foreign *foreign)
{
    for (struct foreign_server **at = &foreign->servers; *at;) {
        struct foreign_server *server = *at;
        if (server->state != FOREIGN_ENDED) {
            at = &server->next;
            continue;
        }
        *at = server->next;
        foreign_server_free(server);
    }
}

void foreign_turn(struct front *front)
{
    struct foreign *foreign = front->foreign;
    if (!foreign)
        return;
    sweep(foreign);
    if (!foreign->is_new)
        return;
    foreign->is_new = false;
    for (struct foreign_server *server = foreign->servers; server; server = server->next)
        foreign_server_look(server);
}

void foreign_leave(struct front *front)
{
    if (!front->foreign)
        return;
    front->foreign->stopping = true;
    for (struct foreign_server *server = front->foreign->servers; server; server = server->next)
        foreign_server_leave(server);
}

bool foreign_is_gone(const struct front *front)
{
    if (!front->foreign)
        return true;
    for (const struct foreign_server *server = front->foreign->servers; server; server = server->next)
        if (server->state != FOREIGN_ENDED)
            return false;
    return true;
}
