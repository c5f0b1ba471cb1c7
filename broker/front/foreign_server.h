/* One foreign name server: connection, what it knows of us, and when to say more. For foreign.c alone. */
#pragma once

#include <netdb.h>
#include <systemd/sd-event.h>

#include "base/endpoint_list.h"
#include "front.h"
#include "msg/msg.h"
#include "resolve.h"
#include "wire/connection.h"

enum foreign_state {
    FOREIGN_WAITING,    /* for the next try */
    FOREIGN_RESOLVING,  /* its name is being looked up */
    FOREIGN_CONNECTING, /* to one of its addresses */
    FOREIGN_READY,      /* connected, nothing is outstanding */
    FOREIGN_ASKING,     /* requests are outstanding */
    FOREIGN_OWN,        /* it is one of this cluster's own, whom the store tells over the bus */
    FOREIGN_ENDED,      /* for foreign.c to free */
};

enum foreign_request { FOREIGN_REGISTER, FOREIGN_REGISTER_PART, FOREIGN_ASK_VERSION, FOREIGN_LEAVE };

enum { FOREIGN_ADDRESSES_MAX = 8, FOREIGN_CHANGED_MAX = 256 };

struct foreign_server {
    struct foreign_server *next;
    struct front *front;
    struct endpoint endpoint;
    char label[ENDPOINT_HOST_SIZE + ENDPOINT_PORT_SIZE + 4]; /* for people */
    enum foreign_state state;
    bool leaving; /* not in the list any more, or we stop */

    struct resolve *resolve;
    struct sockaddr_storage addresses[FOREIGN_ADDRESSES_MAX];
    unsigned address_count, address_next;
    struct connection wire;
    bool is_open;
    sd_event_source *io, *timer; /* the timer's meaning is the state's */
    int64_t backoff_ms;
    bool trouble_told; /* one line per outage */

    char addr[300], ha_addr[300]; /* ours, as it is told them */
    bool is_registered;           /* on this connection */
    bool whole;                   /* it needs the whole table, from whole_at_ms on */
    int64_t whole_at_ms, due_ms;
    char *changed[FOREIGN_CHANGED_MAX]; /* topics that it has not been told of; too many are a whole table */
    unsigned changed_count;
    struct msg_version told, asked_version;
    int told_permission, asked_permission;

    enum foreign_request asked;
    int32_t opaque, first_opaque; /* first_opaque … opaque − 1 belong to what is outstanding */
    unsigned unanswered;
    bool is_refused;
};

int foreign_server_new(struct front *front, const struct endpoint *endpoint, struct foreign_server **ret_server);
void foreign_server_free(struct foreign_server *server);
/* Something may be new: says what there is to say if it can be said now. */
void foreign_server_look(struct foreign_server *server);
void foreign_server_topic(struct foreign_server *server, struct bytes name);
/* The whole table, `after_ms` from now. */
void foreign_server_whole(struct foreign_server *server, int64_t after_ms);
void foreign_server_leave(struct foreign_server *server);
