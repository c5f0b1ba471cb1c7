/* Ring records in a whole broker: kind, u16 size, payload, and the next. Requests go through the front's own rings to the
 * store, whatever is in them, as if the front had been taken over; answers and catalogue records, which a front believes
 * once the validator has let them through, go to the front. Neither may break, and the broker serves afterwards. */
#include <unistd.h>

#include "broker/front/catalogue.h"
#include "broker/front/store_link.h"
#include "broker_stage.h"
#include "broker_store.h"
#include "case.h"
#include "msg/msg.h"
#include "msg/msg_check.h"

enum { RECORDS_MAX = 64 };

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    broker_stage_init();
    return 0;
}

static void to_store(struct front *front, unsigned kind, const uint8_t *payload, size_t size)
{
    void *place = kind == MSG_SEND ? store_link_reserve_data(front, (uint16_t)kind, size)
                                   : store_link_reserve_control(front, (uint16_t)kind, size);
    if (place && size)
        memcpy(place, payload, size);
    /* So that what comes behind the replay is looked at as the store's own generation's. */
    if (place && (kind == MSG_REPLAY_END || kind == MSG_CATALOGUE_ASK) && size >= 16 && payload[15] == 0)
        ((struct msg_replay *)place)->store_generation = FUZZ_STORE_GENERATION;
}

static void to_front(struct front *front, unsigned kind, uint8_t *payload, size_t size, uint64_t *number)
{
    if (kind >= MSG_CAT_BEGIN && size >= sizeof(struct msg_catalogue)) {
        struct msg_catalogue head = {FUZZ_STORE_GENERATION, ++*number}; /* else it is a gap and all that is looked at */
        memcpy(payload, &head, sizeof head);
    }
    if (msg_check_answer(kind, payload, size) == MSG_OK)
        reply_take(front, (uint16_t)kind, payload, (uint32_t)size);
}

/* What we told the front ends somewhere: it gets the store's own catalogue. */
static void settle(struct front *front)
{
    store_link_ask_catalogue(front);
    broker_stage_settle();
}

/* A new client still gets its answer. */
static void check_serves(struct front *front)
{
    static const char text[] = "#9999\n\n";
    struct bytes rest = bytes_of(text);
    struct case_request request;
    struct channel_ref channel;
    char answer[4096];
    int fd = broker_stage_connect(false, &channel);
    FUZZ_CHECK(case_next(&rest, &request));
    struct bytes frame = case_frame(&request, 1);
    FUZZ_CHECK(write(fd, frame.data, frame.size) == (ssize_t)frame.size);
    broker_stage_settle();
    FUZZ_CHECK(read(fd, answer, sizeof answer) > 8);
    free((void *)frame.data);
    close(fd);
    broker_stage_settle();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct front *front = broker_stage_begin();
    struct cursor c = cursor_over(data, size);
    uint64_t number = 0;
    for (unsigned i = 0; i < RECORDS_MAX && c.pos < c.end; i++) {
        unsigned kind = cursor_get_u8(&c);
        size_t wanted = cursor_get_u16(&c), left = (size_t)(c.end - c.pos);
        size_t payload_size = wanted < left ? wanted : left;
        const uint8_t *payload = cursor_take(&c, payload_size);
        if (!payload)
            break;
        uint8_t *copy = fuzz_copy(payload, payload_size);
        if (kind < MSG_SEND_ANSWER)
            to_store(front, kind, copy, payload_size);
        else
            to_front(front, kind, copy, payload_size, &number);
        free(copy);
        if (i % 8 == 7)
            settle(front);
    }
    settle(front);
    check_serves(front);
    broker_stage_end();
    return 0;
}
