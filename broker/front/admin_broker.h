/* Questions about the broker as a whole: its slaves (907), how a group asks for messages (401). */
#pragma once

#include "reply.h"
#include "wire/frame.h"

int admin_broker_ha_status(struct front *front, struct channel *channel, const struct frame *frame);
int admin_broker_request_mode(struct front *front, struct channel *channel, const struct frame *frame);
