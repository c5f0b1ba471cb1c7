/*
 * Modes for a cluster of many topics: `topics` creates --count of them (TOPIC-0000, TOPIC-0001, … with --queues queues),
 * `groups` creates --count consumer groups, `routes` asks the name server (given as --broker) for the routes of --many
 * such topics in turn; all three through the common loop. `new-route` creates --count topics one after the other and
 * prints how long each took from the request to the broker until the name server tells its route.
 */
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { HEADER_MAX = 768, BODY_MAX = 512, LOOK_NS = 100 * 1000 };

#define HEADER_REST "\"flag\":0,\"language\":\"OTHER\",\"opaque\":%u,\"serializeTypeCurrentRPC\":\"JSON\",\"version\":479}"

static uint64_t serial;

static int prepare(struct load *load)
{
    for (unsigned i = 0; i < load->options.connection_count; i++) {
        struct connection *c = &load->connections[i];
        c->out_size = (size_t)(REMOTING_FRAME_FIXED + HEADER_MAX + BODY_MAX) * load->options.outstanding;
        c->out = malloc(c->out_size);
        if (!c->out)
            abort();
    }
    return 0;
}

static void put_request(struct connection *c, const char *header, const char *body)
{
    c->out_len += remoting_put_header(c->out + c->out_len, c->out_size - c->out_len, header, strlen(body));
    memcpy(c->out + c->out_len, body, strlen(body));
    c->out_len += strlen(body);
}

static void count_answer(struct load *load, struct connection *c, struct slot *slot, const struct frame *frame)
{
    (void)c;
    (void)slot;
    if (frame->code != REMOTING_SUCCESS)
        load_count_error(load, frame->code, frame->remark, frame->remark_len);
    else
        load->messages++;
}

static void topic_header(char *out, const struct options *o, uint64_t number, unsigned opaque)
{
    snprintf(out, HEADER_MAX,
             "{\"code\":17,\"extFields\":{\"defaultTopic\":\"TBW102\",\"order\":\"false\",\"perm\":\"6\","
             "\"readQueueNums\":\"%u\",\"topic\":\"%s-%04llu\",\"topicFilterType\":\"SINGLE_TAG\","
             "\"topicSysFlag\":\"0\",\"writeQueueNums\":\"%u\"}," HEADER_REST,
             o->queue_count, o->topic, (unsigned long long)number, o->queue_count, opaque);
}

static bool topics_request(struct load *load, struct connection *c, unsigned slot_index)
{
    char header[HEADER_MAX];

    topic_header(header, &load->options, serial++, load_opaque(&c->slots[slot_index], slot_index));
    put_request(c, header, "");
    return true;
}

static bool groups_request(struct load *load, struct connection *c, unsigned slot_index)
{
    char header[HEADER_MAX], body[BODY_MAX];

    snprintf(header, sizeof(header), "{\"code\":200," HEADER_REST, load_opaque(&c->slots[slot_index], slot_index));
    snprintf(body, sizeof(body),
             "{\"brokerId\":0,\"consumeBroadcastEnable\":true,\"consumeEnable\":true,\"consumeFromMinEnable\":true,"
             "\"groupName\":\"%s-%04llu\",\"notifyConsumerIdsChangedEnable\":true,\"retryMaxTimes\":16,"
             "\"retryQueueNums\":1,\"whichBrokerWhenConsumeSlowly\":1}",
             load->options.group, (unsigned long long)serial++);
    put_request(c, header, body);
    return true;
}

static void route_header(char *out, const struct options *o, uint64_t number, unsigned opaque)
{
    snprintf(out, HEADER_MAX,
             "{\"code\":105,\"extFields\":{\"acceptStandardJsonOnly\":\"true\",\"topic\":\"%s-%04llu\"}," HEADER_REST,
             o->topic, (unsigned long long)number, opaque);
}

static bool routes_request(struct load *load, struct connection *c, unsigned slot_index)
{
    char header[HEADER_MAX];

    route_header(header, &load->options, serial++ % load->options.many,
                 load_opaque(&c->slots[slot_index], slot_index));
    put_request(c, header, "");
    return true;
}

static void routes_answer(struct load *load, struct connection *c, struct slot *slot, const struct frame *frame)
{
    struct sockaddr_in master;

    if (frame->code == REMOTING_SUCCESS && remoting_route_masters(frame, &master, 1) != 1)
        load_count_bad(load, "a route without a master");
    else
        count_answer(load, c, slot, frame);
    load->body_bytes += frame->body_len;
}

const struct mode mode_topics = {"topics", prepare, topics_request, count_answer};
const struct mode mode_groups = {"groups", prepare, groups_request, count_answer};
const struct mode mode_routes = {"routes", prepare, routes_request, routes_answer};

/* Creates one topic and asks for its route until it is there. Returns the nanoseconds, or a negative errno. */
static int64_t one_new_route(const struct options *o, int broker, int namesrv, uint64_t number)
{
    static char buffer[64 * 1024];
    const struct timespec pause = {0, LOOK_NS};
    char header[HEADER_MAX];
    struct frame frame;
    int64_t begin_ns = clock_now_ns(CLOCK_MONOTONIC), now_ns = begin_ns;

    topic_header(header, o, number, OPAQUE_BASE);
    int r = remoting_call(broker, header, NULL, 0, buffer, sizeof(buffer), &frame);
    if (r >= 0 && frame.code != REMOTING_SUCCESS)
        r = -EPROTO;
    while (r >= 0) {
        route_header(header, o, number, OPAQUE_BASE);
        r = remoting_call(namesrv, header, NULL, 0, buffer, sizeof(buffer), &frame);
        now_ns = clock_now_ns(CLOCK_MONOTONIC);
        if (r >= 0 && frame.code == REMOTING_SUCCESS)
            return now_ns - begin_ns;
        if (r >= 0 && now_ns - begin_ns > (int64_t)o->timeout_ms * 1000000)
            r = -ETIMEDOUT;
        nanosleep(&pause, NULL);
    }
    return r;
}

int mode_new_route(const struct options *o)
{
    static struct histogram times;
    struct sockaddr_in address;
    int64_t took_ns = remoting_parse_address(o->namesrv, &address);
    int namesrv = took_ns >= 0 ? remoting_connect(&address, o->timeout_ms) : -1;
    int broker = remoting_connect(&o->broker[0], o->timeout_ms);

    if (namesrv < 0 || broker < 0)
        took_ns = -ENOTCONN;
    for (uint64_t i = 0; took_ns >= 0 && i < o->message_count; i++) {
        took_ns = one_new_route(o, broker, namesrv, i);
        if (took_ns >= 0)
            histogram_record(&times, took_ns);
    }
    if (took_ns < 0) {
        fprintf(stderr, "loadgen: a new topic's route: %s\n", strerror((int)-took_ns));
        return 1;
    }
    printf("{\"mode\":\"new-route\",\"topics\":%llu,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f}\n",
           (unsigned long long)o->message_count, (double)histogram_percentile(&times, 0.5) / 1e6,
           (double)histogram_percentile(&times, 0.99) / 1e6, (double)times.max_ns / 1e6);
    return 0;
}
