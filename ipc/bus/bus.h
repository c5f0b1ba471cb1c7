/* Bus: ZeroMQ sockets for metadata between processes of one host, inside an sd-event loop. Never leaves the host
 * (ipc:// in the 0700 runtime folder). Nothing that must arrive depends on it: a peer tells its state again after
 * hello.
 *
 * ZMQ_FD is edge-triggered: after every zmq call and before every sleep (an sd-event prepare callback) ZMQ_EVENTS is
 * read and messages are received until EAGAIN, bounded per turn. This module is the only one that knows. One thread. */
#pragma once

#include <stddef.h>
#include <systemd/sd-event.h>

#include "base/bytes.h"

struct bus;

/* `peer` is the sender's identity (ROUTER) or empty (DEALER). The bytes are valid during the call. Each time two
 * have connected (also again, after either side's restart) the handlers of both get an empty message: from then on the
 * other side can be written to, and what it must know is to be said. A handler may free its own bus. */
typedef void (*bus_handler)(void *context, struct bytes peer, struct bytes message);

/* The endpoint is a file name in the runtime folder; a folder whose path is too long for a Unix socket (107 bytes) gets
 * a short link in /tmp owned by us. -EADDRINUSE if another process holds the path's lock; it is given up when the
 * process has freed its last bus. Call after exec only: libzmq keeps a thread. */
int bus_bind(sd_event *event, const char *runtime_dir, const char *endpoint, bus_handler handler, void *context,
             struct bus **ret_bus);
int bus_connect(sd_event *event, const char *runtime_dir, const char *endpoint, const char *identity,
                bus_handler handler, void *context, struct bus **ret_bus);
/* Makes that short link where one is needed, for processes that may not make files themselves. */
int bus_prepare(const char *runtime_dir, const char *endpoint);
/* Takes the short link away, if there is one: nobody is on a bus of this folder any more. */
void bus_tidy(const char *runtime_dir);
/* Messages on their way to a connected peer get at most 50 ms more: last words before an exit. */
void bus_free(struct bus *bus);

/* Never blocks: -EAGAIN when the peer is not there or its queue is full (say it again after its hello).
 * peer: identity for a ROUTER, ignored by a DEALER. */
int bus_send(struct bus *bus, struct bytes peer, struct bytes message);
