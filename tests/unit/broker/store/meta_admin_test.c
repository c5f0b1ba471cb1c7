/* Administration of topics, groups and offsets: rules, answers, and a successor that knows what was done. */
#include "meta_fixture.h"
#include "msg/msg_check.h"

enum { CODE_OK = 0, CODE_ERROR = 1, CODE_NO_TOPIC = 17, CODE_NO_GROUP = 26, CODE_INVALID = 29 };

static const char *remark;

static void make(struct fixture *f, const char *topic, const char *group)
{
    struct topic *made;
    struct topic_wish wish = {.name = bytes_of(topic), .read_queues = 4, .write_queues = 4, .perm = 6};
    assert_int_equal(topics_put(&f->store, &wish, &made), 0);
    assert_non_null(groups_ensure(&f->store, bytes_of(group)));
}

static int32_t commit(struct fixture *f, const char *group, const char *topic, int32_t queue_id, int64_t offset)
{
    return offsets_commit(&f->store, bytes_of(group), bytes_of(topic), queue_id, offset, &remark);
}

static int64_t stored(struct fixture *f, const char *group, const char *topic, int32_t queue_id)
{
    int64_t offset;
    offsets_query(&f->store, bytes_of(group), bytes_of(topic), queue_id, false, &offset, &remark);
    return offset;
}

static int32_t reset(struct fixture *f, const char *group, const char *topic, int32_t queue_id, int64_t offset)
{
    return offsets_reset(&f->store, bytes_of(group), bytes_of(topic), queue_id, offset, &remark);
}

static void again(struct fixture *f, bool warm)
{
    fixture_die(f);
    assert_int_equal(fixture_open(f, warm), 0);
}

static void test_topic_drop(void **state)
{
    struct fixture f;
    fixture_begin(&f);
    assert_int_equal(fixture_open(&f, false), 0);
    make(&f, "T", "g");
    make(&f, "TT", "gg");
    make(&f, "%RETRY%g_T", "g");
    make(&f, "%RETRY%g+T", "g");
    make(&f, "%RETRY%gg_T", "g"); /* gg has no offset of T */
    assert_int_equal(commit(&f, "g", "T", 1, 5), 0);
    assert_int_equal(commit(&f, "g", "TT", 1, 6), 0);
    int64_t counter = topics_version(f.store.topics).counter;
    assert_int_equal(topics_admin_drop(&f.store, TEXT("T"), &remark), 0);
    assert_int_equal(topics_version(f.store.topics).counter, counter + 3);
    for (int i = 0; i < 3; i++) {
        assert_null(topics_find(f.store.topics, TEXT("T")));
        assert_null(topics_find(f.store.topics, TEXT("%RETRY%g_T")));
        assert_null(topics_find(f.store.topics, TEXT("%RETRY%g+T")));
        assert_non_null(topics_find(f.store.topics, TEXT("%RETRY%gg_T")));
        assert_int_equal(stored(&f, "g", "T", 1), -1);
        assert_int_equal(stored(&f, "g", "TT", 1), 6);
        if (i == 1)
            assert_int_equal(image_flip(f.store.image), 0);
        again(&f, true);
    }
    assert_int_equal(topics_admin_drop(&f.store, TEXT("T"), &remark), CODE_OK); /* there is nothing to do */
    assert_int_equal(topics_admin_drop(&f.store, TEXT(""), &remark), CODE_INVALID);
    assert_int_equal(topics_admin_drop(&f.store, TEXT("TBW102"), &remark), CODE_INVALID);
    assert_int_equal(topics_admin_drop(&f.store, TEXT("rmq_sys_x"), &remark), CODE_INVALID);
    assert_int_equal(topics_admin_drop(&f.store, TEXT("DefaultCluster"), &remark), CODE_INVALID);
    make(&f, "T", "g"); /* and again from nothing */
    again(&f, true);
    assert_non_null(topics_find(f.store.topics, TEXT("T")));
    assert_int_equal(stored(&f, "g", "T", 1), -1);
    fixture_end(&f);
}

static void test_group_put_and_drop(void **state)
{
    struct fixture f;
    fixture_begin(&f);
    assert_int_equal(fixture_open(&f, false), 0);
    struct msg_group_put put = {.retry_max_times = 3, .retry_queues = 2, .consume_enable = 1, .broker_id = 1};
    assert_int_equal(groups_admin_put(&f.store, &put, TEXT("g"), TEXT("{\"x\":1}"), &remark), CODE_OK);
    assert_int_equal(groups_admin_put(&f.store, &put, TEXT("g g"), TEXT(""), &remark), CODE_INVALID);
    assert_int_equal(groups_admin_put(&f.store, &put, TEXT(""), TEXT(""), &remark), CODE_INVALID);
    assert_true(*remark);
    put.flags = MSG_GROUP_AUTO;
    assert_int_equal(groups_admin_put(&f.store, &put, TEXT("auto"), TEXT(""), &remark), CODE_OK);
    assert_int_equal(groups_admin_put(&f.store, &put, TEXT("g"), TEXT(""), &remark), CODE_OK);
    f.store.config.auto_create_group = false;
    assert_int_equal(groups_admin_put(&f.store, &put, TEXT("more"), TEXT(""), &remark), CODE_NO_GROUP);
    again(&f, true);
    const struct group *group = groups_find(f.store.groups, TEXT("g"));
    assert_int_equal(group->retry_max_times, 3);
    assert_int_equal(group->retry_queues, 2);
    assert_int_equal(group->broker_id, 1);
    assert_true(group->consume_enable);
    assert_false(group->broadcast_enable);
    assert_string_equal(group->extra, "{\"x\":1}");
    assert_int_equal(groups_find(f.store.groups, TEXT("auto"))->retry_max_times, 16);

    make(&f, "T", "g");
    make(&f, "T", "h");
    assert_int_equal(commit(&f, "g", "T", 0, 9), 0);
    assert_int_equal(commit(&f, "h", "T", 0, 8), 0);
    assert_int_equal(groups_admin_drop(&f.store, TEXT("g"), false, &remark), CODE_OK);
    assert_int_equal(stored(&f, "g", "T", 0), 9);
    assert_int_equal(groups_admin_drop(&f.store, TEXT("g"), true, &remark), CODE_OK); /* not there any more */
    again(&f, true);
    assert_null(groups_find(f.store.groups, TEXT("g")));
    assert_int_equal(stored(&f, "g", "T", 0), -1);
    assert_int_equal(stored(&f, "h", "T", 0), 8);
    fixture_end(&f);
}

static void count_forbidden(const char *group, const char *json, void *context)
{
    char *text = context;
    snprintf(text + strlen(text), 200 - strlen(text), "%s%s ", group, json);
}

static const char *forbidden(struct fixture *f)
{
    static char text[200];
    *text = 0;
    groups_each_forbidden(f->store.groups, count_forbidden, text);
    return text;
}

static void test_forbidden(void **state)
{
    struct fixture f;
    fixture_begin(&f);
    assert_int_equal(fixture_open(&f, false), 0);
    assert_string_equal(forbidden(&f), "");
    assert_int_equal(groups_forbid(&f.store, TEXT("g"), TEXT("T"), true, &remark), CODE_OK);
    assert_int_equal(groups_forbid(&f.store, TEXT("g"), TEXT("U"), true, &remark), CODE_OK);
    assert_int_equal(groups_forbid(&f.store, TEXT("h"), TEXT("T"), false, &remark), CODE_OK);
    assert_string_equal(forbidden(&f), "g{\"T\":4,\"U\":4} ");
    int64_t counter = groups_version(f.store.groups).counter;
    assert_int_equal(groups_forbid(&f.store, TEXT("g"), TEXT("T"), true, &remark), CODE_OK);
    assert_int_equal(groups_version(f.store.groups).counter, counter);
    again(&f, true);
    assert_int_equal(groups_version(f.store.groups).counter, counter);
    assert_int_equal(groups_forbid(&f.store, TEXT("g"), TEXT("T"), false, &remark), CODE_OK);
    assert_string_equal(forbidden(&f), "g{\"U\":4} ");
    assert_non_null(groups_ensure(&f.store, TEXT("g")));
    assert_int_equal(groups_admin_drop(&f.store, TEXT("g"), false, &remark), CODE_OK);
    assert_string_equal(forbidden(&f), "");
    again(&f, true);
    assert_string_equal(forbidden(&f), "");
    fixture_end(&f);
}

struct mark {
    unsigned count;
    int32_t queue_id;
    int64_t offset;
};

static void see_mark(const char *key, int32_t queue_id, int64_t offset, void *context)
{
    struct mark *mark = context;
    *mark = (struct mark){mark->count + 1, queue_id, offset};
}

static struct mark marks(struct fixture *f)
{
    struct mark mark = {0};
    offsets_each_reset(f->store.offsets, see_mark, &mark);
    return mark;
}

static void test_reset(void **state)
{
    struct fixture f;
    fixture_begin(&f);
    assert_int_equal(fixture_open(&f, false), 0);
    make(&f, "T", "g");
    assert_int_equal(reset(&f, "g", "U", 0, 5), CODE_NO_TOPIC);
    assert_int_equal(reset(&f, "h", "T", 0, 5), CODE_NO_GROUP);
    assert_int_equal(reset(&f, "g", "T", 4, 5), CODE_ERROR);
    assert_int_equal(reset(&f, "g", "T", 0, -1), CODE_ERROR);
    assert_int_equal(marks(&f).count, 0);
    assert_int_equal(commit(&f, "g", "T", 2, 70), CODE_OK);
    assert_int_equal(reset(&f, "g", "T", 2, 5), CODE_OK);
    assert_int_equal(reset(&f, "g", "T", 3, 6), CODE_OK);
    offsets_reset_seen(&f.store, TEXT("g"), TEXT("T"), 3, 6);
    for (int i = 0; i < 3; i++) { /* as it is, after the image's replay, after a flip of it */
        assert_int_equal(commit(&f, "g", "T", 2, 80), CODE_OK);
        assert_true(*remark);
        assert_int_equal(stored(&f, "g", "T", 2), 5);
        struct mark mark = marks(&f);
        assert_int_equal(mark.count, 1);
        assert_int_equal(mark.queue_id, 2);
        assert_int_equal(mark.offset, 5);
        if (i == 1)
            assert_int_equal(image_flip(f.store.image), 0);
        again(&f, true);
    }
    assert_int_equal(reset(&f, "g", "T", 2, 7), CODE_OK);
    offsets_reset_seen(&f.store, TEXT("g"), TEXT("T"), 2, 5); /* of the mark before */
    assert_int_equal(marks(&f).count, 1);
    offsets_reset_seen(&f.store, TEXT("g"), TEXT("T"), 2, 7);
    assert_int_equal(marks(&f).count, 0);
    again(&f, true);
    assert_int_equal(marks(&f).count, 0);
    assert_int_equal(commit(&f, "g", "T", 2, 80), CODE_OK);
    assert_int_equal(stored(&f, "g", "T", 2), 80);
    assert_int_equal(reset(&f, "g", "T", 1, 7), CODE_OK);
    assert_int_equal(topics_admin_drop(&f.store, TEXT("T"), &remark), 0);
    assert_int_equal(marks(&f).count, 0);
    fixture_end(&f);
}

static void test_clone(void **state)
{
    struct fixture f;
    fixture_begin(&f);
    assert_int_equal(fixture_open(&f, false), 0);
    make(&f, "T", "g");
    make(&f, "U", "g");
    commit(&f, "g", "T", 0, 1);
    commit(&f, "g", "T", 3, 2);
    commit(&f, "g", "U", 0, 3);
    assert_int_equal(offsets_clone(&f.store, TEXT("g"), TEXT("h"), TEXT("T"), &remark), CODE_OK);
    assert_int_equal(stored(&f, "h", "T", 3), 2);
    assert_int_equal(stored(&f, "h", "U", 0), -1);
    assert_int_equal(offsets_clone(&f.store, TEXT("g"), TEXT("i"), TEXT(""), &remark), CODE_OK);
    again(&f, true);
    assert_int_equal(stored(&f, "h", "T", 0), 1);
    assert_int_equal(stored(&f, "i", "T", 0), 1);
    assert_int_equal(stored(&f, "i", "U", 0), 3);
    fixture_end(&f);
}

struct listing {
    unsigned questions, start_overs, queues;
    int64_t sum; /* of queue id × offset */
};

/* One question as a front asks it; false when there is no more. */
static bool ask_list(struct fixture *f, const char *group, const char *topic, char *place, int32_t *after_queue,
                     struct listing *listing)
{
    static uint8_t payload[MSG_OFFSET_LIST_MAX];
    struct msg_offset_list list = {.token = 1, .after_queue = *after_queue};
    struct msg_offset_list_answer answer;
    size_t size = offsets_list(&f->store, &list, bytes_of(group), bytes_of(topic), bytes_of(place), payload);
    assert_int_equal(msg_check_answer(MSG_OFFSET_LIST_ANSWER, payload, size), MSG_OK);
    memcpy(&answer, payload, sizeof answer);
    struct cursor c = cursor_over(payload + sizeof answer, size - sizeof answer);
    listing->questions++;
    listing->start_overs += answer.start_over;
    for (uint32_t i = 0; i < answer.count; i++) {
        cursor_get_string(&c);
        uint32_t queues = cursor_get_u32(&c);
        for (uint32_t q = 0; q < queues; q++) {
            int32_t queue_id = cursor_get_i32(&c);
            listing->queues++;
            listing->sum += queue_id * cursor_get_i64(&c);
        }
    }
    struct bytes next = cursor_get_string(&c);
    snprintf(place, 600, "%.*s", SAY(next));
    *after_queue = answer.after_queue;
    return answer.more;
}

static struct listing list_all(struct fixture *f, const char *group, const char *topic)
{
    struct listing listing = {0};
    char place[600] = "";
    int32_t after_queue = -1;
    while (ask_list(f, group, topic, place, &after_queue, &listing))
        assert_true(listing.questions < 1000);
    return listing;
}

static void test_list(void **state)
{
    struct fixture f;
    fixture_begin(&f);
    assert_int_equal(fixture_open(&f, false), 0);
    assert_int_equal(list_all(&f, "", "").queues, 0);
    char key[64];
    int64_t sum = 0, sum_7 = 0;
    for (int t = 0; t < 300; t++)
        for (int g = 0; g < 20; g++)
            for (int q = 0; q < 3; q++) {
                snprintf(key, sizeof key, "topic-%d@group-%d", t, g);
                offsets_set(f.store.offsets, bytes_of(key), q, t + g);
                sum += q * (t + g);
                sum_7 += g == 7 ? q * (t + g) : 0;
            }
    for (int q = 0; q < 9000; q++) /* more than one answer holds */
        offsets_set(f.store.offsets, bytes_of("wide@group-1"), q, 2);
    struct listing listing = list_all(&f, "", "");
    assert_int_equal(listing.queues, 300 * 20 * 3 + 9000);
    assert_int_equal(listing.sum, sum + 9000ll * 8999);
    assert_true(listing.questions > 3);
    listing = list_all(&f, "group-7", "");
    assert_int_equal(listing.queues, 900);
    assert_int_equal(listing.sum, sum_7);
    assert_int_equal(list_all(&f, "", "topic-11").queues, 60);
    assert_int_equal(list_all(&f, "group-1", "topic-11").queues, 3);
    assert_int_equal(list_all(&f, "group-1", "topic-11").questions, 1);
    assert_int_equal(list_all(&f, "group-1", "none").queues, 0);
    listing = list_all(&f, "group-1", "wide");
    assert_int_equal(listing.queues, 9000);
    assert_int_equal(listing.questions, 4);

    /* The place goes while somebody stands at it. */
    char place[600] = "";
    int32_t after_queue = -1;
    listing = (struct listing){0};
    assert_true(ask_list(&f, "", "", place, &after_queue, &listing));
    struct bytes topic = {(const uint8_t *)place, strcspn(place, "@")};
    offsets_forget_topic(f.store.offsets, topic);
    assert_true(ask_list(&f, "", "", place, &after_queue, &listing));
    assert_int_equal(listing.start_overs, 1);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_topic_drop), cmocka_unit_test(test_group_put_and_drop), cmocka_unit_test(test_forbidden),
        cmocka_unit_test(test_reset),      cmocka_unit_test(test_clone),              cmocka_unit_test(test_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
