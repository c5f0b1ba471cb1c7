/* From request code to handler. To find who serves a request, look it up in the table below. The front's one thread.
 *
 * Requests that read topics, groups or queues need a whole catalogue; while there is none (start, gap, new store) a
 * copy of the frame waits here. */
#include "route.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker_config.h"
#include "broker_stats.h"
#include "catalogue.h"
#include "lock.h"
#include "member.h"
#include "offset.h"
#include "pull.h"
#include "reply.h"
#include "runtime_info.h"
#include "search.h"
#include "send.h"
#include "topic.h"
#include "view.h"
#include "wire/codes.h"

enum {
    PORT_MAIN = 1,
    PORT_FAST = 2, /* listenPort − 2: Apache registers no pulls there */
    PORT_ANY = PORT_MAIN | PORT_FAST,
    NEEDS_CATALOGUE = 4,
    ADMIN = 8, /* changes something for everybody: only from peers in adminFrom */
};

static const struct route {
    int32_t code;
    unsigned flags;
    route_handler handler;
} routes[] = {
    {REQUEST_SEND_MESSAGE, PORT_ANY, send_message},
    {REQUEST_PULL_MESSAGE, PORT_MAIN | NEEDS_CATALOGUE, pull_message},
    {REQUEST_QUERY_CONSUMER_OFFSET, PORT_ANY, offset_query},
    {REQUEST_UPDATE_CONSUMER_OFFSET, PORT_ANY, offset_update},
    {REQUEST_UPDATE_AND_CREATE_TOPIC, PORT_ANY | ADMIN, topic_update_and_create},
    {REQUEST_UPDATE_BROKER_CONFIG, PORT_ANY | ADMIN, broker_config_update},
    {REQUEST_GET_BROKER_RUNTIME_INFO, PORT_ANY, runtime_info},
    {REQUEST_VIEW_BROKER_STATS_DATA, PORT_ANY | NEEDS_CATALOGUE, broker_stats_view},
    {REQUEST_GET_BROKER_CONFIG, PORT_ANY | NEEDS_CATALOGUE, broker_config_get},
    {REQUEST_SEARCH_OFFSET_BY_TIMESTAMP, PORT_ANY | NEEDS_CATALOGUE, search_by_time},
    {REQUEST_GET_MAX_OFFSET, PORT_ANY | NEEDS_CATALOGUE, search_max_offset},
    {REQUEST_GET_MIN_OFFSET, PORT_ANY | NEEDS_CATALOGUE, search_min_offset},
    {REQUEST_GET_EARLIEST_MSG_STORETIME, PORT_ANY | NEEDS_CATALOGUE, search_earliest_time},
    {REQUEST_HEART_BEAT, PORT_ANY, member_heartbeat},
    {REQUEST_UNREGISTER_CLIENT, PORT_ANY, member_unregister},
    {REQUEST_GET_CONSUMER_LIST_BY_GROUP, PORT_ANY | NEEDS_CATALOGUE, member_list},
    {REQUEST_LOCK_BATCH_MQ, PORT_ANY, lock_batch},
    {REQUEST_UNLOCK_BATCH_MQ, PORT_ANY, unlock_batch},
    {REQUEST_CHECK_CLIENT_CONFIG, PORT_ANY, member_check_config},
    {REQUEST_QUERY_MESSAGE, PORT_ANY, view_by_key},
    {REQUEST_VIEW_MESSAGE_BY_ID, PORT_ANY, view_message},
    {REQUEST_QUERY_CONSUME_QUEUE, PORT_ANY | NEEDS_CATALOGUE, view_queue},
    {REQUEST_SEND_MESSAGE_V2, PORT_ANY, send_message},
    {REQUEST_SEND_BATCH_MESSAGE, PORT_ANY, send_message},
    {REQUEST_LITE_PULL_MESSAGE, PORT_MAIN | NEEDS_CATALOGUE, pull_message},
};

static const struct route *route_find(int32_t code)
{
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        if (routes[i].code == code)
            return &routes[i];
    return NULL;
}

static int unsupported(struct front *front, struct channel *channel, const struct frame *frame)
{
    const char *name = request_code_name(frame->code);
    board_add(front->board, COUNTER_REQUESTS_UNSUPPORTED, 1);
    reply_error(channel, frame, RESPONSE_REQUEST_CODE_NOT_SUPPORTED, "request code %d (%s) is not supported%s",
                frame->code, name ? name : "unknown", route_find(frame->code) ? " on this port" : "");
    return 0;
}

static bool is_administrator(const struct front *front, const struct channel *channel)
{
    struct sockaddr_in6 peer = {.sin6_family = AF_INET6};
    struct sockaddr_in peer4 = {.sin_family = AF_INET};
    memcpy(&peer.sin6_addr, channel->peer_ip, sizeof peer.sin6_addr);
    memcpy(&peer4.sin_addr, channel->peer_ip, sizeof peer4.sin_addr);
    const void *address = channel->peer_ipv6 ? (const void *)&peer : (const void *)&peer4;
    return address_list_has(&front->config.admin_from, address);
}

static int refuse_change(struct channel *channel, const struct frame *frame)
{
    char address[INET6_ADDRSTRLEN] = "?";
    board_add(channel->front->board, COUNTER_REQUESTS_FORBIDDEN, 1);
    inet_ntop(channel->peer_ipv6 ? AF_INET6 : AF_INET, channel->peer_ip, address, sizeof address);
    reply_error(channel, frame, RESPONSE_NO_PERMISSION, "%s is taken only from the addresses that adminFrom names, not from %s",
                request_code_name(frame->code), address);
    return 0;
}

static int route_run(struct front *front, struct channel *channel, const struct frame *frame, bool may_hold)
{
    const struct route *route = route_find(frame->code);
    if (!route || !(route->flags & (channel->vip ? PORT_FAST : PORT_MAIN)))
        return unsupported(front, channel, frame);
    if (route->flags & ADMIN && !is_administrator(front, channel))
        return refuse_change(channel, frame);
    if (route->flags & NEEDS_CATALOGUE && !catalogue_is_whole(front->catalogue)) {
        int r = may_hold ? held_requests_add(front, channel, frame) : -ENOSPC;
        if (r < 0)
            reply_error(channel, frame, RESPONSE_SYSTEM_BUSY, "[REJECTREQUEST]the broker is starting");
        return 0;
    }
    return route->handler(front, channel, frame);
}

int route_request(struct front *front, struct channel *channel, const struct frame *frame)
{
    if (frame->flag & FRAME_FLAG_RESPONSE)
        return 0; /* to a notice of ours, which nobody waits for */
    int r = route_run(front, channel, frame, true);
    if (r != -EAGAIN)
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
        return -ENOSPC;
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
        if (r == -EAGAIN)
            return; /* room in a ring is awaited; a later turn goes on */
        if (channel)
            channel->outstanding--;
        if (!(held->first = request->next))
            held->last = &held->first;
        held->count--;
        held->size -= request->size;
        free(request->frame);
        free(request);
    }
}
