/* Keys like namesrvAddr: "host:port;host:port", as Apache writes it. A host is a name or an address; an IPv6 address may
 * stand in brackets. Only texts: nobody is looked up here. */
#pragma once

#include <stdbool.h>

enum { ENDPOINT_LIST_MAX = 64, ENDPOINT_HOST_SIZE = 256, ENDPOINT_PORT_SIZE = 6 };

struct endpoint {
    char host[ENDPOINT_HOST_SIZE]; /* without brackets */
    char port[ENDPOINT_PORT_SIZE]; /* 1 to 65535 */
};

/* Entries stand between semicolons; blanks around them and empty ones do not count, the second of two equal ones is
 * left out. Number of entries, or -EINVAL: one is no host:port; -E2BIG: too many. `ret_list` may be NULL. */
int endpoint_list_parse(const char *text, struct endpoint ret_list[ENDPOINT_LIST_MAX]);
bool endpoint_equal(const struct endpoint *a, const struct endpoint *b);
