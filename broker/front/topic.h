/* UPDATE_AND_CREATE_TOPIC (17), passed on to the store. */
#pragma once

#include "reply.h"

int topic_update_and_create(struct front *front, struct channel *channel, const struct frame *frame);
