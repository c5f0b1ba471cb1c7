/* The runtime folder (0700): lock file, bus sockets, control and attach sockets. One supervisor per folder. */
#pragma once

#include "failure.h"

struct runtime_dir;

/* Makes the folder, takes the lock. Another supervisor there: exit code 74 and its pid in the text. */
int runtime_dir_open(const char *path, struct runtime_dir **ret_dir, struct failure *failure);
/* Removes what was made here and gives up the lock. */
void runtime_dir_close(struct runtime_dir *dir);

/* A listening SEQPACKET socket NAME in the folder, whatever the length of the folder's path. */
int runtime_dir_listen(struct runtime_dir *dir, const char *name, int *ret_fd);
void runtime_dir_unlink(struct runtime_dir *dir, const char *name);

/* mkdir -p with this mode for the last part. */
int runtime_dir_make_folder(const char *path, unsigned mode);
