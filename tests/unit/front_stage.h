/* A stage for the real pintle-front: plays supervisor (memory, sockets, grants, bus) and a small store (one topic, its
 * own log and queue files in Apache's layout, catalogue) around a front process, so that the front can be tested alone,
 * also in what a real store does only at bad moments: die, answer twice, leave a gap in the catalogue. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct stage;

enum { STAGE_QUEUES = 4 };
#define STAGE_TOPIC "TopicStage"

struct stage *stage_start(const char *front_program, const char *folder);
/* Stops the front over the bus; returns its wait status. */
int stage_end(struct stage *stage);

int stage_port(const struct stage *stage);
int stage_fast_port(const struct stage *stage);
pid_t stage_front_pid(const struct stage *stage);

/* The store takes no request until it "starts" again with a new generation. `answer_twice`: the successor answers anew
 * what the predecessor had answered last. */
void stage_kill_store(struct stage *stage);
void stage_start_store(struct stage *stage, bool answer_twice);
/* Leaves out one catalogue number, then creates a topic with this name. */
void stage_make_gap(struct stage *stage, const char *topic);

/* Puts the files out of the page cache as far as nobody has mapped them; false if the end of the log is still there. */
bool stage_make_cold(struct stage *stage);

/* What the store has seen. */
unsigned stage_replayed_members(struct stage *stage);
unsigned stage_snapshots(struct stage *stage);
unsigned stage_sends(struct stage *stage);
int64_t stage_committed_offset(struct stage *stage);
unsigned stage_members(struct stage *stage);
uint64_t stage_counter(struct stage *stage, int counter); /* of the front's board */
