/* Sends (see send.h): the checks in Apache's order (remoting facts 3.3), the choice of queue, the encoding. Runs in the
 * store on its deciding thread, a few hundred nanoseconds per message: no allocation, one look-up of the topic for a run
 * of messages. Requests come from fronts, which are trusted for their sizes only as far as msg_check goes, and from native
 * clients, whose bytes are copied before anybody looks at them. */
#include "send.h"

#include <errno.h>
#include <isa-l/crc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/panic.h"
#include "commit_log.h"
#include "consume_queue.h"
#include "delay.h"
#include "fault/fault.h"
#include "msg/names.h"
#include "quarantine.h"
#include "redirect.h"
#include "retention.h"
#include "shm/ledger.h"
#include "topics.h"

enum { ALONE_DEATHS = 1, REFUSED_DEATHS = 2, BATCH_MEMORY = SEND_BATCH_BYTES + SEND_REQUEST_BYTES };

struct send {
    struct store *store;
    struct encode_host host;
    struct topic *topic; /* of the message before; within one batch only */
    uint32_t queue_turn;
    uint8_t *copy; /* of an untrusted payload */
    size_t copy_size;
    struct encode_message message;
    struct properties found;
    uint8_t text[REDIRECT_TEXT_MAX]; /* properties of a message that goes elsewhere */
};

int send_new(struct store *store, struct send **ret_send)
{
    struct send *send = calloc(1, sizeof *send);
    if (!send)
        return -ENOMEM;
    send->store = store;
    int r = encode_host_init(&send->host, &store->config);
    if (r < 0) {
        free(send);
        return r;
    }
    send->queue_turn = (uint32_t)clock_monotonic_ns();
    *ret_send = send;
    return 0;
}

void send_free(struct send *send)
{
    if (!send)
        return;
    encode_host_done(&send->host);
    free(send->copy);
    free(send);
}

int send_batch_new(struct send_batch *batch)
{
    void *data = mmap(NULL, BATCH_MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED)
        return -errno;
    *batch = (struct send_batch){.data = data};
    return 0;
}

void send_batch_free(struct send_batch *batch)
{
    if (batch->data)
        munmap(batch->data, BATCH_MEMORY);
    *batch = (struct send_batch){0};
}

void send_batch_trim(struct send_batch *batch)
{
    madvise(batch->data, BATCH_MEMORY, MADV_DONTNEED);
}

void send_batch_begin(struct send *send, struct send_batch *batch)
{
    *batch = (struct send_batch){.data = batch->data, .base_pos = commit_log_end(send->store->commit_log),
                                 .store_ms = clock_realtime_ms()};
    send->topic = NULL; /* metadata may have changed since */
}

/* Bytes that the answer to a request with this many messages takes in a ring at most, header included. */
static size_t send_answer_room(const struct msg_send *request, uint32_t count)
{
    if (request->flags & MSG_SEND_NO_ANSWER)
        return 0;
    size_t sizes = request->flags & MSG_SEND_BATCH ? (size_t)count * sizeof(uint32_t) : 0;
    return (sizeof(struct ring_record) + MSG_SEND_ANSWER_SMALL + sizes + 7) & ~(size_t)7;
}

/* One item of a batch's body; false at the end or if it is malformed (*ret_bad). */
static bool item_next(struct bytes *rest, struct encode_message *message, bool *ret_bad)
{
    if (rest->size == 0)
        return false;
    struct cursor c = cursor_over(rest->data, rest->size);
    const uint8_t *fixed = cursor_take(&c, 20);
    *ret_bad = true;
    if (c.bad)
        return false;
    uint32_t total = be32_load(fixed), body_size = be32_load(fixed + 16);
    const uint8_t *body = cursor_take(&c, body_size);
    const uint8_t *properties_size = cursor_take(&c, 2);
    if (c.bad)
        return false;
    size_t size = be16_load(properties_size);
    const uint8_t *properties = cursor_take(&c, size);
    if (c.bad || size > RECORD_PROPERTIES_MAX || total != BATCH_ITEM_FIXED_SIZE + body_size + size || body_size == 0)
        return false;
    *ret_bad = false;
    message->flag = (int32_t)be32_load(fixed + 12);
    message->body = (struct bytes){body, body_size};
    message->properties = (struct bytes){properties, size};
    *rest = (struct bytes){c.pos, (size_t)(c.end - c.pos)};
    return true;
}

/* How many messages a request has; 0: its batch is malformed. */
static uint32_t messages_count(const struct msg_send_parts *parts)
{
    if (!(parts->send->flags & MSG_SEND_BATCH))
        return 1;
    struct bytes rest = parts->body;
    struct encode_message item;
    uint32_t count = 0;
    bool bad = false;
    while (item_next(&rest, &item, &bad))
        if (++count > MSG_BATCH_COUNT_MAX)
            return 0;
    return bad ? 0 : count;
}

static bool is_forbidden(struct bytes topic)
{
    static const char *const names[] = {"SCHEDULE_TOPIC_XXXX", "RMQ_SYS_TRANS_HALF_TOPIC", "RMQ_SYS_TRANS_OP_HALF_TOPIC",
                                        "TRANS_CHECK_MAX_TIME_TOPIC", "SELF_TEST_TOPIC", "OFFSET_MOVED_EVENT"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (bytes_equal_text(topic, names[i]))
            return true;
    return false;
}

static enum refusal topic_make(struct send *send, const struct msg_send_parts *parts)
{
    const char *remark = NULL;
    int32_t code = topics_auto_create(send->store, parts->topic, parts->default_topic,
                                      parts->send->default_topic_queues,
                                      parts->send->flags & MSG_SEND_UNIT_MODE, &send->topic, &remark);
    if (code == 0)
        return REFUSAL_NONE;
    send->topic = NULL;
    return code == 17 ? REFUSAL_TOPIC_NOT_EXIST : code == 29 ? REFUSAL_TOPIC_NAME : REFUSAL_TOPIC_FAILED;
}

static enum refusal topic_find(struct send *send, const struct msg_send_parts *parts)
{
    struct bytes name = parts->topic;
    if (send->topic && bytes_equal_text(name, send->topic->name))
        return REFUSAL_NONE;
    send->topic = NULL;
    if (!name_topic_valid(name) || (name.size > RECORD_TOPIC_V1_MAX && !redirect_is_retry(name)))
        return REFUSAL_TOPIC_NAME;
    if (is_forbidden(name))
        return REFUSAL_TOPIC_SYSTEM;
    send->topic = topics_find(send->store->topics, name);
    return send->topic ? REFUSAL_NONE : topic_make(send, parts);
}

static enum refusal queue_choose(struct send *send, const struct msg_send *request, int32_t *ret_queue_id)
{
    const struct topic *topic = send->topic;
    int32_t queues = topic->read_queues > topic->write_queues ? topic->read_queues : topic->write_queues;
    int32_t queue_id = request->queue_id;
    if (queue_id < 0)
        queue_id = topic->write_queues > 0 ? (int32_t)(send->queue_turn++ % (uint32_t)topic->write_queues) : queues;
    if (queue_id >= queues || (uint32_t)queue_id >= topic->slot_count)
        return REFUSAL_QUEUE_ID;
    *ret_queue_id = queue_id;
    return REFUSAL_NONE;
}

/* What this store cannot deliver yet is refused, not stored where nobody would look. */
static enum refusal properties_judge(const struct properties *found, const struct encode_message *message)
{
    if (message->is_copy)
        return REFUSAL_NONE;
    if (found->timer.size > 0)
        return REFUSAL_TIMER;
    int32_t transaction = message->sys_flag & SYS_FLAG_TRANSACTION;
    /* One that comes back was committed before; its properties and flags still say so. */
    bool is_retried = message->reconsume_times > 0 && (transaction == 0 || transaction == SYS_FLAG_COMMIT);
    if (!is_retried && (bytes_equal_text(found->tran_msg, "true") || transaction))
        return REFUSAL_TRANSACTION;
    return REFUSAL_NONE;
}

static enum refusal may_write(const struct send *send)
{
    if (commit_log_error(send->store->commit_log))
        return REFUSAL_DISK;
    if (retention_disk_full(send->store->retention))
        return REFUSAL_DISK_FULL;
    return send->store->config.broker_id > 0 ? REFUSAL_SLAVE : REFUSAL_NONE;
}

static enum refusal request_judge(struct send *send, const struct msg_send_parts *parts, uint32_t count)
{
    const struct store_config *config = &send->store->config;
    enum refusal refusal = may_write(send);
    if (!refusal)
        refusal = topic_find(send, parts);
    if (refusal)
        return refusal;
    if (send->topic->order && !(config->broker_permission & 2))
        return REFUSAL_NO_PERMISSION;
    if (parts->body.size == 0)
        return REFUSAL_BODY_EMPTY;
    if ((int64_t)parts->body.size > config->max_message_size)
        return REFUSAL_BODY_SIZE;
    if (count == 0)
        return REFUSAL_BATCH;
    if (parts->send->flags & MSG_SEND_BATCH && redirect_is_retry(parts->topic))
        return REFUSAL_BATCH_RETRY;
    return REFUSAL_NONE;
}

enum fit { FIT, FIT_NEXT_FILE, FIT_NEVER };

/* A record needs room for a blank one behind it. */
static enum fit record_fits(struct send *send, const struct send_batch *batch, size_t request_size, size_t record_size)
{
    struct commit_log *log = send->store->commit_log;
    int64_t pos = batch->base_pos + (int64_t)batch->used;
    int64_t need = (int64_t)(request_size + record_size) + RECORD_BLANK_SIZE;
    if (need > commit_log_file_size(log) || request_size + record_size + RECORD_BLANK_SIZE > SEND_REQUEST_BYTES)
        return FIT_NEVER;
    /* base_pos may be the end of a full row of files: file_left is then the whole next file. */
    int64_t left = commit_log_file_left(log, batch->base_pos) - (int64_t)batch->used;
    pn_assert(pos >= 0 && left >= 0);
    return need > left ? FIT_NEXT_FILE : FIT;
}

static enum refusal message_prepare(struct send *send, bool is_item)
{
    struct encode_message *message = &send->message;
    properties_scan(message->properties, &send->found);
    enum refusal refusal = properties_judge(&send->found, message);
    if (!refusal && is_item && delay_level(&send->store->config, send->found.delay) > 0)
        refusal = REFUSAL_BATCH; /* each would have its own queue */
    if (refusal)
        return is_item ? REFUSAL_BATCH : refusal;
    if (send->found.poison.size > 0 && FAULT_MATCH(STORE_POISON))
        abort();
    int r = encode_prepare(&send->host, message, !is_item);
    if (r < 0)
        return r == -EMSGSIZE ? REFUSAL_PROPERTIES_SIZE : REFUSAL_MEMORY;
    if ((int64_t)message->record_size > send->store->config.max_message_size + RECORD_OVER_BODY_MAX)
        return REFUSAL_RECORD_SIZE;
    return REFUSAL_NONE;
}

/* Encodes all messages of a request behind the batch; *ret_size bytes that count only when the caller says so. */
static enum refusal request_encode(struct send *send, const struct msg_send_parts *parts, struct send_batch *batch,
                                   struct consume_queue *queue, enum fit *ret_fit, size_t *ret_size)
{
    bool is_batch = parts->send->flags & MSG_SEND_BATCH;
    struct bytes rest = parts->body;
    size_t size = 0;
    bool bad = false;
    *ret_fit = FIT;
    for (int64_t n = 0; is_batch ? item_next(&rest, &send->message, &bad) : n == 0; n++) {
        enum refusal refusal = message_prepare(send, is_batch);
        if (refusal)
            return refusal;
        *ret_fit = record_fits(send, batch, size, send->message.record_size);
        if (*ret_fit != FIT)
            return *ret_fit == FIT_NEVER ? REFUSAL_RECORD_SIZE : REFUSAL_NONE;
        encode_record(&send->host, &send->message, queue->next_offset + n,
                      batch->base_pos + (int64_t)(batch->used + size), batch->data + batch->used + size);
        size += send->message.record_size;
    }
    *ret_size = size;
    return REFUSAL_NONE;
}

static void message_begin(struct send *send, const struct msg_send_parts *parts, int32_t queue_id, int64_t store_ms)
{
    const struct msg_send *request = parts->send;
    struct encode_message *message = &send->message;
    message->topic = parts->topic;
    message->body = parts->body;
    message->properties = parts->properties;
    message->found = &send->found;
    message->queue_id = queue_id;
    message->flag = request->flag;
    message->sys_flag = request->sys_flag | (send->topic->multi_tag ? SYS_FLAG_MULTI_TAGS : 0);
    message->reconsume_times = request->reconsume_times;
    message->born_ms = request->born_ms;
    message->store_ms = store_ms;
    message->born_ip = request->born_ip;
    message->born_port = request->born_port;
    message->born_ipv6 = request->flags & MSG_SEND_IPV6;
    message->is_copy = false;
}

static void entry_put(struct send *send, struct send_batch *batch, struct ledger_entry *entry)
{
    struct ledger *ledger = send->store->ledger;
    entry->log_pos = batch->base_pos + (int64_t)batch->used;
    if (entry->refusal) {
        entry->size = 0;
        entry->count = 0;
        board_add(send->store->board, COUNTER_MESSAGES_REFUSED, 1);
    } else {
        entry->log_crc = crc32_gzip_refl(0, batch->data + batch->used, entry->size);
        batch->used += entry->size;
        batch->messages += entry->count;
    }
    ledger_put(ledger, batch->requests++, entry);
    ledger_working_end(ledger);
    if (batch->used >= SEND_BATCH_BYTES || batch->requests >= SEND_BATCH_REQUESTS || ledger_room(ledger) <= batch->requests)
        batch->closed = true;
}

/* The batch ends with a blank record: what comes next begins the next file. */
static void file_end(struct send *send, struct send_batch *batch)
{
    int64_t left = commit_log_file_left(send->store->commit_log, batch->base_pos) - (int64_t)batch->used;
    if (left < RECORD_BLANK_SIZE) /* only an empty rest of a file that somebody else filled */
        PANIC("log file has %lld bytes left for a blank record", (long long)left);
    encode_blank(batch->data + batch->used, left);
    batch->used += RECORD_BLANK_SIZE;
    batch->ends_file = true;
    batch->closed = true;
}

/* The client wants no word of the disk (WAIT=false; of a batch, its own property). */
static bool waits_not(struct send *send, const struct msg_send_parts *parts)
{
    if (parts->send->flags & MSG_SEND_BATCH)
        properties_scan(parts->properties, &send->found);
    return bytes_equal_text(send->found.wait, "false");
}

/* The queue of a message that message_begin() has begun: its own, or that of its delay level. */
static enum refusal queue_find(struct send *send, bool is_batch, struct consume_queue **ret_queue)
{
    struct encode_message *message = &send->message;
    const struct topic *topic = send->topic;
    if (!is_batch) {
        properties_scan(message->properties, &send->found);
        unsigned level = delay_level(&send->store->config, send->found.delay);
        bool is_half = bytes_equal_text(send->found.tran_msg, "true") && message->reconsume_times == 0;
        if (level > 0 && !is_half) {
            topic = topics_find(send->store->topics, bytes_of(DELAY_TOPIC));
            if (!topic || level > topic->slot_count)
                return REFUSAL_TOPIC_FAILED;
            if (redirect_delay(message, level, send->text) < 0)
                return REFUSAL_PROPERTIES_SIZE;
        }
    }
    *ret_queue = consume_queues_get(send->store->consume_queues, topic->slot_base + (uint32_t)message->queue_id);
    return *ret_queue ? REFUSAL_NONE : REFUSAL_MEMORY;
}

/* A checked, split request that is to be stored. False: the batch is full, nothing has happened. */
static bool request_store(struct send *send, const struct msg_send_parts *parts, uint32_t count,
                          struct send_batch *batch, struct ledger_entry *entry)
{
    int32_t queue_id = 0;
    struct redirect to = {.text = send->text};
    enum refusal refusal = REFUSAL_NONE;
    if (redirect_is_retry(parts->topic) && !(parts->send->flags & MSG_SEND_BATCH) && may_write(send) == REFUSAL_NONE)
        refusal = redirect_retry(send->store, parts, &to);
    const struct msg_send_parts *real = to.moved ? &to.parts : parts;
    if (!refusal)
        refusal = request_judge(send, real, count);
    if (!refusal)
        refusal = queue_choose(send, real->send, &queue_id);
    struct consume_queue *queue = NULL;
    if (!refusal) {
        message_begin(send, real, queue_id, batch->store_ms);
        refusal = queue_find(send, parts->send->flags & MSG_SEND_BATCH, &queue);
    }
    if (!refusal) {
        enum fit fit;
        size_t size = 0;
        refusal = request_encode(send, real, batch, queue, &fit, &size);
        if (!refusal && fit == FIT_NEXT_FILE) {
            file_end(send, batch);
            return false;
        }
        entry->size = (uint32_t)size;
        if (!refusal && send->store->config.sync_flush && waits_not(send, parts))
            entry->flags |= LEDGER_NO_WAIT;
    }
    entry->refusal = (uint8_t)refusal;
    entry->count = refusal ? 0 : count;
    if (!refusal)
        queue->next_offset += count;
    return true;
}

static const uint8_t *payload_of(struct send *send, const struct peer *peer, const struct ring_view *view)
{
    if (!peer->native)
        return view->payload;
    if (view->payload_size > send->copy_size) {
        uint8_t *grown = realloc(send->copy, view->payload_size);
        if (!grown)
            return NULL;
        send->copy = grown;
        send->copy_size = view->payload_size;
    }
    memcpy(send->copy, view->payload, view->payload_size);
    return send->copy;
}

static bool answer_has_room(struct peer *peer, size_t need)
{
    size_t whole = peer->answers_promised + need;
    if (ring_room(&peer->data_out) >= whole) {
        peer->wanted_room = 0;
        return true;
    }
    peer->wanted_room = whole;
    return false;
}

/* A request whose sizes do not hold: the only thing known of it is its token. */
static void request_malformed(struct send *send, struct send_batch *batch, struct ledger_entry *entry)
{
    entry->refusal = REFUSAL_BAD_RECORD;
    board_add(send->store->board, COUNTER_RECORDS_REFUSED, 1);
    entry_put(send, batch, entry);
}

enum send_taken send_take(struct send *send, struct peer *peer, const struct ring_view *view, struct send_batch *batch)
{
    struct ledger *ledger = send->store->ledger;
    uint64_t pos = view->record.pos;
    uint32_t deaths = ledger_suspects(ledger) ? ledger_deaths(ledger, peer->id, peer->generation, pos) : 0;
    if (deaths >= ALONE_DEATHS && batch->requests > 0) {
        batch->closed = true;
        return SEND_FULL;
    }
    ledger_working(ledger, peer->id, peer->generation, pos);
    const uint8_t *payload = payload_of(send, peer, view);
    struct ledger_entry entry = {.ring_pos = pos, .peer_generation = peer->generation, .peer_id = peer->id,
                                 .ring_size = (view->record.size + 7) & ~7u};
    struct msg_send blank = {0};
    enum msg_refusal check = MSG_REFUSED_KIND;
    if (payload && view->record.kind == MSG_SEND)
        check = msg_check_request(MSG_SEND, payload, view->payload_size);
    if (payload && view->payload_size >= sizeof(uint64_t))
        memcpy(&entry.token, payload, sizeof entry.token);

    struct msg_send_parts parts = {.send = &blank};
    uint32_t count = 0;
    if (check == MSG_OK) {
        msg_send_split(payload, &parts);
        count = messages_count(&parts);
        entry.flags |= parts.send->flags & MSG_SEND_NO_ANSWER ? LEDGER_NO_ANSWER : 0;
        entry.flags |= parts.send->flags & MSG_SEND_BATCH ? LEDGER_BATCH : 0;
    }
    size_t need = send_answer_room(parts.send, count);
    if (need > ring_payload_max(peer->data_out.capacity)) { /* its answer could never be given */
        count = 0;
        need = send_answer_room(parts.send, 0);
    }
    if (!answer_has_room(peer, need)) {
        ledger_working_end(ledger);
        return SEND_NO_ROOM;
    }
    entry.answer_room = (uint32_t)need;
    if (check != MSG_OK) {
        request_malformed(send, batch, &entry);
    } else if (deaths >= REFUSED_DEATHS) {
        quarantine_keep(send->store, peer, pos, payload, view->payload_size);
        entry.refusal = REFUSAL_POISON;
        entry_put(send, batch, &entry);
    } else {
        if (!request_store(send, &parts, count, batch, &entry)) {
            ledger_working_end(ledger);
            return SEND_FULL;
        }
        entry_put(send, batch, &entry);
    }
    peer->answers_promised += need;
    if (deaths >= ALONE_DEATHS)
        batch->closed = true;
    return SEND_TAKEN;
}

/* Delayed messages that are due. */

/* The record as a message once more; false: it does not say where it belongs. */
static bool copy_begin(struct send *send, struct bytes data, int64_t log_pos, int64_t store_ms)
{
    struct encode_message *message = &send->message;
    struct record record;
    if (record_parse(data.data, data.size, log_pos, (int64_t)data.size, false, &record) != RECORD_MESSAGE)
        return false;
    *message = (struct encode_message){.topic = properties_find(record.properties, "REAL_TOPIC"), .body = record.body,
                                       .properties = record.properties, .found = &send->found, .store_ms = store_ms,
                                       .sys_flag = record.sys_flag, .is_copy = true};
    record_origin(data.data, &message->flag, &message->born_ms, &message->born_ip, &message->born_port,
                  &message->reconsume_times);
    message->born_ipv6 = record.sys_flag & SYS_FLAG_BORN_IPV6;
    properties_scan(record.properties, &send->found);
    if (send->found.has_reserved) { /* the CRC of the whole record; the copy gets its own */
        message->properties = (struct bytes){send->text, properties_copy_clean(record.properties, send->text)};
        properties_scan(message->properties, &send->found);
    }
    struct bytes queue = properties_find(record.properties, "REAL_QID");
    char text[12] = {0};
    if (message->topic.size == 0 || queue.size == 0 || queue.size >= sizeof text)
        return false;
    memcpy(text, queue.data, queue.size);
    char *end;
    long queue_id = strtol(text, &end, 10);
    message->queue_id = (int32_t)queue_id;
    return !*end && queue_id >= 0 && queue_id < (long)QUEUE_TABLE_SLOTS && name_topic_valid(message->topic) &&
           !bytes_equal_text(message->topic, "RMQ_SYS_TRANS_HALF_TOPIC") && !bytes_equal_text(message->topic, DELAY_TOPIC);
}

/* Its real topic is made if it went meanwhile, as the queue of Apache is. */
static struct consume_queue *copy_queue(struct send *send)
{
    struct store *store = send->store;
    const struct encode_message *message = &send->message;
    struct topic *topic = topics_find(store->topics, message->topic);
    if ((!topic || (uint32_t)message->queue_id >= topic->slot_count) &&
        topics_ensure_recovered(store, message->topic, message->queue_id + 1, &topic) < 0)
        return NULL;
    return consume_queues_get(store->consume_queues, topic->slot_base + (uint32_t)message->queue_id);
}

bool send_deliver(struct send *send, struct send_batch *batch, unsigned level, int64_t queue_offset, int64_t log_pos,
                  struct bytes record)
{
    struct ledger *ledger = send->store->ledger;
    uint64_t number = (uint64_t)queue_offset;
    uint32_t deaths = ledger_suspects(ledger) ? ledger_deaths(ledger, DELAY_PEER, level, number) : 0;
    if (deaths >= ALONE_DEATHS && batch->requests > 0) {
        batch->closed = true;
        return false;
    }
    if (deaths >= REFUSED_DEATHS) {
        log_error("delay level %u: message %lld crashed the store twice and is passed over (log position %lld)", level,
                  (long long)queue_offset, (long long)log_pos);
        return true;
    }
    ledger_working(ledger, DELAY_PEER, level, number);
    struct ledger_entry entry = {.ring_pos = number, .peer_generation = level, .peer_id = DELAY_PEER, .count = 1,
                                 .flags = LEDGER_NO_ANSWER};
    struct consume_queue *queue = NULL;
    bool good = copy_begin(send, record, log_pos, batch->store_ms);
    if (good)
        queue = copy_queue(send);
    enum refusal refusal = !good ? REFUSAL_BAD_RECORD : !queue ? REFUSAL_TOPIC_FAILED : message_prepare(send, false);
    enum fit fit = refusal ? FIT : record_fits(send, batch, 0, send->message.record_size);
    if (refusal || fit == FIT_NEVER) {
        ledger_working_end(ledger);
        log_error("delay level %u: message %lld cannot be delivered: %s (log position %lld)", level,
                  (long long)queue_offset, refusal_remark(refusal ? refusal : REFUSAL_RECORD_SIZE), (long long)log_pos);
        return true;
    }
    if (fit == FIT_NEXT_FILE) {
        file_end(send, batch);
        ledger_working_end(ledger);
        return false;
    }
    encode_record(&send->host, &send->message, queue->next_offset, batch->base_pos + (int64_t)batch->used,
                  batch->data + batch->used);
    entry.size = (uint32_t)send->message.record_size;
    queue->next_offset++;
    entry_put(send, batch, &entry);
    if (deaths >= ALONE_DEATHS)
        batch->closed = true;
    return true;
}
