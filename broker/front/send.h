/* Sends: 10 (V1 names), 310 and 320 (V2 letters). The frame is encoded straight into the data request ring; the store
 * decides everything; its answer becomes the response header. */
#pragma once

#include "msg/msg.h"
#include "reply.h"

int send_message(struct front *front, struct channel *channel, const struct frame *frame);
void send_answered(struct front *front, struct reply_to to, const struct msg_send_answer *answer);
void send_refused(struct reply_to to, int32_t code, struct bytes remark);

/* The header of a send request, from either form. */
struct send_header {
    struct bytes group, topic, default_topic, properties;
    int64_t born_ms;
    int32_t default_topic_queues, queue_id, sys_flag, flag, reconsume_times, max_reconsume_times;
    bool unit_mode, batch;
};
/* 0, or -EINVAL and the name of the field that is no number or is missing. */
int send_header_parse(const struct frame *frame, struct send_header *ret_header, const char **ret_field);
/* Payload size of the ring record, and the record itself. */
size_t send_record_size(const struct send_header *header, const struct frame *frame);
void send_record_encode(uint8_t *payload, const struct send_header *header, const struct frame *frame,
                        const struct channel *channel, uint64_t token);
