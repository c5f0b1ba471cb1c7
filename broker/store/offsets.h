/* Consumer offsets: topic@group → queue → next offset to consume. A commit is in the image before it is answered; the
 * file consumerOffset.json follows every flushConsumerOffsetInterval. Going backwards and −1 are stored as they come
 * (Apache does). Store process, one thread. */
#pragma once

#include <stdint.h>

#include "base/bytes.h"
#include "data_version.h"
#include "image.h"
#include "msg/msg.h"
#include "store.h"

int offsets_new(struct offsets **ret_offsets);
void offsets_free(struct offsets *offsets);
/* Before the first one: about how many are to come. */
void offsets_expect(struct offsets *offsets, uint64_t count);

/* UPDATE_CONSUMER_OFFSET's rules; a response code. */
int32_t offsets_commit(struct store *store, struct bytes group, struct bytes topic, int32_t queue_id, int64_t offset,
                       const char **ret_remark);
enum offset_guess { OFFSET_NO_GUESS, OFFSET_GUESS, OFFSET_GUESS_ALSO_EMPTY };
/* QUERY_CONSUMER_OFFSET's rules. Where nothing is stored and the caller lets us guess, 0 is the answer only while the
 * queue has messages (or may be empty), it and the log still begin at 0 and the log is younger than OFFSETS_YOUNG_LOG: a
 * new group then reads all of it. */
int32_t offsets_query(struct store *store, struct bytes group, struct bytes topic, int32_t queue_id, enum offset_guess guess,
                      int64_t *ret_offset, const char **ret_remark);
#define OFFSETS_YOUNG_LOG                                                                                              \
    (8ll << 30) /* Apache asks whether offset 0 is within 40 % of memory; a fixed size is a rule                       \
                   that does not depend on the machine */

/* As loaded from a file or set by recovery: no rules, no image. */
void offsets_set(struct offsets *offsets, struct bytes topic_at_group, int32_t queue_id, int64_t offset);
/* For each stored offset; the callback returns the offset to keep. */
void offsets_each(struct offsets *offsets,
                  int64_t (*visit)(const char *topic_at_group, int32_t queue_id, int64_t offset, void *context),
                  void *context);

/* In memory only; the topic's or group's image record says it. */
void offsets_forget_topic(struct offsets *offsets, struct bytes topic);
void offsets_forget_group(struct offsets *offsets, struct bytes group);
/* Groups that have offsets of the topic; the callback changes nothing here. */
void offsets_each_group(struct offsets *offsets, struct bytes topic,
                        void (*visit)(const char *group, void *context), void *context);

/* Server-side reset: the offset is stored and marked. While the mark is there, commits are passed over; it goes when a
 * pull was answered with it. A response code. */
int32_t offsets_reset(struct store *store, struct bytes group, struct bytes topic, int32_t queue_id, int64_t offset,
                      const char **ret_remark);
void offsets_reset_seen(struct store *store, struct bytes group, struct bytes topic, int32_t queue_id, int64_t offset);
/* For each mark. */
void offsets_each_reset(struct offsets *offsets,
                        void (*visit)(const char *topic_at_group, int32_t queue_id, int64_t offset, void *context),
                        void *context);
/* `to` gets what `from` has of the topic ("": of every topic that is there). A response code. */
int32_t offsets_clone(struct store *store, struct bytes from, struct bytes to, struct bytes topic,
                      const char **ret_remark);
/* MSG_OFFSET_LIST: the whole payload of its answer but token and position, in `payload` (MSG_OFFSET_LIST_MAX bytes, its
 * size is returned). It looks at a bounded number of entries; the asker comes again. */
size_t offsets_list(struct store *store, const struct msg_offset_list *list, struct bytes group, struct bytes topic,
                    struct bytes after, uint8_t *payload);

int offsets_apply_image(struct store *store, enum image_type type, struct bytes payload);
/* topic@group of an offset's or reset's record; empty if it makes no sense. */
struct bytes offsets_image_key(struct bytes payload, int32_t *ret_queue_id);
void offsets_write_image(struct offsets *offsets, struct image *image);
struct data_version offsets_version(const struct offsets *offsets);
void offsets_set_version(struct offsets *offsets, const struct data_version *version);
/* Offsets never point beyond a queue's end after the log lost its tail. */
void offsets_clamp(struct store *store);
