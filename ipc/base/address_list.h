/* Which peers a key like adminFrom means: a list of addresses and networks, "127.0.0.0/8, ::1, 10.1.2.3". The word
 * "loopback" stands for 127.0.0.0/8 and ::1, "any" for every peer. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

enum { ADDRESS_LIST_MAX = 64 };

struct address_list {
    struct address_range {
        uint8_t address[16]; /* IPv4 as ::ffff:a.b.c.d */
        unsigned bits;       /* of 128 */
    } ranges[ADDRESS_LIST_MAX];
    unsigned count; /* 0: nobody */
};

/* Entries stand between commas, semicolons or blanks. -EINVAL: one is none of these; -E2BIG: too many. */
int address_list_parse(const char *text, struct address_list *ret_list);
/* A peer that is neither IPv4 nor IPv6 is a local one (a Unix socket): it is in the list if loopback is. */
bool address_list_has(const struct address_list *list, const struct sockaddr *peer);
