/* The door for native clients. On connect a client gets its rings by one grant, and so does the store; the end of the
 * connection is the client's death notice, whatever it did to its rings. Runs in the supervisor. A client is untrusted:
 * it may only hold the connection open; whatever it sends ends it. */
#include "attach.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "contract.h"
#include "grants.h"
#include "supervisor.h"

enum {
    ATTACH_CLIENTS_MAX = 64,
    ATTACH_PEER_ID_FIRST = 1000, /* below it: fronts */
};

struct client {
    struct client *next;
    struct attach *attach;
    int fd;
    sd_event_source *source;
    struct ring_set set;
    char name[64];
};

struct attach {
    struct supervisor *supervisor;
    struct broker *broker;
    int listen_fd;
    sd_event_source *source;
    struct client *clients;
    unsigned client_count;
    uint32_t next_id; /* never used twice, so that a drop never means another client */
    char socket_name[128];
};

static void client_free(struct client *client)
{
    sd_event_source_disable_unref(client->source);
    channels_ring_set_close(&client->set);
    pn_close_p(&client->fd);
    free(client);
}

static int on_client(sd_event_source *source, int fd, uint32_t events, void *context)
{
    struct client *client = context;
    struct attach *attach = client->attach;
    struct client **link = &attach->clients;
    while (*link != client)
        link = &(*link)->next;
    *link = client->next;
    attach->client_count--;
    grants_drop_peer(attach->broker->store, client->set.peer, client->set.generation, client->name);
    log_debug("%s of %s is gone", client->name, attach->broker->config->name);
    client_free(client);
    return 0;
}

/* Takes ownership of fd. */
static int add_client(struct attach *attach, int fd)
{
    struct client *client = calloc(1, sizeof *client);
    if (!client) {
        close(fd);
        return -ENOMEM;
    }
    client->attach = attach;
    client->fd = fd;
    uint32_t id = attach->next_id++;
    snprintf(client->name, sizeof client->name, "native client %u", id);
    int fds[6];
    int r = channels_native_set_create(client->name, id, &client->set, fds);
    if (r == 0) {
        struct fd_grant grant = fd_grant_make(GRANT_RING_SET, id, 1, RING_SET_NATIVE, client->name);
        r = fd_channel_send(fd, &grant, fds, 6);
        channels_client_fds_close(fds); /* the client keeps its own; a successor of the store needs only the store's */
    }
    if (r == 0)
        r = sd_event_add_io(attach->supervisor->event, &client->source, fd, EPOLLIN | EPOLLRDHUP, on_client, client);
    if (r < 0) {
        client_free(client);
        return r;
    }
    client->next = attach->clients;
    attach->clients = client;
    attach->client_count++;
    grants_add_native(attach->broker->store, &client->set, client->name);
    return 0;
}

static int on_connect(sd_event_source *source, int listen_fd, uint32_t events, void *context)
{
    struct attach *attach = context;
    int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return 0;
    if (attach->client_count >= ATTACH_CLIENTS_MAX) {
        log_warning("%s: a native client was refused: there are %d", attach->broker->config->name, ATTACH_CLIENTS_MAX);
        close(fd);
        return 0;
    }
    int r = add_client(attach, fd);
    if (r < 0)
        log_error("%s: a native client could not be attached: %s", attach->broker->config->name, strerror(-r));
    return 0;
}

int attach_create(struct supervisor *supervisor, struct broker *broker, struct attach **ret_attach,
                  struct failure *failure)
{
    struct attach *attach = calloc(1, sizeof *attach);
    if (!attach)
        return failure_set(failure, EXIT_CODE_IO, "out of memory");
    *attach =
        (struct attach){.supervisor = supervisor, .broker = broker, .listen_fd = -1, .next_id = ATTACH_PEER_ID_FIRST};
    snprintf(attach->socket_name, sizeof attach->socket_name, CONTRACT_ATTACH_SOCKET, broker->config->name);
    int r = runtime_dir_listen(supervisor->runtime_dir, attach->socket_name, &attach->listen_fd);
    if (r == 0)
        r = sd_event_add_io(supervisor->event, &attach->source, attach->listen_fd, EPOLLIN, on_connect, attach);
    if (r < 0) {
        attach_free(attach);
        return failure_set(failure, EXIT_CODE_IO, "cannot listen on %s/%s: %s", supervisor->cluster->runtime_dir,
                           attach->socket_name, strerror(-r));
    }
    *ret_attach = attach;
    return 0;
}

void attach_free(struct attach *attach)
{
    if (!attach)
        return;
    while (attach->clients) {
        struct client *client = attach->clients;
        attach->clients = client->next;
        client_free(client);
    }
    sd_event_source_disable_unref(attach->source);
    if (attach->listen_fd >= 0)
        runtime_dir_unlink(attach->supervisor->runtime_dir, attach->socket_name);
    pn_close_p(&attach->listen_fd);
    free(attach);
}

int attach_each(struct attach *attach, int (*visit)(const struct ring_set *set, const char *name, void *context),
                void *context)
{
    int r = 0;
    for (struct client *client = attach ? attach->clients : NULL; client && r >= 0; client = client->next)
        r = visit(&client->set, client->name, context);
    return r;
}
