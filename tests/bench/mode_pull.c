/*
 * Mode `pull`: PULL_MESSAGE with the subscription `*` in the request, from several queues. Each slot is one reader of
 * one queue that goes from its start to the end and then begins again at the first offset; readers of one queue start
 * apart. Every record of every answer is walked and checked: size, magic, queue, offset in sequence, body size.
 */
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    RECORD_MAGIC_V1 = (int)0xDAA320A7,
    RECORD_MAGIC_V2 = (int)0xDAA320AB,
    RECORD_MAGIC_AT = 4,
    RECORD_QUEUE_ID_AT = 12,
    RECORD_QUEUE_OFFSET_AT = 20,
    RECORD_SYS_FLAG_AT = 36,
    RECORD_BODY_LEN_AT = 84, /* with two IPv4 hosts; 12 more for each IPv6 one */
    RECORD_SIZE_MIN = 91,
    SYS_FLAG_BORN_HOST_V6 = 0x10,
    SYS_FLAG_STORE_HOST_V6 = 0x20,
};

static int blocking_call(const struct options *o, unsigned broker, const char *header, const char *body,
                         struct frame *ret_frame)
{
    static char buffer[64 * 1024];
    int fd = remoting_connect(&o->broker[broker], o->timeout_ms);

    if (fd < 0)
        return fd;
    int r = remoting_call(fd, header, body, strlen(body), buffer, sizeof(buffer), ret_frame);
    close(fd);
    if (r >= 0 && ret_frame->code != REMOTING_SUCCESS) {
        fprintf(stderr, "loadgen: refused with code %d: %.*s\n%s\n", ret_frame->code, (int)ret_frame->remark_len,
                ret_frame->remark, header);
        r = -EPROTO;
    }
    return r;
}

int pull_query_offset(const struct options *o, unsigned broker, int code, unsigned queue_id, int64_t *ret_offset)
{
    char header[512];
    struct frame frame;

    snprintf(header, sizeof(header),
             "{\"code\":%d,\"extFields\":{\"queueId\":\"%u\",\"topic\":\"%s\"},\"flag\":0,\"language\":\"OTHER\","
             "\"opaque\":%u,\"serializeTypeCurrentRPC\":\"JSON\",\"version\":479}",
             code, queue_id, o->topic, OPAQUE_BASE);
    int r = blocking_call(o, broker, header, "", &frame);
    if (r < 0)
        return r;
    *ret_offset = frame.offset;
    return frame.offset < 0 ? -EBADMSG : 0;
}

/* The members of a group are connections; so each connection that will pull says who it is, on itself. */
int pull_heartbeat(const struct options *o, struct connection *c)
{
    char body[768], buffer[4096];
    struct frame frame;
    const char *header = "{\"code\":34,\"flag\":0,\"language\":\"OTHER\",\"opaque\":999999999,"
                         "\"serializeTypeCurrentRPC\":\"JSON\",\"version\":479}";

    int n = snprintf(body, sizeof(body),
                     "{\"clientID\":\"127.0.0.1@bench-%d-%u\",\"consumerDataSet\":[{\"consumeFromWhere\":"
                     "\"CONSUME_FROM_FIRST_OFFSET\",\"consumeType\":\"CONSUME_PASSIVELY\",\"groupName\":\"%s\","
                     "\"messageModel\":\"CLUSTERING\",\"subscriptionDataSet\":[{\"classFilterMode\":false,"
                     "\"codeSet\":[],\"expressionType\":\"TAG\",\"subString\":\"*\",\"subVersion\":1,\"tagsSet\":[],"
                     "\"topic\":\"%s\"}],\"unitMode\":false}],\"heartbeatFingerprint\":0,\"producerDataSet\":[],"
                     "\"withoutSub\":false}",
                     (int)getpid(), c->index, o->group, o->topic);
    if (n < 0 || (size_t)n >= sizeof(body))
        return -E2BIG;
    int r = remoting_call(c->fd, header, body, (size_t)n, buffer, sizeof(buffer), &frame);
    if (r >= 0 && frame.code != REMOTING_SUCCESS) {
        fprintf(stderr, "loadgen: heartbeat refused with code %d: %.*s\n", frame.code, (int)frame.remark_len,
                frame.remark);
        r = -EPROTO;
    }
    return r;
}

static int prepare(struct load *load)
{
    const struct options *o = &load->options;
    int64_t min_offset[LOAD_BROKERS_MAX][LOAD_QUEUES_MAX], max_offset[LOAD_BROKERS_MAX][LOAD_QUEUES_MAX];
    int r = 0;

    for (unsigned b = 0; b < o->broker_count; b++)
        for (unsigned q = 0; q < o->queue_count; q++) {
            r = pull_query_offset(o, b, REMOTING_GET_MIN_OFFSET, q, &min_offset[b][q]);
            if (r >= 0)
                r = pull_query_offset(o, b, REMOTING_GET_MAX_OFFSET, q, &max_offset[b][q]);
            if (r < 0)
                return r;
            if (max_offset[b][q] <= min_offset[b][q]) {
                fprintf(stderr, "loadgen: queue %u of topic %s is empty; send to it first\n", q, o->topic);
                return -ENODATA;
            }
        }
    unsigned reader_count = o->connection_count * o->outstanding;
    for (unsigned i = 0; i < o->connection_count; i++) {
        struct connection *c = &load->connections[i];
        c->out_size = (size_t)PULL_HEADER_MAX * o->outstanding;
        c->out = malloc(c->out_size);
        if (!c->out)
            abort();
        r = pull_heartbeat(o, c);
        if (r < 0)
            return r;
        for (unsigned s = 0; s < o->outstanding; s++) {
            struct slot *slot = &c->slots[s];
            unsigned reader = i * o->outstanding + s;
            slot->queue_id = reader % o->queue_count;
            slot->min_offset = min_offset[c->broker][slot->queue_id];
            int64_t span = max_offset[c->broker][slot->queue_id] - slot->min_offset;
            slot->queue_offset = slot->min_offset + span * reader / reader_count;
        }
    }
    return 0;
}

size_t pull_header_format(char *out, size_t out_size, const struct options *o, const struct pull_place *place)
{
    int n = snprintf(out, out_size,
                     "{\"code\":11,\"extFields\":{\"commitOffset\":\"0\",\"consumerGroup\":\"%s\",\"expressionType\":"
                     "\"TAG\",\"maxMsgNums\":\"%u\",\"queueId\":\"%u\",\"queueOffset\":\"%lld\",\"subVersion\":\"1\","
                     "\"subscription\":\"*\",\"suspendTimeoutMillis\":\"%d\",\"sysFlag\":\"%d\",\"topic\":\"%s\"},"
                     "\"flag\":0,\"language\":\"OTHER\",\"opaque\":%u,\"serializeTypeCurrentRPC\":\"JSON\","
                     "\"version\":479}",
                     o->group, o->pull_batch, place->queue_id, (long long)place->queue_offset, place->suspend_ms,
                     place->sys_flag, o->topic, place->opaque);

    if (n < 0 || (size_t)n >= out_size - REMOTING_FRAME_FIXED)
        abort(); /* the options bound the names */
    return (size_t)n;
}

static bool request(struct load *load, struct connection *c, unsigned slot_index)
{
    struct slot *slot = &c->slots[slot_index];
    char header[PULL_HEADER_MAX];

    pull_header_format(header, sizeof(header), &load->options,
                       &(struct pull_place){.queue_id = slot->queue_id,
                                            .queue_offset = slot->queue_offset,
                                            .sys_flag = PULL_FLAG_SUBSCRIPTION,
                                            .suspend_ms = 15000,
                                            .opaque = load_opaque(slot, slot_index)});
    c->out_len += remoting_put_header(c->out + c->out_len, c->out_size - c->out_len, header, 0);
    return true;
}

/* Returns the record's size, or 0 with the reason. */
static size_t check_record(const struct load *load, const struct slot *slot, int64_t queue_offset, const char *record,
                           size_t left, const char **ret_reason)
{
    size_t size = left >= RECORD_SIZE_MIN ? remoting_read_be32(record) : 0;
    *ret_reason = "a record that does not end within the answer";
    if (size < RECORD_SIZE_MIN || size > left)
        return 0;

    int magic = (int)remoting_read_be32(record + RECORD_MAGIC_AT);
    *ret_reason = "a record with a foreign magic";
    if (magic != RECORD_MAGIC_V1 && magic != RECORD_MAGIC_V2)
        return 0;
    *ret_reason = "a record of another queue or offset";
    if (remoting_read_be32(record + RECORD_QUEUE_ID_AT) != slot->queue_id ||
        (int64_t)remoting_read_be64(record + RECORD_QUEUE_OFFSET_AT) != queue_offset)
        return 0;
    uint32_t sys_flag = remoting_read_be32(record + RECORD_SYS_FLAG_AT);
    size_t body_len_at =
        RECORD_BODY_LEN_AT + (sys_flag & SYS_FLAG_BORN_HOST_V6 ? 12 : 0) + (sys_flag & SYS_FLAG_STORE_HOST_V6 ? 12 : 0);
    *ret_reason = "a record with a body of another size";
    if (body_len_at + 4 > size || remoting_read_be32(record + body_len_at) != load->options.body_size)
        return 0;
    return size;
}

static void take_records(struct load *load, struct slot *slot, const struct frame *frame)
{
    const char *p = frame->body, *end = p + frame->body_len, *reason = "";
    unsigned count = 0;

    while (p < end) {
        size_t size = check_record(load, slot, slot->queue_offset + count, p, (size_t)(end - p), &reason);
        if (size == 0) {
            load_count_bad(load, reason);
            break;
        }
        p += size;
        count++;
    }
    if (count == 0 || count > load->options.pull_batch)
        load_count_bad(load, "an answer with no record or more than were asked for");
    else if (frame->next_begin_offset != slot->queue_offset + count || frame->max_offset < frame->next_begin_offset)
        load_count_bad(load, "nextBeginOffset or maxOffset does not follow the records");
    load->messages += count;
    load->body_bytes += (uint64_t)count * load->options.body_size;
    slot->queue_offset += count;
    if (slot->queue_offset >= frame->max_offset) /* the end: no request is spent on being told so */
        slot->queue_offset = slot->min_offset;
}

static void answer(struct load *load, struct connection *c, struct slot *slot, const struct frame *frame)
{
    (void)c;
    if (frame->code == REMOTING_SUCCESS)
        take_records(load, slot, frame);
    else {
        if (frame->code == REMOTING_PULL_NOT_FOUND || frame->code == REMOTING_PULL_OFFSET_MOVED)
            load->not_found++;
        else
            load_count_error(load, frame->code, frame->remark, frame->remark_len);
        slot->queue_offset = slot->min_offset;
    }
}

const struct mode mode_pull = {"pull", prepare, request, answer};
