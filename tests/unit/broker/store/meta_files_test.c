/* The JSON files in config: what Apache wrote is read, what is written is what Apache writes, nothing unknown is lost,
 * a death or a damaged file leaves a good one. And the name server's side of registration, on a real bus. */
#include <jansson.h>
#include <sys/stat.h>

#include "broker/store/config_tables.h"
#include "broker/store/json_file.h"
#include "broker/store/registration.h"
#include "bus/bus.h"
#include "bus/bus_msg.h"
#include "meta_fixture.h"

enum { PATIENCE_US = 30000000 };

/* As a 5.3.3 broker left them: TABs, bare integer keys, hash order, keys of its own. */
static const char apache_topics[] =
    "{\n\t\"dataVersion\":{\n\t\t\"counter\":17,\n\t\t\"stateVersion\":0,\n\t\t\"timestamp\":1700000000000\n\t},\n"
    "\t\"topicConfigTable\":{\n"
    "\t\t\"orders\":{\n\t\t\t\"attributes\":{\"message.type\":\"FIFO\"},\n\t\t\t\"order\":true,\n\t\t\t\"perm\":4,\n"
    "\t\t\t\"readQueueNums\":6,\n\t\t\t\"topicFilterType\":\"MULTI_TAG\",\n\t\t\t\"topicName\":\"orders\",\n"
    "\t\t\t\"topicSysFlag\":1,\n\t\t\t\"writeQueueNums\":4\n\t\t},\n"
    "\t\t\"TBW102\":{\n\t\t\t\"attributes\":{},\n\t\t\t\"order\":false,\n\t\t\t\"perm\":7,\n\t\t\t\"readQueueNums\":3,"
    "\n"
    "\t\t\t\"topicFilterType\":\"SINGLE_TAG\",\n\t\t\t\"topicName\":\"TBW102\",\n\t\t\t\"topicSysFlag\":0,\n"
    "\t\t\t\"writeQueueNums\":3,\n\t\t\t\"later\":{\"a\":[1,2]}\n\t\t},\n"
    "\t\t\"bare\":{}\n"
    "\t}\n}";

static const char apache_groups[] =
    "{\n\t\"dataVersion\":{\n\t\t\"counter\":3,\n\t\t\"stateVersion\":0,\n\t\t\"timestamp\":1700000000001\n\t},\n"
    "\t\"forbiddenTable\":{\n\t\t\"g1\":{\"orders\":1}\n\t},\n"
    "\t\"subscriptionGroupTable\":{\n"
    "\t\t\"g1\":{\n\t\t\t\"attributes\":{},\n\t\t\t\"brokerId\":2,\n\t\t\t\"consumeBroadcastEnable\":false,\n"
    "\t\t\t\"consumeEnable\":true,\n\t\t\t\"consumeFromMinEnable\":false,\n\t\t\t\"consumeMessageOrderly\":true,\n"
    "\t\t\t\"consumeTimeoutMinute\":20,\n\t\t\t\"groupName\":\"g1\",\n"
    "\t\t\t\"groupRetryPolicy\":{\n\t\t\t\t\"exponentialRetryPolicy\":{\n\t\t\t\t\t\"initial\":5000,\n"
    "\t\t\t\t\t\"max\":7200000,\n\t\t\t\t\t\"multiplier\":2\n\t\t\t\t},\n\t\t\t\t\"type\":\"EXPONENTIAL\"\n\t\t\t},\n"
    "\t\t\t\"groupSysFlag\":0,\n\t\t\t\"notifyConsumerIdsChangedEnable\":false,\n\t\t\t\"retryMaxTimes\":\"5\",\n"
    "\t\t\t\"retryQueueNums\":2,\n\t\t\t\"subscriptionDataSet\":[{\n\t\t\t\t\"expression\":\"*\",\n"
    "\t\t\t\t\"expressionType\":\"TAG\",\n\t\t\t\t\"topic\":\"orders\",\n\t\t\t\t\"version\":1\n\t\t\t}],\n"
    "\t\t\t\"whichBrokerWhenConsumeSlowly\":1\n\t\t}\n\t}\n}";

static const char apache_offsets[] =
    "{\n\t\"dataVersion\":{\n\t\t\"counter\":9,\n\t\t\"stateVersion\":0,\n\t\t\"timestamp\":1700000000002\n\t},\n"
    "\t\"groupTopicMap\":{\n\t\t\"g1\":[\"orders\"]\n\t},\n"
    "\t\"offsetTable\":{\n\t\t\"orders@g1\":{0:120,1:118,5:-1\n\t\t},\n\t\t\"%RETRY%g1@g1\":{0:3\n\t\t},\n"
    "\t\t\"empty@g1\":{}\n\t}\n}";

static void put_file(struct fixture *f, const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/config", f->dir);
    assert_true(mkdir(path, 0755) == 0 || errno == EEXIST);
    snprintf(path, sizeof path, "%s/config/%s", f->dir, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

static char *get_file(struct fixture *f, const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/config/%s", f->dir, name);
    FILE *file = fopen(path, "r");
    if (!file)
        return NULL;
    char *text = calloc(1, 1 << 20);
    size_t size = fread(text, 1, (1 << 20) - 1, file);
    assert_true(size < (1 << 20) - 1);
    fclose(file);
    return text;
}

static void put_apache(struct fixture *f)
{
    put_file(f, "topics.json", apache_topics);
    put_file(f, "subscriptionGroup.json", apache_groups);
    put_file(f, "consumerOffset.json", apache_offsets);
}

static void expect_apache(struct fixture *f)
{
    struct topic *topic = topics_find(f->store.topics, TEXT("orders"));
    assert_non_null(topic);
    assert_int_equal(topic->read_queues, 6);
    assert_int_equal(topic->write_queues, 4);
    assert_int_equal(topic->slot_count, 6);
    assert_int_equal(topic->perm, 4);
    assert_int_equal(topic->sys_flag, 1);
    assert_true(topic->order && topic->multi_tag);
    assert_int_equal(topics_find(f->store.topics, TEXT("TBW102"))->write_queues,
                     3); /* the file goes before the default */
    assert_int_equal(topics_find(f->store.topics, TEXT("bare"))->read_queues, 16); /* Java's default */
    struct group *group = groups_find(f->store.groups, TEXT("g1"));
    assert_non_null(group);
    assert_int_equal(group->broker_id, 2);
    assert_int_equal(group->retry_max_times, 5);
    assert_int_equal(group->retry_queues, 2);
    assert_int_equal(group->consume_timeout_minutes, 20);
    assert_true(group->orderly && group->consume_enable);
    assert_false(group->broadcast_enable || group->from_min_enable || group->notify_members_changed);
    int64_t offset;
    const char *remark;
    assert_int_equal(offsets_query(&f->store, TEXT("g1"), TEXT("orders"), 1, false, &offset, &remark), 0);
    assert_int_equal(offset, 118);
    assert_int_equal(offsets_query(&f->store, TEXT("g1"), TEXT("orders"), 5, false, &offset, &remark), 22);
    assert_int_equal(offsets_query(&f->store, TEXT("g1"), TEXT("%RETRY%g1"), 0, false, &offset, &remark), 0);
    assert_int_equal(offset, 3);
}

static void test_read_apache(void **state)
{
    struct fixture f;
    fixture_begin(&f);
    put_apache(&f);
    assert_int_equal(fixture_open(&f, false), 0);
    expect_apache(&f);
    assert_true(topics_version(f.store.topics).counter > 17); /* system topics came on top */
    assert_int_equal(offsets_version(f.store.offsets).counter, 9);
    fixture_die(&f);
    assert_int_equal(fixture_open(&f, true), 0); /* all of it is in the image */
    expect_apache(&f);
    fixture_end(&f);
}

/* The text that a table makes, checked as JSON once its bare keys are quoted. */
static json_t *printed(struct fixture *f, void (*print)(struct store *store, struct text *text), char **ret_text)
{
    struct text text = {NULL, 0, 0};
    const char *error;
    print(&f->store, &text);
    json_t *json = json_body_parse((struct bytes){(const uint8_t *)text.data, text.size}, &error);
    assert_non_null(json);
    *ret_text = strndup(text.data, text.size);
    text_free(&text);
    return json;
}

static void test_write_as_apache(void **state)
{
    struct fixture f;
    char *text;
    fixture_begin(&f);
    put_apache(&f);
    assert_int_equal(fixture_open(&f, false), 0);

    json_t *json = printed(&f, config_tables_print_topics, &text);
    /* Written by fastjson's rules, to the byte. */
    assert_non_null(strstr(text,
                           "\n\t\t\"bare\":{\n\t\t\t\"attributes\":{},\n\t\t\t\"order\":false,\n\t\t\t\"perm\":6,\n"
                           "\t\t\t\"readQueueNums\":16,\n\t\t\t\"topicFilterType\":\"SINGLE_TAG\",\n"
                           "\t\t\t\"topicName\":\"bare\",\n\t\t\t\"topicSysFlag\":0,\n"
                           "\t\t\t\"writeQueueNums\":16\n\t\t}"));
    assert_non_null(strstr(text, "\"attributes\":{\n\t\t\t\t\"message.type\":\"FIFO\"\n\t\t\t}"));
    assert_non_null(strstr(text, "\"later\":{\n\t\t\t\t\"a\":[1,2]\n\t\t\t},\n\t\t\t\"order\""));
    json_t *later = json_object_get(json_object_get(json_object_get(json, "topicConfigTable"), "TBW102"), "later");
    assert_int_equal(json_array_size(json_object_get(later, "a")), 2);
    json_decref(json);
    free(text);

    json = printed(&f, config_tables_print_groups, &text);
    json_error_t json_error;
    json_t *expected = json_loads(apache_groups, 0, &json_error); /* strict already */
    json_t *got_group = json_object_get(json_object_get(json, "subscriptionGroupTable"), "g1");
    json_t *expected_group = json_object_get(json_object_get(expected, "subscriptionGroupTable"), "g1");
    json_object_set_new(expected_group, "retryMaxTimes", json_integer(5));
    assert_true(json_equal(got_group, expected_group));
    assert_true(json_equal(json_object_get(json, "forbiddenTable"), json_object_get(expected, "forbiddenTable")));
    assert_non_null(strstr(text, "\"subscriptionDataSet\":[{\n\t\t\t\t\"expression\":\"*\",\n"));
    json_decref(expected);
    json_decref(json);
    free(text);

    json = printed(&f, config_tables_print_offsets, &text);
    assert_non_null(strstr(text, "\n\t\t\"orders@g1\":{0:120,1:118,5:-1\n\t\t}"));
    json_decref(json);
    free(text);
    fixture_end(&f);
}

static int on_exit_now(sd_event_source *source, uint64_t usec, void *userdata)
{
    fail_msg("nothing happened");
    return 0;
}

/* Runs the loop until `condition` holds. */
#define RUN_UNTIL(event, condition)                                                                                    \
    do {                                                                                                               \
        sd_event_source *patience_ = NULL;                                                                             \
        assert_true(                                                                                                   \
            sd_event_add_time_relative(event, &patience_, CLOCK_MONOTONIC, PATIENCE_US, 0, on_exit_now, NULL) >= 0);   \
        while (!(condition))                                                                                           \
            assert_true(sd_event_run(event, 10000) >= 0);                                                              \
        sd_event_source_disable_unref(patience_);                                                                      \
    } while (0)

static bool file_says(struct fixture *f, const char *name, const char *what)
{
    char *text = get_file(f, name);
    bool says = text && strstr(text, what);
    free(text);
    return says;
}

static void start(struct fixture *f, bool warm)
{
    assert_int_equal(fixture_open(f, warm), 0);
    f->store.runtime_dir = f->dir;
    assert_int_equal(sd_event_new(&f->store.event), 0);
    assert_int_equal(metadata_start(&f->store), 0);
}

static void stop(struct fixture *f)
{
    metadata_stop(&f->store);
    fixture_die(f);
}

static void test_files_follow(void **state)
{
    struct fixture f;
    const char *remark;
    struct topic *topic;
    fixture_begin(&f);
    put_apache(&f);
    start(&f, false);
    RUN_UNTIL(f.store.event, file_says(&f, "topics.json", "SCHEDULE_TOPIC_XXXX"));
    assert_true(file_says(&f, "topics.json.bak", "\"bare\":{}")); /* Apache's own file */
    assert_int_equal(topics_auto_create(&f.store, TEXT("new-one"), TEXT("TBW102"), 2, false, &topic, &remark), 0);
    RUN_UNTIL(f.store.event, file_says(&f, "topics.json", "new-one"));
    assert_non_null(groups_ensure(&f.store, TEXT("new-group")));
    RUN_UNTIL(f.store.event, file_says(&f, "subscriptionGroup.json", "new-group"));
    assert_int_equal(offsets_commit(&f.store, TEXT("g1"), TEXT("new-one"), 1, 777, &remark), 0);
    assert_int_equal(offsets_commit(&f.store, TEXT("g1"), TEXT("new-one"), 0, 776, &remark), 0);
    sd_event *event = f.store.event;
    stop(&f); /* an orderly end writes what is left */
    sd_event_unref(event);
    assert_true(file_says(&f, "consumerOffset.json", "\"new-one@g1\":{0:776,1:777\n"));

    /* And a cold start finds it. */
    assert_int_equal(fixture_open(&f, false), 0);
    expect_apache(&f);
    int64_t offset;
    assert_int_equal(offsets_query(&f.store, TEXT("g1"), TEXT("new-one"), 1, false, &offset, &remark), 0);
    assert_int_equal(offset, 777);
    assert_int_equal(topics_find(f.store.topics, TEXT("new-one"))->write_queues, 2);
    assert_non_null(groups_find(f.store.groups, TEXT("new-group")));
    fixture_end(&f);
}

static void test_damaged_files(void **state)
{
    struct fixture f;
    fixture_begin(&f);
    put_apache(&f);
    put_file(&f, "topics.json.bak", apache_topics);
    put_file(&f, "topics.json", "{\"dataVersion\":{\"coun"); /* cut short */
    put_file(&f, "consumerOffset.json.bak", apache_offsets);
    put_file(&f, "consumerOffset.json", ""); /* killed between truncating and writing */
    assert_int_equal(fixture_open(&f, false), 0);
    expect_apache(&f);
    fixture_die(&f);

    put_file(&f, "topics.json.bak", "");
    assert_int_equal(fixture_open(&f, false), -EBADMSG); /* somebody must look: no guess */
    fixture_die(&f);
    put_file(&f, "topics.json", "");
    assert_int_equal(fixture_open(&f, false), 0);
    assert_null(topics_find(f.store.topics, TEXT("orders")));
    fixture_die(&f);
    put_file(&f, "topics.json", "{\"topicConfigTable\":{\"t\":{\"writeQueueNums\":-1}}}");
    assert_int_equal(fixture_open(&f, false), -EBADMSG);
    fixture_end(&f);
}

/* A name server, as far as a store sees one. */
struct name_server {
    struct bus *bus;
    unsigned whole, partial, heartbeats, unregistered;
    uint32_t last_count;
    char last_topic[64], address[64], peer[64];
    int32_t tbw_perm;
    int64_t counter;
};

static void on_bus(void *context, struct bytes peer, struct bytes message)
{
    struct name_server *ns = context;
    snprintf(ns->peer, sizeof ns->peer, "%.*s", SAY(peer));
    if (message.size == 0)
        return;
    enum bus_msg_kind kind;
    assert_int_equal(bus_msg_kind(message, &kind), 0);
    if (kind == BUS_REGISTER) {
        struct bus_registration table;
        assert_int_equal(bus_msg_decode_registration(message, &table), 0);
        *(table.whole ? &ns->whole : &ns->partial) += 1;
        ns->last_count = table.topic_count;
        ns->counter = table.version.counter;
        snprintf(ns->address, sizeof ns->address, "%.*s", SAY(table.broker_addr));
        for (uint32_t i = 0; i < table.topic_count; i++) {
            snprintf(ns->last_topic, sizeof ns->last_topic, "%.*s", SAY(table.topics[i].name));
            if (bytes_equal_text(table.topics[i].name, "TBW102"))
                ns->tbw_perm = table.topics[i].perm;
        }
        bus_registration_free(&table);
        return;
    }
    struct bus_heartbeat heartbeat;
    assert_int_equal(bus_msg_decode_heartbeat(message, &heartbeat), 0);
    assert_true(bytes_equal_text(heartbeat.broker_name, "broker-a"));
    ns->counter = heartbeat.version.counter;
    *(kind == BUS_HEARTBEAT ? &ns->heartbeats : &ns->unregistered) += 1;
}

static void test_registration(void **state)
{
    struct fixture f;
    struct name_server ns = {0};
    struct bytes again;
    char *names[] = {"one", "two", NULL}; /* nobody is at home at the second */
    fixture_begin(&f);
    sd_event *event;
    assert_int_equal(sd_event_new(&event), 0);
    assert_int_equal(fixture_open(&f, false), 0);
    f.store.runtime_dir = f.dir;
    f.store.event = event;
    f.store.config.namesrvs = names;
    f.store.config.broker_permission = 4;
    assert_int_equal(bus_bind(event, f.dir, "ns-one", on_bus, &ns, &ns.bus), 0);
    assert_int_equal(metadata_start(&f.store), 0);

    RUN_UNTIL(event, ns.heartbeats >= 1); /* the first table may have been sent before the connection stood */
    assert_string_equal(ns.peer, "broker-a/0");
    assert_int_equal(bus_msg_encode_plain(BUS_REGISTER_AGAIN, &again), 0);
    unsigned before = ns.whole;
    assert_int_equal(bus_send(ns.bus, bytes_of(ns.peer), again), 0);
    RUN_UNTIL(event, ns.whole > before);
    assert_int_equal(ns.last_count, 13);
    assert_int_equal(ns.tbw_perm, 4); /* the topic's 7 & the broker's 4 */
    assert_string_equal(ns.address, ":10911");
    assert_int_equal(ns.counter, topics_version(f.store.topics).counter);

    struct topic *topic;
    const char *remark;
    assert_int_equal(topics_auto_create(&f.store, TEXT("fresh"), TEXT("TBW102"), 2, false, &topic, &remark), 0);
    RUN_UNTIL(event, ns.partial == 1);
    assert_int_equal(ns.last_count, 1);
    assert_string_equal(ns.last_topic, "fresh");
    assert_int_equal(ns.counter, topics_version(f.store.topics).counter);

    metadata_stop(&f.store);
    RUN_UNTIL(event, ns.unregistered == 1);
    bus_free(ns.bus);
    free((void *)again.data);
    fixture_end(&f);
    sd_event_unref(event);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_apache),  cmocka_unit_test(test_write_as_apache),
        cmocka_unit_test(test_files_follow), cmocka_unit_test(test_damaged_files),
        cmocka_unit_test(test_registration),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
