/* Consume queue entries that do not lead to their messages, as a front has found, are made again from the log while the broker
 * serves. The answer is the file itself: the entry leads to its message now, or says QUEUE_TAGS_LOST. */
#pragma once

#include "base/bytes.h"
#include "store.h"

struct queue_mend;

int queue_mend_new(struct store *store, struct queue_mend **ret_mend);
void queue_mend_free(struct queue_mend *mend);
/* MSG_QUEUE_MEND. One more than can wait is dropped: fronts ask again. */
void queue_mend_ask(struct queue_mend *mend, struct bytes topic, int32_t queue_id, int64_t queue_offset);
/* One slice; false: nothing to do. */
bool queue_mend_run(struct queue_mend *mend);
