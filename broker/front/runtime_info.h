/* GET_BROKER_RUNTIME_INFO: how the broker is doing, as Apache's tools read it. */
#pragma once

#include "reply.h"
#include "wire/frame.h"

int runtime_info(struct front *front, struct channel *channel, const struct frame *frame);
