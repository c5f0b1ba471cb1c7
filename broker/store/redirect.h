/* Messages that do not go where they were sent: to the retry topic of a group, to its dead letters, into the queue of a
 * delay level. Part of the store's send path (send.c), deciding thread. */
#pragma once

#include "encode.h"
#include "msg/msg_check.h"
#include "refusal.h"
#include "store.h"

enum { REDIRECT_TEXT_MAX = 128 * 1024 }; /* properties of two redirections */

struct redirect {
    uint8_t *text; /* REDIRECT_TEXT_MAX bytes of the caller's */
    bool moved;    /* then what follows counts */
    struct msg_send_parts parts;
    struct msg_send send;
    char topic[512];
};

bool redirect_is_retry(struct bytes topic);
/* A message to %RETRY%group: is there such a group, and was it tried too often? Then it is a dead letter. With MSG_SEND_BACK
 * it is the next try, with its delay. */
enum refusal redirect_retry(struct store *store, const struct msg_send_parts *parts, struct redirect *ret_redirect);
/* Turns a message into one of the schedule topic. -EMSGSIZE: its properties have no room for what must go in. */
int redirect_delay(struct encode_message *message, unsigned level, uint8_t *text);
