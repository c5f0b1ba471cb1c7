/* See front_stage.h. One thread plays store and supervisor's bus; the test itself is the client. */
#include "front_stage.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <isa-l/crc.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/java_hash.h"
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

#define CHECK(e)                                                                                                       \
    do {                                                                                                               \
        if (!(e)) {                                                                                                    \
            fprintf(stderr, "stage: %s:%d: %s: %s\n", __FILE__, __LINE__, #e, strerror(errno));                        \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

enum { LOG_FILE_SIZE = 64 * 1024 * 1024, QUEUE_FILE_SIZE = 6000000, MEMBERS_MAX = 64, FRONT_GENERATION = 7 };

struct stage_member {
    bool used;
    struct msg_member_put put;
    uint8_t payload[2048];
    uint32_t size;
};

struct stage {
    char folder[256];
    pid_t front;
    int channel, life_line;
    int port, fast_port;
    struct queue_table *table;
    struct interest *interest;
    struct board *board;
    struct ring_reader data_in, control_in;
    struct ring_writer data_out, control_out;

    pthread_t thread;
    pthread_mutex_t lock;
    _Atomic bool ending, dead, stop_asked;
    sd_event *event;
    struct bus *bus;
    bool front_ready;
    uint8_t front_identity[128];
    size_t front_identity_size;

    int log_fd, queue_fds[STAGE_QUEUES];
    int64_t log_pos;
    uint64_t epoch, number;
    bool feeding;
    char extra_topic[64];
    struct stage_member members[MEMBERS_MAX];
    int64_t committed;
    unsigned replayed, snapshots, sends;
    struct msg_send_answer last_answer;
};

static int listen_any(int *ret_port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    CHECK(bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 128) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&address, &size) == 0);
    *ret_port = ntohs(address.sin_port);
    return fd;
}

static void grant(struct stage *stage, enum grant_kind kind, uint32_t index, uint64_t arg, const int *fds,
                  unsigned count)
{
    struct fd_grant message = fd_grant_make(kind, index, FRONT_GENERATION, arg, "stage");
    CHECK(fd_channel_send(stage->channel, &message, fds, count) == 0);
}

static void grant_rings(struct stage *stage, enum ring_set_role role, size_t request_size, struct ring_reader *in,
                        struct ring_writer *out)
{
    struct ring_fds request, reply;
    CHECK(ring_create("request", request_size, 1, &request) == 0 && ring_create("reply", 1 << 20, 1, &reply) == 0);
    int fds[6] = {request.memory, request.data, request.space, reply.memory, reply.data, reply.space};
    grant(stage, GRANT_RING_SET, 1, role, fds, 6);
    CHECK(ring_reader_attach(in, &request) == 0 && ring_writer_attach(out, &reply) == 0);
}

static void grant_config(struct stage *stage)
{
    int fd = memfd_create("config", MFD_CLOEXEC);
    CHECK(dprintf(fd,
                  "brokerName=broker-s\nbrokerClusterName=C\nbrokerId=0\nlistenPort=%d\nstorePathRootDir=%s\n"
                  "mappedFileSizeCommitLog=%d\nmappedFileSizeConsumeQueue=%d\n",
                  stage->port, stage->folder, LOG_FILE_SIZE, QUEUE_FILE_SIZE) > 0);
    grant(stage, GRANT_CONFIG, 0, 0, &fd, 1);
    close(fd);
}

static void grant_all(struct stage *stage)
{
    int fd, line[2];
    CHECK(pipe2(line, O_CLOEXEC) == 0);
    stage->life_line = line[1];
    grant(stage, GRANT_START, 1, START_FIRST, NULL, 0);
    grant(stage, GRANT_LIFE_LINE, 0, 0, &line[0], 1);
    close(line[0]);
    int main_fd = listen_any(&stage->port), fast_fd = listen_any(&stage->fast_port);
    grant(stage, GRANT_LISTEN, 0, 0, &main_fd, 1);
    grant(stage, GRANT_LISTEN, 1, 0, &fast_fd, 1);
    close(main_fd);
    close(fast_fd);
    grant_config(stage);
    CHECK(board_create("board", 1, &fd) == 0);
    grant(stage, GRANT_BOARD, 0, 0, &fd, 1);
    CHECK(board_attach(fd, false, &stage->board) == 0);
    CHECK(queue_table_create("table", 1, &fd) == 0);
    int read_only;
    CHECK(segment_reopen_readonly(fd, &read_only) == 0);
    grant(stage, GRANT_QUEUE_TABLE, 0, 0, &read_only, 1);
    close(read_only);
    CHECK(queue_table_attach(fd, true, &stage->table) == 0);
    CHECK(interest_create("interest", 1, &fd) == 0);
    grant(stage, GRANT_INTEREST, 1, 0, &fd, 1);
    CHECK(interest_attach(fd, false, &stage->interest) == 0);
    grant_rings(stage, RING_SET_DATA, 8 << 20, &stage->data_in, &stage->data_out);
    grant_rings(stage, RING_SET_CONTROL, 256 << 10, &stage->control_in, &stage->control_out);
    CHECK(fault_page_create(&fd) == 0);
    CHECK(segment_reopen_readonly(fd, &read_only) == 0);
    grant(stage, GRANT_FAULT_PAGE, 0, 0, &read_only, 1);
    close(read_only);
    close(fd);
    grant(stage, GRANT_DONE, 0, 0, NULL, 0);
}

static void make_files(struct stage *stage)
{
    char path[1024];
    snprintf(path, sizeof path, "mkdir -p %s/commitlog %s/run", stage->folder, stage->folder);
    CHECK(system(path) == 0);
    snprintf(path, sizeof path, "%s/commitlog/%020d", stage->folder, 0);
    stage->log_fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(stage->log_fd >= 0 && ftruncate(stage->log_fd, LOG_FILE_SIZE) == 0);
    for (int i = 0; i < STAGE_QUEUES; i++) {
        snprintf(path, sizeof path, "mkdir -p %s/consumequeue/%s/%d", stage->folder, STAGE_TOPIC, i);
        CHECK(system(path) == 0);
        snprintf(path, sizeof path, "%s/consumequeue/%s/%d/%020d", stage->folder, STAGE_TOPIC, i, 0);
        stage->queue_fds[i] = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        CHECK(stage->queue_fds[i] >= 0 && ftruncate(stage->queue_fds[i], QUEUE_FILE_SIZE) == 0);
    }
}

/* ---- the store ---- */

static void *reply(struct ring_writer *out, unsigned kind, size_t size)
{
    void *payload = ring_reserve(out, (uint16_t)kind, 0, size, NULL);
    CHECK(payload);
    memset(payload, 0, size);
    return payload;
}

static struct msg_catalogue next_number(struct stage *stage)
{
    return (struct msg_catalogue){stage->epoch, ++stage->number};
}

static void tell_topic(struct stage *stage, const char *name, uint32_t slot_base)
{
    size_t size = sizeof(struct msg_cat_topic) + 4 + strlen(name);
    struct msg_cat_topic *topic = reply(&stage->control_out, MSG_CAT_TOPIC, size);
    *topic = (struct msg_cat_topic){.catalogue = next_number(stage),
                                    .read_queues = STAGE_QUEUES,
                                    .write_queues = STAGE_QUEUES,
                                    .perm = 6,
                                    .slot_base = slot_base,
                                    .slot_generation = 1,
                                    .slot_count = STAGE_QUEUES};
    struct cursor cursor = cursor_over(topic + 1, size - sizeof *topic);
    cursor_put_string(&cursor, bytes_of(name));
    cursor_put_string(&cursor, bytes_of(""));
}

static void tell_member(struct stage *stage, const struct stage_member *member, bool drop)
{
    struct cursor in = cursor_over(member->payload + sizeof member->put, member->size - sizeof member->put);
    struct bytes client = cursor_get_string(&in), group = cursor_get_string(&in);
    for (unsigned i = 0; i < member->put.subscription_count && !drop; i++) {
        int64_t version = cursor_get_i64(&in);
        uint8_t type = cursor_get_u8(&in);
        struct bytes topic = cursor_get_string(&in), expression = cursor_get_string(&in);
        size_t size = sizeof(struct msg_cat_subscription) + 6 + group.size + topic.size + expression.size;
        struct msg_cat_subscription *told = reply(&stage->control_out, MSG_CAT_SUBSCRIPTION, size);
        *told =
            (struct msg_cat_subscription){.catalogue = next_number(stage), .version = version, .expression_type = type};
        struct cursor cursor = cursor_over(told + 1, size - sizeof *told);
        cursor_put_string(&cursor, group);
        cursor_put_string(&cursor, topic);
        cursor_put_string(&cursor, expression);
    }
    size_t size = sizeof(struct msg_cat_member) + 4 + client.size + group.size;
    struct msg_cat_member *told = reply(&stage->control_out, drop ? MSG_CAT_MEMBER_DROP : MSG_CAT_MEMBER, size);
    *told = (struct msg_cat_member){.catalogue = next_number(stage),
                                    .connection = member->put.connection,
                                    .is_producer = member->put.is_producer,
                                    .message_model = member->put.message_model};
    struct cursor cursor = cursor_over(told + 1, size - sizeof *told);
    cursor_put_string(&cursor, client);
    cursor_put_string(&cursor, group);
}

static void snapshot(struct stage *stage)
{
    stage->snapshots++;
    *(struct msg_catalogue *)reply(&stage->control_out, MSG_CAT_BEGIN, sizeof(struct msg_catalogue)) =
        next_number(stage);
    tell_topic(stage, STAGE_TOPIC, 0);
    if (stage->extra_topic[0])
        tell_topic(stage, stage->extra_topic, 64);
    for (int i = 0; i < MEMBERS_MAX; i++)
        if (stage->members[i].used)
            tell_member(stage, &stage->members[i], false);
    *(struct msg_catalogue *)reply(&stage->control_out, MSG_CAT_END, sizeof(struct msg_catalogue)) = next_number(stage);
    stage->feeding = true;
}

static void plain_answer(struct stage *stage, uint64_t token, int32_t code, int64_t value)
{
    if (!token)
        return;
    struct msg_answer *answer = reply(&stage->control_out, MSG_ANSWER, sizeof *answer);
    *answer = (struct msg_answer){.token = token, .code = code, .value = value};
}

static struct bytes tags_of(struct bytes properties)
{
    const uint8_t *end = properties.data + properties.size;
    for (const uint8_t *at = properties.data; at < end;) {
        const uint8_t *stop = memchr(at, 2, (size_t)(end - at));
        if (!stop)
            stop = end;
        if (stop - at > 5 && memcmp(at, "TAGS\1", 5) == 0)
            return (struct bytes){at + 5, (size_t)(stop - at) - 5};
        at = stop + 1;
    }
    return (struct bytes){NULL, 0};
}

static uint32_t append(struct stage *stage, const struct msg_send_parts *parts, struct bytes properties,
                       struct bytes body, int64_t queue_offset)
{
    uint32_t size = (uint32_t)(91 + body.size + parts->topic.size + properties.size);
    uint8_t *record = calloc(1, size), *at = record + 88, entry[20];
    CHECK(record && stage->log_pos + size < LOG_FILE_SIZE);
    be32_store(record, size);
    be32_store(record + 4, 0xDAA320A7u);
    be32_store(record + 8, body.size ? crc32_gzip_refl(0, body.data, body.size) & 0x7FFFFFFF : 0);
    be32_store(record + 12, (uint32_t)parts->send->queue_id);
    be64_store(record + 20, (uint64_t)queue_offset);
    be64_store(record + 28, (uint64_t)stage->log_pos);
    be64_store(record + 40, (uint64_t)parts->send->born_ms);
    be64_store(record + 56, 1000 + (uint64_t)queue_offset * 10); /* store time: 10 ms apart */
    be32_store(record + 84, (uint32_t)body.size);
    memcpy(at, body.data, body.size);
    at += body.size;
    *at++ = (uint8_t)parts->topic.size;
    memcpy(at, parts->topic.data, parts->topic.size);
    at += parts->topic.size;
    be16_store(at, (uint16_t)properties.size);
    if (properties.size)
        memcpy(at + 2, properties.data, properties.size);
    CHECK(pwrite(stage->log_fd, record, size, stage->log_pos) == (ssize_t)size);
    struct bytes tags = tags_of(properties);
    be64_store(entry, (uint64_t)stage->log_pos);
    be32_store(entry + 8, size);
    be64_store(entry + 12, (uint64_t)(int64_t)(tags.size ? java_hash(tags) : 0));
    CHECK(pwrite(stage->queue_fds[parts->send->queue_id], entry, sizeof entry, queue_offset * 20) == 20);
    stage->log_pos += size;
    free(record);
    return size;
}

static void advance(struct stage *stage, uint32_t slot, int64_t max_offset)
{
    atomic_store(&stage->table->log_readable_pos, stage->log_pos);
    atomic_store(&stage->table->slots[slot].max_offset, max_offset);
    atomic_thread_fence(memory_order_seq_cst);
    if (!(atomic_load(&stage->interest->bits[slot / 64]) >> slot % 64 & 1))
        return;
    uint64_t pos = atomic_load(&stage->table->advance_pos);
    atomic_store(&stage->table->advance[pos % ADVANCE_COUNT], slot);
    atomic_store(&stage->table->advance_pos, pos + 1);
}

static void take_send(struct stage *stage, const struct ring_view *view)
{
    struct msg_send_parts parts;
    uint32_t sizes[64], count = 0;
    msg_send_split(view->payload, &parts);
    stage->sends++;
    bool known = bytes_equal_text(parts.topic, STAGE_TOPIC) && parts.send->queue_id < STAGE_QUEUES;
    uint32_t slot = (uint32_t)parts.send->queue_id;
    int64_t offset = known ? atomic_load(&stage->table->slots[slot].max_offset) : 0, log_pos = stage->log_pos;
    if (known && !(parts.send->flags & MSG_SEND_BATCH)) {
        sizes[count++] = append(stage, &parts, parts.properties, parts.body, offset);
    } else if (known) {
        for (const uint8_t *at = parts.body.data, *end = at + parts.body.size; at < end && count < 64;
             at += be32_load(at), count++) {
            uint32_t body_size = be32_load(at + 16);
            struct bytes body = {at + 20, body_size},
                         properties = {at + 22 + body_size, be16_load(at + 20 + body_size)};
            sizes[count] = append(stage, &parts, properties, body, offset + count);
        }
    }
    if (known)
        advance(stage, slot, offset + count);
    if (parts.send->flags & MSG_SEND_NO_ANSWER)
        return;
    const char *tail = known ? "KEY0" : "no such topic";
    size_t tail_size = strlen(tail), sizes_size = count > 1 ? count * sizeof *sizes : 0;
    struct msg_send_answer *answer = reply(&stage->data_out, MSG_SEND_ANSWER, sizeof *answer + tail_size + sizes_size);
    *answer = (struct msg_send_answer){.token = parts.send->token,
                                       .request_pos = view->record.pos,
                                       .queue_offset = offset,
                                       .log_pos = log_pos,
                                       .code = known ? 0 : 17,
                                       .queue_id = parts.send->queue_id,
                                       .count = count,
                                       .uniq_key_size = known ? (uint16_t)tail_size : 0,
                                       .remark_size = known ? 0 : (uint16_t)tail_size};
    memcpy(answer + 1, tail, tail_size);
    memcpy((uint8_t *)(answer + 1) + tail_size, sizes, sizes_size);
    stage->last_answer = *answer;
    stage->last_answer.uniq_key_size = stage->last_answer.remark_size = 0;
    stage->last_answer.count = 1;
}

static struct stage_member *member_at(struct stage *stage, const uint8_t *payload, uint32_t size)
{
    struct stage_member *free_one = NULL;
    for (int i = 0; i < MEMBERS_MAX; i++) {
        struct stage_member *member = &stage->members[i];
        if (!member->used)
            free_one = member;
        else if (member->size == size && memcmp(&member->put.connection, payload + 8, 9) == 0 &&
                 memcmp(member->payload + sizeof member->put, payload + sizeof member->put,
                        size - sizeof member->put) == 0)
            return member;
    }
    return free_one;
}

static void take_member(struct stage *stage, const struct ring_view *view)
{
    struct stage_member *member = member_at(stage, view->payload, view->payload_size);
    CHECK(member && view->payload_size <= sizeof member->payload);
    bool is_new = !member->used;
    member->used = true;
    member->size = view->payload_size;
    memcpy(member->payload, view->payload, view->payload_size);
    memcpy(&member->put, view->payload, sizeof member->put);
    if (member->put.flags & MSG_MEMBER_REPLAY)
        stage->replayed++;
    if (is_new && stage->feeding)
        tell_member(stage, member, false);
    if (member->put.flags & MSG_MEMBER_ANSWER)
        plain_answer(stage, member->put.token, 0, 0);
}

static void take_drop(struct stage *stage, const struct ring_view *view)
{
    struct msg_member_drop drop;
    memcpy(&drop, view->payload, sizeof drop);
    struct cursor cursor = cursor_over(view->payload + sizeof drop, view->payload_size - sizeof drop);
    struct bytes group = cursor_get_string(&cursor);
    for (int i = 0; i < MEMBERS_MAX; i++) {
        struct stage_member *member = &stage->members[i];
        struct cursor in = cursor_over(member->payload + sizeof member->put, member->size - sizeof member->put);
        if (!member->used || member->put.connection != drop.connection)
            continue;
        cursor_get_string(&in);
        if (group.size && (!bytes_equal(cursor_get_string(&in), group) || member->put.is_producer != drop.is_producer))
            continue;
        member->used = false;
        if (stage->feeding)
            tell_member(stage, member, true);
    }
    plain_answer(stage, drop.token, 0, 0);
}

static void take_control(struct stage *stage, const struct ring_view *view)
{
    struct msg_offset offset = {0};
    if (view->record.kind == MSG_OFFSET_COMMIT || view->record.kind == MSG_OFFSET_QUERY)
        memcpy(&offset, view->payload, sizeof offset);
    uint64_t token = *(const uint64_t *)view->payload;
    switch (view->record.kind) {
    case MSG_MEMBER_PUT:
        take_member(stage, view);
        break;
    case MSG_MEMBER_DROP:
        take_drop(stage, view);
        break;
    case MSG_REPLAY_END:
        break;
    case MSG_CATALOGUE_ASK:
        snapshot(stage);
        break;
    case MSG_OFFSET_COMMIT:
        stage->committed = offset.offset;
        plain_answer(stage, token, 0, 0);
        break;
    case MSG_OFFSET_QUERY:
        plain_answer(stage, token, stage->committed < 0 ? 22 : 0, stage->committed);
        break;
    case MSG_QUEUE_LOCK: {
        struct msg_lock lock;
        memcpy(&lock, view->payload, sizeof lock);
        struct msg_lock_answer *answer = reply(&stage->control_out, MSG_LOCK_ANSWER, sizeof *answer + lock.count);
        *answer = (struct msg_lock_answer){.token = token, .count = lock.count};
        memset(answer + 1, 1, lock.count);
        break;
    }
    default:
        plain_answer(stage, token, 0, 0);
    }
}

static void take_ring(struct stage *stage, struct ring_reader *in)
{
    struct ring_view view;
    while (ring_peek(in, &view) == 1) {
        enum msg_refusal refusal = msg_check_request(view.record.kind, view.payload, view.payload_size);
        if (refusal != MSG_OK) {
            fprintf(stderr, "stage: request of kind %u: %s\n", view.record.kind, msg_refusal_text(refusal));
            abort();
        }
        if (in == &stage->data_in)
            take_send(stage, &view);
        else
            take_control(stage, &view);
        ring_next(in, &view);
    }
    ring_release_to(in, in->next_pos);
}

static void publish(struct stage *stage)
{
    ring_publish(&stage->control_out);
    ring_publish(&stage->data_out);
    ring_wake_reader(&stage->control_out);
    ring_wake_reader(&stage->data_out);
}

static void on_bus(void *context, struct bytes peer, struct bytes message)
{
    struct stage *stage = context;
    enum bus_msg_kind kind;
    if (message.size == 0)
        return; /* it is connected */
    CHECK(bus_msg_kind(message, &kind) == 0 && peer.size <= sizeof stage->front_identity);
    memcpy(stage->front_identity, peer.data, peer.size);
    stage->front_identity_size = peer.size;
    if (kind == BUS_READY)
        stage->front_ready = true;
}

static void *stage_main(void *context)
{
    struct stage *stage = context;
    char path[1024];
    snprintf(path, sizeof path, "%s/run", stage->folder);
    CHECK(sd_event_new(&stage->event) >= 0);
    CHECK(bus_bind(stage->event, path, CONTRACT_BUS_SUPERVISOR, on_bus, stage, &stage->bus) == 0);
    while (!stage->ending) {
        CHECK(sd_event_run(stage->event, 1000) >= 0); /* a store that looks each millisecond */
        pthread_mutex_lock(&stage->lock);
        if (stage->stop_asked && stage->front_ready) {
            struct bytes message;
            CHECK(bus_msg_encode_plain(BUS_STOP, &message) == 0);
            if (bus_send(stage->bus, (struct bytes){stage->front_identity, stage->front_identity_size}, message) == 0)
                stage->stop_asked = false;
            free((void *)message.data);
        }
        if (!stage->dead) {
            take_ring(stage, &stage->control_in);
            take_ring(stage, &stage->data_in);
            publish(stage);
        }
        pthread_mutex_unlock(&stage->lock);
    }
    bus_free(stage->bus);
    sd_event_unref(stage->event);
    return NULL;
}

static void spawn(struct stage *stage, const char *program, int child_channel)
{
    char runtime[1024];
    snprintf(runtime, sizeof runtime, "%s/run", stage->folder);
    stage->front = fork();
    CHECK(stage->front >= 0);
    if (stage->front)
        return;
    setenv(CONTRACT_ENV_WORKER, "front broker-s/0", 1);
    setenv(CONTRACT_ENV_GENERATION, "7", 1);
    setenv(CONTRACT_ENV_RUNTIME_DIR, runtime, 1);
    if (child_channel == CONTRACT_FD_CHANNEL)
        fcntl(child_channel, F_SETFD, 0);
    else
        dup2(child_channel, CONTRACT_FD_CHANNEL);
    execl(program, program, (char *)NULL);
    _exit(127);
}

struct stage *stage_start(const char *front_program, const char *folder)
{
    struct stage *stage = calloc(1, sizeof *stage);
    int child_channel;
    CHECK(stage);
    snprintf(stage->folder, sizeof stage->folder, "%s", folder);
    pthread_mutex_init(&stage->lock, NULL);
    stage->committed = -1;
    stage->epoch = 1;
    make_files(stage);
    CHECK(fd_channel_pair(&stage->channel, &child_channel) == 0);
    fcntl(stage->channel, F_SETFL, fcntl(stage->channel, F_GETFL) & ~O_NONBLOCK);
    spawn(stage, front_program, child_channel);
    close(child_channel);
    grant_all(stage);
    for (uint32_t i = 0; i < STAGE_QUEUES; i++) {
        stage->table->slots[i].queue_id = i;
        atomic_store(&stage->table->slots[i].generation, 1);
        atomic_store(&stage->table->slots[64 + i].generation, 1);
    }
    atomic_store(&stage->table->store_generation, stage->epoch);
    CHECK(pthread_create(&stage->thread, NULL, stage_main, stage) == 0);
    return stage;
}

int stage_end(struct stage *stage)
{
    int status = -1;
    stage->stop_asked = true;
    for (int i = 0; i < 1500 && waitpid(stage->front, &status, WNOHANG) == 0; i++)
        usleep(10000);
    if (status == -1) {
        kill(stage->front, SIGKILL);
        waitpid(stage->front, NULL, 0);
    }
    stage->ending = true;
    pthread_join(stage->thread, NULL);
    ring_reader_detach(&stage->data_in);
    ring_reader_detach(&stage->control_in);
    ring_writer_detach(&stage->data_out);
    ring_writer_detach(&stage->control_out);
    queue_table_detach(stage->table);
    interest_detach(stage->interest);
    board_detach(stage->board);
    close(stage->channel);
    close(stage->life_line);
    close(stage->log_fd);
    for (int i = 0; i < STAGE_QUEUES; i++)
        close(stage->queue_fds[i]);
    pthread_mutex_destroy(&stage->lock);
    free(stage);
    return status;
}

int stage_port(const struct stage *stage)
{
    return stage->port;
}

int stage_fast_port(const struct stage *stage)
{
    return stage->fast_port;
}

pid_t stage_front_pid(const struct stage *stage)
{
    return stage->front;
}

void stage_kill_store(struct stage *stage)
{
    pthread_mutex_lock(&stage->lock);
    stage->dead = true;
    pthread_mutex_unlock(&stage->lock);
}

void stage_start_store(struct stage *stage, bool answer_twice)
{
    pthread_mutex_lock(&stage->lock);
    if (answer_twice)
        *(struct msg_send_answer *)reply(&stage->data_out, MSG_SEND_ANSWER, sizeof(struct msg_send_answer)) =
            stage->last_answer;
    memset(stage->members, 0, sizeof stage->members);
    stage->epoch++;
    stage->number = 100;
    stage->feeding = false;
    atomic_store(&stage->table->store_generation, stage->epoch);
    publish(stage);
    stage->dead = false;
    pthread_mutex_unlock(&stage->lock);
}

void stage_make_gap(struct stage *stage, const char *topic)
{
    pthread_mutex_lock(&stage->lock);
    next_number(stage);
    snprintf(stage->extra_topic, sizeof stage->extra_topic, "%s", topic);
    tell_topic(stage, topic, 64);
    publish(stage);
    pthread_mutex_unlock(&stage->lock);
}

bool stage_make_cold(struct stage *stage)
{
    unsigned char resident = 1;
    pthread_mutex_lock(&stage->lock);
    fsync(stage->log_fd);
    posix_fadvise(stage->log_fd, 0, 0, POSIX_FADV_DONTNEED);
    off_t page = (stage->log_pos - 120000) & ~(off_t)4095;
    void *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, stage->log_fd, page);
    CHECK(map != MAP_FAILED && mincore(map, 4096, &resident) == 0);
    munmap(map, 4096);
    pthread_mutex_unlock(&stage->lock);
    return !(resident & 1);
}

#define LOCKED_GETTER(type, name, expression)                                                                          \
    type name(struct stage *stage)                                                                                     \
    {                                                                                                                  \
        pthread_mutex_lock(&stage->lock);                                                                              \
        type value = expression;                                                                                       \
        pthread_mutex_unlock(&stage->lock);                                                                            \
        return value;                                                                                                  \
    }
LOCKED_GETTER(unsigned, stage_replayed_members, stage->replayed)
LOCKED_GETTER(unsigned, stage_snapshots, stage->snapshots)
LOCKED_GETTER(unsigned, stage_sends, stage->sends)
LOCKED_GETTER(int64_t, stage_committed_offset, stage->committed)

unsigned stage_members(struct stage *stage)
{
    unsigned count = 0;
    pthread_mutex_lock(&stage->lock);
    for (int i = 0; i < MEMBERS_MAX; i++)
        count += stage->members[i].used;
    pthread_mutex_unlock(&stage->lock);
    return count;
}

uint64_t stage_counter(struct stage *stage, int counter)
{
    return board_get(stage->board, (enum board_counter)counter);
}
