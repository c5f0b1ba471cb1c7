/* Topics that are dropped: their queues, files and records under way, and a store that dies in between. */
#include "log_fixture.h"

enum { FILE_SIZE = 64 * 1024 };

static bool exists(struct log_fixture *f, const char *path)
{
    char whole[256];
    snprintf(whole, sizeof whole, "%s/%s", f->dir, path);
    return access(whole, F_OK) == 0;
}

static void drop(struct log_fixture *f, const char *topic)
{
    const char *remark;
    atomic_store(&f->store.queue_table->log_written_pos, commit_log_end(f->store.commit_log));
    assert_int_equal(topics_admin_drop(&f->store, bytes_of(topic), &remark), 0);
    assert_null(topics_find(f->store.topics, bytes_of(topic)));
}

static void dispatch_all(struct log_fixture *f)
{
    assert_int_equal(dispatch_log(f->dispatch, commit_log_end(f->store.commit_log), NULL, 0, 0, INT64_MAX), 0);
}

/* A record in the log that no queue knows yet. */
static void append_only(struct log_fixture *f, const char *topic, int32_t queue_id)
{
    uint8_t buffer[1024];
    struct commit_log *log = f->store.commit_log;
    struct consume_queue *queue = log_fixture_queue(f, topic, queue_id);
    size_t size = log_fixture_encode(f, topic, queue_id, 40, queue->next_offset++, commit_log_end(log), buffer);
    assert_int_equal(commit_log_append(log, buffer, size, false), 0);
}

static void test_drop_and_make_anew(void **state)
{
    struct log_fixture f;
    log_fixture_begin(&f, FILE_SIZE);
    log_fixture_open(&f, START_FIRST, true);
    for (int i = 0; i < 5; i++) {
        log_fixture_put(&f, "T", i % 2, 40);
        log_fixture_put(&f, "U", 0, 40);
    }
    const struct topic *topic = topics_find(f.store.topics, bytes_of("T"));
    uint32_t base = topic->slot_base, generation = topic->slot_generation;
    assert_true(exists(&f, "consumequeue/T/0"));
    drop(&f, "T");
    assert_false(exists(&f, "consumequeue/T"));
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(atomic_load(&f.store.queue_table->slots[base + i].generation), 0);
    assert_null(topics_of_slot(f.store.topics, base));

    log_fixture_put(&f, "T", 1, 40);
    assert_int_equal(log_fixture_max(&f, "T", 1), 1); /* counted from 0 again */
    assert_int_equal(log_fixture_max(&f, "T", 0), 0);
    assert_int_equal(log_fixture_max(&f, "U", 0), 5);
    assert_true(topics_find(f.store.topics, bytes_of("T"))->slot_generation > generation);
    log_fixture_put(&f, "U", 0, 40);
    assert_int_equal(log_fixture_max(&f, "U", 0), 6);
    log_fixture_die(&f);
    assert_false(exists(&f, "consumequeue/T/0"));
    log_fixture_end(&f);
}

static void test_records_under_way(void **state)
{
    struct log_fixture f;
    log_fixture_begin(&f, FILE_SIZE);
    log_fixture_open(&f, START_FIRST, true);
    log_fixture_put(&f, "T", 0, 40);
    append_only(&f, "T", 0);
    append_only(&f, "T", 3);
    drop(&f, "T");
    dispatch_all(&f);
    assert_null(topics_find(f.store.topics, bytes_of("T"))); /* its last records do not make it anew */

    log_fixture_put(&f, "T", 0, 40);
    append_only(&f, "T", 0);
    drop(&f, "T");
    struct topic *topic;
    const char *remark;
    assert_int_equal(topics_auto_create(&f.store, bytes_of("T"), bytes_of("TBW102"), 4, false, &topic, &remark), 0);
    dispatch_all(&f);
    assert_int_equal(log_fixture_max(&f, "T", 0), 0); /* nor do they come to another topic of that name */
    append_only(&f, "T", 0);
    dispatch_all(&f);
    assert_int_equal(log_fixture_max(&f, "T", 0), 1);
    log_fixture_die(&f);
    log_fixture_end(&f);
}

static void make_folder(struct log_fixture *f, const char *path)
{
    char whole[256];
    snprintf(whole, sizeof whole, "%s/%s", f->dir, path);
    assert_int_equal(mkdir(whole, 0700), 0);
}

/* What a store left that died between the image's record and the rename. */
static void test_died_in_between(void **state)
{
    struct log_fixture f;
    log_fixture_begin(&f, FILE_SIZE);
    log_fixture_open(&f, START_FIRST, true);
    log_fixture_put(&f, "T", 0, 40);
    log_fixture_put(&f, "V", 2, 40);
    append_only(&f, "T", 0);
    drop(&f, "T");
    drop(&f, "V");
    log_fixture_put(&f, "V", 2, 40);
    log_fixture_put(&f, "V", 2, 40);
    make_folder(&f, "consumequeue/T");
    make_folder(&f, "consumequeue/T/0");
    log_fixture_die(&f);
    log_fixture_open(&f, START_AFTER_OUTSIDE, true);
    assert_true(recover_is_warm(&f.store));
    assert_false(exists(&f, "consumequeue/T"));
    assert_null(topics_find(f.store.topics, bytes_of("T")));
    assert_int_equal(log_fixture_max(&f, "V", 2), 2);
    assert_true(exists(&f, "consumequeue/V/2"));
    log_fixture_die(&f);
    log_fixture_end(&f);
}

static void test_clean(void **state)
{
    struct log_fixture f;
    log_fixture_begin(&f, FILE_SIZE);
    log_fixture_open(&f, START_FIRST, true);
    assert_int_equal(consume_queues_clean_unused(&f.store), 0);
    for (int i = 0; i < 50; i++) /* 20 entries a file */
        log_fixture_put(&f, "T", 0, 40);
    make_folder(&f, "consumequeue/nobodys");
    make_folder(&f, "consumequeue/nobodys/0");
    assert_int_equal(consume_queues_clean_unused(&f.store), 0);
    assert_false(exists(&f, "consumequeue/nobodys"));
    assert_true(exists(&f, "consumequeue/T/0/00000000000000000000"));
    uint32_t slot = log_fixture_queue(&f, "T", 0)->slot;
    atomic_store(&f.store.queue_table->slots[slot].min_offset, 39);
    assert_int_equal(consume_queues_clean_expired(&f.store), 0);
    for (int i = 0; i < 1000 && exists(&f, "consumequeue/T/0/00000000000000000000"); i++)
        usleep(10000);
    assert_false(exists(&f, "consumequeue/T/0/00000000000000000000"));
    assert_true(exists(&f, "consumequeue/T/0/00000000000000000400"));
    log_fixture_die(&f);
    log_fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_drop_and_make_anew),
        cmocka_unit_test(test_records_under_way),
        cmocka_unit_test(test_died_in_between),
        cmocka_unit_test(test_clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
