/* Records byte by byte, their properties, and what a parser says of damaged ones. */
#include "../../unit.h"

#include <errno.h>
#include <isa-l/crc.h>
#include <stdio.h>
#include <string.h>

#include "broker/store/encode.h"
#include "broker/format/record.h"

static struct encode_host make_host(const char *ip)
{
    struct store_config config = {.broker_name = "b", .cluster_name = "C", .region_id = "R", .broker_ip1 = (char *)ip,
                                  .listen_port = 10911};
    struct encode_host host;
    assert_int_equal(encode_host_init(&host, &config), 0);
    return host;
}

static const uint8_t born_ip[16] = {10, 1, 2, 3};

static struct encode_message make_message(struct properties *found, const char *properties)
{
    struct encode_message message = {.topic = bytes_of("T"), .body = bytes_of("hello"),
                                     .properties = bytes_of(properties), .found = found, .queue_id = 3, .flag = 5,
                                     .sys_flag = 0x30, .reconsume_times = 2, .born_ms = 0x0102030405060708,
                                     .store_ms = 0x1112131415161718, .born_ip = born_ip, .born_port = 80};
    properties_scan(message.properties, found);
    return message;
}

#define PROPERTIES "UNIQ_KEY\1U\2MSG_REGION\1R\2TRACE_ON\1true\2CLUSTER\1C\2"

/* What Apache's broker writes for the same message. */
static void test_known_bytes(void **state)
{
    static const uint8_t fixed[] = {
        0, 0, 0, 145,             /* size */
        0xDA, 0xA3, 0x20, 0xA7,   /* magic */
        0x36, 0x10, 0xA6, 0x86,   /* CRC-32 of "hello" */
        0, 0, 0, 3,               /* queue id */
        0, 0, 0, 5,               /* flag */
        0, 0, 0, 0, 0, 0, 0, 9,   /* queue offset */
        0, 0, 0, 0, 0, 0, 4, 0,   /* position */
        0, 0, 0, 0,               /* sysFlag: the client's IPv6 bits are not believed */
        1, 2, 3, 4, 5, 6, 7, 8,   /* born time */
        10, 1, 2, 3, 0, 0, 0, 80, /* born host */
        0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, /* store time */
        127, 0, 0, 1, 0, 0, 0x2A, 0x9F, /* store host, 10911 */
        0, 0, 0, 2,               /* reconsume times */
        0, 0, 0, 0, 0, 0, 0, 0,   /* prepared transaction */
        0, 0, 0, 5, 'h', 'e', 'l', 'l', 'o', 1, 'T', 0, 48,
    };
    struct encode_host host = make_host("127.0.0.1");
    struct properties found;
    struct encode_message message = make_message(&found, PROPERTIES);
    uint8_t record[256];
    assert_int_equal(encode_prepare(&host, &message, true), 0);
    assert_int_equal(message.record_size, sizeof fixed + strlen(PROPERTIES));
    encode_record(&host, &message, 9, 1024, record);
    assert_memory_equal(record, fixed, sizeof fixed);
    assert_memory_equal(record + sizeof fixed, PROPERTIES, strlen(PROPERTIES));
    encode_host_done(&host);
}

static struct bytes stored_properties(struct encode_host *host, const char *properties, uint8_t *record)
{
    struct properties found;
    struct record parsed;
    struct encode_message message = make_message(&found, properties);
    assert_int_equal(encode_prepare(host, &message, true), 0);
    encode_record(host, &message, 0, 0, record);
    assert_int_equal(record_parse(record, message.record_size, 0, 1 << 20, true, &parsed), RECORD_MESSAGE);
    return parsed.properties;
}

static void test_added_properties(void **state)
{
    struct encode_host host = make_host("");
    uint8_t record[1024];
    struct properties found;
    /* None of its own: key, region, trace, cluster. */
    struct bytes text = stored_properties(&host, "", record);
    properties_scan(text, &found);
    assert_int_equal(found.uniq_key.size, 32);
    assert_memory_equal(found.uniq_key.data, "7F000001", 8);
    assert_true(bytes_equal_text(found.region, "R") && bytes_equal_text(found.cluster, "C"));
    assert_true(bytes_equal_text(found.trace_on, "true"));
    /* An open end is closed; what the client claims of region and cluster is overruled, what it says of itself stays. */
    text = stored_properties(&host, "MSG_REGION\1other\2KEYS\1a b\2UNIQ_KEY\1mine\2CLUSTER\1C", record);
    properties_scan(text, &found);
    assert_true(bytes_equal_text(found.region, "R") && bytes_equal_text(found.cluster, "C"));
    assert_true(bytes_equal_text(found.uniq_key, "mine") && bytes_equal_text(found.keys, "a b"));
    /* What only a broker may write goes. */
    text = stored_properties(&host, "POP_CK\1x\2TAGS\1t\2__CRC32#\0011\2", record);
    assert_null(memmem(text.data, text.size, "POP_CK", 6));
    assert_null(memmem(text.data, text.size, "__CRC32#", 8));
    properties_scan(text, &found);
    assert_true(bytes_equal_text(found.tags, "t") && !found.has_reserved);
    encode_host_done(&host);
}

static void test_properties_rules(void **state)
{
    struct properties found;
    properties_scan(bytes_of("TAGS\1a\2TAGS\1b\2KEYS\1\2\1x\2WAIT\2DELAY\0013"), &found);
    assert_true(bytes_equal_text(found.tags, "b")); /* the last wins */
    assert_int_equal(found.keys.size, 0);
    assert_int_equal(found.wait.size, 0);
    assert_true(bytes_equal_text(found.delay, "3") && found.ends_open);
    properties_scan(bytes_of("TIMER_DELIVER_MS\0011\2TRAN_MSG\1true\2PINTLE_POISON\1y\2"), &found);
    assert_true(found.timer.size && found.tran_msg.size && found.poison.size && !found.ends_open);
}

static void test_properties_too_long(void **state)
{
    struct encode_host host = make_host("127.0.0.1");
    struct properties found;
    static char text[40000];
    memset(text, 'x', sizeof text);
    memcpy(text, "KEYS\1", 5);
    text[32767] = 0; /* alone it fits, with ours it does not */
    struct encode_message message = make_message(&found, text);
    assert_int_equal(encode_prepare(&host, &message, true), -EMSGSIZE);
    assert_int_equal(encode_prepare(&host, &message, false), 0); /* an item of a batch stays as it is */
    assert_int_equal(message.properties_size, 32767);
    text[32767] = 'x';
    text[32768] = 0;
    message = make_message(&found, text);
    assert_int_equal(encode_prepare(&host, &message, false), -EMSGSIZE);
    encode_host_done(&host);
}

static void test_long_topic_and_ipv6(void **state)
{
    struct encode_host host = make_host("2001:db8::1");
    struct properties found;
    struct record parsed;
    uint8_t record[1024];
    char topic[201];
    memset(topic, 'r', 200);
    topic[200] = 0;
    struct encode_message message = make_message(&found, "");
    message.topic = bytes_of(topic);
    message.born_ipv6 = true;
    assert_int_equal(encode_prepare(&host, &message, true), 0);
    encode_record(&host, &message, 1, 0, record);
    assert_int_equal(be32_load(record + RECORD_MAGIC_AT), RECORD_MAGIC_V2);
    assert_int_equal(record_parse(record, message.record_size, 0, 1 << 20, true, &parsed), RECORD_MESSAGE);
    assert_int_equal(parsed.sys_flag, SYS_FLAG_BORN_IPV6 | SYS_FLAG_STORE_IPV6);
    assert_true(bytes_equal_text(parsed.topic, topic) && bytes_equal_text(parsed.body, "hello"));
    properties_scan(parsed.properties, &found);
    assert_int_equal(found.uniq_key.size, 56);
    encode_host_done(&host);
}

/* Cut anywhere, or one bit of body, size, magic or position wrong: not a record. */
static void test_damaged(void **state)
{
    struct encode_host host = make_host("127.0.0.1");
    struct properties found;
    struct record parsed;
    uint8_t record[512], copy[512];
    struct encode_message message = make_message(&found, PROPERTIES);
    assert_int_equal(encode_prepare(&host, &message, true), 0);
    size_t size = message.record_size;
    encode_record(&host, &message, 9, 4096, record);
    assert_int_equal(record_parse(record, size, 4096, size + 8, true, &parsed), RECORD_MESSAGE);
    assert_int_equal(record_parse(record, size, 4104, size + 8, true, &parsed), RECORD_BAD);
    assert_int_equal(record_parse(record, size, 4096, size - 1, true, &parsed), RECORD_BAD);
    for (size_t cut = 0; cut < size; cut++) {
        assert_int_equal(record_parse(record, cut, 4096, 1 << 20, true, &parsed), RECORD_SHORT);
        assert_true(parsed.size > cut && parsed.size <= size);
        memset(copy, 0, sizeof copy);
        memcpy(copy, record, cut);
        bool same = memcmp(copy, record, size) == 0;
        if (cut < size)
            assert_int_equal(record_parse(copy, sizeof copy, 4096, 1 << 20, true, &parsed), same ? RECORD_MESSAGE : RECORD_BAD);
    }
    for (size_t at = 0; at < 93; at++) {
        bool checked = at < 12 || (at >= 28 && at < 36) || at >= 84;
        memcpy(copy, record, size);
        copy[at] ^= 0x40;
        if (checked)
            assert_int_not_equal(record_parse(copy, size, 4096, 1 << 20, true, &parsed), RECORD_MESSAGE);
    }
    encode_host_done(&host);
}

static void test_blank(void **state)
{
    uint8_t data[8];
    struct record parsed;
    encode_blank(data, 1000);
    assert_int_equal(record_parse(data, 8, 24, 1000, true, &parsed), RECORD_BLANK);
    assert_int_equal(parsed.size, 1000);
    assert_int_equal(record_parse(data, 8, 24, 999, true, &parsed), RECORD_BAD);
    assert_int_equal(record_parse(data, 8, 24, 7, true, &parsed), RECORD_BAD);
}

/* With a CRC of the whole record, no bit can be wrong and none of its pages be lost unnoticed. */
static void test_whole_crc(void **state)
{
    static const char *const texts[] = {"", "TAGS\1A\2", "a\1b", "__CRC32#\0017654321000\2", "POP_CK\1x\2k\1v", PROPERTIES,
                                        "UNIQ_KEY\1U\2MSG_REGION\1R\2TRACE_ON\1true\2CLUSTER\1C"};
    struct encode_host host = make_host("127.0.0.1");
    struct record parsed;
    uint8_t record[512];
    host.whole_crc = true;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct properties found, again;
        struct encode_message message = make_message(&found, texts[i]);
        for (int must_fit = 0; must_fit < 2; must_fit++) {
            assert_int_equal(encode_prepare(&host, &message, must_fit), 0);
            encode_record(&host, &message, 9, 4096, record);
            assert_int_equal(record_parse(record, message.record_size, 4096, 1 << 20, true, &parsed), RECORD_MESSAGE);
            properties_scan(parsed.properties, &again);
            assert_true(again.has_reserved && !again.ends_open && bytes_equal(again.tags, found.tags));
            assert_int_equal(record_whole_crc(record, message.record_size), RECORD_WHOLE_CRC_GOOD);
        }
        for (size_t bit = 0; bit < message.record_size * 8; bit++) {
            record[bit / 8] ^= (uint8_t)(1u << bit % 8);
            if (record_parse(record, message.record_size, 4096, 1 << 20, true, &parsed) == RECORD_MESSAGE)
                fail_msg("text %zu: byte %zu of %zu, bit %zu", i, bit / 8, message.record_size, bit % 8);
            record[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        for (size_t kept = 0; kept < message.record_size; kept++) { /* a page begins or ends within it */
            uint8_t torn[sizeof record];
            memcpy(torn, record, message.record_size);
            memset(torn + kept, 0, message.record_size - kept);
            assert_int_not_equal(record_parse(torn, message.record_size, 4096, 1 << 20, true, &parsed), RECORD_MESSAGE);
            memcpy(torn, record, message.record_size);
            memset(torn, 0, kept + 1);
            bool same = memcmp(torn, record, message.record_size) == 0; /* the first bytes are zeros */
            assert_int_equal(record_parse(torn, message.record_size, 4096, 1 << 20, true, &parsed),
                             same ? RECORD_MESSAGE : RECORD_BAD);
        }
    }
    encode_host_done(&host);
}

/* Apache's digits: the least significant first. */
static void test_whole_crc_digits(void **state)
{
    uint8_t record[RECORD_FIXED_SIZE + RECORD_WHOLE_CRC_SIZE] = {0};
    record_whole_crc_put(record, sizeof record);
    uint32_t crc = crc32_gzip_refl(0, record, RECORD_FIXED_SIZE) & 0x7FFFFFFF;
    char digits[16], turned[16] = {0};
    snprintf(digits, sizeof digits, "%010u", crc);
    for (int i = 0; i < 10; i++)
        turned[i] = digits[9 - i];
    assert_memory_equal(record + RECORD_FIXED_SIZE, "__CRC32#\1", 9);
    assert_memory_equal(record + RECORD_FIXED_SIZE + 9, turned, 10);
    assert_int_equal(record[sizeof record - 1], 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_crc),
        cmocka_unit_test(test_whole_crc_digits),
        cmocka_unit_test(test_known_bytes),         cmocka_unit_test(test_added_properties),
        cmocka_unit_test(test_properties_rules),    cmocka_unit_test(test_properties_too_long),
        cmocka_unit_test(test_long_topic_and_ipv6), cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_blank),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
