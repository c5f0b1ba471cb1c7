/* Members and the catalogue: what fronts are told, in which order and numbers, and when they are told nothing. The test
 * plays the fronts and keeps what a front would keep. */
#include "base/clock.h"
#include "meta_fixture.h"

enum { CONTROL_REPLY = 1 << 20, KNOWN_MAX = 64 };

/* What a front knows, as text lines "kind group client|topic …". */
struct known {
    uint64_t next_number; /* 0: not begun */
    bool complete;        /* END seen */
    unsigned records, snapshots, gaps;
    unsigned topics, groups, forbidden, resets, configs;
    char lines[KNOWN_MAX][160];
    unsigned line_count;
    unsigned answers;
    int32_t last_code;
    int64_t last_value;
    unsigned lines_at_answer;
};

static void forget_line(struct known *known, const char *line)
{
    for (unsigned i = 0; i < known->line_count; i++) {
        if (strcmp(known->lines[i], line) != 0)
            continue;
        memmove(known->lines[i], known->lines[--known->line_count], sizeof known->lines[i]);
        return;
    }
    fail_msg("dropped but never told: %s", line);
}

static bool knows(const struct known *known, const char *line)
{
    for (unsigned i = 0; i < known->line_count; i++)
        if (strcmp(known->lines[i], line) == 0)
            return true;
    return false;
}

static void replace_line(struct known *known, const char *prefix, const char *line)
{
    for (unsigned i = 0; i < known->line_count; i++) {
        if (strncmp(known->lines[i], prefix, strlen(prefix)) == 0) {
            snprintf(known->lines[i], sizeof *known->lines, "%s", line);
            return;
        }
    }
    assert_true(known->line_count < KNOWN_MAX);
    snprintf(known->lines[known->line_count++], sizeof *known->lines, "%s", line);
}

static void see_member(struct known *known, const struct ring_view *view)
{
    struct msg_cat_member fixed;
    memcpy(&fixed, view->payload, sizeof fixed);
    struct cursor c = cursor_over(view->payload + sizeof fixed, view->payload_size - sizeof fixed);
    struct bytes client = cursor_get_string(&c), group = cursor_get_string(&c);
    char line[160];
    snprintf(line, sizeof line, "member %.*s %.*s %llu%s", SAY(group), SAY(client),
             (unsigned long long)fixed.connection, fixed.is_producer ? " producer" : "");
    assert_false(c.bad || c.pos != c.end);
    if (view->record.kind == MSG_CAT_MEMBER_DROP)
        forget_line(known, line);
    else
        replace_line(known, line, line);
}

static void see_subscription(struct known *known, const struct ring_view *view)
{
    struct msg_cat_subscription fixed;
    memcpy(&fixed, view->payload, sizeof fixed);
    struct cursor c = cursor_over(view->payload + sizeof fixed, view->payload_size - sizeof fixed);
    struct bytes group = cursor_get_string(&c), topic = cursor_get_string(&c), expression = cursor_get_string(&c);
    char line[160], prefix[100];
    snprintf(prefix, sizeof prefix, "sub %.*s %.*s ", SAY(group), SAY(topic));
    snprintf(line, sizeof line, "%s%.*s %lld", prefix, SAY(expression), (long long)fixed.version);
    assert_false(c.bad || c.pos != c.end);
    if (view->record.kind == MSG_CAT_SUBSCRIPTION_DROP)
        forget_line(known, line);
    else
        replace_line(known, prefix, line);
}

static void see_catalogue(struct fixture *f, struct known *known, const struct ring_view *view)
{
    struct msg_catalogue catalogue;
    memcpy(&catalogue, view->payload, sizeof catalogue);
    assert_int_equal(catalogue.epoch, f->store.generation);
    if (known->next_number && catalogue.number != known->next_number)
        known->gaps++;
    known->next_number = catalogue.number + 1;
    known->records++;
    switch (view->record.kind) {
    case MSG_CAT_BEGIN:
        known->snapshots++;
        known->complete = false;
        known->line_count = known->topics = known->groups = known->forbidden = known->resets = 0;
        break;
    case MSG_CAT_END:
        known->complete = true;
        break;
    case MSG_CAT_TOPIC:
        known->topics++;
        break;
    case MSG_CAT_TOPIC_DROP:
        known->topics--;
        break;
    case MSG_CAT_CONFIG:
        known->configs++;
        break;
    case MSG_CAT_GROUP:
        known->groups++;
        break;
    case MSG_CAT_GROUP_DROP:
        known->groups--;
        break;
    case MSG_CAT_FORBIDDEN:
        known->forbidden++;
        break;
    case MSG_CAT_RESET:
        known->resets++;
        break;
    case MSG_CAT_RESET_DROP:
        known->resets--;
        break;
    case MSG_CAT_MEMBER:
    case MSG_CAT_MEMBER_DROP:
        see_member(known, view);
        break;
    case MSG_CAT_SUBSCRIPTION:
    case MSG_CAT_SUBSCRIPTION_DROP:
        see_subscription(known, view);
        break;
    default:
        fail_msg("kind %u", view->record.kind);
    }
}

/* Reads everything that is in the ring for this front; tells how many records. */
static unsigned read_all(struct fixture *f, unsigned index, struct known *known)
{
    struct ring_view view;
    unsigned count = 0;
    for (; next_reply(f, index, &view); count++) {
        if (view.record.kind != MSG_ANSWER) {
            see_catalogue(f, known, &view);
            continue;
        }
        struct msg_answer answer;
        memcpy(&answer, view.payload, sizeof answer);
        known->answers++;
        known->last_code = answer.code;
        known->last_value = answer.value;
        known->lines_at_answer = known->line_count;
    }
    return count;
}

static const struct one_subscription orders_a = {"orders", "A", 10}, orders_b = {"orders", "B", 11},
                                     items_all = {"items", "*", 5};

static void begin_with_fronts(struct fixture *f, unsigned fronts)
{
    fixture_begin(f);
    assert_int_equal(fixture_open(f, false), 0);
    for (unsigned i = 0; i < fronts; i++)
        fixture_add_front(f, i + 1, CONTROL_REPLY);
}

static void test_snapshot_waits_for_replays(void **state)
{
    struct fixture f;
    struct known one = {0}, two = {0};
    begin_with_fronts(&f, 2);
    send_member(&f, 0, 101, "c1", "g", false, &orders_a, 1);
    send_replay_end(&f, 0);
    send_ask(&f, 0);
    assert_int_equal(read_all(&f, 0, &one), 1); /* the heartbeat's answer and nothing else */
    assert_int_equal(one.answers, 1);
    assert_int_equal(one.last_code, 0);
    assert_int_equal(one.records, 0);

    struct msg_replay stale = {.token = 9, .store_generation = f.store.generation + 1};
    send_record(&f, 1, MSG_REPLAY_END, &stale, sizeof stale); /* of another store: does not count */
    assert_int_equal(read_all(&f, 1, &two), 1);
    assert_int_not_equal(two.last_code, 0);
    assert_int_equal(read_all(&f, 0, &one), 0);

    send_member(&f, 1, 201, "c2", "g", false, &items_all, 1);
    send_replay_end(&f, 1);
    read_all(&f, 0, &one);
    assert_int_equal(one.snapshots, 1);
    assert_true(one.complete);
    assert_int_equal(one.gaps, 0);
    assert_true(knows(&one, "member g c1 101"));
    assert_true(knows(&one, "member g c2 201"));
    assert_true(knows(&one, "sub g orders A 10"));
    assert_true(knows(&one, "sub g items * 5"));
    assert_int_equal(one.line_count, 4);
    assert_int_equal(one.topics, 13 + 1); /* system topics and %RETRY%g */
    assert_int_equal(one.groups, 8 + 1);

    read_all(&f, 1, &two); /* has not asked */
    assert_int_equal(two.records, 0);
    send_ask(&f, 1);
    read_all(&f, 1, &two);
    assert_true(two.complete);
    assert_int_equal(two.line_count, 4);
    fixture_end(&f);
}

static void test_dead_front_holds_nobody_up(void **state)
{
    struct fixture f;
    struct known one = {0};
    begin_with_fronts(&f, 2);
    send_replay_end(&f, 0);
    send_ask(&f, 0);
    assert_int_equal(read_all(&f, 0, &one), 0);
    metadata_peer_gone(&f.store, f.list[1]);
    fixture_drop_peer(&f, 1);
    send_replay_end(&f, 0); /* a turn */
    read_all(&f, 0, &one);
    assert_true(one.complete);
    fixture_end(&f);
}

static void ready(struct fixture *f, unsigned fronts, struct known *known)
{
    for (unsigned i = 0; i < fronts; i++)
        send_replay_end(f, i);
    for (unsigned i = 0; i < fronts; i++) {
        send_ask(f, i);
        read_all(f, i, &known[i]);
        assert_true(known[i].complete);
    }
}

static void test_live_changes(void **state)
{
    struct fixture f;
    struct known known[2] = {{0}};
    begin_with_fronts(&f, 2);
    ready(&f, 2, known);

    send_member(&f, 0, 101, "c1", "g", false, &orders_a, 1);
    read_all(&f, 0, &known[0]);
    read_all(&f, 1, &known[1]);
    assert_int_equal(known[0].lines_at_answer, 2); /* its own changes came before the answer */
    for (unsigned i = 0; i < 2; i++) {
        assert_true(knows(&known[i], "member g c1 101"));
        assert_true(knows(&known[i], "sub g orders A 10"));
        assert_int_equal(known[i].gaps, 0);
    }
    send_member(&f, 0, 101, "c1", "g", false, &orders_a, 1); /* the same again: an answer, no news */
    assert_int_equal(read_all(&f, 0, &known[0]), 1);
    assert_int_equal(read_all(&f, 1, &known[1]), 0);

    /* The highest version is in force, and goes back when its member leaves. */
    send_member(&f, 1, 201, "c2", "g", false, (struct one_subscription[]){orders_b, items_all}, 2);
    read_all(&f, 0, &known[0]);
    assert_true(knows(&known[0], "sub g orders B 11"));
    assert_true(knows(&known[0], "sub g items * 5"));
    send_member(&f, 0, 102, "c3", "g", false, &(struct one_subscription){"orders", "old", 1}, 1);
    read_all(&f, 0, &known[0]);
    assert_true(knows(&known[0], "sub g orders B 11"));
    send_member_drop(&f, 1, 201, "g");
    read_all(&f, 0, &known[0]);
    assert_false(knows(&known[0], "member g c2 201"));
    assert_true(knows(&known[0], "sub g orders A 10"));
    assert_false(knows(&known[0], "sub g items * 5"));

    /* A topic that is no longer subscribed goes; a connection that ends takes all its groups along. */
    send_member(&f, 0, 101, "c1", "g", false, &items_all, 1);
    send_member(&f, 0, 101, "c1", "p", true, NULL, 0);
    read_all(&f, 0, &known[0]);
    assert_true(knows(&known[0], "sub g orders old 1"));
    assert_true(knows(&known[0], "sub g items * 5"));
    assert_true(knows(&known[0], "member p c1 101 producer"));
    send_member_drop(&f, 0, 101, "");
    send_member_drop(&f, 0, 102, "");
    read_all(&f, 0, &known[0]);
    read_all(&f, 1, &known[1]);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(known[i].line_count, 0);
        assert_int_equal(known[i].gaps, 0);
        assert_int_equal(known[i].snapshots, 1);
    }
    assert_int_equal(members_count(f.store.members), 0);
    fixture_end(&f);
}

static void test_front_dies(void **state)
{
    struct fixture f;
    struct known known[2] = {{0}};
    begin_with_fronts(&f, 2);
    ready(&f, 2, known);
    send_member(&f, 0, 101, "c1", "g", false, &orders_a, 1);
    send_member(&f, 1, 101, "c2", "g", false, &orders_b,
                1); /* the same number at another front is another connection */
    int64_t now = clock_monotonic_ms();
    assert_true(queue_locks_take(&f.store, TEXT("c1"), TEXT("g"), TEXT("orders"), 0, now));
    assert_true(queue_locks_take(&f.store, TEXT("c2"), TEXT("g"), TEXT("orders"), 1, now));
    metadata_peer_gone(&f.store, f.list[1]);
    fixture_drop_peer(&f, 1);
    send_replay_end(&f, 0);
    read_all(&f, 0, &known[0]);
    assert_true(knows(&known[0], "member g c1 101"));
    assert_true(knows(&known[0], "sub g orders A 10"));
    assert_int_equal(known[0].line_count, 2);
    assert_false(queue_locks_take(&f.store, TEXT("c3"), TEXT("g"), TEXT("orders"), 0, now));
    assert_true(queue_locks_take(&f.store, TEXT("c3"), TEXT("g"), TEXT("orders"), 1, now)); /* free at once */
    fixture_end(&f);
}

/* A client with two connections in a group keeps its locks until the last one goes. */
static void test_locks_of_two_connections(void **state)
{
    struct fixture f;
    begin_with_fronts(&f, 1);
    int64_t now = clock_monotonic_ms();
    send_member(&f, 0, 101, "c1", "g", false, &orders_a, 1);
    send_member(&f, 0, 102, "c1", "g", false, &orders_a, 1);
    assert_true(queue_locks_take(&f.store, TEXT("c1"), TEXT("g"), TEXT("orders"), 0, now));
    send_member_drop(&f, 0, 101, "g");
    assert_false(queue_locks_take(&f.store, TEXT("c2"), TEXT("g"), TEXT("orders"), 0, now));
    send_member_drop(&f, 0, 102, "");
    assert_true(queue_locks_take(&f.store, TEXT("c2"), TEXT("g"), TEXT("orders"), 0, now));
    fixture_end(&f);
}

/* A store dies: locks are known, members are told again, and the locks of those who did not come back are free. */
static void test_replay_after_death(void **state)
{
    struct fixture f;
    struct known known = {0};
    begin_with_fronts(&f, 1);
    ready(&f, 1, &known);
    int64_t now = clock_monotonic_ms();
    send_member(&f, 0, 101, "c1", "g", false, &orders_a, 1);
    send_member(&f, 0, 102, "c2", "g", false, &orders_a, 1);
    assert_true(queue_locks_take(&f.store, TEXT("c1"), TEXT("g"), TEXT("orders"), 0, now));
    assert_true(queue_locks_take(&f.store, TEXT("c2"), TEXT("g"), TEXT("orders"), 1, now));
    fixture_die(&f);
    assert_int_equal(fixture_open(&f, true), 0);
    fixture_add_front(&f, 1, CONTROL_REPLY);
    known = (struct known){0};
    send_member(&f, 0, 101, "c1", "g", false, &orders_a, 1);
    assert_false(queue_locks_take(&f.store, TEXT("c3"), TEXT("g"), TEXT("orders"), 1, now)); /* c2 may still come */
    send_replay_end(&f, 0);
    assert_false(queue_locks_take(&f.store, TEXT("c3"), TEXT("g"), TEXT("orders"), 0, now));
    assert_true(queue_locks_take(&f.store, TEXT("c3"), TEXT("g"), TEXT("orders"), 1, now));
    send_ask(&f, 0);
    read_all(&f, 0, &known);
    assert_true(knows(&known, "member g c1 101"));
    assert_int_equal(known.line_count, 2);
    fixture_end(&f);
}

/* A small ring: the snapshot comes in pieces, live changes behind it, the room for answers is never used up. */
static void test_slow_reader(void **state)
{
    struct fixture f;
    struct known known = {0};
    fixture_begin(&f);
    assert_int_equal(fixture_open(&f, false), 0);
    fixture_add_front(&f, 1, 128 * 1024);
    for (unsigned i = 0; i < 3000; i++) {
        struct topic *topic;
        char name[64];
        const char *remark;
        snprintf(name, sizeof name, "topic-with-a-name-of-some-length-%u", i);
        assert_int_equal(topics_auto_create(&f.store, bytes_of(name), TEXT("TBW102"), 1, false, &topic, &remark), 0);
    }
    send_replay_end(&f, 0);
    send_ask(&f, 0);
    assert_true(ring_room(&f.list[0]->control_out) >= PEER_CONTROL_ANSWER_ROOM);
    send_member(&f, 0, 101, "c1", "g", false, &orders_a, 1); /* answered although the catalogue waits */
    unsigned pieces = 0;
    while (read_all(&f, 0, &known) > 0) {
        pieces++;
        metadata_feed_catalogue(&f.store);
        ring_publish(&f.list[0]->control_out);
    }
    assert_true(pieces > 2);
    assert_int_equal(known.answers, 1);
    assert_int_equal(known.gaps, 0);
    assert_true(known.complete);
    assert_int_equal(known.topics, 3000 + 13 + 1);
    assert_true(knows(&known, "member g c1 101"));
    fixture_end(&f);
}

static void test_lock_records(void **state)
{
    struct fixture f;
    begin_with_fronts(&f, 1);
    uint8_t buffer[512];
    struct cursor c = cursor_over(buffer, sizeof buffer);
    struct msg_lock lock = {.token = 77, .connection = 101, .count = 3};
    memcpy(cursor_take(&c, sizeof lock), &lock, sizeof lock);
    cursor_put_string(&c, TEXT("c1"));
    cursor_put_string(&c, TEXT("g"));
    for (int32_t i = 0; i < 3; i++) {
        cursor_put_i32(&c, i);
        cursor_put_string(&c, TEXT("orders"));
    }
    assert_true(queue_locks_take(&f.store, TEXT("c2"), TEXT("g"), TEXT("orders"), 1, clock_monotonic_ms()));
    send_record(&f, 0, MSG_QUEUE_LOCK, buffer, (size_t)(c.pos - buffer));
    struct ring_view view;
    assert_true(next_reply(&f, 0, &view));
    assert_int_equal(view.record.kind, MSG_LOCK_ANSWER);
    struct msg_lock_answer answer;
    memcpy(&answer, view.payload, sizeof answer);
    assert_int_equal(answer.token, 77);
    assert_int_equal(answer.code, 0);
    assert_int_equal(answer.count, 3);
    assert_int_equal(view.payload_size, sizeof answer + 3);
    assert_memory_equal(view.payload + sizeof answer, "\1\0\1", 3);
    send_record(&f, 0, MSG_QUEUE_UNLOCK, buffer, (size_t)(c.pos - buffer));
    assert_true(queue_locks_take(&f.store, TEXT("c3"), TEXT("g"), TEXT("orders"), 0, clock_monotonic_ms()));
    assert_false(queue_locks_take(&f.store, TEXT("c3"), TEXT("g"), TEXT("orders"), 1, clock_monotonic_ms()));
    fixture_end(&f);
}

static void test_no_auto_groups(void **state)
{
    struct fixture f;
    struct known known = {0};
    begin_with_fronts(&f, 1);
    ready(&f, 1, &known);
    f.store.config.auto_create_group = false;
    send_member(&f, 0, 101, "c1", "g", false, &orders_a, 1); /* passed over in silence, as Apache does */
    assert_int_equal(read_all(&f, 0, &known), 1);
    assert_int_equal(known.last_code, 0);
    assert_null(groups_find(f.store.groups, TEXT("g")));
    assert_null(topics_find(f.store.topics, TEXT("%RETRY%g")));
    assert_int_equal(members_count(f.store.members), 0);
    send_member(&f, 0, 101, "c1", "bad group", false, &orders_a, 1);
    assert_int_equal(read_all(&f, 0, &known), 1);
    assert_int_equal(known.last_code, 0);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_snapshot_waits_for_replays),
        cmocka_unit_test(test_dead_front_holds_nobody_up),
        cmocka_unit_test(test_live_changes),
        cmocka_unit_test(test_front_dies),
        cmocka_unit_test(test_locks_of_two_connections),
        cmocka_unit_test(test_replay_after_death),
        cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_lock_records),
        cmocka_unit_test(test_no_auto_groups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
