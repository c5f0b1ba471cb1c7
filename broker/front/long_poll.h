/* Long polls: pulls that found nothing wait here for their queue to grow or their deadline. Each queue table slot has
 * its own list, so that ten thousand parked polls cost a send to another queue nothing; a bit per slot in the interest
 * page tells the store which queues are waited for; deadlines are in a wheel of 64 ms steps. */
#pragma once

#include "pull.h"

int long_poll_new(struct front *front, struct long_poll **ret_poll);
void long_poll_free(struct long_poll *poll);

/* Takes the pull. Looks once more after the interest bit is set: the message may have come in between. */
void long_poll_park(struct front *front, struct channel *channel, struct pull *pull);
/* Takes a pull that waits for a whole catalogue. */
void long_poll_hold(struct front *front, struct channel *channel, struct pull *pull);

/* Takes a woken pull whose client has more unsent answers than it may have; it runs when most of them are gone. */
void long_poll_put_off(struct channel *channel, struct pull *pull);
void long_poll_go_on(struct front *front, struct channel *channel);

/* True: queues grew that this front has not looked at. */
bool long_poll_behind(const struct front *front);
/* Runs the polls of queues that grew, and those whose deadline has come. */
void long_poll_turn(struct front *front);
void long_poll_catalogue_changed(struct front *front);
/* Everybody is told "nothing new" (this front stops). */
void long_poll_give_up_all(struct front *front);
void long_poll_drop_channel(struct front *front, struct channel *channel);
