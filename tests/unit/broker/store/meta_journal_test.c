/* The metadata journal: its bytes under every cut and flip, what a fold keeps, and what a cold start finds after the image
 * was lost at any moment: beside Apache's files, older and newer, with damage, and with a disk that refuses. */
#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>

#include "broker/store/config_tables.h"
#include "broker/store/file_layer.h"
#include "broker/store/held_answers.h"
#include "broker/store/journal.h"
#include "broker/store/journal_fold.h"
#include "broker/store/json_file.h"
#include "meta_fixture.h"

enum { PATIENCE_US = 30000000, RECORDS = 24, KEYS = 5 };

/* Bytes. */

struct read_back {
    unsigned count;
    uint32_t number[RECORDS];
    uint32_t value[KEYS];
};

static int read_one(void *context, uint64_t pos, uint16_t type, struct bytes payload)
{
    struct read_back *back = context;
    struct cursor c = cursor_over(payload.data, payload.size);
    uint32_t number = cursor_get_u32(&c);
    assert_false(c.bad);
    assert_true(number < RECORDS && back->count < RECORDS);
    assert_int_equal(type, 1 + number % 3);
    assert_int_equal(payload.size, 4 + number * 7 % 19);
    back->number[back->count++] = number;
    back->value[number % KEYS] = number;
    return 0;
}

static struct journal_bytes small_file(uint64_t ends[RECORDS + 1])
{
    struct journal_bytes file = {NULL, 0, 0};
    journal_file_begin(&file, 77);
    ends[0] = file.size;
    for (uint32_t i = 0; i < RECORDS; i++) {
        uint8_t payload[64] = {0};
        memcpy(payload, &i, sizeof i);
        memset(payload + 4, (int)(0xa0 + i), i * 7 % 19);
        journal_file_add(&file, 0, 77, (uint16_t)(1 + i % 3), (struct bytes){payload, 4 + i * 7 % 19});
        ends[i + 1] = file.size;
    }
    return file;
}

static void test_every_cut(void **state)
{
    uint64_t ends[RECORDS + 1];
    struct journal_bytes file = small_file(ends);
    for (size_t size = 0; size <= file.size; size++) {
        uint8_t *copy = malloc(size ? size : 1); /* so that a sanitizer sees each byte read beyond it */
        memcpy(copy, file.data, size);
        struct read_back back = {0};
        struct journal_scan scan;
        int r = journal_file_scan(copy, size, read_one, &back, &scan);
        free(copy);
        if (size < ends[0]) {
            assert_int_equal(r, -EBADMSG);
            continue;
        }
        unsigned whole = 0; /* a record is whole without the zeros behind it */
        while (whole < RECORDS && ends[whole] + sizeof(struct journal_record) + 4 + whole * 7 % 19 <= size)
            whole++;
        assert_int_equal(r, 0);
        assert_int_equal(back.count, whole);
        assert_int_equal(scan.damages, 0);
        assert_int_equal(scan.torn, size > ends[whole] ? size - ends[whole] : 0);
    }
    journal_bytes_free(&file);
}

/* Never a crash; and what is missing, or older than what was there, has been told. */
static void test_every_flip(void **state)
{
    uint64_t ends[RECORDS + 1];
    struct journal_bytes file = small_file(ends);
    for (size_t at = 0; at < file.size; at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            struct read_back back = {0};
            struct journal_scan scan;
            file.data[at] ^= 1 << bit;
            int r = journal_file_scan(file.data, file.size, read_one, &back, &scan);
            file.data[at] ^= 1 << bit;
            assert_int_equal(r, 0);
            if (at < ends[0]) {
                assert_int_equal(scan.damages, 1);
                assert_int_equal(back.count, RECORDS);
                continue;
            }
            if (back.count == RECORDS) { /* in the zeros between two */
                assert_int_equal(scan.damages + scan.torn, 0);
                continue;
            }
            assert_int_equal(back.count, RECORDS - 1);
            assert_true(scan.damages == 1 || scan.torn > 0);
            assert_true(scan.damages == 0 || (scan.damage_pos <= at && at < scan.damage_pos + 64));
        }
    }
    journal_bytes_free(&file);
}

static void test_foreign_bytes(void **state)
{
    uint64_t ends[RECORDS + 1];
    struct journal_bytes file = small_file(ends);
    struct read_back back = {0};
    struct journal_scan scan;
    /* A record of another file, with a good CRC, at its own place: what a disk may give back. */
    struct journal_bytes other = {NULL, 0, 0};
    journal_file_begin(&other, 78);
    for (uint32_t i = 0; i < RECORDS; i++) {
        uint8_t payload[64] = {0};
        journal_file_add(&other, 0, 78, (uint16_t)(1 + i % 3), (struct bytes){payload, 4 + i * 7 % 19});
    }
    assert_int_equal(other.size, file.size);
    memcpy(file.data + ends[9], other.data + ends[9], ends[11] - ends[9]);
    assert_int_equal(journal_file_scan(file.data, file.size, read_one, &back, &scan), 0);
    assert_int_equal(back.count, RECORDS - 2);
    assert_int_equal(scan.damages, 1);
    assert_int_equal(scan.damage_pos, ends[9]);
    /* Another version. */
    ((struct journal_header *)other.data)->version++;
    assert_int_equal(journal_file_scan(other.data, other.size, NULL, NULL, &scan), 0); /* its CRC fails: damage */
    journal_bytes_free(&other);
    journal_bytes_free(&file);
    srand(4711);
    uint8_t noise[4096];
    for (unsigned i = 0; i < 200; i++) {
        for (size_t n = 0; n < sizeof noise; n++)
            noise[n] = (uint8_t)rand();
        assert_int_equal(journal_file_scan(noise, sizeof noise, NULL, NULL, &scan), -EBADMSG);
    }
}

/* A disk that refuses, or stops at a sync, for the journal alone. */

static struct {
    _Atomic int refuse; /* negative errno for each write, sync and truncate of the journal */
    _Atomic int refuse_new; /* for the making of a new file */
    _Atomic bool hold_sync;
    _Atomic unsigned held, refused;
} disk;

static int disk_before(void *context, const struct file_event *event, size_t *most)
{
    if (!strstr(event->site->file, "store/journal.c"))
        return 0;
    if (event->op == FILE_SYNC && atomic_load(&disk.hold_sync)) {
        atomic_fetch_add(&disk.held, 1);
        while (atomic_load(&disk.hold_sync))
            usleep(1000);
    }
    int r = event->op == FILE_WRITE || event->op == FILE_SYNC || event->op == FILE_OPEN ? atomic_load(&disk.refuse) : 0;
    if (r == 0 && event->op == FILE_OPEN && event->flags & O_CREAT)
        r = atomic_load(&disk.refuse_new);
    if (r < 0)
        atomic_fetch_add(&disk.refused, 1);
    return r;
}

static void disk_after(void *context, const struct file_event *event, int64_t result) {}

static const struct file_watch disk_watch = {disk_before, disk_after, NULL};

/* A store that runs, as far as metadata goes. */

struct running {
    struct fixture f;
    sd_event *event;
    bool sync_flush;
};

static void run_open(struct running *run, bool warm)
{
    assert_int_equal(fixture_open(&run->f, warm), 0);
    run->f.store.event = run->event;
    run->f.store.runtime_dir = run->f.dir;
    run->f.store.config.sync_flush = run->sync_flush;
    run->f.store.config.flush_offset_interval_ms = 200;
    assert_int_equal(metadata_start(&run->f.store), 0);
}

static void run_begin(struct running *run)
{
    memset(run, 0, sizeof *run);
    fixture_begin(&run->f);
    assert_int_equal(sd_event_new(&run->event), 0);
}

static int on_patience(sd_event_source *source, uint64_t usec, void *context)
{
    fail_msg("nothing happens");
    return 0;
}

#define RUN_UNTIL(run, condition)                                                                                      \
    do {                                                                                                               \
        sd_event_source *patience_ = NULL;                                                                             \
        assert_true(sd_event_add_time_relative((run)->event, &patience_, CLOCK_MONOTONIC, PATIENCE_US, 0,              \
                                               on_patience, NULL) >= 0);                                               \
        while (!(condition)) {                                                                                         \
            metadata_answer_held(&(run)->f.store);                                                                     \
            assert_true(sd_event_run((run)->event, 10000) >= 0);                                                       \
        }                                                                                                              \
        sd_event_source_disable_unref(patience_);                                                                      \
    } while (0)

static void run_end(struct running *run)
{
    fixture_end(&run->f);
    sd_event_unref(run->event);
}

static bool is_journalled(struct running *run)
{
    return held_answers_are_due(&run->f.store);
}

/* What a host that dies now leaves: the folder as it is, and no memory. A store opens it, cold. The journal is copied last:
 * a JSON file is never there before its note. */
static void open_copy(struct running *run, struct fixture *copy)
{
    char command[600];
    fixture_begin(copy);
    snprintf(command, sizeof command, "mkdir '%s/config' && { cp -a '%s/config/'*.json* '%s/config/' 2>/dev/null; "
             "{ test ! -e '%s/config/" JOURNAL_NAME "' || cp -a '%s/config/" JOURNAL_NAME "' '%s/config/'; }; }",
             copy->dir, run->f.dir, copy->dir, run->f.dir, run->f.dir, copy->dir); /* its thread may not have begun it yet */
    assert_int_equal(system(command), 0);
    assert_int_equal(fixture_open(copy, false), 0);
}

static void add_topic(struct running *run, const char *name, int queues)
{
    struct topic *topic;
    struct topic_wish wish = {.name = bytes_of(name), .read_queues = queues, .write_queues = queues, .perm = 6};
    assert_int_equal(topics_put(&run->f.store, &wish, &topic), 0);
}

static int queues_of(struct fixture *f, const char *name)
{
    const struct topic *topic = topics_find(f->store.topics, bytes_of(name));
    return topic ? topic->write_queues : -1;
}

static int64_t offset_of(struct fixture *f, const char *group, const char *topic, int32_t queue)
{
    int64_t offset;
    const char *remark;
    (void)offsets_query(&f->store, bytes_of(group), bytes_of(topic), queue, false, &offset, &remark);
    return offset;
}

static void commit(struct running *run, const char *group, const char *topic, int32_t queue, int64_t offset)
{
    const char *remark;
    assert_int_equal(offsets_commit(&run->f.store, bytes_of(group), bytes_of(topic), queue, offset, &remark), 0);
}

static bool is_kept_offset(struct running *run, const char *group, const char *topic, int64_t offset)
{
    struct fixture copy;
    open_copy(run, &copy);
    bool is = offset_of(&copy, group, topic, 0) == offset;
    fixture_end(&copy);
    return is;
}

/* Everything of a table as one text, in an order that does not depend on its history. */
static char *text_of(struct store *store, void (*print)(struct store *store, struct text *text))
{
    struct text text = {NULL, 0, 0};
    const char *error;
    print(store, &text);
    json_t *json = json_body_parse((struct bytes){(const uint8_t *)text.data, text.size}, &error);
    assert_non_null(json);
    char *sorted = json_dumps(json, JSON_SORT_KEYS | JSON_INDENT(1));
    json_decref(json);
    text_free(&text);
    return sorted;
}

static void expect_same(struct store *a, struct store *b)
{
    void (*const prints[])(struct store *, struct text *) = {config_tables_print_topics, config_tables_print_groups,
                                                             config_tables_print_offsets};
    for (unsigned i = 0; i < 3; i++) {
        char *one = text_of(a, prints[i]), *two = text_of(b, prints[i]);
        assert_string_equal(one, two);
        free(one);
        free(two);
    }
}

static void drop_topic(struct running *run, const char *name)
{
    const char *remark;
    assert_int_equal(topics_admin_drop(&run->f.store, bytes_of(name), &remark), 0);
}

/* The image is gone: topics with all queues, groups, and offsets of the last round. JSON files play no part: they are
 * removed. */
static void test_host_dies(void **state)
{
    struct running run;
    struct fixture copy;
    run_begin(&run);
    run_open(&run, false);
    add_topic(&run, "orders", 6);
    add_topic(&run, "gone", 3);
    assert_non_null(groups_ensure(&run.f.store, TEXT("g1")));
    commit(&run, "g1", "orders", 0, 41);
    commit(&run, "g1", "gone", 0, 41);
    RUN_UNTIL(&run, is_kept_offset(&run, "g1", "orders", 41));
    drop_topic(&run, "gone");
    add_topic(&run, "gone", 2); /* another one of that name: it has no offsets */
    commit(&run, "g1", "orders", 0, 42);
    add_topic(&run, "last", 9);
    RUN_UNTIL(&run, is_journalled(&run));
    open_copy(&run, &copy);
    assert_int_equal(queues_of(&copy, "orders"), 6);
    assert_int_equal(queues_of(&copy, "last"), 9);
    assert_int_equal(queues_of(&copy, "gone"), 2);
    assert_non_null(groups_find(copy.store.groups, TEXT("g1")));
    assert_true(offset_of(&copy, "g1", "orders", 0) >= 41);
    assert_int_equal(offset_of(&copy, "g1", "gone", 0), -1);
    fixture_end(&copy);
    RUN_UNTIL(&run, is_kept_offset(&run, "g1", "orders", 42));
    run_end(&run);
}

/* Random changes; whenever the journal has come to rest, a cold start finds just this state. The journal is replaced by
 * smaller ones many times meanwhile, and the image is flipped. */
static void test_random_changes(void **state)
{
    struct running run;
    char name[32], group[32];
    const char *remark;
    run_begin(&run);
    run_open(&run, false);
    srand(20261123);
    for (unsigned i = 0; i < 1500; i++) {
        snprintf(name, sizeof name, "topic-%d", rand() % 20);
        snprintf(group, sizeof group, "group-%d", rand() % 10);
        int what = rand() % 20;
        if (what == 0)
            drop_topic(&run, name);
        else if (what == 1)
            (void)groups_admin_drop(&run.f.store, bytes_of(group), rand() % 2, &remark);
        else if (what == 2)
            (void)groups_forbid(&run.f.store, bytes_of(group), bytes_of(name), rand() % 2, &remark);
        else if (what < 6)
            add_topic(&run, name, 1 + rand() % 8);
        else if (what < 9)
            assert_non_null(groups_ensure(&run.f.store, bytes_of(group)));
        else if (what == 9)
            (void)offsets_reset(&run.f.store, bytes_of(group), bytes_of(name), 0, rand() % 1000, &remark);
        else
            (void)offsets_commit(&run.f.store, bytes_of(group), bytes_of(name), rand() % 4, rand() % 100000, &remark);
        if (i % 400 == 399)
            assert_int_equal(image_flip(run.f.store.image), 0);
        if (i % 150 != 149)
            continue;
        struct fixture copy;
        uint64_t mark = image_mark(run.f.store.image);
        journal_want_offsets(run.f.store.journal, mark);
        RUN_UNTIL(&run, is_journalled(&run) &&
                            atomic_load(&image_journal(run.f.store.image)->offsets_mark) >= mark);
        open_copy(&run, &copy);
        expect_same(&run.f.store, &copy.store);
        fixture_end(&copy);
    }
    run_end(&run);
}

/* About 2 KB for the journal. */
static void change_topic(struct running *run, const char *extra, int i)
{
    struct topic *topic;
    struct topic_wish wish = {.name = TEXT("t"), .read_queues = 4, .write_queues = 4, .perm = i % 2 ? 6 : 4, .extra = extra};
    assert_int_equal(topics_put(&run->f.store, &wish, &topic), 0);
}

static void make_extra(char *extra, size_t size)
{
    memset(extra, 'x', size);
    memcpy(extra, "{\"k\":\"", 6);
    memcpy(extra + size - 3, "\"}", 3);
}

static void test_stays_small(void **state)
{
    struct running run;
    char extra[2000];
    uint64_t largest = 0;
    run_begin(&run);
    run_open(&run, false);
    add_topic(&run, "t", 4);
    make_extra(extra, sizeof extra);
    for (int i = 0; i < 4000; i++) { /* 8 MB of changes to one topic */
        change_topic(&run, extra, i);
        if (i % 50 == 0)
            RUN_UNTIL(&run, is_journalled(&run));
        uint64_t size = journal_end_pos(run.f.store.journal);
        largest = size > largest ? size : largest;
    }
    assert_true(largest < 3 * JOURNAL_SIZE_LEAST);
    run_end(&run);
}

/* A disk without room for a smaller file: the large one goes on. */
static void test_cannot_be_smaller(void **state)
{
    struct running run;
    char extra[2000];
    int changes = 0, after = 0;
    run_begin(&run);
    run_open(&run, false);
    add_topic(&run, "t", 4);
    make_extra(extra, sizeof extra);
    RUN_UNTIL(&run, is_journalled(&run));
    atomic_store(&disk.refused, 0);
    atomic_store(&disk.refuse_new, -ENOSPC);
    file_layer_watch(&disk_watch);
    while (after < 200 && changes < 4000) {
        change_topic(&run, extra, changes++);
        RUN_UNTIL(&run, is_journalled(&run) || journal_error(run.f.store.journal) < 0);
        assert_int_equal(journal_error(run.f.store.journal), 0);
        after += atomic_load(&disk.refused) > 0;
    }
    assert_int_equal(after, 200);
    atomic_store(&disk.refuse_new, 0);
    file_layer_watch(NULL);
    run_end(&run);
}

/* The store alone dies, its journal not up to date: the successor brings it there from the image. */
static void test_store_dies(void **state)
{
    struct running run;
    struct fixture copy;
    run_begin(&run);
    run_open(&run, false);
    add_topic(&run, "before", 2);
    RUN_UNTIL(&run, is_journalled(&run));
    file_layer_watch(&disk_watch);
    atomic_store(&disk.refuse, -EIO); /* from here on nothing reaches the file, also not at its end */
    add_topic(&run, "between", 5);
    assert_non_null(groups_ensure(&run.f.store, TEXT("g1")));
    commit(&run, "g1", "before", 1, 7);
    fixture_die(&run.f);
    atomic_store(&disk.refuse, 0);
    file_layer_watch(NULL);
    for (unsigned i = 0; i < 2; i++) {
        run_open(&run, true);
        assert_int_equal(queues_of(&run.f, "between"), 5);
        RUN_UNTIL(&run, is_journalled(&run) &&
                            atomic_load(&image_journal(run.f.store.image)->offsets_mark) > 0);
        open_copy(&run, &copy);
        assert_int_equal(queues_of(&copy, "before"), 2);
        assert_int_equal(queues_of(&copy, "between"), 5);
        assert_int_equal(offset_of(&copy, "g1", "before", 1), 7);
        fixture_end(&copy);
        fixture_die(&run.f);
    }
    assert_int_equal(fixture_open(&run.f, true), 0);
    run_end(&run);
}

/* Requests. */

static void send_topic(struct running *run, uint64_t token, const char *name)
{
    uint8_t buffer[256];
    struct cursor c = cursor_over(buffer, sizeof buffer);
    struct msg_topic_put put = {.token = token, .read_queues = 3, .write_queues = 3, .perm = 6};
    memcpy(cursor_take(&c, sizeof put), &put, sizeof put);
    cursor_put_string(&c, bytes_of(name));
    cursor_put_string(&c, (struct bytes){NULL, 0});
    send_record(&run->f, 0, MSG_TOPIC_PUT, buffer, (size_t)(c.pos - buffer));
}

static void send_commit(struct running *run, uint64_t token, int64_t value)
{
    uint8_t buffer[256];
    struct cursor c = cursor_over(buffer, sizeof buffer);
    struct msg_offset offset = {.token = token, .offset = value};
    memcpy(cursor_take(&c, sizeof offset), &offset, sizeof offset);
    cursor_put_string(&c, TEXT("g1"));
    cursor_put_string(&c, TEXT("t0"));
    send_record(&run->f, 0, MSG_OFFSET_COMMIT, buffer, (size_t)(c.pos - buffer));
}

/* The answer with this token, if it is there. */
static bool take_answer(struct running *run, uint64_t token, int32_t *ret_code, char *ret_remark, size_t remark_size)
{
    struct ring_view view;
    ring_publish(&run->f.list[0]->control_out);
    while (next_reply(&run->f, 0, &view)) {
        struct msg_answer answer;
        if (view.record.kind != MSG_ANSWER)
            continue;
        memcpy(&answer, view.payload, sizeof answer);
        assert_int_equal(answer.token, token);
        *ret_code = answer.code;
        snprintf(ret_remark, remark_size, "%.*s", (int)answer.remark_size, (const char *)view.payload + sizeof answer);
        return true;
    }
    return false;
}

static void test_sync_before_answer(void **state)
{
    struct running run;
    int32_t code;
    char remark[200];
    run_begin(&run);
    run.sync_flush = true;
    run_open(&run, false);
    struct peer *peer = fixture_add_front(&run.f, 1, 256 * 1024);
    RUN_UNTIL(&run, is_journalled(&run));
    file_layer_watch(&disk_watch);
    atomic_store(&disk.held, 0);
    atomic_store(&disk.hold_sync, true);
    send_topic(&run, 5, "t0");
    uint64_t pos = metadata_release_pos(&run.f.store, peer);
    assert_true(pos < peer->control_in.next_pos); /* a successor finds the request */
    RUN_UNTIL(&run, atomic_load(&disk.held) > 0);
    metadata_answer_held(&run.f.store);
    assert_false(take_answer(&run, 5, &code, remark, sizeof remark));
    atomic_store(&disk.hold_sync, false);
    RUN_UNTIL(&run, take_answer(&run, 5, &code, remark, sizeof remark));
    assert_int_equal(code, 0);
    assert_int_equal(metadata_release_pos(&run.f.store, peer), peer->control_in.next_pos);
    struct fixture copy;
    open_copy(&run, &copy);
    assert_int_equal(queues_of(&copy, "t0"), 3);
    fixture_end(&copy);
    file_layer_watch(NULL);
    run_end(&run);
}

static void test_full_disk(void **state)
{
    struct running run;
    int32_t code;
    char remark[200];
    run_begin(&run);
    run_open(&run, false);
    fixture_add_front(&run.f, 1, 256 * 1024);
    send_topic(&run, 4, "t0");
    RUN_UNTIL(&run, take_answer(&run, 4, &code, remark, sizeof remark));
    assert_int_equal(code, 0);
    assert_non_null(groups_ensure(&run.f.store, TEXT("g1")));
    RUN_UNTIL(&run, is_journalled(&run));
    file_layer_watch(&disk_watch);
    atomic_store(&disk.refuse, -ENOSPC);
    for (uint64_t token = 5; token < 8; token++) { /* the first finds it out, the others are refused at once */
        snprintf(remark, sizeof remark, "t%d", (int)token);
        send_topic(&run, token, remark);
        RUN_UNTIL(&run, take_answer(&run, token, &code, remark, sizeof remark));
        assert_int_equal(code, 1);
        assert_non_null(strstr(remark, strerror(ENOSPC)));
    }
    assert_null(topics_find(run.f.store.topics, TEXT("t6")));
    send_commit(&run, 9, 55); /* consumption goes on */
    assert_true(take_answer(&run, 9, &code, remark, sizeof remark));
    assert_int_equal(code, 0);
    assert_int_equal(offset_of(&run.f, "g1", "t0", 0), 55);
    atomic_store(&disk.refuse, 0);
    RUN_UNTIL(&run, journal_error(run.f.store.journal) == 0);
    file_layer_watch(NULL);
    send_topic(&run, 10, "t10");
    RUN_UNTIL(&run, take_answer(&run, 10, &code, remark, sizeof remark));
    assert_int_equal(code, 0);
    RUN_UNTIL(&run, is_kept_offset(&run, "g1", "t0", 55));
    struct fixture copy;
    open_copy(&run, &copy);
    assert_int_equal(queues_of(&copy, "t10"), 3);
    assert_int_equal(queues_of(&copy, "t5"), 3); /* it was said to be in doubt */
    fixture_end(&copy);
    run_end(&run);
}

/* A failed sync is never asked again: a new file takes the place of the old one. */
static void test_failed_sync(void **state)
{
    struct running run;
    run_begin(&run);
    run.sync_flush = true;
    run_open(&run, false);
    RUN_UNTIL(&run, is_journalled(&run));
    uint64_t id = atomic_load(&image_journal(run.f.store.image)->file_id);
    file_layer_watch(&disk_watch);
    atomic_store(&disk.refuse, -EIO);
    add_topic(&run, "t0", 3);
    RUN_UNTIL(&run, journal_error(run.f.store.journal) == -EIO);
    atomic_store(&disk.refuse, 0);
    RUN_UNTIL(&run, is_journalled(&run));
    file_layer_watch(NULL);
    (void)id;
    struct fixture copy;
    open_copy(&run, &copy);
    assert_int_equal(queues_of(&copy, "t0"), 3);
    fixture_end(&copy);
    run_end(&run);
}

/* Beside Apache's files. */

static void config_path(const struct fixture *f, const char *name, char path[128])
{
    snprintf(path, 128, "%s/config/%s", f->dir, name);
}

static char *get_text(const struct fixture *f, const char *name)
{
    char path[128], *data = NULL;
    struct json_file_stamp stamp;
    config_path(f, name, path);
    assert_int_equal(json_file_bytes(path, &data, &stamp), 0);
    char *text = strndup(data, stamp.size);
    free(data);
    return text;
}

static long counter_in(const char *text)
{
    const char *at = strstr(text, "\"counter\":");
    assert_non_null(at);
    return strtol(at + strlen("\"counter\":"), NULL, 10);
}

static void put_text(const struct fixture *f, const char *name, const char *text)
{
    char path[128];
    config_path(f, name, path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

static void set_time(const struct fixture *f, const char *name, time_t when)
{
    char path[128];
    config_path(f, name, path);
    struct timespec times[2] = {{.tv_sec = when}, {.tv_sec = when}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

/* A stopped store: one topic, one group, offset 10. */
static void make_stopped(struct running *run)
{
    run_begin(run);
    run_open(run, false);
    add_topic(run, "t", 4);
    assert_non_null(groups_ensure(&run->f.store, TEXT("g")));
    commit(run, "g", "t", 0, 10);
    fixture_die(&run->f);
}

static void replace(char **text, const char *what, const char *by)
{
    char *at = strstr(*text, what), *out = NULL;
    assert_non_null(at);
    assert_true(asprintf(&out, "%.*s%s%s", (int)(at - *text), *text, by, at + strlen(what)) > 0);
    free(*text);
    *text = out;
}

static void test_newer_wins(void **state)
{
    struct running run;
    make_stopped(&run);
    /* Apache moves an offset on: no new version, a later file. */
    char *text = get_text(&run.f, "consumerOffset.json"), *ours = strdup(text);
    replace(&text, "{0:10", "{0:33");
    put_text(&run.f, "consumerOffset.json", text);
    set_time(&run.f, "consumerOffset.json", time(NULL) + 100);
    assert_int_equal(fixture_open(&run.f, false), 0);
    assert_int_equal(offset_of(&run.f, "g", "t", 0), 33);
    assert_int_equal(queues_of(&run.f, "t"), 4);
    fixture_die(&run.f);
    /* The same file, but from before our last word: a copy that was put back. */
    set_time(&run.f, "consumerOffset.json", 1000000);
    assert_int_equal(fixture_open(&run.f, false), 0);
    assert_int_equal(offset_of(&run.f, "g", "t", 0), 10);
    fixture_die(&run.f);
    /* Our own, however late somebody touched it. */
    put_text(&run.f, "consumerOffset.json", ours);
    set_time(&run.f, "consumerOffset.json", time(NULL) + 100);
    assert_int_equal(fixture_open(&run.f, false), 0);
    assert_int_equal(offset_of(&run.f, "g", "t", 0), 10);
    free(text);
    free(ours);
    run_end(&run);
}

/* A version that went on says who wrote last, whatever the clock says. The store that took it over keeps it. */
static void test_newer_version_wins(void **state)
{
    struct running run;
    make_stopped(&run);
    char *text = get_text(&run.f, "topics.json");
    long counter = counter_in(text);
    char old[64], next[64];
    snprintf(old, sizeof old, "\"counter\":%ld", counter);
    snprintf(next, sizeof next, "\"counter\":%ld", counter + 1);
    replace(&text, old, next);
    replace(&text, "\"topicConfigTable\":{", "\"topicConfigTable\":{\"apache\":{\"writeQueueNums\":7,\"readQueueNums\":7},");
    put_text(&run.f, "topics.json", text);
    set_time(&run.f, "topics.json", 1000000);
    for (unsigned i = 0; i < 3; i++) {
        run_open(&run, false);
        assert_int_equal(queues_of(&run.f, "apache"), 7);
        assert_int_equal(queues_of(&run.f, "t"), 4);
        assert_int_equal(offset_of(&run.f, "g", "t", 0), 10);
        RUN_UNTIL(&run, is_journalled(&run));
        fixture_die(&run.f);
    }
    free(text);
    assert_int_equal(fixture_open(&run.f, false), 0);
    run_end(&run);
}

/* Files that Apache emptied or tore while it died: the journal has what they held. */
static void test_files_lost(void **state)
{
    struct running run;
    make_stopped(&run);
    put_text(&run.f, "topics.json", "");
    put_text(&run.f, "topics.json.bak", "");
    put_text(&run.f, "consumerOffset.json", "{\"offsetTable\":{\"t@g\":{0:1");
    put_text(&run.f, "consumerOffset.json.bak", "no");
    char path[128];
    config_path(&run.f, "subscriptionGroup.json", path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(fixture_open(&run.f, false), 0);
    assert_int_equal(queues_of(&run.f, "t"), 4);
    assert_int_equal(offset_of(&run.f, "g", "t", 0), 10);
    assert_non_null(groups_find(run.f.store.groups, TEXT("g")));
    run_end(&run);
}

static unsigned in_quarantine(const struct fixture *f)
{
    char path[128];
    snprintf(path, sizeof path, "%s/quarantine", f->dir);
    DIR *dir = opendir(path);
    unsigned count = 0;
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        count += strncmp(entry->d_name, JOURNAL_NAME, strlen(JOURNAL_NAME)) == 0;
    if (dir)
        closedir(dir);
    return count;
}

/* One byte of the journal after the other is turned over, the JSON files of a moment earlier beside it: what is damaged is
 * kept aside, and with the JSON files nothing of theirs is lost. */
static void test_damage_with_files(void **state)
{
    struct running run;
    make_stopped(&run);
    char path[128], *data = NULL;
    struct json_file_stamp stamp;
    config_path(&run.f, JOURNAL_NAME, path);
    assert_int_equal(json_file_bytes(path, &data, &stamp), 0);
    unsigned aside = 0, step = 61; /* each 61st byte: all of them are in test_every_flip */
    for (size_t at = 0; at < stamp.size; at += step) {
        int fd = open(path, O_WRONLY);
        char turned = (char)~data[at];
        assert_int_equal(pwrite(fd, &turned, 1, (off_t)at), 1);
        assert_int_equal(fixture_open(&run.f, false), 0);
        assert_int_equal(queues_of(&run.f, "t"), 4);
        assert_int_equal(offset_of(&run.f, "g", "t", 0), 10);
        assert_non_null(groups_find(run.f.store.groups, TEXT("g")));
        fixture_die(&run.f);
        assert_int_equal(pwrite(fd, &data[at], 1, (off_t)at), 1);
        close(fd);
    }
    aside = in_quarantine(&run.f);
    assert_true(aside > 0);
    free(data);
    assert_int_equal(fixture_open(&run.f, false), 0);
    run_end(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_cut),          cmocka_unit_test(test_every_flip),
        cmocka_unit_test(test_foreign_bytes),      cmocka_unit_test(test_host_dies),
        cmocka_unit_test(test_random_changes),     cmocka_unit_test(test_stays_small),
        cmocka_unit_test(test_cannot_be_smaller),
        cmocka_unit_test(test_store_dies),         cmocka_unit_test(test_sync_before_answer),
        cmocka_unit_test(test_full_disk),          cmocka_unit_test(test_failed_sync),
        cmocka_unit_test(test_newer_wins),         cmocka_unit_test(test_newer_version_wins),
        cmocka_unit_test(test_files_lost),         cmocka_unit_test(test_damage_with_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
