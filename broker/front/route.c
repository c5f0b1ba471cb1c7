/* From request code to handler. To find who serves a request, look it up in the table below. The front's one thread.
 *
 * Requests that read topics, groups or queues need a whole catalogue; while there is none (start, gap, new store) a
 * copy of the frame waits here. */
#include "route.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "admin.h"
#include "admin_broker.h"
#include "admin_client.h"
#include "admin_group.h"
#include "admin_offset.h"
#include "admin_topic.h"
#include "broker_config.h"
#include "broker_stats.h"
#include "catalogue.h"
#include "limits.h"
#include "lock.h"
#include "member.h"
#include "offset.h"
#include "pull.h"
#include "query.h"
#include "relay.h"
#include "reply.h"
#include "runtime_info.h"
#include "search.h"
#include "send.h"
#include "send_back.h"
#include "topic.h"
#include "view.h"
#include "wire/codes.h"

enum {
    PORT_MAIN = 1,
    PORT_FAST = 2, /* listenPort − 2: Apache registers no pulls there */
    PORT_ANY = PORT_MAIN | PORT_FAST,
    NEEDS_CATALOGUE = 4,
    ADMIN = 8, /* changes something for everybody: only from peers in adminFrom */
    HEAVY = 16, /* takes a helper thread, a job or another client, or has a large answer: few at once per connection */
    ADMIN_READS = PORT_ANY | NEEDS_CATALOGUE | HEAVY,
    ADMIN_CHANGES = PORT_ANY | NEEDS_CATALOGUE | ADMIN | HEAVY,
};

static const struct route {
    int32_t code;
    unsigned flags;
    route_handler handler;
} routes[] = {
    {REQUEST_SEND_MESSAGE, PORT_ANY, send_message},
    {REQUEST_PULL_MESSAGE, PORT_MAIN | NEEDS_CATALOGUE, pull_message},
    {REQUEST_QUERY_MESSAGE, PORT_ANY | HEAVY, query_message},
    {REQUEST_QUERY_CONSUMER_OFFSET, PORT_ANY, offset_query},
    {REQUEST_UPDATE_CONSUMER_OFFSET, PORT_ANY, offset_update},
    {REQUEST_UPDATE_AND_CREATE_TOPIC, PORT_ANY | ADMIN, topic_update_and_create},
    {REQUEST_UPDATE_AND_CREATE_TOPIC_LIST, ADMIN_CHANGES, admin_topic_put_list},
    {REQUEST_GET_ALL_TOPIC_CONFIG, ADMIN_READS, admin_topic_all},
    {REQUEST_UPDATE_BROKER_CONFIG, PORT_ANY | ADMIN, broker_config_update},
    {REQUEST_GET_BROKER_CONFIG, PORT_ANY | NEEDS_CATALOGUE, broker_config_get},
    {REQUEST_GET_BROKER_RUNTIME_INFO, PORT_ANY | HEAVY, runtime_info},
    {REQUEST_SEARCH_OFFSET_BY_TIMESTAMP, PORT_ANY | NEEDS_CATALOGUE | HEAVY, search_by_time},
    {REQUEST_GET_MAX_OFFSET, PORT_ANY | NEEDS_CATALOGUE, search_max_offset},
    {REQUEST_GET_MIN_OFFSET, PORT_ANY | NEEDS_CATALOGUE, search_min_offset},
    {REQUEST_GET_EARLIEST_MSG_STORETIME, PORT_ANY | NEEDS_CATALOGUE | HEAVY, search_earliest_time},
    {REQUEST_VIEW_MESSAGE_BY_ID, PORT_ANY | HEAVY, view_message},
    {REQUEST_CONSUMER_SEND_MSG_BACK, PORT_ANY | HEAVY, send_back},
    {REQUEST_HEART_BEAT, PORT_ANY, member_heartbeat},
    {REQUEST_UNREGISTER_CLIENT, PORT_ANY, member_unregister},
    {REQUEST_GET_CONSUMER_LIST_BY_GROUP, PORT_ANY | NEEDS_CATALOGUE, member_list},
    {REQUEST_LOCK_BATCH_MQ, PORT_ANY, lock_batch},
    {REQUEST_UNLOCK_BATCH_MQ, PORT_ANY, unlock_batch},
    {REQUEST_GET_ALL_CONSUMER_OFFSET, ADMIN_READS, admin_offset_all},
    {REQUEST_GET_ALL_DELAY_OFFSET, ADMIN_READS, admin_offset_delays},
    {REQUEST_CHECK_CLIENT_CONFIG, PORT_ANY, member_check_config},
    {REQUEST_UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, ADMIN_CHANGES, admin_group_put},
    {REQUEST_GET_ALL_SUBSCRIPTIONGROUP_CONFIG, ADMIN_READS, admin_group_all},
    {REQUEST_GET_TOPIC_STATS_INFO, ADMIN_READS, admin_topic_stats},
    {REQUEST_GET_CONSUMER_CONNECTION_LIST, ADMIN_READS, admin_client_consumers},
    {REQUEST_GET_PRODUCER_CONNECTION_LIST, ADMIN_READS, admin_client_producers},
    {REQUEST_DELETE_SUBSCRIPTIONGROUP, ADMIN_CHANGES, admin_group_drop},
    {REQUEST_GET_CONSUME_STATS, ADMIN_READS, admin_offset_stats},
    {REQUEST_DELETE_TOPIC_IN_BROKER, ADMIN_CHANGES, admin_topic_drop},
    {REQUEST_INVOKE_BROKER_TO_RESET_OFFSET, ADMIN_CHANGES, admin_offset_reset},
    {REQUEST_INVOKE_BROKER_TO_GET_CONSUMER_STATUS, ADMIN_READS, relay_consumer_status},
    {REQUEST_UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST, ADMIN_CHANGES, admin_group_put_list},
    {REQUEST_QUERY_TOPIC_CONSUME_BY_WHO, ADMIN_READS, admin_topic_consumers},
    {REQUEST_QUERY_CONSUME_TIME_SPAN, ADMIN_READS, admin_offset_time_span},
    {REQUEST_GET_SYSTEM_TOPIC_LIST_FROM_BROKER, ADMIN_READS, admin_topic_system_list},
    {REQUEST_CLEAN_EXPIRED_CONSUMEQUEUE, ADMIN_CHANGES, admin_topic_clean_expired},
    {REQUEST_GET_CONSUMER_RUNNING_INFO, ADMIN_READS, relay_running_info},
    {REQUEST_QUERY_CORRECTION_OFFSET, ADMIN_READS, admin_offset_correction},
    {REQUEST_CONSUME_MESSAGE_DIRECTLY, ADMIN_CHANGES, relay_consume_directly},
    {REQUEST_SEND_MESSAGE_V2, PORT_ANY, send_message},
    {REQUEST_CLONE_GROUP_OFFSET, ADMIN_CHANGES, admin_offset_clone},
    {REQUEST_VIEW_BROKER_STATS_DATA, PORT_ANY | NEEDS_CATALOGUE, broker_stats_view},
    {REQUEST_CLEAN_UNUSED_TOPIC, ADMIN_CHANGES, admin_topic_clean_unused},
    {REQUEST_GET_BROKER_CONSUME_STATS, ADMIN_READS, admin_offset_broker_stats},
    {REQUEST_SEND_BATCH_MESSAGE, PORT_ANY, send_message},
    {REQUEST_QUERY_CONSUME_QUEUE, PORT_ANY | NEEDS_CATALOGUE | HEAVY, view_queue},
    {REQUEST_GET_ALL_PRODUCER_INFO, ADMIN_READS, admin_client_all_producers},
    {REQUEST_DELETE_EXPIRED_COMMITLOG, ADMIN_CHANGES, admin_topic_delete_log},
    {REQUEST_QUERY_TOPICS_BY_CONSUMER, ADMIN_READS, admin_topic_of_group},
    {REQUEST_QUERY_SUBSCRIPTION_BY_CONSUMER, ADMIN_READS, admin_client_subscription},
    {REQUEST_GET_TOPIC_CONFIG, ADMIN_READS, admin_topic_get},
    {REQUEST_GET_SUBSCRIPTIONGROUP_CONFIG, ADMIN_READS, admin_group_get},
    {REQUEST_UPDATE_AND_GET_GROUP_FORBIDDEN, ADMIN_READS, admin_group_forbidden}, /* asks itself when it changes */
    {REQUEST_SET_MESSAGE_REQUEST_MODE, ADMIN_CHANGES, admin_broker_request_mode},
    {REQUEST_GET_BROKER_HA_STATUS, ADMIN_READS, admin_broker_ha_status},
    {REQUEST_LITE_PULL_MESSAGE, PORT_MAIN | NEEDS_CATALOGUE, pull_message},
};

enum { CODES_MAX = 1024 };
_Static_assert((int)REQUEST_GET_BROKER_HA_STATUS < (int)CODES_MAX, "the highest code of the table has a place");

/* By index, not by search: this is on every request's way. */
static const struct route *route_find(int32_t code)
{
    static const struct route *by_code[CODES_MAX];
    if (!by_code[REQUEST_SEND_MESSAGE])
        for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
            by_code[routes[i].code] = &routes[i];
    return code >= 0 && code < CODES_MAX ? by_code[code] : NULL;
}

static int unsupported(struct front *front, struct channel *channel, const struct frame *frame)
{
    char why[256];
    board_add(front->board, COUNTER_REQUESTS_UNSUPPORTED, 1);
    request_code_refusal(frame->code, SERVER_BROKER, why, sizeof why);
    reply_error(channel, frame, RESPONSE_REQUEST_CODE_NOT_SUPPORTED, "%s%s", why,
                route_find(frame->code) ? " on this port" : "");
    return 0;
}

static int route_run(struct front *front, struct channel *channel, const struct frame *frame, bool may_hold)
{
    const struct route *route = route_find(frame->code);
    if (!route || !(route->flags & (channel->vip ? PORT_FAST : PORT_MAIN)))
        return unsupported(front, channel, frame);
    if (route->flags & ADMIN && !admin_may(front, channel, frame))
        return 0;
    if (may_hold && route->flags & HEAVY && (channel->outstanding >= LIMITS_HEAVY_MAX || admin_is_full(front)))
        return -EBUSY;
    if (route->flags & NEEDS_CATALOGUE && !catalogue_is_whole(front->catalogue))
        return may_hold ? held_requests_add(front, channel, frame) : -EAGAIN;
    return route->handler(front, channel, frame);
}

int route_request(struct front *front, struct channel *channel, const struct frame *frame)
{
    if (frame->flag & FRAME_FLAG_RESPONSE) {
        relay_take(front, channel, frame);
        return 0;
    }
    int r = route_run(front, channel, frame, true);
    if (r != -EAGAIN && r != -EBUSY)
        board_add(front->board, COUNTER_REQUESTS, 1);
    return r;
}

enum { HELD_REQUESTS_MAX = 100000, HELD_BYTES_MAX = 64 * 1024 * 1024 };

struct held_request {
    struct held_request *next;
    struct channel_ref channel;
    struct frame *frame; /* its texts point into `text` */
    size_t size;
    uint8_t text[];
};

struct held_requests {
    struct held_request *first, **last;
    size_t count, size;
};

struct held_requests *held_requests_new(void)
{
    struct held_requests *held = calloc(1, sizeof *held);
    if (held)
        held->last = &held->first;
    return held;
}

void held_requests_free(struct held_requests *held)
{
    if (!held)
        return;
    for (struct held_request *request = held->first, *next; request; request = next) {
        next = request->next;
        free(request->frame);
        free(request);
    }
    free(held);
}

static struct bytes keep(uint8_t **at, struct bytes text)
{
    struct bytes kept = {*at, text.size};
    if (text.size)
        memcpy(*at, text.data, text.size);
    *at += text.size;
    return kept;
}

int held_requests_add(struct front *front, struct channel *channel, const struct frame *frame)
{
    struct held_requests *held = front->held;
    size_t size = frame->body.size;
    for (unsigned i = 0; i < frame->field_count; i++)
        size += frame->fields[i].key.size + frame->fields[i].value.size;
    if (held->count == HELD_REQUESTS_MAX || held->size + size > HELD_BYTES_MAX)
        return -EBUSY;
    /* Only the fields that are there: a whole frame has room for 128. */
    size_t frame_size = offsetof(struct frame, fields) + frame->field_count * sizeof frame->fields[0];
    struct held_request *request = calloc(1, sizeof *request + size);
    struct frame *copy = malloc(sizeof *copy);
    if (!request || !copy) {
        free(request);
        free(copy);
        return -ENOMEM;
    }
    memcpy(copy, frame, frame_size);
    uint8_t *at = request->text;
    for (unsigned i = 0; i < frame->field_count; i++) {
        copy->fields[i].key = keep(&at, frame->fields[i].key);
        copy->fields[i].value = keep(&at, frame->fields[i].value);
    }
    copy->body = keep(&at, frame->body);
    copy->remark = (struct bytes){NULL, 0};
    struct frame *shrunk = realloc(copy, frame_size);
    request->frame = shrunk ? shrunk : copy;
    request->channel = channel->ref;
    request->size = size;
    *held->last = request;
    held->last = &request->next;
    held->count++;
    held->size += size;
    channel->outstanding++;
    return 0;
}

void held_requests_run(struct front *front)
{
    struct held_requests *held = front->held;
    while (held->first && catalogue_is_whole(front->catalogue)) {
        struct held_request *request = held->first;
        struct channel *channel = connections_find(front, request->channel);
        int r = channel ? route_run(front, channel, request->frame, false) : 0;
        if (r == -EAGAIN || r == -EBUSY)
            return; /* room in a ring is awaited; a later turn goes on */
        front->resume_wanted = true;
        if (channel)
            channel_answered(channel);
        if (!(held->first = request->next))
            held->last = &held->first;
        held->count--;
        held->size -= request->size;
        free(request->frame);
        free(request);
    }
}
