/* A cold start's metadata: the journal and Apache's files in config/, of both the newer. See METADATA.md, "Start". */
#pragma once

#include "config_files.h"
#include "journal_file.h"

/* Fills empty tables. `ret_notes` (CONFIG_FILE_COUNT of room) and their count: the files as they are now, for the journal.
 * -EBADMSG: neither says what is in a table, and an operator must look. */
int cold_load(struct store *store, struct journal_note *ret_notes, unsigned *ret_count);
