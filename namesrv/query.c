/* Route, cluster and topic list queries (remoting facts 2.1, 2.3). The bodies are what Apache's name server writes, key
 * order and all: clients parse them with anything from fastjson to eval. Runs in the name server; requests are foreign,
 * what they ask for is only looked up. A code that is not in the table is refused by name and the connection lives. */
#include "query.h"

#include <inttypes.h>
#include <stdio.h>

#include "fault/fault.h"
#include "json/json_body.h"
#include "wire/codes.h"

enum { VERSION_QUOTED_KEYS = 401 /* MQVersion V4_9_4: from here on clients parse with a strict reader */ };

struct query {
    struct namesrv *namesrv;
    struct connection *connection;
    const struct frame *frame;
    struct bytes own_host;
};

static void answer(struct query *query, enum response_code code, const char *remark, struct bytes body)
{
    struct connection *connection = query->connection;
    struct frame_writer writer;
    struct bytes remark_bytes = remark ? bytes_of(remark) : (struct bytes){NULL, 0};
    size_t bound = frame_write_bound(remark_bytes.size, 0);
    if (query->frame->flag & FRAME_FLAG_ONEWAY)
        return;
    frame_write_response(&writer, connection_reserve(connection, bound), bound, code, query->frame->opaque,
                         remark_bytes);
    ssize_t size = frame_write_finish(&writer, body.size);
    if (size < 0) { /* a table of more than 16 MiB */
        answer(query, RESPONSE_SYSTEM_ERROR, "the answer is too large for a frame", (struct bytes){NULL, 0});
        return;
    }
    connection_commit(connection, (size_t)size);
    if (body.size) {
        memcpy(connection_reserve(connection, body.size), body.data, body.size);
        connection_commit(connection, body.size);
    }
    board_add(query->namesrv->board, COUNTER_RESPONSES, 1);
}

static void refuse(struct query *query, enum response_code code, const char *remark)
{
    answer(query, code, remark, (struct bytes){NULL, 0});
}

static void answer_text(struct query *query, struct text *text)
{
    answer(query, RESPONSE_SUCCESS, NULL, (struct bytes){(const uint8_t *)text->data, text->size});
    text_free(text);
}

static void add_literal(struct text *text, const char *literal)
{
    text_add_bytes(text, bytes_of(literal));
}

/* "host:port"; a broker that leaves its host open is on this host, under the name by which the client knows us. */
static void add_address(struct text *text, struct bytes addr, struct bytes own_host)
{
    char full[512];
    if (addr.size == 0 || addr.data[0] != ':') {
        text_add_json_string(text, addr);
        return;
    }
    int size = snprintf(full, sizeof full, "%.*s%.*s", (int)own_host.size, (const char *)own_host.data, (int)addr.size,
                        (const char *)addr.data);
    text_add_json_string(text, (struct bytes){(const uint8_t *)full, (size_t)size < sizeof full ? (size_t)size : 0});
}

/* Without spaces: the Go client cuts this object at commas and colons. */
static void add_addresses(struct text *text, const struct route_broker *broker, struct bytes own_host, bool quoted)
{
    add_literal(text, "{");
    for (unsigned i = 0; i < broker->member_count; i++) {
        const struct route_member *member = &broker->members[i];
        text_add(text, quoted ? "%s\"%" PRId64 "\":" : "%s%" PRId64 ":", i ? "," : "", member->id);
        add_address(text, member->addr, own_host);
    }
    add_literal(text, "}");
}

static void add_broker(struct text *text, const struct route_broker *broker, struct bytes own_host, bool quoted)
{
    add_literal(text, "{\"brokerAddrs\":");
    add_addresses(text, broker, own_host, quoted);
    add_literal(text, ",\"brokerName\":");
    text_add_json_string(text, broker->name);
    add_literal(text, ",\"cluster\":");
    text_add_json_string(text, broker->cluster);
    add_literal(text, ",\"enableActingMaster\":false}");
}

static void take_route(struct query *query)
{
    const struct bytes *name = frame_get(query->frame, "topic");
    bool standard;
    (void)frame_get_bool(query->frame, "acceptStandardJsonOnly", false, &standard);
    bool quoted = standard || query->frame->version >= VERSION_QUOTED_KEYS;
    FAULT_POINT(NAMESRV_QUERY);
    board_add(query->namesrv->board, COUNTER_ROUTE_QUERIES, 1);
    const struct route_topic *topic = name ? route_table_topic(query->namesrv->routes, *name) : NULL;
    if (!topic) {
        char remark[512];
        snprintf(remark, sizeof remark, "no broker of this name server has the topic: %.*s", name ? (int)name->size : 0,
                 name ? (const char *)name->data : "");
        refuse(query, name ? RESPONSE_TOPIC_NOT_EXIST : RESPONSE_SYSTEM_ERROR, name ? remark : "the topic is missing");
        return;
    }
    struct text text = {NULL, 0, 0};
    add_literal(&text, "{\"brokerDatas\":[");
    for (unsigned i = 0; i < topic->queue_count; i++) {
        add_literal(&text, i ? "," : "");
        add_broker(&text, topic->queues[i].broker, query->own_host, quoted);
    }
    add_literal(&text, "],\"filterServerTable\":{},\"queueDatas\":[");
    for (unsigned i = 0; i < topic->queue_count; i++) {
        const struct route_queue *queue = &topic->queues[i];
        add_literal(&text, i ? ",{\"brokerName\":" : "{\"brokerName\":");
        text_add_json_string(&text, queue->broker->name);
        text_add(&text, ",\"perm\":%d,\"readQueueNums\":%d,\"topicSysFlag\":%d,\"writeQueueNums\":%d}", queue->perm,
                 queue->read_queues, queue->topic_sys_flag, queue->write_queues);
    }
    add_literal(&text, "]}");
    answer_text(query, &text);
}

/* Whether no broker before this one is of its cluster. */
static bool is_first_of_cluster(const struct route_table *routes, const struct route_broker *broker)
{
    for (const struct route_broker *other = routes->brokers; other != broker; other = other->hh.next)
        if (bytes_equal(other->cluster, broker->cluster))
            return false;
    return true;
}

static void add_names_of_cluster(struct text *text, const struct route_table *routes, struct bytes cluster)
{
    const char *comma = "";
    for (const struct route_broker *broker = routes->brokers; broker; broker = broker->hh.next) {
        if (!bytes_equal(broker->cluster, cluster))
            continue;
        add_literal(text, comma);
        text_add_json_string(text, broker->name);
        comma = ",";
    }
}

static void take_cluster_info(struct query *query)
{
    const struct route_table *routes = query->namesrv->routes;
    struct text text = {NULL, 0, 0};
    add_literal(&text, "{\"brokerAddrTable\":{");
    for (const struct route_broker *broker = routes->brokers; broker; broker = broker->hh.next) {
        add_literal(&text, broker == routes->brokers ? "" : ",");
        text_add_json_string(&text, broker->name);
        add_literal(&text, ":");
        add_broker(&text, broker, query->own_host, false);
    }
    add_literal(&text, "},\"clusterAddrTable\":{");
    for (const struct route_broker *broker = routes->brokers; broker; broker = broker->hh.next) {
        if (!is_first_of_cluster(routes, broker))
            continue;
        add_literal(&text, broker == routes->brokers ? "" : ",");
        text_add_json_string(&text, broker->cluster);
        add_literal(&text, ":[");
        add_names_of_cluster(&text, routes, broker->cluster);
        add_literal(&text, "]");
    }
    add_literal(&text, "}}");
    answer_text(query, &text);
}

static bool is_in_cluster(const struct route_topic *topic, struct bytes cluster)
{
    for (unsigned i = 0; i < topic->queue_count; i++)
        if (bytes_equal(topic->queues[i].broker->cluster, cluster))
            return true;
    return false;
}

static void answer_topics(struct query *query, const struct bytes *cluster)
{
    struct text text = {NULL, 0, 0};
    const char *comma = "";
    add_literal(&text, "{\"topicList\":[");
    for (const struct route_topic *topic = query->namesrv->routes->topics; topic; topic = topic->hh.next) {
        if (cluster && !is_in_cluster(topic, *cluster))
            continue;
        add_literal(&text, comma);
        text_add_json_string(&text, topic->name);
        comma = ",";
    }
    add_literal(&text, "]}");
    answer_text(query, &text);
}

static void take_topic_list(struct query *query)
{
    answer_topics(query, NULL);
}

static void take_topics_by_cluster(struct query *query)
{
    const struct bytes *cluster = frame_get(query->frame, "cluster");
    if (cluster)
        answer_topics(query, cluster);
    else
        refuse(query, RESPONSE_SYSTEM_ERROR, "the cluster is missing");
}

static void take_member_group(struct query *query)
{
    const struct bytes *cluster = frame_get(query->frame, "clusterName"), *name = frame_get(query->frame, "brokerName");
    if (!cluster || !name) {
        refuse(query, RESPONSE_SYSTEM_ERROR, "clusterName or brokerName is missing");
        return;
    }
    const struct route_broker *broker = route_table_broker(query->namesrv->routes, *name);
    struct text text = {NULL, 0, 0};
    add_literal(&text, "{\"brokerMemberGroup\":{\"brokerAddrs\":");
    if (broker)
        add_addresses(&text, broker, query->own_host, false);
    else
        add_literal(&text, "{}");
    add_literal(&text, ",\"brokerName\":");
    text_add_json_string(&text, *name);
    add_literal(&text, ",\"cluster\":");
    text_add_json_string(&text, *cluster);
    add_literal(&text, "}}");
    answer_text(query, &text);
}

static void refuse_code(struct query *query)
{
    char remark[128];
    const char *name = request_code_name(query->frame->code);
    if (name)
        snprintf(remark, sizeof remark, "request code %d (%s) is not supported", query->frame->code, name);
    else
        snprintf(remark, sizeof remark, "request code %d is not supported", query->frame->code);
    board_add(query->namesrv->board, COUNTER_REQUESTS_UNSUPPORTED, 1);
    refuse(query, RESPONSE_REQUEST_CODE_NOT_SUPPORTED, remark);
}

void query_take(struct namesrv *namesrv, struct connection *connection, const struct frame *frame,
                struct bytes own_host)
{
    static const struct {
        int32_t code;
        void (*take)(struct query *query);
    } rows[] = {
        {REQUEST_GET_ROUTEINFO_BY_TOPIC, take_route},
        {REQUEST_GET_BROKER_CLUSTER_INFO, take_cluster_info},
        {REQUEST_GET_ALL_TOPIC_LIST_FROM_NAMESERVER, take_topic_list},
        {REQUEST_GET_TOPICS_BY_CLUSTER, take_topics_by_cluster},
        {REQUEST_GET_BROKER_MEMBER_GROUP, take_member_group},
    };
    struct query query = {namesrv, connection, frame, own_host};
    if (frame->flag & FRAME_FLAG_RESPONSE) /* we ask nobody anything */
        return;
    board_add(namesrv->board, COUNTER_REQUESTS, 1);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].code == frame->code) {
            rows[i].take(&query);
            return;
        }
    refuse_code(&query);
}
