/* Frames: what real and odd clients send (remoting facts 1.1 to 1.4), at every cut, and deterministic mutations of it.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire/codes.h"
#include "wire/frame.h"

/* A frame in memory of exactly its size, so that a sanitizer sees each byte read too much. */
struct sample {
    uint8_t *data;
    size_t size;
};

static struct sample make(uint8_t kind, const void *header, size_t header_size, const char *body)
{
    size_t body_size = strlen(body);
    struct sample s = {malloc(8 + header_size + body_size), 8 + header_size + body_size};
    be32_store(s.data, (uint32_t)(s.size - 4));
    be32_store(s.data + 4, (uint32_t)header_size);
    s.data[4] = kind;
    memcpy(s.data + 8, header, header_size);
    memcpy(s.data + 8 + header_size, body, body_size);
    return s;
}

static struct sample make_json(const char *header, const char *body)
{
    return make(0, header, strlen(header), body);
}

static void assert_field(const struct frame *frame, const char *key, const char *value)
{
    const struct bytes *text = frame_get(frame, key);
    if (!value) {
        assert_null(text);
        return;
    }
    assert_non_null(text);
    if (!bytes_equal_text(*text, value))
        fail_msg("%s is '%.*s', not '%s'", key, (int)text->size, text->data, value);
}

static enum frame_result result_of(const char *header)
{
    struct sample s = make_json(header, "");
    struct frame frame;
    enum frame_result result = frame_parse(s.data, s.size, &frame);
    free(s.data);
    return result;
}

/* extFields.k of {"extFields":{"k":TEXT}} */
static void check_value(const char *text, const char *expected)
{
    char header[512];
    snprintf(header, sizeof header, "{\"code\":1,\"extFields\":{\"k\":%s},\"opaque\":7}", text);
    struct sample s = make_json(header, "");
    struct frame frame;
    if (frame_parse(s.data, s.size, &frame) != FRAME_OK)
        fail_msg("refused: %s", text);
    assert_int_equal(frame.opaque, 7);
    assert_field(&frame, "k", expected);
    free(s.data);
}

static void test_plain(void **state)
{
    struct sample s =
        make_json("{\"code\":310,\"extFields\":{\"a\":\"group\",\"b\":\"topic\",\"e\":\"3\"},\"flag\":0,"
                  "\"language\":\"GO\",\"opaque\":-12,\"serializeTypeCurrentRPC\":\"JSON\",\"version\":317}",
                  "the body");
    struct frame frame;
    for (size_t size = 0; size < s.size; size++) {
        uint8_t *cut = malloc(size + 1);
        memcpy(cut, s.data, size);
        assert_int_equal(frame_parse(cut, size, &frame), FRAME_MORE);
        assert_int_equal(frame_wanted(cut, size), size < 4 ? 0 : s.size);
        assert_memory_equal(cut, s.data, size); /* nothing is decoded before all is there */
        free(cut);
    }
    assert_int_equal(frame_parse(s.data, s.size, &frame), FRAME_OK);
    assert_int_equal(frame.code, REQUEST_SEND_MESSAGE_V2);
    assert_int_equal(frame.opaque, -12);
    assert_int_equal(frame.flag, 0);
    assert_int_equal(frame.version, 317);
    assert_int_equal(frame.language, LANGUAGE_GO);
    assert_int_equal(frame.total_size, s.size);
    assert_int_equal(frame.field_count, 3);
    assert_int_equal(frame.remark.size, 0);
    assert_field(&frame, "a", "group");
    assert_field(&frame, "b", "topic");
    assert_field(&frame, "missing", NULL);
    assert_true(bytes_equal_text(frame.body, "the body"));
    free(s.data);
}

static void test_two_in_a_row(void **state)
{
    struct sample a = make_json("{\"code\":1}", "x"), b = make_json("{\"code\":2}", "");
    uint8_t *both = malloc(a.size + b.size);
    memcpy(both, a.data, a.size);
    memcpy(both + a.size, b.data, b.size);
    struct frame frame;
    assert_int_equal(frame_parse(both, a.size + b.size, &frame), FRAME_OK);
    assert_int_equal(frame.code, 1);
    assert_int_equal(frame.total_size, a.size);
    assert_int_equal(frame_parse(both + a.size, b.size, &frame), FRAME_OK);
    assert_int_equal(frame.code, 2);
    assert_int_equal(frame.body.size, 0);
    free(a.data);
    free(b.data);
    free(both);
}

static void check_prefix(uint32_t length, uint8_t kind, uint32_t header_size, enum frame_result expected)
{
    uint8_t data[8];
    be32_store(data, length);
    be32_store(data + 4, header_size);
    data[4] = kind;
    struct frame frame;
    assert_int_equal(frame_parse(data, sizeof data, &frame), expected);
}

static void test_prefix(void **state)
{
    check_prefix(16777212, 0, 10, FRAME_MORE);
    check_prefix(16777213, 0, 10, FRAME_BAD);
    check_prefix(0xffffffff, 0, 10, FRAME_BAD);
    check_prefix(3, 0, 0, FRAME_BAD);
    check_prefix(4, 0, 0, FRAME_SKIP);
    check_prefix(4, 1, 0, FRAME_SKIP);
    check_prefix(20, 0, 17, FRAME_BAD);
    check_prefix(20, 0, 16, FRAME_MORE);
    check_prefix(20, 2, 16, FRAME_BAD);
    check_prefix(20, 255, 16, FRAME_BAD);
    uint8_t huge[4];
    be32_store(huge, 16777213);
    assert_true(frame_wanted(huge, 4) <= 8);
}

static void test_tolerated(void **state)
{
    static const char *const headers[] = {
        "{code:34,language:'CPP',version:\"333\",opaque:'5',flag:2,extFields:{x:1,'y':'z',},}",
        "{'code':'34','language':\"CPP\",'version':333,'opaque':5,'flag':'2','extFields':{'x':'1','y':z1,},}",
        " { \"code\" : 34 ,\n\"language\" : \"CPP\" , \"version\":333,\t\"opaque\":5,\r\"flag\":2,"
        "\"extFields\" : { \"x\" : 1 , \"y\" : \"z\" } } ",
        "{\"unknown\":{\"a\":[1,{\"}\":\"]\\\"\"}],'b':null},\"code\":34,\"language\":1,\"version\":333,\"opaque\":5,"
        "\"flag\":2,\"extFields\":{\"x\":\"1\",\"y\":\"z\",\"n\":null},\"remark\":null}",
    };
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        struct sample s = make_json(headers[i], "");
        struct frame frame;
        enum frame_result result = frame_parse(s.data, s.size, &frame);
        if (i == 1) { /* an unquoted word is no value */
            assert_int_equal(result, FRAME_BAD);
            free(s.data);
            continue;
        }
        if (result != FRAME_OK)
            fail_msg("refused: %s", headers[i]);
        assert_int_equal(frame.code, 34);
        assert_int_equal(frame.language, LANGUAGE_CPP);
        assert_int_equal(frame.version, 333);
        assert_int_equal(frame.opaque, 5);
        assert_int_equal(frame.flag, FRAME_FLAG_ONEWAY);
        assert_field(&frame, "x", "1");
        assert_field(&frame, "y", "z");
        assert_field(&frame, "n", NULL);
        free(s.data);
    }
}

static void test_absent(void **state)
{
    struct sample s = make_json("{}", "");
    struct frame frame;
    memset(&frame, 0xff, sizeof frame);
    assert_int_equal(frame_parse(s.data, s.size, &frame), FRAME_OK);
    assert_int_equal(frame.code, 0);
    assert_int_equal(frame.opaque, 0);
    assert_int_equal(frame.flag, 0);
    assert_int_equal(frame.version, 0);
    assert_int_equal(frame.language, LANGUAGE_JAVA);
    assert_int_equal(frame.field_count, 0);
    assert_int_equal(frame.remark.size, 0);
    free(s.data);
    assert_int_equal(result_of("{\"extFields\":null}"), FRAME_OK);
    assert_int_equal(result_of("{\"extFields\":{}}"), FRAME_OK);
    assert_int_equal(result_of("{\"code\":null}"), FRAME_OK);
    assert_int_equal(result_of("{\"language\":\"KLINGON\"}"), FRAME_OK);
    assert_int_equal(result_of("{\"language\":null}"), FRAME_OK);
    assert_int_equal(result_of("{\"language\":99}"), FRAME_OK);
}

static void test_skipped_and_bad(void **state)
{
    assert_int_equal(result_of(""), FRAME_SKIP);
    assert_int_equal(result_of("[]"), FRAME_SKIP);
    assert_int_equal(result_of(" [ ] "), FRAME_SKIP);
    static const char *const bad[] = {
        "x",
        "{",
        "}",
        "{]",
        "[1]",
        "[] x",
        "{}x",
        "{} {}",
        "{\"code\"}",
        "{\"code\":}",
        "{\"code\":1,,}",
        "{,}",
        "{\"code\":x}",
        "{\"code\":\"1x\"}",
        "{\"code\":2147483648}",
        "{\"code\":-2147483649}",
        "{\"code\":1 2}",
        "{\"code\":{}}",
        "{\"code\":true}",
        "{\"extFields\":1}",
        "{\"extFields\":[]}",
        "{\"extFields\":{\"a\":}}",
        "{\"extFields\":{\"a\":1}",
        "{\"extFields\":nul}",
        "{\"a\":\"\\q\"}",
        "{\"a\":\"\\u12\"}",
        "{\"a\":\"\\u12g4\"}",
        "{\"a\":\"abc}",
        "{\"a\":\"abc\\",
        "{\"a:1}",
        "{\"a\":[1}}",
        "{\"a\":{\"b\":[}}",
        "{\"a\":truex}",
        "{\"a\":--1}",
        "{\"extFields\":{\"a\":1 \"b\":2}}",
        "{\"code\":99999999999999999999}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (result_of(bad[i]) != FRAME_BAD)
            fail_msg("not refused: %s", bad[i]);
    char deep[256] = "{\"a\":";
    memset(deep + 5, '[', 100);
    memset(deep + 105, ']', 100);
    strcpy(deep + 205, "}");
    assert_int_equal(result_of(deep), FRAME_BAD);
}

static void test_values(void **state)
{
    check_value("\"\"", "");
    check_value("\"text\"", "text");
    check_value("'it is \"quoted\"'", "it is \"quoted\"");
    check_value("12", "12");
    check_value("-9223372036854775808", "-9223372036854775808");
    check_value("1.50e+3", "1.50e+3"); /* the lexeme: signatures are made of it */
    check_value("true", "true");
    check_value("false", "false");
    check_value("null", NULL);
    check_value("{\"a\":[1,\"\\\"\"]}", "{\"a\":[1,\"\\\"\"]}");
    check_value("\"a\\\"b\\\\c\\/d\"", "a\"b\\c/d");
    check_value("\"\\b\\f\\n\\r\\t\"", "\b\f\n\r\t");
    check_value("\"KEYS\\u0001k\\u0002TAGS\\u0001t\\u0002\"", "KEYS\001k\002TAGS\001t\002");
    check_value("\"KEYS\001k\002\"", "KEYS\001k\002");
    check_value("\"\\u003c\\u003e\\u0026\"", "<>&");
    check_value("\"\\u00e9\\u20AC\"", "\xc3\xa9\xe2\x82\xac");
    check_value("\"\xc3\xa9\xe2\x82\xac\"", "\xc3\xa9\xe2\x82\xac");
    check_value("\"\\ud83d\\ude00!\"", "\xf0\x9f\x98\x80!");
    check_value("\"\\ud83d!\"", "?!");
    check_value("\"\\ude00\\ud83d\"", "??");
    check_value("\"\\ud83d\\u0041\"", "?A");
    check_value("\"\\x41\\v\\'\"", "A\v'");
    char text[200] = "\"", expected[200] = "";
    for (size_t size = 1; size < 70; size++) { /* an escape at each distance from the eight byte steps */
        memset(text + 1, 'p', size);
        strcpy(text + 1 + size, "\\n123456789\"");
        memset(expected, 'p', size);
        strcpy(expected + size, "\n123456789");
        check_value(text, expected);
    }
}

static void test_numbers(void **state)
{
    struct sample s =
        make_json("{\"extFields\":{\"i\":2147483647,\"l\":\"-9223372036854775808\",\"bad\":\"12x\",\"empty\":\"\","
                  "\"big\":\"2147483648\",\"huge\":\"9223372036854775808\",\"t\":\"True\",\"f\":false,"
                  "\"twice\":1,\"twice\":2}}",
                  "");
    struct frame frame;
    int32_t i;
    int64_t l;
    bool b;
    assert_int_equal(frame_parse(s.data, s.size, &frame), FRAME_OK);
    assert_int_equal(frame_get_i32(&frame, "i", 1, &i), 0);
    assert_int_equal(i, INT32_MAX);
    assert_int_equal(frame_get_i64(&frame, "l", 1, &l), 0);
    assert_true(l == INT64_MIN);
    assert_int_equal(frame_get_i32(&frame, "none", -3, &i), 0);
    assert_int_equal(i, -3);
    assert_int_equal(frame_get_i32(&frame, "bad", 1, &i), -22);
    assert_int_equal(frame_get_i32(&frame, "empty", 1, &i), -22);
    assert_int_equal(frame_get_i32(&frame, "big", 1, &i), -22);
    assert_int_equal(frame_get_i64(&frame, "big", 1, &l), 0);
    assert_int_equal(frame_get_i64(&frame, "huge", 1, &l), -22);
    assert_int_equal(frame_get_bool(&frame, "t", false, &b), 0);
    assert_true(b);
    assert_int_equal(frame_get_bool(&frame, "f", true, &b), 0);
    assert_false(b);
    assert_int_equal(frame_get_bool(&frame, "none", true, &b), 0);
    assert_true(b);
    assert_int_equal(frame_get_i32(&frame, "twice", 0, &i), 0);
    assert_int_equal(i, 2);
    free(s.data);
}

static void test_too_many_fields(void **state)
{
    char *header = malloc(8192);
    for (unsigned count = FRAME_FIELDS_MAX; count <= FRAME_FIELDS_MAX + 1; count++) {
        size_t size = (size_t)sprintf(header, "{\"extFields\":{");
        for (unsigned i = 0; i < count; i++)
            size += (size_t)sprintf(header + size, "%s\"k%u\":%u", i ? "," : "", i, i);
        strcpy(header + size, "}}");
        assert_int_equal(result_of(header), count == FRAME_FIELDS_MAX ? FRAME_OK : FRAME_BAD);
    }
    free(header);
}

/* code 10, GO, version 317, opaque -2, flag 1, remark "hm", {"topic":"T","empty":""} */
static const uint8_t binary_header[] = {
    0, 10, 9,   1,   61,  0xff, 0xff, 0xff, 0xfe, 0, 0, 0,   1, 0, 0,   0,   2,   'h', 'm', 0, 0, 0, 23,
    0, 5,  't', 'o', 'p', 'i',  'c',  0,    0,    0, 1, 'T', 0, 5, 'e', 'm', 'p', 't', 'y', 0, 0, 0, 0,
};

static void test_rocketmq(void **state)
{
    struct sample s = make(1, binary_header, sizeof binary_header, "body");
    struct frame frame;
    assert_int_equal(frame_parse(s.data, s.size, &frame), FRAME_OK);
    assert_int_equal(frame.serialization, 1);
    assert_int_equal(frame.code, 10);
    assert_int_equal(frame.language, LANGUAGE_GO);
    assert_int_equal(frame.version, 317);
    assert_int_equal(frame.opaque, -2);
    assert_int_equal(frame.flag, 1);
    assert_true(bytes_equal_text(frame.remark, "hm"));
    assert_field(&frame, "topic", "T");
    assert_field(&frame, "empty", NULL);
    assert_true(bytes_equal_text(frame.body, "body"));
    free(s.data);
    for (size_t size = 1; size < sizeof binary_header; size++) {
        s = make(1, binary_header, size, "");
        assert_int_equal(frame_parse(s.data, s.size, &frame), FRAME_BAD);
        free(s.data);
    }
    uint8_t negative[sizeof binary_header];
    memcpy(negative, binary_header, sizeof negative);
    memset(negative + 13, 0xff, 4);
    s = make(1, negative, sizeof negative, "");
    assert_int_equal(frame_parse(s.data, s.size, &frame), FRAME_BAD);
    free(s.data);
}

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* What a parsed frame points to must lie in the buffer. */
static uint64_t touch(struct bytes bytes, const uint8_t *data, size_t size)
{
    uint64_t sum = 0;
    if (bytes.size)
        assert_true(bytes.data >= data && bytes.data + bytes.size <= data + size);
    for (size_t i = 0; i < bytes.size; i++)
        sum += bytes.data[i];
    return sum;
}

static void mutate(struct sample origin, uint64_t seed, unsigned rounds, unsigned results[4])
{
    static const char interesting[] = "\"\\{}[]:,'u0n-\x00\xff ";
    for (unsigned round = 0; round < rounds; round++) {
        size_t size = origin.size;
        uint8_t *data = malloc(size);
        memcpy(data, origin.data, size);
        for (unsigned n = 1 + next_random(&seed) % 4; n; n--) {
            size_t at = 8 + next_random(&seed) % (size - 8);
            data[at] = next_random(&seed) % 4 ? (uint8_t)interesting[next_random(&seed) % (sizeof interesting - 1)]
                                              : (uint8_t)next_random(&seed);
        }
        struct frame frame;
        enum frame_result result = frame_parse(data, size, &frame);
        results[result]++;
        if (result == FRAME_OK) {
            touch(frame.body, data, size);
            touch(frame.remark, data, size);
            for (unsigned i = 0; i < frame.field_count; i++) {
                touch(frame.fields[i].key, data, size);
                touch(frame.fields[i].value, data, size);
            }
        }
        free(data);
    }
}

static void test_mutations(void **state)
{
    unsigned results[4] = {0};
    struct sample json =
        make_json("{\"code\":310,\"extFields\":{\"a\":\"g\\u00e9\\ud83d\\ude00\",\"i\":\"K\\u0001v\\u0002\",e:1,"
                  "'f':null,\"n\":{\"x\":[1,\"y\"]}},\"flag\":0,\"language\":\"JAVA\",\"opaque\":1,"
                  "\"remark\":\"r\\\"\",\"version\":479}",
                  "0123456789");
    mutate(json, 42, 200000, results);
    struct sample binary = make(1, binary_header, sizeof binary_header, "body");
    mutate(binary, 43, 100000, results);
    assert_true(results[FRAME_OK] > 1000 && results[FRAME_BAD] > 1000);
    assert_int_equal(results[FRAME_MORE], 0);
    free(json.data);
    free(binary.data);
}

static void test_write_and_parse(void **state)
{
    char all[256];
    for (unsigned i = 0; i < 255; i++)
        all[i] = (char)(i + 1);
    all[255] = 0;
    uint8_t small[200];
    struct frame_writer writer;
    size_t bound = frame_write_bound(3 * 255, 4);
    uint8_t *buffer = malloc(bound + 4);
    frame_write_response(&writer, buffer, bound, 17, -5, bytes_of(all));
    frame_write_text(&writer, "all", bytes_of(all));
    frame_write_i64(&writer, "min", INT64_MIN);
    frame_write_bool(&writer, "yes", true);
    frame_write_text(&writer, "euro", bytes_of("\xe2\x82\xac\001\002\x7f"));
    ssize_t size = frame_write_finish(&writer, 4);
    assert_true(size > 0 && (size_t)size <= bound);
    memcpy(buffer + size, "body", 4);
    struct frame frame;
    assert_int_equal(frame_parse(buffer, (size_t)size + 3, &frame), FRAME_MORE);
    assert_int_equal(buffer[4], 0);
    for (ssize_t i = 8; i < size; i++)
        assert_true(buffer[i] >= 0x20 && buffer[i] != 0x7f);
    assert_int_equal(frame_parse(buffer, (size_t)size + 4, &frame), FRAME_OK);
    assert_int_equal(frame.code, RESPONSE_TOPIC_NOT_EXIST);
    assert_int_equal(frame.opaque, -5);
    assert_int_equal(frame.flag, FRAME_FLAG_RESPONSE);
    assert_int_equal(frame.version, WIRE_VERSION);
    assert_int_equal(frame.language, LANGUAGE_JAVA);
    assert_true(bytes_equal_text(frame.remark, all));
    assert_field(&frame, "all", all);
    assert_field(&frame, "min", "-9223372036854775808");
    assert_field(&frame, "yes", "true");
    assert_field(&frame, "euro", "\xe2\x82\xac\001\002\x7f");
    assert_true(bytes_equal_text(frame.body, "body"));
    free(buffer);

    frame_write_request(&writer, small, sizeof small, REQUEST_NOTIFY_CONSUMER_IDS_CHANGED, 3, FRAME_FLAG_ONEWAY,
                        LANGUAGE_CPP);
    size = frame_write_finish(&writer, 0);
    static const char expected[] = "{\"code\":40,\"flag\":2,\"language\":\"CPP\",\"opaque\":3,"
                                   "\"serializeTypeCurrentRPC\":\"JSON\",\"version\":479}";
    assert_int_equal(size, 8 + sizeof expected - 1);
    assert_memory_equal(small + 8, expected, sizeof expected - 1);

    frame_write_response(&writer, small, sizeof small, 22, 3, (struct bytes){NULL, 0});
    frame_write_empty_fields(&writer);
    size = frame_write_finish(&writer, 0);
    assert_true(size > 0);
    assert_memory_equal(small + size - 16, ",\"extFields\":{}}", 16);
}

static void test_write_limits(void **state)
{
    uint8_t big[512];
    for (size_t size = 0; size < 300; size++) { /* never a byte over the end */
        uint8_t *buffer = malloc(size ? size : 1);
        struct frame_writer writer;
        frame_write_response(&writer, buffer, size, 0, 1, bytes_of("a\001b"));
        frame_write_text(&writer, "key", bytes_of("\001\002\003 text"));
        frame_write_i64(&writer, "n", 5);
        ssize_t n = frame_write_finish(&writer, 10);
        assert_true(n == -ENOBUFS || (n > 100 && (size_t)n <= size));
        if (size == 299)
            assert_true(n > 0);
        free(buffer);
    }
    struct frame_writer writer;
    frame_write_response(&writer, big, sizeof big, 0, 1, (struct bytes){NULL, 0});
    assert_int_equal(frame_write_finish(&writer, FRAME_SIZE_MAX), -EMSGSIZE);
}

static void test_names(void **state)
{
    assert_string_equal(request_code_name(310), "SEND_MESSAGE_V2");
    assert_string_equal(request_code_name(200050), "POP_MESSAGE");
    assert_string_equal(response_code_name(17), "TOPIC_NOT_EXIST");
    assert_null(request_code_name(16));
    assert_null(request_code_name(-1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),           cmocka_unit_test(test_two_in_a_row),
        cmocka_unit_test(test_prefix),          cmocka_unit_test(test_tolerated),
        cmocka_unit_test(test_absent),          cmocka_unit_test(test_skipped_and_bad),
        cmocka_unit_test(test_values),          cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_too_many_fields), cmocka_unit_test(test_rocketmq),
        cmocka_unit_test(test_mutations),       cmocka_unit_test(test_write_and_parse),
        cmocka_unit_test(test_write_limits),    cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
