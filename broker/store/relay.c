/* Records on their way from front to front; see relay.h. Nothing is fatal: what cannot be delivered is said to the
 * asking front if that is there, else dropped. */
#include "relay.h"

#include <stdlib.h>
#include <string.h>

#include "base/panic.h"
#include "codes.h"
#include "msg/msg.h"

enum {
    WAITING_MAX = 64 << 20, /* bytes for one front; more of them and it is not reading */
    RECORD_SIZE_MAX = sizeof(struct msg_relay_answer) + MSG_RELAY_MAX,
};
_Static_assert((int)RECORD_SIZE_MAX + (int)sizeof(struct ring_record) + 8 <= (int)PEER_CONTROL_ANSWER_ROOM,
               "what the turn waits for is room enough for any of these");

struct relay_record {
    struct relay_record *next;
    uint32_t kind, size;
    uint8_t payload[];
};

struct relay_queue {
    struct relay_record *first, **last;
    size_t size;
};

static bool is_front(const struct peer *peer)
{
    return peer->has_control && !peer->native && !peer->broken;
}

/* False: too much waits already. */
static bool put(struct peer *to, unsigned kind, const void *fixed, size_t fixed_size, const void *rest, size_t rest_size)
{
    if (!to->relays) {
        to->relays = calloc(1, sizeof *to->relays);
        pn_assert(to->relays);
        to->relays->last = &to->relays->first;
    }
    struct relay_queue *queue = to->relays;
    size_t size = fixed_size + rest_size;
    if (queue->size + size > WAITING_MAX)
        return false;
    struct relay_record *record = malloc(sizeof *record + size);
    pn_assert(record);
    *record = (struct relay_record){.kind = kind, .size = (uint32_t)size};
    memcpy(record->payload, fixed, fixed_size);
    if (rest_size)
        memcpy(record->payload + fixed_size, rest, rest_size);
    *queue->last = record;
    queue->last = &record->next;
    queue->size += size;
    return true;
}

static void tell(struct peer *asker, uint64_t question, const char *remark)
{
    struct msg_relay_answer answer = {.asker = asker->generation,
                                      .question = question,
                                      .asker_peer = asker->id,
                                      .code = CODE_SYSTEM_ERROR,
                                      .remark_size = (uint32_t)strlen(remark)};
    put(asker, MSG_RELAY_TOLD, &answer, sizeof answer, remark, strlen(remark));
}

static void tell_all(struct store *store, const struct peer *asker, const struct msg_relay *relay, const void *frame)
{
    for (unsigned i = 0; i < store->peers->count; i++) {
        struct peer *peer = store->peers->list[i];
        if (peer != asker && is_front(peer))
            put(peer, MSG_RELAY_ASK, relay, sizeof *relay, frame, relay->frame_size);
    }
}

static void ask(struct store *store, struct peer *asker, const void *payload)
{
    struct msg_relay relay;
    memcpy(&relay, payload, sizeof relay);
    const uint8_t *frame = (const uint8_t *)payload + sizeof relay;
    relay.asker = asker->generation;
    relay.asker_peer = asker->id;
    if (relay.connection == 0) {
        tell_all(store, asker, &relay, frame);
        return;
    }
    struct peer *peer = peers_find(store->peers, MSG_CONNECTION_PEER(relay.connection));
    if (!peer || !is_front(peer) || (peer->generation & 0xffffff) != MSG_CONNECTION_GENERATION(relay.connection))
        tell(asker, relay.question, "the consumer is not online");
    else if (!put(peer, MSG_RELAY_ASK, &relay, sizeof relay, frame, relay.frame_size))
        tell(asker, relay.question, "the consumer's front does not take requests");
}

void relay_take(struct store *store, struct peer *from, unsigned kind, const void *payload, size_t size)
{
    if (kind == MSG_RELAY) {
        ask(store, from, payload);
        return;
    }
    struct msg_relay_answer answer;
    memcpy(&answer, payload, sizeof answer);
    struct peer *asker = peers_find_alive(store->peers, answer.asker_peer, answer.asker);
    if (asker && is_front(asker))
        put(asker, MSG_RELAY_TOLD, &answer, sizeof answer, (const uint8_t *)payload + sizeof answer,
            size - sizeof answer);
}

static void feed_peer(struct peer *peer)
{
    struct relay_queue *queue = peer->relays;
    while (queue && queue->first) {
        struct relay_record *record = queue->first;
        size_t need = (sizeof(struct ring_record) + record->size + 7) & ~(size_t)7;
        if (ring_room(&peer->control_out) < need + PEER_CONTROL_ANSWER_ROOM)
            return;
        void *place = ring_reserve(&peer->control_out, (uint16_t)record->kind, 0, record->size, NULL);
        if (!place)
            return;
        memcpy(place, record->payload, record->size);
        queue->size -= record->size;
        if (!(queue->first = record->next))
            queue->last = &queue->first;
        free(record);
    }
}

void relay_feed(struct store *store)
{
    for (unsigned i = 0; i < store->peers->count; i++)
        if (is_front(store->peers->list[i]))
            feed_peer(store->peers->list[i]);
}

void relay_peer_gone(struct peer *peer)
{
    struct relay_record *record = peer->relays ? peer->relays->first : NULL;
    for (struct relay_record *next; record; record = next) {
        next = record->next;
        free(record);
    }
    free(peer->relays);
    peer->relays = NULL;
}
