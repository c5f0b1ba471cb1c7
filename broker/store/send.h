/* Takes sends: judges a request, and encodes it behind the others of the batch that goes to the log next. */
#pragma once

#include "encode.h"
#include "msg/msg_check.h"
#include "peers.h"
#include "refusal.h"
#include "store.h"

enum {
    SEND_BATCH_BYTES = 1 << 20,     /* a batch is closed when it has this much (kill -9 never cut such a write) */
    SEND_BATCH_REQUESTS = 1024,
    SEND_REQUEST_BYTES = 16 << 20,  /* one request's records at most */
};

/* The batch being made. Lies within one file of the log. */
struct send_batch {
    uint8_t *data;
    size_t used;
    int64_t base_pos;
    unsigned requests; /* entries put into the ledger, not yet part of it */
    unsigned messages;
    bool closed;    /* nothing more goes in */
    bool ends_file; /* its last record is a blank one */
    int64_t store_ms;
};

struct send;
int send_new(struct store *store, struct send **ret_send);
void send_free(struct send *send);

enum send_taken {
    SEND_TAKEN,   /* in the batch, or refused: its ledger entry is put either way */
    SEND_NO_ROOM, /* peer->wanted_room says how much its answer needs */
    SEND_FULL,    /* the batch is closed: again with the next one */
};
void send_batch_begin(struct send *send, struct send_batch *batch);
enum send_taken send_take(struct send *send, struct peer *peer, const struct ring_view *view, struct send_batch *batch);
/* A delayed message that is due, as its record says: once more, in its real topic. False: the batch is closed and it is not
 * in it. True also for one that cannot be delivered, which is said. */
bool send_deliver(struct send *send, struct send_batch *batch, unsigned level, int64_t queue_offset, int64_t log_pos,
                  struct bytes record);
/* The batch is through; its memory may be given back. */
void send_batch_trim(struct send_batch *batch);
int send_batch_new(struct send_batch *batch);
void send_batch_free(struct send_batch *batch);
