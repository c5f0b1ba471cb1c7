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
    uint64_t generation; /* of the peer's process; its connection ids have 24 bits of it */
    bool native;         /* untrusted: copy before check */
    bool replayed;       /* has told this store its members (MSG_REPLAY_END) */
    bool has_data, has_control;
    struct ring_reader data_in, control_in;
    struct ring_writer data_out, control_out;
    struct interest *interest; /* NULL until granted, and for native peers */
    struct catalogue_feed *feed; /* metadata half's */
    struct relay_queue *relays;  /* relay.c's */
    char name[96];

    /* log half's */
    size_t answers_promised; /* bytes of the data reply ring that answers under way will take */
    size_t wanted_room;      /* the next request waits for this much room for its answer; 0: it does not */
    bool broken;             /* nonsense in a ring: dropped at the end of the turn */
    bool to_wake;            /* a queue grew that it has interest in */
    int64_t predecessor_answered; /* requests up to it have answers that lay unread in the ring when this store began */
    bool known_to_metadata;
    sd_event_source *sources[4];
};

struct peers {
    struct peer **list;
    unsigned count;
    bool announced; /* the metadata half knows them */
};

struct peer *peers_find(struct peers *peers, uint32_t id);
/* The peer of this generation, or NULL. */
struct peer *peers_find_alive(struct peers *peers, uint32_t id, uint64_t generation);
/* A grant of GRANT_RING_SET or GRANT_INTEREST; takes the descriptors. A peer of an older generation under the same id goes
 * first. */
int peers_grant_rings(struct store *store, const struct fd_grant *grant, const int *fds);
int peers_grant_interest(struct store *store, const struct fd_grant *grant, int fd);
void peers_drop(struct store *store, uint32_t id, uint64_t generation);
/* Once the metadata half runs: it learns of peers from now on, and of those that are there. */
void peers_announce(struct store *store);
void peers_free(struct store *store);
/* Flag of an answer's ring record: it overtook others. */
enum { PEER_ANSWER_EARLY = 1 };
/* Position of the last request whose answer lies unread in the data reply ring; −1: none. Early ones do not count. */
int64_t peer_last_answered(const struct peer *peer);
/* Publishes what was reserved, control before data, and wakes sleeping readers. */
void peers_publish(struct peers *peers);
/* Answers are reserved and written by whoever serves the request; the turn publishes and wakes, control before data. */
void peer_answer(struct peer *peer, uint64_t token, uint64_t request_pos, int32_t code, int64_t value,
                 const char *remark); /* MSG_ANSWER in the control reply ring; nothing if token is 0 */
