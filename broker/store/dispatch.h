/* Dispatch: makes consume queue entries out of log records, in batches, and makes them readable. */
#pragma once

#include "broker/format/record.h"
#include "store.h"

struct dispatch;
int dispatch_new(struct store *store, struct dispatch **ret_dispatch);
void dispatch_free(struct dispatch *dispatch);

/* One record into the entries that wait. */
int dispatch_record(struct dispatch *dispatch, const struct record *record);
/* What its queue entry says of its tags. */
int64_t dispatch_tags_code(const struct store *store, const struct record *record);
/* Writes what waits and publishes it: queues, slots, dispatched_pos = pos; wakes fronts whose polls wait for it. */
int dispatch_commit(struct dispatch *dispatch, int64_t pos);

/* Everything from dispatched_pos to `until`, out of the log's last bytes in memory where they hold it, else out of the
 * files; at most about `most` bytes. Returns 1 if there is more. */
int dispatch_log(struct dispatch *dispatch, int64_t until, const uint8_t *data, int64_t data_pos, size_t size,
                 int64_t most);
/* Walks records from `pos` to `until` without indexing them: which offsets their queues have given away. */
int dispatch_count_offsets(struct dispatch *dispatch, int64_t pos, int64_t until);
/* Store time of the last record that was indexed; 0: none yet. */
int64_t dispatch_last_store_ms(const struct dispatch *dispatch);
