/* Which bytes the names of topics and groups may have, as Apache's TopicValidator has it. Fronts and stores refuse the same. */
#pragma once

#include <stdbool.h>

#include "msg/msg.h"

enum {
    NAME_TOPIC_MAX = 127,               /* 5.3.3's limit for topics that clients name; internal ones: MSG_TOPIC_MAX */
    NAME_GROUP_MAX = MSG_TOPIC_MAX - 7, /* %RETRY%group must be a topic name */
};

static inline bool name_is_legal(struct bytes name)
{
    for (size_t i = 0; i < name.size; i++) {
        uint8_t c = name.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && c != '%' && c != '|' && c != '_' && c != '-')
            return false;
    }
    return name.size > 0;
}

static inline bool name_has_prefix(struct bytes name, const char *prefix)
{
    size_t size = strlen(prefix);
    return name.size >= size && memcmp(name.data, prefix, size) == 0;
}

static inline bool name_topic_valid(struct bytes name)
{
    bool internal = name_has_prefix(name, "%RETRY%") || name_has_prefix(name, "%DLQ%");
    return name.size <= (internal ? (size_t)MSG_TOPIC_MAX : NAME_TOPIC_MAX) && name_is_legal(name);
}

static inline bool name_group_valid(struct bytes name)
{
    return name.size <= NAME_GROUP_MAX && name_is_legal(name);
}

/* Besides the cluster's and the broker's own name. */
static inline bool name_is_system_topic(struct bytes name)
{
    static const char *const names[] = {
        "TBW102",
        "SCHEDULE_TOPIC_XXXX",
        "BenchmarkTest",
        "RMQ_SYS_TRANS_HALF_TOPIC",
        "RMQ_SYS_TRACE_TOPIC",
        "RMQ_SYS_TRANS_OP_HALF_TOPIC",
        "TRANS_CHECK_MAX_TIME_TOPIC",
        "SELF_TEST_TOPIC",
        "OFFSET_MOVED_EVENT",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (bytes_equal_text(name, names[i]))
            return true;
    return name_has_prefix(name, "rmq_sys_");
}
