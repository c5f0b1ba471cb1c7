/* Delayed messages: each level has its queue in SCHEDULE_TOPIC_XXXX, whose entries carry the time of delivery; what is due
 * is stored once more, in its real topic. Exactly once, whatever dies (METADATA.md, "Delayed messages"). Deciding thread of
 * the store; files are read by the thread of delay_reader.c alone. */
#pragma once

#include "data_version.h"
#include "json/json_body.h"
#include "send.h"
#include "store.h"

#include <jansson.h>

#define DELAY_TOPIC "SCHEDULE_TOPIC_XXXX"
/* Whose the ledger entries of deliveries are: no peer has this number; the generation is the level, the ring position the
 * offset in its queue. */
#define DELAY_PEER UINT32_MAX

/* The level that these properties ask for, at most the highest; 0: none. */
unsigned delay_level(const struct store_config *config, struct bytes delay);

/* Turns. Puts copies of what is due into the batch, a slice of them; before anything else is in it. */
void delay_collect(struct store *store, struct send *send, struct send_batch *batch);
/* The batch is in the log and applied, or (`failed`) is not. */
void delay_batch_done(struct store *store, bool failed);
/* An entry comes into the level's queue. */
void delay_expect(struct delay *delay, unsigned level, int64_t deliver_ms);
/* Twice a second while anything moves: how far everything is safe on the disk. */
void delay_tick(struct store *store);

/* Start and stop. */
int delay_new(struct store *store, struct delay **ret_delay);
void delay_free(struct delay *delay);
int delay_topic_ensure(struct store *store);
/* Behind the log's recovery. `trusted_pos`: of recover_trusted_pos, INT64_MAX after a clean stop. */
int delay_recover(struct store *store, bool warm, int64_t trusted_pos);
int delay_start(struct store *store);
/* Everything is on the disk, nothing more is delivered. */
void delay_stop(struct store *store);

/* Metadata. */
int delay_apply_image(struct store *store, struct bytes payload);
int delay_apply_journal(struct store *store, struct bytes payload);
void delay_write_image(const struct delay *delay, struct image *image);
void delay_print(struct store *store, struct text *text);
int delay_load(struct store *store, json_t *json);
struct data_version delay_version(const struct delay *delay);
