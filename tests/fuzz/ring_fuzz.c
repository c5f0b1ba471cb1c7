/* Ring records (ipc/msg): first byte the kind, then the payload. What the validator lets through is read as its readers
 * read it: strings to the last one, nothing outside, nothing left over. */
#include "fuzz.h"
#include "msg/msg.h"
#include "msg/msg_check.h"

static void check_send(const uint8_t *payload, size_t size)
{
    struct msg_send_parts parts;
    msg_send_split(payload, &parts);
    const struct bytes all[] = {parts.topic, parts.default_topic, parts.group, parts.properties, parts.body};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        FUZZ_CHECK(fuzz_inside(all[i], payload, size));
        fuzz_touch(all[i]);
    }
    FUZZ_CHECK(parts.body.data + parts.body.size == payload + size);
    FUZZ_CHECK(parts.topic.size <= MSG_TOPIC_MAX && parts.properties.size <= MSG_PROPERTIES_MAX);
}

static void check_strings(struct cursor *c, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        fuzz_touch(cursor_get_string(c));
}

/* The readers' loops, with the counts that the fixed parts say. */
static void check_tail(unsigned kind, const uint8_t *payload, size_t size)
{
    static const struct {
        uint8_t kind, strings;
        uint16_t fixed;
    } rows[] = {
        {MSG_MEMBER_DROP, 1, sizeof(struct msg_member_drop)},      {MSG_REPLAY_END, 0, sizeof(struct msg_replay)},
        {MSG_CATALOGUE_ASK, 0, sizeof(struct msg_replay)},         {MSG_OFFSET_COMMIT, 2, sizeof(struct msg_offset)},
        {MSG_OFFSET_QUERY, 2, sizeof(struct msg_offset)},          {MSG_OFFSET_RESET, 2, sizeof(struct msg_offset)},
        {MSG_QUEUE_MEND, 2, sizeof(struct msg_offset)},
        {MSG_OFFSET_RESET_SEEN, 2, sizeof(struct msg_offset)},     {MSG_TOPIC_PUT, 2, sizeof(struct msg_topic_put)},
        {MSG_TOPIC_DROP, 1, sizeof(struct msg_admin)},             {MSG_GROUP_PUT, 2, sizeof(struct msg_group_put)},
        {MSG_GROUP_DROP, 1, sizeof(struct msg_admin)},             {MSG_GROUP_FORBID, 2, sizeof(struct msg_admin)},
        {MSG_OFFSET_CLONE, 3, sizeof(struct msg_admin)},           {MSG_CLEAN, 0, sizeof(struct msg_admin)},
        {MSG_OFFSET_LIST, 3, sizeof(struct msg_offset_list)},      {MSG_CONFIG_PUT, 1, sizeof(struct msg_request)},
        {MSG_CAT_BEGIN, 0, sizeof(struct msg_catalogue)},          {MSG_CAT_END, 0, sizeof(struct msg_catalogue)},
        {MSG_CAT_TOPIC, 2, sizeof(struct msg_cat_topic)},          {MSG_CAT_TOPIC_DROP, 1, sizeof(struct msg_cat_drop)},
        {MSG_CAT_GROUP, 2, sizeof(struct msg_cat_group)},          {MSG_CAT_GROUP_DROP, 1, sizeof(struct msg_cat_drop)},
        {MSG_CAT_MEMBER, 2, sizeof(struct msg_cat_member)},        {MSG_CAT_MEMBER_DROP, 2, sizeof(struct msg_cat_member)},
        {MSG_CAT_SUBSCRIPTION, 3, sizeof(struct msg_cat_subscription)},
        {MSG_CAT_SUBSCRIPTION_DROP, 3, sizeof(struct msg_cat_subscription)},
        {MSG_CAT_FORBIDDEN, 2, sizeof(struct msg_cat_forbidden)},  {MSG_CAT_RESET, 2, sizeof(struct msg_cat_reset)},
        {MSG_CAT_RESET_DROP, 2, sizeof(struct msg_cat_reset)},     {MSG_CAT_CONFIG, 1, sizeof(struct msg_cat_config)},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].kind != kind)
            continue;
        FUZZ_CHECK(size >= rows[i].fixed);
        struct cursor c = cursor_over(payload + rows[i].fixed, size - rows[i].fixed);
        check_strings(&c, rows[i].strings);
        FUZZ_CHECK(!c.bad && c.pos == c.end);
    }
}

static void check_member_put(const uint8_t *payload, size_t size)
{
    struct msg_member_put put;
    memcpy(&put, payload, sizeof put);
    struct cursor c = cursor_over(payload + sizeof put, size - sizeof put);
    check_strings(&c, 2);
    for (unsigned i = 0; i < put.subscription_count; i++) {
        cursor_get_i64(&c);
        FUZZ_CHECK(cursor_get_u8(&c) <= MSG_EXPRESSION_OTHER);
        check_strings(&c, 2);
    }
    FUZZ_CHECK(!c.bad && c.pos == c.end);
}

static void check_lock(const uint8_t *payload, size_t size)
{
    struct msg_lock lock;
    memcpy(&lock, payload, sizeof lock);
    struct cursor c = cursor_over(payload + sizeof lock, size - sizeof lock);
    FUZZ_CHECK(lock.count <= MSG_LOCK_COUNT_MAX);
    check_strings(&c, 2);
    for (uint32_t i = 0; i < lock.count; i++) {
        cursor_get_i32(&c);
        check_strings(&c, 1);
    }
    FUZZ_CHECK(!c.bad && c.pos == c.end);
}

static void check_offset_list(const uint8_t *payload, size_t size)
{
    struct msg_offset_list_answer answer;
    memcpy(&answer, payload, sizeof answer);
    struct cursor c = cursor_over(payload + sizeof answer, size - sizeof answer);
    for (uint32_t i = 0; i < answer.count; i++) {
        check_strings(&c, 1);
        uint32_t queues = cursor_get_u32(&c);
        for (uint32_t j = 0; j < queues && !c.bad; j++) {
            cursor_get_i32(&c);
            cursor_get_i64(&c);
        }
    }
    check_strings(&c, 1);
    FUZZ_CHECK(!c.bad && c.pos == c.end);
}

static void check_answer(unsigned kind, const uint8_t *payload, size_t size)
{
    if (kind == MSG_SEND_ANSWER) {
        const struct msg_send_answer *answer = (const struct msg_send_answer *)payload;
        size_t sizes = answer->count > 1 ? answer->count * sizeof(uint32_t) : 0;
        FUZZ_CHECK(sizeof *answer + answer->uniq_key_size + answer->remark_size + sizes <= size);
    } else if (kind == MSG_ANSWER) {
        const struct msg_answer *answer = (const struct msg_answer *)payload;
        FUZZ_CHECK(sizeof *answer + answer->remark_size == size);
    } else if (kind == MSG_LOCK_ANSWER) {
        const struct msg_lock_answer *answer = (const struct msg_lock_answer *)payload;
        FUZZ_CHECK(sizeof *answer + answer->count == size);
    } else if (kind == MSG_OFFSET_LIST_ANSWER) {
        check_offset_list(payload, size);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    unsigned kind = data[0];
    uint8_t *payload = fuzz_copy(data + 1, size - 1);
    enum msg_refusal request = msg_check_request(kind, payload, size - 1);
    enum msg_refusal answer = msg_check_answer(kind, payload, size - 1);
    FUZZ_CHECK(request == MSG_REFUSED_KIND || answer == MSG_REFUSED_KIND); /* no kind goes both ways */
    if (request == MSG_OK && kind == MSG_SEND)
        check_send(payload, size - 1);
    else if (request == MSG_OK && kind == MSG_MEMBER_PUT)
        check_member_put(payload, size - 1);
    else if (request == MSG_OK && (kind == MSG_QUEUE_LOCK || kind == MSG_QUEUE_UNLOCK))
        check_lock(payload, size - 1);
    else if (request == MSG_OK)
        check_tail(kind, payload, size - 1);
    if (answer == MSG_OK) {
        check_tail(kind, payload, size - 1);
        check_answer(kind, payload, size - 1);
    }
    free(payload);
    return 0;
}
