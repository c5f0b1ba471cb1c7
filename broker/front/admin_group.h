/* Consumer groups for administrators. */
#pragma once

#include "reply.h"

int admin_group_put(struct front *front, struct channel *channel, const struct frame *frame);       /* 200 */
int admin_group_put_list(struct front *front, struct channel *channel, const struct frame *frame);  /* 225 */
int admin_group_all(struct front *front, struct channel *channel, const struct frame *frame);       /* 201 */
int admin_group_drop(struct front *front, struct channel *channel, const struct frame *frame);      /* 207 */
int admin_group_get(struct front *front, struct channel *channel, const struct frame *frame);       /* 352 */
int admin_group_forbidden(struct front *front, struct channel *channel, const struct frame *frame); /* 353 */
