/* The metadata half as the log half sees it. */
#pragma once

#include "peers.h"
#include "shm/ring.h"
#include "store.h"

/* Before log recovery: attaches the image, loads topics, groups, offsets and locks from it (warm) or from config/ JSON
 * files (cold), makes the system topics. `image_fd` is owned by the callee. */
int metadata_open(struct store *store, int image_fd, bool warm);
/* After log recovery: starts timers (JSON files, leases, registration) and the bus to the name servers. */
int metadata_start(struct store *store);
/* On stop: unregisters, writes every file. */
void metadata_stop(struct store *store);
void metadata_free(struct store *store);

/* One checked record of a control ring; applied and answered before return. Idempotent: a successor may run it again.
 */
void metadata_take(struct store *store, struct peer *peer, const struct ring_view *view);
void metadata_peer_added(struct store *store, struct peer *peer);
/* Drops the peer's members (and so their locks) and its catalogue feed. */
void metadata_peer_gone(struct store *store, struct peer *peer);
/* Each turn, before rings are published: moves waiting catalogue records into control reply rings as room permits. */
void metadata_feed_catalogue(struct store *store);
/* Answers that wait for the metadata journal (METADATA.md, "What is promised"). Each turn, before rings are published:
 * posts what is due; true: something was. */
bool metadata_answer_held(struct store *store);
/* Bytes of the peer's control ring before it are needed no more, also by a successor. */
uint64_t metadata_release_pos(const struct store *store, const struct peer *peer);
/* A batch was taken whose first record will stand at `base_pos`: topics may have been made for it. */
void metadata_batch_taken(struct store *store, int64_t base_pos);
/* Sends whose records end behind it are not to be answered yet. */
int64_t metadata_stable_pos(struct store *store);
bool metadata_holds_answers(const struct store *store);
/* After a cold recovery: topics that were dropped are forgotten for good (new records may stand where theirs did), and
 * consumer offsets never point beyond a queue's end. */
void metadata_clamp_offsets(struct store *store);
