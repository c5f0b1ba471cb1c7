/* The index of keys: made on a thread of its own, behind dispatch. The deciding thread hands over hashes of keys; whatever
 * it cannot hand over (a start, a full disk, a slow one) the thread reads in the log. Apache's files, FORMAT.md. */
#pragma once

#include "checkpoint.h"
#include "flush.h"
#include "broker/format/properties.h"
#include "broker/format/record.h"
#include "store.h"

struct index;

/* How much of what a predecessor left can be believed. */
enum index_trust {
    INDEX_TRUST_ALL,    /* it stopped cleanly, or only it died: its pages are those of the kernel */
    INDEX_TRUST_SYNCED, /* what the checkpoint says is on the disk */
};

/* NULL in *ret_index if messageIndexEnable is false. The files are looked at by the thread. */
int index_start(struct store *store, enum index_trust trust, const struct checkpoint *checkpoint, struct flush *flush,
                struct index **ret_index);
/* Finishes what was handed over, within a time, and hands the file to be synced. NULL is accepted. Returns whether the index
 * holds everything. */
bool index_stop(struct index *index);

/* Deciding thread; NULL is accepted. A batch: begin, records in log order, publish; without publish it never was. */
void index_begin(struct index *index);
void index_add(struct index *index, const struct record *record, const struct properties *found);
/* The log has lost its first files: those of the index that speak of nothing else go now, for a full disk wants the room. */
void index_log_begins(struct index *index);
/* All records before pos are handed over. */
void index_publish(struct index *index, int64_t pos);
