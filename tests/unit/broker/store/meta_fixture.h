/* A store as the metadata half sees it, without log and without processes: real image and queue table objects, real
 * rings to fronts played by the test. "Death" is dropping the struct and opening another one on the same objects. */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/store/catalogue.h"
#include "broker/store/config_files.h"
#include "broker/store/groups.h"
#include "broker/store/image.h"
#include "broker/store/members.h"
#include "broker/store/metadata.h"
#include "broker/store/offsets.h"
#include "broker/store/peers.h"
#include "broker/store/queue_locks.h"
#include "broker/store/store.h"
#include "broker/store/topics.h"
#include "contract.h"
#include "msg/msg.h"

struct fixture {
    char dir[64];
    int image_fd, table_fd; /* what the supervisor keeps */
    struct store store;
    struct peers peers;
    struct peer *list[4];
    struct ring_writer to_store[4]; /* the front's ends of its control rings */
    struct ring_reader from_store[4];
};

/* For "%.*s". */
#define SAY(b)        (int)(b).size, (b).data ? (const char *)(b).data : ""
#define TEXT(literal) ((struct bytes){(const uint8_t *)(literal), sizeof(literal) - 1})

static inline void fixture_begin(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    snprintf(f->dir, sizeof f->dir, "/tmp/pintle-meta-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    assert_int_equal(
        segment_create("image", SEGMENT_IMAGE, CONTRACT_IMAGE_VERSION, CONTRACT_IMAGE_SIZE, 1, &f->image_fd), 0);
    assert_int_equal(queue_table_create("queue table", 1, &f->table_fd), 0);
}

/* A store of the next generation. */
static inline int fixture_open(struct fixture *f, bool warm)
{
    uint64_t generation = f->store.generation + 1;
    memset(&f->store, 0, sizeof f->store);
    f->store.generation = generation;
    f->store.config = (struct store_config){
        .broker_name = "broker-a",
        .cluster_name = "DefaultCluster",
        .broker_ip1 = "",
        .listen_port = 10911,
        .ha_listen_port = 10912,
        .store_root = f->dir,
        .auto_create_topic = true,
        .auto_create_group = true,
        .default_topic_queues = 8,
        .broker_permission = 6,
        .flush_offset_interval_ms = 5000,
        .register_interval_ms = 30000,
        .flush_interval_ms = 500,
    };
    f->store.peers = &f->peers;
    f->peers.list = f->list;
    f->peers.count = 0;
    int r = queue_table_attach(dup(f->table_fd), true, &f->store.queue_table);
    assert_int_equal(r, 0);
    return metadata_open(&f->store, dup(f->image_fd), warm);
}

static inline void fixture_drop_peer(struct fixture *f, unsigned index)
{
    struct peer *peer = f->list[index];
    ring_reader_detach(&peer->control_in);
    ring_writer_detach(&peer->control_out);
    ring_writer_detach(&f->to_store[index]);
    ring_reader_detach(&f->from_store[index]);
    free(peer);
    f->peers.count--;
}

/* As when the process dies: nothing is written, nobody is told. */
static inline void fixture_die(struct fixture *f)
{
    while (f->peers.count > 0) {
        catalogue_peer_gone(&f->store, f->list[f->peers.count - 1]);
        fixture_drop_peer(f, f->peers.count - 1);
    }
    metadata_free(&f->store);
    queue_table_detach(f->store.queue_table);
}

static inline void remove_tree(const char *dir)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
}

static inline void fixture_end(struct fixture *f)
{
    fixture_die(f);
    close(f->image_fd);
    close(f->table_fd);
    remove_tree(f->dir);
}

static inline struct ring_fds ring_fds_dup(const struct ring_fds *fds)
{
    return (struct ring_fds){dup(fds->memory), dup(fds->data), dup(fds->space)};
}

/* A front with control rings; `reply_size` as small as a test wants. */
static inline struct peer *fixture_add_front(struct fixture *f, uint32_t id, size_t reply_size)
{
    unsigned index = f->peers.count;
    struct peer *peer = calloc(1, sizeof *peer);
    struct ring_fds request, reply, copy;
    assert_int_equal(ring_create("request", 256 * 1024, id, &request), 0);
    assert_int_equal(ring_create("reply", reply_size, id, &reply), 0);
    peer->id = id;
    peer->generation = 1;
    peer->has_control = true;
    snprintf(peer->name, sizeof peer->name, "front %u", id);
    copy = ring_fds_dup(&request);
    assert_int_equal(ring_writer_attach(&f->to_store[index], &copy), 0);
    copy = ring_fds_dup(&reply);
    assert_int_equal(ring_reader_attach(&f->from_store[index], &copy), 0);
    assert_int_equal(ring_reader_attach(&peer->control_in, &request), 0);
    assert_int_equal(ring_writer_attach(&peer->control_out, &reply), 0);
    f->list[f->peers.count++] = peer;
    metadata_peer_added(&f->store, peer);
    return peer;
}

/* One record, taken by the store as in a turn. */
static inline void send_record(struct fixture *f, unsigned index, enum msg_kind kind, const void *payload, size_t size)
{
    void *place = ring_reserve(&f->to_store[index], (uint16_t)kind, 0, size, NULL);
    assert_non_null(place);
    memcpy(place, payload, size);
    ring_publish(&f->to_store[index]);
    struct ring_view view;
    struct peer *peer = f->list[index];
    assert_int_equal(ring_peek(&peer->control_in, &view), 1);
    metadata_take(&f->store, peer, &view);
    ring_next(&peer->control_in, &view);
    metadata_feed_catalogue(&f->store);
    for (unsigned i = 0; i < f->peers.count; i++)
        ring_publish(&f->list[i]->control_out);
    ring_release_to(&peer->control_in, peer->control_in.next_pos);
}

struct one_subscription {
    const char *topic, *expression;
    int64_t version;
};

static inline void send_member(struct fixture *f, unsigned index, uint64_t connection, const char *client_id,
                               const char *group, bool is_producer, const struct one_subscription *list, unsigned count)
{
    uint8_t buffer[4096];
    struct cursor c = cursor_over(buffer, sizeof buffer);
    struct msg_member_put put = {.token = 7,
                                 .connection = connection,
                                 .is_producer = is_producer,
                                 .consume_type = 1,
                                 .message_model = 1,
                                 .flags = MSG_MEMBER_ANSWER,
                                 .subscription_count = (uint16_t)count,
                                 .version = 479};
    memcpy(cursor_take(&c, sizeof put), &put, sizeof put);
    cursor_put_string(&c, bytes_of(client_id));
    cursor_put_string(&c, bytes_of(group));
    for (unsigned i = 0; i < count; i++) {
        cursor_put_i64(&c, list[i].version);
        cursor_put_u8(&c, MSG_EXPRESSION_TAG);
        cursor_put_string(&c, bytes_of(list[i].topic));
        cursor_put_string(&c, bytes_of(list[i].expression));
    }
    assert_false(c.bad);
    send_record(f, index, MSG_MEMBER_PUT, buffer, (size_t)(c.pos - buffer));
}

static inline void send_member_drop(struct fixture *f, unsigned index, uint64_t connection, const char *group)
{
    uint8_t buffer[512];
    struct cursor c = cursor_over(buffer, sizeof buffer);
    struct msg_member_drop drop = {.connection = connection};
    memcpy(cursor_take(&c, sizeof drop), &drop, sizeof drop);
    cursor_put_string(&c, bytes_of(group));
    send_record(f, index, MSG_MEMBER_DROP, buffer, (size_t)(c.pos - buffer));
}

static inline void send_replay_end(struct fixture *f, unsigned index)
{
    struct msg_replay replay = {.token = 0, .store_generation = f->store.generation};
    send_record(f, index, MSG_REPLAY_END, &replay, sizeof replay);
}

static inline void send_ask(struct fixture *f, unsigned index)
{
    struct msg_replay ask = {.token = 0, .store_generation = f->store.generation};
    send_record(f, index, MSG_CATALOGUE_ASK, &ask, sizeof ask);
}

/* The next record for a front, or false. `ret_view` is good until the next call. */
static inline bool next_reply(struct fixture *f, unsigned index, struct ring_view *ret_view)
{
    struct ring_reader *reader = &f->from_store[index];
    ring_release_to(reader, reader->next_pos);
    int r = ring_peek(reader, ret_view);
    assert_true(r >= 0);
    if (r == 1)
        ring_next(reader, ret_view);
    return r == 1;
}
