/* Memory, rings and listening sockets. The supervisor makes them, keeps the descriptors over the death of any worker,
 * and never looks inside. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "failure.h"
#include "fd/fd_channel.h"
#include "shm/ring.h"

struct ring_set {
    enum ring_set_role role;
    uint32_t peer; /* id */
    uint64_t generation;
    struct ring_fds request, reply;
    bool made;
};

int channels_ring_set_create(enum ring_set_role role, const char *peer_name, uint32_t peer, uint64_t generation,
                             struct ring_set *ret_set);
/* For a native client: the bells that the store rings are sockets, of which the set holds the store's ends and
 * `ret_client_fds` the client's: the six descriptors of its grant, of which channels_client_fds_close closes the
 * client's own. */
int channels_native_set_create(const char *peer_name, uint32_t peer, struct ring_set *ret_set, int ret_client_fds[6]);
void channels_client_fds_close(int client_fds[6]);
void channels_ring_set_close(struct ring_set *set);
/* The six descriptors in grant order. */
void channels_ring_set_fds(const struct ring_set *set, int ret_fds[6]);

/* What a broker's processes share; outlives all of them. */
struct broker_memory {
    int queue_table, queue_table_readonly, ledger, image;
};
int channels_broker_memory_create(const char *broker, struct broker_memory *ret_memory);
void channels_broker_memory_close(struct broker_memory *memory);

enum { CHANNELS_MAIN = 0, CHANNELS_VIP = 1, CHANNELS_VIP_DISTANCE = 2 };

/* A listening socket, inherited or made; *port 0 takes a free one and tells it. `who` is for the failure's text. */
int channels_listen(const char *who, const char *address, int *port, int *ret_fd, struct failure *failure);
/* Main port and the VIP port two below it. */
int channels_listen_pair(const char *who, const char *address, int *port, int ret_fds[2], struct failure *failure);

/* A sealed memfd with this text. */
int channels_text(const char *name, const char *text, int *ret_fd);
