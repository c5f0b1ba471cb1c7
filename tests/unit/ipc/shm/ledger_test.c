/* The ledger: its three counts, what is believed, who is blamed. */
#include "../../unit.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "shm/ledger.h"

struct ledger_object {
    int fd;
    struct ledger *ledger;
    struct segment raw; /* the same memory, for damage */
};

static struct ledger_object make(void)
{
    struct ledger_object o;
    assert_int_equal(ledger_create("ledger", 1, &o.fd), 0);
    assert_int_equal(segment_attach(dup(o.fd), SEGMENT_LEDGER, LEDGER_VERSION, true, &o.raw), 0);
    assert_int_equal(ledger_attach(dup(o.fd), &o.ledger), 0);
    return o;
}

static void drop(struct ledger_object *o)
{
    ledger_detach(o->ledger);
    segment_detach(&o->raw);
    close(o->fd);
}

static int64_t put(struct ledger *ledger, unsigned index, uint64_t ring_pos, int64_t log_pos, uint32_t size)
{
    struct ledger_entry entry = {.ring_pos = ring_pos, .peer_id = 1, .peer_generation = 5, .ring_size = 16,
                                 .log_pos = log_pos, .size = size, .count = 1};
    ledger_put(ledger, index, &entry);
    return log_pos + size;
}

static void test_walk(void **state)
{
    struct ledger_object o = make();
    const struct ledger_entry *last;
    assert_int_equal(ledger_check(o.ledger), -ENODATA);
    ledger_begin(o.ledger, 1000);
    assert_int_equal(ledger_check(o.ledger), 0);
    assert_int_equal(ledger_log_end(o.ledger, &last), 1000);
    assert_null(last);
    int64_t end = 1000;
    uint64_t number = 0;
    /* Around the circle twice, batches of 1 to 7, answered with a lag. */
    while (number < 2 * LEDGER_CAPACITY + 10) {
        unsigned count = 1 + (unsigned)(number % 7);
        assert_true(ledger_room(o.ledger) >= count);
        for (unsigned i = 0; i < count; i++)
            end = put(o.ledger, i, (number + i) * 16, end, i == 3 ? 0 : 100);
        assert_int_equal(ledger_taken(o.ledger), number);
        ledger_take(o.ledger, count);
        assert_int_equal(ledger_check(o.ledger), 0);
        ledger_apply(o.ledger, number + count);
        number += count;
        assert_int_equal(ledger_log_end(o.ledger, &last), end);
        assert_non_null(last);
        assert_int_equal(last->log_pos + last->size, end);
        if (number > 50)
            ledger_close(o.ledger, number - 50);
        assert_int_equal(ledger_check(o.ledger), 0);
    }
    ledger_close(o.ledger, number);
    assert_int_equal(ledger_check(o.ledger), 0);
    ledger_end(o.ledger);
    assert_int_equal(ledger_check(o.ledger), -ENODATA);
    drop(&o);
}

static void test_full(void **state)
{
    struct ledger_object o = make();
    ledger_begin(o.ledger, 0);
    unsigned room = ledger_room(o.ledger);
    assert_int_equal(room, LEDGER_CAPACITY - 1);
    for (unsigned i = 0; i < room; i++)
        put(o.ledger, i, i * 16, i * 10, 10);
    ledger_take(o.ledger, room);
    assert_int_equal(ledger_room(o.ledger), 0);
    assert_int_equal(ledger_check(o.ledger), 0);
    ledger_apply(o.ledger, 5);
    ledger_untake(o.ledger);
    assert_int_equal(ledger_taken(o.ledger), 5);
    assert_int_equal(ledger_log_end(o.ledger, NULL), 50);
    assert_int_equal(ledger_room(o.ledger), room - 5);
    drop(&o);
}

static void test_damage(void **state)
{
    struct ledger_object o = make();
    struct ledger_layout *raw = o.raw.base;
    ledger_begin(o.ledger, 0);
    for (unsigned i = 0; i < 3; i++)
        put(o.ledger, i, i * 16, i * 10, 10);
    ledger_take(o.ledger, 3);
    ledger_apply(o.ledger, 2);
    assert_int_equal(ledger_check(o.ledger), 0);
    /* Any byte of any entry in use. */
    for (size_t at = 0; at < 3 * sizeof(struct ledger_entry); at++) {
        uint8_t *byte = (uint8_t *)raw->entries + at;
        *byte ^= 0x10;
        assert_int_equal(ledger_check(o.ledger), -EBADMSG);
        *byte ^= 0x10;
    }
    /* An entry of another number in the slot, counts out of order. */
    struct ledger_entry kept = raw->entries[1];
    raw->entries[1] = raw->entries[0];
    assert_int_equal(ledger_check(o.ledger), -EBADMSG);
    raw->entries[1] = kept;
    atomic_store(&raw->closed, 3);
    assert_int_equal(ledger_check(o.ledger), -EBADMSG);
    atomic_store(&raw->closed, 0);
    atomic_store(&raw->taken, 1);
    assert_int_equal(ledger_check(o.ledger), -EBADMSG);
    atomic_store(&raw->taken, LEDGER_CAPACITY + 2);
    assert_int_equal(ledger_check(o.ledger), -EBADMSG);
    atomic_store(&raw->taken, 3);
    assert_int_equal(ledger_check(o.ledger), 0);
    drop(&o);
}

static void test_blame(void **state)
{
    struct ledger_object o = make();
    ledger_begin(o.ledger, 0);
    put(o.ledger, 0, 0, 0, 10);
    put(o.ledger, 1, 16, 10, 10);
    put(o.ledger, 2, 32, 20, 10);
    ledger_take(o.ledger, 3);
    ledger_apply(o.ledger, 1);
    /* Died with a batch under way: each of it, but not what is in the log. */
    assert_int_equal(ledger_blame(o.ledger), 2);
    assert_int_equal(ledger_deaths(o.ledger, 1, 5, 0), 0);
    assert_int_equal(ledger_deaths(o.ledger, 1, 5, 16), 1);
    assert_int_equal(ledger_deaths(o.ledger, 1, 5, 32), 1);
    ledger_untake(o.ledger);
    /* Died looking at one: exactly that one. */
    ledger_working(o.ledger, 1, 5, 32);
    assert_int_equal(ledger_blame(o.ledger), 2);
    assert_int_equal(ledger_deaths(o.ledger, 1, 5, 32), 2);
    assert_int_equal(ledger_deaths(o.ledger, 1, 5, 16), 1);
    assert_int_equal(ledger_deaths(o.ledger, 1, 6, 32), 0); /* another generation's ring */
    /* Died of something else: nobody. */
    ledger_blame(o.ledger);
    assert_int_equal(ledger_deaths(o.ledger, 1, 5, 32), 2);
    ledger_begin(o.ledger, 0); /* a cold start keeps suspects */
    assert_int_equal(ledger_suspects(o.ledger), 2);
    ledger_absolve(o.ledger, 1, 5, 32);
    assert_int_equal(ledger_deaths(o.ledger, 1, 5, 16), 0);
    assert_int_equal(ledger_deaths(o.ledger, 1, 5, 32), 2);
    ledger_absolve(o.ledger, 1, 5, UINT64_MAX);
    assert_int_equal(ledger_suspects(o.ledger), 0);
    drop(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_walk),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_blame),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
