/* The metadata journal: STORE/config/metadata.journal follows the image (image.h) onto the disk. A thread of its own reads
 * what the deciding thread has published there, appends what outlives the host, and tells how far it has come; nobody else
 * waits for that disk. METADATA.md says what is promised, journal_file.h what the bytes are.
 *
 * The thread owns the file, the journal's words in the image and its own memory. No failure is fatal: it is told, tried
 * again each JOURNAL_RETRY_MS, and what was wanted meanwhile is done then, from the image. After a failed sync the file is
 * not trusted any more: a new one takes its place. */
#pragma once

#include <stdint.h>

#include "journal_file.h"
#include "store.h"

enum {
    JOURNAL_RETRY_MS = 500,
    JOURNAL_SIZE_LEAST = 1 << 20, /* a file is replaced when it is larger than this and four times what it began with */
    JOURNAL_NOTES_PER_FILE = 3,
};

/* Goes on with the file where the image knows it, else makes a new one from the image. `notes`: JSON files that a cold
 * start has read. */
int journal_start(struct store *store, const struct journal_note *notes, unsigned count, struct journal **ret_journal);
/* Everything that the image holds is in the file and on the disk, or the log says why not. NULL is accepted. */
void journal_stop(struct journal *journal);

/* Deciding thread. Marks are the image's. */
void journal_want(struct journal *journal, uint64_t promised_mark);
void journal_want_offsets(struct journal *journal, uint64_t mark);
/* Promised records before it are as safe as the broker promises: SYNC_FLUSH on the disk, else written. */
uint64_t journal_done_mark(const struct journal *journal);
uint64_t journal_end_pos(const struct journal *journal);
/* 0, or the negative errno of the last try; and what to say to whom it is refused. */
int journal_error(const struct journal *journal);
const char *journal_error_text(struct journal *journal);

/* Any other thread; waits. 0: the note is on the disk, and the file may get its name. */
int journal_note(struct journal *journal, const struct journal_note *note);
