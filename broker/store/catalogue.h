/* Catalogue: what each front must know of topics, groups, members and subscriptions, as numbered records in its control
 * reply ring (msg.h). Per front one feed: encoded records in private memory, moved into the ring as room permits, so
 * that the store never waits for a reader. A front gets nothing until it has asked for a snapshot, and a snapshot waits
 * until every live front has told this store its members. Store process, one thread. */
#pragma once

#include <stdbool.h>

#include "peers.h"
#include "store.h"
#include "topics.h"

struct group;
struct member;
struct subscription;

int catalogue_new(struct catalogue **ret_catalogue);
void catalogue_free(struct catalogue *catalogue);
void catalogue_peer_added(struct store *store, struct peer *peer);
void catalogue_peer_gone(struct store *store, struct peer *peer);

/* The front wants a snapshot: now, or when every live front has replayed. */
void catalogue_ask(struct store *store, struct peer *peer);
/* Some front has replayed or is gone: look at who waits. */
void catalogue_look(struct store *store);
/* True when every live front has told its members to this store. */
bool catalogue_all_replayed(const struct store *store);

/* Real changes; each goes behind what every fed front has or will get. */
void catalogue_topic(struct store *store, const struct topic *topic);
void catalogue_group(struct store *store, const struct group *group);
void catalogue_topic_drop(struct store *store, const struct topic *topic);
void catalogue_group_drop(struct store *store, const char *group);
/* `topics`: JSON object, "" when nothing is forbidden any more. */
void catalogue_forbidden(struct store *store, const char *group, const char *topics);
void catalogue_reset(struct store *store, struct bytes group, struct bytes topic, int32_t queue_id, int64_t offset,
                     bool dropped);
void catalogue_config(struct store *store);
void catalogue_member(struct store *store, const struct member *member, bool dropped);
void catalogue_subscription(struct store *store, const char *group, const struct subscription *subscription,
                            bool dropped);

/* Moves what waits into the ring(s), up to the room kept for answers; the turn publishes. */
void catalogue_feed_peer(struct store *store, struct peer *peer);
void catalogue_feed(struct store *store);
