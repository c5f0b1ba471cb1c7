/* Changes of routes by hand (remoting facts 2.1): writing to a broker off and on, topics out and in. They last until
 * the brokers concerned register a change of theirs. Runs in the name server, only for peers of adminFrom. */
#include "query_admin.h"

#include <stdlib.h>

#include "base/log.h"

void query_admin_wipe_write(struct query *query)
{
    const struct bytes *name = answer_need(query, "brokerName");
    if (!name)
        return;
    unsigned count = route_table_wipe_write(query->namesrv->routes, *name);
    log_info("%s stopped writing to broker %.*s: %u topics", query->peer->address, (int)name->size,
             (const char *)name->data, count);
    answer_number(query, "wipeTopicCount", count);
}

void query_admin_add_write(struct query *query)
{
    const struct bytes *name = answer_need(query, "brokerName");
    if (!name)
        return;
    unsigned count = route_table_add_write(query->namesrv->routes, *name);
    log_info("%s allowed writing to broker %.*s: %u topics", query->peer->address, (int)name->size,
             (const char *)name->data, count);
    answer_number(query, "addTopicCount", count);
}

void query_admin_delete_topic(struct query *query)
{
    const struct bytes *name = answer_need(query, "topic"), *cluster = frame_get(query->frame, "clusterName");
    if (!name)
        return;
    route_table_delete_topic(query->namesrv->routes, *name, cluster && cluster->size ? cluster : NULL);
    log_info("%s deleted topic %.*s", query->peer->address, (int)name->size, (const char *)name->data);
    answer_ok(query);
}

static struct bytes text_of(const json_t *value)
{
    return (struct bytes){(const uint8_t *)json_string_value(value), json_string_length(value)};
}

/* All of the queues or none: half a route helps nobody. */
static bool put_queues(struct query *query, struct bytes topic, const json_t *queues)
{
    struct route_table *routes = query->namesrv->routes;
    const json_t *queue;
    size_t i;
    json_array_foreach(queues, i, queue)
    {
        struct bytes broker = text_of(json_object_get(queue, "brokerName"));
        if (route_table_broker(routes, broker))
            continue;
        answer_refuse(query, RESPONSE_SYSTEM_ERROR, "broker %.*s is not registered here", (int)broker.size,
                      broker.size ? (const char *)broker.data : "");
        return false;
    }
    json_array_foreach(queues, i, queue)
    {
        struct bus_topic put = {
            .name = topic,
            .read_queues = (int32_t)json_integer_value(json_object_get(queue, "readQueueNums")),
            .write_queues = (int32_t)json_integer_value(json_object_get(queue, "writeQueueNums")),
            .perm = (int32_t)json_integer_value(json_object_get(queue, "perm")),
            .topic_sys_flag = (int32_t)json_integer_value(json_object_get(queue, "topicSysFlag")),
        };
        route_table_put_queue(routes, &put, text_of(json_object_get(queue, "brokerName")));
    }
    return true;
}

void query_admin_put_topic(struct query *query)
{
    const struct bytes *name = answer_need(query, "topic");
    const char *error = "no body";
    if (!name)
        return;
    json_t *route = query->frame->body.size ? json_body_parse(query->frame->body, &error) : NULL;
    if (!json_is_object(route))
        answer_refuse(query, RESPONSE_SYSTEM_ERROR, "the body is not a route: %s", route ? "no object" : error);
    else if (put_queues(query, *name, json_object_get(route, "queueDatas")))
        answer_ok(query);
    json_decref(route);
}
