/* Damage that readers come upon: counted on the board, and named once in the log. */
#pragma once

#include "read_log.h"

struct damage;
struct damage *damage_new(void);
void damage_free(struct damage *damage);

enum damage_verdict {
    DAMAGE_LOST = 1, /* pass it over */
    DAMAGE_WAIT,     /* the store makes the entry again: look anew in a moment */
};
/* An entry of a queue does not lead to its message, or the message is not as it was written: `check` is not READ_GOOD. It
 * is not delivered so. */
enum damage_verdict damage_found(struct front *front, const struct queue_ref *queue, int64_t offset,
                                 const struct queue_entry *entry, enum read_check check);
/* A record that was asked for by its position. Front's thread, as all of this. */
void damage_record(struct front *front, int64_t pos);
