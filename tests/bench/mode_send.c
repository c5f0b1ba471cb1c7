/*
 * Mode `send`: SEND_MESSAGE_V2 with the properties that the Java client sets, spread over the queues in turn.
 * Each connection keeps one whole frame (length, header, body) and patches four places of fixed width in it: opaque,
 * queue, born timestamp and the counter in the unique key. So a message costs the generator one copy.
 */
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* What the patched places look like in the header before they are patched; each stands there exactly once. */
#define MARK_QUEUE  "\"e\":\""
#define MARK_TIME   "\"g\":\""
#define MARK_KEY    "UNIQ_KEY\\u0001"
#define MARK_OPAQUE "\"opaque\":"
#define KEY_FIXED   "7F000001000100000000" /* address, process, loader: the part that stays */

static struct {
    size_t queue, time, key_counter, opaque;
} place; /* the same for all connections: their headers differ in nothing else */

static uint64_t message_serial;
static uint32_t key_salt; /* keys of two runs on one topic must differ */

size_t send_header_format(char *out, size_t out_size, const struct options *options, unsigned opaque)
{
    int n = snprintf(out, out_size,
                     "{\"code\":310,\"extFields\":{\"a\":\"%s\",\"b\":\"%s\",\"c\":\"TBW102\",\"d\":\"%u\"," MARK_QUEUE
                     "0\",\"f\":\"0\"," MARK_TIME "%013lld\",\"h\":\"0\",\"i\":\"" MARK_KEY KEY_FIXED
                     "%012u\\u0002WAIT\\u0001true\",\"j\":\"0\",\"k\":\"false\",\"m\":\"false\"},\"flag\":0,"
                     "\"language\":\"OTHER\"," MARK_OPAQUE "%u,\"serializeTypeCurrentRPC\":\"JSON\",\"version\":479}",
                     options->group, options->topic, options->queue_count,
                     (long long)(clock_now_ns(CLOCK_REALTIME) / 1000000), 0u, opaque);

    if (n < 0 || (size_t)n >= out_size)
        abort();
    return (size_t)n;
}

static size_t place_after(const char *header, const char *mark)
{
    const char *p = strstr(header, mark);

    if (!p)
        abort();
    return REMOTING_FRAME_FIXED + (size_t)(p - header) + strlen(mark);
}

static void build_template(struct load *load, struct connection *c)
{
    char header[1024];

    send_header_format(header, sizeof(header), &load->options, OPAQUE_BASE);
    place.queue = place_after(header, MARK_QUEUE);
    place.time = place_after(header, MARK_TIME);
    place.key_counter = place_after(header, MARK_KEY) + sizeof(KEY_FIXED) - 1;
    place.opaque = place_after(header, MARK_OPAQUE);

    size_t head_len = REMOTING_FRAME_FIXED + strlen(header);
    c->template_len = head_len + load->options.body_size;
    c->template = malloc(c->template_len);
    c->out_size = c->template_len * load->options.outstanding;
    c->out = malloc(c->out_size);
    if (!c->template || !c->out)
        abort();
    remoting_put_header(c->template, c->template_len, header, load->options.body_size);
    uint32_t state = 2463534242u + c->index; /* bytes that do not compress, in case anyone tries */
    for (size_t i = 0; i < load->options.body_size; i++) {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        c->template[head_len + i] = (char)state;
    }
}

/* One message per broker makes the topic, as a client's first send would; the load then finds it everywhere. */
static int create_topic(struct load *load, unsigned broker)
{
    const struct connection *c = &load->connections[0];
    char buffer[64 * 1024], header[1024];
    struct frame frame;

    send_header_format(header, sizeof(header), &load->options, OPAQUE_BASE);
    int fd = remoting_connect(&load->options.broker[broker], load->options.timeout_ms);
    if (fd < 0)
        return fd;
    int r = remoting_call(fd, header, c->template + c->template_len - load->options.body_size, load->options.body_size,
                          buffer, sizeof(buffer), &frame);
    close(fd);
    if (r < 0)
        return r;
    if (frame.code != REMOTING_SUCCESS) {
        fprintf(stderr, "loadgen: first send refused with code %d: %.*s\n", frame.code, (int)frame.remark_len,
                frame.remark);
        return -EPROTO;
    }
    return 0;
}

static int prepare(struct load *load)
{
    int r = 0;

    key_salt = (uint32_t)(clock_now_ns(CLOCK_REALTIME) / 1000000) & 0xffff;
    for (unsigned i = 0; i < load->options.connection_count; i++)
        build_template(load, &load->connections[i]);
    for (unsigned i = 0; r >= 0 && i < load->options.broker_count; i++)
        r = create_topic(load, i);
    return r;
}

static bool request(struct load *load, struct connection *c, unsigned slot_index)
{
    struct slot *slot = &c->slots[slot_index];
    char *frame = c->out + c->out_len;

    if (c->out_len + c->template_len > c->out_size)
        abort(); /* room for every outstanding request was made at the start */
    memcpy(frame, c->template, c->template_len);
    slot->queue_id = (uint32_t)(message_serial % load->options.queue_count);
    frame[place.queue] = (char)('0' + slot->queue_id);
    put_digits(frame + place.time, 13, (uint64_t)(load->wall_ms));
    put_digits(frame + place.key_counter, 12, ((uint64_t)key_salt * 10000000 + message_serial) % 1000000000000);
    put_digits(frame + place.opaque, 10, load_opaque(slot, slot_index));
    message_serial++;
    c->out_len += c->template_len;
    return true;
}

static void answer(struct load *load, struct connection *c, struct slot *slot, const struct frame *frame)
{
    (void)c;
    (void)slot;
    if (frame->code != REMOTING_SUCCESS)
        load_count_error(load, frame->code, frame->remark, frame->remark_len);
    else if (!frame->has_message_id || frame->queue_id < 0 || frame->queue_offset < 0 || frame->body_len != 0)
        load_count_bad(load, "send acknowledged without msgId, queueId or queueOffset, or with a body");
    else {
        load->messages++;
        load->body_bytes += load->options.body_size;
    }
}

const struct mode mode_send = {"send", prepare, request, answer};
