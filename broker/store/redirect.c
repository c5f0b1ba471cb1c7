/* Redirections (see redirect.h); rules as Apache's (remoting facts 3.3, 3.11, 8). Runs in the store on its deciding thread
 * for the few messages that need it: a copy of their properties, no allocation. Refusals are the asker's. */
#include "redirect.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/panic.h"
#include "delay.h"
#include "groups.h"
#include "queue_locks.h"
#include "topics.h"

enum { PERM_READ_WRITE = 6, PERM_WRITE = 2, FIRST_RETRY_LEVEL = 3 };
#define RETRY_PREFIX "%RETRY%"
#define DEAD_PREFIX  "%DLQ%"
_Static_assert(REDIRECT_TEXT_MAX > 2 * (RECORD_PROPERTIES_MAX + 4096), "one text behind the other");

bool redirect_is_retry(struct bytes topic)
{
    size_t size = sizeof RETRY_PREFIX - 1;
    return topic.size > size && memcmp(topic.data, RETRY_PREFIX, size) == 0;
}

static struct bytes number_text(char text[12], int32_t number)
{
    int n = snprintf(text, 12, "%d", number);
    return (struct bytes){(const uint8_t *)text, (size_t)n};
}

static enum refusal dead_topic(struct store *store, struct bytes group, struct redirect *redirect)
{
    int n = snprintf(redirect->topic, sizeof redirect->topic, "%s%.*s", DEAD_PREFIX,
                     (int)group.size, (const char *)group.data);
    if (n < 0 || (size_t)n >= sizeof redirect->topic || n > RECORD_TOPIC_V1_MAX)
        return REFUSAL_TOPIC_NAME;
    struct topic *topic = topics_find(store->topics, bytes_of(redirect->topic));
    struct topic_wish wish = {.name = bytes_of(redirect->topic), .read_queues = 1, .write_queues = 1, .perm = PERM_READ_WRITE};
    if (!topic && topics_put(store, &wish, &topic) < 0)
        return REFUSAL_TOPIC_FAILED;
    redirect->parts.topic = bytes_of(redirect->topic);
    redirect->send.queue_id = 0;
    return REFUSAL_NONE;
}

/* DELAY becomes `level`; 0 in a dead letter, as Apache writes it. */
static void delay_set(struct redirect *redirect, int32_t level)
{
    static const char *const names[] = {"DELAY", NULL};
    char number[12];
    uint8_t *end = redirect->text + properties_copy_without(redirect->parts.properties, names, redirect->text);
    end = properties_put(end, "DELAY", number_text(number, level));
    redirect->parts.properties = (struct bytes){redirect->text, (size_t)(end - redirect->text)};
}

/* CONSUMER_SEND_MSG_BACK. */
static enum refusal send_back(struct store *store, const struct group *group, bool dead, struct redirect *redirect)
{
    const struct msg_send *send = redirect->parts.send;
    int32_t times = send->reconsume_times;
    if (!(store->config.broker_permission & PERM_WRITE))
        return REFUSAL_NO_PERMISSION;
    if (group->retry_queues <= 0)
        return REFUSAL_NOTHING_KEPT;
    if (topics_ensure_retry(store, bytes_of(group->name), group->retry_queues,
                            send->flags & MSG_SEND_UNIT_MODE ? 2 : 0) < 0)
        return REFUSAL_TOPIC_FAILED;
    const struct topic *topic = topics_find(store->topics, redirect->parts.topic);
    if (!topic || !(topic->perm & PERM_WRITE))
        return topic ? REFUSAL_RETRY_TOPIC : REFUSAL_TOPIC_FAILED;
    if (!dead)
        delay_set(redirect, send->delay_level ? send->delay_level : FIRST_RETRY_LEVEL + times);
    redirect->send.reconsume_times = times < INT32_MAX ? times + 1 : times;
    return REFUSAL_NONE;
}

enum refusal redirect_retry(struct store *store, const struct msg_send_parts *parts, struct redirect *ret_redirect)
{
    const struct msg_send *send = parts->send;
    struct bytes name = {parts->topic.data + sizeof RETRY_PREFIX - 1, parts->topic.size - (sizeof RETRY_PREFIX - 1)};
    const struct group *group = groups_ensure(store, name);
    if (!group)
        return REFUSAL_GROUP_NOT_EXIST;
    int32_t most = send->max_reconsume_times >= 0 ? send->max_reconsume_times : group->retry_max_times;
    bool is_back = send->flags & MSG_SEND_BACK;
    /* Whoever consumes in order sends only what it has given up. */
    bool dead = is_back ? send->reconsume_times >= most || send->delay_level < 0
                        : send->reconsume_times > most ||
                              queue_locks_group_locked(store->queue_locks, name, clock_monotonic_ms());
    if (!is_back && !dead)
        return REFUSAL_NONE;
    ret_redirect->moved = true;
    ret_redirect->parts = *parts;
    ret_redirect->send = *send;
    enum refusal refusal = is_back ? send_back(store, group, dead, ret_redirect) : REFUSAL_NONE;
    ret_redirect->parts.send = &ret_redirect->send;
    if (refusal || !dead)
        return refusal;
    delay_set(ret_redirect, 0);
    return dead_topic(store, bytes_of(group->name), ret_redirect);
}

int redirect_delay(struct encode_message *message, unsigned level, uint8_t *text)
{
    static const char *const names[] = {"DELAY",           "REAL_TOPIC",     "REAL_QID",
                                        "TIMER_DELAY_SEC", "TIMER_DELAY_MS", "TIMER_DELIVER_MS", NULL};
    char number[12];
    /* What is in the text may be a retry's properties already: the new ones go behind them. */
    uint8_t *begin = message->properties.data == text ? text + message->properties.size : text, *end = begin;
    if (message->properties.size > RECORD_PROPERTIES_MAX)
        return -EMSGSIZE;
    end += properties_copy_without(message->properties, names, end);
    end = properties_put(end, "DELAY", number_text(number, (int32_t)level));
    end = properties_put(end, "REAL_TOPIC", message->topic);
    end = properties_put(end, "REAL_QID", number_text(number, message->queue_id));
    message->properties = (struct bytes){begin, (size_t)(end - begin)};
    message->topic = bytes_of(DELAY_TOPIC);
    message->queue_id = (int32_t)level - 1;
    return message->properties.size > RECORD_PROPERTIES_MAX ? -EMSGSIZE : 0;
}
