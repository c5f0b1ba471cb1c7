/* The rules of Apache's RouteInfoManager (remoting facts 2.5). For the stores of this host they differ: the first
 * registration must be a whole table (the asker sends it at once), a whole table also takes away what it does not name,
 * and a changed topic whose data version does not follow the last one means that something was missed. Brokers of other
 * hosts are taken as Apache takes them, but what a store of this host says counts more: a stranger cannot take its id
 * or send it away. Runs in the name server, one thread; owns all its texts. Out of memory is fatal. */
#include "route_table.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/panic.h"

enum {
    TIMEOUT_DEFAULT_MS = 10000,
    TIMEOUT_REMOTE_MS = 120000, /* Apache's brokers register every 30 s */
    PERM_WRITE = 2,
    PERM_READ_WRITE = 6,
};

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
    drop(broker->zone);
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
    broker->zone = copy((struct bytes){0});
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
    table->queue_count--;
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

static unsigned set_perms(struct route_table *table, const struct route_broker *broker, int32_t keep, int32_t add)
{
    unsigned count = 0;
    for (struct route_topic *topic = table->topics; topic; topic = topic->hh.next)
        for (unsigned i = 0; i < topic->queue_count; i++)
            if (topic->queues[i].broker == broker) {
                topic->queues[i].perm = (topic->queues[i].perm & keep) | add;
                count++;
            }
    return count;
}

static void remove_member(struct route_table *table, struct route_broker *broker, struct route_member *member)
{
    delete_member(broker, member);
    if (broker->member_count) {
        if (broker->acting && broker->members[0].id != 0) /* nobody there who takes messages */
            set_perms(table, broker, ~PERM_WRITE, 0);
        return;
    }
    delete_queues_of(table, broker, 0);
    broker_free(table, broker);
}

static struct route_queue *queue_of(struct route_table *table, struct route_topic *topic, struct route_broker *broker)
{
    for (unsigned i = 0; i < topic->queue_count; i++)
        if (topic->queues[i].broker == broker)
            return &topic->queues[i];
    topic->queues = reallocarray(topic->queues, topic->queue_count + 1, sizeof *topic->queues);
    pn_assert(topic->queues);
    struct route_queue *queue = &topic->queues[topic->queue_count++];
    *queue = (struct route_queue){.broker = broker};
    table->queue_count++;
    return queue;
}

static struct route_queue *find_queue(const struct route_table *table, const struct route_broker *broker,
                                      struct bytes name)
{
    const struct route_topic *topic = find_topic(table, name);
    for (unsigned i = 0; topic && i < topic->queue_count; i++)
        if (topic->queues[i].broker == broker)
            return &topic->queues[i];
    return NULL;
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
    struct route_queue *queue = queue_of(table, topic, broker);
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

/* An address that comes back under another id has left its old one; only a store says so for a store. */
static void forget_other_ids(struct route_broker *broker, struct bytes addr, int64_t id, bool is_remote)
{
    for (unsigned i = 0; i < broker->member_count;)
        if (broker->members[i].id != id && bytes_equal(broker->members[i].addr, addr) &&
            !(is_remote && broker->members[i].connection == 0))
            delete_member(broker, &broker->members[i]);
        else
            i++;
}

/* The place of the one who registers, made if need be; its version is the caller's. */
static struct route_member *take_member(struct route_table *table, const struct bus_registration *registration,
                                        uint64_t connection, int64_t now_ms)
{
    struct route_broker *broker = find_broker(table, registration->broker_name);
    if (!broker)
        broker = add_broker(table, registration->broker_name, registration->cluster);
    replace(&broker->cluster, registration->cluster);
    forget_other_ids(broker, registration->broker_addr, registration->broker_id, connection != 0);
    struct route_member *member = find_member(broker, registration->broker_id);
    if (!member)
        member = add_member(broker, registration->broker_id);
    replace(&member->addr, registration->broker_addr);
    replace(&member->ha_addr, registration->ha_addr);
    member->last_ms = now_ms;
    member->connection = connection;
    return member;
}

enum route_answer route_table_register(struct route_table *table, const struct bus_registration *registration,
                                       int64_t now_ms)
{
    struct route_broker *broker = find_broker(table, registration->broker_name);
    struct route_member *member = broker ? find_member(broker, registration->broker_id) : NULL;
    bool is_same = member && member->connection == 0 && bytes_equal(member->addr, registration->broker_addr);
    if (!is_same && !registration->whole)
        return ROUTE_ASK_WHOLE;
    if (member && member->connection == 0 && !is_same &&
        member->version.state_version > registration->version.state_version)
        return ROUTE_IGNORED;
    bool is_missing_some = !registration->whole && registration->version.counter != member->version.counter + 1 &&
                           !same_version(&registration->version, &member->version);

    member = take_member(table, registration, 0, now_ms);
    broker = find_broker(table, registration->broker_name);
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
    if (!member || member->connection != 0)
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

static void describe(const struct route_broker *broker, const struct route_member *member, char *ret_text, size_t size)
{
    snprintf(ret_text, size, "%s id %lld at %s", (const char *)broker->name.data, (long long)member->id,
             (const char *)member->addr.data);
}

bool route_table_expire(struct route_table *table, int64_t now_ms, char *ret_text, size_t text_size,
                        uint64_t *ret_connection)
{
    struct route_broker *broker, *next;
    HASH_ITER(hh, table->brokers, broker, next)
    for (unsigned i = 0; i < broker->member_count; i++) {
        struct route_member *member = &broker->members[i];
        if (now_ms - member->last_ms <= member->timeout_ms)
            continue;
        describe(broker, member, ret_text, text_size);
        *ret_connection = member->connection;
        remove_member(table, broker, member);
        return true;
    }
    return false;
}

bool route_table_drop_connection(struct route_table *table, uint64_t connection, char *ret_text, size_t text_size)
{
    struct route_broker *broker, *next;
    HASH_ITER(hh, table->brokers, broker, next)
    for (unsigned i = 0; i < broker->member_count; i++) {
        if (broker->members[i].connection != connection)
            continue;
        describe(broker, &broker->members[i], ret_text, text_size);
        remove_member(table, broker, &broker->members[i]);
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

/* Of what a broker of another host sends each topic is taken that is new here or that it has changed since; what was
 * changed here by hand stays until then. */
static void take_topics(struct route_table *table, struct route_broker *broker,
                        const struct bus_registration *registration, bool is_changed, int32_t perm_mask)
{
    table->mark++;
    for (uint32_t i = 0; i < registration->topic_count; i++) {
        struct bus_topic topic = registration->topics[i];
        struct route_queue *queue = find_queue(table, broker, topic.name);
        topic.perm &= perm_mask;
        if (is_changed || !queue)
            put_topic(table, broker, &topic);
        else
            queue->mark = table->mark;
    }
}

enum route_answer route_table_register_remote(struct route_table *table, const struct bus_registration *registration,
                                              const struct route_remote *remote, int64_t now_ms)
{
    struct route_broker *broker = find_broker(table, registration->broker_name);
    struct route_member *member = broker ? find_member(broker, registration->broker_id) : NULL;
    bool is_same = member && bytes_equal(member->addr, registration->broker_addr);
    pn_assert(remote->connection != 0);
    if (member && member->connection == 0)
        return ROUTE_IGNORED;
    if (member && !is_same && member->version.state_version > registration->version.state_version)
        return ROUTE_IGNORED;
    if (!member && registration->topic_count == 1)
        return ROUTE_TOO_EARLY;
    bool is_changed = !is_same || !same_version(&member->version, &registration->version);

    member = take_member(table, registration, remote->connection, now_ms);
    broker = find_broker(table, registration->broker_name);
    member->timeout_ms =
        registration->heartbeat_timeout_ms > 0 ? registration->heartbeat_timeout_ms : TIMEOUT_REMOTE_MS;
    member->version = registration->version;
    broker->acting = remote->acting;
    replace(&broker->zone, remote->zone);
    bool is_prime_slave = remote->knows_acting && member->id != 0 && member == broker->members;
    if (member->id == 0 || is_prime_slave) {
        take_topics(table, broker, registration, is_changed, is_prime_slave && remote->acting ? ~PERM_WRITE : ~0);
        if (remote->is_whole)
            delete_queues_of(table, broker, table->mark);
    }
    return ROUTE_OK;
}

bool route_table_unregister_remote(struct route_table *table, struct bytes broker_name, struct bytes addr)
{
    struct route_broker *broker = find_broker(table, broker_name);
    for (unsigned i = 0; broker && i < broker->member_count; i++)
        if (broker->members[i].connection != 0 && bytes_equal(broker->members[i].addr, addr)) {
            remove_member(table, broker, &broker->members[i]);
            return true;
        }
    return false;
}

static struct route_member *member_at(const struct route_table *table, struct bytes cluster, struct bytes addr)
{
    for (struct route_broker *broker = table->brokers; broker; broker = broker->hh.next)
        for (unsigned i = 0; i < broker->member_count; i++)
            if (bytes_equal(broker->members[i].addr, addr) && bytes_equal(broker->cluster, cluster))
                return &broker->members[i];
    return NULL;
}

const struct route_member *route_table_member_at(const struct route_table *table, struct bytes cluster,
                                                 struct bytes addr)
{
    return member_at(table, cluster, addr);
}

bool route_table_touch(struct route_table *table, struct bytes cluster, struct bytes addr, int64_t now_ms)
{
    struct route_member *member = member_at(table, cluster, addr);
    if (!member || member->connection == 0)
        return false;
    member->last_ms = now_ms;
    return true;
}

unsigned route_table_wipe_write(struct route_table *table, struct bytes broker_name)
{
    const struct route_broker *broker = find_broker(table, broker_name);
    return broker ? set_perms(table, broker, ~PERM_WRITE, 0) : 0;
}

unsigned route_table_add_write(struct route_table *table, struct bytes broker_name)
{
    const struct route_broker *broker = find_broker(table, broker_name);
    return broker ? set_perms(table, broker, 0, PERM_READ_WRITE) : 0;
}

void route_table_delete_topic(struct route_table *table, struct bytes name, const struct bytes *cluster)
{
    struct route_topic *topic = find_topic(table, name);
    for (unsigned i = topic ? topic->queue_count : 0; i-- > 0;)
        if (!cluster || bytes_equal(topic->queues[i].broker->cluster, *cluster))
            delete_queue(table, topic, i); /* frees the topic with its last queue, which is the last turn */
}

bool route_table_put_queue(struct route_table *table, const struct bus_topic *topic, struct bytes broker_name)
{
    struct route_broker *broker = find_broker(table, broker_name);
    if (broker)
        put_topic(table, broker, topic);
    return broker != NULL;
}
