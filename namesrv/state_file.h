/* A small file that is replaced whole: after a crash it is the old one or the new one. */
#pragma once

#include "base/bytes.h"

/* The file's bytes, malloc'ed and with a 0 behind them. -ENOENT: none yet. */
int state_file_read(const char *path, struct bytes *ret_bytes);
/* Makes the folders above it where they are missing. On an error the old file stays. */
int state_file_write(const char *path, struct bytes bytes);
