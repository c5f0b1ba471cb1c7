/* GET_BROKER_CONFIG and UPDATE_BROKER_CONFIG. The store keeps the configuration; the catalogue tells it. */
#pragma once

#include "reply.h"
#include "wire/frame.h"

int broker_config_get(struct front *front, struct channel *channel, const struct frame *frame);
int broker_config_update(struct front *front, struct channel *channel, const struct frame *frame);
