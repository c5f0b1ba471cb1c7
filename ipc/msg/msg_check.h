/* One validator per record kind: does the payload hold what its sizes promise? Returns MSG_OK or the reason it was
 * refused. Says nothing about meaning (does the topic exist?), that is the taker's. The payload must not change under
 * the check: copy it first if its writer is not trusted. */
#pragma once

#include <stddef.h>

#include "msg/msg.h"

enum msg_refusal {
    MSG_OK = 0,
    MSG_REFUSED_KIND,     /* not a kind for this ring */
    MSG_REFUSED_SHORT,    /* shorter than its fixed part or its variable parts promise */
    MSG_REFUSED_LONG,     /* bytes behind the last part */
    MSG_REFUSED_LIMIT,    /* a part is over its limit */
    MSG_REFUSED_RANGE,    /* a number outside its range */
};
const char *msg_refusal_text(enum msg_refusal refusal);

enum msg_refusal msg_check_request(unsigned kind, const void *payload, size_t size);
enum msg_refusal msg_check_answer(unsigned kind, const void *payload, size_t size);

/* The variable parts of a checked MSG_SEND. */
struct msg_send_parts {
    const struct msg_send *send;
    struct bytes topic, default_topic, group, properties, body;
};
void msg_send_split(const void *payload, struct msg_send_parts *ret_parts);
