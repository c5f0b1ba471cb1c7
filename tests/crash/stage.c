/* A store in this process (see stage.h). The clock functions stand in front of the real ones by the linker's --wrap. */
#include "stage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "broker/store/checkpoint.h"
#include "broker/store/config.h"
#include "broker/store/file_layer.h"
#include "broker/store/lifecycle.h"
#include "broker/store/peers.h"
#include "broker/store/turn.h"
#include "contract.h"
#include "msg/msg.h"
#include "shm/ledger.h"
#include "trace_inside.h"

enum { TURNS = 8 };

static _Atomic int64_t passed_ms;

int64_t __real_clock_realtime_ms(void);
int64_t __real_clock_monotonic_ms(void);
int64_t __wrap_clock_realtime_ms(void);
int64_t __wrap_clock_monotonic_ms(void);

int64_t __wrap_clock_realtime_ms(void)
{
    return __real_clock_realtime_ms() + atomic_load(&passed_ms);
}

int64_t __wrap_clock_monotonic_ms(void)
{
    return __real_clock_monotonic_ms() + atomic_load(&passed_ms);
}

int64_t stage_real_ms(void)
{
    return __real_clock_monotonic_ms();
}

void stage_pass_time(int64_t ms)
{
    atomic_fetch_add(&passed_ms, ms);
}

void stage_folder_make(char *to, size_t size, const char *what)
{
    const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(to, size, "%s/pintle-%s-XXXXXX", base, what);
    TRACE_MUST(mkdtemp(to));
}

static void empty_at(int folder_fd)
{
    DIR *dir = fdopendir(folder_fd);
    struct dirent *entry;
    TRACE_MUST(dir);
    while ((entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (unlinkat(dirfd(dir), entry->d_name, 0) == 0 || errno != EISDIR)
            continue;
        empty_at(openat(dirfd(dir), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR);
    }
    closedir(dir);
}

void stage_folder_empty(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        empty_at(fd);
}

void stage_folder_remove(const char *path)
{
    stage_folder_empty(path);
    rmdir(path);
}

static void memory_make(struct stage *stage)
{
    TRACE_MUST(queue_table_create("queues", 1, &stage->table_fd) == 0);
    TRACE_MUST(ledger_create("ledger", 1, &stage->ledger_fd) == 0);
    TRACE_MUST(segment_create("image", SEGMENT_IMAGE, CONTRACT_IMAGE_VERSION, CONTRACT_IMAGE_SIZE, 1, &stage->image_fd) == 0);
}

static void memory_close(struct stage *stage)
{
    close(stage->table_fd);
    close(stage->ledger_fd);
    close(stage->image_fd);
}

void stage_begin(struct stage *stage, const char *dir, bool sync)
{
    *stage = (struct stage){.sync = sync};
    snprintf(stage->dir, sizeof stage->dir, "%s", dir);
    snprintf(stage->root, sizeof stage->root, "%s/store", dir);
    mkdir(stage->root, 0755);
    TRACE_MUST(board_create("board", 1, &stage->board_fd) == 0);
    memory_make(stage);
}

void stage_end(struct stage *stage)
{
    memory_close(stage);
    close(stage->board_fd);
}

void stage_forget(struct stage *stage)
{
    memory_close(stage);
    memory_make(stage);
}

static void config_make(struct stage *stage)
{
    char text[1024], *error = NULL;
    int n = snprintf(text, sizeof text,
                     "brokerName=broker-a\nbrokerClusterName=C\nbrokerId=0\nbrokerIP1=127.0.0.1\nlistenPort=30911\n"
                     "storePathRootDir=%s\nflushDiskType=%s\nmaxMessageSize=20000\ndefaultTopicQueueNums=%d\n",
                     stage->root, stage->sync ? "SYNC_FLUSH" : "ASYNC_FLUSH", STAGE_QUEUES);
    int fd = memfd_create("config", MFD_CLOEXEC);
    TRACE_MUST(fd >= 0 && write(fd, text, (size_t)n) == n);
    if (config_load(fd, &stage->store.config, &error) < 0) {
        fprintf(stderr, "stage: %s\n", error);
        abort();
    }
    stage->store.config.commit_log_file_size = STAGE_LOG_FILE;
    stage->store.config.consume_queue_file_size = STAGE_QUEUE_FILE;
    stage->store.config.sync_flush_timeout_ms = stage->flush_timeout_ms ? stage->flush_timeout_ms : INT32_MAX;
    stage->store.config.index_slots = 50;
    stage->store.config.index_entries = 100;
    stage->store.config.flush_interval_ms = 1;
    stage->store.config.flush_offset_interval_ms = 3;
}

static void store_make(struct stage *stage, enum start_cause cause)
{
    struct store *store = &stage->store;
    uint64_t generation = store->generation + 1;
    *store = (struct store){.generation = generation, .cause = cause, .lock_fd = -1, .runtime_dir = stage->dir};
    TRACE_MUST(sd_event_new(&store->event) >= 0);
    TRACE_MUST(board_attach(dup(stage->board_fd), true, &store->board) == 0);
    store->worker = (struct worker){.name = "store stage", .event = store->event, .board = store->board};
    store->peers = calloc(1, sizeof *store->peers);
    TRACE_MUST(store->peers);
    TRACE_MUST(queue_table_attach(dup(stage->table_fd), true, &store->queue_table) == 0);
    TRACE_MUST(ledger_attach(dup(stage->ledger_fd), &store->ledger) == 0);
    store->image_fd = dup(stage->image_fd);
    config_make(stage);
    file_layer_attach(store->board);
}

int stage_recover(struct stage *stage, const char **ret_what)
{
    struct checkpoint checkpoint;
    store_make(stage, START_FIRST);
    return lifecycle_recover(&stage->store, NULL, &checkpoint, ret_what);
}

static struct ring_fds fds_dup(const struct ring_fds *fds)
{
    return (struct ring_fds){dup(fds->memory), dup(fds->data), dup(fds->space)};
}

static void front_make(struct stage *stage)
{
    struct fd_grant grant = fd_grant_make(GRANT_RING_SET, 1, stage->store.generation, RING_SET_DATA, "front");
    struct ring_fds own[4];
    TRACE_MUST(ring_create("data", 1 << 20, 1, &stage->data[0]) == 0 && ring_create("answers", 1 << 20, 1, &stage->data[1]) == 0);
    TRACE_MUST(ring_create("control", 256 << 10, 1, &stage->control[0]) == 0);
    TRACE_MUST(ring_create("catalogue", 1 << 20, 1, &stage->control[1]) == 0);
    own[0] = fds_dup(&stage->data[0]);
    own[1] = fds_dup(&stage->data[1]);
    own[2] = fds_dup(&stage->control[0]);
    own[3] = fds_dup(&stage->control[1]);
    TRACE_MUST(ring_writer_attach(&stage->data_out, &own[0]) == 0 && ring_reader_attach(&stage->data_in, &own[1]) == 0);
    TRACE_MUST(ring_writer_attach(&stage->control_out, &own[2]) == 0 && ring_reader_attach(&stage->control_in, &own[3]) == 0);
    const struct ring_fds *d = stage->data, *c = stage->control;
    int data[6] = {d[0].memory, d[0].data, d[0].space, d[1].memory, d[1].data, d[1].space};
    int control[6] = {c[0].memory, c[0].data, c[0].space, c[1].memory, c[1].data, c[1].space};
    TRACE_MUST(peers_grant_rings(&stage->store, &grant, data) == 0);
    grant.arg = RING_SET_CONTROL;
    TRACE_MUST(peers_grant_rings(&stage->store, &grant, control) == 0);
}

int stage_start(struct stage *stage, enum start_cause cause, const char **ret_what)
{
    struct checkpoint checkpoint;
    store_make(stage, cause);
    front_make(stage);
    stage->answered = stage->sent;
    int r = lifecycle_recover(&stage->store, NULL, &checkpoint, ret_what);
    return r < 0 ? r : lifecycle_serve(&stage->store, &checkpoint, ret_what);
}

int stage_stop(struct stage *stage)
{
    return lifecycle_stop(&stage->store);
}

void stage_die(struct stage *stage)
{
    struct store *store = &stage->store;
    bool has_front = store->peers && store->peers->count > 0;
    lifecycle_free(store);
    file_layer_attach(NULL);
    board_detach(store->board);
    sd_event_unref(store->event);
    if (!has_front)
        return;
    ring_writer_detach(&stage->data_out);
    ring_reader_detach(&stage->data_in);
    ring_writer_detach(&stage->control_out);
    ring_reader_detach(&stage->control_in);
}

const char *stage_topic(unsigned topic)
{
    static const char *const names[STAGE_TOPICS] = {"orders", "payments", "audit", "t"};
    return names[topic % STAGE_TOPICS];
}

bool stage_send(struct stage *stage, unsigned topic, int32_t queue_id, size_t body_size, const char *properties)
{
    const char *name = stage_topic(topic);
    size_t topic_size = strlen(name), properties_size = strlen(properties);
    struct msg_send *send =
        ring_reserve(&stage->data_out, MSG_SEND, 0, sizeof *send + topic_size + 6 + properties_size + body_size, NULL);
    if (!send)
        return false;
    uint64_t token = ++stage->sent, random = token;
    *send = (struct msg_send){.token = token, .born_ms = clock_realtime_ms(), .queue_id = queue_id,
                              .default_topic_queues = STAGE_QUEUES, .topic_size = (uint16_t)topic_size,
                              .default_topic_size = 6, .max_reconsume_times = -1,
                              .properties_size = (uint32_t)properties_size, .body_size = (uint32_t)body_size,
                              .born_ip = {127, 0, 0, 1}};
    uint8_t *to = (uint8_t *)(send + 1);
    memcpy(to, name, topic_size);
    memcpy(to + topic_size, "TBW102", 6);
    memcpy(to + topic_size + 6, properties, properties_size);
    to += topic_size + 6 + properties_size;
    for (size_t i = 0; i < body_size; i++)
        to[i] = (uint8_t)mix(&random);
    ring_publish(&stage->data_out);
    return true;
}

bool stage_group(struct stage *stage)
{
    struct bytes group = bytes_of("group");
    size_t size = sizeof(struct msg_group_put) + 4 + group.size;
    struct msg_group_put *put = ring_reserve(&stage->control_out, MSG_GROUP_PUT, 0, size, NULL);
    if (!put)
        return false;
    *put = (struct msg_group_put){.flags = MSG_GROUP_AUTO};
    struct cursor c = cursor_over(put + 1, size - sizeof *put);
    cursor_put_string(&c, group);
    cursor_put_string(&c, bytes_of(""));
    ring_publish(&stage->control_out);
    return true;
}

bool stage_commit(struct stage *stage, unsigned topic, int32_t queue_id, int64_t offset)
{
    struct bytes name = bytes_of(stage_topic(topic)), group = bytes_of("group");
    size_t size = sizeof(struct msg_offset) + 4 + name.size + group.size;
    struct msg_offset *commit = ring_reserve(&stage->control_out, MSG_OFFSET_COMMIT, 0, size, NULL);
    if (!commit)
        return false;
    *commit = (struct msg_offset){.offset = offset, .queue_id = queue_id};
    struct cursor c = cursor_over(commit + 1, size - sizeof *commit);
    cursor_put_string(&c, group);
    cursor_put_string(&c, name);
    ring_publish(&stage->control_out);
    return true;
}

static void answers_take(struct stage *stage, void (*on_answer)(void *context, const struct stage_answer *answer),
                         void *context)
{
    struct ring_view view;
    int r;
    while ((r = ring_peek(&stage->data_in, &view)) == 1) {
        const struct msg_send_answer *answer = (const struct msg_send_answer *)view.payload;
        struct stage_answer told = {.token = answer->token, .code = answer->code, .log_pos = answer->log_pos,
                                    .queue_offset = answer->queue_offset};
        snprintf(told.remark, sizeof told.remark, "%.*s", answer->remark_size,
                 (const char *)(answer + 1) + answer->uniq_key_size);
        stage->answered++;
        if (on_answer)
            on_answer(context, &told);
        ring_next(&stage->data_in, &view);
    }
    TRACE_MUST(r == 0);
    ring_release_to(&stage->data_in, stage->data_in.next_pos);
    while ((r = ring_peek(&stage->control_in, &view)) == 1)
        ring_next(&stage->control_in, &view);
    TRACE_MUST(r == 0);
    ring_release_to(&stage->control_in, stage->control_in.next_pos);
}

bool stage_step(struct stage *stage, void (*on_answer)(void *context, const struct stage_answer *answer), void *context)
{
    bool worked = false;
    for (unsigned i = 0; i < TURNS && turn_run(stage->store.turn); i++)
        worked = true;
    TRACE_MUST(worker_events(&stage->store.worker, 0) >= 0);
    answers_take(stage, on_answer, context);
    return worked;
}
