/* Remote: one TCP connection to a name server or broker, as any RocketMQ client has it. Used by the commands that act as
 * clients (send, consume). Single-threaded: frames arrive in remote_poll, which calls the handler for each. */
#pragma once

#include "wire/codes.h"
#include "wire/connection.h"
#include "wire/frame.h"

struct remote;
/* A response, or a request of the server; valid during the call. */
typedef void (*remote_handler)(void *context, struct remote *remote, const struct frame *frame);

struct remote {
    struct connection connection;
    char address[128];
    int32_t last_opaque;
    bool broken;
    remote_handler handler;
    void *context;
};

/* "host:port". Connects within 3 s. -EINVAL: not an address; else negative errno. */
int remote_open(const char *address, remote_handler handler, void *context, struct remote **ret_remote);
void remote_close(struct remote *remote);

/* A request: begin, add fields, end with the body. Queued; goes out in remote_poll. Returns its opaque. `text_bytes` is a
 * bound for the field texts. */
struct remote_request {
    struct frame_writer writer;
    uint8_t *buffer;
    int32_t opaque;
};
void remote_begin(struct remote *remote, struct remote_request *request, int32_t code, int32_t flag, size_t text_bytes,
                  unsigned fields, size_t body_size);
int32_t remote_end(struct remote *remote, struct remote_request *request, struct bytes body);

/* Sends what waits and handles what came on any of them; waits at most timeout_ms. A connection that ends becomes
 * `broken`. Returns the number of frames handled or negative errno. */
int remote_poll(struct remote **remotes, unsigned count, int timeout_ms);

/* Waits for the answer to `opaque`; other frames go to the handler. Calls `answer` once. -ETIMEDOUT, -EPIPE. */
int remote_wait(struct remote *remote, int32_t opaque, int timeout_ms, remote_handler answer, void *context);
