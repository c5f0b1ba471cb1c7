/* CONSUMER_SEND_MSG_BACK: a group could not consume a message. Its record is read by a helper thread and goes through the
 * data ring as a send to the group's retry topic; the store decides whether it is tried again or a dead letter. */
#pragma once

#include "reply.h"
#include "wire/frame.h"

int send_back(struct front *front, struct channel *channel, const struct frame *frame);
