/* Bus messages: each kind there and back, each cut and mutation refused or harmless. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bus/bus_msg.h"

static struct bytes registration_message(uint32_t topic_count)
{
    struct bus_topic *topics = calloc(topic_count + 1, sizeof *topics);
    for (uint32_t i = 0; i < topic_count; i++)
        topics[i] = (struct bus_topic){bytes_of("topic \xc3\xa9"), (int32_t)i, 8, 6, 3, i % 2 == 1};
    struct bus_registration registration = {
        .cluster = bytes_of("DefaultCluster"),
        .broker_name = bytes_of("broker-a"),
        .broker_addr = bytes_of(":10911"),
        .ha_addr = bytes_of(""),
        .broker_id = 0,
        .heartbeat_timeout_ms = 10000,
        .version = {1, -1763898000000, INT64_MAX},
        .whole = true,
        .topic_count = topic_count,
        .topics = topics,
    };
    struct bytes message;
    assert_int_equal(bus_msg_encode_registration(&registration, &message), 0);
    free(topics);
    return message;
}

static void check_kind(struct bytes message, enum bus_msg_kind expected)
{
    enum bus_msg_kind kind;
    assert_int_equal(bus_msg_kind(message, &kind), 0);
    assert_int_equal(kind, expected);
}

static void test_small(void **state)
{
    struct bytes message;
    for (enum bus_msg_kind kind = BUS_READY; kind <= BUS_NAMESRV_HELLO; kind++) {
        assert_int_equal(bus_msg_encode_plain(kind, &message), 0);
        check_kind(message, kind);
        free((void *)message.data);
    }
    struct bus_hello hello = {bytes_of("store broker-a/0"), UINT64_MAX, 4242}, got;
    assert_int_equal(bus_msg_encode_hello(&hello, &message), 0);
    check_kind(message, BUS_HELLO);
    assert_int_equal(bus_msg_decode_hello(message, &got), 0);
    assert_true(bytes_equal(got.worker, hello.worker));
    assert_true(got.generation == UINT64_MAX && got.pid == 4242);
    struct bytes text;
    assert_int_equal(bus_msg_decode_text(message, &text), -EBADMSG);
    free((void *)message.data);

    assert_int_equal(bus_msg_encode_status("recovering 5 %", &message), 0);
    assert_int_equal(bus_msg_decode_text(message, &text), 0);
    assert_true(bytes_equal_text(text, "recovering 5 %"));
    assert_int_equal(bus_msg_decode_hello(message, &got), -EBADMSG);
    free((void *)message.data);

    struct bus_failed failed = {74, bytes_of("port taken")}, got_failed;
    assert_int_equal(bus_msg_encode_failed(&failed, &message), 0);
    assert_int_equal(bus_msg_decode_failed(message, &got_failed), 0);
    assert_int_equal(got_failed.exit_code, 74);
    assert_true(bytes_equal_text(got_failed.text, "port taken"));
    free((void *)message.data);
}

static void test_heartbeat(void **state)
{
    struct bus_heartbeat heartbeat = {bytes_of("C"), bytes_of("b"), bytes_of("1.2.3.4:1"), -1, {1, 2, 3}}, got;
    struct bytes message;
    static const enum bus_msg_kind kinds[] = {BUS_HEARTBEAT, BUS_UNREGISTER};
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(bus_msg_encode_heartbeat(kinds[i], &heartbeat, &message), 0);
        check_kind(message, kinds[i]);
        assert_int_equal(bus_msg_decode_heartbeat(message, &got), 0);
        assert_true(bytes_equal_text(got.cluster, "C") && bytes_equal_text(got.broker_name, "b"));
        assert_true(bytes_equal_text(got.broker_addr, "1.2.3.4:1"));
        assert_true(got.broker_id == -1 && got.version.state_version == 1 && got.version.timestamp_ms == 2 &&
                    got.version.counter == 3);
        free((void *)message.data);
    }
}

static void test_registration(void **state)
{
    static const uint32_t counts[] = {0, 1, 15, 16, 70000};
    for (unsigned n = 0; n < sizeof counts / sizeof *counts; n++) {
        struct bytes message = registration_message(counts[n]);
        struct bus_registration got;
        assert_int_equal(bus_msg_decode_registration(message, &got), 0);
        assert_true(bytes_equal_text(got.cluster, "DefaultCluster") && bytes_equal_text(got.broker_name, "broker-a"));
        assert_true(bytes_equal_text(got.broker_addr, ":10911") && got.ha_addr.size == 0);
        assert_true(got.broker_id == 0 && got.heartbeat_timeout_ms == 10000 && got.whole);
        assert_true(got.version.timestamp_ms == -1763898000000 && got.version.counter == INT64_MAX);
        assert_int_equal(got.topic_count, counts[n]);
        for (uint32_t i = 0; i < counts[n]; i++) {
            const struct bus_topic *topic = &got.topics[i];
            assert_true(bytes_equal_text(topic->name, "topic \xc3\xa9"));
            assert_true(topic->read_queues == (int32_t)i && topic->write_queues == 8 && topic->perm == 6 &&
                        topic->topic_sys_flag == 3 && topic->order == (i % 2 == 1));
        }
        bus_registration_free(&got);
        free((void *)message.data);
    }
}

static void decode_all(const uint8_t *data, size_t size)
{
    struct bytes message = {data, size}, text;
    enum bus_msg_kind kind;
    struct bus_hello hello;
    struct bus_failed failed;
    struct bus_heartbeat heartbeat;
    struct bus_registration registration;
    (void)bus_msg_kind(message, &kind);
    (void)bus_msg_decode_hello(message, &hello);
    (void)bus_msg_decode_text(message, &text);
    (void)bus_msg_decode_failed(message, &failed);
    (void)bus_msg_decode_heartbeat(message, &heartbeat);
    if (bus_msg_decode_registration(message, &registration) == 0)
        bus_registration_free(&registration);
}

static void test_cut_and_mutated(void **state)
{
    struct bytes message = registration_message(20);
    uint64_t seed = 99;
    for (size_t size = 0; size < message.size; size++) {
        uint8_t *cut = malloc(size + 1);
        memcpy(cut, message.data, size);
        struct bus_registration got;
        assert_int_equal(bus_msg_decode_registration((struct bytes){cut, size}, &got), -EBADMSG);
        free(cut);
    }
    for (unsigned round = 0; round < 50000; round++) {
        uint8_t *data = malloc(message.size);
        memcpy(data, message.data, message.size);
        for (unsigned n = 0; n < 2; n++) {
            seed = seed * 6364136223846793005ull + 1442695040888963407ull;
            data[(seed >> 33) % message.size] = (uint8_t)(seed >> 20);
        }
        decode_all(data, message.size);
        free(data);
    }
    free((void *)message.data);
    /* An array that claims four thousand million members. */
    static const uint8_t huge[] = {0xdd, 0xff, 0xff, 0xff, 0xff, 7, 1};
    static const uint8_t future[] = {0x93, 3, 2, 0xa1, 'x'}, old[] = {0x92, 3, 0}, unknown[] = {0x92, 100, 1};
    enum bus_msg_kind kind;
    assert_int_equal(bus_msg_kind((struct bytes){huge, sizeof huge}, &kind), -EBADMSG);
    assert_int_equal(bus_msg_kind((struct bytes){old, sizeof old}, &kind), -EBADMSG);
    assert_int_equal(bus_msg_kind((struct bytes){unknown, sizeof unknown}, &kind), -EBADMSG);
    assert_int_equal(bus_msg_kind((struct bytes){future, sizeof future}, &kind), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small),
        cmocka_unit_test(test_heartbeat),
        cmocka_unit_test(test_registration),
        cmocka_unit_test(test_cut_and_mutated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
