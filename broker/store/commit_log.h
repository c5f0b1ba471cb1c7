/* The commit log's files: one row of full-size files, written by one pwrite per batch at its end, read back with pread.
 * Positions are the log's own: a file's name is the position of its first byte. Belongs to the deciding thread. */
#pragma once

#include "base/bytes.h"
#include "broker/format/record.h"
#include "store.h"

struct commit_log;

/* Lists and checks the folder (made if absent). -EUCLEAN: files that are no log of this configuration. */
int commit_log_open(const struct store_config *config, struct commit_log **ret_log);
void commit_log_free(struct commit_log *log);

const char *commit_log_folder(const struct commit_log *log);
int64_t commit_log_file_size(const struct commit_log *log);
bool commit_log_is_empty(const struct commit_log *log);
int64_t commit_log_min_pos(const struct commit_log *log);
/* End of the row of files, not of the records. */
int64_t commit_log_files_end(const struct commit_log *log);
/* Where the next batch goes. */
int64_t commit_log_end(const struct commit_log *log);
int64_t commit_log_file_start(const struct commit_log *log, int64_t pos);
int64_t commit_log_file_left(const struct commit_log *log, int64_t pos);
void commit_log_file_path(const char *folder, int64_t file_pos, char *to, size_t size);

/* After recovery: the log ends here. */
void commit_log_set_end(struct commit_log *log, int64_t pos);
/* Writes a batch that lies within one file; on success the end moves. If its last record is a blank one (`ends_file`), the
 * next file is made and the end is its start. -ENOSPC, -EDQUOT: nothing of it is left, and the next one may have more luck.
 * After any other error nothing more is taken: commit_log_error tells which. */
int commit_log_append(struct commit_log *log, const uint8_t *data, size_t size, bool ends_file);
int commit_log_error(const struct commit_log *log);
/* `what` failed ("write", "sync"), at the log position pos. The first failure is the one that is kept. */
void commit_log_fail(struct commit_log *log, int error, const char *what, int64_t pos);
/* For people: what failed where and why; "": nothing has. Without the folder's name where `short_name`. */
void commit_log_error_text(const struct commit_log *log, bool short_name, char *to, size_t size);
bool commit_log_out_of_space(int error);
/* Zeroes everything from pos to the end of the files and deletes later files. */
int commit_log_cut(struct commit_log *log, int64_t pos);
/* Zeroes [pos, pos + size) where that is behind the end. */
int commit_log_zero(struct commit_log *log, int64_t pos, int64_t size);
/* The files before `pos`, the start of one that stays, are out of the folder. */
void commit_log_forget_before(struct commit_log *log, int64_t pos);
/* Waits for the disk: every file that holds a byte of [from, to), and their names. */
int commit_log_sync(struct commit_log *log, int64_t from, int64_t to);

/* From the file that holds `from` on: dirty pages to the disk, then all pages away. A page whose writing has once failed is
 * clean and wrong: what is read from now on is what the disk has. */
int commit_log_drop_cache(struct commit_log *log, int64_t from);

/* Reads at most to the end of pos's file. Returns the bytes read or negative errno. */
ssize_t commit_log_pread(struct commit_log *log, int64_t pos, void *data, size_t size);

/* The first position from `pos` on that may hold anything but zeros, as the file system knows it; the end of pos's file if
 * there is none. */
int64_t commit_log_next_data(struct commit_log *log, int64_t pos);

/* A window that moves forward over the log, for walking records. */
struct log_reader {
    struct commit_log *log;
    uint8_t *data;
    size_t capacity;
    int64_t base_pos;
    size_t size;
    int64_t limit_pos; /* > 0: do not read behind it (a hole that is read costs memory) */
};
void log_reader_init(struct log_reader *reader, struct commit_log *log);
void log_reader_done(struct log_reader *reader);
/* The record at pos; its parts point into the window until the next call. Negative errno if the disk fails, else
 * enum record_kind (never RECORD_SHORT). */
int log_reader_record(struct log_reader *reader, int64_t pos, bool check_crc, struct record *ret_record);
/* `size` bytes at pos; -EBADMSG if the files end before. */
int log_reader_bytes(struct log_reader *reader, int64_t pos, size_t size, const uint8_t **ret_data);
/* What the window holds may have been written anew. */
void log_reader_forget(struct log_reader *reader);
