/* Answers that wait for the metadata journal: what an administrator asked for is answered when it is as safe as METADATA.md
 * promises, and so are messages for whose sake a topic was made. Whatever waits is let go when the journal fails, or after
 * HELD_MAX_MS. Deciding thread. While the journal does not run (tests, the start) nothing waits. */
#pragma once

#include "peers.h"
#include "store.h"

enum { HELD_MAX_MS = 3000 };

struct held_answers;

int held_answers_new(struct store *store, struct held_answers **ret_held);
void held_answers_free(struct held_answers *held);

/* Everything that the image promises so far is in the journal. */
bool held_answers_are_due(struct store *store);
struct held_answer {
    struct peer *peer;
    uint64_t token, request_pos;
    bool anyway; /* it holds also if the journal fails: somebody's heartbeat */
    const char *remark; /* of success; copied */
};
/* Keeps it until then. */
void held_answers_add(struct store *store, const struct held_answer *answer);
/* Each turn: tells the journal what is new, answers what is due. True: there were answers. */
bool held_answers_turn(struct store *store);
void held_answers_drop_peer(struct held_answers *held, const struct peer *peer);
/* Control requests from here on may be needed by a successor; UINT64_MAX: none is. */
uint64_t held_answers_release_pos(const struct held_answers *held, const struct peer *peer);

/* A batch of messages from `base_pos` of the log on was taken, and topics may have been made for it. */
void held_answers_batch(struct store *store, int64_t base_pos);
/* Messages that end behind it are not answered yet. INT64_MAX: none waits. */
int64_t held_answers_stable_pos(struct store *store);
bool held_answers_any(const struct held_answers *held);
