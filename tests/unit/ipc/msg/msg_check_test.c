/* The validators: every kind well-formed, cut at every length, with bytes behind it, over each limit, and mutated at
 * random. Payloads stand at the very end of their memory, so that a sanitizer sees a byte read too much. */
#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>

#include "msg/msg_check.h"
#include "shm/queue_table.h"

enum { ROOM = 1 << 20 };

struct sample {
    unsigned kind;
    bool request;
    uint8_t *data;
    size_t size;
};

struct builder {
    uint8_t *start;
    struct cursor cursor;
};

static struct builder begin(const void *fixed, size_t size)
{
    struct builder b = {.start = malloc(ROOM)};
    assert_non_null(b.start);
    memcpy(b.start, fixed, size);
    b.cursor = cursor_over(b.start + size, ROOM - size);
    return b;
}

static void add_bytes(struct builder *b, char c, size_t size)
{
    uint8_t *place = cursor_take(&b->cursor, size);
    assert_non_null(place);
    memset(place, c, size);
}

static void add_text(struct builder *b, const char *text)
{
    cursor_put_string(&b->cursor, bytes_of(text));
}

static void add_string_of(struct builder *b, size_t size)
{
    cursor_put_u16(&b->cursor, (uint16_t)size);
    add_bytes(b, 's', size);
}

static struct sample end(struct builder *b, unsigned kind, bool request)
{
    assert_false(b->cursor.bad);
    struct sample sample = {kind, request, NULL, (size_t)(b->cursor.pos - b->start)};
    sample.data = malloc(sample.size);
    memcpy(sample.data, b->start, sample.size);
    free(b->start);
    return sample;
}

static enum msg_refusal check(const struct sample *sample, const void *data, size_t size)
{
    return sample->request ? msg_check_request(sample->kind, data, size) : msg_check_answer(sample->kind, data, size);
}

static void assert_check(struct sample sample, enum msg_refusal expected)
{
    enum msg_refusal got = check(&sample, sample.data, sample.size);
    if (got != expected)
        fail_msg("%s: %s instead of %s", msg_kind_name(sample.kind), msg_refusal_text(got), msg_refusal_text(expected));
    free(sample.data);
}

/* ---- samples ----------------------------------------------------------------------------------------------------- */

static struct sample make_send(size_t topic, size_t default_topic, size_t group, size_t properties, size_t body,
                               uint32_t flags)
{
    struct msg_send send = {.token = 1,
                            .flags = flags,
                            .topic_size = (uint16_t)topic,
                            .default_topic_size = (uint16_t)default_topic,
                            .group_size = (uint16_t)group,
                            .properties_size = (uint32_t)properties,
                            .body_size = (uint32_t)body};
    struct builder b = begin(&send, sizeof send);
    add_bytes(&b, 't', topic);
    add_bytes(&b, 'd', default_topic);
    add_bytes(&b, 'g', group);
    add_bytes(&b, 'p', properties);
    add_bytes(&b, 'b', body);
    return end(&b, MSG_SEND, true);
}

static struct sample make_member_put(unsigned count, uint8_t type, uint8_t is_producer, uint8_t flags)
{
    struct msg_member_put put = {.is_producer = is_producer, .flags = flags, .subscription_count = (uint16_t)count};
    struct builder b = begin(&put, sizeof put);
    add_text(&b, "10.0.0.1@4711");
    add_text(&b, "group");
    for (unsigned i = 0; i < count; i++) {
        cursor_put_i64(&b.cursor, 1700000000000);
        cursor_put_u8(&b.cursor, type);
        add_text(&b, "topic");
        add_text(&b, "A || B");
    }
    return end(&b, MSG_MEMBER_PUT, true);
}

static struct sample make_lock(unsigned kind, uint32_t count, uint32_t promised)
{
    struct msg_lock lock = {.count = promised};
    struct builder b = begin(&lock, sizeof lock);
    add_text(&b, "client");
    add_text(&b, "group");
    for (uint32_t i = 0; i < count; i++) {
        cursor_put_i32(&b.cursor, (int32_t)i);
        add_text(&b, "topic");
    }
    return end(&b, kind, true);
}

/* A fixed part of zeros and then strings of these sizes (negative: the end). */
static struct sample make_strings(unsigned kind, bool request, const void *fixed, size_t size, const int *sizes)
{
    struct builder b = begin(fixed, size);
    for (int i = 0; sizes[i] >= 0; i++)
        add_string_of(&b, (size_t)sizes[i]);
    return end(&b, kind, request);
}
#define STRINGS(kind, request, fixed, ...)                                                                             \
    make_strings(kind, request, &(fixed), sizeof(fixed), (const int[]){__VA_ARGS__, -1})

static struct sample make_send_answer(uint32_t count, uint32_t sizes)
{
    struct msg_send_answer answer = {.count = count, .uniq_key_size = 32, .remark_size = 5};
    struct builder b = begin(&answer, sizeof answer);
    add_bytes(&b, 'u', 32);
    add_bytes(&b, 'r', 5);
    for (uint32_t i = 0; i < sizes; i++)
        cursor_put_u32(&b.cursor, 100 + i);
    return end(&b, MSG_SEND_ANSWER, false);
}

static struct sample make_answer(uint32_t remark)
{
    struct msg_answer answer = {.remark_size = remark};
    struct builder b = begin(&answer, sizeof answer);
    add_bytes(&b, 'r', remark);
    return end(&b, MSG_ANSWER, false);
}

static struct sample make_lock_answer(uint32_t count, uint8_t held)
{
    struct msg_lock_answer answer = {.count = count};
    struct builder b = begin(&answer, sizeof answer);
    add_bytes(&b, (char)held, count);
    return end(&b, MSG_LOCK_ANSWER, false);
}

static struct sample make_offset_list_answer(uint32_t count, uint32_t queues)
{
    struct msg_offset_list_answer answer = {.count = count, .after_queue = -1};
    struct builder b = begin(&answer, sizeof answer);
    for (uint32_t i = 0; i < count; i++) {
        add_text(&b, "topic@group");
        cursor_put_u32(&b.cursor, queues);
        for (uint32_t q = 0; q < queues; q++) {
            cursor_put_i32(&b.cursor, (int32_t)q);
            cursor_put_i64(&b.cursor, 7);
        }
    }
    add_text(&b, "");
    return end(&b, MSG_OFFSET_LIST_ANSWER, false);
}

static struct sample make_relay(unsigned kind, uint32_t frame_size)
{
    struct msg_relay relay = {.frame_size = frame_size};
    struct builder b = begin(&relay, sizeof relay);
    add_bytes(&b, 'f', frame_size);
    return end(&b, kind, kind == MSG_RELAY);
}

static struct sample make_relay_answer(unsigned kind, uint32_t remark, uint32_t body, uint32_t flags)
{
    struct msg_relay_answer answer = {.flags = flags, .remark_size = remark, .body_size = body};
    struct builder b = begin(&answer, sizeof answer);
    add_bytes(&b, 'r', remark + body);
    return end(&b, kind, kind == MSG_RELAY_ANSWER);
}

enum { SAMPLES_MAX = 60 };
/* One or more of every kind, none of which is well-formed when cut. */
static size_t make_all(struct sample *samples)
{
    struct msg_member_drop member_drop = {0};
    struct msg_replay replay = {0};
    struct msg_offset offset = {0};
    struct msg_topic_put topic_put = {0};
    struct msg_admin admin = {0};
    struct msg_group_put group_put = {0};
    struct msg_offset_list offset_list = {.after_queue = -1};
    struct msg_request config_put = {0};
    struct msg_cat_config cat_config = {0};
    struct msg_catalogue mark = {0};
    struct msg_cat_drop drop = {0};
    struct msg_cat_forbidden forbidden = {0};
    struct msg_cat_reset reset = {0};
    struct msg_cat_topic cat_topic = {0};
    struct msg_cat_group cat_group = {0};
    struct msg_cat_member cat_member = {0};
    struct msg_cat_subscription cat_subscription = {0};
    size_t n = 0;
    samples[n++] = make_send(5, 7, 3, 40, 100, 0);
    samples[n++] = make_send(1, 0, 0, 0, 0, MSG_SEND_BATCH | MSG_SEND_NO_ANSWER | MSG_SEND_IPV6 | MSG_SEND_UNIT_MODE |
                                                MSG_SEND_BACK);
    samples[n++] = make_member_put(0, 0, 1, MSG_MEMBER_ANSWER | MSG_MEMBER_UNIT | MSG_MEMBER_REPLAY);
    samples[n++] = make_member_put(3, MSG_EXPRESSION_OTHER, 0, 0);
    samples[n++] = STRINGS(MSG_MEMBER_DROP, true, member_drop, 0);
    samples[n++] = STRINGS(MSG_MEMBER_DROP, true, member_drop, 9);
    samples[n++] = STRINGS(MSG_REPLAY_END, true, replay, -1);
    samples[n++] = STRINGS(MSG_CATALOGUE_ASK, true, replay, -1);
    samples[n++] = STRINGS(MSG_OFFSET_COMMIT, true, offset, 5, 6);
    samples[n++] = STRINGS(MSG_OFFSET_QUERY, true, offset, 5, 6);
    samples[n++] = make_lock(MSG_QUEUE_LOCK, 4, 4);
    samples[n++] = make_lock(MSG_QUEUE_UNLOCK, 0, 0);
    samples[n++] = STRINGS(MSG_TOPIC_PUT, true, topic_put, 5, 20);
    samples[n++] = STRINGS(MSG_TOPIC_DROP, true, admin, 5);
    samples[n++] = STRINGS(MSG_GROUP_PUT, true, group_put, 5, 20);
    samples[n++] = STRINGS(MSG_GROUP_DROP, true, admin, 5);
    samples[n++] = STRINGS(MSG_GROUP_FORBID, true, admin, 5, 6);
    samples[n++] = STRINGS(MSG_OFFSET_LIST, true, offset_list, 5, 0, 12);
    samples[n++] = STRINGS(MSG_OFFSET_RESET, true, offset, 5, 6);
    samples[n++] = STRINGS(MSG_OFFSET_RESET_SEEN, true, offset, 5, 6);
    samples[n++] = STRINGS(MSG_QUEUE_MEND, true, offset, 0, 6);
    samples[n++] = STRINGS(MSG_OFFSET_CLONE, true, admin, 5, 6, 0);
    samples[n++] = STRINGS(MSG_CLEAN, true, admin, -1);
    samples[n++] = make_offset_list_answer(3, 2);
    samples[n++] = STRINGS(MSG_CONFIG_PUT, true, config_put, 30);
    samples[n++] = make_relay(MSG_RELAY, 40);
    samples[n++] = make_relay(MSG_RELAY_ASK, 40);
    samples[n++] = make_relay_answer(MSG_RELAY_ANSWER, 5, 40, MSG_RELAY_MORE);
    samples[n++] = make_relay_answer(MSG_RELAY_TOLD, 0, 0, 0);
    samples[n++] = make_send_answer(1, 0);
    samples[n++] = make_send_answer(30, 30);
    samples[n++] = make_answer(0);
    samples[n++] = make_answer(12);
    samples[n++] = make_lock_answer(7, 1);
    samples[n++] = STRINGS(MSG_CAT_BEGIN, false, mark, -1);
    samples[n++] = STRINGS(MSG_CAT_TOPIC, false, cat_topic, 5, 20);
    samples[n++] = STRINGS(MSG_CAT_TOPIC_DROP, false, drop, 5);
    samples[n++] = STRINGS(MSG_CAT_GROUP, false, cat_group, 5, 20);
    samples[n++] = STRINGS(MSG_CAT_GROUP_DROP, false, drop, 5);
    samples[n++] = STRINGS(MSG_CAT_CONFIG, false, cat_config, 2000);
    samples[n++] = STRINGS(MSG_CAT_MEMBER, false, cat_member, 5, 6);
    samples[n++] = STRINGS(MSG_CAT_MEMBER_DROP, false, cat_member, 5, 6);
    samples[n++] = STRINGS(MSG_CAT_SUBSCRIPTION, false, cat_subscription, 5, 6, 7);
    samples[n++] = STRINGS(MSG_CAT_SUBSCRIPTION_DROP, false, cat_subscription, 5, 6, 7);
    samples[n++] = STRINGS(MSG_CAT_END, false, mark, -1);
    samples[n++] = STRINGS(MSG_CAT_FORBIDDEN, false, forbidden, 5, 20);
    samples[n++] = STRINGS(MSG_CAT_RESET, false, reset, 5, 6);
    samples[n++] = STRINGS(MSG_CAT_RESET_DROP, false, reset, 5, 6);
    return n;
}

static void free_all(struct sample *samples, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(samples[i].data);
}

/* ---- tests ------------------------------------------------------------------------------------------------------- */

static void test_every_kind_and_every_cut(void **state)
{
    struct sample samples[SAMPLES_MAX];
    bool seen[256] = {false};
    size_t count = make_all(samples);
    for (size_t i = 0; i < count; i++) {
        struct sample *sample = &samples[i];
        seen[sample->kind] = true;
        enum msg_refusal r = check(sample, sample->data, sample->size);
        if (r != MSG_OK)
            fail_msg("%s: %s", msg_kind_name(sample->kind), msg_refusal_text(r));
        for (size_t size = 0; size < sample->size; size++) {
            uint8_t *cut = malloc(size ? size : 1);
            memcpy(cut, sample->data, size);
            if (check(sample, cut, size) != MSG_REFUSED_SHORT)
                fail_msg("%s cut to %zu of %zu bytes: %s", msg_kind_name(sample->kind), size, sample->size,
                         msg_refusal_text(check(sample, cut, size)));
            free(cut);
        }
        uint8_t *longer = calloc(1, sample->size + 1);
        memcpy(longer, sample->data, sample->size);
        r = check(sample, longer, sample->size + 1);
        /* A byte behind an answer to one message begins the size that a batch of one may have. */
        if (r != MSG_REFUSED_LONG && !(sample->kind == MSG_SEND_ANSWER && r == MSG_REFUSED_SHORT))
            fail_msg("%s with a byte behind it: %s", msg_kind_name(sample->kind), msg_refusal_text(r));
        free(longer);
    }
    for (unsigned kind = 0; kind < 256; kind++)
        assert_int_equal(seen[kind], strcmp(msg_kind_name(kind), "unknown") != 0); /* no kind without a sample */
    free_all(samples, count);
}

static void test_kinds_of_the_other_ring(void **state)
{
    struct sample samples[SAMPLES_MAX];
    size_t count = make_all(samples);
    for (size_t i = 0; i < count; i++) {
        struct sample other = samples[i];
        other.request = !other.request;
        assert_int_equal(check(&other, other.data, other.size), MSG_REFUSED_KIND);
    }
    static const unsigned unknown[] = {0, 2, 15, 34, 63, 70, 95, 109, 255, 65535, UINT32_MAX};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        assert_int_equal(msg_check_request(unknown[i], samples[0].data, samples[0].size), MSG_REFUSED_KIND);
        assert_int_equal(msg_check_answer(unknown[i], samples[0].data, samples[0].size), MSG_REFUSED_KIND);
    }
    free_all(samples, count);
}

static void test_limits_between_fronts(void **state)
{
    assert_check(make_relay(MSG_RELAY, MSG_RELAY_MAX), MSG_OK);
    assert_check(make_relay(MSG_RELAY, MSG_RELAY_MAX + 1), MSG_REFUSED_LIMIT);
    assert_check(make_relay_answer(MSG_RELAY_ANSWER, 100, MSG_RELAY_MAX - 100, 0), MSG_OK);
    assert_check(make_relay_answer(MSG_RELAY_ANSWER, 100, MSG_RELAY_MAX - 99, 0), MSG_REFUSED_LIMIT);
    assert_check(make_relay_answer(MSG_RELAY_TOLD, 5, 5, 2), MSG_REFUSED_RANGE);
}

static void test_limits(void **state)
{
    struct msg_offset offset = {0};
    struct msg_topic_put topic_put = {0};
    struct msg_cat_member cat_member = {0};
    assert_check(make_send(MSG_TOPIC_MAX, MSG_TOPIC_MAX, MSG_GROUP_MAX, MSG_PROPERTIES_MAX, 1000, 0), MSG_OK);
    assert_check(make_send(MSG_TOPIC_MAX + 1, 0, 0, 0, 0, 0), MSG_REFUSED_LIMIT);
    assert_check(make_send(1, MSG_TOPIC_MAX + 1, 0, 0, 0, 0), MSG_REFUSED_LIMIT);
    assert_check(make_send(1, 0, MSG_GROUP_MAX + 1, 0, 0, 0), MSG_REFUSED_LIMIT);
    assert_check(make_send(1, 0, 0, MSG_PROPERTIES_MAX + 1, 0, 0), MSG_REFUSED_LIMIT);
    assert_check(STRINGS(MSG_OFFSET_COMMIT, true, offset, 255, 255), MSG_OK);
    assert_check(STRINGS(MSG_OFFSET_COMMIT, true, offset, 256, 255), MSG_REFUSED_LIMIT);
    assert_check(STRINGS(MSG_OFFSET_COMMIT, true, offset, 255, 256), MSG_REFUSED_LIMIT);
    assert_check(STRINGS(MSG_TOPIC_PUT, true, topic_put, 255, 65535), MSG_OK);
    assert_check(STRINGS(MSG_CAT_MEMBER, false, cat_member, 1024, 255), MSG_OK);
    assert_check(STRINGS(MSG_CAT_MEMBER, false, cat_member, 1025, 255), MSG_REFUSED_LIMIT);
    assert_check(make_lock(MSG_QUEUE_LOCK, MSG_LOCK_COUNT_MAX, MSG_LOCK_COUNT_MAX), MSG_OK);
    assert_check(make_lock(MSG_QUEUE_LOCK, MSG_LOCK_COUNT_MAX + 1, MSG_LOCK_COUNT_MAX + 1), MSG_REFUSED_LIMIT);
    assert_check(make_lock(MSG_QUEUE_LOCK, 3, UINT32_MAX), MSG_REFUSED_LIMIT);
    assert_check(make_lock(MSG_QUEUE_LOCK, 3, 4), MSG_REFUSED_SHORT);
    assert_check(make_lock(MSG_QUEUE_LOCK, 3, 2), MSG_REFUSED_LONG);
    assert_check(make_lock_answer(MSG_LOCK_COUNT_MAX, 0), MSG_OK);
    assert_check(make_lock_answer(MSG_LOCK_COUNT_MAX + 1, 0), MSG_REFUSED_LIMIT);
    assert_check(make_send_answer(MSG_BATCH_COUNT_MAX, MSG_BATCH_COUNT_MAX), MSG_OK);
    assert_check(make_send_answer(MSG_BATCH_COUNT_MAX + 1, MSG_BATCH_COUNT_MAX + 1), MSG_REFUSED_LIMIT);
    assert_check(make_send_answer(2, 0), MSG_REFUSED_SHORT);
    assert_check(make_send_answer(0, 0), MSG_OK);
    assert_check(make_send_answer(0, 1), MSG_REFUSED_LONG);
    assert_check(make_send_answer(1, 1), MSG_OK);

    /* Sizes whose sum does not fit 32 bits. */
    struct sample sample = make_send(1, 0, 0, 0, 0, 0);
    struct msg_send *send = (struct msg_send *)sample.data;
    send->body_size = UINT32_MAX;
    assert_int_equal(check(&sample, sample.data, sample.size), MSG_REFUSED_LIMIT);
    send->body_size = MSG_BODY_MAX;
    assert_int_equal(check(&sample, sample.data, sample.size), MSG_REFUSED_SHORT);
    assert_check(sample, MSG_REFUSED_SHORT);
    sample = make_answer(3);
    ((struct msg_answer *)sample.data)->remark_size = UINT32_MAX;
    assert_check(sample, MSG_REFUSED_SHORT);
}

static void test_ranges(void **state)
{
    struct msg_topic_put topic_put = {.order = 2};
    struct msg_offset offset = {.flags = 4};
    struct msg_cat_group cat_group = {.consume_orderly = 2};
    struct msg_cat_subscription cat_subscription = {.expression_type = 3};
    struct msg_member_drop member_drop = {.is_producer = 2};
    assert_check(make_send(1, 0, 0, 0, 0, 32), MSG_REFUSED_RANGE);
    assert_check(make_member_put(1, 3, 0, 0), MSG_REFUSED_RANGE);
    assert_check(make_member_put(1, 0, 2, 0), MSG_REFUSED_RANGE);
    assert_check(make_member_put(1, 0, 0, 8), MSG_REFUSED_RANGE);
    assert_check(make_lock_answer(2, 2), MSG_REFUSED_RANGE);
    assert_check(STRINGS(MSG_TOPIC_PUT, true, topic_put, 1, 1), MSG_REFUSED_RANGE);
    assert_check(STRINGS(MSG_OFFSET_QUERY, true, offset, 1, 1), MSG_REFUSED_RANGE);
    assert_check(STRINGS(MSG_CAT_GROUP, false, cat_group, 1, 1), MSG_REFUSED_RANGE);
    struct msg_admin admin = {.flags = 8};
    struct msg_group_put group_put = {.flags = 2};
    struct msg_offset_list offset_list = {.after_queue = -2};
    struct msg_cat_reset reset = {.offset = -1};
    assert_check(STRINGS(MSG_TOPIC_DROP, true, admin, 1), MSG_REFUSED_RANGE);
    assert_check(STRINGS(MSG_CLEAN, true, admin, -1), MSG_REFUSED_RANGE);
    assert_check(STRINGS(MSG_GROUP_PUT, true, group_put, 1, 1), MSG_REFUSED_RANGE);
    assert_check(STRINGS(MSG_OFFSET_LIST, true, offset_list, 1, 1, 1), MSG_REFUSED_RANGE);
    assert_check(STRINGS(MSG_CAT_RESET, false, reset, 1, 1), MSG_REFUSED_RANGE);
    assert_check(STRINGS(MSG_CAT_SUBSCRIPTION, false, cat_subscription, 1, 1, 1), MSG_REFUSED_RANGE);
    assert_check(STRINGS(MSG_MEMBER_DROP, true, member_drop, 1), MSG_REFUSED_RANGE);
}

static void test_split(void **state)
{
    struct sample sample = make_send(5, 7, 3, 40, 100, 0);
    struct msg_send_parts parts;
    msg_send_split(sample.data, &parts);
    assert_ptr_equal(parts.send, sample.data);
    assert_true(bytes_equal_text(parts.topic, "ttttt"));
    assert_true(bytes_equal_text(parts.default_topic, "ddddddd"));
    assert_true(bytes_equal_text(parts.group, "ggg"));
    assert_int_equal(parts.properties.size, 40);
    assert_int_equal(parts.properties.data[0], 'p');
    assert_int_equal(parts.properties.data[39], 'p');
    assert_int_equal(parts.body.size, 100);
    assert_int_equal(parts.body.data[0], 'b');
    assert_ptr_equal(parts.body.data + 100, sample.data + sample.size);
    free(sample.data);
}

/* Whatever a validator lets pass can be split without leaving the payload. */
static void test_random_mutations(void **state)
{
    struct sample samples[SAMPLES_MAX];
    size_t count = make_all(samples);
    struct unit_random random = {3};
    unsigned refusals[MSG_REFUSED_RANGE + 1] = {0};
    for (int round = 0; round < 400000; round++) {
        struct sample *sample = &samples[unit_random_below(&random, count)];
        size_t size = unit_random_below(&random, 4) ? sample->size : unit_random_below(&random, sample->size + 1);
        uint8_t *copy = malloc(size ? size : 1);
        memcpy(copy, sample->data, size);
        for (uint64_t changes = unit_random_below(&random, 4); changes > 0 && size > 0; changes--) {
            uint64_t at = unit_random_below(&random, size);
            copy[at] = (uint8_t)(unit_random_below(&random, 2) ? unit_random(&random) : 0xFF * (copy[at] == 0));
        }
        enum msg_refusal r = check(sample, copy, size);
        assert_in_range(r, MSG_OK, MSG_REFUSED_RANGE);
        refusals[r]++;
        if (r == MSG_OK && sample->kind == MSG_SEND) {
            struct msg_send_parts parts;
            msg_send_split(copy, &parts);
            assert_ptr_equal(parts.body.data + parts.body.size, copy + size);
        }
        free(copy);
    }
    assert_int_equal(refusals[MSG_REFUSED_KIND], 0);
    for (int r = MSG_OK; r <= MSG_REFUSED_RANGE; r++)
        assert_true(r == MSG_REFUSED_KIND || refusals[r] > 100);
    free_all(samples, count);
}

static void test_texts(void **state)
{
    assert_string_equal(msg_kind_name(MSG_SEND), "SEND");
    assert_string_equal(msg_kind_name(MSG_CAT_END), "CAT_END");
    assert_string_equal(msg_refusal_text(MSG_REFUSED_LONG), "bytes behind its last part");
    assert_string_equal(msg_refusal_text((enum msg_refusal)99), "unknown");
}

/* A front looks up a topic's queues without asking again. */
static void test_slots(void **state)
{
    struct {
        struct msg_cat_topic topic;
        uint8_t strings[5];
    } record = {.strings = {1, 0, 'T', 0, 0}};
    size_t size = offsetof(__typeof__(record), strings) + sizeof record.strings;
    record.topic.slot_base = QUEUE_TABLE_SLOTS - 4;
    record.topic.slot_count = 4;
    assert_int_equal(msg_check_answer(MSG_CAT_TOPIC, &record, size), MSG_OK);
    record.topic.slot_count = 5;
    assert_int_equal(msg_check_answer(MSG_CAT_TOPIC, &record, size), MSG_REFUSED_RANGE);
    record.topic.slot_base = UINT32_MAX;
    assert_int_equal(msg_check_answer(MSG_CAT_TOPIC, &record, size), MSG_REFUSED_RANGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slots),
        cmocka_unit_test(test_every_kind_and_every_cut),
        cmocka_unit_test(test_kinds_of_the_other_ring),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_limits_between_fronts),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_random_mutations),
        cmocka_unit_test(test_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
