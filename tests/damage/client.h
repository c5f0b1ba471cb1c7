/* A client of the staged broker: one request at a time, over a socket pair. */
#pragma once

#include "tests/fuzz/broker_stage.h"
#include "wire/frame.h"

void client_begin(void);
void client_end(void);

struct client_request {
    int32_t code;
    unsigned count;
    struct {
        const char *key;
        struct bytes value;
        char number[24];
    } fields[16];
    struct bytes body;
};
void client_text(struct client_request *request, const char *key, const char *value);
void client_bytes(struct client_request *request, const char *key, struct bytes value);
void client_number(struct client_request *request, const char *key, int64_t value);
/* The answer, good until the next one. */
const struct frame *client_ask(struct client_request *request);
