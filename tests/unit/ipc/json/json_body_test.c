/* JSON bodies: strict, fastjson's dialect (remoting facts 1.8), refusals, and the growing text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "json/json_body.h"

/* `text` means the same as the strict `expected`. */
static void check(const char *text, const char *expected)
{
    const char *error;
    char *exact = malloc(strlen(text)); /* without a final NUL, for the sanitizer */
    memcpy(exact, text, strlen(text));
    json_t *json = json_body_parse((struct bytes){(uint8_t *)exact, strlen(text)}, &error);
    free(exact);
    if (!json)
        fail_msg("%s: %s", text, error);
    json_t *wanted = json_loads(expected, JSON_DECODE_ANY, NULL);
    assert_non_null(wanted);
    if (!json_equal(json, wanted))
        fail_msg("%s became %s", text, json_dumps(json, JSON_ENCODE_ANY));
    json_decref(wanted);
    json_decref(json);
}

static void refuse(const char *text)
{
    const char *error = NULL;
    if (json_body_parse(bytes_of(text), &error))
        fail_msg("not refused: %s", text);
    assert_non_null(error);
}

static void test_strict(void **state)
{
    check("{\"a\":[1,2.5,true,null,\"x\\u00e9\"],\"b\":{}}", "{\"a\":[1,2.5,true,null,\"x\\u00e9\"],\"b\":{}}");
    check("5", "5");
    check(" [ ] ", "[]");
}

static void test_dialect(void **state)
{
    check("{0:1}", "{\"0\":1}");
    check("{\"offsetTable\":{\"T@g\":{0:5,1:7}}}", "{\"offsetTable\":{\"T@g\":{\"0\":5,\"1\":7}}}");
    check("{ 0 : \"a\" , 12 : 'b' , }", "{\"0\":\"a\",\"12\":\"b\"}");
    check("{name:'it\\'s \"so\"',\"x\":[1,2,],-1:true}", "{\"name\":\"it's \\\"so\\\"\",\"x\":[1,2],\"-1\":true}");
    check("{'k':'a\\u0041\\n'}", "{\"k\":\"aA\\n\"}");
    check("{{\"brokerName\":\"b\",\"queueId\":0,\"topic\":\"T\"}:{\"maxOffset\":3}}",
          "{\"{\\\"brokerName\\\":\\\"b\\\",\\\"queueId\\\":0,\\\"topic\\\":\\\"T\\\"}\":{\"maxOffset\":3}}");
    check("{\"t\":{{'q':1}:5,{'q':2}:{0:1}}}", "{\"t\":{\"{\\\"q\\\":1}\":5,\"{\\\"q\\\":2}\":{\"0\":1}}}");
    check("{{{0:1}:2}:3}", "{\"{\\\"{\\\\\\\"0\\\\\\\":1}\\\":2}\":3}");
    check("{{\"a\":\"quote \\\" and \\\\ slash\"}:1}", "{\"{\\\"a\\\":\\\"quote \\\\\\\" and \\\\\\\\ slash\\\"}\":1}");
    check("{a:\"tab\there\"}", "{\"a\":\"tab\\there\"}");
}

/* The string made of an object key is itself JSON. */
static void test_object_key_is_json(void **state)
{
    const char *error;
    json_t *json = json_body_parse(bytes_of("{{brokerName:'b\"x',queueId:7}:1}"), &error);
    assert_non_null(json);
    const char *key = json_object_iter_key(json_object_iter(json));
    json_t *inner = json_body_parse(bytes_of(key), &error);
    assert_non_null(inner);
    assert_int_equal(json_integer_value(json_object_get(inner, "queueId")), 7);
    assert_string_equal(json_string_value(json_object_get(inner, "brokerName")), "b\"x");
    json_decref(inner);
    json_decref(json);
}

static void test_refused(void **state)
{
    static const char *const bad[] = {
        "",          " ",       "{",     "{0",         "{0:",      "{0:1",     "{0 1}",
        "{:1}",      "{0:}",    "{,}",   "{0:1,,1:2}", "{0:1}x",   "[1 2]",    "{'a",
        "{'a\\",     "{'a':'b", "{0:x}", "{{0:1}}",    "{{0:1}:}", "{{0:1:2}", "{{{{{0:1}:1}:1}:1}:1}",
        "{a:'\\q'}", "}",       "{0:1]",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refuse(bad[i]);
    char deep[4096];
    memset(deep, '[', 2000);
    memset(deep + 2000, ']', 2000);
    deep[4000] = 0;
    refuse(deep);
    for (size_t i = 0; i < 4000; i += 3)
        memcpy(deep + i, "{0:", 3);
    deep[4002] = 0;
    refuse(deep);
}

static void test_mutations(void **state)
{
    static const char origin[] = "{\"offsetTable\":{{\"b\":'x\\n',q:0}:{0:[1,2,{\"a\":null}]},'y':-1.5e3}}";
    static const char interesting[] = "\"\\{}[]:,'0n ";
    uint64_t seed = 7;
    unsigned taken = 0, refused = 0;
    for (unsigned round = 0; round < 50000; round++) {
        char *text = malloc(sizeof origin - 1);
        memcpy(text, origin, sizeof origin - 1);
        for (unsigned n = 0; n < 2; n++) {
            seed = seed * 6364136223846793005ull + 1442695040888963407ull;
            text[(seed >> 33) % (sizeof origin - 1)] = interesting[(seed >> 20) % (sizeof interesting - 1)];
        }
        const char *error;
        json_t *json = json_body_parse((struct bytes){(uint8_t *)text, sizeof origin - 1}, &error);
        *(json ? &taken : &refused) += 1;
        json_decref(json);
        free(text);
    }
    assert_true(taken > 100 && refused > 100);
}

static void test_text(void **state)
{
    struct text text = {NULL, 0, 0};
    for (int i = 0; i < 1000; i++)
        text_add(&text, "%d,", i % 10);
    assert_int_equal(text.size, 2000);
    char wide[300];
    memset(wide, 'w', sizeof wide - 1);
    wide[sizeof wide - 1] = 0;
    text_add(&text, "%s", wide);
    assert_int_equal(text.size, 2000 + sizeof wide - 1);
    assert_memory_equal(text.data + 2000, wide, sizeof wide - 1);
    text_free(&text);
    text_add_json_string(&text, bytes_of("a\"\\\001\x7f\xc3\xa9"));
    static const char expected[] = "\"a\\\"\\\\\\u0001\\u007f\xc3\xa9\"";
    assert_int_equal(text.size, sizeof expected - 1);
    assert_memory_equal(text.data, expected, sizeof expected - 1);
    text_add_bytes(&text, (struct bytes){NULL, 0});
    assert_int_equal(text.size, sizeof expected - 1);
    text_free(&text);
}

/* A frame's worth of empty objects would take 1.3 GB; a table of the same size that brokers write passes. */
static void test_memory(void **state)
{
    enum { COUNT = 4000000 };
    const char *error = NULL;
    char *bomb = malloc(3 * COUNT + 2);
    assert_non_null(bomb);
    bomb[0] = '[';
    for (size_t i = 0; i < COUNT; i++)
        memcpy(bomb + 1 + 3 * i, "{},", 3);
    bomb[3 * COUNT] = ']';
    assert_null(json_body_parse((struct bytes){(uint8_t *)bomb, 3 * COUNT + 1}, &error));
    assert_string_equal(error, "it holds too much");
    memset(bomb, ' ', 3 * COUNT + 1);
    memcpy(bomb, "[{\"a\":\",,,,[[[[\"}]", 18); /* what stands in strings takes no more than it is long */
    json_t *json = json_body_parse((struct bytes){(uint8_t *)bomb, 3 * COUNT + 1}, &error);
    assert_non_null(json);
    json_decref(json);
    free(bomb);

    struct text table = {NULL, 0, 0};
    text_add(&table, "{");
    for (int i = 0; i < 100000; i++)
        text_add(&table,
                 "%s\"Topic%d\":{\"attributes\":{},\"order\":false,\"perm\":6,\"readQueueNums\":8,\"topicFilterType\":"
                 "\"SINGLE_TAG\",\"topicName\":\"Topic%d\",\"topicSysFlag\":0,\"writeQueueNums\":8}",
                 i ? "," : "", i, i);
    text_add(&table, "}");
    json = json_body_parse((struct bytes){(uint8_t *)table.data, table.size}, &error);
    assert_int_equal(json_object_size(json), 100000);
    json_decref(json);
    text_free(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strict),  cmocka_unit_test(test_dialect),   cmocka_unit_test(test_object_key_is_json),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_mutations), cmocka_unit_test(test_text),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
