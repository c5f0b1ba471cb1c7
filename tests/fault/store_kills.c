/* Kills a store at random and at its fault points while one front, played by this program, sends through its rings; then
 * looks into the files. What must hold: every request is answered, none twice differently; every message stands in the
 * commit log exactly once, where its answer says; every consume queue has exactly its messages, in order; index files are to
 * the byte what a plain walk over the log makes.
 *
 *   store_kills [--kills N] [--points N] [--sync] [--seed N] [--store PATH]
 *
 * The store is the real program with real memory, rings, channel and bus; there is no supervisor and no network. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/panic.h"
#include "broker/format/layout.h"
#include "broker/format/record.h"
#include "bus/bus.h"
#include "bus/bus_msg.h"
#include "contract.h"
#include "fault/fault.h"
#include "fd/fd_channel.h"
#include "msg/msg.h"
#include "msg/msg_check.h"
#include "shm/board.h"
#include "shm/queue_table.h"
#include "shm/ring.h"
#include "shm/segment.h"
#include "tests/unit/broker/store/index_oracle.h"

enum { OUTSTANDING = 64, QUEUES = 4, LOG_FILE = 1 << 20, QUEUE_FILE = 20000, BATCH_ITEMS = 5, TOKENS_MAX = 4000000,
       INDEX_SLOTS = 700, INDEX_ENTRIES = 5000 };
enum kind { KIND_SINGLE, KIND_BATCH, KIND_REFUSED, KIND_LARGE, KIND_POISON };

static struct {
    char dir[64], root[128], store_path[512];
    sd_event *event;
    struct bus *bus;
    bool ready, sync, disk_fails;
    pid_t pid;
    uint64_t generation;
    int fault_fd, board_fd, table_fd, ledger_fd, image_fd, interest_fd, life_line[2], channel;
    struct fault_page *faults;
    struct queue_table *table;
    struct ring_fds data[2], control[2];
    struct ring_writer data_out;
    struct ring_reader data_in, control_in;
    int64_t *answers; /* by token: 0 none, −1 refused, else log position + 1 */
    uint8_t *kinds;
    uint64_t sent, answered, again, deaths;
    int64_t died_ns, down_ns[20000];
    unsigned down_count;
} h;

#define MUST(e)                                                                                                        \
    do {                                                                                                               \
        if (!(e)) {                                                                                                    \
            fprintf(stderr, "store_kills: %s:%d: %s (errno %s)\n", __FILE__, __LINE__, #e, strerror(errno));           \
            if (h.pid > 0)                                                                                             \
                kill(h.pid, SIGKILL);                                                                                  \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static uint64_t random_state = 88172645463325252ull;
static uint64_t random_below(uint64_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % n;
}

static void on_bus(void *context, struct bytes peer, struct bytes message)
{
    enum bus_msg_kind kind;
    struct bus_failed failed;
    if (message.size == 0 || bus_msg_kind(message, &kind) < 0)
        return;
    if (kind == BUS_READY)
        h.ready = true;
    if (kind == BUS_FAILED && bus_msg_decode_failed(message, &failed) == 0)
        fprintf(stderr, "store_kills: store failed: %.*s\n", (int)failed.text.size, failed.text.data);
}

/* What a store leaves to its successor, and what a cluster that starts anew does not have. */
static void store_memory_make(void)
{
    if (h.table) {
        queue_table_detach(h.table);
        close(h.table_fd);
        close(h.ledger_fd);
        close(h.image_fd);
    }
    MUST(queue_table_create("queues", 1, &h.table_fd) == 0);
    MUST(queue_table_attach(dup(h.table_fd), false, &h.table) == 0);
    MUST(segment_create("ledger", SEGMENT_LEDGER, CONTRACT_LEDGER_VERSION, CONTRACT_LEDGER_SIZE, 1, &h.ledger_fd) == 0);
    MUST(segment_create("image", SEGMENT_IMAGE, CONTRACT_IMAGE_VERSION, CONTRACT_IMAGE_SIZE, 1, &h.image_fd) == 0);
}

static void memory_make(void)
{
    MUST(fault_page_create(&h.fault_fd) == 0 && fault_page_map_writable(h.fault_fd, &h.faults) == 0);
    MUST(board_create("board", 1, &h.board_fd) == 0);
    MUST(interest_create("interest", 1, &h.interest_fd) == 0);
    store_memory_make();
    MUST(ring_create("data", 8 << 20, 1, &h.data[0]) == 0 && ring_create("answers", 1 << 20, 1, &h.data[1]) == 0);
    MUST(ring_create("control", 256 << 10, 1, &h.control[0]) == 0 && ring_create("catalogue", 1 << 20, 1, &h.control[1]) == 0);
    MUST(pipe2(h.life_line, O_CLOEXEC) == 0);
    /* Our own ends, on duplicates. */
    struct ring_fds own[3];
    const struct ring_fds *from[3] = {&h.data[0], &h.data[1], &h.control[1]};
    for (int i = 0; i < 3; i++)
        own[i] = (struct ring_fds){dup(from[i]->memory), dup(from[i]->data), dup(from[i]->space)};
    MUST(ring_writer_attach(&h.data_out, &own[0]) == 0);
    MUST(ring_reader_attach(&h.data_in, &own[1]) == 0 && ring_reader_attach(&h.control_in, &own[2]) == 0);
}

static int config_make(void)
{
    char text[2048];
    int n = snprintf(text, sizeof text,
                     "brokerName=broker-a\nbrokerClusterName=C\nbrokerId=0\nbrokerIP1=127.0.0.1\nlistenPort=30911\n"
                     "storePathRootDir=%s\nmappedFileSizeCommitLog=%d\nmappedFileSizeConsumeQueue=%d\n"
                     "flushDiskType=%s\nmaxMessageSize=200000\ndefaultTopicQueueNums=%d\n"
                     "maxHashSlotNum=%d\nmaxIndexNum=%d\nsyncFlushTimeout=600000\n", /* a busy machine is no slow disk */
                     h.root, LOG_FILE, QUEUE_FILE, h.sync ? "SYNC_FLUSH" : "ASYNC_FLUSH", QUEUES, INDEX_SLOTS, INDEX_ENTRIES);
    int fd = memfd_create("config", 0);
    MUST(fd >= 0 && write(fd, text, (size_t)n) == n);
    return fd;
}

static void grant(enum grant_kind kind, uint32_t index, uint64_t arg, const int *fds, unsigned count)
{
    struct fd_grant g = fd_grant_make(kind, index, 7, arg, "front broker-a/0");
    MUST(fd_channel_send(h.channel, &g, fds, count) == 0);
}

static void grants_send(enum start_cause cause)
{
    int config = config_make();
    grant(GRANT_START, 1, cause, NULL, 0);
    grant(GRANT_LIFE_LINE, 0, 0, &h.life_line[0], 1);
    grant(GRANT_CONFIG, 0, 0, &config, 1);
    grant(GRANT_FAULT_PAGE, 0, 0, &h.fault_fd, 1);
    grant(GRANT_BOARD, 0, 0, &h.board_fd, 1);
    grant(GRANT_QUEUE_TABLE, 0, 0, &h.table_fd, 1);
    grant(GRANT_LEDGER, 0, 0, &h.ledger_fd, 1);
    grant(GRANT_IMAGE, 0, 0, &h.image_fd, 1);
    int data[6] = {h.data[0].memory, h.data[0].data, h.data[0].space, h.data[1].memory, h.data[1].data, h.data[1].space};
    int control[6] = {h.control[0].memory, h.control[0].data, h.control[0].space,
                      h.control[1].memory, h.control[1].data, h.control[1].space};
    grant(GRANT_RING_SET, 1, RING_SET_DATA, data, 6);
    grant(GRANT_RING_SET, 1, RING_SET_CONTROL, control, 6);
    grant(GRANT_INTEREST, 1, 0, &h.interest_fd, 1);
    grant(GRANT_DONE, 0, 0, NULL, 0);
    close(config);
}

static void store_spawn(enum start_cause cause)
{
    int child, generation = (int)++h.generation;
    char number[16];
    snprintf(number, sizeof number, "%d", generation);
    h.ready = false;
    MUST(fd_channel_pair(&h.channel, &child) == 0);
    h.pid = fork();
    MUST(h.pid >= 0);
    if (h.pid == 0) {
        setenv(CONTRACT_ENV_WORKER, "store broker-a/0", 1);
        setenv(CONTRACT_ENV_GENERATION, number, 1);
        setenv(CONTRACT_ENV_RUNTIME_DIR, h.dir, 1);
        if (child == CONTRACT_FD_CHANNEL)
            fcntl(child, F_SETFD, 0);
        else
            dup2(child, CONTRACT_FD_CHANNEL);
        close_range(CONTRACT_FD_CHANNEL + 1, ~0u, 0);
        execl(h.store_path, "pintle-store", (char *)NULL);
        _exit(127);
    }
    close(child);
    grants_send(cause);
}

/* The store is dead: tells whose fault it was. */
static enum start_cause store_reap(void)
{
    int status;
    MUST(waitpid(h.pid, &status, 0) == h.pid);
    h.pid = 0;
    close(h.channel);
    MUST(WIFSIGNALED(status)); /* it never ends by itself here */
    h.deaths++;
    return WTERMSIG(status) == SIGKILL ? START_AFTER_OUTSIDE : START_AFTER_OWN_FAULT;
}

static bool store_is_dead(void)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)h.pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == h.pid;
}

/* Sends. */

static uint8_t *item_put(uint8_t *to, uint64_t token, uint32_t n)
{
    char properties[64];
    int size = snprintf(properties, sizeof properties, "KEYS\1k%" PRIu64 "\2", token) + 0;
    uint32_t body = 16;
    be32_store(to, BATCH_ITEM_FIXED_SIZE + body + (uint32_t)size);
    memset(to + 4, 0, 12);
    be32_store(to + 16, body);
    be64_store(to + 20, token);
    be64_store(to + 28, n);
    be16_store(to + 36, (uint16_t)size);
    memcpy(to + 38, properties, (size_t)size);
    return to + 38 + size;
}

static size_t body_make(uint8_t *to, uint64_t token, enum kind kind)
{
    static uint8_t filler[300000];
    if (kind == KIND_BATCH) {
        uint8_t *end = to;
        for (uint32_t n = 0; n < BATCH_ITEMS; n++)
            end = item_put(end, token, n);
        return (size_t)(end - to);
    }
    size_t size = kind == KIND_REFUSED ? 200001 : kind == KIND_LARGE ? 100000 + random_below(90000) : 16 + random_below(2000);
    memcpy(to, filler, size);
    be64_store(to, token);
    be64_store(to + 8, 0);
    return size;
}

static bool send_one(bool poison)
{
    static uint8_t body[300000];
    uint64_t token = h.sent + 1, dice = random_below(100);
    enum kind kind = poison ? KIND_POISON : dice < 5 ? KIND_BATCH : dice < 7 ? KIND_REFUSED : dice < 9 ? KIND_LARGE : KIND_SINGLE;
    size_t size = body_make(body, token, kind);
    char topic[16], properties[64];
    int topic_size = snprintf(topic, sizeof topic, "T%" PRIu64, random_below(3));
    int properties_size = snprintf(properties, sizeof properties, "KEYS\1k%" PRIu64 "%s\2TAGS\1A\2%s", token,
                                   token % 3 ? "" : "  some other", poison ? "PINTLE_POISON\1y\2" : "");
    size_t whole = sizeof(struct msg_send) + (size_t)topic_size + 6 + (size_t)properties_size + size;
    struct msg_send *send = ring_reserve(&h.data_out, MSG_SEND, 0, whole, NULL);
    if (!send)
        return false;
    *send = (struct msg_send){.token = token, .born_ms = clock_realtime_ms(), .queue_id = (int32_t)random_below(QUEUES),
                              .flags = kind == KIND_BATCH ? MSG_SEND_BATCH : 0, .default_topic_queues = QUEUES,
                              .topic_size = (uint16_t)topic_size, .default_topic_size = 6, .max_reconsume_times = -1,
                              .properties_size = (uint32_t)properties_size, .body_size = (uint32_t)size,
                              .born_ip = {127, 0, 0, 1}};
    uint8_t *to = (uint8_t *)(send + 1);
    memcpy(to, topic, (size_t)topic_size);
    memcpy(to + topic_size, "TBW102", 6);
    memcpy(to + topic_size + 6, properties, (size_t)properties_size);
    memcpy(to + topic_size + 6 + properties_size, body, size);
    h.kinds[token] = (uint8_t)kind;
    h.sent = token;
    return true;
}

static void answer_take(const struct msg_send_answer *answer)
{
    uint64_t token = answer->token;
    MUST(token >= 1 && token <= h.sent);
    int64_t value = answer->code == 0 ? answer->log_pos + 1 : -1;
    if (answer->code == 14 && (h.disk_fails || h.answers[token] == -1)) /* a successor may say it again */
        MUST(answer->remark_size > 0);
    else if (h.kinds[token] == KIND_REFUSED)
        MUST(answer->code == 13);
    else if (h.kinds[token] == KIND_POISON)
        MUST(answer->code == 1);
    else if (answer->code != 0) {
        fprintf(stderr, "token %" PRIu64 " code %d %.*s\n", token, answer->code, answer->remark_size,
                (const char *)(answer + 1) + answer->uniq_key_size);
        MUST(answer->code == 0);
    }
    if (h.sync && answer->code == 0) /* acknowledged = on the disk */
        MUST(answer->log_pos < atomic_load_explicit(&h.table->log_flushed_pos, memory_order_acquire));
    if (h.answers[token] != 0) {
        MUST(h.answers[token] == value); /* a second answer says the same */
        h.again++;
        return;
    }
    h.answers[token] = value;
    h.answered++;
    if (h.died_ns) {
        if (h.down_count < sizeof h.down_ns / sizeof *h.down_ns)
            h.down_ns[h.down_count++] = clock_monotonic_ns() - h.died_ns;
        h.died_ns = 0;
    }
}

static bool answers_take(void)
{
    struct ring_view view;
    bool any = false;
    int r;
    while ((r = ring_peek(&h.data_in, &view)) == 1) {
        MUST(view.record.kind == MSG_SEND_ANSWER);
        MUST(msg_check_answer(view.record.kind, view.payload, view.payload_size) == MSG_OK);
        answer_take((const struct msg_send_answer *)view.payload);
        ring_next(&h.data_in, &view);
        any = true;
    }
    MUST(r == 0);
    ring_release_to(&h.data_in, h.data_in.next_pos);
    while ((r = ring_peek(&h.control_in, &view)) == 1)
        ring_next(&h.control_in, &view);
    MUST(r == 0);
    ring_release_to(&h.control_in, h.control_in.next_pos);
    return any;
}

/* One step of the front: answers in, sends out, a short sleep when there is nothing to do. */
static void step(bool sending)
{
    bool worked = answers_take();
    while (sending && h.sent - h.answered < OUTSTANDING && h.sent + 1 < TOKENS_MAX && send_one(false))
        worked = true;
    ring_publish(&h.data_out);
    ring_wake_reader(&h.data_out);
    sd_event_run(h.event, 0);
    if (!worked && ring_may_sleep(&h.data_in)) {
        struct pollfd fd = {.fd = h.data_in.fds.data, .events = POLLIN};
        uint64_t value;
        if (poll(&fd, 1, 1) == 1 && read(h.data_in.fds.data, &value, sizeof value) < 0)
            MUST(errno == EAGAIN);
        ring_awake(&h.data_in);
    }
}

static void run_until_answered(uint64_t target, bool sending)
{
    int64_t until_ms = clock_monotonic_ms() + 30000;
    while (h.answered < target) {
        MUST(clock_monotonic_ms() < until_ms);
        if (store_is_dead()) {
            h.died_ns = h.died_ns ? h.died_ns : clock_monotonic_ns();
            store_spawn(store_reap());
        }
        step(sending);
    }
}

static void kill_at_random(void)
{
    int64_t until_ns = clock_monotonic_ns() + (int64_t)random_below(4000000);
    uint64_t target = h.answered + random_below(300);
    run_until_answered(target, true);
    while (clock_monotonic_ns() < until_ns)
        step(true);
    MUST(kill(h.pid, SIGKILL) == 0);
    h.died_ns = clock_monotonic_ns();
    store_spawn(store_reap());
    run_until_answered(h.answered + 1, true);
}

static const enum fault_point points[] = {
    FAULT_STORE_TAKEN,       FAULT_STORE_APPEND_PARTIAL, FAULT_STORE_APPENDED,     FAULT_STORE_LEDGER_WRITTEN,
    FAULT_STORE_RELEASED,    FAULT_STORE_ANSWER_PARTIAL, FAULT_STORE_ANSWERED,     FAULT_STORE_DISPATCH,
    FAULT_STORE_DISPATCHED,  FAULT_STORE_FLUSH_BEFORE,   FAULT_STORE_FLUSH_AFTER,  FAULT_STORE_ROLL,
    FAULT_STORE_RECOVERING,  FAULT_STORE_INDEX_ENTRIES,  FAULT_STORE_INDEX_HEADER,
};

static void die_at_point(unsigned round)
{
    enum fault_point point = points[round % (sizeof points / sizeof *points)];
    /* A request that two deaths by the store's own fault find under way is refused, and rightly so: the next abort waits
     * until what the last one may have found is answered. */
    static uint64_t suspected;
    bool may_abort = h.answered >= suspected;
    enum fault_action action = may_abort && random_below(4) == 0 ? FAULT_ACTION_ABORT : FAULT_ACTION_KILL;
    uint64_t deaths = h.deaths;
    uint32_t skip = point == FAULT_STORE_ROLL || point == FAULT_STORE_RECOVERING ? 0 : (uint32_t)random_below(10);
    fault_page_arm(h.faults, point, action, 0, skip, 0);
    if (point == FAULT_STORE_RECOVERING)
        MUST(kill(h.pid, SIGKILL) == 0);
    int64_t until_ms = clock_monotonic_ms() + 30000;
    while (!store_is_dead()) {
        MUST(clock_monotonic_ms() < until_ms);
        step(true);
    }
    h.died_ns = clock_monotonic_ns();
    if (point == FAULT_STORE_RECOVERING) {
        store_spawn(store_reap());
        while (!store_is_dead())
            step(true);
    }
    fault_page_disarm(h.faults, point);
    if (action == FAULT_ACTION_ABORT)
        suspected = h.sent;
    store_spawn(store_reap());
    MUST(h.deaths > deaths);
    run_until_answered(h.answered + 1, true);
}

/* A request that kills whoever looks at it: two stores die, the third refuses it; everybody else is served. */
static void poison(void)
{
    uint64_t deaths = h.deaths;
    fault_page_arm(h.faults, FAULT_STORE_POISON, FAULT_ACTION_MATCH, 0, 0, 0);
    while (!send_one(true))
        step(false);
    uint64_t token = h.sent;
    ring_publish(&h.data_out);
    run_until_answered(h.answered + 500, true);
    run_until_answered(h.sent, false);
    fault_page_disarm(h.faults, FAULT_STORE_POISON);
    MUST(h.answers[token] == -1 && h.deaths == deaths + 2);
    printf("poison: refused on its third try\n");
}

/* Every write fails: requests are refused with the reason, the store lives; its successor takes them again. */
static void disk_fails(void)
{
    struct rlimit none = {0, RLIM_INFINITY};
    run_until_answered(h.sent, false);
    h.disk_fails = true;
    uint64_t deaths = h.deaths, first = h.sent + 1;
    MUST(prlimit(h.pid, RLIMIT_FSIZE, &none, NULL) == 0);
    run_until_answered(h.answered + 1000, true);
    run_until_answered(h.sent, false);
    MUST(h.deaths == deaths);
    for (uint64_t token = first; token <= h.sent; token++)
        MUST(h.answers[token] == -1);
    h.disk_fails = false;
    MUST(kill(h.pid, SIGKILL) == 0);
    store_spawn(store_reap());
    run_until_answered(h.answered + 1000, true);
    printf("failing disk: refused, and taken again after a restart\n");
}

/* The files. */

struct message {
    int64_t pos, queue_offset;
    uint32_t size;
};
static struct message *queues[3][QUEUES];
static int64_t queue_counts[3][QUEUES];
static uint8_t *seen; /* by token: messages found */
static int64_t *first_pos;

static struct oracle oracle = {.slots = INDEX_SLOTS, .entries = INDEX_ENTRIES};

static void message_found(const struct record *record)
{
    oracle_record(&oracle, record->topic, record->properties, record->pos, record->store_ms);
    MUST(record->body.size >= 16 && record->topic.size == 2 && record->queue_id < QUEUES);
    uint64_t token = be64_load(record->body.data), n = be64_load(record->body.data + 8);
    unsigned topic = record->topic.data[1] - '0';
    MUST(token >= 1 && token <= h.sent && topic < 3);
    MUST(seen[token] == n); /* each once, items of a batch in order */
    seen[token]++;
    if (n == 0)
        first_pos[token] = record->pos;
    int64_t index = queue_counts[topic][record->queue_id]++;
    MUST(record->queue_offset == index);
    struct message **list = &queues[topic][record->queue_id];
    if ((index & (index + 1)) == 0) {
        *list = realloc(*list, (size_t)(2 * index + 2) * sizeof **list);
        MUST(*list);
    }
    (*list)[index] = (struct message){record->pos, record->queue_offset, record->size};
}

static int64_t log_walk(void)
{
    uint8_t *data = malloc(LOG_FILE);
    int64_t pos = 0;
    bool end = false;
    MUST(data);
    for (int64_t file = 0; !end; file += LOG_FILE) {
        char path[512];
        snprintf(path, sizeof path, "%s/commitlog/%020" PRId64, h.root, file);
        int fd = open(path, O_RDONLY);
        if (fd < 0)
            break;
        struct stat st;
        MUST(fstat(fd, &st) == 0 && st.st_size == LOG_FILE && read(fd, data, LOG_FILE) == LOG_FILE);
        close(fd);
        for (pos = file; pos < file + LOG_FILE;) {
            struct record record;
            int64_t at = pos - file;
            enum record_kind kind = record_parse(data + at, (size_t)(LOG_FILE - at), pos, LOG_FILE - at, true, &record);
            if (kind == RECORD_BAD) {
                end = true;
                for (int64_t i = at; i < LOG_FILE && i < at + 8; i++)
                    MUST(data[i] == 0);
                break;
            }
            if (kind == RECORD_MESSAGE)
                message_found(&record);
            pos += record.size;
        }
    }
    free(data);
    return pos;
}

static void queue_check(unsigned topic, int queue)
{
    int64_t count = queue_counts[topic][queue], n = 0;
    for (int64_t file = 0; n < count; file += QUEUE_FILE) {
        char path[512];
        snprintf(path, sizeof path, "%s/consumequeue/T%u/%d/%020" PRId64, h.root, topic, queue, file);
        static uint8_t data[QUEUE_FILE];
        int fd = open(path, O_RDONLY);
        MUST(fd >= 0 && read(fd, data, QUEUE_FILE) == QUEUE_FILE);
        close(fd);
        for (size_t at = 0; at < QUEUE_FILE; at += QUEUE_ENTRY_SIZE, n++) {
            const struct message *message = &queues[topic][queue][n];
            if (n < count)
                MUST((int64_t)be64_load(data + at) == message->pos && be32_load(data + at + 8) == message->size);
            else
                MUST(be64_load(data + at) == 0 && be32_load(data + at + 8) == 0);
        }
    }
}

static void files_check(void)
{
    seen = calloc(h.sent + 1, 1);
    first_pos = calloc(h.sent + 1, sizeof *first_pos);
    MUST(seen && first_pos);
    int64_t end = log_walk(), messages = 0;
    for (uint64_t token = 1; token <= h.sent; token++) {
        unsigned expected = h.answers[token] == -1 ? 0 : h.kinds[token] == KIND_BATCH ? BATCH_ITEMS : 1;
        if (seen[token] != expected || (expected && first_pos[token] != h.answers[token] - 1))
            fprintf(stderr, "token %" PRIu64 " (kind %u): %u of %u messages, at %" PRId64 ", answered %" PRId64 "\n", token,
                    h.kinds[token], seen[token], expected, first_pos[token], h.answers[token] - 1);
        MUST(seen[token] == expected);
        MUST(expected == 0 || first_pos[token] == h.answers[token] - 1);
        messages += expected;
    }
    for (unsigned topic = 0; topic < 3; topic++)
        for (int queue = 0; queue < QUEUES; queue++)
            queue_check(topic, queue);
    MUST(oracle_agrees(&oracle, h.root));
    printf("files: %" PRId64 " messages in %" PRId64 " bytes of log, each once; queues and %u index files agree\n", messages,
           end, oracle.file_count);
    oracle_done(&oracle);
}

/* Topics are written to their file in batches: a cluster that ends before knows only the queues that have messages. */
static void wait_for_topics_file(void)
{
    int64_t until_ms = clock_monotonic_ms() + 20000;
    char path[512];
    static char text[1 << 20];
    snprintf(path, sizeof path, "%s/config/topics.json", h.root);
    for (;;) {
        FILE *file = fopen(path, "r");
        size_t n = file ? fread(text, 1, sizeof text - 1, file) : 0;
        text[n] = 0;
        if (file)
            fclose(file);
        if (strstr(text, "\"T0\"") && strstr(text, "\"T1\"") && strstr(text, "\"T2\""))
            return;
        MUST(clock_monotonic_ms() < until_ms);
        step(false);
    }
}

/* The cluster ends without a word and starts from the files alone. */
static void start_cold(const char *remove)
{
    char command[512];
    run_until_answered(h.sent, false);
    MUST(kill(h.pid, SIGKILL) == 0);
    store_reap();
    snprintf(command, sizeof command, "rm -rf '%s/%s'", h.root, remove);
    MUST(system(command) == 0);
    store_memory_make();
    store_spawn(START_FIRST);
    run_until_answered(h.answered + 1000, true);
}

static int compare_i64(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void stop_cleanly(void)
{
    int status;
    char path[512];
    MUST(kill(h.pid, SIGTERM) == 0);
    MUST(waitpid(h.pid, &status, 0) == h.pid);
    h.pid = 0;
    MUST(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    snprintf(path, sizeof path, "%s/abort", h.root);
    MUST(access(path, F_OK) < 0);
}

static void set_up(void)
{
    strcpy(h.dir, "/tmp/store-kills-XXXXXX");
    MUST(mkdtemp(h.dir));
    snprintf(h.root, sizeof h.root, "%s/store", h.dir);
    h.answers = calloc(TOKENS_MAX, sizeof *h.answers);
    h.kinds = calloc(TOKENS_MAX, 1);
    MUST(h.answers && h.kinds && sd_event_new(&h.event) >= 0);
    MUST(bus_bind(h.event, h.dir, CONTRACT_BUS_SUPERVISOR, on_bus, NULL, &h.bus) >= 0);
    memory_make();
}

static void tear_down(void)
{
    char command[256];
    bus_free(h.bus);
    snprintf(command, sizeof command, "rm -rf '%s'", h.dir);
    MUST(system(command) == 0);
}

int main(int argc, char **argv)
{
    unsigned kills = 100, rounds = 100;
    snprintf(h.store_path, sizeof h.store_path, "%.*s../bin/pintle-store", (int)(strrchr(argv[0], '/') - argv[0] + 1), argv[0]);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--sync") == 0)
            h.sync = true;
        else if (i + 1 < argc && strcmp(argv[i], "--kills") == 0)
            kills = (unsigned)atoi(argv[++i]);
        else if (i + 1 < argc && strcmp(argv[i], "--points") == 0)
            rounds = (unsigned)atoi(argv[++i]);
        else if (i + 1 < argc && strcmp(argv[i], "--seed") == 0)
            random_state ^= strtoull(argv[++i], NULL, 10) * 2654435761u;
        else if (i + 1 < argc && strcmp(argv[i], "--store") == 0)
            snprintf(h.store_path, sizeof h.store_path, "%s", argv[++i]);
        else
            return EXIT_CODE_USAGE;
    }
    set_up();
    store_spawn(START_FIRST);
    run_until_answered(1000, true);
    for (unsigned i = 0; i < kills; i++)
        kill_at_random();
    for (unsigned i = 0; i < rounds; i++)
        die_at_point(i);
    poison();
    disk_fails();
    h.died_ns = 0;
    wait_for_topics_file();
    start_cold("quarantine");
    start_cold("consumequeue");
    start_cold("checkpoint");
    run_until_answered(h.sent, false);
    stop_cleanly();
    store_memory_make();
    store_spawn(START_FIRST);
    run_until_answered(h.answered + 1000, true);
    run_until_answered(h.sent, false);
    stop_cleanly();
    qsort(h.down_ns, h.down_count, sizeof *h.down_ns, compare_i64);
    printf("%s: %" PRIu64 " requests, %" PRIu64 " deaths, %" PRIu64 " answered twice; death to next answer p50 %.1f ms, "
           "p99 %.1f ms, worst %.1f ms\n", h.sync ? "SYNC_FLUSH" : "ASYNC_FLUSH", h.sent, h.deaths, h.again,
           (double)h.down_ns[h.down_count / 2] / 1e6, (double)h.down_ns[h.down_count * 99 / 100] / 1e6,
           (double)h.down_ns[h.down_count - 1] / 1e6);
    files_check();
    tear_down();
    return 0;
}
