/* A store in this process: the program's own start, turn and stop on real files and memory objects, with one front that is
 * played by the caller. Its clocks go on by stage_pass_time. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "broker/store/store.h"
#include "shm/ring.h"

enum { STAGE_TOPICS = 4, STAGE_QUEUES = 3, STAGE_LOG_FILE = 32 << 10, STAGE_QUEUE_FILE = 400 };

struct stage {
    char dir[96], root[128]; /* the store's folder lies in `dir` */
    bool sync;
    int64_t flush_timeout_ms; /* 0: never; the test's clock jumps */
    struct store store;
    int board_fd, table_fd, ledger_fd, image_fd;
    struct ring_fds data[2], control[2];
    struct ring_writer data_out, control_out;
    struct ring_reader data_in, control_in;
    uint64_t sent, answered;
};

/* An answer to a send, taken by stage_step. */
struct stage_answer {
    uint64_t token;
    int32_t code;
    int64_t log_pos, queue_offset;
    uint32_t size; /* of what was stored */
    char remark[192];
};

/* A folder of its own, in memory where the host has such. */
void stage_folder_make(char *to, size_t size, const char *what);
void stage_folder_empty(const char *path);
void stage_folder_remove(const char *path);

void stage_begin(struct stage *stage, const char *dir, bool sync);
void stage_end(struct stage *stage);
/* What only memory held is gone, as after a power cut. */
void stage_forget(struct stage *stage);
/* Recovery alone, by lifecycle_recover; 0 or negative errno. */
int stage_recover(struct stage *stage, const char **ret_what);
/* The whole start; 0 or negative errno. */
int stage_start(struct stage *stage, enum start_cause cause, const char **ret_what);
int stage_stop(struct stage *stage); /* clean */
void stage_die(struct stage *stage);

/* A message of `body_size` bytes that follow from the token. False: no room. */
bool stage_send(struct stage *stage, unsigned topic, int32_t queue_id, size_t body_size, const char *properties);
/* The group that commits. */
bool stage_group(struct stage *stage);
bool stage_commit(struct stage *stage, unsigned topic, int32_t queue_id, int64_t offset);
/* Some turns; calls back for each answer. Returns whether anything was done. */
bool stage_step(struct stage *stage, void (*on_answer)(void *context, const struct stage_answer *answer), void *context);
const char *stage_topic(unsigned topic);

void stage_pass_time(int64_t ms);
int64_t stage_real_ms(void);
