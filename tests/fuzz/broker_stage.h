/* A whole broker inside the fuzz process: the real front and the real store on their real rings, fresh for each input, in
 * a folder that is emptied. Only sockets are pairs of this process, and turns run when the target says so. */
#pragma once

#include "broker/front/connections.h"

/* Once for the process. */
void broker_stage_init(void);
struct front *broker_stage_begin(void);
/* On what lies in the folder; NULL if the store does not start on it, and ret_what and ret_error say why. */
struct front *broker_stage_try(const char **ret_what, int *ret_error);
const char *broker_stage_folder(void);
/* Turns of both until nobody has anything to do. */
void broker_stage_settle(void);
void broker_stage_end(void);
/* The same, and leaves the files. `clean`: the store stops; else it dies. */
void broker_stage_leave(bool clean);
/* A counter of both processes' boards together. */
uint64_t broker_stage_counter(enum board_counter counter);
/* A client: the front's end becomes a channel, ours is returned. */
int broker_stage_connect(bool fast, struct channel_ref *ret_channel);
