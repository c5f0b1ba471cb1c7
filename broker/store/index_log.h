/* Walks the records of the commit log's files on a thread that shares nothing with the deciding one. */
#pragma once

#include "broker/format/record.h"

struct index_log {
    const char *folder; /* somebody else's */
    int64_t file_size;
    int fd;
    int64_t file_pos; /* of fd */
    uint8_t *data;
    size_t capacity, size;
    int64_t base_pos;
};
void index_log_init(struct index_log *log, const char *folder, int64_t file_size);
void index_log_done(struct index_log *log);
/* The record at pos, all of it before `until`. enum record_kind (never RECORD_SHORT), or negative errno. What it points to is
 * good until the next call. */
int index_log_record(struct index_log *log, int64_t pos, int64_t until, struct record *ret_record);
