/* Looks a host's name up without making the loop wait: a thread of its own per lookup, since helpers serve reads and a
 * name server of the network may be silent for long. */
#pragma once

#include <netdb.h>
#include <systemd/sd-event.h>

struct resolve;

/* `found` (NULL with `error`, a text) is freed behind the call. */
typedef void (*resolve_done)(void *context, const struct addrinfo *found, const char *error);

/* Calls `done` later, from the loop, unless it is cancelled. */
int resolve_start(sd_event *event, const char *host, const char *port, resolve_done done, void *context,
                  struct resolve **ret_resolve);
/* `done` is not called any more; a thread that waits ends by itself. NULL is nothing. */
void resolve_cancel(struct resolve *resolve);
/* An address in digits, at once; NULL: it is a name. */
struct addrinfo *resolve_digits(const char *host, const char *port);
