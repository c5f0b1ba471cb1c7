/* Topics, groups, offsets and locks by their rules, and after a store's death. */
#include "base/clock.h"
#include "meta_fixture.h"

enum { CODE_OK = 0, CODE_NO_TOPIC = 17, CODE_NOT_FOUND = 22, CODE_NO_GROUP = 26, CODE_INVALID = 29 };

static struct topic *auto_create(struct fixture *f, const char *name, const char *default_topic, int32_t queues,
                                 int32_t expected_code)
{
    struct topic *topic;
    const char *remark;
    int32_t code =
        topics_auto_create(&f->store, bytes_of(name), bytes_of(default_topic), queues, false, &topic, &remark);
    assert_int_equal(code, expected_code);
    if (code == CODE_OK)
        assert_string_equal(topic->name, name);
    else
        assert_true(*remark != 0);
    return code == CODE_OK ? topic : NULL;
}

static int32_t commit(struct fixture *f, const char *group, const char *topic, int32_t queue_id, int64_t offset)
{
    const char *remark;
    return offsets_commit(&f->store, bytes_of(group), bytes_of(topic), queue_id, offset, &remark);
}

static int32_t query(struct fixture *f, const char *group, const char *topic, int32_t queue_id, bool may_guess,
                     int64_t *ret_offset)
{
    const char *remark;
    return offsets_query(&f->store, bytes_of(group), bytes_of(topic), queue_id, may_guess, ret_offset, &remark);
}

static void test_auto_create(void **state)
{
    struct fixture f;
    fixture_begin(&f);
    assert_int_equal(fixture_open(&f, false), 0);

    struct topic *topic = auto_create(&f, "orders", "TBW102", 4, CODE_OK);
    assert_int_equal(topic->read_queues, 4);
    assert_int_equal(topic->write_queues, 4);
    assert_int_equal(topic->perm, 6);
    assert_int_equal(topic->slot_count, 4);
    assert_true(topic->slot_generation > 0);
    assert_ptr_equal(topics_of_slot(f.store.topics, topic->slot_base + 3), topic);
    assert_ptr_equal(auto_create(&f, "orders", "TBW102", 16, CODE_OK), topic); /* there already */
    assert_int_equal(topic->write_queues, 4);

    assert_int_equal(auto_create(&f, "more", "TBW102", 100, CODE_OK)->write_queues, 8); /* the template's at most */
    assert_int_equal(auto_create(&f, "cluster", "DefaultCluster", 100, CODE_OK)->write_queues, 16);
    assert_int_equal(auto_create(&f, "none", "TBW102", -3, CODE_OK)->write_queues, 0);
    topic = auto_create(&f, "%RETRY%g", "TBW102", 4, CODE_OK);
    assert_int_equal(topic->write_queues, 1);
    assert_int_equal(topic->perm, 6);
    auto_create(&f, "other", "no-such-template", 4, CODE_NO_TOPIC);
    auto_create(&f, "other", "orders", 4, CODE_NO_TOPIC); /* its perm has no INHERIT */
    auto_create(&f, "bad name", "TBW102", 4, CODE_INVALID);
    char name[200];
    memset(name, 'x', sizeof name);
    name[128] = 0;
    auto_create(&f, name, "TBW102", 4, CODE_INVALID);
    name[127] = 0;
    auto_create(&f, name, "TBW102", 4, CODE_OK);

    /* A template that the file still has gives no leave when auto creation is off. */
    f.store.config.auto_create_topic = false;
    auto_create(&f, "closed", "TBW102", 4, CODE_NO_TOPIC);
    auto_create(&f, "%RETRY%closed", "TBW102", 4, CODE_OK);
    fixture_end(&f);
}

static void test_system_topics(void **state)
{
    static const struct {
        const char *name;
        int32_t queues, perm;
    } expected[] = {
        {"SELF_TEST_TOPIC", 1, 6},
        {"TBW102", 8, 7},
        {"BenchmarkTest", 1024, 6},
        {"DefaultCluster", 16, 7},
        {"broker-a", 1, 7},
        {"OFFSET_MOVED_EVENT", 1, 6},
        {"SCHEDULE_TOPIC_XXXX", 18, 6},
        {"DefaultCluster_REPLY_TOPIC", 1, 6},
        {"rmq_sys_REVIVE_LOG_DefaultCluster", 8, 6},
        {"rmq_sys_SYNC_BROKER_MEMBER_broker-a", 1, 1},
        {"RMQ_SYS_TRANS_HALF_TOPIC", 1, 6},
        {"RMQ_SYS_TRANS_OP_HALF_TOPIC", 1, 6},
        {"rmq_sys_wheel_timer", 1, 6},
    };
    struct fixture f;
    fixture_begin(&f);
    assert_int_equal(fixture_open(&f, false), 0);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        struct topic *topic = topics_find(f.store.topics, bytes_of(expected[i].name));
        assert_non_null(topic);
        assert_int_equal(topic->read_queues, expected[i].queues);
        assert_int_equal(topic->write_queues, expected[i].queues);
        assert_int_equal(topic->perm, expected[i].perm);
    }
    assert_non_null(groups_find(f.store.groups, bytes_of("TOOLS_CONSUMER")));
    assert_non_null(groups_find(f.store.groups, bytes_of("CID_RMQ_SYS_TRANS")));
    fixture_end(&f);
}

/* What the log half promises of a slot, so that a move can be seen; there is no log half in this test. */
static uint32_t table_generation(struct fixture *f, uint32_t slot)
{
    return atomic_load(&f->store.queue_table->slots[slot].generation);
}

static int32_t admin_put(struct fixture *f, const char *name, int32_t queues, const char *attributes)
{
    struct msg_topic_put put = {.read_queues = queues, .write_queues = queues, .perm = 6};
    const char *remark;
    return topics_admin_put(&f->store, &put, bytes_of(name), bytes_of(attributes), &remark);
}

static void test_slots_move(void **state)
{
    struct fixture f;
    fixture_begin(&f);
    assert_int_equal(fixture_open(&f, false), 0);
    assert_int_equal(admin_put(&f, "a", 4, ""), CODE_OK);
    assert_int_equal(admin_put(&f, "b", 4, ""), CODE_OK);
    struct topic *a = topics_find(f.store.topics, TEXT("a")), *b = topics_find(f.store.topics, TEXT("b"));
    uint32_t old_base = a->slot_base, old_generation = a->slot_generation;
    assert_int_equal(b->slot_base, old_base + 4);

    assert_int_equal(admin_put(&f, "a", 2, ""), CODE_OK); /* fewer: the queues' slots stay */
    assert_int_equal(a->slot_base, old_base);
    assert_int_equal(a->slot_count, 4);
    assert_int_equal(a->slot_generation, old_generation);

    assert_int_equal(admin_put(&f, "a", 6, ""), CODE_OK); /* more: another range, the old one is free */
    assert_true(a->slot_base != old_base);
    assert_int_equal(a->slot_count, 6);
    assert_true(a->slot_generation > old_generation);
    assert_null(topics_of_slot(f.store.topics, old_base));
    assert_int_equal(table_generation(&f, old_base), 0);
    assert_ptr_equal(topics_of_slot(f.store.topics, a->slot_base + 5), a);

    assert_int_equal(admin_put(&f, "c", 3, ""), CODE_OK); /* first fit, never with an old generation */
    struct topic *c = topics_find(f.store.topics, TEXT("c"));
    assert_int_equal(c->slot_base, old_base);
    assert_true(c->slot_generation > a->slot_generation);

    /* All slots of the table and not one more. */
    assert_int_equal(admin_put(&f, "huge", QUEUE_TABLE_SLOTS, ""), 1);
    assert_null(topics_find(f.store.topics, TEXT("huge")));
    fixture_end(&f);
}

static void test_attributes(void **state)
{
    struct fixture f;
    fixture_begin(&f);
    assert_int_equal(fixture_open(&f, false), 0);
    assert_int_equal(admin_put(&f, "t", 1, "+message.type=FIFO,+queue.type=SimpleCQ"), CODE_OK);
    struct topic *topic = topics_find(f.store.topics, TEXT("t"));
    assert_string_equal(topic->extra, "{\"attributes\":{\"message.type\":\"FIFO\",\"queue.type\":\"SimpleCQ\"}}");
    assert_int_equal(admin_put(&f, "t", 1, "-message.type"), CODE_OK);
    assert_string_equal(topic->extra, "{\"attributes\":{\"queue.type\":\"SimpleCQ\"}}");
    assert_int_equal(admin_put(&f, "t", 1, "-queue.type"), 1); /* cannot be changed */
    assert_int_equal(admin_put(&f, "u", 1, "-message.type"), 1);
    assert_int_equal(admin_put(&f, "u", 1, "+queue.type=BatchCQ"), 1);
    assert_int_equal(admin_put(&f, "u", 1, "+colour=red"), 1);
    assert_null(topics_find(f.store.topics, TEXT("u")));
    assert_int_equal(admin_put(&f, "TBW102", 1, ""), CODE_INVALID);
    assert_int_equal(admin_put(&f, "DefaultCluster", 1, ""), CODE_INVALID);
    fixture_end(&f);
}

static void test_offsets(void **state)
{
    struct fixture f;
    int64_t offset;
    fixture_begin(&f);
    assert_int_equal(fixture_open(&f, false), 0);
    auto_create(&f, "orders", "TBW102", 4, CODE_OK);
    assert_int_equal(commit(&f, "g", "orders", 0, 5), CODE_NO_GROUP); /* not made by a commit */
    assert_non_null(groups_ensure(&f.store, TEXT("g")));
    assert_int_equal(commit(&f, "g", "nothing", 0, 5), CODE_NO_TOPIC);
    assert_int_equal(commit(&f, "g", "orders", -1, 5), CODE_INVALID);
    assert_int_equal(commit(&f, "g", "orders", 3, 7), CODE_OK);
    assert_int_equal(commit(&f, "g", "orders", 0, 5), CODE_OK);
    assert_int_equal(query(&f, "g", "orders", 3, true, &offset), CODE_OK);
    assert_int_equal(offset, 7);
    assert_int_equal(commit(&f, "g", "orders", 3, 2), CODE_OK); /* backwards is stored */
    assert_int_equal(query(&f, "g", "orders", 3, true, &offset), CODE_OK);
    assert_int_equal(offset, 2);
    assert_int_equal(commit(&f, "g", "orders", 0, -1), CODE_OK); /* and so is −1, which answers as if nothing were */
    assert_int_equal(query(&f, "g", "orders", 0, false, &offset), CODE_NOT_FOUND);

    /* Nothing stored: 0 while there is something and everything that ever was is still there. */
    assert_int_equal(query(&f, "g", "orders", 1, true, &offset), CODE_NOT_FOUND);
    const char *remark;
    assert_int_equal(offsets_query(&f.store, TEXT("g"), TEXT("orders"), 1, OFFSET_GUESS_ALSO_EMPTY, &offset, &remark), CODE_OK);
    assert_int_equal(offset, 0);
    struct topic *topic = topics_find(f.store.topics, TEXT("orders"));
    struct queue_slot *slot = &f.store.queue_table->slots[topic->slot_base + 1];
    atomic_store(&slot->max_offset, 1);
    assert_int_equal(query(&f, "g", "orders", 1, true, &offset), CODE_OK);
    assert_int_equal(offset, 0);
    assert_int_equal(query(&f, "g", "orders", 1, false, &offset), CODE_NOT_FOUND);
    assert_int_equal(query(&f, "g", "orders", 99, true, &offset), CODE_NOT_FOUND);
    assert_int_equal(query(&f, "g", "nothing", 0, true, &offset), CODE_NOT_FOUND);
    atomic_store(&slot->min_offset, 1);
    assert_int_equal(query(&f, "g", "orders", 1, true, &offset), CODE_NOT_FOUND);
    atomic_store(&slot->min_offset, 0);
    atomic_store(&f.store.queue_table->log_written_pos, OFFSETS_YOUNG_LOG);
    assert_int_equal(query(&f, "g", "orders", 1, true, &offset), CODE_NOT_FOUND);
    atomic_store(&f.store.queue_table->log_written_pos, OFFSETS_YOUNG_LOG - 1);
    assert_int_equal(query(&f, "g", "orders", 1, true, &offset), CODE_OK);
    atomic_store(&f.store.queue_table->log_min_pos, 4096);
    assert_int_equal(query(&f, "g", "orders", 1, true, &offset), CODE_NOT_FOUND);

    /* A log that lost its tail takes the offsets with it. */
    assert_int_equal(commit(&f, "g", "orders", 1, 50), CODE_OK);
    atomic_store(&slot->max_offset, 20);
    metadata_clamp_offsets(&f.store);
    assert_int_equal(query(&f, "g", "orders", 1, true, &offset), CODE_OK);
    assert_int_equal(offset, 20);
    fixture_end(&f);
}

static bool lock(struct fixture *f, const char *client, int32_t queue, int64_t now_ms)
{
    return queue_locks_take(&f->store, bytes_of(client), TEXT("g"), TEXT("orders"), queue, now_ms);
}

static void test_locks(void **state)
{
    struct fixture f;
    fixture_begin(&f);
    assert_int_equal(fixture_open(&f, false), 0);
    int64_t now = clock_monotonic_ms();
    assert_true(lock(&f, "one", 0, now));
    assert_false(lock(&f, "two", 0, now));
    assert_true(lock(&f, "two", 1, now));
    assert_true(lock(&f, "one", 0, now + 50000)); /* renewed */
    assert_false(lock(&f, "two", 0, now + QUEUE_LOCK_LEASE_MS + 49999));
    assert_true(lock(&f, "one", 1, now + QUEUE_LOCK_LEASE_MS)); /* two's lease has ended */
    assert_true(lock(&f, "two", 0, now + QUEUE_LOCK_LEASE_MS + 50000));
    queue_locks_release(&f.store, TEXT("one"), TEXT("g"), TEXT("orders"), 0); /* not the owner's word */
    assert_false(lock(&f, "one", 0, now + QUEUE_LOCK_LEASE_MS + 50001));
    queue_locks_release(&f.store, TEXT("two"), TEXT("g"), TEXT("orders"), 0);
    assert_true(lock(&f, "one", 0, now + QUEUE_LOCK_LEASE_MS + 50001));
    /* The same queue number of another topic or group is another queue. */
    assert_true(queue_locks_take(&f.store, TEXT("two"), TEXT("g"), TEXT("order"), 0, now));
    assert_true(queue_locks_take(&f.store, TEXT("two"), TEXT("gg"), TEXT("orders"), 0, now));
    assert_true(queue_locks_group_locked(f.store.queue_locks, TEXT("gg"), now));
    assert_false(queue_locks_group_locked(f.store.queue_locks, TEXT("gg"), now + QUEUE_LOCK_LEASE_MS));
    fixture_end(&f);
}

/* Everything that a warm start must find, told before and after. */
static int count_topic(struct topic *topic, void *context)
{
    uint64_t *sum = context;
    *sum += (uint64_t)topic->slot_base * 3 + topic->slot_count * 5 + topic->slot_generation * 7 +
            (uint64_t)topic->write_queues + strlen(topic->name);
    return 0;
}

static int64_t count_offset(const char *key, int32_t queue_id, int64_t offset, void *context)
{
    uint64_t *sum = context;
    *sum += (uint64_t)offset * 11 + (uint64_t)queue_id * 13 + strlen(key);
    return offset;
}

static uint64_t fingerprint(struct fixture *f)
{
    uint64_t sum = 0;
    topics_each(f->store.topics, count_topic, &sum);
    offsets_each(f->store.offsets, count_offset, &sum);
    struct data_version topics = topics_version(f->store.topics), groups = groups_version(f->store.groups);
    return sum + (uint64_t)topics.counter * 1000003 + (uint64_t)groups.counter * 1000033 +
           (uint64_t)topics.timestamp_ms;
}

static void test_warm_start(void **state)
{
    struct fixture f;
    int64_t offset, now = clock_monotonic_ms();
    fixture_begin(&f);
    assert_int_equal(fixture_open(&f, false), 0);
    for (unsigned i = 0; i < 50; i++) {
        char name[32];
        snprintf(name, sizeof name, "topic-%u", i);
        auto_create(&f, name, "TBW102", (int32_t)(i % 8) + 1, CODE_OK);
        if (i % 3 == 0)
            assert_int_equal(admin_put(&f, name, 12, "+message.type=FIFO"), CODE_OK);
        snprintf(name, sizeof name, "group-%u", i);
        assert_non_null(groups_ensure(&f.store, bytes_of(name)));
        for (int32_t queue = 0; queue < 5; queue++)
            assert_int_equal(commit(&f, name, "topic-0", queue, i * 100 + queue), CODE_OK);
    }
    assert_true(lock(&f, "one", 0, now));
    assert_true(lock(&f, "two", 1, now - QUEUE_LOCK_LEASE_MS - 1)); /* has ended meanwhile */
    assert_true(lock(&f, "two", 2, now));
    queue_locks_release(&f.store, TEXT("two"), TEXT("g"), TEXT("orders"), 2);
    uint64_t before = fingerprint(&f);
    fixture_die(&f);

    assert_int_equal(fixture_open(&f, true), 0);
    assert_int_equal(fingerprint(&f), before);
    assert_int_equal(query(&f, "group-49", "topic-0", 4, false, &offset), CODE_OK);
    assert_int_equal(offset, 4904);
    assert_false(lock(&f, "two", 0, now + QUEUE_LOCK_LEASE_MS - 1));
    assert_true(lock(&f, "three", 1, now));
    assert_true(lock(&f, "three", 2, now));
    struct topic *topic = topics_find(f.store.topics, TEXT("topic-3"));
    assert_string_equal(topic->extra, "{\"attributes\":{\"message.type\":\"FIFO\"}}");
    assert_ptr_equal(topics_of_slot(f.store.topics, topic->slot_base + 11), topic);
    uint32_t generation = topic->slot_generation;
    assert_int_equal(admin_put(&f, "fresh", 4, ""), CODE_OK); /* no slot and no generation twice */
    topic = topics_find(f.store.topics, TEXT("fresh"));
    assert_true(topic->slot_generation > generation);
    assert_ptr_equal(topics_of_slot(f.store.topics, topic->slot_base), topic);
    fixture_die(&f);

    /* No file was touched, and a flip keeps it all. */
    char path[128];
    snprintf(path, sizeof path, "%s/config", f.dir);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(fixture_open(&f, true), 0);
    before = fingerprint(&f);
    assert_int_equal(image_flip(f.store.image), 0);
    fixture_die(&f);
    assert_int_equal(fixture_open(&f, true), 0);
    assert_int_equal(fingerprint(&f), before);
    assert_false(lock(&f, "two", 0, now + QUEUE_LOCK_LEASE_MS - 1));
    fixture_end(&f);
}

/* An image that does not check out is not believed in parts. */
static void test_broken_image(void **state)
{
    struct fixture f;
    fixture_begin(&f);
    assert_int_equal(fixture_open(&f, false), 0);
    auto_create(&f, "orders", "TBW102", 4, CODE_OK);
    fixture_die(&f);
    struct image_layout *layout = mmap(NULL, CONTRACT_IMAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, f.image_fd, 0);
    assert_true(layout != MAP_FAILED);
    ((uint8_t *)layout)[IMAGE_PAGE + (layout->active & 1) * IMAGE_HALF_SIZE + 200] ^= 1;
    assert_int_equal(fixture_open(&f, true), 0);
    assert_null(topics_find(f.store.topics, TEXT("orders"))); /* cold, from a folder without files */
    assert_non_null(topics_find(f.store.topics, TEXT("TBW102")));
    auto_create(&f, "again", "TBW102", 4, CODE_OK);
    fixture_die(&f);
    assert_int_equal(fixture_open(&f, true), 0);
    assert_non_null(topics_find(f.store.topics, TEXT("again")));
    munmap(layout, CONTRACT_IMAGE_SIZE);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_auto_create), cmocka_unit_test(test_system_topics), cmocka_unit_test(test_slots_move),
        cmocka_unit_test(test_attributes),  cmocka_unit_test(test_offsets),       cmocka_unit_test(test_locks),
        cmocka_unit_test(test_warm_start),  cmocka_unit_test(test_broken_image),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
