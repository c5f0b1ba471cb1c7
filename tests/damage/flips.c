/* Damage of every kind in every file of a store, one place at a time: a flipped bit or a page of zeros, before a start or while
 * the broker runs. Then everything is read as a client reads it, from the real front and the real store in one process. What
 * must hold:
 *
 *   - no damaged body is delivered, nobody dies, the store starts;
 *   - every message that was not hit is delivered, byte for byte;
 *   - the damage is named, or made good, or lies where nothing is promised; places.c says where that is, the table how often.
 *
 * Every fifth damage before a start is shown to pintle fsck, too, which must find it in log and queues. Batches run in child
 * processes, so that a death is a result. With --whole-crc records carry a CRC of all of them, and then no byte of a record is
 * without promise. A seed repeats the places. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "broker/format/record.h"
#include "client.h"
#include "fsck.h"
#include "places.h"
#include "tests/fuzz/broker_store.h"
#include "tests/fuzz/fuzz.h"
#include "wire/codes.h"

enum {
    LOG_FILE_SIZE = 65536,
    QUEUE_FILE_SIZE = 400,
    TOPICS = 3,
    QUEUES = 3,
    MESSAGES = 500,
    BODY_MAX = 3000,
    ROWS_MAX = 64,
    BATCH = 250,
    FSCK_EACH = 5,
    ANSWERS_MAX = 300, /* of one queue */
};

enum outcome { NAMED, MENDED, NO_PROMISE, UNSEEN_FIELD, UNSEEN_SEARCH, OUTCOMES };
enum when { BEFORE_CLEAN, BEFORE_UNCLEAN, WHILE_RUNNING, WHENS };
static const char *const when_names[WHENS] = {"before a start after a clean stop", "before a start after a death", "while running"};

struct row {
    char name[40];
    unsigned tried, outcomes[OUTCOMES];
};
static struct shared {
    struct row rows[ROWS_MAX];
    unsigned row_count, done, unchanged;
    unsigned failed, lost_hit, dropped, refused, fscks;
    unsigned current; /* the place under way */
} *shared;

static struct files bases[WHENS]; /* WHILE_RUNNING: as after a clean stop */
static struct messages stored[WHENS];
static uint64_t seed = 1, random_state;
static bool whole_crc, verbose;
static int told_fd = -1; /* what the broker logs */

static uint64_t random_next(void)
{
    random_state += 0x9E3779B97F4A7C15u;
    uint64_t z = random_state;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static unsigned below(unsigned n)
{
    return (unsigned)(random_next() % n);
}

/* Time goes a second with each message, so that the checkpoint's seconds mean something. */
static _Atomic int64_t passed_ms;
int64_t __real_clock_realtime_ms(void);
int64_t __wrap_clock_realtime_ms(void);
int64_t __wrap_clock_realtime_ms(void)
{
    return __real_clock_realtime_ms() + atomic_load(&passed_ms);
}

static const char *topic_name(unsigned n)
{
    static const char *const names[TOPICS] = {"orders", "payments", "t"};
    return names[n % TOPICS];
}

/* The store that is damaged. */

static void send_one(unsigned n)
{
    static uint8_t body[BODY_MAX];
    struct client_request request = {.code = REQUEST_SEND_MESSAGE_V2};
    char properties[96];
    size_t size = n % 5 == 0 ? 1 + below(BODY_MAX) : 1 + below(200);
    for (size_t i = 0; i < size; i++)
        body[i] = (uint8_t)random_next();
    snprintf(properties, sizeof properties, "KEYS\1key%u\2TAGS\1tag%u\2UNIQ_KEY\1%032u", n, n % 3, n);
    client_text(&request, "a", "producer");
    client_text(&request, "b", topic_name(below(TOPICS)));
    client_text(&request, "c", "TBW102");
    client_number(&request, "d", QUEUES);
    client_number(&request, "e", below(QUEUES));
    client_number(&request, "f", 0);
    client_number(&request, "g", clock_realtime_ms());
    client_number(&request, "h", 0);
    client_text(&request, "i", properties);
    client_number(&request, "j", 0);
    client_text(&request, "k", "false");
    request.body = (struct bytes){body, size};
    const struct frame *answer = client_ask(&request);
    if (answer->code != RESPONSE_SUCCESS)
        fprintf(stderr, "send %u: %d %.*s\n", n, answer->code, (int)answer->remark.size, (const char *)answer->remark.data);
    FUZZ_CHECK(answer->code == RESPONSE_SUCCESS);
    atomic_fetch_add(&passed_ms, 1000);
}

static int64_t offset_of(unsigned topic, int queue_id)
{
    struct client_request request = {.code = REQUEST_QUERY_CONSUMER_OFFSET};
    int64_t offset = -1;
    client_text(&request, "consumerGroup", "group");
    client_text(&request, "topic", topic_name(topic));
    client_number(&request, "queueId", queue_id);
    client_text(&request, "setZeroIfNotFound", "false");
    const struct frame *answer = client_ask(&request);
    return answer->code == RESPONSE_SUCCESS && frame_get_i64(answer, "offset", -1, &offset) == 0 ? offset : -1;
}

static const struct frame *pull(struct bytes topic, int queue_id, int64_t offset)
{
    struct client_request request = {.code = REQUEST_PULL_MESSAGE};
    client_text(&request, "consumerGroup", "group");
    client_bytes(&request, "topic", topic);
    client_number(&request, "queueId", queue_id);
    client_number(&request, "queueOffset", offset);
    client_number(&request, "maxMsgNums", 32);
    client_number(&request, "sysFlag", 4); /* the subscription is in the request; nothing is waited for */
    client_number(&request, "commitOffset", 0);
    client_number(&request, "suspendTimeoutMillis", 0);
    client_text(&request, "subscription", "*");
    client_number(&request, "subVersion", 0);
    return client_ask(&request);
}

static void commit_offsets(void)
{
    for (unsigned topic = 0; topic < TOPICS; topic++)
        for (int queue_id = 0; queue_id < QUEUES; queue_id++) {
            struct client_request request = {.code = REQUEST_UPDATE_CONSUMER_OFFSET};
            pull(bytes_of(topic_name(topic)), queue_id, 0); /* makes the group */
            client_text(&request, "consumerGroup", "group");
            client_text(&request, "topic", topic_name(topic));
            client_number(&request, "queueId", queue_id);
            client_number(&request, "commitOffset", 1 + (int)topic * 3 + queue_id);
            FUZZ_CHECK(client_ask(&request)->code == RESPONSE_SUCCESS);
            FUZZ_CHECK(offset_of(topic, queue_id) == 1 + (int)topic * 3 + queue_id);
        }
}

static void base_make(void)
{
    const char *what;
    int error;
    for (enum when when = BEFORE_CLEAN; when <= BEFORE_UNCLEAN; when++) {
        FUZZ_CHECK(broker_stage_try(&what, &error));
        client_begin();
        for (unsigned n = 0; n < MESSAGES; n++)
            send_one(when * MESSAGES + n);
        commit_offsets();
        client_end();
        broker_stage_leave(when == BEFORE_CLEAN);
        files_load(&bases[when], broker_stage_folder());
        messages_find(&stored[when], &bases[when], LOG_FILE_SIZE);
        FUZZ_CHECK(stored[when].count == (when + 1) * MESSAGES);
    }
    bases[WHILE_RUNNING] = bases[BEFORE_CLEAN];
    stored[WHILE_RUNNING] = stored[BEFORE_CLEAN];
}

/* One damage. */

static bool failing;
__attribute__((format(printf, 1, 2))) static void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    if (!failing)
        shared->failed++;
    failing = true;
    vprintf(format, arguments);
    putchar('\n');
    fflush(stdout);
    va_end(arguments);
}

struct trial {
    enum when when;
    struct damage_place place;
    struct place_name name;
    struct messages *messages;
    unsigned lost_keys;
    bool unlike; /* something was delivered otherwise than it was stored, in bytes of no body */
};

static void record_judge(struct trial *trial, const struct record *record, const uint8_t *data)
{
    struct message *message = messages_get(trial->messages, record->topic, record->queue_id, record->queue_offset);
    if (!message) {
        fail("  a message that nobody sent: %.*s/%d at %lld", (int)record->topic.size, (const char *)record->topic.data,
             record->queue_id, (long long)record->queue_offset);
        return;
    }
    if (message->seen++)
        fail("  delivered twice: offset %lld", (long long)record->queue_offset);
    if (!bytes_equal(record->body, message->body))
        fail("  a damaged body was delivered: log position %lld", (long long)message->pos);
    else if (!bytes_equal((struct bytes){data, record->size}, message->record)) {
        trial->unlike = true;
        if (!places_hits(&bases[trial->when], &trial->place, message))
            fail("  a record that was not hit came otherwise: log position %lld", (long long)message->pos);
    }
}

static void body_judge(struct trial *trial, struct bytes body)
{
    for (size_t at = 0; at < body.size;) {
        struct record record;
        const uint8_t *data = body.data + at;
        size_t left = body.size - at;
        int64_t pos = left >= RECORD_POS_AT + 8 ? (int64_t)be64_load(data + RECORD_POS_AT) : 0;
        if (record_parse(data, left, pos, INT32_MAX, false, &record) != RECORD_MESSAGE) {
            fail("  bytes that are no record were delivered");
            return;
        }
        record_judge(trial, &record, data);
        at += record.size;
    }
}

static void queue_read(struct trial *trial, struct bytes topic, int queue_id)
{
    int64_t offset = 0;
    for (unsigned n = 0; n < ANSWERS_MAX; n++) {
        int64_t next = offset;
        const struct frame *answer = pull(topic, queue_id, offset);
        frame_get_i64(answer, "nextBeginOffset", offset, &next);
        if (answer->code == RESPONSE_SUCCESS)
            body_judge(trial, answer->body);
        else if (answer->code == RESPONSE_PULL_NOT_FOUND)
            return;
        else if (answer->code != RESPONSE_PULL_RETRY_IMMEDIATELY && answer->code != RESPONSE_PULL_OFFSET_MOVED) {
            fail("  pull of %.*s/%d at %lld: code %d", (int)topic.size, (const char *)topic.data, queue_id,
                 (long long)offset, answer->code);
            return;
        }
        if (next < offset)
            return;
        offset = next;
    }
    fail("  the reader of %.*s/%d is stuck at %lld", (int)topic.size, (const char *)topic.data, queue_id, (long long)offset);
}

static void keys_read(struct trial *trial)
{
    for (unsigned i = 0; i < 6; i++) {
        unsigned n = below(trial->messages->count);
        char key[24];
        struct client_request request = {.code = REQUEST_QUERY_MESSAGE};
        const struct message *message = &trial->messages->list[n];
        snprintf(key, sizeof key, "key%u", n);
        client_bytes(&request, "topic", message->topic);
        client_text(&request, "key", key);
        client_number(&request, "maxNum", 32);
        client_number(&request, "beginTimestamp", 0);
        client_number(&request, "endTimestamp", INT64_MAX);
        const struct frame *answer = client_ask(&request);
        bool found = answer->code == RESPONSE_SUCCESS && bytes_equal(answer->body, message->record);
        if (!found)
            trial->lost_keys++;
        if (!found && answer->code == RESPONSE_SUCCESS && !places_hits(&bases[trial->when], &trial->place, message))
            fail("  the key %s found another message", key);
    }
}

static void told_forget(void)
{
    FUZZ_CHECK(ftruncate(told_fd, 0) == 0 && lseek(told_fd, 0, SEEK_SET) == 0);
}

static char *told_text(void)
{
    static char text[1 << 20];
    ssize_t n = pread(told_fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = 0;
    return text;
}

/* A death, and then zeros where no checkpoint says yet that anything was written: a start takes it for what a power cut left,
 * says so, and drops what follows. */
static bool may_be_dropped(const struct trial *trial, const struct message *message)
{
    const struct file *file = &bases[trial->when].list[trial->place.file];
    return trial->when == BEFORE_UNCLEAN && file->kind == FILE_LOG && trial->place.bit < 0 &&
           message->pos >= stored[BEFORE_CLEAN].end_pos && message->pos >= file->first + (int64_t)trial->place.at &&
           strstr(told_text(), "are dropped");
}

static void everything_read(struct trial *trial)
{
    for (unsigned i = 0; i < trial->messages->count; i++)
        trial->messages->list[i].seen = 0;
    for (unsigned topic = 0; topic < TOPICS; topic++)
        for (int queue_id = 0; queue_id < QUEUES; queue_id++)
            queue_read(trial, bytes_of(topic_name(topic)), queue_id);
    unsigned lost = 0;
    for (unsigned i = 0; i < trial->messages->count; i++) {
        const struct message *message = &trial->messages->list[i];
        bool hit = places_hits(&bases[trial->when], &trial->place, message);
        shared->lost_hit += !message->seen && hit;
        if (!message->seen && !hit && may_be_dropped(trial, message))
            shared->dropped++;
        else if (!message->seen && !hit && lost++ < 3)
            fail("  not delivered, though nothing hit it: %.*s/%d at %lld, log position %lld", (int)message->topic.size,
                 (const char *)message->topic.data, message->queue_id, (long long)message->queue_offset,
                 (long long)message->pos);
    }
    keys_read(trial);
}

static bool was_named(void)
{
    const char *text = told_text();
    return strstr(text, " warning: ") || strstr(text, " error: ") || strstr(text, "was written by another broker") || broker_stage_counter(COUNTER_RECORDS_DAMAGED) ||
           broker_stage_counter(COUNTER_ENTRIES_DAMAGED);
}

static struct row *row_of(const char *name)
{
    for (unsigned i = 0; i < shared->row_count; i++)
        if (strcmp(shared->rows[i].name, name) == 0)
            return &shared->rows[i];
    FUZZ_CHECK(shared->row_count < ROWS_MAX);
    struct row *row = &shared->rows[shared->row_count++];
    snprintf(row->name, sizeof row->name, "%s", name);
    return row;
}

static void outcome_note(struct trial *trial, bool named)
{
    struct row *row = row_of(trial->name.text);
    row->tried++;
    if (named)
        row->outcomes[NAMED]++;
    else if (files_healed(&bases[trial->when], broker_stage_folder(), &trial->place))
        row->outcomes[MENDED]++;
    else if (trial->name.promise == PROMISE_NONE && !trial->unlike)
        row->outcomes[NO_PROMISE]++;
    else if (trial->name.promise == PROMISE_NOT_YET && !whole_crc)
        row->outcomes[UNSEEN_FIELD]++;
    else if (trial->name.promise == PROMISE_SEARCH && !trial->unlike)
        row->outcomes[UNSEEN_SEARCH]++;
    else
        fail("  nobody noticed");
}

static void offsets_judge(const struct trial *trial, bool named)
{
    for (unsigned topic = 0; topic < TOPICS && !named; topic++)
        for (int queue_id = 0; queue_id < QUEUES; queue_id++)
            if (offset_of(topic, queue_id) != 1 + (int)topic * 3 + queue_id)
                fail("  the group's offset of %s/%d is %lld", topic_name(topic), queue_id, (long long)offset_of(topic, queue_id));
}

static void trial_tell(const struct trial *trial, unsigned n)
{
    const struct file *file = &bases[trial->when].list[trial->place.file];
    printf("damage %u, %s: %s, byte %zu of %s", n, when_names[trial->when], trial->name.text, trial->place.at, file->name);
    trial->place.bit < 0 ? printf(", %zu zeros\n", trial->place.size) : printf(", bit %d\n", trial->place.bit);
    fflush(stdout);
}

/* pintle fsck sees damage in log and queues, also what no reader looks at; and it says nothing of a store that is whole. */
static void fsck_judge(const struct trial *trial, bool control)
{
    static char text[65536];
    const struct file *file = &bases[trial->when].list[trial->place.file];
    bool must = (file->kind == FILE_LOG || file->kind == FILE_QUEUE) && trial->name.promise != PROMISE_NONE &&
                (whole_crc || trial->name.promise != PROMISE_NOT_YET);
    int findings = fsck_findings(broker_stage_folder(), text, sizeof text);
    shared->fscks++;
    if (findings < 0 || (control ? findings > 0 : must && findings == 0))
        fail("  fsck: %d findings: %s", findings, text);
}

static void trial_run(struct trial *trial, unsigned n, bool control)
{
    const char *what = "";
    int error = 0;
    const struct files *base = &bases[trial->when];
    trial->messages = &stored[trial->when];
    failing = false;
    files_lay(base, broker_stage_folder());
    told_forget();
    if (!control && trial->when != WHILE_RUNNING && !files_damage(base, broker_stage_folder(), &trial->place)) {
        shared->unchanged++;
        return;
    }
    if (verbose)
        trial_tell(trial, n);
    if (trial->when != WHILE_RUNNING && n % FSCK_EACH == 0)
        fsck_judge(trial, control);
    if (!broker_stage_try(&what, &error)) {
        shared->refused++;
        fail("  the store does not start: %s: %s", what, strerror(-error));
    } else {
        if (!control && trial->when == WHILE_RUNNING && !files_damage(base, broker_stage_folder(), &trial->place)) {
            shared->unchanged++;
            broker_stage_leave(false);
            return;
        }
        client_begin();
        everything_read(trial);
        bool named = was_named();
        offsets_judge(trial, named);
        client_end();
        if (control && (named || trial->lost_keys))
            fail("  a store that is not damaged: %u keys not found, %s", trial->lost_keys, named ? "complaints" : "no complaints");
        broker_stage_leave(false);
        if (!control)
            outcome_note(trial, named);
    }
    if (failing) {
        trial_tell(trial, n);
        printf("%s\n", told_text());
    }
}

static bool may_hit(const struct trial *trial, const struct file *file)
{
    /* What only a start reads. */
    bool of_start = file->kind == FILE_CHECKPOINT || file->kind == FILE_JOURNAL || file->kind == FILE_JSON || file->kind == FILE_OTHER;
    return file->size > 0 && !(trial->when == WHILE_RUNNING && of_start);
}

static void trial_choose(struct trial *trial, unsigned n)
{
    static const unsigned weights[FILE_KINDS] = {[FILE_LOG] = 44, [FILE_QUEUE] = 26, [FILE_INDEX] = 8, [FILE_CHECKPOINT] = 4,
                                                 [FILE_JOURNAL] = 8, [FILE_JSON] = 8, [FILE_OTHER] = 2};
    random_state = seed * 1000003 + n;
    *trial = (struct trial){.when = below(WHENS)};
    const struct files *files = &bases[trial->when];
    for (;;) {
        unsigned pick = below(100), kind = 0, index = below(files->count);
        while (pick >= weights[kind])
            pick -= weights[kind++];
        while (files->list[index].kind != kind) /* there is at least one of each */
            index = (index + 1) % files->count;
        if (!may_hit(trial, &files->list[index]))
            continue;
        const struct file *file = &files->list[index];
        size_t used = places_used(files, &stored[trial->when], index), range = used && below(10) ? used : file->size;
        trial->place = (struct damage_place){index, below((unsigned)range), 1, (int)below(8)};
        if (below(8) == 0) {
            size_t at = trial->place.at / 4096 * 4096;
            trial->place = (struct damage_place){index, at, file->size - at < 4096 ? file->size - at : 4096, -1};
        }
        trial->name = places_name(files, &stored[trial->when], &trial->place, LOG_FILE_SIZE);
        return;
    }
}

/* Batches. */

static void stderr_catch(void)
{
    told_fd = memfd_create("told", MFD_CLOEXEC);
    FUZZ_CHECK(told_fd >= 0 && dup2(told_fd, STDERR_FILENO) >= 0);
    FUZZ_CHECK(fcntl(STDERR_FILENO, F_SETFL, O_APPEND) == 0);
}

static void batch_run(unsigned from, unsigned to)
{
    for (unsigned n = from; n < to; n++) {
        struct trial trial;
        shared->current = n;
        trial_choose(&trial, n);
        trial_run(&trial, n, false);
        shared->done++;
    }
}

/* In a child; where it died, another one goes on. */
static void batch_fork(unsigned from, unsigned to)
{
    while (from < to) {
        int status;
        fflush(stdout);
        pid_t child = fork();
        FUZZ_CHECK(child >= 0);
        if (child == 0) {
            batch_run(from, to);
            fflush(stdout);
            _exit(0);
        }
        FUZZ_CHECK(waitpid(child, &status, 0) == child);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
            return;
        struct trial trial;
        trial_choose(&trial, shared->current);
        shared->failed++;
        printf("  a death: %s %d\n", WIFSIGNALED(status) ? "signal" : "exit", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        trial_tell(&trial, shared->current);
        printf("%s\n", told_text());
        from = shared->current + 1;
    }
}

static void table_print(void)
{
    printf("%-30s %7s %7s %7s %10s %12s %12s\n", "place", "tried", "named", "mended", "no promise", "needs CRC", "search only");
    for (unsigned i = 0; i < shared->row_count; i++) {
        const struct row *row = &shared->rows[i];
        printf("%-30s %7u %7u %7u %10u %12u %12u\n", row->name, row->tried, row->outcomes[NAMED], row->outcomes[MENDED],
               row->outcomes[NO_PROMISE], row->outcomes[UNSEEN_FIELD], row->outcomes[UNSEEN_SEARCH]);
    }
    printf("%u damages, %u more changed nothing; messages lost that were hit: %u, dropped behind what was never written: %u; %u seen by fsck, too; failures: %u\n",
           shared->done - shared->unchanged, shared->unchanged, shared->lost_hit, shared->dropped, shared->fscks,
           shared->failed);
}

int main(int argc, char **argv)
{
    unsigned count = 500, only = UINT32_MAX;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--whole-crc") == 0)
            whole_crc = true;
        else if (strcmp(argv[i], "--verbose") == 0)
            verbose = true;
        else if (strcmp(argv[i], "--count") == 0 && i + 1 < argc)
            count = (unsigned)strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            seed = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc)
            only = (unsigned)strtoul(argv[++i], NULL, 10);
        else {
            fprintf(stderr, "usage: flips [--count N] [--seed N] [--whole-crc] [--only N] [--verbose]\n");
            return 64;
        }
    }
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    FUZZ_CHECK(shared != MAP_FAILED);
    broker_stage_init();
    log_init("broker", LOG_LEVEL_INFO);
    fuzz_store_settings = (struct fuzz_store_settings){
        LOG_FILE_SIZE, QUEUE_FILE_SIZE,
        whole_crc ? "maxHashSlotNum=101\nmaxIndexNum=1500\nenabledAppendPropCRC=true\n" : "maxHashSlotNum=101\nmaxIndexNum=1500\n"};
    printf("seed %llu%s\n", (unsigned long long)seed, whole_crc ? ", records with a CRC of all" : "");
    random_state = seed;
    base_make();
    stderr_catch();
    for (enum when when = 0; when < WHENS && only == UINT32_MAX; when++) {
        struct trial trial = {.when = when, .name = {"nothing", PROMISE_NONE}};
        trial_run(&trial, 0, true);
    }
    if (only != UINT32_MAX)
        batch_fork(only, only + 1);
    else
        for (unsigned from = 0; from < count; from += BATCH)
            batch_fork(from, from + BATCH < count ? from + BATCH : count);
    table_print();
    return shared->failed ? 1 : 0;
}
