/* See client.h. */
#include "client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

enum { ROOM = 1 << 20 };

static int fd = -1;
static struct channel_ref channel;
static int32_t opaque;
static uint8_t in[ROOM], out[ROOM];

void client_begin(void)
{
    fd = broker_stage_connect(false, &channel);
}

void client_end(void)
{
    close(fd);
    fd = -1;
    broker_stage_settle();
}

void client_bytes(struct client_request *request, const char *key, struct bytes value)
{
    request->fields[request->count].key = key;
    request->fields[request->count++].value = value;
}

void client_text(struct client_request *request, const char *key, const char *value)
{
    client_bytes(request, key, bytes_of(value));
}

void client_number(struct client_request *request, const char *key, int64_t value)
{
    char *text = request->fields[request->count].number;
    snprintf(text, sizeof request->fields[0].number, "%lld", (long long)value);
    client_bytes(request, key, bytes_of(text));
}

static size_t frame_make(const struct client_request *request)
{
    struct frame_writer writer;
    frame_write_request(&writer, out, sizeof out, request->code, ++opaque, 0, 0);
    for (unsigned i = 0; i < request->count; i++)
        frame_write_text(&writer, request->fields[i].key, request->fields[i].value);
    ssize_t size = frame_write_finish(&writer, request->body.size);
    FUZZ_CHECK(size > 0 && (size_t)size + request->body.size <= sizeof out);
    if (request->body.size)
        memcpy(out + size, request->body.data, request->body.size);
    return (size_t)size + request->body.size;
}

const struct frame *client_ask(struct client_request *request)
{
    static struct frame frame;
    size_t size = frame_make(request), have = 0;
    FUZZ_CHECK(send(fd, out, size, MSG_NOSIGNAL) == (ssize_t)size);
    for (;;) {
        broker_stage_settle();
        ssize_t n = recv(fd, in + have, sizeof in - have, 0);
        FUZZ_CHECK(n > 0); /* everything is quiet: the answer is here, or never comes */
        have += (size_t)n;
        if (have < 8 || frame_wanted(in, have) > have)
            continue;
        FUZZ_CHECK(frame_parse(in, have, &frame) == FRAME_OK && frame.opaque == opaque);
        return &frame;
    }
}
