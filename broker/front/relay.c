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
#include "read_log.h"
#include "wire/codes.h"

enum {
    CLIENT_TIMEOUT_MS = 10000, /* Apache's Broker2Client.callClient */
    STATUS_TIMEOUT_MS = 5000,
    LOOK_MS = 100,
    VERSION_RELAY_MIN = 62,  /* V3_1_8_SNAPSHOT */
    VERSION_STATUS_MIN = 28, /* V3_0_7_SNAPSHOT */
    RELAYS_MAX = 4096,
    REMARK_MAX = 4096,      /* of a client's answer; as much as is passed on */
    OPAQUE_FIRST = 1 << 30, /* apart from the notices' */
};

/* One request under way to one client. */
struct relayed {
    struct relayed *next;
    struct channel_ref client;
    int32_t opaque;
    int64_t deadline_ms;
    struct channel_ref asker;
    int32_t asker_opaque;
    bool asker_oneway;
    struct status *status; /* 223: what the answers are gathered in */
    char *client_id;
};

/* 223 asks several clients and answers once. */
struct status {
    unsigned waiting;
    bool more;
    struct text text;
    struct channel_ref asker;
    int32_t opaque;
    bool oneway;
};

struct relay {
    struct relayed *list;
    unsigned count;
    int32_t next_opaque;
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

static struct reply_to asker_of(struct front *front, const struct relayed *relayed)
{
    return (struct reply_to){connections_find(front, relayed->asker), relayed->asker_opaque, relayed->asker_oneway};
}

/* 223: one answer less to wait for; the last one sends what there is. */
static void status_done(struct front *front, struct status *status)
{
    if (--status->waiting > 0)
        return;
    struct reply reply;
    struct reply_to to = {connections_find(front, status->asker), status->opaque, status->oneway};
    if (to.channel)
        to.channel->outstanding--;
    text_add(&status->text, "},\"messageQueueTable\":{}}");
    if (status->text.size > FRAME_SIZE_MAX - 8 * REMARK_MAX)
        reply_plain(to, RESPONSE_SYSTEM_ERROR, bytes_of("the consumers' answers are too large"));
    else if (reply_begin(&reply, to, RESPONSE_SUCCESS, (struct bytes){NULL, 0}, 0, 0))
        reply_end(&reply, (struct bytes){(const uint8_t *)status->text.data, status->text.size});
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
    if (json_is_object(table)) {
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
    if (relayed->status) {
        status_done(front, relayed->status);
    } else {
        struct reply_to to = asker_of(front, relayed);
        if (to.channel)
            to.channel->outstanding--;
        reply_plain(to, code, bytes_of(remark));
    }
    relayed_free(relayed);
}

static int on_look(sd_event_source *source, uint64_t usec, void *context)
{
    struct front *front = context;
    struct relay *relay = front->relay;
    for (struct relayed **at = &relay->list; *at;) {
        struct relayed *relayed = *at;
        bool is_gone = !connections_find(front, relayed->client);
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
    relayed->next = relay->list;
    relay->list = relayed;
    if (relay->count++ == 0) {
        sd_event_source_set_time_relative(relay->timer, LOOK_MS * 1000);
        sd_event_source_set_enabled(relay->timer, SD_EVENT_ONESHOT);
    }
    return relayed;
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
    if (relayed->status) {
        if (frame->code == RESPONSE_SUCCESS && frame->body.size)
            status_add(relayed->status, relayed->client_id, frame->body);
        status_done(front, relayed->status);
    } else {
        struct reply reply;
        struct reply_to to = asker_of(front, relayed);
        struct bytes remark = frame->remark;
        if (to.channel)
            to.channel->outstanding--;
        if (remark.size > REMARK_MAX)
            remark.size = REMARK_MAX;
        if (frame->body.size > FRAME_SIZE_MAX - 8 * REMARK_MAX)
            reply_plain(to, RESPONSE_SYSTEM_ERROR, bytes_of("the consumer's answer is too large"));
        else if (reply_begin(&reply, to, frame->code, remark, 0, 0))
            reply_end(&reply, frame->body);
    }
    relayed_free(relayed);
}

/* The consumer's channel; NULL: answered, or not ours: `ret_remark` says it. */
static struct channel *find_consumer(struct front *front, struct bytes group_name, struct bytes client_id,
                                     const char **ret_remark)
{
    const struct group_entry *group = catalogue_group(front->catalogue, group_name);
    const struct member_entry *member = group ? group->members : NULL;
    while (member && (member->is_producer || !bytes_equal_text(client_id, member->client_id)))
        member = member->next;
    *ret_remark = "the consumer is not online";
    if (!member)
        return NULL;
    *ret_remark = "the consumer's version is too low, it has no answer to this";
    if (member->version < VERSION_RELAY_MIN)
        return NULL;
    *ret_remark = "the consumer is connected to another front of this broker, which cannot be asked from here";
    if (member->connection >> 32 != (front->generation & UINT32_MAX))
        return NULL;
    *ret_remark = "the consumer is not online";
    return connections_find_number(front, (uint32_t)member->connection);
}

static bool has_place(struct front *front, struct channel *channel, const struct frame *frame)
{
    if (front->relay->count < RELAYS_MAX)
        return true;
    reply_error(channel, frame, RESPONSE_SYSTEM_BUSY, "[REJECTREQUEST]too many requests wait for clients");
    return false;
}

int relay_running_info(struct front *front, struct channel *channel, const struct frame *frame)
{
    const char *remark;
    struct channel *client =
        find_consumer(front, admin_field(frame, "consumerGroup"), admin_field(frame, "clientId"), &remark);
    if (!client) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "%s", remark);
        return 0;
    }
    if (!has_place(front, channel, frame))
        return 0;
    struct relayed *relayed =
        send_to(front, client, frame->code, CLIENT_TIMEOUT_MS, frame->fields, frame->field_count, frame->body);
    if (!relayed) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "the request is too large for the consumer");
        return 0;
    }
    relayed->asker = channel->ref;
    relayed->asker_opaque = frame->opaque;
    relayed->asker_oneway = frame->flag & FRAME_FLAG_ONEWAY;
    channel->outstanding++;
    return 0;
}

/* 309: the message is read first. */

struct direct_job {
    struct helper_job job;
    const struct front_config *config;
    struct channel_ref asker;
    int32_t opaque;
    bool oneway;
    int64_t pos, readable_pos;
    uint8_t *record; /* NULL: there is none */
    size_t record_size;
    char *group, *client_id;
    unsigned count;
    struct frame_field fields[FRAME_FIELDS_MAX + 3]; /* their texts are one allocation each */
};

static void direct_free(struct direct_job *direct)
{
    for (unsigned i = 0; i < direct->count; i++)
        free((void *)direct->fields[i].key.data);
    free(direct->record);
    free(direct->group);
    free(direct->client_id);
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
    enum { MAGIC_V1 = 0xDAA320A7, MAGIC_V2 = 0xDAA320AB, POS_AT = 28, HEAD_SIZE = 36 };
    char path[4096];
    uint8_t head[HEAD_SIZE];
    if (direct->pos < 0 || direct->pos >= direct->readable_pos ||
        read_log_file_path(direct->config, direct->pos, path, sizeof path) < 0)
        return;
    PN_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    int64_t at = direct->pos % direct->config->commit_log_file_size;
    if (fd < 0 || pread(fd, head, sizeof head, at) != sizeof head)
        return;
    uint32_t size = be32_load(head), magic = be32_load(head + 4);
    if ((magic != MAGIC_V1 && magic != MAGIC_V2) || (int64_t)be64_load(head + POS_AT) != direct->pos ||
        size < HEAD_SIZE || (int64_t)size > direct->readable_pos - direct->pos)
        return;
    uint8_t *record = malloc(size);
    if (!record || pread(fd, record, size, at) != (ssize_t)size) {
        free(record);
        return;
    }
    direct->record = record;
    direct->record_size = size;
}

static void direct_done(struct helper_job *job, struct front *front)
{
    struct direct_job *direct = (struct direct_job *)job;
    struct channel *asker = connections_find(front, direct->asker);
    const char *remark = "there is no message of this id";
    struct channel *client = NULL;
    struct relayed *relayed = NULL;
    if (direct->record)
        client = find_consumer(front, bytes_of(direct->group), bytes_of(direct->client_id), &remark);
    if (client) {
        remark = "the request is too large for the consumer";
        relayed = send_to(front, client, REQUEST_CONSUME_MESSAGE_DIRECTLY, CLIENT_TIMEOUT_MS, direct->fields,
                          direct->count, (struct bytes){direct->record, direct->record_size});
    }
    if (relayed) {
        relayed->asker = direct->asker;
        relayed->asker_opaque = direct->opaque;
        relayed->asker_oneway = direct->oneway;
    } else {
        if (asker)
            asker->outstanding--;
        reply_plain((struct reply_to){asker, direct->opaque, direct->oneway}, RESPONSE_SYSTEM_ERROR, bytes_of(remark));
    }
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

int relay_consume_directly(struct front *front, struct channel *channel, const struct frame *frame)
{
    struct bytes group = admin_field(frame, "consumerGroup"), client_id = admin_field(frame, "clientId");
    const struct topic_entry *topic = catalogue_topic(front->catalogue, admin_field(frame, "topic"));
    const struct group_entry *known = catalogue_group(front->catalogue, group);
    const char *remark;
    if (!find_consumer(front, group, client_id, &remark)) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "%s", remark);
        return 0;
    }
    if (!has_place(front, channel, frame))
        return 0;
    struct direct_job *direct = calloc(1, sizeof *direct);
    if (!direct)
        PANIC("out of memory");
    direct->config = &front->config;
    direct->asker = channel->ref;
    direct->opaque = frame->opaque;
    direct->oneway = frame->flag & FRAME_FLAG_ONEWAY;
    direct->pos = position_of(admin_field(frame, "msgId"));
    direct->readable_pos = atomic_load_explicit(&front->queue_table->log_readable_pos, memory_order_acquire);
    direct->group = admin_copy(group);
    direct->client_id = admin_copy(client_id);
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
    channel->outstanding++;
    helper_submit(front->helper, &direct->job);
    return 0;
}

/* 223 */

int relay_consumer_status(struct front *front, struct channel *channel, const struct frame *frame)
{
    struct bytes group_name = admin_field(frame, "group"), topic = admin_field(frame, "topic");
    struct bytes wanted = admin_field(frame, "clientAddr");
    const struct group_entry *group = catalogue_group(front->catalogue, group_name);
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
    *status = (struct status){
        .waiting = 1, .asker = channel->ref, .opaque = frame->opaque, .oneway = (frame->flag & FRAME_FLAG_ONEWAY) != 0};
    text_add(&status->text, "{\"consumerTable\":{");
    channel->outstanding++;
    const struct frame_field fields[] = {{bytes_of("group"), group_name}, {bytes_of("topic"), topic}};
    for (const struct member_entry *member = group->members; member; member = member->next) {
        bool is_asked = !member->is_producer && (!wanted.size || bytes_equal_text(wanted, member->client_id)) &&
                        member->connection >> 32 == (front->generation & UINT32_MAX);
        struct channel *client = is_asked ? connections_find_number(front, (uint32_t)member->connection) : NULL;
        if (!client)
            continue;
        struct relayed *relayed = send_to(front, client, REQUEST_GET_CONSUMER_STATUS_FROM_CLIENT, STATUS_TIMEOUT_MS,
                                          fields, 2, (struct bytes){NULL, 0});
        if (!relayed)
            continue;
        relayed->status = status;
        relayed->client_id = strdup(member->client_id);
        if (!relayed->client_id)
            PANIC("out of memory");
        status->waiting++;
    }
    status_done(front, status);
    return 0;
}
