/* Members: what the store must know of our channels' groups, and what clients ask about groups; see member.h. The
 * front's one thread. The store decides who is a member; the lists that clients get come back through the catalogue. */
#include "member.h"

#include <errno.h>
#include <stdlib.h>

#include "base/panic.h"
#include "pending.h"
#include "store_link.h"
#include "wire/codes.h"
#include "json/json_body.h"

enum {
    VERSION_MIN_ANNOUNCED = 413, /* Java consumers refuse other filters than tags by a lower one in this answer */
    RECORD_OVERHEAD = sizeof(struct ring_record) + 8,
    CHANNEL_MEMBERS_MAX = 4096, /* groups of one connection: they are looked for one by one */
};
_Static_assert((int)WIRE_VERSION >= (int)VERSION_MIN_ANNOUNCED, "the heartbeat's answer tells our version");

struct members {
    uint64_t *drops; /* connections that left and that the store has not been told */
    size_t drop_count, drop_capacity;
    uint32_t replay_slot; /* next channel to tell a new store about */
    int32_t notice_opaque;
};

int members_new(struct members **ret_members)
{
    *ret_members = calloc(1, sizeof **ret_members);
    return *ret_members ? 0 : -ENOMEM;
}

void members_free(struct members *members)
{
    if (!members)
        return;
    free(members->drops);
    free(members);
}

/* Two records of one channel are about the same member: kind, client and group. */
struct member_key {
    bool is_producer;
    struct bytes client_id, group;
};

static struct member_key key_of(const struct member *member)
{
    struct cursor cursor =
        cursor_over(member->payload + sizeof(struct msg_member_put), member->size - sizeof(struct msg_member_put));
    struct member_key key = {.is_producer = ((const struct msg_member_put *)member->payload)->is_producer};
    key.client_id = cursor_get_string(&cursor);
    key.group = cursor_get_string(&cursor);
    return key;
}

static struct member **find_kept(struct channel *channel, struct member_key key)
{
    struct member **at = &channel->members;
    for (; *at; at = &(*at)->next) {
        struct member_key kept = key_of(*at);
        if (kept.is_producer == key.is_producer && bytes_equal(kept.group, key.group) &&
            bytes_equal(kept.client_id, key.client_id))
            return at;
    }
    return at;
}

static void put_member(struct front *front, const struct member *member, uint64_t token, uint8_t flags)
{
    uint8_t *payload = store_link_reserve_control(front, MSG_MEMBER_PUT, member->size);
    pn_assert(payload); /* room was made sure of */
    memcpy(payload, member->payload, member->size);
    struct msg_member_put *put = (struct msg_member_put *)payload;
    put->token = token;
    put->flags |= flags;
}

static void answer_heartbeat(struct reply_to to, int32_t code, struct bytes remark, bool unchanged)
{
    struct reply reply;
    if (!reply_begin(&reply, to, code, remark, 64, 2))
        return;
    frame_write_bool(&reply.writer, "IS_SUPPORT_HEART_BEAT_V2", true);
    frame_write_bool(&reply.writer, "IS_SUB_CHANGE", !unchanged);
    reply_end(&reply, (struct bytes){NULL, 0});
}

void member_heartbeat_answered(struct reply_to to, int32_t code, struct bytes remark, unsigned flags)
{
    answer_heartbeat(to, code, remark, flags & HEARTBEAT_SUB_UNCHANGED);
}

/* NULL, or why so much is not taken. Before anything else looks at it: a body has room for half a million groups. */
static const char *judge_size(struct front *front, struct channel *channel, const struct heartbeat *heartbeat)
{
    size_t size = 0;
    unsigned count = 0;
    for (const struct member *member = heartbeat->members; member; member = member->next)
        size += member->size + RECORD_OVERHEAD;
    if (size > store_link_control_max(front->link))
        return "the heartbeat names too many groups and topics";
    for (const struct member *member = channel->members; member; member = member->next)
        count++;
    for (const struct member *member = heartbeat->members; member; member = member->next)
        count += !*find_kept(channel, key_of(member));
    return count > CHANNEL_MEMBERS_MAX ? "the connection has too many groups" : NULL;
}

/* Every group of the heartbeat is one that this channel told with the same fingerprint before. */
static bool is_unchanged(struct channel *channel, const struct heartbeat *heartbeat)
{
    if (heartbeat->fingerprint == 0 || !heartbeat->members)
        return false;
    for (const struct member *member = heartbeat->members; member; member = member->next) {
        struct member_key key = key_of(member);
        const struct member *kept = *find_kept(channel, key);
        if (!kept || (!key.is_producer && kept->fingerprint != heartbeat->fingerprint))
            return false;
    }
    return true;
}

/* Passes the records on and keeps them in place of the ones before. */
static int tell(struct front *front, struct channel *channel, const struct frame *frame, struct heartbeat *heartbeat,
                bool unchanged)
{
    size_t size = 0;
    for (const struct member *member = heartbeat->members; member; member = member->next)
        size += member->size + RECORD_OVERHEAD;
    if (!store_link_control_has_room(front, size))
        return -EAGAIN;
    struct pending_request request = {.channel = channel->ref,
                                      .opaque = frame->opaque,
                                      .kind = PENDING_HEARTBEAT,
                                      .flags = unchanged ? HEARTBEAT_SUB_UNCHANGED : 0};
    uint64_t token = frame->flag & FRAME_FLAG_ONEWAY ? 0 : pending_add(front->pending, &request);
    if (token) {
        channel->outstanding++;
        channel->heartbeats++;
    }
    while (heartbeat->members) {
        struct member *member = heartbeat->members, **at = find_kept(channel, key_of(member));
        heartbeat->members = member->next;
        put_member(front, member, token, heartbeat->members || !token ? 0 : MSG_MEMBER_ANSWER);
        struct member *before = *at;
        member->fingerprint = heartbeat->fingerprint;
        member->next = before ? before->next : NULL;
        *at = member;
        free(before);
    }
    return 0;
}

int member_heartbeat(struct front *front, struct channel *channel, const struct frame *frame)
{
    struct heartbeat heartbeat;
    const char *error = NULL;
    struct msg_member_put from = {.connection = channel_id(channel),
                                  .language = frame->language,
                                  .version = frame->version,
                                  .port = channel->peer_port,
                                  .is_ipv6 = channel->peer_ipv6};
    memcpy(from.ip, channel->peer_ip, sizeof from.ip);
    int r = heartbeat_parse(frame->body, &from, &heartbeat, &error);
    if (r < 0) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "heartbeat: %s", error);
        return 0;
    }
    channel->heartbeat_ms = front->now_ms;
    error = judge_size(front, channel, &heartbeat);
    if (error) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "%s", error);
        member_list_free(heartbeat.members);
        return 0;
    }
    bool unchanged = is_unchanged(channel, &heartbeat);
    if (heartbeat.without_subscriptions || !heartbeat.members) {
        /* It only says "alive". A client whose groups we do not know is told "changed" and sends the whole next. */
        answer_heartbeat(reply_to(channel, frame), RESPONSE_SUCCESS, (struct bytes){NULL, 0}, unchanged);
    } else {
        r = tell(front, channel, frame, &heartbeat, unchanged);
    }
    member_list_free(heartbeat.members);
    return r;
}

static size_t drop_size(struct bytes group)
{
    return sizeof(struct msg_member_drop) + 2 + group.size;
}

static void put_drop(struct front *front, uint64_t token, uint64_t connection, struct bytes group, bool is_producer)
{
    size_t size = drop_size(group);
    uint8_t *payload = store_link_reserve_control(front, MSG_MEMBER_DROP, size);
    pn_assert(payload); /* room was made sure of */
    struct msg_member_drop drop = {.token = token, .connection = connection, .is_producer = is_producer};
    memcpy(payload, &drop, sizeof drop);
    struct cursor cursor = cursor_over(payload + sizeof drop, size - sizeof drop);
    cursor_put_string(&cursor, group);
}

static void forget_group(struct channel *channel, struct bytes group, bool is_producer)
{
    for (struct member **at = &channel->members; *at;) {
        struct member *member = *at;
        struct member_key key = key_of(member);
        if (key.is_producer == is_producer && bytes_equal(key.group, group)) {
            *at = member->next;
            free(member);
        } else {
            at = &member->next;
        }
    }
}

int member_unregister(struct front *front, struct channel *channel, const struct frame *frame)
{
    const struct bytes *groups[2] = {frame_get(frame, "consumerGroup"), frame_get(frame, "producerGroup")};
    int last = -1;
    for (int i = 0; i < 2; i++) {
        if (groups[i] && groups[i]->size > MSG_GROUP_MAX) {
            reply_error(channel, frame, RESPONSE_INVALID_PARAMETER, "the group's name is too long");
            return 0;
        }
        if (groups[i] && groups[i]->size)
            last = i;
    }
    if (last < 0) {
        reply_plain(reply_to(channel, frame), RESPONSE_SUCCESS, (struct bytes){NULL, 0});
        return 0;
    }
    if (!store_link_control_has_room(front, 2 * (sizeof(struct msg_member_drop) + 2 + MSG_GROUP_MAX + RECORD_OVERHEAD)))
        return -EAGAIN;
    struct pending_request request = {.channel = channel->ref, .opaque = frame->opaque, .kind = PENDING_PLAIN};
    uint64_t token = frame->flag & FRAME_FLAG_ONEWAY ? 0 : pending_add(front->pending, &request);
    if (token)
        channel->outstanding++;
    for (int i = 0; i < 2; i++) {
        if (!groups[i] || !groups[i]->size)
            continue;
        forget_group(channel, *groups[i], i == 1);
        put_drop(front, i == last ? token : 0, channel_id(channel), *groups[i], i == 1);
    }
    return 0;
}

void members_drop_channel(struct front *front, struct channel *channel)
{
    struct members *members = front->members;
    if (!channel->members)
        return;
    member_list_free(channel->members);
    channel->members = NULL;
    if (front->stopping && !store_link_complete(front->link))
        return;
    if (members->drop_count == members->drop_capacity) {
        members->drop_capacity = members->drop_capacity ? members->drop_capacity * 2 : 64;
        members->drops = realloc(members->drops, members->drop_capacity * sizeof *members->drops);
        if (!members->drops)
            PANIC("out of memory");
    }
    members->drops[members->drop_count++] = channel_id(channel);
}

bool members_flush_drops(struct front *front)
{
    struct members *members = front->members;
    static const struct bytes every_group = {NULL, 0};
    while (members->drop_count) {
        if (!store_link_control_has_room(front, drop_size(every_group) + RECORD_OVERHEAD))
            return false;
        put_drop(front, 0, members->drops[--members->drop_count], every_group, false);
    }
    return true;
}

void members_replay_begin(struct front *front)
{
    front->members->replay_slot = 0;
}

bool members_replay(struct front *front)
{
    struct members *members = front->members;
    for (; members->replay_slot < connections_slots(front->connections); members->replay_slot++) {
        const struct channel *channel = connections_at(front->connections, members->replay_slot);
        if (!channel)
            continue;
        size_t size = 0;
        for (const struct member *member = channel->members; member; member = member->next)
            size += member->size + RECORD_OVERHEAD;
        if (size == 0)
            continue;
        /* A channel whose groups came with many heartbeats may be larger than the ring: then one by one, and a full
         * ring makes the channel be told again, which changes nothing. */
        if (size <= store_link_control_max(front->link) && !store_link_control_has_room(front, size))
            return false;
        for (const struct member *member = channel->members; member; member = member->next) {
            if (!store_link_control_has_room(front, member->size + RECORD_OVERHEAD))
                return false;
            put_member(front, member, 0, MSG_MEMBER_REPLAY);
        }
    }
    return true;
}

int member_list(struct front *front, struct channel *channel, const struct frame *frame)
{
    const struct bytes *name = frame_get(frame, "consumerGroup");
    const struct group_entry *group = name ? catalogue_group(front->catalogue, *name) : NULL;
    if (!group || !group->consumers) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "no consumer for this group");
        return 0;
    }
    struct text text = {0};
    const char *separator = "";
    text_add(&text, "{\"consumerIdList\":[");
    for (const struct member_entry *member = group->members; member; member = member->next) {
        if (member->is_producer)
            continue;
        text_add(&text, "%s", separator);
        text_add_json_string(&text, bytes_of(member->client_id));
        separator = ",";
    }
    text_add(&text, "]}");
    struct reply reply;
    if (reply_begin(&reply, reply_to(channel, frame), RESPONSE_SUCCESS, (struct bytes){NULL, 0}, 0, 0))
        reply_end(&reply, (struct bytes){(const uint8_t *)text.data, text.size});
    text_free(&text);
    return 0;
}

int member_check_config(struct front *front, struct channel *channel, const struct frame *frame)
{
    const char *error = NULL;
    json_t *json = json_body_parse(frame->body, &error);
    if (!json) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "client configuration: %s", error);
        return 0;
    }
    const json_t *subscription = json_object_get(json, "subscriptionData");
    const char *type = json_string_value(json_object_get(subscription, "expressionType"));
    const char *expression = json_string_value(json_object_get(subscription, "subString"));
    struct tag_filter filter = {0};
    if (type && *type && strcmp(type, "TAG") != 0)
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "the broker does not filter by message property");
    else if (expression && tag_filter_compile(bytes_of(expression), &filter) < 0)
        reply_error(channel, frame, RESPONSE_SUBSCRIPTION_PARSE_FAILED, "the subscription has no tag in it");
    else
        reply_plain(reply_to(channel, frame), RESPONSE_SUCCESS, (struct bytes){NULL, 0});
    tag_filter_free(&filter);
    json_decref(json);
    return 0;
}

static void notify_channel(struct front *front, struct channel *channel, struct bytes group)
{
    size_t size = frame_write_bound(group.size, 1);
    uint8_t *room = connection_reserve(&channel->wire, size);
    if (!room)
        PANIC("out of memory");
    struct frame_writer writer;
    frame_write_request(&writer, room, size, REQUEST_NOTIFY_CONSUMER_IDS_CHANGED, ++front->members->notice_opaque,
                        FRAME_FLAG_ONEWAY, LANGUAGE_JAVA);
    frame_write_text(&writer, "consumerGroup", group);
    ssize_t used = frame_write_finish(&writer, 0);
    pn_assert(used > 0);
    connection_commit(&channel->wire, (size_t)used);
    channel_mark_dirty(channel);
}

void member_notify(struct front *front, const struct group_entry *group)
{
    if (!group->notify || group->message_model == MESSAGE_MODEL_BROADCASTING)
        return;
    for (const struct member_entry *member = group->members; member; member = member->next) {
        struct channel *channel = member->is_producer ? NULL : connections_find_id(front, member->connection);
        if (channel) /* the other fronts tell theirs */
            notify_channel(front, channel, bytes_of(group->name));
    }
}
