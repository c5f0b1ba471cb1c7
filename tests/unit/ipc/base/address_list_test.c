/* Who is in a list of addresses and networks. */
#include "../../unit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>

#include "base/address_list.h"

static bool has(const char *text, const char *peer)
{
    struct address_list list;
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    assert_int_equal(address_list_parse(text, &list), 0);
    if (inet_pton(AF_INET, peer, &v4.sin_addr) == 1)
        return address_list_has(&list, (struct sockaddr *)&v4);
    assert_int_equal(inet_pton(AF_INET6, peer, &v6.sin6_addr), 1);
    return address_list_has(&list, (struct sockaddr *)&v6);
}

static void test_members(void **state)
{
    assert_true(has("loopback", "127.0.0.1"));
    assert_true(has("loopback", "127.9.9.9"));
    assert_true(has("loopback", "::1"));
    assert_true(has("loopback", "::ffff:127.0.0.1")); /* a client of a socket for both families */
    assert_false(has("loopback", "128.0.0.1"));
    assert_false(has("loopback", "::2"));
    assert_true(has("10.1.2.3", "10.1.2.3"));
    assert_false(has("10.1.2.3", "10.1.2.4"));
    assert_true(has("192.0.2.1, 10.16.0.0/12;2001:db8::/33", "10.31.255.255"));
    assert_false(has("10.16.0.0/12", "10.32.0.0"));
    assert_true(has("2001:db8::/33", "2001:db8:7fff::1"));
    assert_false(has("2001:db8::/33", "2001:db8:8000::1"));
    assert_true(has("0.0.0.0/0", "1.2.3.4"));
    assert_false(has("0.0.0.0/0", "2001::1"));
    assert_true(has("any", "1.2.3.4"));
    assert_true(has("any", "2001::1"));
    assert_false(has("", "127.0.0.1"));
    assert_false(has(" , ", "127.0.0.1"));
}

static void test_local_sockets(void **state)
{
    struct address_list list;
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    assert_int_equal(address_list_parse("loopback", &list), 0);
    assert_true(address_list_has(&list, (struct sockaddr *)&local));
    assert_int_equal(address_list_parse("10.0.0.0/8", &list), 0);
    assert_false(address_list_has(&list, (struct sockaddr *)&local));
}

static void test_refusals(void **state)
{
    static const char *const bad[] = {
        "localhost",      "10.0.0.0/33",
        "10.0.0.0/",      "10.0.0.0/-1",
        "10.0.0.0/8x",    "::1/129",
        "10.0.0",         "127.0.0.1:80",
        "loopback any x", "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc:dddd"};
    struct address_list list;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(address_list_parse(bad[i], &list), -EINVAL);
        assert_int_equal(list.count, 0);
    }
    char many[(ADDRESS_LIST_MAX + 1) * 4 + 1] = "";
    for (int i = 0; i < ADDRESS_LIST_MAX + 1; i++)
        memcpy(many + 4 * i, "::1 ", 4);
    assert_int_equal(address_list_parse(many, &list), -E2BIG);
    many[ADDRESS_LIST_MAX * 4] = 0;
    assert_int_equal(address_list_parse(many, &list), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_members), cmocka_unit_test(test_local_sockets),
                                       cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
