/* See consumer.h. Runs in the `pintle` program. Message bytes are a broker's: every length is checked. */
#include "supervisor/cli/consumer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/panic.h"
#include "contract.h"
#include "supervisor/cli/remote.h"
#include "supervisor/cli/route.h"
#include "json/json_body.h"

enum {
    BROKERS_MAX = 64,
    CALL_TIMEOUT_MS = 3000,
    HEARTBEAT_MS = 30000,
    REBALANCE_MS = 20000,
    COMMIT_MS = 5000,
    PULL_HOLD_MS = 15000,
    PULL_BATCH = 32,
    RETRY_MS = 200,
    PULL_FLAGS = 2 | 4, /* may suspend, subscription text present */
};

struct queue {
    struct route_queue place;
    unsigned broker;
    bool mine, ready; /* ready: offset is known */
    int64_t offset, committed;
    int32_t opaque; /* of the pull under way, 0 = none */
    int64_t not_before_ms;
};

struct broker {
    char address[128];
    struct remote *remote; /* NULL while it cannot be reached */
    int64_t not_before_ms;
};

struct consumer {
    const struct consumer_options *options;
    char client_id[128];
    struct broker brokers[BROKERS_MAX];
    unsigned broker_count;
    struct queue *queues;
    unsigned queue_count;
    bool rebalance, enough;
    int64_t heard_ms; /* last message */
    int64_t heartbeat_ms, rebalanced_ms, committed_ms;
};

static void on_frame(void *context, struct remote *remote, const struct frame *frame);

/* ---- calls ---- */

struct answer {
    int code;
    int64_t offset;
    char *body;
    size_t body_size;
};

static void keep_answer(void *context, struct remote *remote, const struct frame *frame)
{
    struct answer *answer = context;
    answer->code = frame->code;
    frame_get_i64(frame, "offset", -1, &answer->offset);
    answer->body = malloc(frame->body.size + 1);
    pn_assert(answer->body != NULL);
    if (frame->body.size)
        memcpy(answer->body, frame->body.data, frame->body.size);
    answer->body_size = frame->body.size;
}

static void broker_lost(struct consumer *consumer, unsigned index)
{
    struct broker *broker = &consumer->brokers[index];
    remote_close(broker->remote);
    broker->remote = NULL;
    broker->not_before_ms = clock_monotonic_ms() + RETRY_MS;
    for (unsigned i = 0; i < consumer->queue_count; i++)
        if (consumer->queues[i].broker == index)
            consumer->queues[i].opaque = 0;
}

static int finish_call(struct consumer *consumer, unsigned index, struct remote_request *request, struct bytes body,
                       struct answer *ret_answer)
{
    struct remote *remote = consumer->brokers[index].remote;
    *ret_answer = (struct answer){0};
    int32_t opaque = remote_end(remote, request, body);
    int r = remote_wait(remote, opaque, CALL_TIMEOUT_MS, keep_answer, ret_answer);
    if (r < 0)
        broker_lost(consumer, index);
    return r;
}

static void begin(struct consumer *consumer, unsigned index, struct remote_request *request, int code, size_t body_size)
{
    const struct consumer_options *o = consumer->options;
    size_t texts = strlen(o->group) + strlen(o->topic) + strlen(o->expression) + strlen(consumer->client_id) + 64;
    remote_begin(consumer->brokers[index].remote, request, code, 0, texts, 16, body_size);
}

static int heartbeat(struct consumer *consumer, unsigned index)
{
    const struct consumer_options *o = consumer->options;
    struct text text = {0};
    text_add(&text, "{\"clientID\":");
    text_add_json_string(&text, bytes_of(consumer->client_id));
    text_add(&text, ",\"consumerDataSet\":[{\"consumeFromWhere\":\"%s\",\"consumeType\":\"CONSUME_PASSIVELY\",\"groupName\":",
             o->from_last ? "CONSUME_FROM_LAST_OFFSET" : "CONSUME_FROM_FIRST_OFFSET");
    text_add_json_string(&text, bytes_of(o->group));
    text_add(&text, ",\"messageModel\":\"CLUSTERING\",\"subscriptionDataSet\":[{\"classFilterMode\":false,\"codeSet\":[],"
                    "\"expressionType\":\"TAG\",\"subString\":");
    text_add_json_string(&text, bytes_of(o->expression));
    text_add(&text, ",\"subVersion\":%" PRId64 ",\"tagsSet\":[],\"topic\":", clock_realtime_ms());
    text_add_json_string(&text, bytes_of(o->topic));
    text_add(&text, "}],\"unitMode\":false}],\"producerDataSet\":[]}");

    struct remote_request request;
    begin(consumer, index, &request, REQUEST_HEART_BEAT, text.size);
    struct answer answer;
    int r = finish_call(consumer, index, &request, (struct bytes){(uint8_t *)text.data, text.size}, &answer);
    text_free(&text);
    free(answer.body);
    return r < 0 ? r : answer.code == RESPONSE_SUCCESS ? 0 : -EPROTO;
}

static void connect_broker(struct consumer *consumer, unsigned index)
{
    struct broker *broker = &consumer->brokers[index];
    if (broker->remote || clock_monotonic_ms() < broker->not_before_ms)
        return;
    if (remote_open(broker->address, on_frame, consumer, &broker->remote) < 0) {
        broker->not_before_ms = clock_monotonic_ms() + RETRY_MS;
        return;
    }
    if (heartbeat(consumer, index) < 0 && broker->remote)
        broker_lost(consumer, index);
}

static int ask_offset(struct consumer *consumer, struct queue *queue, int code, int64_t *ret_offset)
{
    struct remote_request request;
    begin(consumer, queue->broker, &request, code, 0);
    if (code == REQUEST_QUERY_CONSUMER_OFFSET) {
        frame_write_text(&request.writer, "consumerGroup", bytes_of(consumer->options->group));
        frame_write_bool(&request.writer, "setZeroIfNotFound", false);
    }
    frame_write_text(&request.writer, "topic", bytes_of(consumer->options->topic));
    frame_write_i64(&request.writer, "queueId", queue->place.queue_id);
    struct answer answer;
    int r = finish_call(consumer, queue->broker, &request, (struct bytes){NULL, 0}, &answer);
    free(answer.body);
    if (r < 0)
        return r;
    if (answer.code != RESPONSE_SUCCESS || answer.offset < 0)
        return -ENOENT;
    *ret_offset = answer.offset;
    return 0;
}

static void find_start(struct consumer *consumer, struct queue *queue)
{
    int r = ask_offset(consumer, queue, REQUEST_QUERY_CONSUMER_OFFSET, &queue->offset);
    if (r == -ENOENT)
        r = ask_offset(consumer, queue, consumer->options->from_last ? REQUEST_GET_MAX_OFFSET : REQUEST_GET_MIN_OFFSET,
                       &queue->offset);
    queue->ready = r == 0;
    queue->committed = -1;
    if (r < 0)
        queue->not_before_ms = clock_monotonic_ms() + RETRY_MS;
}

static void commit(struct consumer *consumer, struct queue *queue)
{
    if (!queue->ready || queue->committed == queue->offset || !consumer->brokers[queue->broker].remote)
        return;
    struct remote_request request;
    begin(consumer, queue->broker, &request, REQUEST_UPDATE_CONSUMER_OFFSET, 0);
    frame_write_text(&request.writer, "consumerGroup", bytes_of(consumer->options->group));
    frame_write_text(&request.writer, "topic", bytes_of(consumer->options->topic));
    frame_write_i64(&request.writer, "queueId", queue->place.queue_id);
    frame_write_i64(&request.writer, "commitOffset", queue->offset);
    struct answer answer;
    if (finish_call(consumer, queue->broker, &request, (struct bytes){NULL, 0}, &answer) == 0)
        queue->committed = queue->offset;
    free(answer.body);
}

/* ---- share of the queues ---- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int compare_queues(const void *a, const void *b)
{
    const struct queue *x = a, *y = b;
    int r = strcmp(x->place.broker, y->place.broker);
    return r ? r : x->place.queue_id - y->place.queue_id;
}

/* The members of the group as one broker tells them; our place among them in `ret_index`. */
static int members(struct consumer *consumer, unsigned index, size_t *ret_index, size_t *ret_count)
{
    struct remote_request request;
    begin(consumer, index, &request, REQUEST_GET_CONSUMER_LIST_BY_GROUP, 0);
    frame_write_text(&request.writer, "consumerGroup", bytes_of(consumer->options->group));
    struct answer answer;
    int r = finish_call(consumer, index, &request, (struct bytes){NULL, 0}, &answer);
    PN_FREE char *body = answer.body;
    if (r < 0)
        return r;
    if (answer.code != RESPONSE_SUCCESS)
        return -ENOENT;
    const char *error;
    json_t *root = json_body_parse((struct bytes){(uint8_t *)body, answer.body_size}, &error);
    json_t *list = json_object_get(root, "consumerIdList"), *one;
    PN_FREE const char **names = calloc(json_array_size(list) + 1, sizeof *names);
    size_t count = 0, i;
    json_array_foreach (list, i, one)
        if (json_is_string(one))
            names[count++] = json_string_value(one);
    qsort(names, count, sizeof *names, compare_names);
    for (i = 0; i < count && strcmp(names[i], consumer->client_id) != 0; i++)
        ;
    *ret_index = i;
    *ret_count = count;
    r = i < count ? 0 : -ENOENT;
    json_decref(root);
    return r;
}

static void rebalance(struct consumer *consumer)
{
    size_t index = 0, count = 0;
    int r = -ENOTCONN;
    for (unsigned i = 0; i < consumer->broker_count && r < 0; i++)
        if (consumer->brokers[i].remote)
            r = members(consumer, i, &index, &count);
    if (r < 0)
        return; /* keeps its queues; tried again soon */
    size_t base = consumer->queue_count / count, more = consumer->queue_count % count;
    size_t first = index * base + (index < more ? index : more), size = base + (index < more);
    for (unsigned i = 0; i < consumer->queue_count; i++) {
        struct queue *queue = &consumer->queues[i];
        bool mine = i >= first && i < first + size;
        if (queue->mine && !mine)
            commit(consumer, queue);
        if (queue->mine != mine)
            queue->ready = false;
        queue->mine = mine;
    }
    consumer->rebalance = false;
    consumer->rebalanced_ms = clock_monotonic_ms();
}

/* ---- messages ---- */

struct bytes consumer_property(struct bytes properties, const char *name)
{
    size_t name_size = strlen(name);
    const uint8_t *p = properties.data, *end = p + properties.size;
    while (p < end) {
        const uint8_t *stop = memchr(p, 0x02, (size_t)(end - p));
        if (!stop)
            stop = end;
        const uint8_t *middle = memchr(p, 0x01, (size_t)(stop - p));
        if (middle && (size_t)(middle - p) == name_size && memcmp(p, name, name_size) == 0)
            return (struct bytes){middle + 1, (size_t)(stop - middle - 1)};
        p = stop + 1;
    }
    return (struct bytes){NULL, 0};
}

/* The broker filters by the hash of the tag; collisions are sorted out here by the tag itself. */
static bool tag_wanted(const char *expression, struct bytes tag)
{
    if (strcmp(expression, "*") == 0)
        return true;
    PN_FREE char *copy = strdup(expression);
    char *rest = copy, *one;
    while ((one = strsep(&rest, "|"))) {
        one += strspn(one, " ");
        size_t size = strcspn(one, " ");
        if (size && size == tag.size && memcmp(one, tag.data, size) == 0)
            return true;
    }
    return false;
}

static int64_t get_i64(const uint8_t *p)
{
    return (int64_t)be64_load(p);
}

/* One record at p (remoting facts 4.4); its size, or 0 if it does not hold together. */
static size_t read_record(const uint8_t *p, size_t left, struct consumer_message *message)
{
    if (left < 91)
        return 0;
    size_t size = be32_load(p);
    uint32_t magic = be32_load(p + 4), sys_flag = be32_load(p + 36);
    if (size > left || size < 91 || (magic != 0xDAA320A7u && magic != 0xDAA320ABu))
        return 0;
    struct cursor c = cursor_over(p + 48, size - 48);
    message->queue_offset = get_i64(p + 20);
    message->born_ms = get_i64(p + 40);
    cursor_take(&c, sys_flag & 0x10 ? 20 : 8);
    const uint8_t *store_ms = cursor_take(&c, 8);
    cursor_take(&c, sys_flag & 0x20 ? 20 : 8);
    cursor_take(&c, 12);
    const uint8_t *q = cursor_take(&c, 4);
    size_t n = q ? be32_load(q) : 0;
    message->body = (struct bytes){cursor_take(&c, n), n};
    q = cursor_take(&c, magic == 0xDAA320ABu ? 2 : 1);
    n = !q ? 0 : magic == 0xDAA320ABu ? be16_load(q) : *q;
    cursor_take(&c, n);
    q = cursor_take(&c, 2);
    n = q ? be16_load(q) : 0;
    message->properties = (struct bytes){cursor_take(&c, n), n};
    if (c.bad)
        return 0;
    message->store_ms = get_i64(store_ms);
    return size;
}

static void take_messages(struct consumer *consumer, struct queue *queue, struct bytes body)
{
    const struct consumer_options *o = consumer->options;
    size_t at = 0, size;
    while (at < body.size && !consumer->enough) {
        struct consumer_message message = {.broker = queue->place.broker, .queue_id = queue->place.queue_id};
        size = read_record(body.data + at, body.size - at, &message);
        if (size == 0) {
            fprintf(stderr, "pintle consume: %s sent a damaged message behind offset %" PRId64 " of queue %d\n",
                    queue->place.broker, queue->offset, queue->place.queue_id);
            return;
        }
        at += size;
        queue->offset = message.queue_offset + 1;
        consumer->heard_ms = clock_monotonic_ms();
        if (tag_wanted(o->expression, consumer_property(message.properties, "TAGS")))
            consumer->enough = !o->take(o->context, &message);
    }
}

static void pull(struct consumer *consumer, struct queue *queue)
{
    const struct consumer_options *o = consumer->options;
    struct remote_request request;
    begin(consumer, queue->broker, &request, REQUEST_PULL_MESSAGE, 0);
    struct frame_writer *w = &request.writer;
    frame_write_text(w, "consumerGroup", bytes_of(o->group));
    frame_write_text(w, "topic", bytes_of(o->topic));
    frame_write_i64(w, "queueId", queue->place.queue_id);
    frame_write_i64(w, "queueOffset", queue->offset);
    frame_write_i64(w, "maxMsgNums", PULL_BATCH);
    frame_write_i64(w, "sysFlag", PULL_FLAGS);
    frame_write_i64(w, "commitOffset", 0);
    frame_write_i64(w, "suspendTimeoutMillis", PULL_HOLD_MS);
    frame_write_text(w, "subscription", bytes_of(o->expression));
    frame_write_i64(w, "subVersion", 0);
    frame_write_text(w, "expressionType", bytes_of("TAG"));
    queue->opaque = remote_end(consumer->brokers[queue->broker].remote, &request, (struct bytes){NULL, 0});
}

static void on_pulled(struct consumer *consumer, struct queue *queue, const struct frame *frame)
{
    int64_t next = -1;
    queue->opaque = 0;
    frame_get_i64(frame, "nextBeginOffset", -1, &next);
    if (!queue->mine || !queue->ready)
        return;
    switch (frame->code) {
    case RESPONSE_SUCCESS:
        take_messages(consumer, queue, frame->body);
        if (!consumer->enough && next > queue->offset)
            queue->offset = next;
        break;
    case RESPONSE_PULL_NOT_FOUND:
    case RESPONSE_PULL_RETRY_IMMEDIATELY:
    case RESPONSE_PULL_OFFSET_MOVED:
        if (next >= 0)
            queue->offset = next;
        break;
    default:
        queue->not_before_ms = clock_monotonic_ms() + RETRY_MS;
        fprintf(stderr, "pintle consume: queue %d of %s: code %d: %.*s\n", queue->place.queue_id, queue->place.broker,
                frame->code, (int)frame->remark.size, (const char *)frame->remark.data);
    }
}

static void on_frame(void *context, struct remote *remote, const struct frame *frame)
{
    struct consumer *consumer = context;
    if (!(frame->flag & FRAME_FLAG_RESPONSE)) {
        if (frame->code == REQUEST_NOTIFY_CONSUMER_IDS_CHANGED)
            consumer->rebalance = true;
        return;
    }
    for (unsigned i = 0; i < consumer->queue_count; i++) {
        struct queue *queue = &consumer->queues[i];
        if (queue->opaque && queue->opaque == frame->opaque && consumer->brokers[queue->broker].remote == remote)
            return on_pulled(consumer, queue, frame);
    }
}

/* ---- life ---- */

static void unregister(struct consumer *consumer, unsigned index)
{
    struct remote_request request;
    begin(consumer, index, &request, REQUEST_UNREGISTER_CLIENT, 0);
    frame_write_text(&request.writer, "clientID", bytes_of(consumer->client_id));
    frame_write_text(&request.writer, "consumerGroup", bytes_of(consumer->options->group));
    struct answer answer;
    finish_call(consumer, index, &request, (struct bytes){NULL, 0}, &answer);
    free(answer.body);
}

static void work_queues(struct consumer *consumer, int64_t now_ms)
{
    for (unsigned i = 0; i < consumer->queue_count && !consumer->enough; i++) {
        struct queue *queue = &consumer->queues[i];
        if (!queue->mine || queue->opaque || now_ms < queue->not_before_ms)
            continue;
        if (consumer->brokers[queue->broker].remote && !queue->ready)
            find_start(consumer, queue);
        if (consumer->brokers[queue->broker].remote && queue->ready && !queue->opaque)
            pull(consumer, queue);
    }
}

static void keep_up(struct consumer *consumer, int64_t now_ms)
{
    for (unsigned i = 0; i < consumer->broker_count; i++) {
        struct remote *remote = consumer->brokers[i].remote;
        if (remote && remote->broken)
            broker_lost(consumer, i);
        connect_broker(consumer, i);
    }
    if (now_ms - consumer->heartbeat_ms >= HEARTBEAT_MS) {
        consumer->heartbeat_ms = now_ms;
        for (unsigned i = 0; i < consumer->broker_count; i++)
            if (consumer->brokers[i].remote)
                heartbeat(consumer, i);
    }
    if (consumer->rebalance || now_ms - consumer->rebalanced_ms >= REBALANCE_MS)
        rebalance(consumer);
    if (now_ms - consumer->committed_ms >= COMMIT_MS) {
        consumer->committed_ms = now_ms;
        for (unsigned i = 0; i < consumer->queue_count; i++)
            if (consumer->queues[i].mine)
                commit(consumer, &consumer->queues[i]);
    }
}

static void run(struct consumer *consumer)
{
    const struct consumer_options *o = consumer->options;
    int64_t now_ms = clock_monotonic_ms();
    consumer->heard_ms = consumer->heartbeat_ms = consumer->committed_ms = now_ms;
    consumer->rebalance = true;
    while (!consumer->enough && !*o->stop) {
        keep_up(consumer, now_ms);
        work_queues(consumer, now_ms);
        struct remote *remotes[BROKERS_MAX];
        unsigned count = 0;
        for (unsigned i = 0; i < consumer->broker_count; i++)
            if (consumer->brokers[i].remote)
                remotes[count++] = consumer->brokers[i].remote;
        if (count == 0)
            usleep(RETRY_MS * 1000);
        else if (remote_poll(remotes, count, RETRY_MS) < 0)
            break;
        if (o->idle)
            o->idle(o->context);
        now_ms = clock_monotonic_ms();
        if (o->idle_stop_ms && now_ms - consumer->heard_ms >= o->idle_stop_ms)
            break;
    }
    for (unsigned i = 0; i < consumer->queue_count; i++)
        if (consumer->queues[i].mine)
            commit(consumer, &consumer->queues[i]);
    for (unsigned i = 0; i < consumer->broker_count; i++)
        if (consumer->brokers[i].remote)
            unregister(consumer, i);
}

static int set_up(struct consumer *consumer, const struct route *route)
{
    consumer->queues = calloc(route->count, sizeof *consumer->queues);
    pn_assert(consumer->queues != NULL);
    consumer->queue_count = route->count;
    for (unsigned q = 0; q < route->count; q++) {
        unsigned i = 0;
        while (i < consumer->broker_count && strcmp(consumer->brokers[i].address, route->queues[q].address) != 0)
            i++;
        if (i == BROKERS_MAX)
            return -E2BIG;
        if (i == consumer->broker_count)
            memcpy(consumer->brokers[consumer->broker_count++].address, route->queues[q].address, 128);
        consumer->queues[q].place = route->queues[q];
        consumer->queues[q].broker = i;
    }
    qsort(consumer->queues, consumer->queue_count, sizeof *consumer->queues, compare_queues);
    return 0;
}

int consumer_run(const struct consumer_options *options)
{
    struct route route;
    PN_FREE char *error = NULL;
    if (route_find(options->namesrvs, options->topic, false, &route, &error) < 0) {
        fprintf(stderr, "pintle consume: %s\n", error);
        return EXIT_CODE_IO;
    }
    struct consumer consumer = {.options = options};
    char host[64] = "localhost";
    gethostname(host, sizeof host - 1);
    snprintf(consumer.client_id, sizeof consumer.client_id, "%s@pintle-%d#%" PRId64, host, getpid(),
             clock_monotonic_ns());
    int r = set_up(&consumer, &route);
    if (r == 0)
        run(&consumer);
    for (unsigned i = 0; i < consumer.broker_count; i++)
        remote_close(consumer.brokers[i].remote);
    free(consumer.queues);
    route_free(&route);
    return r < 0 ? EXIT_CODE_IO : 0;
}
