/* The rules by which brokers and topics come into the route table and leave it (remoting facts 2.5). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "namesrv/route_table.h"

static struct route_table *table;

static int setup(void **state)
{
    table = route_table_new();
    return table ? 0 : -1;
}

static int teardown(void **state)
{
    route_table_free(table);
    return 0;
}

static struct bus_topic topic(const char *name, int32_t queues)
{
    return (struct bus_topic){bytes_of(name), queues, queues, 6, 0, false};
}

struct say {
    const char *broker, *addr;
    int64_t id, state_version, counter;
    bool changes_only;
};

static enum route_answer register_topics(struct say say, struct bus_topic *topics, uint32_t count, int64_t now_ms)
{
    struct bus_registration registration = {
        .cluster = bytes_of("C"),
        .broker_name = bytes_of(say.broker),
        .broker_addr = bytes_of(say.addr),
        .ha_addr = bytes_of(""),
        .broker_id = say.id,
        .heartbeat_timeout_ms = 10000,
        .version = {say.state_version, 0, say.counter},
        .whole = !say.changes_only,
        .topic_count = count,
        .topics = topics,
    };
    return route_table_register(table, &registration, now_ms);
}

static struct bus_heartbeat heartbeat(struct say say)
{
    return (struct bus_heartbeat){
        bytes_of("C"), bytes_of(say.broker), bytes_of(say.addr), say.id, {say.state_version, 0, say.counter}};
}

static enum route_answer beat(struct say say, int64_t now_ms)
{
    struct bus_heartbeat who = heartbeat(say);
    return route_table_heartbeat(table, &who, now_ms);
}

static bool leave(struct say say)
{
    struct bus_heartbeat who = heartbeat(say);
    return route_table_unregister(table, &who);
}

/* Number of brokers that have the topic. */
static unsigned brokers_of(const char *name)
{
    const struct route_topic *found = route_table_topic(table, bytes_of(name));
    return found ? found->queue_count : 0;
}

static unsigned members_of(const char *name)
{
    const struct route_broker *found = route_table_broker(table, bytes_of(name));
    return found ? found->member_count : 0;
}

static void test_whole(void **state)
{
    struct bus_topic both[] = {topic("T1", 4), topic("T2", 8)};
    assert_int_equal(register_topics((struct say){"a", "1:1", 0, 0, 1, false}, both, 2, 0), ROUTE_OK);
    assert_int_equal(register_topics((struct say){"b", "2:1", 0, 0, 1, false}, both, 1, 0), ROUTE_OK);
    assert_int_equal(brokers_of("T1"), 2);
    assert_int_equal(brokers_of("T2"), 1);
    assert_int_equal(route_table_topic(table, bytes_of("T2"))->queues[0].write_queues, 8);
    assert_int_equal(brokers_of("T"), 0);
    both[1].write_queues = 2;
    both[1].perm = 4;
    assert_int_equal(register_topics((struct say){"a", "1:1", 0, 0, 2, false}, both + 1, 1, 0), ROUTE_OK);
    assert_int_equal(brokers_of("T1"), 1); /* what a whole table does not name is gone */
    assert_int_equal(brokers_of("T2"), 1);
    assert_int_equal(route_table_topic(table, bytes_of("T2"))->queues[0].write_queues, 2);
    assert_int_equal(route_table_topic(table, bytes_of("T2"))->queues[0].perm, 4);
    assert_int_equal(register_topics((struct say){"a", "1:1", 0, 0, 3, false}, NULL, 0, 0), ROUTE_OK);
    assert_int_equal(brokers_of("T2"), 0);
    assert_int_equal(members_of("a"), 1);
}

static void test_changes(void **state)
{
    struct bus_topic t1 = topic("T1", 4), t2 = topic("T2", 4);
    struct say a = {"a", "1:1", 0, 0, 1, true};
    assert_int_equal(register_topics(a, &t1, 1, 0), ROUTE_ASK_WHOLE); /* not as the first word */
    assert_int_equal(members_of("a"), 0);
    a.changes_only = false;
    assert_int_equal(register_topics(a, &t1, 1, 0), ROUTE_OK);
    a = (struct say){"a", "1:1", 0, 0, 2, true};
    assert_int_equal(register_topics(a, &t2, 1, 0), ROUTE_OK);
    assert_int_equal(brokers_of("T1") + brokers_of("T2"), 2);
    assert_int_equal(register_topics(a, &t2, 1, 0), ROUTE_OK); /* said twice */
    /* One change was missed: this one counts, but the whole table is wanted, also by the next heartbeat. */
    a.counter = 4;
    t2.read_queues = 7;
    assert_int_equal(register_topics(a, &t2, 1, 0), ROUTE_ASK_WHOLE);
    assert_int_equal(route_table_topic(table, bytes_of("T2"))->queues[0].read_queues, 7);
    assert_int_equal(beat(a, 0), ROUTE_ASK_WHOLE);
    a.changes_only = false;
    assert_int_equal(register_topics(a, &t2, 1, 0), ROUTE_OK);
    assert_int_equal(beat(a, 0), ROUTE_OK);
}

static void test_ids_and_addresses(void **state)
{
    struct bus_topic t = topic("T", 4);
    assert_int_equal(register_topics((struct say){"a", "1:1", 0, 5, 1, false}, &t, 1, 0), ROUTE_OK);
    assert_int_equal(register_topics((struct say){"a", "9:1", 0, 4, 1, false}, &t, 1, 0), ROUTE_IGNORED);
    assert_int_equal(beat((struct say){"a", "9:1", 0, 4, 1, false}, 0), ROUTE_IGNORED);
    const struct route_broker *a = route_table_broker(table, bytes_of("a"));
    assert_true(bytes_equal_text(a->members[0].addr, "1:1"));
    assert_int_equal(register_topics((struct say){"a", "9:1", 0, 5, 1, false}, &t, 1, 0),
                     ROUTE_OK); /* a newer one takes over */
    assert_true(bytes_equal_text(a->members[0].addr, "9:1"));
    assert_false(leave((struct say){"a", "1:1", 0, 5, 1, false})); /* the old one's farewell comes late */
    assert_int_equal(members_of("a"), 1);

    struct bus_topic other = topic("OTHER", 1);
    assert_int_equal(register_topics((struct say){"a", "3:1", 2, 5, 1, false}, &other, 1, 0), ROUTE_OK);
    assert_int_equal(register_topics((struct say){"a", "2:1", 1, 5, 1, false}, &other, 1, 0), ROUTE_OK);
    assert_int_equal(brokers_of("OTHER"), 0); /* only a master brings topics */
    assert_int_equal(a->member_count, 3);
    for (int64_t id = 0; id < 3; id++)
        assert_int_equal(a->members[id].id, id);
    assert_int_equal(register_topics((struct say){"a", "3:1", 1, 5, 1, false}, &other, 1, 0),
                     ROUTE_OK); /* an id changes */
    assert_int_equal(a->member_count, 2);
    assert_true(bytes_equal_text(a->members[1].addr, "3:1"));
}

static void test_leaving(void **state)
{
    struct bus_topic t = topic("T", 4);
    struct say master = {"a", "1:1", 0, 0, 1, false}, slave = {"a", "2:1", 1, 0, 1, false},
               b = {"b", "3:1", 0, 0, 1, false};
    register_topics(master, &t, 1, 0);
    register_topics(slave, &t, 1, 0);
    register_topics(b, &t, 1, 0);
    assert_true(leave(master));
    assert_int_equal(brokers_of("T"), 2); /* the slave still serves reads */
    assert_true(leave(slave));
    assert_false(leave(slave));
    assert_int_equal(brokers_of("T"), 1);
    assert_int_equal(members_of("a"), 0);
    assert_true(leave(b));
    assert_null(route_table_topic(table, bytes_of("T")));
    assert_int_equal(beat(b, 0), ROUTE_ASK_WHOLE);
}

static void test_expiry(void **state)
{
    char text[128];
    uint64_t connection;
    struct bus_topic t = topic("T", 4);
    struct say a = {"a", "1:1", 0, 0, 1, false}, b = {"b", "2:1", 0, 0, 1, false};
    register_topics(a, &t, 1, 1000);
    register_topics(b, &t, 1, 1000);
    assert_false(route_table_expire(table, 11000, text, sizeof text, &connection));
    assert_int_equal(beat(b, 5000), ROUTE_OK);
    assert_true(route_table_expire(table, 11001, text, sizeof text, &connection));
    assert_non_null(strstr(text, "a id 0 at 1:1"));
    assert_false(route_table_expire(table, 11001, text, sizeof text, &connection));
    assert_int_equal(members_of("a"), 0);
    assert_int_equal(brokers_of("T"), 1);
    route_table_forgive(table, 60000);
    assert_false(route_table_expire(table, 75000, text, sizeof text, &connection));
    assert_true(route_table_expire(table, 75001, text, sizeof text, &connection));
    assert_null(route_table_topic(table, bytes_of("T")));
}

static void test_many(void **state)
{
    enum { COUNT = 5000 };
    static char names[COUNT][24];
    static struct bus_topic topics[COUNT];
    for (int i = 0; i < COUNT; i++) {
        snprintf(names[i], sizeof names[i], "topic-%d", i);
        topics[i] = topic(names[i], i % 16 + 1);
    }
    for (int round = 0; round < 3; round++) {
        assert_int_equal(register_topics((struct say){"a", "1:1", 0, 0, round, false}, topics, COUNT, 0), ROUTE_OK);
        assert_int_equal(register_topics((struct say){"b", "2:1", 0, 0, round, false}, topics, COUNT / 2, 0), ROUTE_OK);
        assert_int_equal(HASH_COUNT(table->topics), COUNT);
        for (int i = 0; i < COUNT; i++)
            assert_int_equal(brokers_of(names[i]), i < COUNT / 2 ? 2 : 1);
    }
    assert_true(leave((struct say){"a", "1:1", 0, 0, 0, false}));
    assert_int_equal(HASH_COUNT(table->topics), COUNT / 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* Brokers of other hosts: registered over TCP, on a connection. */
static enum route_answer register_remote(struct say say, struct route_remote remote, struct bus_topic *topics,
                                         uint32_t count, int64_t now_ms)
{
    struct bus_registration registration = {
        .cluster = bytes_of("C"),
        .broker_name = bytes_of(say.broker),
        .broker_addr = bytes_of(say.addr),
        .ha_addr = bytes_of(""),
        .broker_id = say.id,
        .version = {say.state_version, 0, say.counter},
        .topic_count = count,
        .topics = topics,
    };
    return route_table_register_remote(table, &registration, &remote, now_ms);
}

static const struct route_queue *queue_at(const char *name, const char *broker)
{
    const struct route_topic *found = route_table_topic(table, bytes_of(name));
    for (unsigned i = 0; found && i < found->queue_count; i++)
        if (bytes_equal_text(found->queues[i].broker->name, broker))
            return &found->queues[i];
    return NULL;
}

static void test_remote(void **state)
{
    struct bus_topic topics[] = {topic("T1", 4), topic("T2", 8)};
    struct say a = {"a", "1:1", 0, 0, 1, false};
    struct route_remote on5 = {.connection = 5};
    assert_int_equal(register_remote(a, on5, topics, 1, 0), ROUTE_TOO_EARLY);
    assert_int_equal(members_of("a"), 0);
    assert_int_equal(register_remote(a, on5, topics, 2, 0), ROUTE_OK);
    topics[0].read_queues = 5;
    assert_int_equal(register_remote(a, on5, topics, 2, 0), ROUTE_OK); /* the same version */
    assert_int_equal(queue_at("T1", "a")->read_queues, 4);
    a.counter = 9; /* a gap says nothing here */
    assert_int_equal(register_remote(a, on5, topics, 1, 0), ROUTE_OK);
    assert_int_equal(queue_at("T1", "a")->read_queues, 5);
    assert_non_null(queue_at("T2", "a"));
    on5.is_whole = true;
    assert_int_equal(register_remote(a, on5, topics, 1, 0), ROUTE_OK);
    assert_null(queue_at("T2", "a"));
    assert_int_equal(register_remote((struct say){"a", "9:9", 0, -1, 1, false}, on5, topics, 2, 0), ROUTE_IGNORED);
}

static void test_remote_life(void **state)
{
    struct bus_topic topics[] = {topic("T1", 4), topic("T2", 8)};
    struct say a = {"a", "1:1", 0, 0, 1, false}, slave = {"a", "1:2", 1, 0, 1, false};
    char text[128];
    uint64_t connection;
    register_remote(a, (struct route_remote){.connection = 5}, topics, 2, 0);
    register_remote(slave, (struct route_remote){.connection = 6}, topics, 2, 0);
    assert_false(route_table_drop_connection(table, 7, text, sizeof text));
    assert_true(route_table_drop_connection(table, 6, text, sizeof text));
    assert_non_null(strstr(text, "a id 1 at 1:2"));
    assert_int_equal(members_of("a"), 1);
    /* It registers on another connection: the end of the old one means nothing. */
    register_remote(a, (struct route_remote){.connection = 8}, topics, 2, 1000);
    assert_false(route_table_drop_connection(table, 5, text, sizeof text));
    assert_true(route_table_touch(table, bytes_of("C"), bytes_of("1:1"), 2000));
    assert_false(route_table_touch(table, bytes_of("D"), bytes_of("1:1"), 9000));
    assert_false(route_table_expire(table, 122000, text, sizeof text, &connection));
    assert_true(route_table_expire(table, 122001, text, sizeof text, &connection));
    assert_int_equal(connection, 8);
    assert_null(queue_at("T1", "a"));
    register_remote(a, (struct route_remote){.connection = 8}, topics, 2, 0);
    assert_false(route_table_unregister_remote(table, bytes_of("a"), bytes_of("1:2")));
    assert_true(route_table_unregister_remote(table, bytes_of("a"), bytes_of("1:1")));
    assert_int_equal(brokers_of("T1"), 0);
}

/* What a store of this host says, a stranger cannot touch; the other way round the store takes its place. */
static void test_remote_against_store(void **state)
{
    struct bus_topic topics[] = {topic("T1", 4), topic("T2", 8)};
    struct say a = {"a", "1:1", 0, 0, 1, false};
    struct route_remote remote = {.connection = 5};
    char text[128];
    assert_int_equal(register_topics(a, topics, 1, 0), ROUTE_OK);
    assert_int_equal(register_remote((struct say){"a", "9:9", 0, 7, 1, false}, remote, topics, 2, 0), ROUTE_IGNORED);
    assert_int_equal(register_remote(a, remote, topics, 2, 0), ROUTE_IGNORED);
    assert_int_equal(register_remote((struct say){"a", "1:1", 3, 7, 1, false}, remote, topics, 2, 0), ROUTE_OK);
    assert_int_equal(members_of("a"), 2); /* it did not move the store's address to another id */
    assert_false(route_table_unregister_remote(table, bytes_of("a"), bytes_of("9:9")));
    assert_false(route_table_touch(table, bytes_of("C"), bytes_of("1:1"), 50000));
    assert_true(route_table_drop_connection(table, 5, text, sizeof text));
    assert_int_equal(members_of("a"), 1);
    assert_int_equal(brokers_of("T2"), 0);

    assert_int_equal(register_remote((struct say){"b", "9:9", 0, 7, 1, false}, remote, topics, 2, 0), ROUTE_OK);
    assert_int_equal(beat((struct say){"b", "9:9", 0, 7, 1, false}, 0), ROUTE_ASK_WHOLE);
    assert_int_equal(register_topics((struct say){"b", "1:2", 0, 0, 1, false}, topics, 1, 0), ROUTE_OK);
    assert_false(route_table_drop_connection(table, 5, text, sizeof text));
    assert_int_equal(members_of("b"), 1);
}

static void test_acting_master(void **state)
{
    struct bus_topic topics[] = {topic("T1", 4), topic("T2", 8)};
    struct route_remote acting = {.connection = 5, .knows_acting = true, .acting = true};
    struct say master = {"a", "1:1", 0, 0, 1, false}, slave = {"a", "1:2", 1, 0, 1, false};
    register_remote(master, acting, topics, 1 + 1, 0);
    register_remote(slave, acting, topics, 2, 0);
    assert_int_equal(queue_at("T1", "a")->perm, 6);
    route_table_unregister_remote(table, bytes_of("a"), bytes_of("1:1"));
    assert_int_equal(queue_at("T1", "a")->perm, 4);
    /* The first slave speaks for the broker now, but not for writing. */
    struct bus_topic more = topic("T3", 2);
    slave.counter = 2;
    assert_int_equal(register_remote(slave, acting, &more, 1, 0), ROUTE_OK);
    assert_int_equal(queue_at("T3", "a")->perm, 4);
    assert_int_equal(topics[0].perm, 6);
    master.counter = 3;
    register_remote(master, acting, topics, 2, 0);
    assert_int_equal(queue_at("T1", "a")->perm, 6);
}

static void test_by_hand(void **state)
{
    struct bus_topic topics[] = {topic("T1", 4), topic("T2", 8)};
    struct bytes cluster = bytes_of("C"), other = bytes_of("D");
    register_topics((struct say){"a", "1:1", 0, 0, 1, false}, topics, 2, 0);
    register_topics((struct say){"b", "2:1", 0, 0, 1, false}, topics, 2, 0);
    assert_int_equal(route_table_wipe_write(table, bytes_of("a")), 2);
    assert_int_equal(queue_at("T1", "a")->perm, 4);
    assert_int_equal(queue_at("T1", "b")->perm, 6);
    assert_int_equal(route_table_add_write(table, bytes_of("a")), 2);
    assert_int_equal(queue_at("T2", "a")->perm, 6);
    assert_int_equal(route_table_wipe_write(table, bytes_of("c")), 0);
    route_table_delete_topic(table, bytes_of("T1"), &other);
    assert_int_equal(brokers_of("T1"), 2);
    route_table_delete_topic(table, bytes_of("T1"), &cluster);
    assert_int_equal(brokers_of("T1"), 0);
    route_table_delete_topic(table, bytes_of("T2"), NULL);
    route_table_delete_topic(table, bytes_of("T2"), NULL);
    assert_int_equal(brokers_of("T2"), 0);
    struct bus_topic put = topic("T3", 2);
    assert_false(route_table_put_queue(table, &put, bytes_of("c")));
    assert_true(route_table_put_queue(table, &put, bytes_of("b")));
    assert_int_equal(queue_at("T3", "b")->write_queues, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_whole),         TEST(test_changes),     TEST(test_ids_and_addresses),
        TEST(test_leaving),       TEST(test_expiry),      TEST(test_many),
        TEST(test_remote),        TEST(test_remote_life), TEST(test_remote_against_store),
        TEST(test_acting_master), TEST(test_by_hand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
