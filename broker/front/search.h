/* Questions about queues: max and min offset (30, 31) from the queue table; offset by time and earliest store time (29,
 * 32) by a helper thread, because they read old records. */
#pragma once

#include "reply.h"

int search_max_offset(struct front *front, struct channel *channel, const struct frame *frame);
int search_min_offset(struct front *front, struct channel *channel, const struct frame *frame);
int search_by_time(struct front *front, struct channel *channel, const struct frame *frame);
int search_earliest_time(struct front *front, struct channel *channel, const struct frame *frame);

/* The search itself; opens its own files, any thread. Store time of the message at an offset, or −1. */
int64_t search_record_time(const struct front_config *config, int64_t pos); /* of the record there */
int64_t search_store_time(const struct front_config *config, const char *topic, int32_t queue_id, int64_t offset);
/* In [min, max): lower = first message stored at or after `time_ms` (max if none), upper = last one stored at or
 * before. */
int64_t search_offset(const struct front_config *config, const char *topic, int32_t queue_id, int64_t min, int64_t max,
                      int64_t time_ms, bool upper);
