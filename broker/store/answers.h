/* Answers to sends, made from ledger entries and the records in the log: so a successor makes the same ones. */
#pragma once

#include "send.h"

struct answers;
int answers_new(struct store *store, struct answers **ret_answers);
void answers_free(struct answers *answers);

/* After a restart: room in reply rings was promised for what is in the ledger; requests whose answers lie unread in a ring
 * are not answered again. */
void answers_resume(struct answers *answers);

/* Posts answers to applied entries whose records lie before `stable_pos`, and publishes all rings; those that do not wait for
 * the disk need only `known_pos`. Who has waited syncFlushTimeout is told so. `batch` (may be NULL) holds the log's last
 * bytes. Returns how many answers were given. */
unsigned answers_post(struct answers *answers, int64_t stable_pos, int64_t known_pos, const struct send_batch *batch);
