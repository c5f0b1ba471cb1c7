/* Foreign name servers: those of other hosts, ours and Apache's, with which this broker registers over TCP (key
 * namesrvAddr). One front of a broker does it, the first; a successor of its process goes on. Each name server has a
 * connection and a clock of its own, so that a dead one delays nobody. */
#pragma once

#include "front.h"

/* Leaves front->foreign NULL where another front does it. */
int foreign_new(struct front *front);
void foreign_free(struct foreign *foreign);

/* The configuration changed: the list of name servers may be another. */
void foreign_configure(struct front *front);
/* The catalogue tells of a topic that changed, of one that is gone, or is whole again and may hold anything. */
void foreign_topic(struct front *front, struct bytes name);
void foreign_topic_gone(struct front *front);
void foreign_catalogue_whole(struct front *front);
/* Each turn, behind the catalogue's records. */
void foreign_turn(struct front *front);
/* We stop: every name server that knows us is told. */
void foreign_leave(struct front *front);
/* True when none has to be waited for any more. */
bool foreign_is_gone(const struct front *front);
