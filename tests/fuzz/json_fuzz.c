/* JSON bodies in fastjson's dialect (ipc/json). Strict JSON reads as jansson reads it; whatever is accepted can be
 * written and is the same when read again; any text can be put into a JSON string. */
#include <jansson.h>

#include "broker/store/json_file.h"
#include "fuzz.h"
#include "json/json_body.h"

static bool is_utf8(struct bytes text)
{
    json_t *string = json_stringn((const char *)text.data, text.size);
    json_decref(string);
    return string != NULL;
}

static json_t *parse(const char *data, size_t size)
{
    const char *error;
    return json_body_parse((struct bytes){(const uint8_t *)data, size}, &error);
}

static void check_again(json_t *json)
{
    char *strict = json_dumps(json, JSON_ENCODE_ANY | JSON_COMPACT);
    FUZZ_CHECK(strict);
    json_t *again = parse(strict, strlen(strict));
    FUZZ_CHECK(again && json_equal(json, again));
    json_decref(again);
    free(strict);

    struct text printed = {NULL, 0, 0};
    json_file_print(&printed, json, 0);
    again = parse(printed.data, printed.size);
    FUZZ_CHECK(again && json_equal(json, again));
    json_decref(again);
    text_free(&printed);
}

static void check_string(struct bytes text)
{
    struct text out = {NULL, 0, 0};
    text_add_json_string(&out, text);
    if (is_utf8(text)) {
        json_t *json = parse(out.data, out.size);
        FUZZ_CHECK(json_is_string(json) && json_string_length(json) == text.size);
        FUZZ_CHECK(text.size == 0 || memcmp(json_string_value(json), text.data, text.size) == 0);
        json_decref(json);
    }
    text_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = fuzz_copy(data, size);
    struct bytes text = {copy, size};
    const char *error = NULL;
    json_t *json = json_body_parse(text, &error);
    FUZZ_CHECK(json || error);
    json_t *strict = json_loadb((const char *)copy, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    if (strict && json)
        FUZZ_CHECK(json_equal(strict, json));
    if (strict && !json)
        FUZZ_CHECK(strcmp(error, "nested too deep") == 0 || strcmp(error, "it holds too much") == 0);
    if (json)
        check_again(json);
    check_string(text);
    json_decref(strict);
    json_decref(json);
    free(copy);
    return 0;
}
