/* The index of keys against a second, plain making of it (index_oracle.h): whole service on real files, through deaths at every
 * store to the map, power cuts that keep only what was synced, files that are damaged or of another shape, a full disk. */
#include "log_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>

#include "base/clock.h"
#include "broker/store/file_layer.h"
#include "broker/store/flush.h"
#include "broker/store/index.h"
#include "broker/store/index_file.h"
#include "broker/format/layout.h"
#include "index_oracle.h"

enum { FILE_SIZE = 16384, SLOTS = 13, ENTRIES = 40, MANY_ENTRIES = 30000 };

struct index_fixture {
    struct log_fixture log;
    struct oracle oracle;
    uint32_t entries;
    uint64_t seed;
};

static uint64_t random_next(struct index_fixture *f)
{
    f->seed ^= f->seed << 13;
    f->seed ^= f->seed >> 7;
    f->seed ^= f->seed << 17;
    return f->seed;
}

static void begin(struct index_fixture *f)
{
    *f = (struct index_fixture){.entries = ENTRIES, .seed = 88172645463325252ull};
    log_fixture_begin(&f->log, FILE_SIZE);
    if (access("/dev/shm", W_OK) == 0) { /* thousands of syncs, and none of them is what this is about */
        assert_int_equal(rmdir(f->log.dir), 0);
        snprintf(f->log.dir, sizeof f->log.dir, "/dev/shm/pintle-log-XXXXXX");
        assert_non_null(mkdtemp(f->log.dir));
        snprintf(f->log.log_dir, sizeof f->log.log_dir, "%s/commitlog", f->log.dir);
    }
}

static void end(struct index_fixture *f)
{
    oracle_done(&f->oracle);
    log_fixture_end(&f->log);
}

static void index_open(struct index_fixture *f, enum index_trust trust)
{
    struct store *store = &f->log.store;
    struct checkpoint checkpoint;
    store->config.index = true;
    store->config.index_slots = SLOTS;
    store->config.index_entries = f->entries;
    store->config.commit_log_file_size = FILE_SIZE;
    assert_true(sd_event_new(&store->event) >= 0);
    assert_int_equal(checkpoint_read(f->log.dir, &checkpoint), 0);
    assert_int_equal(flush_start(store, 0, &checkpoint, false, &store->flush), 0);
    assert_int_equal(index_start(store, trust, &checkpoint, store->flush, &store->index), 0);
}

static bool index_close(struct index_fixture *f)
{
    struct store *store = &f->log.store;
    bool complete = index_stop(store->index);
    store->index = NULL;
    flush_stop(store->flush, NULL);
    sd_event_unref(store->event);
    return complete;
}

/* One message with 0 to 5 keys, also blanks between them. */
static void put(struct index_fixture *f)
{
    static uint8_t buffer[16384], body[3000];
    static const uint8_t ip[4] = {10, 0, 0, 9};
    struct store *store = &f->log.store;
    struct commit_log *log = store->commit_log;
    struct topic *topic;
    const char *remark;
    char properties[256];
    uint64_t dice = random_next(f);
    int n = snprintf(properties, sizeof properties, "TAGS\1A\2");
    if (dice % 16)
        n += snprintf(properties + n, sizeof properties - (size_t)n, "UNIQ_KEY\1%016" PRIX64 "\2", random_next(f));
    if (dice % 3)
        n += snprintf(properties + n, sizeof properties - (size_t)n, "KEYS\1");
    for (uint64_t i = 0; dice % 3 && i < dice / 3 % 5; i++)
        n += snprintf(properties + n, sizeof properties - (size_t)n, i % 2 ? "  k%" PRIu64 : " k%" PRIu64, random_next(f) % 9);
    const char *name = dice % 5 ? "T" : "Other";
    assert_int_equal(topics_auto_create(store, bytes_of(name), bytes_of("TBW102"), 4, false, &topic, &remark), 0);
    struct consume_queue *queue = log_fixture_queue(&f->log, name, (int32_t)(dice % 4));
    int64_t pos = commit_log_end(log);
    struct properties found;
    struct encode_message message = {.topic = bytes_of(name), .body = {body, dice / 64 % 600}, .found = &found,
                                     .properties = {(const uint8_t *)properties, (size_t)n},
                                     .queue_id = (int32_t)(dice % 4), .store_ms = 1700000000000 + pos * 7, .born_ip = ip};
    properties_scan(message.properties, &found);
    assert_int_equal(encode_prepare(&f->log.host, &message, true), 0);
    if ((int64_t)message.record_size + RECORD_BLANK_SIZE > commit_log_file_left(log, pos)) {
        encode_blank(buffer, commit_log_file_left(log, pos));
        assert_int_equal(commit_log_append(log, buffer, RECORD_BLANK_SIZE, true), 0);
        pos = commit_log_end(log);
    }
    encode_record(&f->log.host, &message, queue->next_offset, pos, buffer);
    assert_int_equal(commit_log_append(log, buffer, message.record_size, false), 0);
    queue->next_offset++;
}

static void dispatch(struct index_fixture *f)
{
    assert_int_equal(dispatch_log(f->log.dispatch, commit_log_end(f->log.store.commit_log), NULL, 0, 0, INT64_MAX), 0);
}

/* What the log holds now is what must be indexed. */
static void oracle_make(struct index_fixture *f)
{
    struct log_reader reader;
    struct record record;
    struct commit_log *log = f->log.store.commit_log;
    oracle_done(&f->oracle);
    f->oracle = (struct oracle){.slots = SLOTS, .entries = f->entries};
    log_reader_init(&reader, log);
    for (int64_t pos = commit_log_min_pos(log); pos < commit_log_end(log); pos += record.size) {
        int kind = log_reader_record(&reader, pos, true, &record);
        assert_true(kind == RECORD_MESSAGE || kind == RECORD_BLANK);
        if (kind == RECORD_MESSAGE)
            oracle_record(&f->oracle, record.topic, record.properties, record.pos, record.store_ms);
    }
    log_reader_done(&reader);
}

static void run(struct index_fixture *f, enum start_cause cause, bool clean, enum index_trust trust, unsigned messages)
{
    log_fixture_open(&f->log, cause, clean);
    index_open(f, trust);
    for (unsigned i = 0; i < messages; i++) {
        put(f);
        if (random_next(f) % 4 == 0)
            dispatch(f);
    }
    dispatch(f);
    assert_true(index_close(f));
    oracle_make(f);
    log_fixture_die(&f->log);
}

static void agree(struct index_fixture *f)
{
    assert_true(oracle_agrees(&f->oracle, f->log.dir));
}

/* Many files, and starts between them. */
static void test_starts(void **state)
{
    struct index_fixture f;
    begin(&f);
    for (int i = 0; i < 12; i++) {
        run(&f, START_FIRST, true, INDEX_TRUST_ALL, 60);
        agree(&f);
        log_fixture_forget(&f.log);
    }
    /* From nothing. */
    char command[256];
    snprintf(command, sizeof command, "rm -rf '%s/index'", f.log.dir);
    assert_int_equal(system(command), 0);
    run(&f, START_FIRST, true, INDEX_TRUST_ALL, 0);
    agree(&f);
    assert_true(f.oracle.file_count > 20);
    end(&f);
}

struct death {
    unsigned stores, at;
};

static void nothing_after(void *context, const struct file_event *event, int64_t result)
{
}

/* The child ends before its n-th store to a map; what it did before is in the kernel's pages. */
static int child_before(void *context, const struct file_event *event, size_t *most)
{
    struct death *death = context;
    if (event->op == FILE_MAP_STORE && death->stores++ == death->at)
        kill(getpid(), SIGKILL);
    return 0;
}

static void test_deaths(void **state)
{
    struct index_fixture f;
    begin(&f);
    run(&f, START_FIRST, true, INDEX_TRUST_ALL, 150);
    /* Each round: everything that is indexed is thrown away behind some message; a child makes it again and dies at a store. */
    for (unsigned at = 0; at < 600; at += at < 24 ? 1 : 23) {
        log_fixture_forget(&f.log);
        char command[256];
        snprintf(command, sizeof command, "rm -rf '%s/index'", f.log.dir);
        if (at % 3 == 0)
            assert_int_equal(system(command), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            struct death death = {.at = at};
            const struct file_watch watch = {child_before, nothing_after, &death};
            log_fixture_open(&f.log, START_FIRST, true);
            index_open(&f, INDEX_TRUST_ALL);
            file_layer_watch(&watch);
            for (int i = 0; i < 3; i++)
                put(&f);
            dispatch(&f);
            index_close(&f);
            kill(getpid(), SIGKILL);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        random_next(&f); /* other messages than the child's */
        run(&f, START_FIRST, true, INDEX_TRUST_ALL, 1);
        agree(&f);
    }
    end(&f);
}

static void copy(const char *from, const char *to)
{
    char command[512];
    snprintf(command, sizeof command, "rm -rf '%s' && cp -a '%s' '%s'", to, from, to);
    assert_int_equal(system(command), 0);
}

static void spoil_file(const char *path, size_t from, unsigned seed)
{
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    struct stat status;
    assert_int_equal(fstat(fd, &status), 0);
    for (size_t at = from; at < (size_t)status.st_size; at++) {
        uint8_t byte = (uint8_t)(seed = seed * 1103515245u + 12345u) ;
        if (seed >> 16 & 1)
            assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    }
    close(fd);
}

/* A power cut: of the newest file only the synced entries and the header's first words are sure; slots, count and entries
 * behind are rubbish, and files that were not synced are rubbish wholly. */
static void test_power_cut(void **state)
{
    struct index_fixture f;
    begin(&f);
    run(&f, START_FIRST, true, INDEX_TRUST_ALL, 100); /* ends with a sync, so the checkpoint speaks of all */
    struct checkpoint checkpoint;
    assert_int_equal(checkpoint_read(f.log.dir, &checkpoint), 0);
    assert_true(checkpoint.index.name > 0 && checkpoint.index.count > 1 && checkpoint.index.count < ENTRIES);
    assert_true(checkpoint.index.full_name > 0 && checkpoint.index_ms > 0);
    char index[128], saved[128], log_saved[128], path[256], note[128], note_saved[128];
    snprintf(index, sizeof index, "%s/index", f.log.dir);
    snprintf(saved, sizeof saved, "%s/index-saved", f.log.dir);
    snprintf(log_saved, sizeof log_saved, "%s/log-saved", f.log.dir);
    snprintf(note, sizeof note, "%s/checkpoint", f.log.dir);
    snprintf(note_saved, sizeof note_saved, "%s/checkpoint-saved", f.log.dir);
    copy(index, saved);
    copy(f.log.log_dir, log_saved);
    copy(note, note_saved);
    for (unsigned round = 0; round < 12; round++) {
        log_fixture_forget(&f.log);
        run(&f, START_FIRST, true, INDEX_TRUST_ALL, round * 5);
        copy(note_saved, note);
        /* Slots, count, and what lies behind the synced entries. */
        snprintf(path, sizeof path, "%s/%017" PRId64, index, checkpoint.index.name);
        size_t entries = INDEX_HEADER_SIZE + INDEX_SLOT_SIZE * SLOTS;
        uint8_t kept[INDEX_ENTRY_SIZE * ENTRIES];
        int fd = open(path, O_RDWR);
        assert_true(fd >= 0);
        size_t sure = INDEX_ENTRY_SIZE * (size_t)checkpoint.index.count;
        assert_int_equal(pread(fd, kept, sure, (off_t)entries), sure);
        if (round % 3) {
            spoil_file(path, INDEX_HEADER_SIZE, round);
            assert_int_equal(pwrite(fd, kept, sure, (off_t)entries), sure);
        }
        close(fd);
        struct dirent **names;
        int count = scandir(index, &names, oracle_is_name, alphasort);
        for (int i = 0; i < count; i++) {
            char other[512];
            snprintf(other, sizeof other, "%s/%s", index, names[i]->d_name);
            if (strcmp(other, path) > 0 && round % 2)
                spoil_file(other, 0, round);
            free(names[i]);
        }
        free(names);
        log_fixture_forget(&f.log);
        run(&f, START_FIRST, false, INDEX_TRUST_SYNCED, round % 2 ? 0 : 7);
        agree(&f);
        copy(saved, index);
        copy(log_saved, f.log.log_dir);
        copy(note_saved, note);
    }
    end(&f);
}

/* The log lost its end, the index did not. */
static void test_log_cut(void **state)
{
    struct index_fixture f;
    begin(&f);
    run(&f, START_FIRST, true, INDEX_TRUST_ALL, 300);
    for (int round = 0; round < 14 && f.oracle.file_count > 0; round++) {
        log_fixture_forget(&f.log);
        log_fixture_open(&f.log, START_FIRST, true);
        int64_t log_end = commit_log_end(f.log.store.commit_log), pos = 0;
        struct log_reader reader;
        struct record record;
        log_reader_init(&reader, f.log.store.commit_log);
        int64_t stop = log_end - (int64_t)(random_next(&f) % 9000);
        while (pos < stop) {
            assert_true(log_reader_record(&reader, pos, true, &record) > 0);
            pos += record.size;
        }
        log_reader_done(&reader);
        assert_int_equal(commit_log_cut(f.log.store.commit_log, pos), 0);
        log_fixture_die(&f.log);
        log_fixture_forget(&f.log);
        run(&f, START_FIRST, false, round % 2 ? INDEX_TRUST_ALL : INDEX_TRUST_SYNCED, (unsigned)round % 3);
        agree(&f);
    }
    end(&f);
}

/* Files that are no index of this shape, cut short, or with nonsense in the header. */
static void test_foreign_files(void **state)
{
    struct index_fixture f;
    begin(&f);
    run(&f, START_FIRST, true, INDEX_TRUST_ALL, 120);
    for (int round = 0; round < 12; round++) {
        char folder[128], path[512];
        snprintf(folder, sizeof folder, "%s/index", f.log.dir);
        struct dirent **names;
        int count = scandir(folder, &names, oracle_is_name, alphasort);
        assert_true(count > 2);
        snprintf(path, sizeof path, "%s/%s", folder, names[round % count]->d_name);
        for (int i = 0; i < count; i++)
            free(names[i]);
        free(names);
        uint8_t huge[4] = {0x7f, 0xff, 0xff, 0xff};
        int fd = open(path, O_RDWR);
        assert_true(fd >= 0);
        if (round % 3 == 0)
            assert_int_equal(ftruncate(fd, round * 7), 0);
        else if (round % 3 == 1)
            assert_int_equal(ftruncate(fd, 100000), 0);
        else
            assert_int_equal(pwrite(fd, huge, 4, INDEX_COUNT_AT), 4);
        close(fd);
        log_fixture_forget(&f.log);
        run(&f, START_FIRST, true, INDEX_TRUST_ALL, 2);
        agree(&f);
    }
    end(&f);
}

/* A disk without room for a while: sends go on, keys come later, none is missing or doubled. */
struct full_disk {
    _Atomic bool full;
    _Atomic unsigned refused;
};

static int full_before(void *context, const struct file_event *event, size_t *most)
{
    struct full_disk *disk = context;
    bool index = event->op == FILE_RESERVE || (event->op == FILE_OPEN && event->flags & O_CREAT && strstr(event->path, "/index/"));
    if (!index || !atomic_load(&disk->full))
        return 0;
    atomic_fetch_add(&disk->refused, 1);
    return -ENOSPC;
}

static void test_full_disk(void **state)
{
    struct index_fixture f;
    struct full_disk disk = {false, 0};
    const struct file_watch watch = {full_before, nothing_after, &disk};
    begin(&f);
    f.entries = MANY_ENTRIES;
    file_layer_watch(&watch);
    log_fixture_open(&f.log, START_FIRST, true);
    index_open(&f, INDEX_TRUST_ALL);
    for (int round = 0; round < 2; round++) {
        atomic_store(&disk.full, true);
        unsigned before = atomic_load(&disk.refused);
        while (atomic_load(&disk.refused) == before) {
            put(&f);
            dispatch(&f);
        }
        for (int i = 0; i < 40000 && round == 0; i++) { /* more than any queue of hashes holds */
            put(&f);
            if (i % 64 == 0)
                dispatch(&f);
        }
        atomic_store(&disk.full, false);
        int64_t all = commit_log_end(f.log.store.commit_log), until_ms = clock_monotonic_ms() + 60000;
        dispatch(&f);
        while (atomic_load(&f.log.store.queue_table->indexed_pos) < all)
            assert_true(clock_monotonic_ms() < until_ms && usleep(2000) == 0);
    }
    assert_true(index_close(&f));
    oracle_make(&f);
    log_fixture_die(&f.log);
    file_layer_watch(NULL);
    agree(&f);
    end(&f);
}

/* Files whose messages have left the log go, but for the last one. */
static void test_expired(void **state)
{
    struct index_fixture f;
    struct dirent **names;
    char path[128];
    begin(&f);
    log_fixture_open(&f.log, START_FIRST, true);
    index_open(&f, INDEX_TRUST_ALL);
    for (int i = 0; i < 400; i++)
        put(&f);
    dispatch(&f);
    int64_t all = commit_log_end(f.log.store.commit_log), until_ms = clock_monotonic_ms() + 60000;
    while (atomic_load(&f.log.store.queue_table->indexed_pos) < all)
        assert_true(clock_monotonic_ms() < until_ms && usleep(2000) == 0);
    snprintf(path, sizeof path, "%s/index", f.log.dir);
    int left = 0;
    for (int step = 0; step < 2; step++) {
        atomic_store(&f.log.store.queue_table->log_min_pos, step ? all : 0);
        index_log_begins(f.log.store.index);
        do {
            left = scandir(path, &names, NULL, NULL) - 2;
            for (int i = 0; i < left + 2; i++)
                free(names[i]);
            free(names);
            assert_true(left >= 1 && clock_monotonic_ms() < until_ms && usleep(2000) == 0);
        } while (step && left > 1);
        assert_true(step || left > 3);
    }
    assert_true(index_close(&f));
    log_fixture_die(&f.log);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_starts),        cmocka_unit_test(test_deaths),    cmocka_unit_test(test_power_cut),
        cmocka_unit_test(test_log_cut),       cmocka_unit_test(test_foreign_files), cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_expired),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
