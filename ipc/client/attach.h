/* How a native client gets its rings: it connects to the broker's attach socket (Unix SEQPACKET, in the runtime
 * folder), the supervisor makes a ring set and sends it back as one grant. The connection stays open for the client's
 * life: its end tells the supervisor that the client is gone, whatever way it died. Runs in the client's process. */
#pragma once

#include "shm/ring.h"

struct attachment {
    int socket; /* owned; its end = the broker is gone. HUP of reply.fds.data = the store gave this client up */
    uint64_t generation;
    struct ring_writer request;
    struct ring_reader reply;
};

enum { ATTACH_TIMEOUT_MS = 5000 };

/* -ENOENT / -ECONNREFUSED: no such broker there; -ETIMEDOUT; -EPROTO: the answer makes no sense; -EUSERS: full. */
int attach_open(const char *runtime_dir, const char *broker, struct attachment *ret_attachment);
void attach_close(struct attachment *attachment);
