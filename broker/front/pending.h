/* Pending: requests that the store has not answered yet. The token of a request is an index into this table and the use
 * of that entry; an answer whose token is not the entry's current use is a second one from a restarted store and is
 * dropped. Nothing here notices a store's death: what is outstanding simply waits for the successor. */
#pragma once

#include "connections.h"

enum pending_kind {
    PENDING_SEND = 1,
    PENDING_SEND_BACK,    /* a send whose answer is a code and a remark */
    PENDING_HEARTBEAT,
    PENDING_PLAIN,        /* the answer is a code and a remark */
    PENDING_OFFSET_QUERY, /* … and an offset */
    PENDING_LOCK,         /* extra: the queues asked for */
    PENDING_ADMIN,        /* extra: the job, which goes on */
};

struct pending_request {
    struct channel_ref channel;
    int32_t opaque;
    uint8_t kind; /* enum pending_kind */
    uint8_t flags;
    uint16_t reserved;
    int64_t since_ms; /* of a send: when it came (monotonic) */
    void *extra; /* malloc'ed; freed by whoever takes the request */
};

enum { PENDING_MAX = 1 << 20 };

struct pending *pending_new(void);
void pending_free(struct pending *pending);
/* 0 if the table is full. Never returns token 0 otherwise. */
uint64_t pending_add(struct pending *pending, const struct pending_request *request);
/* Takes the request out of the table; false if nobody waits for this token. */
bool pending_take(struct pending *pending, uint64_t token, struct pending_request *ret_request);
/* When the oldest of this kind came; 0: there is none. A walk over the table. */
int64_t pending_oldest_ms(const struct pending *pending, enum pending_kind kind);
unsigned pending_count(const struct pending *pending);
