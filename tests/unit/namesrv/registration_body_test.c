/* The body of REGISTER_BROKER: JSON as fastjson writes it, the old compressed form, and what is neither. */
#include "../unit.h"

#include <errno.h>
#include <isa-l/igzip_lib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "namesrv/registration_body.h"

enum { NOW = 479, OLD = 36 };

static struct registration_body body;

static int parse(struct bytes text, bool is_compressed, int32_t version)
{
    const char *error = NULL;
    int r = registration_body_parse(text, is_compressed, version, &body, &error);
    if (r < 0)
        assert_non_null(error);
    return r;
}

static void check_topic(const char *name, int32_t read, int32_t write, int32_t perm, int32_t flag)
{
    for (uint32_t i = 0; i < body.topic_count; i++) {
        const struct bus_topic *topic = &body.topics[i];
        if (!bytes_equal_text(topic->name, name))
            continue;
        assert_int_equal(topic->read_queues, read);
        assert_int_equal(topic->write_queues, write);
        assert_int_equal(topic->perm, perm);
        assert_int_equal(topic->topic_sys_flag, flag);
        return;
    }
    fail_msg("no topic %s", name);
}

#define VERSION_JSON "\"dataVersion\":{\"counter\":7,\"stateVersion\":3,\"timestamp\":1700000000000}"
#define TABLE                                                                                                          \
    "\"topicConfigTable\":{\"T\":{\"attributes\":{},\"order\":true,\"perm\":4,\"readQueueNums\":2,"                    \
    "\"topicName\":\"T\",\"topicSysFlag\":1,\"writeQueueNums\":3},\"D\":{\"perm\":\"6\"}}"

static void test_json(void **state)
{
    assert_int_equal(parse(bytes_of("{\"filterServerList\":[],\"topicConfigSerializeWrapper\":{" VERSION_JSON "," TABLE
                                    ",\"topicQueueMappingInfoMap\":{\"S\":{\"currIdMap\":{0:1}}}}}"),
                           false, NOW),
                     0);
    assert_int_equal(body.topic_count, 2);
    check_topic("T", 2, 3, 4, 1);
    check_topic("D", 16, 16, 6, 0); /* Apache's defaults, and the key where there is no name */
    assert_int_equal(body.version.counter, 7);
    assert_int_equal(body.version.state_version, 3);
    assert_int_equal(body.version.timestamp_ms, 1700000000000);
    registration_body_free(&body);
    /* Before V3_0_11 without the wrapper. */
    assert_int_equal(parse(bytes_of("{" VERSION_JSON "," TABLE "}"), false, OLD), 0);
    assert_int_equal(body.topic_count, 2);
    registration_body_free(&body);
}

static void test_nothing(void **state)
{
    static const char *const empty[] = {"{}", "{\"topicConfigSerializeWrapper\":null}", "[]",
                                        "{\"topicConfigSerializeWrapper\":{\"topicConfigTable\":[]}}"};
    assert_int_equal(parse((struct bytes){NULL, 0}, false, NOW), 0);
    assert_int_equal(body.topic_count, 0);
    registration_body_free(&body);
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++) {
        assert_int_equal(parse(bytes_of(empty[i]), false, NOW), 0);
        assert_int_equal(body.topic_count, 0);
        assert_int_equal(body.version.counter, 0);
        registration_body_free(&body);
    }
    assert_int_equal(parse(bytes_of("{"), false, NOW), -EBADMSG);
    assert_int_equal(parse(bytes_of("{\"topicConfigSerializeWrapper\":{\"topicConfigTable\":{\"T\":1}}}"), false, NOW),
                     -EBADMSG);
    assert_null(body.json);
}

/* zlib stream of `size` bytes; its size. */
static size_t pack(const uint8_t *plain, size_t size, uint8_t *packed, size_t room)
{
    struct isal_zstream *stream = calloc(1, sizeof *stream);
    assert_non_null(stream);
    isal_deflate_stateless_init(stream);
    stream->gzip_flag = IGZIP_ZLIB;
    stream->end_of_stream = 1;
    stream->next_in = (uint8_t *)plain;
    stream->avail_in = (uint32_t)size;
    stream->next_out = packed;
    stream->avail_out = (uint32_t)room;
    assert_int_equal(isal_deflate_stateless(stream), COMP_OK);
    size_t packed_size = stream->total_out;
    free(stream);
    return packed_size;
}

static size_t put_text(uint8_t *out, const char *text)
{
    be32_store(out, (uint32_t)strlen(text));
    memcpy(out + 4, text, strlen(text));
    return 4 + strlen(text);
}

static size_t plain_body(uint8_t *plain)
{
    size_t size = put_text(plain, "{\"counter\":7,\"stateVersion\":3,\"timestamp\":5}");
    be32_store(plain + size, 2);
    size += 4;
    size += put_text(plain + size, "T 2 3 4 SINGLE_TAG {}");
    size += put_text(plain + size, "second 8 8 6 MULTI_TAG {\"+a\":\"b c\"}");
    size += put_text(plain + size, "[]");
    return size;
}

static void test_compressed(void **state)
{
    uint8_t plain[512], packed[1024];
    size_t size = plain_body(plain), packed_size = pack(plain, size, packed, sizeof packed);
    assert_int_equal(parse((struct bytes){packed, packed_size}, true, NOW), 0);
    assert_int_equal(body.topic_count, 2);
    check_topic("T", 2, 3, 4, 0);
    check_topic("second", 8, 8, 6, 0);
    assert_int_equal(body.version.counter, 7);
    registration_body_free(&body);
    for (size_t cut = 1; cut < packed_size; cut++)
        assert_int_equal(parse((struct bytes){packed, cut}, true, NOW), -EBADMSG);
    /* Whole streams of a plain text that ends too early, at every byte before the topics are complete. */
    size_t topics_end = size - 4 - strlen("[]");
    for (size_t cut = 0; cut < topics_end; cut++) {
        packed_size = pack(plain, cut, packed, sizeof packed);
        assert_int_equal(parse((struct bytes){packed, packed_size}, true, NOW), -EBADMSG);
    }
}

/* Every byte of the plain text once wrong: refused or read, never beyond the end (sanitizers watch). */
static void test_lies(void **state)
{
    uint8_t plain[512], packed[1024];
    size_t size = plain_body(plain);
    unsigned refused = 0;
    for (size_t at = 0; at < size; at++) {
        uint8_t was = plain[at];
        plain[at] = 0xff;
        size_t packed_size = pack(plain, size, packed, sizeof packed);
        if (parse((struct bytes){packed, packed_size}, true, NOW) < 0)
            refused++;
        registration_body_free(&body);
        plain[at] = was;
    }
    assert_true(refused > 12); /* all bytes of the lengths at least */
}

/* Little that unpacks to more than the limit. */
static void test_bomb(void **state)
{
    size_t size = (size_t)REGISTRATION_BODY_INFLATED_MAX + 1, room = 8 << 20;
    uint8_t *plain = calloc(1, size), *packed = malloc(room);
    assert_non_null(plain);
    assert_non_null(packed);
    size_t packed_size = pack(plain, size, packed, room);
    assert_int_equal(parse((struct bytes){packed, packed_size}, true, NOW), -EBADMSG);
    free(plain);
    free(packed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json), cmocka_unit_test(test_nothing), cmocka_unit_test(test_compressed),
        cmocka_unit_test(test_lies), cmocka_unit_test(test_bomb),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
