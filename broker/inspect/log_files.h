/* The files of a commit log, read by somebody who is not its store: found in their folder, whatever their size, and
 * read through one window. A sector that the disk cannot give reads as zeros and is counted: what lay there is found
 * damaged like anything else. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct log_files {
    char *folder;
    int64_t file_size; /* bytes; of the first file, the others must have it too */
    int64_t first_pos, end_pos;
    uint64_t unreadable; /* bytes that the disk did not give */

    int fd;
    int64_t fd_pos;
    uint8_t *window;
    int64_t window_pos;
    size_t window_size;
};

/* `folder` is copied. An empty or absent folder is an empty log. On -EUCLEAN *ret_problem (malloc'ed) says what is
 * wrong. */
int log_files_open(const char *folder, struct log_files *ret_files, char **ret_problem);
void log_files_close(struct log_files *files);

int64_t log_files_file_start(const struct log_files *files, int64_t pos);
int64_t log_files_file_left(const struct log_files *files, int64_t pos);

/* At least `size` bytes from pos on, or all that the file has from there: valid until the next call. Negative errno if
 * the file cannot be opened. *ret_size may be more than was asked for. */
int log_files_read(struct log_files *files, int64_t pos, size_t size, const uint8_t **ret_data, size_t *ret_size);
/* Whether the rest of pos's file is zeros; stops at the first byte that is not, *ret_pos. */
int log_files_is_zero(struct log_files *files, int64_t pos, bool *ret_zero, int64_t *ret_pos);
/* For a repair. */
int log_files_write(struct log_files *files, int64_t pos, const void *data, size_t size);
