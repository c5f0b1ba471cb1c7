/* Every request that a broker takes: a text of requests (case.h) goes through a whole fresh broker, front and store. Each
 * request that wants an answer gets exactly one, with its own number, a strict header and a body that can be read; what
 * wants none gets none. Only pulls may stay parked, and requests passed on to a client wait for that client. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "broker/front/connections.h"
#include "broker_stage.h"
#include "case.h"
#include "json/json_body.h"
#include "wire/codes.h"

enum { FROM_BROKER_MAX = 16, PAIRS = 2 * CASE_CONNECTIONS };

static struct client {
    int fd;
    struct channel_ref channel;
    struct text in;
    int32_t from_broker[FROM_BROKER_MAX]; /* opaques of requests that the broker sent us */
    unsigned from_broker_count;
} clients[PAIRS];

/* By opaque. */
static struct asked {
    int32_t code;
    struct client *client;
    struct channel_ref channel;
    bool wants_answer, answered;
} asked[CASE_REQUESTS_MAX + 1];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    broker_stage_init();
    return 0;
}

static void check_body(struct bytes body)
{
    const char *error;
    if (body.size == 0 || body.data[0] != '{')
        return;
    uint8_t *copy = fuzz_copy(body.data, body.size);
    for (size_t i = 0; i < body.size; i++)
        copy[i] = copy[i] < 0x80 ? copy[i] : '?';
    json_t *json = json_body_parse((struct bytes){copy, body.size}, &error);
    FUZZ_CHECK(json);
    json_decref(json);
    free(copy);
}

static void take_frame(struct client *client, struct frame *frame)
{
    if (!(frame->flag & FRAME_FLAG_RESPONSE)) {
        if (!(frame->flag & FRAME_FLAG_ONEWAY) && client->from_broker_count < FROM_BROKER_MAX)
            client->from_broker[client->from_broker_count++] = frame->opaque;
        return;
    }
    FUZZ_CHECK(frame->opaque > 0 && frame->opaque <= CASE_REQUESTS_MAX);
    struct asked *request = &asked[frame->opaque];
    FUZZ_CHECK(request->client == client && request->wants_answer && !request->answered);
    request->answered = true;
    if (request->code != REQUEST_GET_CONSUMER_RUNNING_INFO && request->code != REQUEST_CONSUME_MESSAGE_DIRECTLY)
        check_body(frame->body); /* theirs is what a client said */
}

static void take_frames(struct client *client)
{
    static struct frame frame;
    size_t at = 0;
    while (client->in.size - at >= 8) {
        uint8_t *data = (uint8_t *)client->in.data + at;
        size_t wanted = frame_wanted(data, client->in.size - at);
        if (wanted > client->in.size - at)
            break;
        case_check_header((struct bytes){data + 8, be32_load(data + 4) & 0xffffff});
        FUZZ_CHECK(frame_parse(data, client->in.size - at, &frame) == FRAME_OK);
        take_frame(client, &frame);
        at += wanted;
    }
    memmove(client->in.data, client->in.data + at, client->in.size - at);
    client->in.size -= at;
}

static bool receive(struct client *client)
{
    char buffer[65536];
    ssize_t n;
    bool any = false;
    while (client->fd >= 0 && (n = recv(client->fd, buffer, sizeof buffer, 0)) > 0) {
        text_add_bytes(&client->in, (struct bytes){(uint8_t *)buffer, (size_t)n});
        any = true;
    }
    if (any)
        take_frames(client);
    return any;
}

static void settle(void)
{
    bool any;
    do {
        broker_stage_settle();
        any = false;
        for (unsigned i = 0; i < PAIRS; i++)
            any |= receive(&clients[i]);
    } while (any);
}

static void hang_up(struct client *client)
{
    if (client->fd >= 0)
        close(client->fd);
    text_free(&client->in);
    *client = (struct client){.fd = -1};
}

static void send_all(struct front *front, struct client *client, struct bytes bytes)
{
    while (bytes.size) {
        ssize_t n = send(client->fd, bytes.data, bytes.size, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            front_turn(front);
            continue;
        }
        if (n < 0) /* the broker has hung up */
            return;
        bytes = (struct bytes){bytes.data + n, bytes.size - (size_t)n};
    }
}

static void ask(struct front *front, const struct case_request *request, int32_t n)
{
    struct client *client = &clients[request->connection + (request->fast ? CASE_CONNECTIONS : 0)];
    if (request->hang_up) {
        hang_up(client);
        return;
    }
    if (client->fd < 0)
        client->fd = broker_stage_connect(request->fast, &client->channel);
    struct channel *channel = connections_find(front, client->channel);
    FUZZ_CHECK(channel); /* no request of these closes a connection */
    memcpy(channel->peer_ip, request->foreign ? "\x0a\x09\x09\x09" : "\x7f\0\0\1", 4);
    int32_t opaque = n;
    if (request->response)
        opaque = request->served < client->from_broker_count ? client->from_broker[request->served]
                                                             : (int32_t)request->served;
    else
        asked[n] = (struct asked){request->code, client, client->channel, !request->oneway, false};
    struct bytes bytes = case_frame(request, opaque);
    send_all(front, client, bytes);
    free((void *)bytes.data);
    settle();
}

static bool may_wait(int32_t code)
{
    return code == REQUEST_PULL_MESSAGE || code == REQUEST_LITE_PULL_MESSAGE ||
           code == REQUEST_GET_CONSUMER_RUNNING_INFO || code == REQUEST_CONSUME_MESSAGE_DIRECTLY ||
           code == REQUEST_INVOKE_BROKER_TO_GET_CONSUMER_STATUS;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct case_request request;
    uint8_t *copy = fuzz_copy(data, size);
    struct bytes rest = {copy, size};
    memset(asked, 0, sizeof asked);
    for (unsigned i = 0; i < PAIRS; i++)
        clients[i] = (struct client){.fd = -1};
    struct front *front = broker_stage_begin();
    for (int32_t n = 1; n <= CASE_REQUESTS_MAX && case_next(&rest, &request); n++)
        ask(front, &request, n);
    for (int32_t n = 1; n <= CASE_REQUESTS_MAX; n++) {
        bool is_gone = !asked[n].client || asked[n].client->channel.number != asked[n].channel.number;
        FUZZ_CHECK(!asked[n].wants_answer || asked[n].answered || is_gone || may_wait(asked[n].code));
    }
    for (unsigned i = 0; i < PAIRS; i++)
        hang_up(&clients[i]);
    settle();
    broker_stage_end();
    free(copy);
    return 0;
}
