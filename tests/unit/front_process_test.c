/* The real pintle-front on a stage (front_stage.h): frames in, frames out, as clients see it. Waits are bounded by long
 * limits that only a hang reaches; no figure is asserted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "front_stage.h"
#include "shm/board.h"
#include "wire/codes.h"
#include "wire/frame.h"

enum { WAIT_MS = 20000, BUFFER_SIZE = 8 << 20 };

static struct stage *stage;
static uint8_t *buffer; /* the last response stands here */

struct client {
    int fd;
    int32_t opaque;
};

static struct client client_connect(int port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port)};
    struct client client = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    struct timeval limit = {.tv_sec = WAIT_MS / 1000};
    assert_true(client.fd >= 0);
    setsockopt(client.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    assert_int_equal(connect(client.fd, (struct sockaddr *)&address, sizeof address), 0);
    return client;
}

/* Fields: pairs of texts, NULL at the end. */
static int32_t ask(struct client *client, int32_t code, int32_t flag, struct bytes body, ...)
{
    static uint8_t out[5 << 20];
    struct frame_writer writer;
    va_list fields;
    frame_write_request(&writer, out, 16384, code, ++client->opaque, flag, LANGUAGE_JAVA);
    va_start(fields, body);
    for (const char *key; (key = va_arg(fields, const char *));)
        frame_write_text(&writer, key, bytes_of(va_arg(fields, const char *)));
    va_end(fields);
    ssize_t size = frame_write_finish(&writer, body.size);
    assert_true(size > 0 && (size_t)size + body.size <= sizeof out);
    if (body.size)
        memcpy(out + size, body.data, body.size);
    assert_int_equal(send(client->fd, out, (size_t)size + body.size, MSG_NOSIGNAL), size + (ssize_t)body.size);
    return client->opaque;
}

static void read_whole(int fd, uint8_t *to, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = recv(fd, to + done, size - done, 0);
        assert_true(n > 0);
        done += (size_t)n;
    }
}

/* The next frame that is no notice of ours; `ret_notices` counts those. */
static struct frame hear(struct client *client, unsigned *ret_notices)
{
    struct frame frame;
    for (;;) {
        read_whole(client->fd, buffer, 4);
        uint32_t size = be32_load(buffer);
        assert_true(size + 4 <= BUFFER_SIZE);
        read_whole(client->fd, buffer + 4, size);
        assert_int_equal(buffer[4], 0); /* always a JSON header */
        assert_int_equal(frame_parse(buffer, size + 4, &frame), FRAME_OK);
        if (frame.code != REQUEST_NOTIFY_CONSUMER_IDS_CHANGED || frame.flag & FRAME_FLAG_RESPONSE)
            return frame;
        if (ret_notices)
            ++*ret_notices;
    }
}

static struct frame answer_to(struct client *client, int32_t opaque)
{
    struct frame frame = hear(client, NULL);
    assert_int_equal(frame.opaque, opaque);
    assert_int_equal(frame.flag & FRAME_FLAG_RESPONSE, FRAME_FLAG_RESPONSE);
    return frame;
}

static int64_t number(const struct frame *frame, const char *key)
{
    int64_t value = 0;
    assert_non_null(frame_get(frame, key));
    assert_int_equal(frame_get_i64(frame, key, -99, &value), 0);
    return value;
}

static void assert_field(const struct frame *frame, const char *key, const char *value)
{
    const struct bytes *text = frame_get(frame, key);
    assert_non_null(text);
    assert_int_equal(text->size, strlen(value));
    assert_memory_equal(text->data, value, text->size);
}

static const struct bytes no_body = {NULL, 0};

static int32_t ask_send(struct client *client, const char *queue, const char *properties, struct bytes body)
{
    return ask(client, REQUEST_SEND_MESSAGE_V2, 0, body, "a", "PG", "b", STAGE_TOPIC, "c", "TBW102", "d", "4", "e",
               queue, "f", "0", "g", "1700000000000", "h", "0", "i", properties, "j", "0", "k", "false", "m", "false",
               NULL);
}

static int32_t ask_pull(struct client *client, const char *queue, const char *offset, const char *flags,
                        const char *suspend_ms)
{
    return ask(client, REQUEST_PULL_MESSAGE, 0, no_body, "consumerGroup", "CG", "topic", STAGE_TOPIC, "queueId", queue,
               "queueOffset", offset, "maxMsgNums", "32", "sysFlag", flags, "commitOffset", "3", "suspendTimeoutMillis",
               suspend_ms, "subscription", "A || B", "subVersion", "1", NULL);
}

static void heartbeat(struct client *client, const char *client_id, const char *expression)
{
    char body[512];
    int size =
        snprintf(body, sizeof body,
                 "{\"clientID\":\"%s\",\"consumerDataSet\":[{\"groupName\":\"CG\",\"consumeType\":1,"
                 "\"messageModel\":\"CLUSTERING\",\"subscriptionDataSet\":[{\"topic\":\"" STAGE_TOPIC
                 "\",\"subString\":\"%s\",\"subVersion\":\"1\"}]}],\"producerDataSet\":[{\"groupName\":\"PG\"}]}",
                 client_id, expression);
    int32_t opaque = ask(client, REQUEST_HEART_BEAT, 0, (struct bytes){(uint8_t *)body, (size_t)size}, NULL);
    struct frame frame = answer_to(client, opaque);
    assert_int_equal(frame.code, 0);
    assert_field(&frame, "IS_SUPPORT_HEART_BEAT_V2", "true");
    assert_true(frame.version >= 413);
}

#define EVENTUALLY(condition)                                                                                          \
    do {                                                                                                               \
        for (int i_ = 0; i_ < WAIT_MS && !(condition); i_++)                                                           \
            usleep(1000);                                                                                              \
        assert_true(condition);                                                                                        \
    } while (0)

static void test_send(void **state)
{
    struct client client = client_connect(stage_port(stage));
    struct frame frame = answer_to(&client, ask_send(&client, "0", "KEYS\1k\2TAGS\1A\2", bytes_of("hello")));
    assert_int_equal(frame.code, 0);
    assert_int_equal(number(&frame, "queueId"), 0);
    assert_int_equal(number(&frame, "queueOffset"), 0);
    assert_field(&frame, "transactionId", "KEY0");
    assert_field(&frame, "MSG_REGION", "DefaultRegion");
    assert_field(&frame, "TRACE_ON", "true");
    char id[40];
    snprintf(id, sizeof id, "7F000001%08X%016X", stage_port(stage), 0);
    assert_field(&frame, "msgId", id);

    frame = answer_to(&client, ask(&client, REQUEST_SEND_MESSAGE, 0, bytes_of("v1"), "producerGroup", "PG", "topic",
                                   STAGE_TOPIC, "defaultTopic", "TBW102", "defaultTopicQueueNums", "4", "queueId", "0",
                                   "sysFlag", "0", "bornTimestamp", "1", "flag", "0", "properties", "TAGS\1B\2", NULL));
    assert_int_equal(frame.code, 0);
    assert_int_equal(number(&frame, "queueOffset"), 1);
    close(client.fd);
}

static void test_send_refused(void **state)
{
    struct client client = client_connect(stage_port(stage));
    struct frame frame = answer_to(&client, ask_send(&client, "x", "", bytes_of("b")));
    assert_int_equal(frame.code, RESPONSE_SYSTEM_ERROR);
    assert_true(frame.remark.size > 0);
    assert_field(&frame, "TRACE_ON", "true");
    frame = answer_to(
        &client, ask(&client, REQUEST_SEND_MESSAGE_V2, 0, bytes_of("b"), "a", "PG", "b", "nowhere", "e", "0", NULL));
    assert_int_equal(frame.code, RESPONSE_TOPIC_NOT_EXIST);
    frame = answer_to(&client, ask(&client, REQUEST_SEND_REPLY_MESSAGE, 0, bytes_of("b"), NULL));
    assert_int_equal(frame.code, RESPONSE_REQUEST_CODE_NOT_SUPPORTED);
    assert_non_null(memmem(frame.remark.data, frame.remark.size, "SEND_REPLY_MESSAGE", 18));
    /* The connection lives. */
    frame = answer_to(&client, ask_send(&client, "0", "TAGS\1C\2", bytes_of("c")));
    assert_int_equal(frame.code, 0);
    close(client.fd);
}

static void test_batch_and_oneway(void **state)
{
    struct client client = client_connect(stage_port(stage));
    uint8_t batch[2 * 23];
    for (int i = 0; i < 2; i++) {
        uint8_t *at = batch + i * 23;
        memset(at, 0, 23);
        be32_store(at, 23);
        be32_store(at + 16, 1);
        at[20] = (uint8_t)('x' + i);
    }
    unsigned before = stage_sends(stage);
    ask(&client, REQUEST_SEND_MESSAGE_V2, FRAME_FLAG_ONEWAY, bytes_of("1way"), "a", "PG", "b", STAGE_TOPIC, "e", "3",
        NULL);
    struct frame frame =
        answer_to(&client, ask(&client, REQUEST_SEND_BATCH_MESSAGE, 0, (struct bytes){batch, sizeof batch}, "a", "PG",
                               "b", STAGE_TOPIC, "e", "3", "m", "true", NULL));
    assert_int_equal(frame.code, 0);
    assert_int_equal(number(&frame, "queueOffset"), 1);
    const struct bytes *ids = frame_get(&frame, "msgId");
    assert_non_null(ids);
    assert_int_equal(ids->size, 32 + 1 + 32);
    assert_int_equal(ids->data[32], ',');
    assert_int_equal(stage_sends(stage), before + 2);
    close(client.fd);
}

static void test_pull(void **state)
{
    struct client client = client_connect(stage_port(stage));
    struct frame frame = answer_to(&client, ask_pull(&client, "0", "0", "0", "0"));
    assert_int_equal(frame.code, RESPONSE_SUBSCRIPTION_NOT_EXIST);
    heartbeat(&client, "c1", "A || B");
    /* Queue 0 holds A, B, C: C is scanned and not delivered. */
    frame = answer_to(&client, ask_pull(&client, "0", "0", "0", "0"));
    assert_int_equal(frame.code, 0);
    assert_int_equal(number(&frame, "nextBeginOffset"), 3);
    assert_int_equal(number(&frame, "minOffset"), 0);
    assert_int_equal(number(&frame, "maxOffset"), 3);
    assert_int_equal(number(&frame, "suggestWhichBrokerId"), 0);
    uint32_t first = be32_load(frame.body.data);
    assert_true(first < frame.body.size);
    assert_int_equal(be32_load(frame.body.data + first) + first, frame.body.size);
    assert_memory_equal(frame.body.data + 88, "hello", 5);
    frame = answer_to(&client, ask_pull(&client, "0", "2", "0", "0"));
    assert_int_equal(frame.code, RESPONSE_PULL_RETRY_IMMEDIATELY);
    assert_int_equal(number(&frame, "nextBeginOffset"), 3);
    frame = answer_to(&client, ask_pull(&client, "0", "3", "0", "0"));
    assert_int_equal(frame.code, RESPONSE_PULL_NOT_FOUND);
    assert_int_equal(number(&frame, "nextBeginOffset"), 3);
    frame = answer_to(&client, ask_pull(&client, "0", "9", "0", "0"));
    assert_int_equal(frame.code, RESPONSE_PULL_OFFSET_MOVED);
    assert_int_equal(number(&frame, "nextBeginOffset"), 3);
    frame = answer_to(&client, ask_pull(&client, "1", "5", "0", "0"));
    assert_int_equal(frame.code, RESPONSE_PULL_OFFSET_MOVED);
    assert_int_equal(number(&frame, "nextBeginOffset"), 0);
    frame = answer_to(&client, ask_pull(&client, "9", "0", "0", "0"));
    assert_int_equal(frame.code, RESPONSE_INVALID_PARAMETER);
    close(client.fd);
    struct client fast = client_connect(stage_fast_port(stage));
    frame = answer_to(&fast, ask_pull(&fast, "0", "0", "0", "0"));
    assert_int_equal(frame.code, RESPONSE_REQUEST_CODE_NOT_SUPPORTED);
    frame = answer_to(&fast, ask_send(&fast, "2", "", bytes_of("by the fast port")));
    assert_int_equal(frame.code, 0);
    close(fast.fd);
}

static void test_large_pull(void **state)
{
    struct client client = client_connect(stage_port(stage));
    static uint8_t body[60000];
    memset(body, 'L', sizeof body);
    heartbeat(&client, "c1", "A || B");
    for (int i = 0; i < 6; i++) {
        struct frame frame = answer_to(&client, ask_send(&client, "1", "TAGS\1A\2", (struct bytes){body, sizeof body}));
        assert_int_equal(frame.code, 0);
    }
    /* 256 KiB hold four of them; with the text in the request. */
    struct frame frame = answer_to(&client, ask_pull(&client, "1", "0", "5", "0"));
    assert_int_equal(frame.code, 0);
    assert_int_equal(number(&frame, "nextBeginOffset"), 4);
    size_t at = 0;
    for (int i = 0; i < 4; i++, at += be32_load(frame.body.data + at)) {
        assert_int_equal(be64_load(frame.body.data + at + 20), i);
        assert_memory_equal(frame.body.data + at + 88, body, sizeof body);
    }
    assert_int_equal(at, frame.body.size);
    EVENTUALLY(stage_committed_offset(stage) == 3);
    close(client.fd);
}

/* Bytes that are not in the page cache are brought in by a helper; the answer is the same. */
static void test_cold_pull(void **state)
{
    struct client client = client_connect(stage_port(stage));
    static uint8_t body[60000];
    memset(body, 'c', sizeof body);
    uint64_t before = stage_counter(stage, COUNTER_PULLS_COLD);
    heartbeat(&client, "c1", "*");
    int64_t offset = 0;
    for (int i = 0; i < 4; i++) {
        struct frame frame = answer_to(&client, ask_send(&client, "3", "", (struct bytes){body, sizeof body}));
        if (i == 0)
            offset = number(&frame, "queueOffset");
    }
    bool cold = stage_make_cold(stage); /* not every file system can */
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)offset);
    struct frame frame = answer_to(&client, ask_pull(&client, "3", text, "0", "0"));
    assert_int_equal(frame.code, 0);
    assert_int_equal(be64_load(frame.body.data + 20), offset);
    assert_memory_equal(frame.body.data + 88, body, sizeof body);
    if (cold)
        assert_true(stage_counter(stage, COUNTER_PULLS_COLD) > before);
    close(client.fd);
}

static void test_size_limit(void **state)
{
    enum { LIMIT = 4 << 20 };
    struct client client = client_connect(stage_port(stage));
    uint8_t *body = calloc(1, LIMIT + 1);
    assert_non_null(body);
    struct frame frame = answer_to(&client, ask_send(&client, "2", "K\1v\2", (struct bytes){body, LIMIT - 1024}));
    assert_int_equal(frame.code, 0);
    frame = answer_to(&client, ask_send(&client, "2", "K\1v\2", (struct bytes){body, LIMIT + 1}));
    assert_int_equal(frame.code, RESPONSE_MESSAGE_ILLEGAL);
    assert_field(&frame, "MSG_REGION", "DefaultRegion");
    free(body);
    heartbeat(&client, "c1", "*");
    frame = answer_to(&client, ask_pull(&client, "2", "3", "0", "0")); /* the first match always goes */
    assert_int_equal(frame.code, 0);
    assert_true(frame.body.size > LIMIT - 1024);
    close(client.fd);
}

static void test_long_poll(void **state)
{
    struct client poller = client_connect(stage_port(stage)), sender = client_connect(stage_port(stage));
    heartbeat(&poller, "c1", "A || B");
    int32_t opaque = ask_pull(&poller, "0", "3", "2", "60000");
    EVENTUALLY(stage_counter(stage, COUNTER_PULLS_PARKED) == 1);
    /* An unwanted tag leaves it parked, a wanted one answers it. */
    assert_int_equal(answer_to(&sender, ask_send(&sender, "0", "TAGS\1C\2", bytes_of("no"))).code, 0);
    assert_int_equal(answer_to(&sender, ask_send(&sender, "0", "TAGS\1B\2", bytes_of("yes"))).code, 0);
    struct frame frame = answer_to(&poller, opaque);
    assert_int_equal(frame.code, 0);
    assert_int_equal(number(&frame, "nextBeginOffset"), 5);
    assert_memory_equal(frame.body.data + 88, "yes", 3);
    frame = answer_to(&poller, ask_pull(&poller, "0", "5", "2", "150"));
    assert_int_equal(frame.code, RESPONSE_PULL_NOT_FOUND);
    assert_int_equal(number(&frame, "nextBeginOffset"), 5);
    /* A poll of a closed connection goes with it. */
    ask_pull(&poller, "0", "5", "2", "60000");
    EVENTUALLY(stage_counter(stage, COUNTER_PULLS_PARKED) == 1);
    close(poller.fd);
    EVENTUALLY(stage_counter(stage, COUNTER_PULLS_PARKED) == 0);
    EVENTUALLY(stage_members(stage) == 0);
    close(sender.fd);
}

static int64_t ask_offset(struct client *client, int32_t code, const char *queue, const char *time, const char *bound)
{
    struct frame frame = answer_to(client, ask(client, code, 0, no_body, "topic", STAGE_TOPIC, "queueId", queue,
                                               "timestamp", time, "boundaryType", bound, NULL));
    assert_int_equal(frame.code, 0);
    return number(&frame, code == REQUEST_GET_EARLIEST_MSG_STORETIME ? "timestamp" : "offset");
}

static void test_search(void **state)
{
    struct client client = client_connect(stage_port(stage));
    assert_int_equal(ask_offset(&client, REQUEST_GET_MAX_OFFSET, "1", "0", ""), 6);
    assert_int_equal(ask_offset(&client, REQUEST_GET_MIN_OFFSET, "1", "0", ""), 0);
    assert_int_equal(ask_offset(&client, REQUEST_GET_EARLIEST_MSG_STORETIME, "1", "0", ""), 1000);
    /* Stored at 1000, 1010, … 1050. */
    assert_int_equal(ask_offset(&client, REQUEST_SEARCH_OFFSET_BY_TIMESTAMP, "1", "5", "lower"), 0);
    assert_int_equal(ask_offset(&client, REQUEST_SEARCH_OFFSET_BY_TIMESTAMP, "1", "1020", ""), 2);
    assert_int_equal(ask_offset(&client, REQUEST_SEARCH_OFFSET_BY_TIMESTAMP, "1", "1021", "lower"), 3);
    assert_int_equal(ask_offset(&client, REQUEST_SEARCH_OFFSET_BY_TIMESTAMP, "1", "1021", "UPPER"), 2);
    assert_int_equal(ask_offset(&client, REQUEST_SEARCH_OFFSET_BY_TIMESTAMP, "1", "2000", "lower"), 6);
    struct frame frame =
        answer_to(&client, ask(&client, REQUEST_GET_MAX_OFFSET, 0, no_body, "topic", "nowhere", "queueId", "0", NULL));
    assert_int_equal(frame.code, 0);
    assert_int_equal(number(&frame, "offset"), 0);
    close(client.fd);
}

static void test_offsets_and_locks(void **state)
{
    struct client client = client_connect(stage_port(stage));
    struct frame frame =
        answer_to(&client, ask(&client, REQUEST_UPDATE_CONSUMER_OFFSET, 0, no_body, "consumerGroup", "CG", "topic",
                               STAGE_TOPIC, "queueId", "0", "commitOffset", "41", NULL));
    assert_int_equal(frame.code, 0);
    frame = answer_to(&client, ask(&client, REQUEST_QUERY_CONSUMER_OFFSET, 0, no_body, "consumerGroup", "CG", "topic",
                                   STAGE_TOPIC, "queueId", "0", NULL));
    assert_int_equal(frame.code, 0);
    assert_int_equal(number(&frame, "offset"), 41);
    struct bytes body =
        bytes_of("{\"clientId\":\"c1\",\"consumerGroup\":\"CG\",\"mqSet\":[{\"brokerName\":\"broker-s\","
                 "\"queueId\":2,\"topic\":\"" STAGE_TOPIC "\"}]}");
    frame = answer_to(&client, ask(&client, REQUEST_LOCK_BATCH_MQ, 0, body, NULL));
    assert_int_equal(frame.code, 0);
    const char *wanted =
        "{\"lockOKMQSet\":[{\"brokerName\":\"broker-s\",\"queueId\":2,\"topic\":\"" STAGE_TOPIC "\"}]}";
    assert_int_equal(frame.body.size, strlen(wanted));
    assert_memory_equal(frame.body.data, wanted, frame.body.size);
    frame = answer_to(&client, ask(&client, REQUEST_UNLOCK_BATCH_MQ, 0, body, NULL));
    assert_int_equal(frame.code, 0);
    close(client.fd);
}

static void test_members(void **state)
{
    struct client one = client_connect(stage_port(stage)), two = client_connect(stage_port(stage));
    unsigned notices = 0;
    heartbeat(&one, "c1", "*");
    heartbeat(&two, "c2", "*");
    int32_t opaque = ask(&two, REQUEST_GET_CONSUMER_LIST_BY_GROUP, 0, no_body, "consumerGroup", "CG", NULL);
    struct frame frame = hear(&two, NULL);
    assert_int_equal(frame.opaque, opaque);
    assert_non_null(memmem(frame.body.data, frame.body.size, "\"c1\"", 4));
    assert_non_null(memmem(frame.body.data, frame.body.size, "\"c2\"", 4));
    /* The first member was told that a second came, at the latest when its own next question is answered. */
    opaque = ask(&one, REQUEST_UNREGISTER_CLIENT, 0, no_body, "clientID", "c1", "consumerGroup", "CG", NULL);
    frame = hear(&one, &notices);
    assert_int_equal(frame.opaque, opaque);
    assert_true(notices > 0);
    opaque = ask(&two, REQUEST_GET_CONSUMER_LIST_BY_GROUP, 0, no_body, "consumerGroup", "CG", NULL);
    frame = hear(&two, NULL);
    assert_null(memmem(frame.body.data, frame.body.size, "\"c1\"", 4));
    frame = answer_to(&one, ask(&one, REQUEST_GET_CONSUMER_LIST_BY_GROUP, 0, no_body, "consumerGroup", "none", NULL));
    assert_int_equal(frame.code, RESPONSE_SYSTEM_ERROR);
    close(one.fd);
    close(two.fd);
    EVENTUALLY(stage_members(stage) == 0);
}

static void test_store_dies(void **state)
{
    struct client consumer = client_connect(stage_port(stage)), sender = client_connect(stage_port(stage));
    heartbeat(&consumer, "c1", "*");
    assert_int_equal(answer_to(&sender, ask_send(&sender, "2", "", bytes_of("before"))).code, 0);
    unsigned replayed = stage_replayed_members(stage), snapshots = stage_snapshots(stage);
    int32_t pull = ask_pull(&consumer, "2", "2", "2", "60000");
    EVENTUALLY(stage_counter(stage, COUNTER_PULLS_PARKED) == 1);
    stage_kill_store(stage);
    int32_t waiting = ask_send(&sender, "2", "", bytes_of("meanwhile"));
    stage_start_store(stage, true);
    /* The answer to what waited, and not a second one to what came before. */
    struct frame frame = answer_to(&sender, waiting);
    assert_int_equal(frame.code, 0);
    assert_int_equal(number(&frame, "queueOffset"), 2);
    EVENTUALLY(stage_snapshots(stage) > snapshots);
    assert_int_equal(stage_replayed_members(stage), replayed + 2);
    frame = hear(&consumer, NULL); /* a poll parked before is answered by what came after */
    assert_int_equal(frame.opaque, pull);
    assert_int_equal(frame.code, 0);
    int32_t opaque = ask(&consumer, REQUEST_GET_CONSUMER_LIST_BY_GROUP, 0, no_body, "consumerGroup", "CG", NULL);
    frame = hear(&consumer, NULL);
    assert_int_equal(frame.opaque, opaque);
    assert_non_null(memmem(frame.body.data, frame.body.size, "\"c1\"", 4));
    close(consumer.fd);
    close(sender.fd);
}

static void test_catalogue_gap(void **state)
{
    struct client client = client_connect(stage_port(stage));
    unsigned snapshots = stage_snapshots(stage);
    stage_make_gap(stage, "LateTopic");
    EVENTUALLY(stage_snapshots(stage) == snapshots + 1);
    assert_true(stage_counter(stage, COUNTER_CATALOGUE_GAPS) > 0);
    struct frame frame =
        answer_to(&client, ask(&client, REQUEST_PULL_MESSAGE, 0, no_body, "consumerGroup", "G2", "topic", "LateTopic",
                               "queueId", "0", "queueOffset", "0", "sysFlag", "4", "subscription", "*", NULL));
    assert_int_equal(frame.code, RESPONSE_PULL_NOT_FOUND);
    close(client.fd);
}

static void test_bad_frames(void **state)
{
    static const uint8_t bad[][16] = {
        {0x01, 0x00, 0x00, 0x00, 0, 0, 0, 4},         /* larger than a frame may be */
        {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0},         /* negative */
        {0, 0, 0, 8, 0, 0, 0, 9, 'x', 'x', 'x', 'x'}, /* header longer than the frame */
        {0, 0, 0, 8, 0, 0, 0, 4, '{', '{', '{', '{'}, /* no JSON */
        {0, 0, 0, 8, 5, 0, 0, 4, '{', '}', ' ', ' '}, /* unknown serialization */
    };
    uint64_t before = stage_counter(stage, COUNTER_FRAMES_BAD);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct client client = client_connect(stage_port(stage));
        uint8_t byte;
        assert_int_equal(send(client.fd, bad[i], sizeof bad[i], MSG_NOSIGNAL), sizeof bad[i]);
        ssize_t n = recv(client.fd, &byte, 1, 0);
        assert_true(n == 0 || (n < 0 && errno == ECONNRESET));
        close(client.fd);
    }
    EVENTUALLY(stage_counter(stage, COUNTER_FRAMES_BAD) == before + sizeof bad / sizeof *bad);
}

/* Far more than the rings hold, sent without reading: back-pressure, and then every answer, in the order of one ring.
 */
static void test_flood(void **state)
{
    enum { COUNT = 200 };
    struct client client = client_connect(stage_port(stage));
    static uint8_t body[50000];
    stage_kill_store(stage);
    pid_t writer = fork();
    assert_true(writer >= 0);
    if (writer == 0) {
        for (int i = 0; i < COUNT; i++)
            ask_send(&client, "3", "", (struct bytes){body, sizeof body});
        _exit(0);
    }
    EVENTUALLY(stage_counter(stage, COUNTER_RING_FULL) > 0);
    stage_start_store(stage, false);
    for (int32_t i = 1; i <= COUNT; i++)
        assert_int_equal(answer_to(&client, i).code, 0);
    int status;
    assert_int_equal(waitpid(writer, &status, 0), writer);
    assert_int_equal(status, 0);
    close(client.fd);
}

static void test_stop(void **state)
{
    struct client client = client_connect(stage_port(stage));
    heartbeat(&client, "c1", "*");
    int32_t opaque = ask_pull(&client, "0", "5", "2", "60000");
    EVENTUALLY(stage_counter(stage, COUNTER_PULLS_PARKED) == 1);
    int status = stage_end(stage);
    stage = NULL;
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    struct frame frame = hear(&client, NULL);
    assert_int_equal(frame.opaque, opaque);
    assert_int_equal(frame.code, RESPONSE_PULL_NOT_FOUND);
    close(client.fd);
}

static int set_up(void **state)
{
    static char folder[] = "/tmp/front-test-XXXXXX";
    static char program[4096]; /* this one is BUILD/tests/front_process, the front is BUILD/bin/pintle-front */
    ssize_t size = readlink("/proc/self/exe", program, sizeof program - 32);
    char *slash = size > 0 ? memrchr(program, '/', (size_t)size) : NULL;
    buffer = malloc(BUFFER_SIZE);
    if (!buffer || !slash || !mkdtemp(folder))
        return -1;
    strcpy(slash, "/../bin/pintle-front");
    *state = folder;
    stage = stage_start(program, folder);
    return 0;
}

static int tear_down(void **state)
{
    char command[256];
    if (stage)
        stage_end(stage);
    free(buffer);
    snprintf(command, sizeof command, "rm -rf %s", (char *)*state);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_send),
        cmocka_unit_test(test_send_refused),
        cmocka_unit_test(test_batch_and_oneway),
        cmocka_unit_test(test_pull),
        cmocka_unit_test(test_large_pull),
        cmocka_unit_test(test_long_poll),
        cmocka_unit_test(test_search),
        cmocka_unit_test(test_offsets_and_locks),
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_store_dies),
        cmocka_unit_test(test_catalogue_gap),
        cmocka_unit_test(test_bad_frames),
        cmocka_unit_test(test_cold_pull),
        cmocka_unit_test(test_size_limit),
        cmocka_unit_test(test_flood),
        cmocka_unit_test(test_stop),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
