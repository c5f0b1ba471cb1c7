/* The last word on everything: takes image records in their order and keeps, per topic, group, offset and table, the one
 * that counts. What it gives back leads a reader to the same state. The journal's thread makes new journal files and
 * batches of offsets with it, without a look at the tables of the deciding thread. */
#pragma once

#include <stdbool.h>

#include "image.h"

struct journal_fold;

/* `offsets_only`: of the rest only what it does to offsets is looked at. */
int journal_fold_new(bool offsets_only, struct journal_fold **ret_fold);
void journal_fold_free(struct journal_fold *fold);
/* An image_apply; `context` is the fold. -EBADMSG: the record makes no sense. */
int journal_fold_add(void *context, enum image_type type, struct bytes payload);
/* Drops first, then each table with its version behind it. Offsets' reset marks have become offsets. */
int journal_fold_each(const struct journal_fold *fold, image_apply visit, void *context);
