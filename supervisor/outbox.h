/* Grants on their way to one worker, in order. A worker that is stopped or busy does not read its channel; the supervisor
 * must not wait for it, so grants wait here, with descriptors of their own, until the socket takes them. */
#pragma once

#include <systemd/sd-event.h>

#include "fd/fd_channel.h"

struct outbox;

/* Takes ownership of `socket` (the supervisor's side of the channel, non-blocking). */
int outbox_create(sd_event *event, int socket, struct outbox **ret_outbox);
void outbox_free(struct outbox *outbox);
/* The descriptors stay the caller's. A channel whose worker is gone swallows everything: the pidfd tells. */
int outbox_put(struct outbox *outbox, const struct fd_grant *grant, const int *fds, unsigned fd_count);
