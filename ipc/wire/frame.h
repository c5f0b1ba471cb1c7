/* Frames of the RocketMQ remoting protocol (remoting facts 1.1–1.4; Apache remoting/RemotingCommand, NettyDecoder):
 * i32 length, u8 header serialization, u24 header length, header, body; big-endian. Reads JSON and ROCKETMQ headers,
 * writes strict JSON (type 0, every extFields value a string). Used where foreign bytes are parsed: front, name server,
 * and by clients of our own. No allocation per frame: a parsed frame points into the caller's buffer. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/bytes.h"

enum {
    FRAME_SIZE_MAX = 16777216, /* whole frame, 4 length bytes included (com.rocketmq.remoting.frameMaxLength) */
    FRAME_FIELDS_MAX = 128,
    FRAME_FLAG_RESPONSE = 1,
    FRAME_FLAG_ONEWAY = 2,
    WIRE_VERSION = 479, /* MQVersion ordinal that we announce: V5_3_3 */
};

enum frame_language { LANGUAGE_JAVA = 0, LANGUAGE_CPP = 1, LANGUAGE_GO = 9, LANGUAGE_OTHER = 7 };

struct frame_field {
    struct bytes key, value; /* unescaped UTF-8 text; numbers and booleans as their literal text; nulls are left out */
};

struct frame {
    int32_t code, version, opaque, flag;
    uint8_t language; /* ordinal; unknown = LANGUAGE_OTHER */
    uint8_t serialization;
    struct bytes remark;
    struct bytes body; /* size 0: none */
    size_t total_size; /* bytes of the buffer that this frame takes */
    unsigned field_count;
    struct frame_field fields[FRAME_FIELDS_MAX];
};

enum frame_result {
    FRAME_MORE, /* not whole yet */
    FRAME_OK,
    FRAME_SKIP, /* empty header or `[]`: pass over total_size bytes, the connection lives */
    FRAME_BAD,  /* close the connection */
};

/* Parses the first frame in `data`. Escapes in header strings are undone in place, so a frame is parsed once. */
enum frame_result frame_parse(uint8_t *data, size_t size, struct frame *ret_frame);
/* Bytes that the frame at the head of `data` will need (0 = not known yet); for sizing buffers. */
size_t frame_wanted(const uint8_t *data, size_t size);

/* For the log: what the bytes of a FRAME_BAD look like ("an HTTP request"). */
const char *frame_looks_like(const uint8_t *data, size_t size);

/* Absent: NULL / default. Present but malformed number: -EINVAL. */
const struct bytes *frame_get_sized(const struct frame *frame, const char *key, size_t key_size);
static inline const struct bytes *frame_get(const struct frame *frame, const char *key)
{
    return frame_get_sized(frame, key, strlen(key)); /* inline, so that a literal's length costs nothing */
}
int frame_get_i32(const struct frame *frame, const char *key, int32_t default_value, int32_t *ret_value);
int frame_get_i64(const struct frame *frame, const char *key, int64_t default_value, int64_t *ret_value);
int frame_get_bool(const struct frame *frame, const char *key, bool default_value, bool *ret_value);

/* Writing: into a buffer of the caller that is large enough (frame_write_bound). */
struct frame_writer {
    uint8_t *start, *pos, *end;
    bool first_field, empty_fields;
    bool overflow;
};

/* Begins a frame; then fields; then frame_write_finish with the size of the body that the caller appends behind it. */
void frame_write_response(struct frame_writer *writer, uint8_t *buffer, size_t size, int32_t code, int32_t opaque,
                          struct bytes remark);
void frame_write_request(struct frame_writer *writer, uint8_t *buffer, size_t size, int32_t code, int32_t opaque,
                         int32_t flag, enum frame_language language);
void frame_write_text(struct frame_writer *writer, const char *key, struct bytes value);
void frame_write_i64(struct frame_writer *writer, const char *key, int64_t value);
void frame_write_bool(struct frame_writer *writer, const char *key, bool value);
/* `"extFields":{}` where the client wants the map but no field was written (an answer to QUERY_CONSUMER_OFFSET that
 * found nothing); has no effect after a field. Without it and without fields the key is left out. */
void frame_write_empty_fields(struct frame_writer *writer);
/* Returns the size of the frame without its body, -ENOBUFS (buffer too small) or -EMSGSIZE (over FRAME_SIZE_MAX). */
ssize_t frame_write_finish(struct frame_writer *writer, size_t body_size);
/* Enough for a header with these texts: fixed part + 6 × text bytes (escapes) + 64 per field. */
size_t frame_write_bound(size_t text_bytes, unsigned fields);
