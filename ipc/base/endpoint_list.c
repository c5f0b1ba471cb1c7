/* Reads lists of host:port; see endpoint_list.h. Any process; no state. */
#include "base/endpoint_list.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

bool endpoint_equal(const struct endpoint *a, const struct endpoint *b)
{
    return strcasecmp(a->host, b->host) == 0 && strcmp(a->port, b->port) == 0;
}

static bool is_host(const char *text, size_t size)
{
    if (size == 0 || size >= ENDPOINT_HOST_SIZE)
        return false;
    for (size_t i = 0; i < size; i++)
        if (!isalnum((unsigned char)text[i]) && !strchr("-._:%", text[i]))
            return false;
    return true;
}

/* The port stands behind the last colon, so that an IPv6 address may come without brackets, as Apache takes it. */
static int parse_one(const char *text, size_t size, struct endpoint *ret_endpoint)
{
    const char *colon = memrchr(text, ':', size);
    if (!colon)
        return -EINVAL;
    const char *port = colon + 1;
    size_t host_size = (size_t)(colon - text), port_size = size - host_size - 1;
    if (host_size > 2 && text[0] == '[' && colon[-1] == ']') {
        text++;
        host_size -= 2;
    }
    if (!is_host(text, host_size) || port_size == 0 || port_size >= ENDPOINT_PORT_SIZE)
        return -EINVAL;
    for (size_t i = 0; i < port_size; i++)
        if (!isdigit((unsigned char)port[i]))
            return -EINVAL;
    long number = strtol(port, NULL, 10);
    if (number < 1 || number > 65535)
        return -EINVAL;
    memcpy(ret_endpoint->host, text, host_size);
    ret_endpoint->host[host_size] = 0;
    snprintf(ret_endpoint->port, sizeof ret_endpoint->port, "%ld", number);
    return 0;
}

static bool has(const struct endpoint *list, int count, const struct endpoint *wanted)
{
    for (int i = 0; i < count; i++)
        if (endpoint_equal(&list[i], wanted))
            return true;
    return false;
}

int endpoint_list_parse(const char *text, struct endpoint ret_list[ENDPOINT_LIST_MAX])
{
    struct endpoint list[ENDPOINT_LIST_MAX];
    int count = 0;
    while (*text) {
        size_t size = strcspn(text, ";");
        const char *next = text + size + (text[size] == ';');
        while (size && isspace((unsigned char)*text)) {
            text++;
            size--;
        }
        while (size && isspace((unsigned char)text[size - 1]))
            size--;
        struct endpoint one;
        if (size && parse_one(text, size, &one) < 0)
            return -EINVAL;
        if (size && !has(list, count, &one)) {
            if (count == ENDPOINT_LIST_MAX)
                return -E2BIG;
            list[count++] = one;
        }
        text = next;
    }
    if (ret_list)
        memcpy(ret_list, list, (size_t)count * sizeof *list);
    return count;
}
