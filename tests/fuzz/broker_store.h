/* A real store on a folder and memory of the caller's, for the fuzz targets that have a whole broker in one process. Its
 * symbols are renamed when it is linked (rename_symbols.cmake), because store and front use some names for two things. */
#pragma once

#include "shm/ring.h"

struct fuzz_store_fds {
    int image, table, ledger, board, interest; /* all borrowed */
    struct ring_fds data_request, data_reply, control_request, control_reply;
};

enum { FUZZ_STORE_GENERATION = 1, FUZZ_FRONT_GENERATION = 7, FUZZ_LOG_FILE_SIZE = 64 << 20, FUZZ_QUEUE_FILE_SIZE = 6000 };

/* What a test may have otherwise; for store and front. */
struct fuzz_store_settings {
    int log_file_size, queue_file_size;
    const char *more; /* lines of broker.conf */
};
extern struct fuzz_store_settings fuzz_store_settings;

/* 0, or negative errno and what could not be begun; then only fuzz_store_end may follow. */
int fuzz_store_begin(const char *folder, const struct fuzz_store_fds *fds, const char **ret_what);
/* Turns until nothing is left to do. */
void fuzz_store_run(void);
/* `clean`: a stop as of the program; else a death. */
void fuzz_store_end(bool clean);
