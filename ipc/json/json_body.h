/* JSON bodies, with jansson. fastjson writes maps with bare integer keys {0:1} and with object keys {{…}:…}, also single
 * quotes; a pre-pass rewrites those into strict JSON (an object key becomes a string that holds its JSON) before jansson
 * sees them. For writing what Java expects see remoting facts 1.8. */
#pragma once

#include <jansson.h>

#include "base/bytes.h"

/* NULL and an error text in `ret_error` (static) if it is not JSON even so. Depth, size and the memory that it would take
 * are bounded: `{},` is 3 bytes of a body and 250 of memory. */
json_t *json_body_parse(struct bytes text, const char **ret_error);
/* A file of the broker's own, which may be as large as its tables: its memory is not bounded. */
json_t *json_body_parse_file(struct bytes text, const char **ret_error);

/* A growing text for answers. Failed allocation aborts. */
struct text {
    char *data;
    size_t size, capacity;
};
void text_add(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_add_bytes(struct text *text, struct bytes bytes);
void text_add_json_string(struct text *text, struct bytes bytes); /* with quotes and escapes */
void text_free(struct text *text);
