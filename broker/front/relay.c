/* Requests to clients: see relay.h. The front's one thread; a message to consume directly is read by a helper. A timer
 * runs while somebody waits; it also finds clients that went away. Out of memory is fatal. */
#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin.h"
#include "base/cleanup.h"
#include "base/panic.h"
#include "msg/msg.h"
#include "read_log.h"
#include "view.h"
#include "wire/codes.h"

enum {
    CLIENT_TIMEOUT_MS = 10000, /* Apache's Broker2Client.callClient */
    STATUS_TIMEOUT_MS = 5000,
    FAR_EXTRA_MS = 1000, /* so that the other front's word on a silent client comes first */
    LOOK_MS = 100,
    VERSION_RELAY_MIN = 62,  /* V3_1_8_SNAPSHOT */
    VERSION_STATUS_MIN = 28, /* V3_0_7_SNAPSHOT */
    RELAYS_MAX = 4096,
    REMARK_MAX = 4096,      /* of a client's answer; as much as is passed on */
    OPAQUE_FIRST = 1 << 30, /* apart from the notices' */
};

/* Who waits: a channel of ours, or another front. */
struct asker {
    struct channel_ref channel;
    int32_t opaque;
    bool oneway;
    struct relay_asker far;
};

/* One request under way to one client. */
struct relayed {
    struct relayed *next;
    struct channel_ref client; /* none: it is another front's */
    int32_t opaque;
    uint64_t question;  /* to the other front; 0: none */
    struct text pieces; /* of its answer */
    int64_t deadline_ms;
    struct asker asker;
    struct status *status; /* 223: what the answers are gathered in */
    char *client_id;
};

/* 223 asks several clients and answers once. */
struct status {
    unsigned waiting;
    bool more;
    struct text text;
    struct asker asker;
};

struct relay {
    struct relayed *list;
    unsigned count;
    int32_t next_opaque;
    uint64_t last_question;
    sd_event_source *timer;
};

static int on_look(sd_event_source *source, uint64_t usec, void *context);

int relay_new(struct front *front)
{
    front->relay = calloc(1, sizeof *front->relay);
    if (!front->relay)
        return -ENOMEM;
    front->relay->next_opaque = OPAQUE_FIRST;
    int r = sd_event_add_time_relative(front->event, &front->relay->timer, CLOCK_MONOTONIC, 0, 10000, on_look, front);
    return r < 0 ? r : sd_event_source_set_enabled(front->relay->timer, SD_EVENT_OFF);
}

static void relayed_free(struct relayed *relayed)
{
    text_free(&relayed->pieces);
    free(relayed->client_id);
    free(relayed);
}

void relay_free(struct relay *relay)
{
    if (!relay)
        return;
    sd_event_source_disable_unref(relay->timer);
    for (struct relayed *relayed = relay->list, *next; relayed; relayed = next) {
        next = relayed->next;
        if (relayed->status && --relayed->status->waiting == 0) {
            text_free(&relayed->status->text);
            free(relayed->status);
        }
        relayed_free(relayed);
    }
    free(relay);
}

static struct asker asker_local(struct channel *channel, const struct frame *frame)
{
    channel->outstanding++;
    return (struct asker){
        .channel = channel->ref, .opaque = frame->opaque, .oneway = (frame->flag & FRAME_FLAG_ONEWAY) != 0};
}

static void answer(struct front *front, const struct asker *asker, int32_t code, struct bytes remark, struct bytes body)
{
    static const char too_large[] = "the consumers' answer is too large";
    if (remark.size > REMARK_MAX)
        remark.size = REMARK_MAX;
    if (body.size > FRAME_SIZE_MAX - 8 * REMARK_MAX) {
        code = RESPONSE_SYSTEM_ERROR;
        remark = bytes_of(too_large);
        body.size = 0;
    }
    if (asker->far.peer) {
        relay_far_answer(front, &asker->far, code, remark, body);
        return;
    }
    struct reply reply;
    struct reply_to to = {connections_find(front, asker->channel), asker->opaque, asker->oneway};
    if (to.channel)
        channel_answered(to.channel);
    if (reply_begin(&reply, to, code, remark, 0, 0))
        reply_end(&reply, body);
}

static void refuse(struct front *front, const struct asker *asker, int32_t code, const char *remark)
{
    answer(front, asker, code, bytes_of(remark), (struct bytes){NULL, 0});
}

/* 223: one answer less to wait for; the last one sends what there is. */
static void status_done(struct front *front, struct status *status)
{
    if (--status->waiting > 0)
        return;
    text_add(&status->text, "},\"messageQueueTable\":{}}");
    answer(front, &status->asker, RESPONSE_SUCCESS, (struct bytes){NULL, 0},
           (struct bytes){(const uint8_t *)status->text.data, status->text.size});
    text_free(&status->text);
    free(status);
}

/* The keys are queues as JSON in a text; Apache wants them bare. */
static void status_add(struct status *status, const char *client_id, struct bytes body)
{
    const char *error, *key;
    json_t *json = json_body_parse(body, &error), *value;
    json_t *table = json_object_get(json, "messageQueueTable");
    bool more = false;
    /* What is over a frame's size already is refused in the end; hundreds of clients may answer with a frame each. */
    if (json_is_object(table) && status->text.size <= FRAME_SIZE_MAX) {
        admin_put_comma(&status->text, &status->more);
        text_add_json_string(&status->text, bytes_of(client_id));
        text_add(&status->text, ":{");
        json_object_foreach(table, key, value)
        {
            admin_put_comma(&status->text, &more);
            text_add(&status->text, "%s:%lld", key, (long long)json_integer_value(value));
        }
        text_add(&status->text, "}");
    }
    json_decref(json);
}

static void give_up(struct front *front, struct relayed *relayed, int32_t code, const char *remark)
{
    if (relayed->status)
        status_done(front, relayed->status);
    else
        refuse(front, &relayed->asker, code, remark);
    relayed_free(relayed);
}

static int on_look(sd_event_source *source, uint64_t usec, void *context)
{
    struct front *front = context;
    struct relay *relay = front->relay;
    for (struct relayed **at = &relay->list; *at;) {
        struct relayed *relayed = *at;
        bool is_gone = !relayed->question && !connections_find(front, relayed->client);
        if (!is_gone && front->now_ms < relayed->deadline_ms) {
            at = &relayed->next;
            continue;
        }
        *at = relayed->next;
        relay->count--;
        if (is_gone)
            give_up(front, relayed, RESPONSE_SYSTEM_ERROR, "the consumer closed its connection");
        else
            give_up(front, relayed, RESPONSE_CONSUME_MSG_TIMEOUT, "the consumer did not answer in time");
    }
    if (!relay->list)
        return sd_event_source_set_enabled(source, SD_EVENT_OFF);
    int r = sd_event_source_set_time_relative(source, LOOK_MS * 1000);
    return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static void add_waiting(struct relay *relay, struct relayed *relayed)
{
    relayed->next = relay->list;
    relay->list = relayed;
    if (relay->count++ == 0) {
        sd_event_source_set_time_relative(relay->timer, LOOK_MS * 1000);
        sd_event_source_set_enabled(relay->timer, SD_EVENT_ONESHOT);
    }
}

/* Writes the request to the client and notes who waits. NULL: it does not fit a frame. */
static struct relayed *send_to(struct front *front, struct channel *client, int32_t code, int64_t timeout_ms,
                               const struct frame_field *fields, unsigned count, struct bytes body)
{
    struct relay *relay = front->relay;
    struct frame_writer writer;
    size_t texts = 0;
    for (unsigned i = 0; i < count; i++)
        texts += fields[i].key.size + fields[i].value.size;
    size_t size = frame_write_bound(texts, count) + body.size;
    uint8_t *room = connection_reserve(&client->wire, size);
    struct relayed *relayed = calloc(1, sizeof *relayed);
    if (!room || !relayed)
        PANIC("out of memory");
    if (relay->next_opaque == INT32_MAX)
        relay->next_opaque = OPAQUE_FIRST;
    relayed->opaque = relay->next_opaque++;
    relayed->client = client->ref;
    relayed->deadline_ms = front->now_ms + timeout_ms;
    frame_write_request(&writer, room, size, code, relayed->opaque, 0, LANGUAGE_JAVA);
    for (unsigned i = 0; i < count; i++) {
        PN_FREE char *key = admin_copy(fields[i].key);
        frame_write_text(&writer, key, fields[i].value);
    }
    ssize_t used = frame_write_finish(&writer, body.size);
    if (used < 0) { /* escapes make a header longer: what was received whole may not fit any more */
        free(relayed);
        return NULL;
    }
    if (body.size)
        memcpy(room + used, body.data, body.size);
    connection_commit(&client->wire, (size_t)used + body.size);
    channel_mark_dirty(client);
    add_waiting(relay, relayed);
    return relayed;
}

/* The same for a client of another front. NULL: it does not fit a record, or too much waits for the store. */
static struct relayed *send_far(struct front *front, uint64_t connection, int32_t code, int64_t timeout_ms,
                                const struct frame_field *fields, unsigned count, struct bytes body)
{
    struct relay *relay = front->relay;
    if (relay_far_ask(front, connection, relay->last_question + 1, code, fields, count, body) < 0)
        return NULL;
    struct relayed *relayed = calloc(1, sizeof *relayed);
    if (!relayed)
        PANIC("out of memory");
    relayed->question = ++relay->last_question;
    relayed->deadline_ms = front->now_ms + timeout_ms + FAR_EXTRA_MS;
    add_waiting(relay, relayed);
    return relayed;
}

/* The answer to one of them, in whole. */
static void answered(struct front *front, struct relayed *relayed, int32_t code, struct bytes remark, struct bytes body)
{
    if (relayed->status) {
        if (code == RESPONSE_SUCCESS && body.size)
            status_add(relayed->status, relayed->client_id, body);
        status_done(front, relayed->status);
    } else {
        answer(front, &relayed->asker, code, remark, body);
    }
    relayed_free(relayed);
}

void relay_take(struct front *front, struct channel *channel, const struct frame *frame)
{
    struct relay *relay = front->relay;
    struct relayed **at = &relay->list;
    while (*at && ((*at)->opaque != frame->opaque || (*at)->client.slot != channel->ref.slot ||
                   (*at)->client.number != channel->ref.number))
        at = &(*at)->next;
    struct relayed *relayed = *at;
    if (!relayed)
        return; /* too late, or to a notice that nobody waits for */
    *at = relayed->next;
    relay->count--;
    answered(front, relayed, frame->code, frame->remark, frame->body);
}

void relay_told(struct front *front, const uint8_t *payload)
{
    struct msg_relay_answer told;
    memcpy(&told, payload, sizeof told);
    struct relayed **at = &front->relay->list;
    while (*at && ((*at)->question != told.question || !(*at)->question))
        at = &(*at)->next;
    struct relayed *relayed = *at;
    if (!relayed)
        return; /* too late */
    struct bytes remark = {payload + sizeof told, told.remark_size};
    struct bytes body = {remark.data + remark.size, told.body_size};
    bool is_whole = !(told.flags & MSG_RELAY_MORE);
    if (!is_whole || relayed->pieces.size) {
        if (relayed->pieces.size + body.size <= FRAME_SIZE_MAX)
            text_add_bytes(&relayed->pieces, body);
        body = (struct bytes){(const uint8_t *)relayed->pieces.data, relayed->pieces.size};
    }
    if (!is_whole)
        return;
    *at = relayed->next;
    front->relay->count--;
    answered(front, relayed, told.code, remark, body);
}

/* The member to ask; NULL: `ret_remark` says why nobody is. */
static const struct member_entry *find_consumer(struct front *front, const struct frame *frame, const char **ret_remark)
{
    struct bytes client_id = admin_field(frame, "clientId");
    const struct group_entry *group = catalogue_group(front->catalogue, admin_field(frame, "consumerGroup"));
    const struct member_entry *member = group ? group->members : NULL;
    while (member && (member->is_producer || !bytes_equal_text(client_id, member->client_id)))
        member = member->next;
    *ret_remark = "the consumer is not online";
    if (!member)
        return NULL;
    *ret_remark = "the consumer's version is too low, it has no answer to this";
    return member->version < VERSION_RELAY_MIN ? NULL : member;
}

static bool has_place(struct front *front, struct channel *channel, const struct frame *frame)
{
    if (front->relay->count < RELAYS_MAX)
        return true;
    reply_error(channel, frame, RESPONSE_SYSTEM_BUSY, "[REJECTREQUEST]too many requests wait for clients");
    return false;
}

/* To a client of ours, as the request stands. */
static void pass_on(struct front *front, const struct asker *asker, uint64_t connection, const struct frame *frame,
                    int64_t timeout_ms)
{
    struct channel *client = connections_find_id(front, connection);
    if (!client || channel_reads_too_slowly(client)) {
        refuse(front, asker, RESPONSE_SYSTEM_ERROR,
               client ? "the consumer does not read" : "the consumer is not online");
        return;
    }
    struct relayed *relayed =
        send_to(front, client, frame->code, timeout_ms, frame->fields, frame->field_count, frame->body);
    if (relayed)
        relayed->asker = *asker;
    else
        refuse(front, asker, RESPONSE_SYSTEM_ERROR, "the request is too large for the consumer");
}

/* To the front that has the client. */
static void pass_far(struct front *front, const struct asker *asker, uint64_t connection, const struct frame *frame)
{
    struct relayed *relayed =
        send_far(front, connection, frame->code, CLIENT_TIMEOUT_MS, frame->fields, frame->field_count, frame->body);
    if (relayed)
        relayed->asker = *asker;
    else
        refuse(front, asker, RESPONSE_SYSTEM_ERROR, "the request is too large for another front of the broker");
}

int relay_running_info(struct front *front, struct channel *channel, const struct frame *frame)
{
    const char *remark;
    const struct member_entry *member = find_consumer(front, frame, &remark);
    if (!member) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "%s", remark);
        return 0;
    }
    if (!has_place(front, channel, frame))
        return 0;
    struct asker asker = asker_local(channel, frame);
    if (connections_is_ours(front, member->connection))
        pass_on(front, &asker, member->connection, frame, CLIENT_TIMEOUT_MS);
    else
        pass_far(front, &asker, member->connection, frame);
    return 0;
}

/* 309: the message is read first. */

struct direct_job {
    struct helper_job job;
    const struct front_config *config;
    struct asker asker;
    uint64_t connection;
    int64_t pos, readable_pos;
    uint8_t *record; /* NULL: there is none */
    size_t record_size;
    unsigned count;
    struct frame_field fields[FRAME_FIELDS_MAX + 3]; /* their texts are one allocation each */
};

static void direct_free(struct direct_job *direct)
{
    for (unsigned i = 0; i < direct->count; i++)
        free((void *)direct->fields[i].key.data);
    free(direct->record);
    free(direct);
}

static void add_field(struct direct_job *direct, struct bytes key, struct bytes value)
{
    uint8_t *text = malloc(key.size + value.size + 1);
    if (!text)
        PANIC("out of memory");
    memcpy(text, key.data, key.size);
    if (value.size)
        memcpy(text + key.size, value.data, value.size);
    direct->fields[direct->count++] = (struct frame_field){{text, key.size}, {text + key.size, value.size}};
}

static void direct_run(struct helper_job *job)
{
    struct direct_job *direct = (struct direct_job *)job;
    enum { HEAD_SIZE = 8, SIZE_MOST = MSG_BODY_MAX + RECORD_OVER_BODY_MAX };
    char path[4096];
    uint8_t head[HEAD_SIZE];
    if (direct->pos < 0 || direct->pos >= direct->readable_pos ||
        read_log_file_path(direct->config, direct->pos, path, sizeof path) < 0)
        return;
    PN_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    int64_t at = direct->pos % direct->config->commit_log_file_size;
    if (fd < 0 || pread(fd, head, sizeof head, at) != sizeof head)
        return;
    uint32_t size = be32_load(head);
    if (size < RECORD_FIXED_SIZE || size > SIZE_MOST || (int64_t)size > direct->readable_pos - direct->pos)
        return;
    uint8_t *record = malloc(size);
    if (!record || pread(fd, record, size, at) != (ssize_t)size || !view_is_record(record, size, direct->pos)) {
        free(record);
        return;
    }
    direct->record = record;
    direct->record_size = size;
}

static void direct_done(struct helper_job *job, struct front *front)
{
    struct direct_job *direct = (struct direct_job *)job;
    const char *remark = "there is no message of this id";
    struct channel *client = NULL;
    struct relayed *relayed = NULL;
    if (direct->record) {
        remark = "the consumer is not online";
        client = connections_find_id(front, direct->connection);
    }
    if (client && channel_reads_too_slowly(client)) {
        remark = "the consumer does not read";
    } else if (client) {
        remark = "the request is too large for the consumer";
        relayed = send_to(front, client, REQUEST_CONSUME_MESSAGE_DIRECTLY, CLIENT_TIMEOUT_MS, direct->fields,
                          direct->count, (struct bytes){direct->record, direct->record_size});
    }
    if (relayed)
        relayed->asker = direct->asker;
    else
        refuse(front, &direct->asker, RESPONSE_SYSTEM_ERROR, remark);
    direct_free(direct);
}

/* An offset message id: address and port in hex, then 16 digits of the position. −1: it is none. */
static int64_t position_of(struct bytes id)
{
    char digits[17] = {0}, *end;
    if (id.size != 32 && id.size != 56)
        return -1;
    memcpy(digits, id.data + id.size - 16, 16);
    uint64_t pos = strtoull(digits, &end, 16);
    return *end || pos > INT64_MAX ? -1 : (int64_t)pos;
}

static void start_directly(struct front *front, const struct asker *asker, uint64_t connection,
                           const struct frame *frame)
{
    const struct topic_entry *topic = catalogue_topic(front->catalogue, admin_field(frame, "topic"));
    const struct group_entry *known = catalogue_group(front->catalogue, admin_field(frame, "consumerGroup"));
    struct direct_job *direct = calloc(1, sizeof *direct);
    if (!direct)
        PANIC("out of memory");
    direct->config = &front->config;
    direct->asker = *asker;
    direct->connection = connection;
    direct->pos = position_of(admin_field(frame, "msgId"));
    direct->readable_pos = atomic_load_explicit(&front->queue_table->log_readable_pos, memory_order_acquire);
    for (unsigned i = 0; i < frame->field_count; i++) {
        struct bytes key = frame->fields[i].key;
        if (!bytes_equal_text(key, "brokerName") && !bytes_equal_text(key, "topicSysFlag") &&
            !bytes_equal_text(key, "groupSysFlag"))
            add_field(direct, key, frame->fields[i].value);
    }
    char number[16];
    add_field(direct, bytes_of("brokerName"), bytes_of(front->config.broker_name));
    snprintf(number, sizeof number, "%d", topic ? topic->sys_flag : 0);
    if (topic)
        add_field(direct, bytes_of("topicSysFlag"), bytes_of(number));
    snprintf(number, sizeof number, "%d", known && known->known ? known->sys_flag : 0);
    if (known && known->known)
        add_field(direct, bytes_of("groupSysFlag"), bytes_of(number));
    direct->job.run = direct_run;
    direct->job.done = direct_done;
    helper_submit(front->helper, &direct->job);
}

int relay_consume_directly(struct front *front, struct channel *channel, const struct frame *frame)
{
    const char *remark;
    const struct member_entry *member = find_consumer(front, frame, &remark);
    if (!member) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "%s", remark);
        return 0;
    }
    if (!has_place(front, channel, frame))
        return 0;
    struct asker asker = asker_local(channel, frame);
    if (connections_is_ours(front, member->connection))
        start_directly(front, &asker, member->connection, frame);
    else
        pass_far(front, &asker, member->connection, frame);
    return 0;
}

/* 223 */

static void status_ask(struct front *front, struct status *status, const struct member_entry *member,
                       const struct frame_field *fields, unsigned count)
{
    const int32_t code = REQUEST_GET_CONSUMER_STATUS_FROM_CLIENT;
    static const struct bytes nothing = {NULL, 0};
    struct channel *client = connections_find_id(front, member->connection);
    struct relayed *relayed = NULL;
    if (client && !channel_reads_too_slowly(client))
        relayed = send_to(front, client, code, STATUS_TIMEOUT_MS, fields, count, nothing);
    else if (!client && !connections_is_ours(front, member->connection))
        relayed = send_far(front, member->connection, code, STATUS_TIMEOUT_MS, fields, count, nothing);
    if (!relayed)
        return;
    relayed->status = status;
    relayed->client_id = strdup(member->client_id);
    if (!relayed->client_id)
        PANIC("out of memory");
    status->waiting++;
}

int relay_consumer_status(struct front *front, struct channel *channel, const struct frame *frame)
{
    struct bytes wanted = admin_field(frame, "clientAddr");
    const struct group_entry *group = catalogue_group(front->catalogue, admin_field(frame, "group"));
    if (!group || !group->consumers) {
        reply_error(channel, frame, RESPONSE_CONSUMER_NOT_ONLINE, "the consumer group is not online");
        return 0;
    }
    if (!has_place(front, channel, frame))
        return 0;
    for (const struct member_entry *member = group->members; member; member = member->next)
        if (!member->is_producer && member->version < VERSION_STATUS_MIN) {
            reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "a consumer's version (%d) is too low", member->version);
            return 0;
        }
    struct status *status = calloc(1, sizeof *status);
    if (!status)
        PANIC("out of memory");
    *status = (struct status){.waiting = 1, .asker = asker_local(channel, frame)};
    text_add(&status->text, "{\"consumerTable\":{");
    const struct frame_field fields[] = {{bytes_of("group"), admin_field(frame, "group")},
                                         {bytes_of("topic"), admin_field(frame, "topic")}};
    for (const struct member_entry *member = group->members; member; member = member->next)
        if (!member->is_producer && (!wanted.size || bytes_equal_text(wanted, member->client_id)))
            status_ask(front, status, member, fields, 2);
    status_done(front, status);
    return 0;
}

void relay_asked(struct front *front, const struct relay_asker *far, uint64_t connection, const struct frame *frame)
{
    struct asker asker = {.far = *far};
    if (front->relay->count >= RELAYS_MAX)
        refuse(front, &asker, RESPONSE_SYSTEM_BUSY, "[REJECTREQUEST]too many requests wait for clients");
    else if (frame->code == REQUEST_CONSUME_MESSAGE_DIRECTLY)
        start_directly(front, &asker, connection, frame);
    else
        pass_on(front, &asker, connection, frame,
                frame->code == REQUEST_GET_CONSUMER_STATUS_FROM_CLIENT ? STATUS_TIMEOUT_MS : CLIENT_TIMEOUT_MS);
}
