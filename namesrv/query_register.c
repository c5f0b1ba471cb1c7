/* Brokers of other hosts, Apache's and ours, over TCP (remoting facts 2.1, 2.4, 2.5): registration, farewell,
 * heartbeat, and "do you have my version". Anybody may send these, so whatever they say is checked, the number of
 * brokers and topics is bounded, and a broker is only as alive as its connection. Runs in the name server. */
#include "query_register.h"

#include <inttypes.h>
#include <isa-l/crc.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "fault/fault.h"
#include "registration_body.h"

/* Whoever registers is a stranger: names, and how many there are of everything, are bounded. */
enum {
    BROKERS_MAX = 4096,
    MEMBERS_MAX = 256, /* ids of one broker name */
    TOPICS_MAX = 1000000,
    QUEUES_MAX = 4000000, /* topics of all brokers together */
    NAME_SIZE_MAX = 255,
};

/* Names stand in logs and as keys of answers. */
static bool is_name(struct bytes text)
{
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] < 0x20 || text.data[i] == 0x7f)
            return false;
    return text.size <= NAME_SIZE_MAX;
}

/* The header's part; the rest is the body's. */
static bool take_header(struct query *query, struct bus_registration *registration, struct route_remote *remote)
{
    const struct frame *frame = query->frame;
    const struct bytes *name = answer_need(query, "brokerName"), *addr = name ? answer_need(query, "brokerAddr") : NULL;
    const struct bytes *cluster = addr ? answer_need(query, "clusterName") : NULL;
    const struct bytes *ha_addr = frame_get(frame, "haServerAddr"), *zone = frame_get(frame, "__ZONE_NAME");
    if (!cluster || !answer_need(query, "brokerId"))
        return false;
    registration->broker_name = *name;
    registration->broker_addr = *addr;
    registration->cluster = *cluster;
    registration->ha_addr = ha_addr ? *ha_addr : (struct bytes){NULL, 0};
    remote->zone = zone ? *zone : (struct bytes){NULL, 0};
    remote->knows_acting = frame_get(frame, "enableActingMaster") != NULL;
    remote->connection = query->peer->number;
    remote->is_whole = query->namesrv->config.flags[CONFIG_DELETE_TOPIC];
    if (frame_get_i64(frame, "brokerId", 0, &registration->broker_id) < 0 || registration->broker_id < 0 ||
        frame_get_i64(frame, "heartbeatTimeoutMillis", 0, &registration->heartbeat_timeout_ms) < 0 ||
        frame_get_bool(frame, "enableActingMaster", false, &remote->acting) < 0) {
        answer_refuse(query, RESPONSE_SYSTEM_ERROR, "brokerId, heartbeatTimeoutMillis or enableActingMaster is wrong");
        return false;
    }
    if (!is_name(*name) || !is_name(*addr) || !is_name(*cluster) || !is_name(registration->ha_addr) ||
        !is_name(remote->zone)) {
        answer_refuse(query, RESPONSE_SYSTEM_ERROR,
                      "a name or an address is longer than %d bytes or has a control character", NAME_SIZE_MAX);
        return false;
    }
    if (name->size == 0 || addr->size == 0 || addr->data[0] == ':') { /* only a broker of this host has no host */
        answer_refuse(query, RESPONSE_SYSTEM_ERROR, "brokerName is empty or brokerAddr has no host");
        return false;
    }
    return true;
}

static bool take_body(struct query *query, struct registration_body *body)
{
    const struct frame *frame = query->frame;
    const char *error = NULL;
    int32_t crc;
    bool is_compressed;
    if (frame_get_i32(frame, "bodyCrc32", 0, &crc) < 0 ||
        frame_get_bool(frame, "compressed", false, &is_compressed) < 0) {
        answer_refuse(query, RESPONSE_SYSTEM_ERROR, "bodyCrc32 or compressed is wrong");
        return false;
    }
    if (crc != 0 && (uint32_t)crc != (crc32_gzip_refl(0, frame->body.data, frame->body.size) & INT32_MAX)) {
        answer_refuse(query, RESPONSE_SYSTEM_ERROR, "bodyCrc32 is not that of the body");
        return false;
    }
    if (registration_body_parse(frame->body, is_compressed, frame->version, body, &error) == 0)
        return true;
    answer_refuse(query, RESPONSE_SYSTEM_ERROR, "the body cannot be read: %s", error);
    return false;
}

static bool has_member(const struct route_broker *broker, int64_t id)
{
    for (unsigned i = 0; i < broker->member_count; i++)
        if (broker->members[i].id == id)
            return true;
    return false;
}

static bool is_full(const struct route_table *routes, const struct bus_registration *registration)
{
    const struct route_broker *broker = route_table_broker(routes, registration->broker_name);
    return (HASH_COUNT(routes->brokers) >= BROKERS_MAX && !broker) ||
           (broker && broker->member_count >= MEMBERS_MAX && !has_member(broker, registration->broker_id)) ||
           HASH_COUNT(routes->topics) + registration->topic_count > TOPICS_MAX ||
           routes->queue_count + registration->topic_count > QUEUES_MAX;
}

/* A slave is told of its master; every broker of the orders that are configured for topics. */
static void answer_registered(struct query *query, const struct bus_registration *registration, bool is_taken)
{
    const struct route_broker *broker = route_table_broker(query->namesrv->routes, registration->broker_name);
    struct answer_field fields[2];
    unsigned count = 0;
    struct text orders = {NULL, 0, 0};
    if (is_taken && registration->broker_id != 0 && broker && broker->members[0].id == 0) {
        fields[count++] = (struct answer_field){"haServerAddr", broker->members[0].ha_addr};
        fields[count++] = (struct answer_field){"masterAddr", broker->members[0].addr};
    }
    if (query->namesrv->config.flags[CONFIG_RETURN_ORDER])
        (void)kv_config_list(&query->namesrv->kv, bytes_of(KV_SPACE_ORDER), &orders);
    answer(query, RESPONSE_SUCCESS, NULL, fields, count, (struct bytes){(const uint8_t *)orders.data, orders.size});
    text_free(&orders);
}

static void apply(struct query *query, const struct bus_registration *registration, const struct route_remote *remote)
{
    struct namesrv *namesrv = query->namesrv;
    bool is_new = !route_table_member_at(namesrv->routes, registration->cluster, registration->broker_addr);
    enum route_answer result = route_table_register_remote(namesrv->routes, registration, remote, clock_monotonic_ms());
    board_add(namesrv->board, COUNTER_REGISTRATIONS, 1);
    if (result == ROUTE_TOO_EARLY) {
        answer_refuse(query, RESPONSE_SYSTEM_ERROR,
                      "broker %.*s is not registered: the first time it must send all topics",
                      (int)registration->broker_name.size, (const char *)registration->broker_name.data);
        return;
    }
    if (result == ROUTE_OK)
        query->peer->is_broker = true;
    if (result == ROUTE_IGNORED && !query->peer->was_refused) {
        query->peer->was_refused = true;
        log_warning("broker %.*s id %" PRId64 " at %.*s is not taken: the id belongs to another address",
                    (int)registration->broker_name.size, (const char *)registration->broker_name.data,
                    registration->broker_id, (int)registration->broker_addr.size,
                    (const char *)registration->broker_addr.data);
    } else if (is_new && result == ROUTE_OK) {
        log_info("broker %.*s id %" PRId64 " at %.*s registered with %u topics", (int)registration->broker_name.size,
                 (const char *)registration->broker_name.data, registration->broker_id,
                 (int)registration->broker_addr.size, (const char *)registration->broker_addr.data,
                 registration->topic_count);
    }
    answer_registered(query, registration, result == ROUTE_OK);
}

void query_register_broker(struct query *query)
{
    struct bus_registration registration = {0};
    struct route_remote remote = {0};
    struct registration_body body;
    FAULT_POINT(NAMESRV_REGISTER);
    if (!take_header(query, &registration, &remote) || !take_body(query, &body))
        return;
    registration.version = body.version;
    registration.topics = body.topics;
    registration.topic_count = body.topic_count;
    if (is_full(query->namesrv->routes, &registration))
        answer_refuse(query, RESPONSE_SYSTEM_ERROR, "this name server has %d brokers, or %d of this name, or would have more than %d topics, or %d in all "
                      "brokers together",
                      BROKERS_MAX, MEMBERS_MAX, TOPICS_MAX, QUEUES_MAX);
    else
        apply(query, &registration, &remote);
    registration_body_free(&body);
}

void query_register_leave(struct query *query)
{
    const struct bytes *name = answer_need(query, "brokerName"), *addr = name ? answer_need(query, "brokerAddr") : NULL;
    if (!addr)
        return;
    if (route_table_unregister_remote(query->namesrv->routes, *name, *addr))
        log_info("broker %.*s at %.*s has left", (int)name->size, (const char *)name->data, (int)addr->size,
                 (const char *)addr->data);
    answer_ok(query);
}

void query_register_version(struct query *query)
{
    const struct bytes *cluster = answer_need(query, "clusterName"),
                       *addr = cluster ? answer_need(query, "brokerAddr") : NULL;
    struct bus_data_version asked = {0};
    struct text text = {NULL, 0, 0};
    const char *error;
    if (!addr)
        return;
    json_t *json = query->frame->body.size ? json_body_parse(query->frame->body, &error) : NULL;
    registration_body_version(json, &asked);
    json_decref(json);
    const struct route_member *member = route_table_member_at(query->namesrv->routes, *cluster, *addr);
    bool is_same = member && member->version.state_version == asked.state_version &&
                   member->version.timestamp_ms == asked.timestamp_ms && member->version.counter == asked.counter;
    (void)route_table_touch(query->namesrv->routes, *cluster, *addr, clock_monotonic_ms());
    if (member)
        text_add(&text, "{\"counter\":%" PRId64 ",\"stateVersion\":%" PRId64 ",\"timestamp\":%" PRId64 "}",
                 member->version.counter, member->version.state_version, member->version.timestamp_ms);
    answer(query, RESPONSE_SUCCESS, NULL, &(struct answer_field){"changed", bytes_of(is_same ? "false" : "true")}, 1,
           (struct bytes){(const uint8_t *)text.data, text.size});
    text_free(&text);
}

void query_register_heartbeat(struct query *query)
{
    const struct bytes *cluster = answer_need(query, "clusterName"),
                       *addr = cluster ? answer_need(query, "brokerAddr") : NULL;
    if (!addr)
        return;
    (void)route_table_touch(query->namesrv->routes, *cluster, *addr, clock_monotonic_ms());
    answer_ok(query);
}
