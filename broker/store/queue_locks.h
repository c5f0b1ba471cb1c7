/* Queue locks of orderly consumers: (group, topic, queue) belongs to one client id until its lease ends (60 s, renewed
 * by its owner) or the client leaves the group. In the image with the lease's end on the monotonic clock, so that a
 * successor knows them to the millisecond. Store process, one thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "image.h"
#include "store.h"

enum { QUEUE_LOCK_LEASE_MS = 60000 };

int queue_locks_new(struct queue_locks **ret_locks);
void queue_locks_free(struct queue_locks *locks);

/* Takes or renews; true if `client_id` holds the queue now. False also when the image has no room. */
bool queue_locks_take(struct store *store, struct bytes client_id, struct bytes group, struct bytes topic,
                      int32_t queue_id, int64_t now_ms);
/* Only the owner's word counts. */
void queue_locks_release(struct store *store, struct bytes client_id, struct bytes group, struct bytes topic,
                         int32_t queue_id);
/* The client has left the group: all its locks there are free at once. */
void queue_locks_client_gone(struct store *store, struct bytes group, struct bytes client_id);
/* Every front has replayed: locks of clients that are in no group any more are free. */
void queue_locks_release_absent(struct store *store);
/* Does anybody hold an unexpired lock of this group? */
bool queue_locks_group_locked(const struct queue_locks *locks, struct bytes group, int64_t now_ms);
/* Forgets ended leases. */
void queue_locks_sweep(struct queue_locks *locks, int64_t now_ms);

int queue_locks_apply_image(struct store *store, enum image_type type, struct bytes payload);
void queue_locks_write_image(struct queue_locks *locks, struct image *image);
