/* A store's log half without processes: real files in a folder of its own, real memory objects, the real metadata half.
 * "Death" is dropping everything but files and memory objects. */
#pragma once

#include "../../unit.h"

#include <isa-l/crc.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/store/commit_log.h"
#include "broker/store/consume_queue.h"
#include "broker/store/dispatch.h"
#include "broker/store/encode.h"
#include "broker/store/metadata.h"
#include "broker/store/peers.h"
#include "broker/store/recover.h"
#include "broker/store/topics.h"
#include "contract.h"
#include "shm/ledger.h"

struct log_fixture {
    char dir[64], log_dir[96];
    int64_t file_size;
    int image_fd, table_fd, ledger_fd, board_fd;
    struct store store;
    struct peers peers;
    struct dispatch *dispatch;
    struct encode_host host;
};

static inline void log_fixture_memory(struct log_fixture *f)
{
    assert_int_equal(segment_create("image", SEGMENT_IMAGE, CONTRACT_IMAGE_VERSION, CONTRACT_IMAGE_SIZE, 1, &f->image_fd), 0);
    assert_int_equal(queue_table_create("queues", 1, &f->table_fd), 0);
    assert_int_equal(ledger_create("ledger", 1, &f->ledger_fd), 0);
}

static inline void log_fixture_begin(struct log_fixture *f, int64_t file_size)
{
    memset(f, 0, sizeof *f);
    f->file_size = file_size;
    snprintf(f->dir, sizeof f->dir, "/tmp/pintle-log-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->log_dir, sizeof f->log_dir, "%s/commitlog", f->dir);
    assert_int_equal(board_create("board", 1, &f->board_fd), 0);
    log_fixture_memory(f);
}

/* A store of the next generation; `clean`: there was no abort file. */
static inline void log_fixture_open(struct log_fixture *f, enum start_cause cause, bool clean)
{
    struct store *store = &f->store;
    uint64_t generation = store->generation + 1;
    memset(store, 0, sizeof *store);
    memset(&f->peers, 0, sizeof f->peers);
    store->generation = generation;
    store->cause = cause;
    store->peers = &f->peers;
    store->config = (struct store_config){.broker_name = "broker-a", .cluster_name = "C", .broker_ip1 = "127.0.0.1",
                                          .region_id = "DefaultRegion", .listen_port = 10911, .store_root = f->dir,
                                          .commit_log_dir = f->log_dir, .commit_log_file_size = f->file_size,
                                          .consume_queue_file_size = 400, .auto_create_topic = true,
                                          .default_topic_queues = 4, .max_message_size = 4194304,
                                          .broker_permission = 6, .flush_offset_interval_ms = 5000};
    assert_int_equal(board_attach(dup(f->board_fd), true, &store->board), 0);
    assert_int_equal(queue_table_attach(dup(f->table_fd), true, &store->queue_table), 0);
    assert_int_equal(ledger_attach(dup(f->ledger_fd), &store->ledger), 0);
    assert_int_equal(commit_log_open(&store->config, &store->commit_log), 0);
    bool warm = recover_is_warm(store);
    struct checkpoint checkpoint;
    assert_int_equal(checkpoint_read(f->dir, &checkpoint), 0);
    assert_int_equal(metadata_open(store, dup(f->image_fd), warm), 0);
    int64_t trusted_pos = INT64_MAX;
    if (!warm && !clean)
        assert_int_equal(recover_trusted_pos(store, &checkpoint, &trusted_pos), 0);
    assert_int_equal(consume_queues_open(store, warm, commit_log_min_pos(store->commit_log), trusted_pos), 0);
    if (warm)
        assert_int_equal(recover_warm(store), 0);
    else
        assert_int_equal(recover_cold(store, trusted_pos, checkpoint.physic_ms, NULL), 0);
    assert_int_equal(dispatch_new(store, &f->dispatch), 0);
    assert_int_equal(encode_host_init(&f->host, &store->config), 0);
}

static inline void log_fixture_die(struct log_fixture *f)
{
    struct store *store = &f->store;
    encode_host_done(&f->host);
    dispatch_free(f->dispatch);
    metadata_free(store);
    consume_queues_free(store->consume_queues);
    commit_log_free(store->commit_log);
    ledger_detach(store->ledger);
    queue_table_detach(store->queue_table);
    board_detach(store->board);
}

/* The whole cluster went: memory objects are fresh. */
static inline void log_fixture_forget(struct log_fixture *f)
{
    close(f->image_fd);
    close(f->table_fd);
    close(f->ledger_fd);
    log_fixture_memory(f);
}

static inline void log_fixture_end(struct log_fixture *f)
{
    char command[128];
    close(f->image_fd);
    close(f->table_fd);
    close(f->ledger_fd);
    close(f->board_fd);
    snprintf(command, sizeof command, "rm -rf '%s'", f->dir);
    assert_int_equal(system(command), 0);
}

static inline struct consume_queue *log_fixture_queue(struct log_fixture *f, const char *name, int32_t queue_id)
{
    struct topic *topic = topics_find(f->store.topics, bytes_of(name));
    assert_non_null(topic);
    assert_true((uint32_t)queue_id < topic->slot_count);
    return consume_queues_get(f->store.consume_queues, topic->slot_base + (uint32_t)queue_id);
}

static inline int64_t log_fixture_max(struct log_fixture *f, const char *name, int32_t queue_id)
{
    uint32_t slot = log_fixture_queue(f, name, queue_id)->slot;
    return atomic_load(&f->store.queue_table->slots[slot].max_offset);
}

static inline int64_t log_fixture_min(struct log_fixture *f, const char *name, int32_t queue_id)
{
    uint32_t slot = log_fixture_queue(f, name, queue_id)->slot;
    return atomic_load(&f->store.queue_table->slots[slot].min_offset);
}

/* A record as the store would encode it next; returns its size. */
static inline size_t log_fixture_encode(struct log_fixture *f, const char *name, int32_t queue_id, size_t body_size,
                                        int64_t queue_offset, int64_t pos, uint8_t *to)
{
    static uint8_t body[8192];
    static const uint8_t ip[4] = {10, 0, 0, 9};
    for (size_t i = 0; i < body_size; i++)
        body[i] = (uint8_t)(i * 7 + (size_t)pos);
    struct properties found;
    struct encode_message message = {.topic = bytes_of(name), .body = {body, body_size},
                                     .properties = bytes_of("TAGS\1A\2"), .found = &found, .queue_id = queue_id,
                                     .store_ms = 1700000000000 + pos, .born_ms = 1700000000000, .born_ip = ip,
                                     .born_port = 4711};
    properties_scan(message.properties, &found);
    assert_int_equal(encode_prepare(&f->host, &message, true), 0);
    encode_record(&f->host, &message, queue_offset, pos, to);
    return message.record_size;
}

/* Appends one message and indexes it; returns its position. */
static inline int64_t log_fixture_put(struct log_fixture *f, const char *name, int32_t queue_id, size_t body_size)
{
    static uint8_t buffer[16384];
    struct commit_log *log = f->store.commit_log;
    struct topic *topic;
    const char *remark;
    assert_int_equal(topics_auto_create(&f->store, bytes_of(name), bytes_of("TBW102"), 4, false, &topic, &remark), 0);
    struct consume_queue *queue = log_fixture_queue(f, name, queue_id);
    int64_t pos = commit_log_end(log);
    size_t size = log_fixture_encode(f, name, queue_id, body_size, queue->next_offset, pos, buffer);
    if ((int64_t)size + RECORD_BLANK_SIZE > commit_log_file_left(log, pos)) {
        encode_blank(buffer, commit_log_file_left(log, pos));
        assert_int_equal(commit_log_append(log, buffer, RECORD_BLANK_SIZE, true), 0);
        pos = commit_log_end(log);
        size = log_fixture_encode(f, name, queue_id, body_size, queue->next_offset, pos, buffer);
    }
    assert_int_equal(commit_log_append(log, buffer, size, false), 0);
    queue->next_offset++;
    assert_int_equal(dispatch_log(f->dispatch, commit_log_end(log), NULL, 0, 0, INT64_MAX), 0);
    return pos;
}

static inline int log_fixture_file(struct log_fixture *f, int64_t file_pos)
{
    char path[256];
    commit_log_file_path(f->log_dir, file_pos, path, sizeof path);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    return fd;
}
