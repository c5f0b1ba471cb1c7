/* Where the log goes on behind bytes that are no record. */
#pragma once

#include "commit_log.h"

/* The first whole and good record (or the blank one that closes a file) from `pos` on and before `limit_pos`. 1: *ret_record
 * and *ret_pos; 0: there is none. Negative errno if the disk fails. Holes of sparse files are not read. */
int log_search(struct log_reader *reader, int64_t pos, int64_t limit_pos, int64_t *ret_pos, struct record *ret_record);

/* 1: every sector of [pos, end) holds something, so all of it reached the disk; a lost one reads as zeros. A piece of a sector
 * that was written as zeros looks lost, too. */
int log_search_is_written(struct log_reader *reader, int64_t pos, int64_t end);
