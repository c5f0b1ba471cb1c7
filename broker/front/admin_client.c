/* Connections for administrators: 203 204 328 345, from the catalogue; so members of every front are in them. The
 * front's one thread. */
#include "admin_client.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "admin.h"
#include "base/clock.h"
#include "member.h"
#include "wire/codes.h"

static const char *language_name(uint8_t language)
{
    static const char *const names[] = {"JAVA",  "CPP",  "DOTNET", "PYTHON", "DELPHI", "ERLANG", "RUBY",
                                        "OTHER", "HTTP", "GO",     "PHP",    "OMS",    "RUST",   "NODE_JS"};
    return names[language < sizeof names / sizeof *names ? language : 7];
}

/* "10.1.2.3:4711" */
static void put_address(struct text *text, const struct member_entry *member)
{
    char ip[INET6_ADDRSTRLEN] = "";
    inet_ntop(member->is_ipv6 ? AF_INET6 : AF_INET, member->ip, ip, sizeof ip);
    text_add(text, "%s:%u", ip, member->port);
}

static void put_connections(struct text *text, const struct group_entry *group, bool producers)
{
    bool more = false;
    text_add(text, "\"connectionSet\":[");
    for (const struct member_entry *member = group->members; member; member = member->next) {
        if (member->is_producer != producers)
            continue;
        admin_put_comma(text, &more);
        text_add(text, "{\"clientAddr\":\"");
        put_address(text, member);
        text_add(text, "\",\"clientId\":");
        text_add_json_string(text, bytes_of(member->client_id));
        text_add(text, ",\"language\":\"%s\",\"version\":%d}", language_name(member->language), member->version);
    }
    text_add(text, "]");
}

int admin_client_consumers(struct front *front, struct channel *channel, const struct frame *frame)
{
    const struct group_entry *group = catalogue_group(front->catalogue, admin_field(frame, "consumerGroup"));
    if (!group || !group->consumers) {
        reply_error(channel, frame, RESPONSE_CONSUMER_NOT_ONLINE, "the consumer group is not online");
        return 0;
    }
    struct text text = {0};
    struct subscription_entry *subscription;
    bool more = false;
    text_add(&text, "{");
    put_connections(&text, group, false);
    text_add(&text,
             ",\"consumeFromWhere\":\"%s\",\"consumeType\":\"%s\",\"messageModel\":\"%s\",\"subscriptionTable\":{",
             member_from_where_name(group->from_where), member_consume_type_name(group->consume_type),
             member_message_model_name(group->message_model));
    for (subscription = group->subscriptions; subscription; subscription = subscription->hh.next) {
        admin_put_comma(&text, &more);
        text_add_json_string(&text, bytes_of(subscription->topic));
        text_add(&text, ":");
        admin_put_subscription(&text, subscription);
    }
    text_add(&text, "}}");
    admin_reply_body(channel, frame, &text);
    return 0;
}

static bool has_producers(const struct group_entry *group)
{
    for (const struct member_entry *member = group ? group->members : NULL; member; member = member->next)
        if (member->is_producer)
            return true;
    return false;
}

int admin_client_producers(struct front *front, struct channel *channel, const struct frame *frame)
{
    const struct group_entry *group = catalogue_group(front->catalogue, admin_field(frame, "producerGroup"));
    if (!has_producers(group)) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "the producer group does not exist");
        return 0;
    }
    struct text text = {0};
    text_add(&text, "{");
    put_connections(&text, group, true);
    text_add(&text, "}");
    admin_reply_body(channel, frame, &text);
    return 0;
}

/* Wall time of a member's last heartbeat; of another front's member: when the store told us of it. */
static int64_t heartbeat_time(struct front *front, const struct member_entry *member)
{
    const struct channel *channel = connections_find_id(front, member->connection);
    return channel ? clock_realtime_ms() - (front->now_ms - channel->heartbeat_ms) : member->told_ms;
}

static void put_producers(struct text *text, struct front *front, const struct group_entry *group)
{
    bool more = false;
    for (const struct member_entry *member = group->members; member; member = member->next) {
        if (!member->is_producer)
            continue;
        admin_put_comma(text, &more);
        text_add(text, "{\"clientId\":");
        text_add_json_string(text, bytes_of(member->client_id));
        text_add(text, ",\"language\":\"%s\",\"lastUpdateTimestamp\":%lld,\"remoteIP\":\"/",
                 language_name(member->language), (long long)heartbeat_time(front, member));
        put_address(text, member);
        text_add(text, "\",\"version\":%d}", member->version);
    }
}

int admin_client_all_producers(struct front *front, struct channel *channel, const struct frame *frame)
{
    struct text text = {0};
    bool more = false;
    text_add(&text, "{\"data\":{");
    for (const struct group_entry *group = catalogue_groups(front->catalogue); group; group = group->hh.next) {
        if (!has_producers(group))
            continue;
        admin_put_comma(&text, &more);
        text_add_json_string(&text, bytes_of(group->name));
        text_add(&text, ":[");
        put_producers(&text, front, group);
        text_add(&text, "]");
    }
    text_add(&text, "}}");
    admin_reply_body(channel, frame, &text);
    return 0;
}

int admin_client_subscription(struct front *front, struct channel *channel, const struct frame *frame)
{
    struct bytes group_name = admin_field(frame, "group"), topic = admin_field(frame, "topic");
    const struct group_entry *group = catalogue_group(front->catalogue, group_name);
    const struct subscription_entry *subscription = group ? catalogue_subscription(group, topic) : NULL;
    struct text text = {0};
    text_add(&text, "{\"group\":");
    text_add_json_string(&text, group_name);
    if (subscription) {
        text_add(&text, ",\"subscriptionData\":");
        admin_put_subscription(&text, subscription);
    }
    text_add(&text, ",\"topic\":");
    text_add_json_string(&text, topic);
    text_add(&text, "}");
    admin_reply_body(channel, frame, &text);
    return 0;
}
