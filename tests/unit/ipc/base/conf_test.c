/* Both dialects of configuration: what they mean, where an entry stands, and what each error says. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/conf.h"

static struct conf *read_text(const char *text, enum conf_dialect dialect)
{
    struct conf *conf = NULL;
    char *error = NULL;
    int r = conf_read_text("sample", text, strlen(text), dialect, &conf, &error);
    if (r < 0)
        fail_msg("%s: %s", strerror(-r), error);
    return conf;
}

static void assert_refused(const char *text, size_t size, enum conf_dialect dialect, const char *expected)
{
    struct conf *conf = NULL;
    char *error = NULL;
    assert_int_equal(conf_read_text("sample", text, size, dialect, &conf, &error), -EINVAL);
    assert_null(conf);
    assert_non_null(error);
    assert_string_equal(error, expected);
    free(error);
}

static void assert_entry(const struct conf *conf, size_t index, const char *section, const char *key, const char *value,
                         int line)
{
    assert_true(index < conf->count);
    assert_string_equal(conf->entries[index].section, section);
    assert_string_equal(conf->entries[index].key, key);
    assert_string_equal(conf->entries[index].value, value);
    assert_int_equal(conf->entries[index].line, line);
}

static void test_ini(void **state)
{
    struct conf *conf = read_text("\xEF\xBB\xBF# a cluster\n"
                                  "name = alpha\r\n"
                                  "\n"
                                  "  [broker broker-a]   ; first\n"
                                  "\tport=10911  \n"
                                  "path = /a = b # not a comment\n"
                                  "; other comment\r"
                                  "empty =\n"
                                  "[ namesrv  x ]\n"
                                  "last = no newline",
                                  CONF_INI);
    assert_int_equal(conf->count, 7);
    assert_entry(conf, 0, "", "name", "alpha", 2);
    assert_entry(conf, 1, "broker broker-a", "", "", 4);
    assert_entry(conf, 2, "broker broker-a", "port", "10911", 5);
    assert_entry(conf, 3, "broker broker-a", "path", "/a = b # not a comment", 6);
    assert_entry(conf, 4, "broker broker-a", "empty", "", 8);
    assert_entry(conf, 5, "namesrv  x", "", "", 9);
    assert_entry(conf, 6, "namesrv  x", "last", "no newline", 10);
    conf_free(conf);
}

static void test_properties(void **state)
{
    struct conf *conf = read_text("! comment\n"
                                  "  # comment \\\n"
                                  "brokerName=broker-a\n"
                                  "a : b\n"
                                  "c d e\n"
                                  "namesrvAddr = 1.2.3.4:9876;\\\n"
                                  "    5.6.7.8:9876\n"
                                  "trailing = kept  \n"
                                  "even = two\\\\\n"
                                  "key\\ with\\=signs\\:x = v\\tw\\q\n"
                                  "unicode = \\u00e4\\u8BA2\\uD83D\\uDE00\n"
                                  "alone\n"
                                  "gap = a\\\n"
                                  "\n"
                                  "end = x\\",
                                  CONF_PROPERTIES);
    assert_entry(conf, 0, "", "brokerName", "broker-a", 3);
    assert_entry(conf, 1, "", "a", "b", 4);
    assert_entry(conf, 2, "", "c", "d e", 5);
    assert_entry(conf, 3, "", "namesrvAddr", "1.2.3.4:9876;5.6.7.8:9876", 6);
    assert_entry(conf, 4, "", "trailing", "kept  ", 8);
    assert_entry(conf, 5, "", "even", "two\\", 9);
    assert_entry(conf, 6, "", "key with=signs:x", "v\twq", 10);
    assert_entry(conf, 7, "", "unicode", "ä订😀", 11);
    assert_entry(conf, 8, "", "alone", "", 12);
    assert_entry(conf, 9, "", "gap", "a", 13);
    assert_entry(conf, 10, "", "end", "x", 15);
    assert_int_equal(conf->count, 11);
    conf_free(conf);
}

static void test_errors_name_the_line(void **state)
{
#define REFUSED(text, dialect, expected) assert_refused(text, sizeof(text) - 1, dialect, expected)
    REFUSED("a = b\n\n[open\n", CONF_INI, "sample:3: the section has no ']'");
    REFUSED("[a] b\n", CONF_INI, "sample:1: unexpected text behind ']': b");
    REFUSED("[ ]\n", CONF_INI, "sample:1: the section has no name");
    REFUSED("# x\nnothing\n", CONF_INI, "sample:2: expected 'key = value' or '[section]': nothing");
    REFUSED("= value\n", CONF_INI, "sample:1: there is no key before '='");
    REFUSED("a=b\nc=\0d\n", CONF_INI, "sample:2: the line holds a NUL byte");
    REFUSED("a=\\u12G4\n", CONF_PROPERTIES, "sample:1: \\u needs four hexadecimal digits");
    REFUSED("a=b\n\\u12", CONF_PROPERTIES, "sample:2: \\u needs four hexadecimal digits");
    REFUSED("a=\\u0000\n", CONF_PROPERTIES, "sample:1: \\u0000 is not text");
    REFUSED("a=\\uD83Dx\n", CONF_PROPERTIES, "sample:1: \\uD83D is half of a surrogate pair");
    REFUSED("a=\\uDE00\n", CONF_PROPERTIES, "sample:1: \\uDE00 is half of a surrogate pair");
#undef REFUSED
}

static void test_line_of_64_kib(void **state)
{
    size_t size = 65536;
    char *text = malloc(size + 3);
    memcpy(text, "k=", 2);
    memset(text + 2, 'v', size - 2);
    text[size] = '\n';
    text[size + 1] = '\0';
    for (int dialect = CONF_INI; dialect <= CONF_PROPERTIES; dialect++) {
        struct conf *conf = read_text(text, (enum conf_dialect)dialect);
        assert_int_equal(strlen(conf_get(conf, "", "k")), size - 2);
        conf_free(conf);
    }
    text[size] = 'v';
    text[size + 1] = '\n';
    assert_refused(text, size + 2, CONF_INI, "sample:1: the line is longer than 65536 bytes");
    /* Continued lines count together, without the backslash. */
    memcpy(text + 40000, "\\\n", 2);
    memset(text + 40002, 'v', 25537);
    struct conf *conf = NULL;
    assert_int_equal(conf_read_text("sample", text, 40002 + 25536, CONF_PROPERTIES, &conf, NULL), 0);
    assert_int_equal(strlen(conf_get(conf, "", "k")), 65534);
    conf_free(conf);
    assert_refused(text, 40002 + 25537, CONF_PROPERTIES, "sample:2: the line is longer than 65536 bytes");
    free(text);
}

static void test_typed_values(void **state)
{
    struct conf *conf = read_text("port = 10911\nport = 10912\nlow = -9223372036854775808\nhigh = 9223372036854775808\n"
                                  "odd = 12k\nnone =\nyes = True\nno = OFF\nmaybe = perhaps\n[s]\nport = 1\n",
                                  CONF_INI);
    int64_t number = 0;
    bool flag = false;
    assert_int_equal(conf_get_i64(conf, "", "port", 5, &number), 0);
    assert_int_equal(number, 10912); /* the last one wins */
    assert_true(conf->entries[0].used && conf->entries[1].used);
    assert_false(conf->entries[2].used);
    assert_int_equal(conf_get_i64(conf, "s", "port", 5, &number), 0);
    assert_int_equal(number, 1);
    assert_int_equal(conf_get_i64(conf, "s", "other", 5, &number), 0);
    assert_int_equal(number, 5);
    assert_int_equal(conf_get_i64(conf, "", "low", 5, &number), 0);
    assert_true(number == INT64_MIN);
    assert_int_equal(conf_get_i64(conf, "", "high", 5, &number), -ERANGE);
    assert_int_equal(conf_get_i64(conf, "", "odd", 5, &number), -EINVAL);
    assert_int_equal(conf_get_i64(conf, "", "none", 5, &number), -EINVAL);
    assert_int_equal(conf_get_bool(conf, "", "yes", false, &flag), 0);
    assert_true(flag);
    assert_int_equal(conf_get_bool(conf, "", "no", true, &flag), 0);
    assert_false(flag);
    assert_int_equal(conf_get_bool(conf, "", "absent", true, &flag), 0);
    assert_true(flag);
    assert_int_equal(conf_get_bool(conf, "", "maybe", true, &flag), -EINVAL);
    conf_free(conf);
}

static void test_file(void **state)
{
    char path[] = "/tmp/pintle-conf-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "a = 1\nb\n", 8), 8);
    close(fd);
    struct conf *conf = NULL;
    char *error = NULL, expected[128];
    assert_int_equal(conf_read_file(path, CONF_INI, &conf, &error), -EINVAL);
    snprintf(expected, sizeof expected, "%s:2: expected 'key = value' or '[section]': b", path);
    assert_string_equal(error, expected);
    free(error);
    assert_int_equal(conf_read_file(path, CONF_PROPERTIES, &conf, &error), 0);
    assert_null(error);
    assert_string_equal(conf_get(conf, "", "a"), "1");
    conf_free(conf);
    unlink(path);
    assert_int_equal(conf_read_file(path, CONF_INI, &conf, &error), -ENOENT);
    snprintf(expected, sizeof expected, "%s: No such file or directory", path);
    assert_string_equal(error, expected);
    free(error);
    assert_int_equal(conf_read_file("/tmp", CONF_INI, &conf, NULL), -EISDIR);
}

static void test_nearest(void **state)
{
    static const char *const names[] = {"listenPort", "haListenPort", "brokerName", "flushDiskType", NULL};
    assert_string_equal(conf_nearest("listenport", names), "listenPort");
    assert_string_equal(conf_nearest("lisenPort", names), "listenPort");
    assert_string_equal(conf_nearest("flushDisktyp", names), "flushDiskType");
    assert_string_equal(conf_nearest("borkerName", names), "brokerName");
    assert_null(conf_nearest("storePath", names));
    assert_null(conf_nearest("", names));
}

/* Any bytes give a conf or an error, never a crash; under a sanitizer also no byte too much. */
static void test_random_texts(void **state)
{
    static const char pieces[] = "ab=: \t\\\n\r#![]u0D8;\0\xff";
    struct unit_random random = {1};
    for (int round = 0; round < 20000; round++) {
        size_t size = unit_random_below(&random, 40);
        char *text = malloc(size ? size : 1);
        for (size_t i = 0; i < size; i++)
            text[i] = pieces[unit_random_below(&random, sizeof pieces - 1)];
        struct conf *conf = NULL;
        char *error = NULL;
        int r = conf_read_text("x", text, size, unit_random(&random) & 1 ? CONF_INI : CONF_PROPERTIES, &conf, &error);
        assert_true(r == 0 ? conf && !error : r == -EINVAL && !conf && error);
        conf_free(conf);
        free(error);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ini),
        cmocka_unit_test(test_properties),
        cmocka_unit_test(test_errors_name_the_line),
        cmocka_unit_test(test_line_of_64_kib),
        cmocka_unit_test(test_typed_values),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_nearest),
        cmocka_unit_test(test_random_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
