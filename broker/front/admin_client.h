/* Connections for administrators, and requests that are relayed to a client. */
#pragma once

#include "reply.h"

int admin_client_consumers(struct front *front, struct channel *channel, const struct frame *frame);     /* 203 */
int admin_client_producers(struct front *front, struct channel *channel, const struct frame *frame);     /* 204 */
int admin_client_all_producers(struct front *front, struct channel *channel, const struct frame *frame); /* 328 */
int admin_client_subscription(struct front *front, struct channel *channel, const struct frame *frame);  /* 345 */
