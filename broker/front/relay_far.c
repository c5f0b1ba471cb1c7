/* Records to other fronts; see relay_far.h. The front's one thread. What the store lets wait is bounded: more is dropped,
 * and who waits for it finds out by its time limit. Out of memory is fatal. */
#include "relay_far.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "admin.h"
#include "base/cleanup.h"
#include "base/panic.h"
#include "broker_stats.h"
#include "msg/msg.h"
#include "relay.h"
#include "store_link.h"
#include "wire/codes.h"

enum { WAITING_MAX = 64 << 20 };

struct far_record {
    struct far_record *next;
    uint16_t kind;
    uint32_t size;
    uint8_t payload[];
};

struct relay_far {
    struct far_record *first, **last;
    size_t size;
};

struct relay_far *relay_far_new(void)
{
    struct relay_far *far = calloc(1, sizeof *far);
    if (far)
        far->last = &far->first;
    return far;
}

static struct far_record *take_first(struct relay_far *far)
{
    struct far_record *record = far->first;
    far->size -= record->size;
    if (!(far->first = record->next))
        far->last = &far->first;
    return record;
}

void relay_far_free(struct relay_far *far)
{
    while (far && far->first)
        free(take_first(far));
    free(far);
}

/* NULL: too much waits already. */
static uint8_t *put(struct relay_far *far, uint16_t kind, size_t size)
{
    if (far->size + size > WAITING_MAX)
        return NULL;
    struct far_record *record = malloc(sizeof *record + size);
    if (!record)
        PANIC("out of memory");
    *record = (struct far_record){.kind = kind, .size = (uint32_t)size};
    *far->last = record;
    far->last = &record->next;
    far->size += size;
    return record->payload;
}

int relay_far_ask(struct front *front, uint64_t connection, uint64_t question, int32_t code,
                  const struct frame_field *fields, unsigned count, struct bytes body)
{
    uint8_t buffer[MSG_RELAY_MAX];
    struct frame_writer writer;
    frame_write_request(&writer, buffer, sizeof buffer, code, 0, 0, LANGUAGE_OTHER);
    for (unsigned i = 0; i < count; i++) {
        PN_FREE char *key = admin_copy(fields[i].key);
        frame_write_text(&writer, key, fields[i].value);
    }
    ssize_t used = frame_write_finish(&writer, body.size);
    if (used < 0 || (size_t)used + body.size > sizeof buffer)
        return -EMSGSIZE;
    if (body.size)
        memcpy(buffer + used, body.data, body.size);
    struct msg_relay relay = {
        .connection = connection, .question = question, .frame_size = (uint32_t)((size_t)used + body.size)};
    uint8_t *payload = put(front->relay_far, MSG_RELAY, sizeof relay + relay.frame_size);
    if (!payload)
        return -EAGAIN;
    memcpy(payload, &relay, sizeof relay);
    memcpy(payload + sizeof relay, buffer, relay.frame_size);
    return 0;
}

void relay_far_answer(struct front *front, const struct relay_asker *asker, int32_t code, struct bytes remark,
                      struct bytes body)
{
    bool more;
    if (remark.size > MSG_RELAY_MAX / 2)
        remark.size = MSG_RELAY_MAX / 2;
    do {
        more = remark.size + body.size > MSG_RELAY_MAX; /* the remark goes with the last piece */
        size_t piece = body.size < MSG_RELAY_MAX ? body.size : MSG_RELAY_MAX, remark_size = more ? 0 : remark.size;
        struct msg_relay_answer answer = {.asker = asker->generation,
                                          .question = asker->question,
                                          .asker_peer = asker->peer,
                                          .code = code,
                                          .flags = more ? MSG_RELAY_MORE : 0,
                                          .remark_size = (uint32_t)remark_size,
                                          .body_size = (uint32_t)piece};
        uint8_t *payload = put(front->relay_far, MSG_RELAY_ANSWER, sizeof answer + remark_size + piece);
        if (!payload)
            return;
        memcpy(payload, &answer, sizeof answer);
        payload += sizeof answer;
        if (remark_size)
            memcpy(payload, remark.data, remark_size);
        if (piece) {
            memcpy(payload + remark_size, body.data, piece);
            body.data += piece;
            body.size -= piece;
        }
    } while (more);
}

void relay_far_flush(struct front *front)
{
    struct relay_far *far = front->relay_far;
    while (far->first) {
        uint8_t *payload = store_link_reserve_control(front, far->first->kind, far->first->size);
        if (!payload)
            return;
        memcpy(payload, far->first->payload, far->first->size);
        free(take_first(far));
    }
}

/* Our own like wrote the frame, but it may be of another version. */
void relay_far_asked(struct front *front, const uint8_t *payload, uint32_t size)
{
    struct msg_relay relay;
    memcpy(&relay, payload, sizeof relay);
    PN_FREE uint8_t *text = malloc(relay.frame_size + 1); /* escapes are undone in place */
    PN_FREE struct frame *frame = malloc(sizeof *frame);
    if (!text || !frame)
        PANIC("out of memory");
    memcpy(text, payload + sizeof relay, relay.frame_size);
    struct relay_asker asker = {relay.asker_peer, relay.asker, relay.question};
    if (frame_parse(text, relay.frame_size, frame) != FRAME_OK) {
        board_add(front->board, COUNTER_RECORDS_REFUSED, 1);
        if (relay.connection)
            relay_far_answer(front, &asker, RESPONSE_SYSTEM_ERROR, bytes_of("the fronts of the broker differ"),
                             (struct bytes){NULL, 0});
    } else if (relay.connection) {
        relay_asked(front, &asker, relay.connection, frame);
    } else if (frame->code == REQUEST_VIEW_BROKER_STATS_DATA) {
        broker_stats_told(front, frame->body);
    }
}
