/* Big-endian loads and stores (every RocketMQ format), and a bounded cursor for reading and writing records whose parts
 * have variable length. A cursor never runs past its end: the first overrun makes it `bad`, later reads give zero and
 * empty, and the caller checks once at the end. */
#pragma once

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t be16_load(const void *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return be16toh(v);
}
static inline uint32_t be32_load(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return be32toh(v);
}
static inline uint64_t be64_load(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return be64toh(v);
}
static inline void be16_store(void *p, uint16_t v)
{
    v = htobe16(v);
    memcpy(p, &v, sizeof v);
}
static inline void be32_store(void *p, uint32_t v)
{
    v = htobe32(v);
    memcpy(p, &v, sizeof v);
}
static inline void be64_store(void *p, uint64_t v)
{
    v = htobe64(v);
    memcpy(p, &v, sizeof v);
}

/* Bytes that somebody else owns; not NUL-terminated. */
struct bytes {
    const uint8_t *data;
    size_t size;
};

static inline struct bytes bytes_of(const char *text)
{
    return (struct bytes){(const uint8_t *)text, strlen(text)};
}
static inline bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}
static inline bool bytes_equal_text(struct bytes a, const char *text)
{
    return bytes_equal(a, bytes_of(text));
}

struct cursor {
    uint8_t *pos;
    uint8_t *end;
    bool bad;
};

static inline struct cursor cursor_over(const void *data, size_t size)
{
    return (struct cursor){(uint8_t *)data, (uint8_t *)data + size, false};
}
static inline uint8_t *cursor_take(struct cursor *c, size_t size)
{
    if (c->bad || (size_t)(c->end - c->pos) < size) {
        c->bad = true;
        return NULL;
    }
    uint8_t *p = c->pos;
    c->pos += size;
    return p;
}

/* Host byte order: for records that never leave the host. Strings: u16 length, then bytes. */
#define CURSOR_PAIR(name, type)                                                                                        \
    static inline type cursor_get_##name(struct cursor *c)                                                             \
    {                                                                                                                  \
        type v = 0;                                                                                                    \
        const uint8_t *p = cursor_take(c, sizeof v);                                                                   \
        if (p)                                                                                                         \
            memcpy(&v, p, sizeof v);                                                                                   \
        return v;                                                                                                      \
    }                                                                                                                  \
    static inline void cursor_put_##name(struct cursor *c, type v)                                                     \
    {                                                                                                                  \
        uint8_t *p = cursor_take(c, sizeof v);                                                                         \
        if (p)                                                                                                         \
            memcpy(p, &v, sizeof v);                                                                                   \
    }
CURSOR_PAIR(u8, uint8_t)
CURSOR_PAIR(u16, uint16_t)
CURSOR_PAIR(u32, uint32_t)
CURSOR_PAIR(i32, int32_t)
CURSOR_PAIR(u64, uint64_t)
CURSOR_PAIR(i64, int64_t)
#undef CURSOR_PAIR

static inline struct bytes cursor_get_string(struct cursor *c)
{
    uint16_t size = cursor_get_u16(c);
    const uint8_t *p = cursor_take(c, size);
    return p ? (struct bytes){p, size} : (struct bytes){NULL, 0};
}
static inline void cursor_put_string(struct cursor *c, struct bytes s)
{
    if (s.size > UINT16_MAX) {
        c->bad = true;
        return;
    }
    cursor_put_u16(c, (uint16_t)s.size);
    uint8_t *p = cursor_take(c, s.size);
    if (p && s.size)
        memcpy(p, s.data, s.size);
}
