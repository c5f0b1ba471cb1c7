/* Names of record kinds, for logs and refusals. */
#include "msg/msg.h"

const char *msg_kind_name(unsigned kind)
{
    static const char *const names[] = {
        [MSG_SEND] = "SEND",
        [MSG_MEMBER_PUT] = "MEMBER_PUT",
        [MSG_MEMBER_DROP] = "MEMBER_DROP",
        [MSG_REPLAY_END] = "REPLAY_END",
        [MSG_CATALOGUE_ASK] = "CATALOGUE_ASK",
        [MSG_OFFSET_COMMIT] = "OFFSET_COMMIT",
        [MSG_OFFSET_QUERY] = "OFFSET_QUERY",
        [MSG_QUEUE_LOCK] = "QUEUE_LOCK",
        [MSG_QUEUE_UNLOCK] = "QUEUE_UNLOCK",
        [MSG_TOPIC_PUT] = "TOPIC_PUT",
        [MSG_TOPIC_DROP] = "TOPIC_DROP",
        [MSG_GROUP_PUT] = "GROUP_PUT",
        [MSG_GROUP_DROP] = "GROUP_DROP",
        [MSG_GROUP_FORBID] = "GROUP_FORBID",
        [MSG_OFFSET_LIST] = "OFFSET_LIST",
        [MSG_OFFSET_RESET] = "OFFSET_RESET",
        [MSG_OFFSET_RESET_SEEN] = "OFFSET_RESET_SEEN",
        [MSG_OFFSET_CLONE] = "OFFSET_CLONE",
        [MSG_CLEAN] = "CLEAN",
        [MSG_CONFIG_PUT] = "CONFIG_PUT",
        [MSG_SEND_ANSWER] = "SEND_ANSWER",
        [MSG_ANSWER] = "ANSWER",
        [MSG_LOCK_ANSWER] = "LOCK_ANSWER",
        [MSG_OFFSET_LIST_ANSWER] = "OFFSET_LIST_ANSWER",
        [MSG_CAT_BEGIN] = "CAT_BEGIN",
        [MSG_CAT_TOPIC] = "CAT_TOPIC",
        [MSG_CAT_TOPIC_DROP] = "CAT_TOPIC_DROP",
        [MSG_CAT_GROUP] = "CAT_GROUP",
        [MSG_CAT_GROUP_DROP] = "CAT_GROUP_DROP",
        [MSG_CAT_MEMBER] = "CAT_MEMBER",
        [MSG_CAT_MEMBER_DROP] = "CAT_MEMBER_DROP",
        [MSG_CAT_SUBSCRIPTION] = "CAT_SUBSCRIPTION",
        [MSG_CAT_SUBSCRIPTION_DROP] = "CAT_SUBSCRIPTION_DROP",
        [MSG_CAT_END] = "CAT_END",
        [MSG_CAT_FORBIDDEN] = "CAT_FORBIDDEN",
        [MSG_CAT_RESET] = "CAT_RESET",
        [MSG_CAT_RESET_DROP] = "CAT_RESET_DROP",
        [MSG_CAT_CONFIG] = "CAT_CONFIG",
    };
    return kind < sizeof names / sizeof names[0] && names[kind] ? names[kind] : "unknown";
}
