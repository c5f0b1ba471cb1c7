/* Frames of a broker's registration with name servers; see registration.h. The front's one thread; pure texts but for the
 * orders, which go to the store as changes of topics. */
#include "registration.h"

#include <errno.h>
#include <isa-l/crc.h>
#include <stdlib.h>

#include "admin.h"
#include "base/panic.h"
#include "store_link.h"
#include "wire/codes.h"

enum { PART_BYTES_MAX = 8 << 20, FRONT_PERM_READ_WRITE = FRONT_PERM_READ | FRONT_PERM_WRITE };

bool registration_same_version(struct msg_version a, struct msg_version b)
{
    return a.state_version == b.state_version && a.timestamp_ms == b.timestamp_ms && a.counter == b.counter;
}

/* The fields that every one of these requests has. */
static void begin(struct frame_writer *writer, struct connection *wire, const struct front *front,
                  const struct registration_name *name, int32_t code, int32_t opaque)
{
    const struct front_config *config = &front->config;
    size_t size = frame_write_bound(strlen(config->broker_name) + strlen(config->cluster_name) + name->addr.size +
                                        name->ha_addr.size,
                                    8);
    uint8_t *room = connection_reserve(wire, size);
    frame_write_request(writer, room, size, code, opaque, 0, LANGUAGE_CPP);
    frame_write_text(writer, "brokerName", bytes_of(config->broker_name));
    frame_write_text(writer, "brokerAddr", name->addr);
    frame_write_text(writer, "clusterName", bytes_of(config->cluster_name));
    frame_write_i64(writer, "brokerId", config->broker_id);
}

/* Takes the body's text. */
static int finish(struct frame_writer *writer, struct connection *wire, struct text *body)
{
    ssize_t size = frame_write_finish(writer, body->size);
    if (size < 0) {
        text_free(body);
        return (int)size;
    }
    connection_commit(wire, (size_t)size);
    if (body->size == 0)
        return 0;
    int r = connection_add_foreign(wire, body->data, body->size, free, body->data);
    if (r < 0)
        text_free(body);
    *body = (struct text){0};
    return r;
}

static void body_begin(struct text *body)
{
    text_add(body, "{\"filterServerList\":[],\"topicConfigSerializeWrapper\":{\"topicConfigTable\":{");
}

/* Apache: a broker that may not be read or written says so of each topic. */
static void body_add(struct text *body, bool *more, const struct front *front, const struct topic_entry *topic)
{
    struct topic_entry shown = *topic;
    if ((front->config.broker_permission & FRONT_PERM_READ_WRITE) != FRONT_PERM_READ_WRITE)
        shown.perm &= front->config.broker_permission;
    admin_put_comma(body, more);
    text_add_json_string(body, bytes_of(topic->name));
    text_add(body, ":");
    admin_put_topic(body, &shown);
}

static int body_end(struct text *body, const struct front *front, const struct registration_name *name,
                    struct msg_version version, struct connection *wire, int32_t *opaque)
{
    struct frame_writer writer;
    text_add(body, "},\"dataVersion\":");
    admin_put_version(body, version);
    text_add(body, ",\"mappingDataVersion\":"); /* of static topics, which are not served */
    admin_put_version(body, (struct msg_version){0});
    text_add(body, ",\"topicQueueMappingDetailMap\":{},\"topicQueueMappingInfoMap\":{}}}");
    begin(&writer, wire, front, name, REQUEST_REGISTER_BROKER, (*opaque)++);
    frame_write_text(&writer, "haServerAddr", name->ha_addr);
    frame_write_bool(&writer, "enableActingMaster", false);
    frame_write_bool(&writer, "compressed", false);
    frame_write_i64(&writer, "bodyCrc32", crc32_gzip_refl(0, (const uint8_t *)body->data, body->size) & INT32_MAX);
    return finish(&writer, wire, body);
}

/* The table cut into bodies that only lack their ends. */
struct parts {
    struct text *bodies;
    unsigned count;
};

static struct text *parts_add(struct parts *parts)
{
    parts->bodies = realloc(parts->bodies, (parts->count + 1) * sizeof *parts->bodies);
    pn_assert(parts->bodies);
    struct text *body = &parts->bodies[parts->count++];
    *body = (struct text){0};
    body_begin(body);
    return body;
}

static void cut(const struct front *front, struct parts *parts)
{
    uint64_t topics_max = front->config.split_registration ? (uint64_t)front->config.split_topics : UINT64_MAX, count = 0;
    struct text *body = NULL;
    bool more = false;
    for (const struct topic_entry *topic = catalogue_topics(front->catalogue); topic; topic = topic->hh.next) {
        if (!body) {
            body = parts_add(parts);
            more = false;
            count = 0;
        }
        body_add(body, &more, front, topic);
        if (++count >= topics_max || body->size >= PART_BYTES_MAX)
            body = NULL;
    }
    if (parts->count == 0)
        parts_add(parts);
}

int registration_put_whole(const struct front *front, const struct registration_name *name, bool is_changed,
                           struct connection *wire, int32_t *opaque)
{
    struct parts parts = {0};
    int r = 0;
    cut(front, &parts);
    for (unsigned i = 0; i < parts.count; i++) {
        /* A name server looks at topics that it knows only where the data version differs from what it was told last. So
         * the parts before the last carry versions that never were, and the last one the real one. */
        struct msg_version version = catalogue_topics_data_version(front->catalogue);
        if (is_changed)
            version.counter -= parts.count - 1 - i;
        if (r == 0)
            r = body_end(&parts.bodies[i], front, name, version, wire, opaque);
        text_free(&parts.bodies[i]);
    }
    free(parts.bodies);
    return r < 0 ? r : (int)parts.count;
}

int registration_put_topics(const struct front *front, const struct registration_name *name, char *const *topics,
                            unsigned count, struct connection *wire, int32_t *opaque)
{
    struct text body = {0};
    bool more = false;
    body_begin(&body);
    for (unsigned i = 0; i < count; i++) {
        const struct topic_entry *topic = catalogue_topic(front->catalogue, bytes_of(topics[i]));
        if (topic)
            body_add(&body, &more, front, topic);
    }
    int r = body_end(&body, front, name, catalogue_topics_data_version(front->catalogue), wire, opaque);
    return r < 0 ? r : 1;
}

int registration_ask_version(const struct front *front, const struct registration_name *name, struct connection *wire,
                             int32_t *opaque)
{
    struct frame_writer writer;
    struct text body = {0};
    admin_put_version(&body, catalogue_topics_data_version(front->catalogue));
    begin(&writer, wire, front, name, REQUEST_QUERY_DATA_VERSION, (*opaque)++);
    int r = finish(&writer, wire, &body);
    return r < 0 ? r : 1;
}

int registration_put_leave(const struct front *front, const struct registration_name *name, struct connection *wire,
                           int32_t *opaque)
{
    struct frame_writer writer;
    struct text none = {0};
    begin(&writer, wire, front, name, REQUEST_UNREGISTER_BROKER, (*opaque)++);
    int r = finish(&writer, wire, &none);
    return r < 0 ? r : 1;
}

bool registration_is_wanted(const struct front *front, const struct frame *answer)
{
    const char *error;
    bool is_changed;
    if (frame_get_bool(answer, "changed", true, &is_changed) < 0 || is_changed || !answer->body.size)
        return true;
    json_t *json = json_body_parse(answer->body, &error);
    struct msg_version theirs = {.state_version = admin_json_i64(json, "stateVersion", 0),
                                 .timestamp_ms = admin_json_i64(json, "timestamp", 0),
                                 .counter = admin_json_i64(json, "counter", 0)};
    json_decref(json);
    return !registration_same_version(theirs, catalogue_topics_data_version(front->catalogue));
}

static bool make_ordered(struct front *front, const struct topic_entry *topic)
{
    struct msg_topic_put put = {.read_queues = topic->read_queues,
                                .write_queues = topic->write_queues,
                                .perm = topic->perm,
                                .topic_sys_flag = topic->sys_flag,
                                .order = true,
                                .multi_tag = topic->multi_tag};
    struct bytes name = bytes_of(topic->name);
    size_t size = sizeof put + 2 + name.size + 2;
    uint8_t *payload = store_link_reserve_control(front, MSG_TOPIC_PUT, size);
    if (!payload)
        return false;
    memcpy(payload, &put, sizeof put);
    struct cursor cursor = cursor_over(payload + sizeof put, size - sizeof put);
    cursor_put_string(&cursor, name);
    cursor_put_string(&cursor, bytes_of(""));
    pn_assert(!cursor.bad);
    return true;
}

void registration_take_orders(struct front *front, struct bytes body)
{
    const char *error, *key;
    json_t *order;
    json_t *json = body.size ? json_body_parse(body, &error) : NULL;
    json_object_foreach(json_object_get(json, "table"), key, order)
    {
        const struct topic_entry *topic = catalogue_topic(front->catalogue, bytes_of(key));
        if (topic && !topic->order && !make_ordered(front, topic))
            break;
    }
    json_decref(json);
}
