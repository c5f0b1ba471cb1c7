/* What the store reads from disks and from clients' properties: a commit log record as it stands in a file, a text of
 * properties, and a message made of the input's parts that must read back as it was encoded. */
#include "broker/store/encode.h"
#include "broker/format/properties.h"
#include "broker/format/record.h"
#include "fuzz.h"

static void check_record(const uint8_t *data, size_t size)
{
    uint8_t *copy = fuzz_copy(data, size);
    struct record record;
    /* The position that the record claims, so that what is behind this check is reached. */
    int64_t pos = size >= RECORD_POS_AT + 8 ? (int64_t)be64_load(data + RECORD_POS_AT) : 0;
    for (int crc = 0; crc < 2; crc++) {
        enum record_kind kind = record_parse(copy, size, pos, (int64_t)size + (crc ? 0 : 100000), crc, &record);
        if (kind == RECORD_SHORT)
            FUZZ_CHECK(record.size > size);
        if (kind == RECORD_BLANK)
            FUZZ_CHECK(record.size >= RECORD_BLANK_SIZE);
        if (kind != RECORD_MESSAGE)
            continue;
        FUZZ_CHECK(record.size <= size && record.pos == pos);
        FUZZ_CHECK(fuzz_inside(record.body, copy, record.size) && fuzz_inside(record.topic, copy, record.size) &&
                   fuzz_inside(record.properties, copy, record.size));
        fuzz_touch(record.body);
        fuzz_touch(record.topic);
        fuzz_touch(record.properties);
    }
    free(copy);
}

static void check_properties(struct bytes text, struct properties *found)
{
    properties_scan(text, found);
    const struct bytes *parts[] = {&found->tags, &found->keys, &found->wait, &found->delay, &found->uniq_key,
                                   &found->timer, &found->tran_msg, &found->region, &found->cluster, &found->trace_on};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        FUZZ_CHECK(fuzz_inside(*parts[i], text.data, text.size));
        fuzz_touch(*parts[i]);
    }
    uint8_t *clean = malloc(text.size + 1);
    FUZZ_CHECK(clean);
    size_t size = properties_copy_clean(text, clean);
    struct properties again;
    FUZZ_CHECK(size <= text.size + 1);
    properties_scan((struct bytes){clean, size}, &again);
    FUZZ_CHECK(!again.has_reserved && bytes_equal(found->tags, again.tags) && bytes_equal(found->keys, again.keys));
    free(clean);
}

/* topic size, properties size, then both, then the body */
static void check_message(struct bytes input, struct encode_host *host)
{
    static const uint8_t ip[16] = {10, 0, 0, 9};
    struct cursor c = cursor_over(input.data, input.size);
    struct properties found;
    uint8_t topic_size = cursor_get_u8(&c), flags = cursor_get_u8(&c);
    uint16_t properties_size = cursor_get_u16(&c);
    const uint8_t *topic = cursor_take(&c, topic_size), *properties = cursor_take(&c, properties_size);
    if (c.bad || topic_size == 0)
        return;
    struct encode_message message = {.topic = {topic, topic_size}, .properties = {properties, properties_size},
                                     .body = {c.pos, (size_t)(c.end - c.pos)}, .found = &found, .born_ip = ip,
                                     .queue_id = flags & 7, .store_ms = 1700000000000, .born_ms = 1700000000000,
                                     .born_ipv6 = flags & 8};
    check_properties(message.properties, &found);
    if (encode_prepare(host, &message, flags & 16) < 0)
        return;
    uint8_t *bytes = malloc(message.record_size);
    struct record record;
    FUZZ_CHECK(bytes);
    encode_record(host, &message, 7, 4096, bytes);
    enum record_kind kind =
        record_parse(bytes, message.record_size, 4096, (int64_t)message.record_size, true, &record);
    FUZZ_CHECK(kind == RECORD_MESSAGE);
    FUZZ_CHECK(record.size == message.record_size && record.queue_id == message.queue_id && record.queue_offset == 7);
    FUZZ_CHECK(bytes_equal(record.topic, message.topic) && bytes_equal(record.body, message.body));
    struct properties again;
    properties_scan(record.properties, &again);
    FUZZ_CHECK(bytes_equal(found.tags, again.tags) && bytes_equal(found.keys, again.keys));
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct encode_host host;
    struct properties found;
    if (!host.common) {
        struct store_config config = {.broker_name = "broker-a", .cluster_name = "C", .broker_ip1 = "127.0.0.1",
                                      .region_id = "DefaultRegion", .listen_port = 10911};
        FUZZ_CHECK(encode_host_init(&host, &config) == 0);
    }
    if (size == 0)
        return 0;
    uint8_t *copy = fuzz_copy(data + 1, size - 1);
    if (data[0] % 3 == 0)
        check_record(copy, size - 1);
    else if (data[0] % 3 == 1)
        check_properties((struct bytes){copy, size - 1}, &found);
    else
        check_message((struct bytes){copy, size - 1}, &host);
    free(copy);
    return 0;
}
