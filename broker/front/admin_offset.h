/* Offsets of groups for administrators. */
#pragma once

#include "reply.h"

int admin_offset_all(struct front *front, struct channel *channel, const struct frame *frame);          /* 43 */
int admin_offset_delays(struct front *front, struct channel *channel, const struct frame *frame);       /* 45 */
int admin_offset_stats(struct front *front, struct channel *channel, const struct frame *frame);        /* 208 */
int admin_offset_reset(struct front *front, struct channel *channel, const struct frame *frame);        /* 222 */
int admin_offset_time_span(struct front *front, struct channel *channel, const struct frame *frame);    /* 303 */
int admin_offset_correction(struct front *front, struct channel *channel, const struct frame *frame);   /* 308 */
int admin_offset_clone(struct front *front, struct channel *channel, const struct frame *frame);        /* 314 */
int admin_offset_broker_stats(struct front *front, struct channel *channel, const struct frame *frame); /* 317 */
