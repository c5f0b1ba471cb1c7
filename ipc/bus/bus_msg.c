/* Bus messages as msgpack arrays [kind, version, fields…]. Encoders and decoders stand side by side and in the order of
 * the fields. Every process with a bus runs this. A peer is a process of ours, but a front or name server parses
 * foreign bytes and may have been taken over: a message is walked once with bounds before msgpack-c allocates for what
 * it claims to hold. A newer peer may send more fields; they are passed over. */
#include "bus/bus_msg.h"

#include <errno.h>
#include <msgpack.h>
#include <stdlib.h>

#include "base/cleanup.h"

enum {
    DEPTH_MAX = 4,
    TOPIC_COUNT_MAX = 1000000,
    TOPIC_FIELDS = 6,
};

/* Encoding */

struct writer {
    msgpack_sbuffer buffer;
    msgpack_packer packer;
    bool failed;
};

static void writer_begin(struct writer *w, enum bus_msg_kind kind, uint32_t field_count)
{
    msgpack_sbuffer_init(&w->buffer);
    msgpack_packer_init(&w->packer, &w->buffer, msgpack_sbuffer_write);
    w->failed = msgpack_pack_array(&w->packer, field_count + 2) != 0;
    w->failed |= msgpack_pack_int(&w->packer, (int)kind) != 0;
    w->failed |= msgpack_pack_int(&w->packer, BUS_MSG_VERSION) != 0;
}

static int writer_finish(struct writer *w, struct bytes *ret_message)
{
    if (w->failed) {
        msgpack_sbuffer_destroy(&w->buffer);
        return -ENOMEM;
    }
    ret_message->size = w->buffer.size;
    ret_message->data = (uint8_t *)msgpack_sbuffer_release(&w->buffer);
    return 0;
}

static void put_i64(struct writer *w, int64_t value)
{
    w->failed |= msgpack_pack_int64(&w->packer, value) != 0;
}

static void put_u64(struct writer *w, uint64_t value)
{
    w->failed |= msgpack_pack_uint64(&w->packer, value) != 0;
}

static void put_bool(struct writer *w, bool value)
{
    w->failed |= (value ? msgpack_pack_true(&w->packer) : msgpack_pack_false(&w->packer)) != 0;
}

static void put_string(struct writer *w, struct bytes text)
{
    w->failed |= msgpack_pack_str_with_body(&w->packer, text.size ? (const void *)text.data : "", text.size) != 0;
}

static void put_version(struct writer *w, const struct bus_data_version *version)
{
    put_i64(w, version->state_version);
    put_i64(w, version->timestamp_ms);
    put_i64(w, version->counter);
}

int bus_msg_encode_plain(enum bus_msg_kind kind, struct bytes *ret_message)
{
    struct writer w;
    writer_begin(&w, kind, 0);
    return writer_finish(&w, ret_message);
}

int bus_msg_encode_hello(const struct bus_hello *hello, struct bytes *ret_message)
{
    struct writer w;
    writer_begin(&w, BUS_HELLO, 3);
    put_string(&w, hello->worker);
    put_u64(&w, hello->generation);
    put_i64(&w, hello->pid);
    return writer_finish(&w, ret_message);
}

static int encode_text(enum bus_msg_kind kind, const char *text, struct bytes *ret_message)
{
    struct writer w;
    writer_begin(&w, kind, 1);
    put_string(&w, bytes_of(text));
    return writer_finish(&w, ret_message);
}

int bus_msg_encode_status(const char *text, struct bytes *ret_message)
{
    return encode_text(BUS_STATUS, text, ret_message);
}

int bus_msg_encode_reload(const char *text, struct bytes *ret_message)
{
    return encode_text(BUS_RELOAD, text, ret_message);
}

int bus_msg_encode_failed(const struct bus_failed *failed, struct bytes *ret_message)
{
    struct writer w;
    writer_begin(&w, BUS_FAILED, 2);
    put_i64(&w, failed->exit_code);
    put_string(&w, failed->text);
    return writer_finish(&w, ret_message);
}

int bus_msg_encode_registration(const struct bus_registration *registration, struct bytes *ret_message)
{
    struct writer w;
    writer_begin(&w, BUS_REGISTER, 11);
    put_string(&w, registration->cluster);
    put_string(&w, registration->broker_name);
    put_string(&w, registration->broker_addr);
    put_string(&w, registration->ha_addr);
    put_i64(&w, registration->broker_id);
    put_i64(&w, registration->heartbeat_timeout_ms);
    put_version(&w, &registration->version);
    put_bool(&w, registration->whole);
    w.failed |= msgpack_pack_array(&w.packer, registration->topic_count) != 0;
    for (uint32_t i = 0; i < registration->topic_count; i++) {
        const struct bus_topic *topic = &registration->topics[i];
        w.failed |= msgpack_pack_array(&w.packer, TOPIC_FIELDS) != 0;
        put_string(&w, topic->name);
        put_i64(&w, topic->read_queues);
        put_i64(&w, topic->write_queues);
        put_i64(&w, topic->perm);
        put_i64(&w, topic->topic_sys_flag);
        put_bool(&w, topic->order);
    }
    return writer_finish(&w, ret_message);
}

int bus_msg_encode_heartbeat(enum bus_msg_kind kind, const struct bus_heartbeat *heartbeat, struct bytes *ret_message)
{
    struct writer w;
    writer_begin(&w, kind, 7);
    put_string(&w, heartbeat->cluster);
    put_string(&w, heartbeat->broker_name);
    put_string(&w, heartbeat->broker_addr);
    put_i64(&w, heartbeat->broker_id);
    put_version(&w, &heartbeat->version);
    return writer_finish(&w, ret_message);
}

/* Decoding */

/* Passes over one object; 0 or -EBADMSG. A container's count can't exceed the bytes that are left. */
static int walk(struct cursor *c, unsigned depth);

static int walk_members(struct cursor *c, uint64_t count, unsigned depth)
{
    if (depth == DEPTH_MAX || count > (uint64_t)(c->end - c->pos))
        return -EBADMSG;
    for (uint64_t i = 0; i < count; i++)
        if (walk(c, depth + 1) < 0)
            return -EBADMSG;
    return 0;
}

static uint32_t take_length(struct cursor *c, unsigned size)
{
    uint32_t value = 0;
    const uint8_t *p = cursor_take(c, size);
    for (unsigned i = 0; p && i < size; i++)
        value = value << 8 | p[i];
    return value;
}

static int walk(struct cursor *c, unsigned depth)
{
    uint8_t type = cursor_get_u8(c);
    if (c->bad)
        return -EBADMSG;
    if (type <= 0x7f || type >= 0xe0 || type == 0xc0 || type == 0xc2 || type == 0xc3) /* small number, nil, bool */
        return 0;
    if (type >= 0x90 && type <= 0x9f)
        return walk_members(c, type & 0x0f, depth);
    if (type >= 0xa0 && type <= 0xbf)
        cursor_take(c, type & 0x1f);
    else if (type >= 0xcc && type <= 0xd3) /* u8 u16 u32 u64 i8 i16 i32 i64 */
        cursor_take(c, (size_t)1 << ((type - 0xcc) & 3));
    else if (type >= 0xd9 && type <= 0xdb) /* str 8, 16, 32 */
        cursor_take(c, take_length(c, 1u << (type - 0xd9)));
    else if (type == 0xdc || type == 0xdd)
        return walk_members(c, take_length(c, type == 0xdc ? 2 : 4), depth);
    else
        return -EBADMSG; /* maps, floats, binary, extensions: we send none */
    return c->bad ? -EBADMSG : 0;
}

struct reader {
    msgpack_unpacked unpacked;
    const msgpack_object *fields;
    uint32_t count, next;
    bool bad;
};

static void reader_end(struct reader *r)
{
    msgpack_unpacked_destroy(&r->unpacked);
}

/* Opens a message and reads its kind; the version is only bounded, see the top. Strings point into the message. */
static int reader_begin(struct reader *r, struct bytes message, enum bus_msg_kind *ret_kind)
{
    *r = (struct reader){0};
    msgpack_unpacked_init(&r->unpacked);
    struct cursor c = cursor_over(message.data, message.size);
    if (message.size == 0 || walk(&c, 0) < 0 || c.pos != c.end)
        return -EBADMSG;
    size_t offset = 0;
    if (msgpack_unpack_next(&r->unpacked, (const char *)message.data, message.size, &offset) != MSGPACK_UNPACK_SUCCESS)
        return -EBADMSG;
    const msgpack_object *root = &r->unpacked.data;
    if (root->type != MSGPACK_OBJECT_ARRAY || root->via.array.size < 2)
        return -EBADMSG;
    const msgpack_object *head = root->via.array.ptr;
    if (head[0].type != MSGPACK_OBJECT_POSITIVE_INTEGER || head[0].via.u64 < BUS_HELLO ||
        head[0].via.u64 > BUS_REGISTERED || head[1].type != MSGPACK_OBJECT_POSITIVE_INTEGER ||
        head[1].via.u64 < BUS_MSG_VERSION)
        return -EBADMSG;
    *ret_kind = (enum bus_msg_kind)head[0].via.u64;
    r->fields = head + 2;
    r->count = root->via.array.size - 2;
    return 0;
}

static const msgpack_object *get(struct reader *r, int type)
{
    if (r->bad || r->next == r->count || (type >= 0 && r->fields[r->next].type != (msgpack_object_type)type)) {
        r->bad = true;
        return NULL;
    }
    return &r->fields[r->next++];
}

static struct bytes get_string(struct reader *r)
{
    const msgpack_object *object = get(r, MSGPACK_OBJECT_STR);
    return object ? (struct bytes){(const uint8_t *)object->via.str.ptr, object->via.str.size}
                  : (struct bytes){NULL, 0};
}

static uint64_t get_u64(struct reader *r)
{
    const msgpack_object *object = get(r, MSGPACK_OBJECT_POSITIVE_INTEGER);
    return object ? object->via.u64 : 0;
}

static int64_t get_i64(struct reader *r)
{
    const msgpack_object *object = get(r, -1);
    if (object && object->type == MSGPACK_OBJECT_POSITIVE_INTEGER && object->via.u64 <= INT64_MAX)
        return (int64_t)object->via.u64;
    if (object && object->type == MSGPACK_OBJECT_NEGATIVE_INTEGER)
        return object->via.i64;
    r->bad = true;
    return 0;
}

static int32_t get_i32(struct reader *r)
{
    int64_t value = get_i64(r);
    if (value < INT32_MIN || value > INT32_MAX)
        r->bad = true;
    return (int32_t)value;
}

static bool get_bool(struct reader *r)
{
    const msgpack_object *object = get(r, MSGPACK_OBJECT_BOOLEAN);
    return object && object->via.boolean;
}

static struct bus_data_version get_version(struct reader *r)
{
    struct bus_data_version version;
    version.state_version = get_i64(r);
    version.timestamp_ms = get_i64(r);
    version.counter = get_i64(r);
    return version;
}

#define READER PN_CLEANUP(reader_end) struct reader

/* Begins a message that must be of the given kind. */
static int reader_expect(struct reader *r, struct bytes message, enum bus_msg_kind kind)
{
    enum bus_msg_kind actual;
    int result = reader_begin(r, message, &actual);
    if (result < 0)
        return result;
    return actual == kind ? 0 : -EBADMSG;
}

int bus_msg_kind(struct bytes message, enum bus_msg_kind *ret_kind)
{
    READER r;
    return reader_begin(&r, message, ret_kind);
}

int bus_msg_decode_hello(struct bytes message, struct bus_hello *ret_hello)
{
    READER r;
    int result = reader_expect(&r, message, BUS_HELLO);
    if (result < 0)
        return result;
    ret_hello->worker = get_string(&r);
    ret_hello->generation = get_u64(&r);
    ret_hello->pid = get_i64(&r);
    return r.bad ? -EBADMSG : 0;
}

static int decode_text(struct bytes message, enum bus_msg_kind kind, struct bytes *ret_text)
{
    READER r;
    int result = reader_expect(&r, message, kind);
    if (result < 0)
        return result;
    *ret_text = get_string(&r);
    return r.bad ? -EBADMSG : 0;
}

int bus_msg_decode_text(struct bytes message, struct bytes *ret_text)
{
    return decode_text(message, BUS_STATUS, ret_text);
}

int bus_msg_decode_reload(struct bytes message, struct bytes *ret_text)
{
    return decode_text(message, BUS_RELOAD, ret_text);
}

int bus_msg_decode_failed(struct bytes message, struct bus_failed *ret_failed)
{
    READER r;
    int result = reader_expect(&r, message, BUS_FAILED);
    if (result < 0)
        return result;
    ret_failed->exit_code = get_i32(&r);
    ret_failed->text = get_string(&r);
    return r.bad ? -EBADMSG : 0;
}

static int decode_topic(const msgpack_object *object, struct bus_topic *ret_topic)
{
    if (object->type != MSGPACK_OBJECT_ARRAY)
        return -EBADMSG;
    struct reader r = {.fields = object->via.array.ptr, .count = object->via.array.size};
    ret_topic->name = get_string(&r);
    ret_topic->read_queues = get_i32(&r);
    ret_topic->write_queues = get_i32(&r);
    ret_topic->perm = get_i32(&r);
    ret_topic->topic_sys_flag = get_i32(&r);
    ret_topic->order = get_bool(&r);
    return r.bad ? -EBADMSG : 0;
}

static int decode_topics(struct reader *r, struct bus_registration *registration)
{
    const msgpack_object *list = get(r, MSGPACK_OBJECT_ARRAY);
    if (r->bad || list->via.array.size > TOPIC_COUNT_MAX)
        return -EBADMSG;
    uint32_t count = list->via.array.size;
    if (count == 0)
        return 0;
    registration->topics = calloc(count, sizeof *registration->topics);
    if (!registration->topics)
        return -ENOMEM;
    registration->topic_count = count;
    for (uint32_t i = 0; i < count; i++)
        if (decode_topic(&list->via.array.ptr[i], &registration->topics[i]) < 0)
            return -EBADMSG;
    return 0;
}

int bus_msg_decode_registration(struct bytes message, struct bus_registration *ret_registration)
{
    READER r;
    *ret_registration = (struct bus_registration){0};
    int result = reader_expect(&r, message, BUS_REGISTER);
    if (result < 0)
        return result;
    struct bus_registration *registration = ret_registration;
    registration->cluster = get_string(&r);
    registration->broker_name = get_string(&r);
    registration->broker_addr = get_string(&r);
    registration->ha_addr = get_string(&r);
    registration->broker_id = get_i64(&r);
    registration->heartbeat_timeout_ms = get_i64(&r);
    registration->version = get_version(&r);
    registration->whole = get_bool(&r);
    result = decode_topics(&r, registration);
    if (result < 0)
        bus_registration_free(registration);
    return result;
}

void bus_registration_free(struct bus_registration *registration)
{
    free(registration->topics);
    registration->topics = NULL;
    registration->topic_count = 0;
}

int bus_msg_decode_heartbeat(struct bytes message, struct bus_heartbeat *ret_heartbeat)
{
    READER r;
    enum bus_msg_kind kind;
    int result = reader_begin(&r, message, &kind);
    if (result < 0)
        return result;
    if (kind != BUS_HEARTBEAT && kind != BUS_UNREGISTER)
        return -EBADMSG;
    ret_heartbeat->cluster = get_string(&r);
    ret_heartbeat->broker_name = get_string(&r);
    ret_heartbeat->broker_addr = get_string(&r);
    ret_heartbeat->broker_id = get_i64(&r);
    ret_heartbeat->version = get_version(&r);
    return r.bad ? -EBADMSG : 0;
}
