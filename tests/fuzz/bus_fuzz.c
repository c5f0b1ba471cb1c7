/* Messages of the bus (ipc/bus/bus_msg): every decoder gets every message. What is decoded points into the message and
 * comes back the same when it is encoded and decoded again. */
#include "bus/bus_msg.h"
#include "fuzz.h"

static struct bytes the_message;

static bool is_good(struct bytes text)
{
    fuzz_touch(text);
    return fuzz_inside(text, the_message.data, the_message.size);
}

static bool same_version(const struct bus_data_version *a, const struct bus_data_version *b)
{
    return a->state_version == b->state_version && a->timestamp_ms == b->timestamp_ms && a->counter == b->counter;
}

/* A kind that is known can be said. */
static void check_kind(struct bytes message)
{
    enum bus_msg_kind kind, again;
    struct bytes encoded;
    if (bus_msg_kind(message, &kind) < 0)
        return;
    FUZZ_CHECK(bus_msg_encode_plain(kind, &encoded) == 0 && bus_msg_kind(encoded, &again) == 0 && kind == again);
    free((void *)encoded.data);
}

static void check_hello(struct bytes message)
{
    struct bus_hello hello, again;
    struct bytes encoded;
    if (bus_msg_decode_hello(message, &hello) < 0)
        return;
    FUZZ_CHECK(is_good(hello.worker));
    FUZZ_CHECK(bus_msg_encode_hello(&hello, &encoded) == 0 && bus_msg_decode_hello(encoded, &again) == 0);
    FUZZ_CHECK(bytes_equal(hello.worker, again.worker) && hello.generation == again.generation &&
               hello.pid == again.pid);
    free((void *)encoded.data);
}

static void check_small(struct bytes message)
{
    struct bus_failed failed, failed_again;
    struct bytes text, encoded;
    if (bus_msg_decode_text(message, &text) == 0)
        FUZZ_CHECK(is_good(text));
    if (bus_msg_decode_reload(message, &text) == 0)
        FUZZ_CHECK(is_good(text));
    if (bus_msg_decode_failed(message, &failed) == 0) {
        FUZZ_CHECK(is_good(failed.text));
        FUZZ_CHECK(bus_msg_encode_failed(&failed, &encoded) == 0 &&
                   bus_msg_decode_failed(encoded, &failed_again) == 0);
        FUZZ_CHECK(failed.exit_code == failed_again.exit_code && bytes_equal(failed.text, failed_again.text));
        free((void *)encoded.data);
    }
}

static void check_heartbeat(struct bytes message)
{
    struct bus_heartbeat beat, again;
    struct bytes encoded;
    enum bus_msg_kind kind;
    if (bus_msg_decode_heartbeat(message, &beat) < 0)
        return;
    FUZZ_CHECK(is_good(beat.cluster) && is_good(beat.broker_name) && is_good(beat.broker_addr));
    FUZZ_CHECK(bus_msg_kind(message, &kind) == 0);
    FUZZ_CHECK(bus_msg_encode_heartbeat(kind, &beat, &encoded) == 0 && bus_msg_decode_heartbeat(encoded, &again) == 0);
    FUZZ_CHECK(bytes_equal(beat.cluster, again.cluster) && bytes_equal(beat.broker_name, again.broker_name) &&
               bytes_equal(beat.broker_addr, again.broker_addr) && beat.broker_id == again.broker_id &&
               same_version(&beat.version, &again.version));
    free((void *)encoded.data);
}

static void check_registration(struct bytes message)
{
    struct bus_registration told, again;
    struct bytes encoded;
    if (bus_msg_decode_registration(message, &told) < 0)
        return;
    FUZZ_CHECK(is_good(told.cluster) && is_good(told.broker_name) && is_good(told.broker_addr) && is_good(told.ha_addr));
    FUZZ_CHECK(bus_msg_encode_registration(&told, &encoded) == 0 && bus_msg_decode_registration(encoded, &again) == 0);
    FUZZ_CHECK(bytes_equal(told.cluster, again.cluster) && bytes_equal(told.broker_name, again.broker_name) &&
               bytes_equal(told.broker_addr, again.broker_addr) && bytes_equal(told.ha_addr, again.ha_addr) &&
               told.broker_id == again.broker_id && told.heartbeat_timeout_ms == again.heartbeat_timeout_ms &&
               same_version(&told.version, &again.version) && told.whole == again.whole &&
               told.topic_count == again.topic_count);
    for (uint32_t i = 0; i < told.topic_count; i++) {
        const struct bus_topic *a = &told.topics[i], *b = &again.topics[i];
        FUZZ_CHECK(is_good(a->name) && bytes_equal(a->name, b->name) && a->read_queues == b->read_queues &&
                   a->write_queues == b->write_queues && a->perm == b->perm &&
                   a->topic_sys_flag == b->topic_sys_flag && a->order == b->order);
    }
    bus_registration_free(&again);
    bus_registration_free(&told);
    free((void *)encoded.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = fuzz_copy(data, size);
    the_message = (struct bytes){copy, size};
    check_kind(the_message);
    check_hello(the_message);
    check_small(the_message);
    check_heartbeat(the_message);
    check_registration(the_message);
    free(copy);
    return 0;
}
