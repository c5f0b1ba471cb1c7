/* Lists of addresses and networks, for whom a server trusts. The supervisor checks the text, front and name server ask.
 * Pure; a peer comes from the kernel. IPv4 is kept as mapped IPv6, so that a socket for both families needs no second
 * rule. */
#include "base/address_list.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

static int add(struct address_list *list, const uint8_t address[16], unsigned bits)
{
    if (list->count == ADDRESS_LIST_MAX)
        return -E2BIG;
    struct address_range *range = &list->ranges[list->count++];
    memcpy(range->address, address, 16);
    range->bits = bits;
    return 0;
}

static int parse_bits(const char *text, unsigned max, unsigned *ret_bits)
{
    char *end;
    if (!text) {
        *ret_bits = max;
        return 0;
    }
    unsigned long bits = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || bits > max)
        return -EINVAL;
    *ret_bits = (unsigned)bits;
    return 0;
}

static int add_entry(struct address_list *list, char *entry)
{
    uint8_t address[16];
    unsigned bits;
    char *slash = strchr(entry, '/');
    if (slash)
        *slash++ = 0;
    if (inet_pton(AF_INET, entry, address + 12) == 1) {
        memcpy(address, mapped, sizeof mapped);
        return parse_bits(slash, 32, &bits) < 0 ? -EINVAL : add(list, address, 96 + bits);
    }
    if (inet_pton(AF_INET6, entry, address) == 1)
        return parse_bits(slash, 128, &bits) < 0 ? -EINVAL : add(list, address, bits);
    return -EINVAL;
}

static int add_word(struct address_list *list, const char *word, size_t size)
{
    char entry[INET6_ADDRSTRLEN + 8];
    if (size >= sizeof entry)
        return -EINVAL;
    memcpy(entry, word, size);
    entry[size] = 0;
    if (strcmp(entry, "any") == 0)
        return add(list, (const uint8_t[16]){0}, 0);
    if (strcmp(entry, "loopback") != 0)
        return add_entry(list, entry);
    int r = add_entry(list, (char[]){"127.0.0.0/8"});
    return r < 0 ? r : add_entry(list, (char[]){"::1"});
}

int address_list_parse(const char *text, struct address_list *ret_list)
{
    static const char separators[] = ",; \t";
    ret_list->count = 0;
    for (text += strspn(text, separators); *text; text += strspn(text, separators)) {
        size_t size = strcspn(text, separators);
        int r = add_word(ret_list, text, size);
        if (r < 0) {
            ret_list->count = 0; /* half a list would be a surprise: nobody */
            return r;
        }
        text += size;
    }
    return 0;
}

static bool is_in(const struct address_range *range, const uint8_t address[16])
{
    unsigned bytes = range->bits / 8, rest = range->bits % 8;
    if (memcmp(range->address, address, bytes) != 0)
        return false;
    return rest == 0 || (range->address[bytes] ^ address[bytes]) >> (8 - rest) == 0;
}

bool address_list_has(const struct address_list *list, const struct sockaddr *peer)
{
    uint8_t address[16] = {[15] = 1}; /* ::1 */
    if (peer->sa_family == AF_INET) {
        memcpy(address, mapped, sizeof mapped);
        memcpy(address + 12, &((const struct sockaddr_in *)peer)->sin_addr, 4);
    } else if (peer->sa_family == AF_INET6) {
        memcpy(address, &((const struct sockaddr_in6 *)peer)->sin6_addr, 16);
    }
    for (unsigned i = 0; i < list->count; i++)
        if (is_in(&list->ranges[i], address))
            return true;
    return false;
}
