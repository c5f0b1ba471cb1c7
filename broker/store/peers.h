/* Peers: the fronts and native clients of this store, each with its rings. Grants add them, GRANT_RING_DROP or a broken
 * ring takes them away. The table is walked each turn; a peer's index may change, its id and generation do not. */
#pragma once

#include "shm/queue_table.h"
#include "shm/ring.h"
#include "store.h"

enum {
    PEER_CONTROL_ANSWER_ROOM = 64 * 1024, /* kept free in a control reply ring for answers: the catalogue stops there */
};

struct peer {
    uint32_t id;
    uint64_t generation; /* of the peer's process; upper half of its connection ids */
    bool native;         /* untrusted: copy before check */
    bool replayed;       /* has told this store its members (MSG_REPLAY_END) */
    bool has_data, has_control;
    struct ring_reader data_in, control_in;
    struct ring_writer data_out, control_out;
    struct interest *interest; /* NULL until granted, and for native peers */
    struct catalogue_feed *feed; /* metadata half's */
    char name[96];
};

struct peers {
    struct peer **list;
    unsigned count;
};

struct peer *peers_find(struct peers *peers, uint32_t id);
/* Answers are reserved and written by whoever serves the request; the turn publishes and wakes, control before data. */
void peer_answer(struct peer *peer, uint64_t token, uint64_t request_pos, int32_t code, int64_t value,
                 const char *remark); /* MSG_ANSWER in the control reply ring; nothing if token is 0 */
