/* Parts of the front without a process: tokens of outstanding requests, tag filters, heartbeats, send headers, and
 * pulls over a small log and queue made by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <isa-l/crc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/java_hash.h"
#include "broker/front/damage.h"
#include "broker/front/filter.h"
#include "broker/front/member.h"
#include "broker/front/number.h"
#include "broker/front/pending.h"
#include "broker/front/pull.h"
#include "broker/front/send.h"
#include "msg/msg_check.h"
#include "wire/codes.h"

static void test_numbers(void **state)
{
    int64_t value;
    int32_t small;
    assert_int_equal(number_parse_i64(bytes_of("-9223372036854775808"), &value), 0);
    assert_true(value == INT64_MIN);
    assert_int_equal(number_parse_i64(bytes_of("9223372036854775808"), &value), -EINVAL);
    assert_int_equal(number_parse_i64(bytes_of(""), &value), -EINVAL);
    assert_int_equal(number_parse_i64(bytes_of("-"), &value), -EINVAL);
    assert_int_equal(number_parse_i64(bytes_of("1 "), &value), -EINVAL);
    assert_int_equal(number_parse_i32(bytes_of("2147483648"), &small), -EINVAL);
    assert_int_equal(number_parse_i32(bytes_of("-2147483648"), &small), 0);
    assert_int_equal(small, INT32_MIN);
}

static void test_pending(void **state)
{
    enum { COUNT = 1000 };
    struct pending *pending = pending_new();
    struct pending_request request = {.kind = PENDING_SEND}, got;
    uint64_t tokens[COUNT];
    for (int i = 0; i < COUNT; i++) {
        request.opaque = i;
        tokens[i] = pending_add(pending, &request);
        assert_true(tokens[i] != 0);
    }
    for (int i = 0; i < COUNT; i++) {
        assert_true(pending_take(pending, tokens[i], &got));
        assert_int_equal(got.opaque, i);
        assert_false(pending_take(pending, tokens[i], &got)); /* a second answer */
    }
    assert_int_equal(pending_count(pending), 0);
    uint64_t again = pending_add(pending, &request); /* the place is used again, the token is another */
    for (int i = 0; i < COUNT; i++)
        assert_true(tokens[i] != again);
    assert_false(pending_take(pending, 0, &got));
    assert_false(pending_take(pending, UINT64_MAX, &got));
    assert_false(pending_take(pending, again + (1ull << 32), &got));
    assert_true(pending_take(pending, again, &got));
    pending_free(pending);
}

static void test_filter(void **state)
{
    struct tag_filter filter;
    assert_int_equal(tag_filter_compile(bytes_of("*"), &filter), 0);
    assert_true(tag_filter_matches(&filter, 12345));
    assert_int_equal(tag_filter_compile(bytes_of(" TagA ||| B||  "), &filter), 0);
    assert_int_equal(filter.count, 2);
    assert_true(tag_filter_matches(&filter, 2598919)); /* "TagA" */
    assert_true(tag_filter_matches(&filter, java_hash(bytes_of("| B"))));
    assert_false(tag_filter_matches(&filter, 0));
    tag_filter_free(&filter);
    assert_int_equal(tag_filter_compile(bytes_of("||  ||"), &filter), -EINVAL);
}

static enum msg_refusal check_member(const struct member *member)
{
    return msg_check_request(MSG_MEMBER_PUT, member->payload, member->size);
}

static void test_heartbeat(void **state)
{
    /* As C++ sends it: ordinals, numbers as texts, empty sets left out. */
    const char *body =
        "{\"clientID\":\"c@1\",\"consumerDataSet\":[{\"groupName\":\"g\",\"consumeType\":1,\"messageModel\":0,"
        "\"consumeFromWhere\":\"CONSUME_FROM_TIMESTAMP\",\"subscriptionDataSet\":["
        "{\"topic\":\"T\",\"subString\":\"A\",\"subVersion\":\"17\"},"
        "{\"topic\":\"U\",\"subVersion\":18,\"expressionType\":\"SQL92\"}]}],"
        "\"heartbeatFingerprint\":5}";
    struct heartbeat heartbeat;
    const char *error = NULL;
    assert_int_equal(heartbeat_parse(bytes_of(body), &(struct msg_member_put){.connection = 77, .language = 1, .version = 333},
                                     &heartbeat, &error), 0);
    assert_int_equal(heartbeat.fingerprint, 5);
    assert_false(heartbeat.without_subscriptions);
    struct member *member = heartbeat.members;
    assert_non_null(member);
    assert_null(member->next);
    assert_int_equal(check_member(member), MSG_OK);
    struct msg_member_put put;
    memcpy(&put, member->payload, sizeof put);
    assert_int_equal(put.connection, 77);
    assert_int_equal(put.consume_type, 1);
    assert_int_equal(put.message_model, MESSAGE_MODEL_BROADCASTING);
    assert_int_equal(put.from_where, 5);
    assert_int_equal(put.subscription_count, 2);
    struct cursor cursor = cursor_over(member->payload + sizeof put, member->size - sizeof put);
    assert_true(bytes_equal_text(cursor_get_string(&cursor), "c@1"));
    assert_true(bytes_equal_text(cursor_get_string(&cursor), "g"));
    assert_int_equal(cursor_get_i64(&cursor), 17);
    assert_int_equal(cursor_get_u8(&cursor), MSG_EXPRESSION_TAG);
    assert_true(bytes_equal_text(cursor_get_string(&cursor), "T"));
    assert_true(bytes_equal_text(cursor_get_string(&cursor), "A"));
    assert_int_equal(cursor_get_i64(&cursor), 18);
    assert_int_equal(cursor_get_u8(&cursor), MSG_EXPRESSION_SQL92);
    member_list_free(heartbeat.members);

    static const char *const bad[] = {"", "[]", "{\"clientID\":\"\"}", "{\"clientID\":\"c\",\"producerDataSet\":[{}]}",
                                      "{\"clientID\":\"c\",\"consumerDataSet\":[{\"groupName\":\"g\","
                                      "\"subscriptionDataSet\":[{\"topic\":\"\"}]}]}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        error = NULL;
        assert_int_equal(heartbeat_parse(bytes_of(bad[i]), &(struct msg_member_put){.connection = 1}, &heartbeat, &error), -EINVAL);
        assert_non_null(error);
    }
}

static void add_field(struct frame *frame, const char *key, const char *value)
{
    frame->fields[frame->field_count++] = (struct frame_field){bytes_of(key), bytes_of(value)};
}

static void test_send_header(void **state)
{
    static struct frame v2 = {.code = REQUEST_SEND_MESSAGE_V2, .version = 479},
                        v1 = {.code = REQUEST_SEND_MESSAGE, .version = 100};
    struct send_header header;
    const char *field = NULL;
    add_field(&v2, "a", "PG");
    add_field(&v2, "n", "broker-a");
    add_field(&v2, "b", "T");
    add_field(&v2, "e", "-1");
    add_field(&v2, "g", "1700000000000");
    add_field(&v2, "i", "K\1v\2");
    add_field(&v2, "l", "3");
    add_field(&v2, "m", "true");
    v2.body = bytes_of("body");
    assert_int_equal(send_header_parse(&v2, &header, &field), 0);
    assert_true(header.batch);
    assert_int_equal(header.queue_id, -1);
    assert_int_equal(header.max_reconsume_times, 3);
    struct channel channel = {.peer_ip = {10, 0, 0, 9}, .peer_port = 4711};
    uint8_t record[256];
    size_t size = send_record_size(&header, &v2);
    send_record_encode(record, &header, &v2, &channel, 99);
    assert_int_equal(msg_check_request(MSG_SEND, record, size), MSG_OK);
    struct msg_send_parts parts;
    msg_send_split(record, &parts);
    assert_int_equal(parts.send->token, 99);
    assert_int_equal(parts.send->flags, MSG_SEND_BATCH);
    assert_int_equal(parts.send->born_port, 4711);
    assert_int_equal(parts.send->born_ip[3], 9);
    assert_int_equal(parts.send->born_ms, 1700000000000);
    assert_true(bytes_equal_text(parts.topic, "T") && bytes_equal_text(parts.group, "PG"));
    assert_true(bytes_equal_text(parts.properties, "K\1v\2") && bytes_equal_text(parts.body, "body"));
    send_record_encode(record, &header, &v2, &channel, 0);
    msg_send_split(record, &parts);
    assert_int_equal(parts.send->flags, MSG_SEND_BATCH | MSG_SEND_NO_ANSWER);

    add_field(&v1, "topic", "T");
    add_field(&v1, "a", "no field of V1");
    assert_int_equal(send_header_parse(&v1, &header, &field), -EINVAL);
    assert_string_equal(field, "queueId");
    add_field(&v1, "queueId", "2");
    add_field(&v1, "maxReconsumeTimes", "3"); /* not believed of so old a client */
    assert_int_equal(send_header_parse(&v1, &header, &field), 0);
    assert_int_equal(header.max_reconsume_times, -1);
    assert_int_equal(header.group.size, 0);
    add_field(&v1, "flag", "1x");
    assert_int_equal(send_header_parse(&v1, &header, &field), -EINVAL);
    assert_string_equal(field, "flag");
}

/* A queue of 1000 messages tagged "A", every hundredth "B", in log files of 64 KiB. */
enum { MESSAGES = 1000, RECORD = 100, LOG_FILE = 65536 };

static void make_record(uint8_t *record, int64_t offset, int64_t pos)
{
    enum { BODY = 8, BODY_AT = RECORD - 12 };
    memset(record, 0, RECORD);
    be32_store(record, RECORD);
    be32_store(record + 4, offset == 500 ? 0x12345678u : 0xDAA320A7u); /* one is no record */
    be64_store(record + 20, (uint64_t)offset);
    be64_store(record + 28, (uint64_t)pos);
    be32_store(record + 84, BODY);
    memcpy(record + BODY_AT, "message", BODY);
    be32_store(record + 8, crc32_gzip_refl(0, record + BODY_AT, BODY) & 0x7FFFFFFF);
    memcpy(record + BODY_AT + BODY, "\1T", 2);
}

static void write_queue(const char *folder)
{
    char path[256];
    int queue = -1, log = -1;
    int64_t pos = 0;
    snprintf(path, sizeof path, "mkdir -p %s/commitlog %s/consumequeue/T/0", folder, folder);
    assert_int_equal(system(path), 0);
    snprintf(path, sizeof path, "%s/consumequeue/T/0/%020d", folder, 0);
    queue = open(path, O_RDWR | O_CREAT, 0600);
    assert_int_equal(ftruncate(queue, 6000000), 0);
    for (int i = 0; i < MESSAGES; i++, pos += RECORD) {
        uint8_t record[RECORD], entry[20];
        if (pos % LOG_FILE + RECORD > LOG_FILE)
            pos += LOG_FILE - pos % LOG_FILE;
        if (pos % LOG_FILE == 0) {
            snprintf(path, sizeof path, "%s/commitlog/%020lld", folder, (long long)pos);
            if (log >= 0)
                close(log);
            log = open(path, O_RDWR | O_CREAT, 0600);
            assert_int_equal(ftruncate(log, LOG_FILE), 0);
        }
        make_record(record, i, pos);
        assert_int_equal(pwrite(log, record, RECORD, pos % LOG_FILE), RECORD);
        be64_store(entry, (uint64_t)pos);
        be32_store(entry + 8, RECORD);
        be64_store(entry + 12, (uint64_t)java_hash(bytes_of(i % 100 == 99 ? "B" : "A")));
        assert_int_equal(pwrite(queue, entry, 20, i * 20), 20);
    }
    close(log);
    close(queue);
}

static int try_look(struct front *front, int64_t offset, const char *expression, int32_t count, struct pull_found *ret_found)
{
    struct tag_filter filter;
    struct pull pull = {.offset = offset, .requested_offset = offset, .max_count = count, .waited = true};
    struct queue_ref queue = {0, 1, "T", 0};
    assert_int_equal(tag_filter_compile(bytes_of(expression), &filter), 0);
    int r = pull_lookup(front, &pull, &queue, &filter, ret_found);
    tag_filter_free(&filter);
    return r;
}

static struct pull_found look(struct front *front, int64_t offset, const char *expression, int32_t count)
{
    struct pull_found found;
    assert_int_equal(try_look(front, offset, expression, count, &found), 0); /* written a moment ago: hot */
    return found;
}

struct lookup {
    struct front front;
    struct queue_slot *slot;
    char folder[32], log_folder[64];
};

static void lookup_begin(struct lookup *lookup)
{
    *lookup = (struct lookup){.folder = "/tmp/front-parts-XXXXXX"};
    assert_non_null(mkdtemp(lookup->folder));
    write_queue(lookup->folder);
    snprintf(lookup->log_folder, sizeof lookup->log_folder, "%s/commitlog", lookup->folder);
    lookup->front = (struct front){.config = {.store_root = lookup->folder,
                                              .commit_log_dir = lookup->log_folder,
                                              .commit_log_file_size = LOG_FILE,
                                              .consume_queue_file_size = 6000000,
                                              .max_message_size = 4194304,
                                              .pull_count_max = 32,
                                              .pull_bytes_max = 262144},
                                   .now_ms = 1};
    struct queue_table *table =
        mmap(NULL, sizeof *table, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(table != MAP_FAILED);
    lookup->front.queue_table = table;
    lookup->slot = &table->slots[0];
    atomic_store(&lookup->slot->max_offset, MESSAGES);
    atomic_store(&table->log_readable_pos, 3 * LOG_FILE);
    assert_int_equal(read_log_new(&lookup->front, &lookup->front.read_log), 0);
    lookup->front.board = calloc(1, sizeof *lookup->front.board);
    lookup->front.damage = damage_new();
    assert_true(lookup->front.board && lookup->front.damage);
}

static void lookup_end(struct lookup *lookup)
{
    char command[64];
    read_log_free(lookup->front.read_log);
    damage_free(lookup->front.damage);
    free(lookup->front.board);
    munmap(lookup->front.queue_table, sizeof *lookup->front.queue_table);
    snprintf(command, sizeof command, "rm -rf %s", lookup->folder);
    assert_int_equal(system(command), 0);
}

static void test_lookup(void **state)
{
    struct lookup lookup;
    struct front *front = &lookup.front;
    lookup_begin(&lookup);
    struct pull_found found = look(front, 0, "*", 32);
    assert_int_equal(found.code, RESPONSE_SUCCESS);
    assert_int_equal(found.count, 32);
    assert_int_equal(found.range_count, 1); /* neighbours are one piece */
    assert_int_equal(found.size, 32 * RECORD);
    assert_int_equal(found.next_offset, 32);
    assert_int_equal(look(front, 0, "*", 7).next_offset, 7);
    assert_int_equal(look(front, 0, "*", 1000).count, 32);
    found = look(front, 640, "*", 32); /* over the end of a log file */
    assert_int_equal(found.count, 32);
    assert_int_equal(found.range_count, 2);
    found = look(front, 495, "*", 10); /* what is no record is asked for, and passed over when nobody makes it good */
    assert_int_equal(found.count, 5);
    assert_int_equal(found.next_offset, 500);
    assert_int_equal(try_look(front, 500, "*", 10, &found), -EINPROGRESS);
    front->now_ms += 29000;
    assert_int_equal(try_look(front, 500, "*", 10, &found), -EINPROGRESS);
    front->now_ms += 1000;
    found = look(front, 495, "*", 10);
    assert_int_equal(found.count, 10);
    assert_int_equal(found.next_offset, 506);
    found = look(front, 0, "B", 32); /* at most 800 entries are looked at */
    assert_int_equal(found.count, 8);
    assert_int_equal(found.next_offset, 800);
    found = look(front, 10, "C", 32);
    assert_int_equal(found.code, RESPONSE_PULL_RETRY_IMMEDIATELY);
    assert_int_equal(found.next_offset, 810);
    assert_int_equal(look(front, 300, "C", 32).next_offset, MESSAGES);
    assert_int_equal(look(front, MESSAGES, "*", 32).code, RESPONSE_PULL_NOT_FOUND);
    assert_int_equal(look(front, MESSAGES + 1, "*", 32).code, RESPONSE_PULL_OFFSET_MOVED);

    atomic_store(&front->queue_table->log_readable_pos, 10 * RECORD); /* never past the watermark */
    found = look(front, 5, "*", 32);
    assert_int_equal(found.count, 5);
    assert_int_equal(found.next_offset, 10);
    atomic_store(&front->queue_table->log_readable_pos, 3 * LOG_FILE);
    atomic_store(&front->queue_table->log_min_pos, LOG_FILE); /* the first file is gone */
    found = look(front, 650, "*", 8);
    assert_int_equal(found.code, RESPONSE_SUCCESS);
    assert_true(found.next_offset > 658);
    atomic_store(&lookup.slot->min_offset, 700);
    found = look(front, 0, "*", 32);
    assert_int_equal(found.code, RESPONSE_PULL_OFFSET_MOVED);
    assert_int_equal(found.next_offset, 700);
    lookup_end(&lookup);
}

static void test_lookup_ahead(void **state)
{
    struct lookup lookup;
    struct front *front = &lookup.front;
    lookup_begin(&lookup);
    /* What was read ahead ends where the queue did; it is not the queue's end for good. */
    atomic_store(&lookup.slot->max_offset, 205);
    assert_int_equal(look(front, 200, "*", 32).next_offset, 205);
    assert_int_equal(look(front, 204, "*", 32).count, 1);
    atomic_store(&lookup.slot->max_offset, MESSAGES);
    struct pull_found found = look(front, 190, "*", 32);
    assert_int_equal(found.count, 32);
    assert_int_equal(found.next_offset, 222);
    found = look(front, 398, "*", 32);
    assert_int_equal(found.next_offset, 430);
    lookup_end(&lookup);
}

static void test_lookup_cold(void **state)
{
    struct lookup lookup;
    struct front *front = &lookup.front;
    struct log_file *file;
    const uint8_t *data;
    struct cold_range cold;
    char path[128];
    lookup_begin(&lookup);
    /* A page that nobody has touched is cold until it was written. */
    struct queue_entry hole = {LOG_FILE + 49152, RECORD, 0};
    uint8_t record[RECORD] = {0};
    be32_store(record, RECORD);
    be32_store(record + 4, 0xDAA320A7u);
    assert_int_equal(read_log_record(front->read_log, &hole, false, &file, &data, &cold), -EAGAIN);
    assert_true(cold.fd >= 0);
    assert_int_equal(cold.offset, 49152);
    snprintf(path, sizeof path, "%s/commitlog/%020d", lookup.folder, LOG_FILE);
    int fd = open(path, O_RDWR);
    assert_int_equal(pwrite(fd, record, RECORD, 49152), RECORD);
    close(fd);
    close(cold.fd);
    assert_int_equal(read_log_record(front->read_log, &hole, false, &file, &data, &cold), 0);
    assert_memory_equal(data, record, RECORD);
    lookup_end(&lookup);
}

/* Bytes of the record that no check of a reader covers: flag, flags that say nothing about sizes, born time and host, store
 * time and host, times consumed, prepared position. */
static bool is_covered(size_t byte)
{
    return byte < 16 || (byte >= 20 && byte < 36) || byte >= 84;
}

static void test_lookup_damaged(void **state)
{
    enum { OFFSET = 50 };
    struct lookup lookup;
    struct front *front = &lookup.front;
    char path[128];
    uint8_t record[RECORD] = {0};
    struct pull_found waiting;
    lookup_begin(&lookup);
    snprintf(path, sizeof path, "%s/commitlog/%020d", lookup.folder, 0);
    int fd = open(path, O_RDWR);
    assert_int_equal(pwrite(fd, record, RECORD, OFFSET * RECORD), RECORD);
    assert_int_equal(try_look(front, OFFSET, "*", 8, &waiting), -EINPROGRESS);
    front->now_ms += 30000; /* nobody makes the entry again */
    for (size_t bit = 0; bit < RECORD * 8; bit++) {
        make_record(record, OFFSET, OFFSET * RECORD);
        record[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(pwrite(fd, record, RECORD, OFFSET * RECORD), RECORD);
        struct pull_found found = look(front, OFFSET - 2, "*", 8);
        assert_int_equal(found.count, 8);
        if (is_covered(bit / 8) && found.next_offset != OFFSET + 7)
            fail_msg("byte %zu, bit %zu of a record: delivered", bit / 8, bit % 8);
    }
    /* The same one again and again: told and counted once. */
    assert_int_equal(board_get(front->board, COUNTER_RECORDS_DAMAGED), 1);
    assert_int_equal(board_get(front->board, COUNTER_ENTRIES_DAMAGED), 1);
    close(fd);
    lookup_end(&lookup);
}

static void test_lookup_unreadable(void **state)
{
    struct lookup lookup;
    struct front *front = &lookup.front;
    char path[128];
    lookup_begin(&lookup);
    /* A queue file that cannot be read is an error, one that is not there is passed over. */
    atomic_store(&lookup.slot->max_offset, 700000);
    struct pull_found found = look(front, 300000, "*", 32);
    assert_int_equal(found.code, RESPONSE_PULL_RETRY_IMMEDIATELY);
    assert_int_equal(found.next_offset, 600000);
    snprintf(path, sizeof path, "%s/consumequeue/T/0/%020d", lookup.folder, 6000000);
    assert_int_equal(mkdir(path, 0700), 0); /* opens, and every read is EISDIR */
    found = look(front, 300000, "*", 32);
    assert_int_equal(found.code, RESPONSE_SYSTEM_ERROR);
    assert_int_equal(found.next_offset, 300000);
    lookup_end(&lookup);
}

static void test_lookup_cut(void **state)
{
    struct lookup lookup;
    struct front *front = &lookup.front;
    struct log_file *file;
    const uint8_t *data;
    struct cold_range cold;
    char path[128];
    lookup_begin(&lookup);
    /* A page that cannot be read is an answer: the file was cut under its map. */
    uint8_t byte;
    struct queue_entry entry = {2 * LOG_FILE, RECORD, 0};
    atomic_store(&front->queue_table->log_readable_pos, 4 * LOG_FILE);
    snprintf(path, sizeof path, "%s/commitlog/%020d", lookup.folder, LOG_FILE);
    entry.pos = LOG_FILE;
    assert_int_equal(read_log_record(front->read_log, &entry, true, &file, &data, &cold), 0);
    assert_int_equal(truncate(path, 0), 0);
#ifndef __SANITIZE_THREAD__ /* its memcpy does not pass SIGBUS on to the program's handler */
    assert_false(read_log_copy(&byte, data, 1));
    assert_int_equal(read_log_record(front->read_log, &entry, true, &file, &data, &cold), -EIO);
#else
    (void)byte;
#endif
    lookup_end(&lookup);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),   cmocka_unit_test(test_pending),     cmocka_unit_test(test_filter),
        cmocka_unit_test(test_heartbeat), cmocka_unit_test(test_send_header), cmocka_unit_test(test_lookup),
        cmocka_unit_test(test_lookup_ahead), cmocka_unit_test(test_lookup_cold), cmocka_unit_test(test_lookup_unreadable),
        cmocka_unit_test(test_lookup_damaged), cmocka_unit_test(test_lookup_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
