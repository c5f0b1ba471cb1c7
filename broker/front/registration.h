/* What this broker says of itself to a name server over TCP (remoting facts 2.4, 2.5), from the catalogue. Each function
 * queues whole frames with the opaques *opaque and on, and moves *opaque behind them. Number of frames, or -errno. */
#pragma once

#include "catalogue.h"
#include "wire/connection.h"

struct registration_name {
    struct bytes addr, ha_addr;
};

/* All topics, in as many parts as configuration and the size of a frame want. `is_changed`: the name server has another
 * data version, so that each part must look like a change of its own. */
int registration_put_whole(const struct front *front, const struct registration_name *name, bool is_changed,
                           struct connection *wire, int32_t *opaque);
/* Only these topics, as they are now; those that are gone are left out. */
int registration_put_topics(const struct front *front, const struct registration_name *name, char *const *topics,
                            unsigned count, struct connection *wire, int32_t *opaque);
int registration_ask_version(const struct front *front, const struct registration_name *name, struct connection *wire,
                             int32_t *opaque);
int registration_put_leave(const struct front *front, const struct registration_name *name, struct connection *wire,
                           int32_t *opaque);
/* The answer to registration_ask_version: whether the name server wants to be told. */
bool registration_is_wanted(const struct front *front, const struct frame *answer);
/* The orders in the answer to a registration: topics that have one become ordered, as with Apache. What does not fit
 * the ring now comes again with the next registration. */
void registration_take_orders(struct front *front, struct bytes body);
bool registration_same_version(struct msg_version a, struct msg_version b);
