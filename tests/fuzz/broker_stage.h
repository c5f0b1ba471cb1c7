/* A whole broker inside the fuzz process: the real front and the real store on their real rings, fresh for each input, in
 * a folder that is emptied. Only sockets are pairs of this process, and turns run when the target says so. */
#pragma once

#include "broker/front/connections.h"

/* Once for the process. */
void broker_stage_init(void);
struct front *broker_stage_begin(void);
/* Turns of both until nobody has anything to do. */
void broker_stage_settle(void);
void broker_stage_end(void);
/* A client: the front's end becomes a channel, ours is returned. */
int broker_stage_connect(bool fast, struct channel_ref *ret_channel);
