/* The command socket in the runtime folder: one JSON text each way (Unix SEQPACKET). */
#pragma once

struct control;
struct supervisor;

int control_create(struct supervisor *supervisor, struct control **ret_control);
void control_free(struct control *control);
