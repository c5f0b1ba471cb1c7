/* QUERY_MESSAGE: messages by key or by unique key. */
#pragma once

#include "reply.h"
#include "wire/frame.h"

int query_message(struct front *front, struct channel *channel, const struct frame *frame);
