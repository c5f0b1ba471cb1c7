/* The rules of Apache's RouteInfoManager (remoting facts 2.5) without acting masters. Differences: the first
 * registration must be a whole table (the asker sends it at once), a whole table also takes away what it does not name,
 * and a changed topic whose data version does not follow the last one means that something was missed. Runs in the name
 * server, one thread; owns all its texts. Out of memory is fatal. */
#include "route_table.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/panic.h"

enum { TIMEOUT_DEFAULT_MS = 10000 };

static struct bytes copy(struct bytes text)
{
    uint8_t *data = malloc(text.size + 1);
    pn_assert(data);
    if (text.size)
        memcpy(data, text.data, text.size);
    data[text.size] = 0;
    return (struct bytes){data, text.size};
}

static void drop(struct bytes text)
{
    free((void *)text.data);
}

static void replace(struct bytes *text, struct bytes with)
{
    if (bytes_equal(*text, with))
        return;
    drop(*text);
    *text = copy(with);
}

struct route_table *route_table_new(void)
{
    return calloc(1, sizeof(struct route_table));
}

static void topic_free(struct route_table *table, struct route_topic *topic)
{
    HASH_DEL(table->topics, topic);
    drop(topic->name);
    free(topic->queues);
    free(topic);
}

static void member_clear(struct route_member *member)
{
    drop(member->addr);
    drop(member->ha_addr);
}

static void broker_free(struct route_table *table, struct route_broker *broker)
{
    HASH_DEL(table->brokers, broker);
    for (unsigned i = 0; i < broker->member_count; i++)
        member_clear(&broker->members[i]);
    free(broker->members);
    drop(broker->name);
    drop(broker->cluster);
    free(broker);
}

void route_table_free(struct route_table *table)
{
    if (!table)
        return;
    struct route_topic *topic, *next_topic;
    HASH_ITER(hh, table->topics, topic, next_topic)
    topic_free(table, topic);
    struct route_broker *broker, *next_broker;
    HASH_ITER(hh, table->brokers, broker, next_broker)
    broker_free(table, broker);
    free(table);
}

static struct route_topic *find_topic(const struct route_table *table, struct bytes name)
{
    struct route_topic *topic;
    HASH_FIND(hh, table->topics, name.data, name.size, topic);
    return topic;
}

static struct route_broker *find_broker(const struct route_table *table, struct bytes name)
{
    struct route_broker *broker;
    HASH_FIND(hh, table->brokers, name.data, name.size, broker);
    return broker;
}

const struct route_topic *route_table_topic(const struct route_table *table, struct bytes name)
{
    return find_topic(table, name);
}

const struct route_broker *route_table_broker(const struct route_table *table, struct bytes name)
{
    return find_broker(table, name);
}

static struct route_broker *add_broker(struct route_table *table, struct bytes name, struct bytes cluster)
{
    struct route_broker *broker = calloc(1, sizeof *broker);
    pn_assert(broker);
    broker->name = copy(name);
    broker->cluster = copy(cluster);
    HASH_ADD_KEYPTR(hh, table->brokers, broker->name.data, broker->name.size, broker);
    return broker;
}

static struct route_member *find_member(const struct route_broker *broker, int64_t id)
{
    for (unsigned i = 0; i < broker->member_count; i++)
        if (broker->members[i].id == id)
            return &broker->members[i];
    return NULL;
}

static struct route_member *add_member(struct route_broker *broker, int64_t id)
{
    broker->members = reallocarray(broker->members, broker->member_count + 1, sizeof *broker->members);
    pn_assert(broker->members);
    unsigned at = broker->member_count++;
    for (; at > 0 && broker->members[at - 1].id > id; at--)
        broker->members[at] = broker->members[at - 1];
    broker->members[at] =
        (struct route_member){.id = id, .addr = copy((struct bytes){0}), .ha_addr = copy((struct bytes){0})};
    return &broker->members[at];
}

/* Only the entry of the member; the broker may be left without any. */
static void delete_member(struct route_broker *broker, struct route_member *member)
{
    member_clear(member);
    broker->member_count--;
    for (unsigned at = (unsigned)(member - broker->members); at < broker->member_count; at++)
        broker->members[at] = broker->members[at + 1];
}

/* Takes a broker out of a topic; a topic without queues is gone. */
static void delete_queue(struct route_table *table, struct route_topic *topic, unsigned at)
{
    topic->queues[at] = topic->queues[--topic->queue_count];
    if (topic->queue_count == 0)
        topic_free(table, topic);
}

/* Takes the broker out of all topics that were not named by the registration `mark` (0: out of all). */
static void delete_queues_of(struct route_table *table, const struct route_broker *broker, uint64_t mark)
{
    struct route_topic *topic, *next;
    HASH_ITER(hh, table->topics, topic, next)
    for (unsigned i = 0; i < topic->queue_count; i++)
        if (topic->queues[i].broker == broker && (mark == 0 || topic->queues[i].mark != mark)) {
            delete_queue(table, topic, i);
            break; /* a broker is in a topic once, and the topic may be gone */
        }
}

static void remove_member(struct route_table *table, struct route_broker *broker, struct route_member *member)
{
    delete_member(broker, member);
    if (broker->member_count)
        return;
    delete_queues_of(table, broker, 0);
    broker_free(table, broker);
}

static struct route_queue *queue_of(struct route_topic *topic, struct route_broker *broker)
{
    for (unsigned i = 0; i < topic->queue_count; i++)
        if (topic->queues[i].broker == broker)
            return &topic->queues[i];
    topic->queues = reallocarray(topic->queues, topic->queue_count + 1, sizeof *topic->queues);
    pn_assert(topic->queues);
    struct route_queue *queue = &topic->queues[topic->queue_count++];
    *queue = (struct route_queue){.broker = broker};
    return queue;
}

static void put_topic(struct route_table *table, struct route_broker *broker, const struct bus_topic *from)
{
    struct route_topic *topic = find_topic(table, from->name);
    if (!topic) {
        topic = calloc(1, sizeof *topic);
        pn_assert(topic);
        topic->name = copy(from->name);
        HASH_ADD_KEYPTR(hh, table->topics, topic->name.data, topic->name.size, topic);
    }
    struct route_queue *queue = queue_of(topic, broker);
    queue->read_queues = from->read_queues;
    queue->write_queues = from->write_queues;
    queue->perm = from->perm;
    queue->topic_sys_flag = from->topic_sys_flag;
    queue->mark = table->mark;
}

static bool same_version(const struct bus_data_version *a, const struct bus_data_version *b)
{
    return a->state_version == b->state_version && a->timestamp_ms == b->timestamp_ms && a->counter == b->counter;
}

/* An address that comes back under another id has left its old one. */
static void forget_other_ids(struct route_broker *broker, struct bytes addr, int64_t id)
{
    for (unsigned i = 0; i < broker->member_count;)
        if (broker->members[i].id != id && bytes_equal(broker->members[i].addr, addr))
            delete_member(broker, &broker->members[i]);
        else
            i++;
}

enum route_answer route_table_register(struct route_table *table, const struct bus_registration *registration,
                                       int64_t now_ms)
{
    struct route_broker *broker = find_broker(table, registration->broker_name);
    struct route_member *member = broker ? find_member(broker, registration->broker_id) : NULL;
    bool is_same = member && bytes_equal(member->addr, registration->broker_addr);
    if (!is_same && !registration->whole)
        return ROUTE_ASK_WHOLE;
    if (member && !is_same && member->version.state_version > registration->version.state_version)
        return ROUTE_IGNORED;
    bool is_missing_some = !registration->whole && registration->version.counter != member->version.counter + 1 &&
                           !same_version(&registration->version, &member->version);

    if (!broker)
        broker = add_broker(table, registration->broker_name, registration->cluster);
    replace(&broker->cluster, registration->cluster);
    forget_other_ids(broker, registration->broker_addr, registration->broker_id);
    member = find_member(broker, registration->broker_id);
    if (!member)
        member = add_member(broker, registration->broker_id);
    replace(&member->addr, registration->broker_addr);
    replace(&member->ha_addr, registration->ha_addr);
    member->last_ms = now_ms;
    member->timeout_ms =
        registration->heartbeat_timeout_ms > 0 ? registration->heartbeat_timeout_ms : TIMEOUT_DEFAULT_MS;
    if (!is_missing_some)
        member->version = registration->version; /* else the old one stays, so that a heartbeat asks again too */
    if (registration->broker_id == 0) {
        table->mark++;
        for (uint32_t i = 0; i < registration->topic_count; i++)
            put_topic(table, broker, &registration->topics[i]);
        if (registration->whole)
            delete_queues_of(table, broker, table->mark);
    }
    return is_missing_some ? ROUTE_ASK_WHOLE : ROUTE_OK;
}

enum route_answer route_table_heartbeat(struct route_table *table, const struct bus_heartbeat *heartbeat,
                                        int64_t now_ms)
{
    struct route_broker *broker = find_broker(table, heartbeat->broker_name);
    struct route_member *member = broker ? find_member(broker, heartbeat->broker_id) : NULL;
    if (!member)
        return ROUTE_ASK_WHOLE;
    if (!bytes_equal(member->addr, heartbeat->broker_addr))
        return member->version.state_version > heartbeat->version.state_version ? ROUTE_IGNORED : ROUTE_ASK_WHOLE;
    member->last_ms = now_ms;
    return same_version(&member->version, &heartbeat->version) ? ROUTE_OK : ROUTE_ASK_WHOLE;
}

bool route_table_unregister(struct route_table *table, const struct bus_heartbeat *who)
{
    struct route_broker *broker = find_broker(table, who->broker_name);
    struct route_member *member = broker ? find_member(broker, who->broker_id) : NULL;
    if (!member || !bytes_equal(member->addr, who->broker_addr)) /* somebody else has the id by now */
        return false;
    remove_member(table, broker, member);
    return true;
}

bool route_table_expire(struct route_table *table, int64_t now_ms, char *ret_text, size_t text_size)
{
    struct route_broker *broker, *next;
    HASH_ITER(hh, table->brokers, broker, next)
    for (unsigned i = 0; i < broker->member_count; i++) {
        struct route_member *member = &broker->members[i];
        if (now_ms - member->last_ms <= member->timeout_ms)
            continue;
        snprintf(ret_text, text_size, "%s id %lld at %s, silent for %lld ms", (const char *)broker->name.data,
                 (long long)member->id, (const char *)member->addr.data, (long long)(now_ms - member->last_ms));
        remove_member(table, broker, member);
        return true;
    }
    return false;
}

void route_table_forgive(struct route_table *table, int64_t slept_ms)
{
    struct route_broker *broker, *next;
    HASH_ITER(hh, table->brokers, broker, next)
    for (unsigned i = 0; i < broker->member_count; i++)
        broker->members[i].last_ms += slept_ms;
}
