/* The row of index files: what a predecessor left, what of it can be believed, where in the log it ends; the next file, old
 * files. Index thread, but for init and done. */
#pragma once

#include "index.h"
#include "index_file.h"
#include "index_log.h"

struct index_files {
    struct store *store;
    char *folder;
    struct index_shape shape;
    enum index_trust trust;
    int64_t full_ms; /* the checkpoint's, as what follows */
    struct checkpoint_index synced;
    struct index_file **list;                   /* oldest first */
    unsigned count, room;
    bool unsynced; /* the newest was written since it was handed out */
};

int index_files_init(struct index_files *files, struct store *store, enum index_trust trust,
                     const struct checkpoint *checkpoint);
void index_files_done(struct index_files *files);

/* Looks at the folder. The log is good up to end_pos. The index holds everything before *ret_pos, and of the record there the
 * first *ret_skip keys. */
int index_files_open(struct index_files *files, struct index_log *log, int64_t end_pos, int64_t *ret_pos, uint32_t *ret_skip);
struct index_file *index_files_newest(const struct index_files *files);
/* A new file behind the newest. */
int index_files_roll(struct index_files *files);
/* Takes away this file and all newer ones: they are made again. */
void index_files_drop(struct index_files *files, int64_t name, const char *why);
/* Files whose messages are gone. */
void index_files_expire(struct index_files *files, int64_t log_min_pos);
/* As far as the checkpoint said at the start. */
bool index_files_is_synced(const struct index_files *files, unsigned number);
