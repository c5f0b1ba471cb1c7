/* Recovery: cold from files in every state that a death or a host's crash leaves, warm from the ledger. */
#include "broker/store/remover.h"
#include "log_fixture.h"

enum { FILE_SIZE = 4096, ENTRIES_PER_FILE = 20 };

/* Copies of a log file with its last record cut at each byte, zeros or rubbish behind. */
static void test_torn_tail(void **state)
{
    struct log_fixture f;
    uint8_t whole[FILE_SIZE], torn[FILE_SIZE];
    int64_t last = 0;
    log_fixture_begin(&f, FILE_SIZE);
    log_fixture_open(&f, START_FIRST, true);
    for (int i = 0; i < 4; i++)
        last = log_fixture_put(&f, "T", 1, 40);
    int64_t end = commit_log_end(f.store.commit_log);
    log_fixture_die(&f);
    int fd = log_fixture_file(&f, 0);
    assert_int_equal(pread(fd, whole, FILE_SIZE, 0), FILE_SIZE);
    int64_t body_end = last + RECORD_FIXED_SIZE - 3 + 40;
    for (int64_t cut = last; cut < end; cut++) {
        memcpy(torn, whole, FILE_SIZE);
        /* Rubbish only where a CRC or a length tells it: nothing covers the properties. */
        memset(torn + cut, cut % 2 && cut < body_end ? 0xEE : 0, (size_t)(FILE_SIZE - cut));
        assert_int_equal(pwrite(fd, torn, FILE_SIZE, 0), FILE_SIZE);
        log_fixture_forget(&f);
        log_fixture_open(&f, START_FIRST, false);
        assert_int_equal(commit_log_end(f.store.commit_log), last);
        assert_int_equal(log_fixture_max(&f, "T", 1), 3);
        assert_int_equal(atomic_load(&f.store.queue_table->log_readable_pos), last);
        assert_int_equal(pread(fd, torn, FILE_SIZE, 0), FILE_SIZE);
        for (int64_t i = last; i < FILE_SIZE; i++)
            assert_int_equal(torn[i], 0);
        log_fixture_die(&f);
    }
    /* It goes on where it ended. */
    log_fixture_forget(&f);
    log_fixture_open(&f, START_FIRST, false);
    assert_int_equal(log_fixture_put(&f, "T", 1, 40), last);
    assert_int_equal(log_fixture_max(&f, "T", 1), 4);
    log_fixture_die(&f);
    close(fd);
    log_fixture_end(&f);
}

static void fill(struct log_fixture *f, int count)
{
    for (int i = 0; i < count; i++)
        log_fixture_put(f, i % 3 ? "T" : "U", i % 4, (size_t)(20 + i * 37 % 900));
}

struct picture {
    int64_t end, max[2][4];
};

static struct picture picture_take(struct log_fixture *f)
{
    struct picture picture = {.end = commit_log_end(f->store.commit_log)};
    for (int q = 0; q < 4; q++) {
        picture.max[0][q] = log_fixture_max(f, "T", q);
        picture.max[1][q] = log_fixture_max(f, "U", q);
    }
    return picture;
}

static void entries_check(struct log_fixture *f, const char *topic, int queue_id, int64_t max)
{
    for (int64_t n = 0; n < max; n++) {
        char path[256];
        uint8_t entry[20], head[36];
        snprintf(path, sizeof path, "%s/consumequeue/%s/%d/%020" PRId64, f->dir, topic, queue_id, n * 20 / 400 * 400);
        int fd = open(path, O_RDONLY);
        assert_true(fd >= 0 && pread(fd, entry, 20, n * 20 % 400) == 20);
        close(fd);
        int64_t pos = (int64_t)be64_load(entry);
        assert_int_equal(be64_load(entry + 12), 65); /* "A" */
        assert_int_equal(commit_log_pread(f->store.commit_log, pos, head, sizeof head), sizeof head);
        assert_int_equal(be32_load(head), be32_load(entry + 8));
        assert_int_equal(be32_load(head + RECORD_QUEUE_ID_AT), queue_id);
        assert_int_equal(be64_load(head + RECORD_QUEUE_OFFSET_AT), n);
    }
}

static void picture_check(struct log_fixture *f, const struct picture *before)
{
    struct picture now = picture_take(f);
    assert_memory_equal(&now, before, sizeof now);
    for (int q = 0; q < 4; q++) {
        entries_check(f, "T", q, now.max[0][q]);
        entries_check(f, "U", q, now.max[1][q]);
    }
}

static void remove_path(struct log_fixture *f, const char *what)
{
    char command[200];
    snprintf(command, sizeof command, "rm -rf '%s/%s'", f->dir, what);
    assert_int_equal(system(command), 0);
}

static void test_many_files(void **state)
{
    struct log_fixture f;
    static const char *const lost[] = {"nothing", "consumequeue", "consumequeue/T/1", "config/topics.json",
                                       "consumequeue/U/0/00000000000000000400"};
    log_fixture_begin(&f, FILE_SIZE);
    log_fixture_open(&f, START_FIRST, true);
    fill(&f, 200);
    struct picture before = picture_take(&f);
    assert_true(before.end > 10 * FILE_SIZE);
    picture_check(&f, &before);
    log_fixture_die(&f);
    for (unsigned i = 0; i < 2 * sizeof lost / sizeof *lost; i++) {
        remove_path(&f, lost[i / 2]);
        log_fixture_forget(&f);
        log_fixture_open(&f, START_FIRST, i % 2 != 0 && i != 3 && i != 5 && i != 9);
        picture_check(&f, &before);
        log_fixture_die(&f);
    }
    log_fixture_end(&f);
}

/* Queue entries that point behind the log's end go, also whole files of them. */
static void test_queues_ahead_of_log(void **state)
{
    struct log_fixture f;
    log_fixture_begin(&f, FILE_SIZE);
    log_fixture_open(&f, START_FIRST, true);
    fill(&f, 60);
    struct picture before = picture_take(&f);
    log_fixture_die(&f);
    log_fixture_forget(&f);
    log_fixture_open(&f, START_FIRST, true);
    picture_check(&f, &before);
    fill(&f, 150);
    log_fixture_die(&f);
    int fd = log_fixture_file(&f, before.end / FILE_SIZE * FILE_SIZE);
    uint8_t zeros[FILE_SIZE] = {0};
    assert_true(pwrite(fd, zeros, (size_t)(FILE_SIZE - before.end % FILE_SIZE), before.end % FILE_SIZE) > 0);
    close(fd);
    log_fixture_forget(&f);
    log_fixture_open(&f, START_FIRST, false);
    picture_check(&f, &before);
    log_fixture_die(&f);
    log_fixture_end(&f);
}

/* The oldest files are gone: queues begin late. */
static void test_first_files_deleted(void **state)
{
    struct log_fixture f;
    char path[256];
    log_fixture_begin(&f, FILE_SIZE);
    log_fixture_open(&f, START_FIRST, true);
    fill(&f, 200);
    struct picture before = picture_take(&f);
    log_fixture_die(&f);
    for (int64_t pos = 0; pos < 8 * FILE_SIZE; pos += FILE_SIZE) {
        commit_log_file_path(f.log_dir, pos, path, sizeof path);
        assert_int_equal(unlink(path), 0);
    }
    int64_t min = 0;
    for (int round = 0; round < 2; round++) {
        log_fixture_forget(&f);
        log_fixture_open(&f, START_FIRST, true);
        struct picture now = picture_take(&f);
        assert_memory_equal(&now, &before, sizeof now);
        int64_t found = log_fixture_min(&f, "T", 1);
        assert_true(found > 0 && found < before.max[0][1]);
        if (round == 1) /* the same from rebuilt queues as from kept ones */
            assert_int_equal(found, min);
        min = found;
        log_fixture_die(&f);
        remove_path(&f, "consumequeue");
    }
    log_fixture_end(&f);
}

/* All messages of a queue have expired, and they filled its files to the last byte: its offsets go on all the same. */
static void test_expired_to_the_end(void **state)
{
    struct log_fixture f;
    char path[256];
    log_fixture_begin(&f, FILE_SIZE);
    log_fixture_open(&f, START_FIRST, true);
    for (unsigned i = 0; i < 2 * ENTRIES_PER_FILE; i++)
        log_fixture_put(&f, "T", 1, 30);
    int64_t begin = commit_log_end(f.store.commit_log);
    while (commit_log_files_end(f.store.commit_log) < begin + 3 * FILE_SIZE)
        log_fixture_put(&f, "T", 0, 30);
    struct topic *topic = topics_find(f.store.topics, bytes_of("T"));
    consume_queues_set_min(f.store.consume_queues, topic->slot_base + 1, topic->slot_generation, 2 * ENTRIES_PER_FILE);
    assert_int_equal(consume_queues_clean_expired(&f.store), 0);
    struct remover *remover = consume_queues_remover(f.store.consume_queues);
    for (unsigned i = 0; remover_busy(remover) && i < 30000; i++)
        usleep(1000);
    assert_false(remover_busy(remover));
    snprintf(path, sizeof path, "%s/consumequeue/T/1/%020d", f.dir, 0);
    assert_int_equal(access(path, F_OK), -1);
    int64_t last = commit_log_files_end(f.store.commit_log) - FILE_SIZE;
    log_fixture_die(&f);
    for (int64_t pos = 0; pos < last; pos += FILE_SIZE) {
        commit_log_file_path(f.log_dir, pos, path, sizeof path);
        assert_int_equal(unlink(path), 0);
    }
    log_fixture_forget(&f);
    log_fixture_open(&f, START_FIRST, true);
    assert_int_equal(log_fixture_max(&f, "T", 1), 2 * ENTRIES_PER_FILE);
    assert_int_equal(log_fixture_min(&f, "T", 1), 2 * ENTRIES_PER_FILE);
    log_fixture_die(&f);
    log_fixture_end(&f);
}

static void entry_under_way(struct log_fixture *f, unsigned index, const uint8_t *record, size_t size, int64_t pos)
{
    struct ledger_entry entry = {.ring_pos = index * 64, .peer_generation = 1, .peer_id = 1, .ring_size = 64,
                                 .log_pos = pos, .size = (uint32_t)size, .count = 1,
                                 .log_crc = crc32_gzip_refl(0, record, size)};
    ledger_put(f->store.ledger, index, &entry);
}

/* Three requests were under way, `whole` bytes of their records reached the log. */
static void warm_round(size_t whole_records, size_t extra)
{
    struct log_fixture f;
    uint8_t batch[3 * 512];
    size_t sizes[3], used = 0;
    log_fixture_begin(&f, 1 << 16);
    log_fixture_open(&f, START_FIRST, true);
    log_fixture_put(&f, "T", 0, 10);
    int64_t begin = commit_log_end(f.store.commit_log);
    ledger_begin(f.store.ledger, begin);
    for (unsigned i = 0; i < 3; i++) {
        sizes[i] = log_fixture_encode(&f, "T", 0, 30, 1 + i, begin + (int64_t)used, batch + used);
        entry_under_way(&f, i, batch + used, sizes[i], begin + (int64_t)used);
        used += sizes[i];
    }
    ledger_take(f.store.ledger, 3);
    size_t written = extra;
    for (size_t i = 0; i < whole_records; i++)
        written += sizes[i];
    if (written)
        assert_int_equal(commit_log_append(f.store.commit_log, batch, written, false), 0);
    log_fixture_die(&f);

    log_fixture_open(&f, START_AFTER_OUTSIDE, false);
    int64_t end = begin + (int64_t)(written - extra);
    assert_int_equal(commit_log_end(f.store.commit_log), end);
    assert_int_equal(ledger_applied(f.store.ledger), whole_records);
    assert_int_equal(ledger_taken(f.store.ledger), whole_records);
    assert_int_equal(ledger_closed(f.store.ledger), 0); /* to be answered */
    uint8_t rest[3 * 512];
    assert_true(commit_log_pread(f.store.commit_log, end, rest, sizeof rest) > 0);
    for (size_t i = 0; i < sizeof rest; i++)
        assert_int_equal(rest[i], 0);
    assert_int_equal(dispatch_log(f.dispatch, end, NULL, 0, 0, INT64_MAX), 0);
    assert_int_equal(log_fixture_max(&f, "T", 0), 1 + (int64_t)whole_records);
    log_fixture_die(&f);
    log_fixture_end(&f);
}

static void test_warm(void **state)
{
    for (size_t whole = 0; whole <= 3; whole++) {
        warm_round(whole, 0);
        if (whole < 3) {
            warm_round(whole, 1);
            warm_round(whole, 100);
            warm_round(whole, 150);
        }
    }
}

/* A ledger that does not fit the log is not believed. */
static void test_not_believed(void **state)
{
    struct log_fixture f;
    log_fixture_begin(&f, 1 << 16);
    log_fixture_open(&f, START_FIRST, true);
    log_fixture_put(&f, "T", 0, 10);
    uint8_t record[512];
    int64_t pos = commit_log_end(f.store.commit_log);
    size_t size = log_fixture_encode(&f, "T", 0, 30, 1, pos, record);
    entry_under_way(&f, 0, record, size, pos);
    ledger_take(f.store.ledger, 1);
    assert_int_equal(commit_log_append(f.store.commit_log, record, size, false), 0);
    ledger_apply(f.store.ledger, 1);
    f.store.cause = START_AFTER_OUTSIDE;
    assert_true(recover_is_warm(&f.store));
    f.store.cause = START_FIRST;
    assert_false(recover_is_warm(&f.store));
    f.store.cause = START_AFTER_OUTSIDE;
    int fd = log_fixture_file(&f, 0);
    assert_int_equal(pwrite(fd, "?", 1, pos + (int64_t)size - 1), 1);
    assert_false(recover_is_warm(&f.store));
    assert_int_equal(pwrite(fd, record + size - 1, 1, pos + (int64_t)size - 1), 1);
    assert_true(recover_is_warm(&f.store));
    ledger_end(f.store.ledger);
    assert_false(recover_is_warm(&f.store));
    close(fd);
    log_fixture_die(&f);
    log_fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_torn_tail),           cmocka_unit_test(test_many_files),
        cmocka_unit_test(test_queues_ahead_of_log), cmocka_unit_test(test_first_files_deleted),
        cmocka_unit_test(test_expired_to_the_end),  cmocka_unit_test(test_warm),
        cmocka_unit_test(test_not_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
