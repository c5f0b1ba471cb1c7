/* Peers and their rings (see peers.h). Runs in the store on its deciding thread. A broken ring is the end of its peer and of
 * nobody else. The bells that we sleep on are eventfds, registered edge-triggered and never read: an event only ends the
 * sleep, the turn looks at the rings themselves. Those that we ring for a native client are sockets (LAYOUT.md, "Waking"). */
#include "peers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/log.h"
#include "catalogue.h"
#include "metadata.h"
#include "msg/msg.h"
#include "relay.h"
#include "shm/ledger.h"

struct peer *peers_find(struct peers *peers, uint32_t id)
{
    for (unsigned i = 0; i < peers->count; i++)
        if (peers->list[i]->id == id)
            return peers->list[i];
    return NULL;
}

struct peer *peers_find_alive(struct peers *peers, uint32_t id, uint64_t generation)
{
    struct peer *peer = peers_find(peers, id);
    return peer && peer->generation == generation && !peer->broken ? peer : NULL;
}

static int on_ring(sd_event_source *source, int fd, uint32_t events, void *context)
{
    return 0;
}

static int watch(struct store *store, struct peer *peer, int fd)
{
    for (unsigned i = 0; i < 4; i++)
        if (!peer->sources[i])
            return sd_event_add_io(store->event, &peer->sources[i], fd, EPOLLIN | EPOLLET, on_ring, peer);
    return -ENOSPC;
}

static void peer_free(struct peer *peer)
{
    for (unsigned i = 0; i < 4; i++)
        sd_event_source_disable_unref(peer->sources[i]);
    if (peer->has_data) {
        if (peer->broken)
            ring_bell_hang_up(peer->data_out.fds.data);
        ring_reader_detach(&peer->data_in);
        ring_writer_detach(&peer->data_out);
    }
    if (peer->has_control) {
        ring_reader_detach(&peer->control_in);
        ring_writer_detach(&peer->control_out);
    }
    interest_detach(peer->interest);
    relay_peer_gone(peer);
    free(peer);
}

static int peer_get(struct store *store, const struct fd_grant *grant, bool native, struct peer **ret_peer)
{
    struct peers *peers = store->peers;
    struct peer *peer = peers_find(peers, grant->index);
    if (peer && peer->generation != grant->generation) {
        peers_drop(store, peer->id, peer->generation);
        peer = NULL;
    }
    if (!peer) {
        struct peer **list = realloc(peers->list, (peers->count + 1) * sizeof(struct peer *));
        if (!list)
            return -ENOMEM;
        peers->list = list;
        peer = calloc(1, sizeof *peer);
        if (!peer)
            return -ENOMEM;
        peer->id = grant->index;
        peer->generation = grant->generation;
        peer->native = native;
        peer->predecessor_answered = -1;
        memcpy(peer->name, grant->name, sizeof peer->name);
        peer->name[sizeof peer->name - 1] = 0;
        peers->list[peers->count++] = peer;
    }
    *ret_peer = peer;
    return 0;
}

static int rings_attach(struct ring_reader *reader, struct ring_writer *writer, const int *fds)
{
    struct ring_fds request = {fds[0], fds[1], fds[2]}, reply = {fds[3], fds[4], fds[5]};
    int r = ring_reader_attach(reader, &request);
    if (r < 0) {
        ring_bell_hang_up(reply.data);
        ring_fds_close(&request);
        ring_fds_close(&reply);
        return r;
    }
    r = ring_writer_attach(writer, &reply);
    if (r < 0) {
        ring_bell_hang_up(reply.data);
        ring_reader_detach(reader);
        ring_fds_close(&reply);
    }
    return r;
}

static void tell_metadata(struct store *store, struct peer *peer)
{
    if (!peer->known_to_metadata && peer->has_control && store->peers->announced) {
        peer->known_to_metadata = true;
        metadata_peer_added(store, peer);
    }
}

int peers_grant_rings(struct store *store, const struct fd_grant *grant, const int *fds)
{
    struct peer *peer;
    bool control = grant->arg == RING_SET_CONTROL;
    int r = peer_get(store, grant, grant->arg == RING_SET_NATIVE, &peer);
    if (r == 0 && (control ? peer->has_control : peer->has_data))
        r = -EEXIST;
    if (r < 0) {
        for (unsigned i = 0; i < 6; i++)
            close(fds[i]);
        return r;
    }
    struct ring_reader *reader = control ? &peer->control_in : &peer->data_in;
    struct ring_writer *writer = control ? &peer->control_out : &peer->data_out;
    r = rings_attach(reader, writer, fds);
    if (r < 0) {
        peer->broken = true;
        return r;
    }
    if (control)
        peer->has_control = true;
    else
        peer->has_data = true;
    r = watch(store, peer, reader->fds.data);
    if (r >= 0)
        r = watch(store, peer, writer->fds.space);
    if (r < 0)
        return r;
    tell_metadata(store, peer);
    return 0;
}

int peers_grant_interest(struct store *store, const struct fd_grant *grant, int fd)
{
    struct peer *peer;
    int r = peer_get(store, grant, false, &peer);
    if (r == 0 && peer->interest)
        r = -EEXIST;
    if (r == 0)
        r = interest_attach(fd, false, &peer->interest);
    if (r < 0)
        close(fd);
    return r;
}

void peers_drop(struct store *store, uint32_t id, uint64_t generation)
{
    struct peers *peers = store->peers;
    for (unsigned i = 0; i < peers->count; i++) {
        struct peer *peer = peers->list[i];
        if (peer->id != id || peer->generation != generation)
            continue;
        if (peer->known_to_metadata)
            metadata_peer_gone(store, peer);
        if (store->ledger)
            ledger_absolve(store->ledger, id, generation, UINT64_MAX);
        peers->list[i] = peers->list[--peers->count];
        peer_free(peer);
        return;
    }
}

void peers_announce(struct store *store)
{
    store->peers->announced = true;
    for (unsigned i = 0; i < store->peers->count; i++)
        tell_metadata(store, store->peers->list[i]);
}

void peers_free(struct store *store)
{
    if (!store->peers)
        return;
    for (unsigned i = 0; i < store->peers->count; i++) {
        /* Only its feed: members stay in the image for the next store. */
        if (store->peers->list[i]->known_to_metadata)
            catalogue_peer_gone(store, store->peers->list[i]);
        peer_free(store->peers->list[i]);
    }
    free(store->peers->list);
    free(store->peers);
    store->peers = NULL;
}

void peer_answer(struct peer *peer, uint64_t token, uint64_t request_pos, int32_t code, int64_t value, const char *remark)
{
    if (token == 0 || !peer->has_control)
        return;
    size_t size = remark ? strlen(remark) : 0;
    struct msg_answer *answer = ring_reserve(&peer->control_out, MSG_ANSWER, 0, sizeof *answer + size, NULL);
    if (!answer) { /* the turn keeps PEER_CONTROL_ANSWER_ROOM: only a reader that moves backwards gets here */
        peer->broken = true;
        return;
    }
    *answer = (struct msg_answer){.token = token, .request_pos = request_pos, .value = value, .code = code,
                                  .remark_size = (uint32_t)size};
    if (size)
        memcpy(answer + 1, remark, size);
}

int64_t peer_last_answered(const struct peer *peer)
{
    const struct ring_writer *out = &peer->data_out;
    uint64_t pos = atomic_load_explicit(&out->shared->read_pos, memory_order_acquire), end = out->published_pos;
    int64_t last = -1;
    if (pos > end || end - pos > out->capacity || pos % 8 != 0)
        return -1;
    while (pos < end) {
        const uint8_t *at = out->data + pos % out->capacity;
        struct ring_record record;
        memcpy(&record, at, sizeof record);
        if (record.pos != pos || record.size < sizeof record || record.size > end - pos)
            return last; /* a hostile reader's position: its own loss */
        if (record.kind == MSG_SEND_ANSWER && !(record.flags & PEER_ANSWER_EARLY) && record.size >= sizeof record + sizeof(struct msg_send_answer)) {
            struct msg_send_answer answer;
            memcpy(&answer, at + sizeof record, sizeof answer);
            last = (int64_t)answer.request_pos;
        }
        pos += (record.size + 7) & ~7u;
    }
    return last;
}

void peers_publish(struct peers *peers)
{
    /* All control rings first: catalogue records come before the answers that depend on them. */
    for (unsigned i = 0; i < peers->count; i++) {
        struct peer *peer = peers->list[i];
        if (peer->has_control && peer->control_out.reserve_pos != peer->control_out.published_pos) {
            ring_publish(&peer->control_out);
            ring_wake_reader(&peer->control_out);
        }
    }
    for (unsigned i = 0; i < peers->count; i++) {
        struct peer *peer = peers->list[i];
        if (peer->has_data && peer->data_out.reserve_pos != peer->data_out.published_pos) {
            ring_publish(&peer->data_out);
            ring_wake_reader(&peer->data_out);
        }
    }
}
