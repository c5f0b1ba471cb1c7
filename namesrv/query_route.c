/* Route, cluster and topic list queries (remoting facts 2.1, 2.3). The bodies are what Apache's name server writes, key
 * order and all: clients parse them with anything from fastjson to eval. Runs in the name server; requests are foreign,
 * what they ask for is only looked up. */
#include "query_route.h"

#include <inttypes.h>
#include <stdio.h>
#include <strings.h>

#include "base/clock.h"
#include "fault/fault.h"

enum {
    VERSION_QUOTED_KEYS = 401, /* MQVersion V4_9_4: from here on clients parse with a strict reader */
    PERM_WRITE = 2,
    FLAG_UNIT = 1,
    FLAG_UNIT_SUB = 2,
};

#define SYNC_MEMBER_TOPIC "rmq_sys_SYNC_BROKER_MEMBER_"

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

/* How a broker is shown. */
struct view {
    struct bytes own_host;
    bool quoted; /* ids as strings */
    bool acting; /* the first slave as master */
};

/* Without spaces: the Go client cuts this object at commas and colons. */
static void add_addresses(struct text *text, const struct route_broker *broker, const struct view *view)
{
    text_add_literal(text, "{");
    for (unsigned i = 0; i < broker->member_count; i++) {
        const struct route_member *member = &broker->members[i];
        text_add(text, view->quoted ? "%s\"%" PRId64 "\":" : "%s%" PRId64 ":", i ? "," : "",
                 view->acting && i == 0 ? 0 : member->id);
        add_address(text, member->addr, view->own_host);
    }
    text_add_literal(text, "}");
}

static void add_broker(struct text *text, const struct route_broker *broker, const struct view *view)
{
    text_add_literal(text, "{\"brokerAddrs\":");
    add_addresses(text, broker, view);
    text_add_literal(text, ",\"brokerName\":");
    text_add_json_string(text, broker->name);
    text_add_literal(text, ",\"cluster\":");
    text_add_json_string(text, broker->cluster);
    text_add(text, ",\"enableActingMaster\":%s", broker->acting ? "true" : "false");
    if (broker->zone.size) {
        text_add_literal(text, ",\"zoneName\":");
        text_add_json_string(text, broker->zone);
    }
    text_add_literal(text, "}");
}

/* A broker without master whose first slave may stand in, for a topic that nobody can write. */
static bool is_acting(const struct query *query, struct bytes topic, const struct route_queue *queue)
{
    return query->namesrv->config.flags[CONFIG_ACTING_MASTER] && queue->broker->acting &&
           queue->broker->members[0].id != 0 && !(queue->perm & PERM_WRITE) &&
           !(topic.size >= strlen(SYNC_MEMBER_TOPIC) &&
             memcmp(topic.data, SYNC_MEMBER_TOPIC, strlen(SYNC_MEMBER_TOPIC)) == 0);
}

/* Who says in which zone it is gets no masters of other zones. */
static bool is_in_zone(const struct query *query, const struct route_broker *broker)
{
    const struct bytes *mode = frame_get(query->frame, "__ZONE_MODE"), *zone = frame_get(query->frame, "__ZONE_NAME");
    if (!mode || mode->size != 4 || strncasecmp((const char *)mode->data, "true", 4) != 0 || !zone || zone->size == 0)
        return true;
    return broker->members[0].id != 0 ||
           (broker->zone.size == zone->size &&
            strncasecmp((const char *)broker->zone.data, (const char *)zone->data, zone->size) == 0);
}

static void add_brokers_of(struct text *text, const struct query *query, const struct route_topic *topic, bool quoted)
{
    const char *comma = "";
    for (unsigned i = 0; i < topic->queue_count; i++) {
        const struct route_queue *queue = &topic->queues[i];
        struct view view = {query->peer->own_host, quoted, is_acting(query, topic->name, queue)};
        if (!is_in_zone(query, queue->broker))
            continue;
        text_add_literal(text, comma);
        add_broker(text, queue->broker, &view);
        comma = ",";
    }
}

static void add_queues_of(struct text *text, const struct query *query, const struct route_topic *topic)
{
    const char *comma = "";
    for (unsigned i = 0; i < topic->queue_count; i++) {
        const struct route_queue *queue = &topic->queues[i];
        if (!is_in_zone(query, queue->broker))
            continue;
        text_add(text, "%s{\"brokerName\":", comma);
        text_add_json_string(text, queue->broker->name);
        text_add(text, ",\"perm\":%d,\"readQueueNums\":%d,\"topicSysFlag\":%d,\"writeQueueNums\":%d}", queue->perm,
                 queue->read_queues, queue->topic_sys_flag, queue->write_queues);
        comma = ",";
    }
}

/* After a start not every broker has registered yet: an operator may want clients to ask another name server meanwhile. */
static bool is_waiting(const struct namesrv *namesrv)
{
    return namesrv->config.flags[CONFIG_NEED_WAIT] &&
           clock_monotonic_ms() - namesrv->started_ms < namesrv->config.numbers[CONFIG_WAIT_SECONDS] * 1000;
}

void query_route_topic(struct query *query)
{
    bool standard;
    struct bytes order;
    FAULT_POINT(NAMESRV_QUERY);
    board_add(query->namesrv->board, COUNTER_ROUTE_QUERIES, 1);
    const struct bytes *name = answer_need(query, "topic");
    if (!name)
        return;
    if (is_waiting(query->namesrv)) {
        answer_refuse(query, RESPONSE_SYSTEM_ERROR, "name server not ready: needWaitForService, for %lld s",
                      (long long)query->namesrv->config.numbers[CONFIG_WAIT_SECONDS]);
        return;
    }
    const struct route_topic *topic = route_table_topic(query->namesrv->routes, *name);
    if (!topic) {
        answer_refuse(query, RESPONSE_TOPIC_NOT_EXIST, "no broker of this name server has the topic: %.*s",
                      (int)name->size, (const char *)name->data);
        return;
    }
    (void)frame_get_bool(query->frame, "acceptStandardJsonOnly", false, &standard);
    struct text text = {NULL, 0, 0};
    text_add_literal(&text, "{\"brokerDatas\":[");
    add_brokers_of(&text, query, topic, standard || query->frame->version >= VERSION_QUOTED_KEYS);
    text_add_literal(&text, "],\"filterServerTable\":{},");
    if (query->namesrv->config.flags[CONFIG_ORDER_MESSAGE] &&
        kv_config_get(&query->namesrv->kv, bytes_of(KV_SPACE_ORDER), *name, &order)) {
        text_add_literal(&text, "\"orderTopicConf\":");
        text_add_json_string(&text, order);
        text_add_literal(&text, ",");
    }
    text_add_literal(&text, "\"queueDatas\":[");
    add_queues_of(&text, query, topic);
    text_add_literal(&text, "]}");
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
        text_add_literal(text, comma);
        text_add_json_string(text, broker->name);
        comma = ",";
    }
}

void query_route_clusters(struct query *query)
{
    const struct view view = {query->peer->own_host, false, false};
    const struct route_table *routes = query->namesrv->routes;
    struct text text = {NULL, 0, 0};
    text_add_literal(&text, "{\"brokerAddrTable\":{");
    for (const struct route_broker *broker = routes->brokers; broker; broker = broker->hh.next) {
        text_add_literal(&text, broker == routes->brokers ? "" : ",");
        text_add_json_string(&text, broker->name);
        text_add_literal(&text, ":");
        add_broker(&text, broker, &view);
    }
    text_add_literal(&text, "},\"clusterAddrTable\":{");
    for (const struct route_broker *broker = routes->brokers; broker; broker = broker->hh.next) {
        if (!is_first_of_cluster(routes, broker))
            continue;
        text_add_literal(&text, broker == routes->brokers ? "" : ",");
        text_add_json_string(&text, broker->cluster);
        text_add_literal(&text, ":[");
        add_names_of_cluster(&text, routes, broker->cluster);
        text_add_literal(&text, "]");
    }
    text_add_literal(&text, "}}");
    answer_text(query, &text);
}

/* Which topics a list is of. */
struct choice {
    const struct bytes *cluster; /* NULL: of all */
    int32_t flags_set, flags_clear;
};

/* Apache too looks at the flags of one queue only. */
static bool is_chosen(const struct route_topic *topic, const struct choice *choice)
{
    int32_t flags = topic->queues[0].topic_sys_flag;
    if ((flags & choice->flags_set) != choice->flags_set || (flags & choice->flags_clear))
        return false;
    for (unsigned i = 0; choice->cluster && i < topic->queue_count; i++)
        if (bytes_equal(topic->queues[i].broker->cluster, *choice->cluster))
            return true;
    return !choice->cluster;
}

static void answer_topics(struct query *query, enum config_key key, const struct choice *choice)
{
    struct text text = {NULL, 0, 0};
    const char *comma = "";
    if (!query->namesrv->config.flags[key]) {
        answer_refuse(query, RESPONSE_SYSTEM_ERROR, "%s is false on this name server", config_key_name(key));
        return;
    }
    text_add_literal(&text, "{\"topicList\":[");
    for (const struct route_topic *topic = query->namesrv->routes->topics; topic; topic = topic->hh.next) {
        if (!is_chosen(topic, choice))
            continue;
        text_add_literal(&text, comma);
        text_add_json_string(&text, topic->name);
        comma = ",";
    }
    text_add_literal(&text, "]}");
    answer_text(query, &text);
}

void query_route_all_topics(struct query *query)
{
    answer_topics(query, CONFIG_ALL_TOPIC_LIST, &(struct choice){NULL, 0, 0});
}

void query_route_topics_of_cluster(struct query *query)
{
    const struct bytes *cluster = answer_need(query, "cluster");
    if (cluster)
        answer_topics(query, CONFIG_TOPIC_LIST, &(struct choice){cluster, 0, 0});
}

void query_route_unit_topics(struct query *query)
{
    answer_topics(query, CONFIG_TOPIC_LIST, &(struct choice){NULL, FLAG_UNIT, 0});
}

void query_route_unit_sub_topics(struct query *query)
{
    answer_topics(query, CONFIG_TOPIC_LIST, &(struct choice){NULL, FLAG_UNIT_SUB, 0});
}

void query_route_unit_sub_ununit_topics(struct query *query)
{
    answer_topics(query, CONFIG_TOPIC_LIST, &(struct choice){NULL, FLAG_UNIT_SUB, FLAG_UNIT});
}

/* Names of clusters and brokers are topics too: every broker makes them. */
void query_route_system_topics(struct query *query)
{
    const struct route_table *routes = query->namesrv->routes;
    struct text text = {NULL, 0, 0};
    const char *comma = "";
    text_add_literal(&text, "{");
    if (routes->brokers) {
        text_add_literal(&text, "\"brokerAddr\":");
        add_address(&text, routes->brokers->members[0].addr, query->peer->own_host);
        text_add_literal(&text, ",");
    }
    text_add_literal(&text, "\"topicList\":[");
    for (const struct route_broker *broker = routes->brokers; broker; broker = broker->hh.next) {
        if (is_first_of_cluster(routes, broker)) {
            text_add_literal(&text, comma);
            text_add_json_string(&text, broker->cluster);
            comma = ",";
        }
        text_add_literal(&text, comma);
        text_add_json_string(&text, broker->name);
    }
    text_add_literal(&text, "]}");
    answer_text(query, &text);
}

void query_route_member_group(struct query *query)
{
    const struct view view = {query->peer->own_host, false, false};
    const struct bytes *cluster = answer_need(query, "clusterName"), *name;
    if (!cluster || !(name = answer_need(query, "brokerName")))
        return;
    const struct route_broker *broker = route_table_broker(query->namesrv->routes, *name);
    struct text text = {NULL, 0, 0};
    text_add_literal(&text, "{\"brokerMemberGroup\":{\"brokerAddrs\":");
    if (broker)
        add_addresses(&text, broker, &view);
    else
        text_add_literal(&text, "{}");
    text_add_literal(&text, ",\"brokerName\":");
    text_add_json_string(&text, *name);
    text_add_literal(&text, ",\"cluster\":");
    text_add_json_string(&text, *cluster);
    text_add_literal(&text, "}}");
    answer_text(query, &text);
}
