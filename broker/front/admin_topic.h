/* Topics for administrators. */
#pragma once

#include "reply.h"

int admin_topic_put_list(struct front *front, struct channel *channel, const struct frame *frame);      /* 18 */
int admin_topic_all(struct front *front, struct channel *channel, const struct frame *frame);           /* 21 */
int admin_topic_stats(struct front *front, struct channel *channel, const struct frame *frame);         /* 202 */
int admin_topic_drop(struct front *front, struct channel *channel, const struct frame *frame);          /* 215 */
int admin_topic_consumers(struct front *front, struct channel *channel, const struct frame *frame);     /* 300 */
int admin_topic_system_list(struct front *front, struct channel *channel, const struct frame *frame);   /* 305 */
int admin_topic_clean_expired(struct front *front, struct channel *channel, const struct frame *frame); /* 306 */
int admin_topic_clean_unused(struct front *front, struct channel *channel, const struct frame *frame);  /* 316 */
int admin_topic_delete_log(struct front *front, struct channel *channel, const struct frame *frame);    /* 329 */
int admin_topic_of_group(struct front *front, struct channel *channel, const struct frame *frame);      /* 343 */
int admin_topic_get(struct front *front, struct channel *channel, const struct frame *frame);           /* 351 */
