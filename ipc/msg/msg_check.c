/* Validators of ring records: sizes, limits and ranges of every kind, nothing about meaning. Run by whoever takes a
 * record from a ring: the store (requests), fronts and native clients (answers, catalogue). Pure; reads each byte of
 * the payload in front of its end only. Fixed parts are copied out, so a payload may stand at any address. */
#include "msg/msg_check.h"

#include <stdbool.h>

#include "shm/queue_table.h"

const char *msg_refusal_text(enum msg_refusal refusal)
{
    static const char *const texts[] = {
        [MSG_OK] = "in order",
        [MSG_REFUSED_KIND] = "not a kind for this ring",
        [MSG_REFUSED_SHORT] = "shorter than its parts promise",
        [MSG_REFUSED_LONG] = "bytes behind its last part",
        [MSG_REFUSED_LIMIT] = "a part is over its limit",
        [MSG_REFUSED_RANGE] = "a number is outside its range",
    };
    unsigned index = (unsigned)refusal;
    return index < sizeof texts / sizeof texts[0] ? texts[index] : "unknown";
}

/* A walk over one payload. The first refusal stays; later steps do nothing. */
struct walk {
    struct cursor cursor;
    enum msg_refusal refusal;
};

static void refuse(struct walk *walk, enum msg_refusal refusal)
{
    if (walk->refusal == MSG_OK)
        walk->refusal = refusal;
}

static void require(struct walk *walk, bool holds, enum msg_refusal otherwise)
{
    if (!holds)
        refuse(walk, otherwise);
}

static void pass_over(struct walk *walk, uint64_t size)
{
    if (walk->refusal == MSG_OK && (size > SIZE_MAX || !cursor_take(&walk->cursor, (size_t)size)))
        refuse(walk, MSG_REFUSED_SHORT);
}

/* Copies the fixed part; false (and zeros) if there is not so much. */
static bool fixed(struct walk *walk, void *ret_part, size_t size)
{
    memset(ret_part, 0, size);
    const uint8_t *bytes = walk->refusal == MSG_OK ? cursor_take(&walk->cursor, size) : NULL;
    if (!bytes) {
        refuse(walk, MSG_REFUSED_SHORT);
        return false;
    }
    memcpy(ret_part, bytes, size);
    return true;
}
#define FIXED(walk, part) fixed((walk), &(part), sizeof(part))

static void string(struct walk *walk, size_t limit)
{
    if (walk->refusal != MSG_OK)
        return;
    struct bytes text = cursor_get_string(&walk->cursor);
    require(walk, !walk->cursor.bad, MSG_REFUSED_SHORT);
    require(walk, text.size <= limit, MSG_REFUSED_LIMIT);
}

static enum msg_refusal finish(struct walk *walk)
{
    require(walk, walk->cursor.pos == walk->cursor.end, MSG_REFUSED_LONG);
    return walk->refusal;
}

static enum msg_refusal check_send(struct walk *walk)
{
    struct msg_send send;
    if (!FIXED(walk, send))
        return walk->refusal;
    const uint32_t known = MSG_SEND_BATCH | MSG_SEND_NO_ANSWER | MSG_SEND_IPV6 | MSG_SEND_UNIT_MODE |
                           MSG_SEND_BACK;
    require(walk, send.topic_size <= MSG_TOPIC_MAX, MSG_REFUSED_LIMIT);
    require(walk, send.default_topic_size <= MSG_TOPIC_MAX, MSG_REFUSED_LIMIT);
    require(walk, send.group_size <= MSG_GROUP_MAX, MSG_REFUSED_LIMIT);
    require(walk, send.properties_size <= MSG_PROPERTIES_MAX, MSG_REFUSED_LIMIT);
    require(walk, send.body_size <= MSG_BODY_MAX, MSG_REFUSED_LIMIT);
    require(walk, (send.flags & ~known) == 0, MSG_REFUSED_RANGE);
    pass_over(walk, (uint64_t)send.topic_size + send.default_topic_size + send.group_size + send.properties_size +
                        send.body_size);
    return finish(walk);
}

static enum msg_refusal check_member_put(struct walk *walk)
{
    struct msg_member_put put;
    if (!FIXED(walk, put))
        return walk->refusal;
    require(walk, put.is_producer <= 1, MSG_REFUSED_RANGE);
    require(walk, (put.flags & ~(MSG_MEMBER_ANSWER | MSG_MEMBER_UNIT | MSG_MEMBER_REPLAY)) == 0, MSG_REFUSED_RANGE);
    require(walk, put.is_ipv6 <= 1, MSG_REFUSED_RANGE);
    string(walk, MSG_CLIENT_ID_MAX);
    string(walk, MSG_GROUP_MAX);
    for (unsigned i = 0; i < put.subscription_count && walk->refusal == MSG_OK; i++) {
        cursor_get_i64(&walk->cursor);
        uint8_t expression_type = cursor_get_u8(&walk->cursor);
        require(walk, !walk->cursor.bad, MSG_REFUSED_SHORT);
        require(walk, expression_type <= MSG_EXPRESSION_OTHER, MSG_REFUSED_RANGE);
        string(walk, MSG_TOPIC_MAX);
        string(walk, UINT16_MAX);
    }
    return finish(walk);
}

static enum msg_refusal check_member_drop(struct walk *walk)
{
    struct msg_member_drop drop;
    FIXED(walk, drop);
    require(walk, drop.is_producer <= 1, MSG_REFUSED_RANGE);
    string(walk, MSG_GROUP_MAX);
    return finish(walk);
}

static enum msg_refusal check_replay(struct walk *walk)
{
    struct msg_replay replay;
    FIXED(walk, replay);
    return finish(walk);
}

static enum msg_refusal check_offset(struct walk *walk)
{
    struct msg_offset offset;
    FIXED(walk, offset);
    require(walk, (offset.flags & ~(uint32_t)(MSG_OFFSET_ZERO_IF_NOT_FOUND_OFF | MSG_OFFSET_EMPTY_IS_ZERO)) == 0, MSG_REFUSED_RANGE);
    string(walk, MSG_GROUP_MAX);
    string(walk, MSG_TOPIC_MAX);
    return finish(walk);
}

static enum msg_refusal check_lock(struct walk *walk)
{
    struct msg_lock lock;
    if (!FIXED(walk, lock))
        return walk->refusal;
    require(walk, lock.count <= MSG_LOCK_COUNT_MAX, MSG_REFUSED_LIMIT);
    string(walk, MSG_CLIENT_ID_MAX);
    string(walk, MSG_GROUP_MAX);
    for (uint32_t i = 0; i < lock.count && walk->refusal == MSG_OK; i++) {
        pass_over(walk, sizeof(int32_t));
        string(walk, MSG_TOPIC_MAX);
    }
    return finish(walk);
}

static enum msg_refusal check_topic_put(struct walk *walk)
{
    struct msg_topic_put put;
    FIXED(walk, put);
    require(walk, put.order <= 1 && put.multi_tag <= 1, MSG_REFUSED_RANGE);
    string(walk, MSG_TOPIC_MAX);
    string(walk, UINT16_MAX);
    return finish(walk);
}

/* The strings of these differ, their fixed part does not. */
static enum msg_refusal check_admin(struct walk *walk, uint32_t known_flags, const size_t *limits, unsigned count)
{
    struct msg_admin admin;
    FIXED(walk, admin);
    require(walk, (admin.flags & ~known_flags) == 0, MSG_REFUSED_RANGE);
    for (unsigned i = 0; i < count; i++)
        string(walk, limits[i]);
    return finish(walk);
}

static enum msg_refusal check_topic_drop(struct walk *walk)
{
    static const size_t limits[] = {MSG_TOPIC_MAX};
    return check_admin(walk, 0, limits, 1);
}

static enum msg_refusal check_group_drop(struct walk *walk)
{
    static const size_t limits[] = {MSG_GROUP_MAX};
    return check_admin(walk, MSG_ADMIN_CLEAN_OFFSETS, limits, 1);
}

static enum msg_refusal check_group_forbid(struct walk *walk)
{
    static const size_t limits[] = {MSG_GROUP_MAX, MSG_TOPIC_MAX};
    return check_admin(walk, MSG_ADMIN_FORBIDDEN, limits, 2);
}

static enum msg_refusal check_offset_clone(struct walk *walk)
{
    static const size_t limits[] = {MSG_GROUP_MAX, MSG_GROUP_MAX, MSG_TOPIC_MAX};
    return check_admin(walk, 0, limits, 3);
}

static enum msg_refusal check_clean(struct walk *walk)
{
    return check_admin(walk, MSG_ADMIN_UNUSED_QUEUES | MSG_ADMIN_EXPIRED_QUEUES | MSG_ADMIN_EXPIRED_LOG, NULL, 0);
}

static enum msg_refusal check_group_put(struct walk *walk)
{
    struct msg_group_put put;
    FIXED(walk, put);
    require(walk, put.consume_enable <= 1 && put.consume_from_min_enable <= 1 && put.consume_broadcast_enable <= 1 &&
                      put.consume_orderly <= 1 && put.notify_members_changed <= 1 && (put.flags & ~MSG_GROUP_AUTO) == 0,
            MSG_REFUSED_RANGE);
    string(walk, MSG_GROUP_MAX);
    string(walk, MSG_EXTRA_MAX);
    return finish(walk);
}

static enum msg_refusal check_offset_list(struct walk *walk)
{
    struct msg_offset_list list;
    FIXED(walk, list);
    require(walk, list.after_queue >= -1, MSG_REFUSED_RANGE);
    string(walk, MSG_GROUP_MAX);
    string(walk, MSG_TOPIC_MAX);
    string(walk, MSG_TOPIC_MAX + 1 + MSG_GROUP_MAX);
    return finish(walk);
}

static enum msg_refusal check_config_put(struct walk *walk)
{
    struct msg_request put;
    FIXED(walk, put);
    string(walk, UINT16_MAX);
    return finish(walk);
}

static enum msg_refusal check_relay(struct walk *walk)
{
    struct msg_relay relay;
    FIXED(walk, relay);
    require(walk, relay.frame_size <= MSG_RELAY_MAX, MSG_REFUSED_LIMIT);
    pass_over(walk, relay.frame_size);
    return finish(walk);
}

static enum msg_refusal check_relay_answer(struct walk *walk)
{
    struct msg_relay_answer answer;
    FIXED(walk, answer);
    require(walk, (uint64_t)answer.remark_size + answer.body_size <= MSG_RELAY_MAX, MSG_REFUSED_LIMIT);
    require(walk, (answer.flags & ~(uint32_t)MSG_RELAY_MORE) == 0, MSG_REFUSED_RANGE);
    pass_over(walk, (uint64_t)answer.remark_size + answer.body_size);
    return finish(walk);
}

static enum msg_refusal check_cat_config(struct walk *walk)
{
    struct msg_cat_config config;
    FIXED(walk, config);
    string(walk, UINT16_MAX);
    return finish(walk);
}

static enum msg_refusal check_send_answer(struct walk *walk)
{
    struct msg_send_answer answer;
    if (!FIXED(walk, answer))
        return walk->refusal;
    require(walk, answer.count <= MSG_BATCH_COUNT_MAX, MSG_REFUSED_LIMIT);
    pass_over(walk, (uint64_t)answer.uniq_key_size + answer.remark_size);
    /* One message needs no sizes: its record is at log_pos. A batch of one may have its size all the same. */
    if (answer.count > 1 || (answer.count == 1 && walk->cursor.pos != walk->cursor.end))
        pass_over(walk, (uint64_t)answer.count * sizeof(uint32_t));
    return finish(walk);
}

static enum msg_refusal check_plain_answer(struct walk *walk)
{
    struct msg_answer answer;
    FIXED(walk, answer);
    pass_over(walk, answer.remark_size);
    return finish(walk);
}

static enum msg_refusal check_lock_answer(struct walk *walk)
{
    struct msg_lock_answer answer;
    if (!FIXED(walk, answer))
        return walk->refusal;
    require(walk, answer.count <= MSG_LOCK_COUNT_MAX, MSG_REFUSED_LIMIT);
    for (uint32_t i = 0; i < answer.count && walk->refusal == MSG_OK; i++) {
        uint8_t held = cursor_get_u8(&walk->cursor);
        require(walk, !walk->cursor.bad, MSG_REFUSED_SHORT);
        require(walk, held <= 1, MSG_REFUSED_RANGE);
    }
    return finish(walk);
}

static enum msg_refusal check_offset_list_answer(struct walk *walk)
{
    struct msg_offset_list_answer answer;
    if (!FIXED(walk, answer))
        return walk->refusal;
    require(walk, answer.more <= 1 && answer.start_over <= 1, MSG_REFUSED_RANGE);
    for (uint32_t i = 0; i < answer.count && walk->refusal == MSG_OK; i++) {
        string(walk, MSG_TOPIC_MAX + 1 + MSG_GROUP_MAX);
        uint32_t queues = cursor_get_u32(&walk->cursor);
        require(walk, !walk->cursor.bad, MSG_REFUSED_SHORT);
        pass_over(walk, (uint64_t)queues * (sizeof(int32_t) + sizeof(int64_t)));
    }
    string(walk, MSG_TOPIC_MAX + 1 + MSG_GROUP_MAX);
    return finish(walk);
}

static enum msg_refusal check_cat_mark(struct walk *walk)
{
    struct msg_catalogue mark;
    FIXED(walk, mark);
    return finish(walk);
}

static enum msg_refusal check_cat_topic(struct walk *walk)
{
    struct msg_cat_topic topic;
    FIXED(walk, topic);
    require(walk, topic.order <= 1 && topic.multi_tag <= 1, MSG_REFUSED_RANGE);
    require(walk, (uint64_t)topic.slot_base + topic.slot_count <= QUEUE_TABLE_SLOTS, MSG_REFUSED_RANGE);
    string(walk, MSG_TOPIC_MAX);
    string(walk, UINT16_MAX);
    return finish(walk);
}

static enum msg_refusal check_cat_topic_drop(struct walk *walk)
{
    struct msg_cat_drop drop;
    FIXED(walk, drop);
    string(walk, MSG_TOPIC_MAX);
    return finish(walk);
}

static enum msg_refusal check_cat_group(struct walk *walk)
{
    struct msg_cat_group group;
    FIXED(walk, group);
    require(walk,
            group.consume_enable <= 1 && group.consume_from_min_enable <= 1 && group.consume_broadcast_enable <= 1 &&
                group.consume_orderly <= 1 && group.notify_members_changed <= 1,
            MSG_REFUSED_RANGE);
    string(walk, MSG_GROUP_MAX);
    string(walk, UINT16_MAX);
    return finish(walk);
}

static enum msg_refusal check_cat_group_drop(struct walk *walk)
{
    struct msg_cat_drop drop;
    FIXED(walk, drop);
    string(walk, MSG_GROUP_MAX);
    return finish(walk);
}

static enum msg_refusal check_cat_member(struct walk *walk)
{
    struct msg_cat_member member;
    FIXED(walk, member);
    require(walk, member.is_producer <= 1 && member.is_ipv6 <= 1, MSG_REFUSED_RANGE);
    string(walk, MSG_CLIENT_ID_MAX);
    string(walk, MSG_GROUP_MAX);
    return finish(walk);
}

static enum msg_refusal check_cat_subscription(struct walk *walk)
{
    struct msg_cat_subscription subscription;
    FIXED(walk, subscription);
    require(walk, subscription.expression_type <= MSG_EXPRESSION_OTHER, MSG_REFUSED_RANGE);
    string(walk, MSG_GROUP_MAX);
    string(walk, MSG_TOPIC_MAX);
    string(walk, UINT16_MAX);
    return finish(walk);
}

static enum msg_refusal check_cat_forbidden(struct walk *walk)
{
    struct msg_cat_forbidden forbidden;
    FIXED(walk, forbidden);
    string(walk, MSG_GROUP_MAX);
    string(walk, UINT16_MAX);
    return finish(walk);
}

static enum msg_refusal check_cat_reset(struct walk *walk)
{
    struct msg_cat_reset reset;
    FIXED(walk, reset);
    require(walk, reset.offset >= 0 && reset.queue_id >= 0, MSG_REFUSED_RANGE);
    string(walk, MSG_GROUP_MAX);
    string(walk, MSG_TOPIC_MAX);
    return finish(walk);
}

typedef enum msg_refusal check_function(struct walk *walk);

static check_function *const request_checks[] = {
    [MSG_SEND] = check_send,           [MSG_MEMBER_PUT] = check_member_put, [MSG_MEMBER_DROP] = check_member_drop,
    [MSG_REPLAY_END] = check_replay,   [MSG_CATALOGUE_ASK] = check_replay,  [MSG_OFFSET_COMMIT] = check_offset,
    [MSG_OFFSET_QUERY] = check_offset, [MSG_QUEUE_LOCK] = check_lock,       [MSG_QUEUE_UNLOCK] = check_lock,
    [MSG_TOPIC_PUT] = check_topic_put,
    [MSG_TOPIC_DROP] = check_topic_drop,
    [MSG_GROUP_PUT] = check_group_put,
    [MSG_GROUP_DROP] = check_group_drop,
    [MSG_GROUP_FORBID] = check_group_forbid,
    [MSG_OFFSET_LIST] = check_offset_list,
    [MSG_OFFSET_RESET] = check_offset,
    [MSG_OFFSET_RESET_SEEN] = check_offset,
    [MSG_OFFSET_CLONE] = check_offset_clone,
    [MSG_CLEAN] = check_clean,
    [MSG_CONFIG_PUT] = check_config_put,
    [MSG_RELAY] = check_relay,
    [MSG_RELAY_ANSWER] = check_relay_answer,
    [MSG_QUEUE_MEND] = check_offset,
};

static check_function *const answer_checks[] = {
    [MSG_SEND_ANSWER] = check_send_answer,
    [MSG_ANSWER] = check_plain_answer,
    [MSG_LOCK_ANSWER] = check_lock_answer,
    [MSG_OFFSET_LIST_ANSWER] = check_offset_list_answer,
    [MSG_RELAY_ASK] = check_relay,
    [MSG_RELAY_TOLD] = check_relay_answer,
    [MSG_CAT_BEGIN] = check_cat_mark,
    [MSG_CAT_TOPIC] = check_cat_topic,
    [MSG_CAT_TOPIC_DROP] = check_cat_topic_drop,
    [MSG_CAT_CONFIG] = check_cat_config,
    [MSG_CAT_GROUP] = check_cat_group,
    [MSG_CAT_GROUP_DROP] = check_cat_group_drop,
    [MSG_CAT_MEMBER] = check_cat_member,
    [MSG_CAT_MEMBER_DROP] = check_cat_member,
    [MSG_CAT_SUBSCRIPTION] = check_cat_subscription,
    [MSG_CAT_SUBSCRIPTION_DROP] = check_cat_subscription,
    [MSG_CAT_END] = check_cat_mark,
    [MSG_CAT_FORBIDDEN] = check_cat_forbidden,
    [MSG_CAT_RESET] = check_cat_reset,
    [MSG_CAT_RESET_DROP] = check_cat_reset,
};

static enum msg_refusal check(check_function *const *checks, size_t count, unsigned kind, const void *payload,
                              size_t size)
{
    if (kind >= count || !checks[kind])
        return MSG_REFUSED_KIND;
    struct walk walk = {cursor_over(payload, size), MSG_OK};
    return checks[kind](&walk);
}

enum msg_refusal msg_check_request(unsigned kind, const void *payload, size_t size)
{
    return check(request_checks, sizeof request_checks / sizeof request_checks[0], kind, payload, size);
}

enum msg_refusal msg_check_answer(unsigned kind, const void *payload, size_t size)
{
    return check(answer_checks, sizeof answer_checks / sizeof answer_checks[0], kind, payload, size);
}

void msg_send_split(const void *payload, struct msg_send_parts *ret_parts)
{
    const struct msg_send *send = payload;
    const uint8_t *part = (const uint8_t *)(send + 1);
    struct bytes topic = {part, send->topic_size};
    struct bytes default_topic = {topic.data + topic.size, send->default_topic_size};
    struct bytes group = {default_topic.data + default_topic.size, send->group_size};
    struct bytes properties = {group.data + group.size, send->properties_size};
    struct bytes body = {properties.data + properties.size, send->body_size};
    *ret_parts = (struct msg_send_parts){send, topic, default_topic, group, properties, body};
}
