/* See route.h. The JSON comes from a name server: checked field by field. */
#include "supervisor/cli/route.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/panic.h"
#include "supervisor/cli/remote.h"
#include "json/json_body.h"

enum { PERM_WRITE = 2, PERM_READ = 4, ASK_TIMEOUT_MS = 3000, DEFAULT_QUEUES = 4, QUEUES_MAX = 65536 };

struct asking {
    const char *topic;
    bool for_write, template_route;
    int code;
    struct route *route;
};

static const char *master_address(json_t *broker_datas, const char *broker)
{
    size_t i;
    json_t *data;
    json_array_foreach (broker_datas, i, data) {
        const char *name = json_string_value(json_object_get(data, "brokerName"));
        if (name && strcmp(name, broker) == 0)
            return json_string_value(json_object_get(json_object_get(data, "brokerAddrs"), "0"));
    }
    return NULL;
}

static void add_queues(struct asking *asking, const char *broker, const char *address, json_int_t count)
{
    struct route *route = asking->route;
    if (count <= 0 || count > QUEUES_MAX)
        return;
    route->queues = realloc(route->queues, (route->count + (size_t)count) * sizeof *route->queues);
    pn_assert(route->queues != NULL);
    for (json_int_t i = 0; i < count; i++) {
        struct route_queue *queue = &route->queues[route->count++];
        snprintf(queue->broker, sizeof queue->broker, "%s", broker);
        snprintf(queue->address, sizeof queue->address, "%s", address);
        queue->queue_id = (int)i;
    }
}

static void read_route(void *context, struct remote *remote, const struct frame *frame)
{
    struct asking *asking = context;
    asking->code = frame->code;
    if (frame->code != RESPONSE_SUCCESS)
        return;
    const char *error;
    json_t *root = json_body_parse(frame->body, &error), *data;
    json_t *brokers = json_object_get(root, "brokerDatas");
    const char *count_key = asking->for_write ? "writeQueueNums" : "readQueueNums";
    size_t i;
    json_array_foreach (json_object_get(root, "queueDatas"), i, data) {
        const char *broker = json_string_value(json_object_get(data, "brokerName"));
        json_int_t perm = json_integer_value(json_object_get(data, "perm"));
        if (!broker || !(perm & (asking->for_write ? PERM_WRITE : PERM_READ)))
            continue;
        const char *address = master_address(brokers, broker);
        json_int_t count = json_integer_value(json_object_get(data, count_key));
        if (asking->template_route && count > DEFAULT_QUEUES)
            count = DEFAULT_QUEUES;
        if (address)
            add_queues(asking, broker, address, count);
    }
    json_decref(root);
}

static int ask(struct remote *remote, struct asking *asking)
{
    struct remote_request request;
    remote_begin(remote, &request, REQUEST_GET_ROUTEINFO_BY_TOPIC, 0, strlen(asking->topic) + 8, 2, 0);
    frame_write_text(&request.writer, "topic", bytes_of(asking->topic));
    frame_write_bool(&request.writer, "acceptStandardJsonOnly", true);
    int32_t opaque = remote_end(remote, &request, (struct bytes){NULL, 0});
    return remote_wait(remote, opaque, ASK_TIMEOUT_MS, read_route, asking);
}

static int ask_one(const char *namesrv, const char *topic, bool for_write, struct route *route, char **ret_error)
{
    struct remote *remote = NULL;
    int r = remote_open(namesrv, NULL, NULL, &remote);
    struct asking asking = {topic, for_write, false, 0, route};
    if (r == 0)
        r = ask(remote, &asking);
    if (r == 0 && asking.code == RESPONSE_TOPIC_NOT_EXIST && for_write) {
        asking.topic = "TBW102";
        asking.template_route = true;
        r = ask(remote, &asking);
    }
    remote_close(remote);
    free(*ret_error);
    *ret_error = NULL;
    int length = 0;
    if (r < 0) {
        length = asprintf(ret_error, "name server %s: %s", namesrv, strerror(-r));
    } else if (route->count == 0) {
        r = -ENOENT;
        length = asprintf(ret_error, "name server %s knows no %s queue of topic %s", namesrv,
                          for_write ? "writable" : "readable", topic);
    }
    pn_assert(length >= 0);
    return r;
}

int route_find(const char *namesrvs, const char *topic, bool for_write, struct route *ret_route, char **ret_error)
{
    PN_FREE char *list = strdup(namesrvs);
    *ret_route = (struct route){NULL, 0};
    *ret_error = NULL;
    char *rest = list, *one;
    int r = -EINVAL;
    while ((one = strsep(&rest, ";,"))) {
        if (!*one)
            continue;
        r = ask_one(one, topic, for_write, ret_route, ret_error);
        if (r == 0)
            return 0;
    }
    if (!*ret_error)
        *ret_error = strdup("no name server given");
    return r;
}

void route_free(struct route *route)
{
    free(route->queues);
    *route = (struct route){NULL, 0};
}
