/*
 * Just enough of the RocketMQ remoting protocol for a load generator: frames with a JSON header, a scanner that picks
 * the few header fields a benchmark must check, and a blocking call for what happens before the load. It deliberately
 * shares no code with the servers it measures: a mistake in their wire code must not be invisible to it.
 * Used by the load generator; all bytes from the network are checked before they are believed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <netinet/in.h>

enum {
    REMOTING_SEND_MESSAGE_V2 = 310,
    REMOTING_PULL_MESSAGE = 11,
    REMOTING_GET_MAX_OFFSET = 30,
    REMOTING_GET_MIN_OFFSET = 31,
    REMOTING_HEART_BEAT = 34,
    REMOTING_GET_ROUTEINFO_BY_TOPIC = 105,

    REMOTING_SUCCESS = 0,
    REMOTING_TOPIC_NOT_EXIST = 17,
    REMOTING_PULL_NOT_FOUND = 19,
    REMOTING_PULL_OFFSET_MOVED = 21,

    REMOTING_FRAME_FIXED = 8,
    REMOTING_FRAME_MAX = 16 * 1024 * 1024,
};

/* One received frame. The pointers lead into the receive buffer. Numbers that the header did not name are -1. */
struct frame {
    int code;
    int flag;
    int64_t opaque;
    int64_t queue_id, queue_offset, next_begin_offset, min_offset, max_offset, offset;
    bool has_message_id;
    const char *remark;
    size_t remark_len;
    const char *body;
    size_t body_len;
};

static inline uint32_t remoting_read_be32(const void *p)
{
    uint32_t v;

    __builtin_memcpy(&v, p, sizeof(v));
    return __builtin_bswap32(v);
}

static inline uint64_t remoting_read_be64(const void *p)
{
    uint64_t v;

    __builtin_memcpy(&v, p, sizeof(v));
    return __builtin_bswap64(v);
}

/* Returns the size of the first frame in the buffer, 0 if it is not whole yet, or -EBADMSG. */
int64_t remoting_parse(const char *buffer, size_t len, struct frame *ret_frame);

/* Writes length, header length and header before a body of body_len bytes. Returns the size without the body. */
size_t remoting_put_header(char *out, size_t out_size, const char *header, size_t body_len);

/* One request of blocking use on a socket of its own; the frame's pointers lead into the caller's buffer. */
int remoting_call(int fd, const char *header, const void *body, size_t body_len, char *buffer, size_t buffer_size,
                  struct frame *ret_frame);

/* Masters that hold the topic or, while it does not exist, those that would make it. Returns how many. */
int remoting_find_masters(const struct sockaddr_in *namesrv, const char *topic, int timeout_ms,
                          struct sockaddr_in *ret_addresses, unsigned address_max);

/* "host:port" with a numeric IPv4 address. */
int remoting_parse_address(const char *text, struct sockaddr_in *ret_address);
/* A blocking TCP connection with TCP_NODELAY; reads and writes give up after timeout_ms. Returns the fd. */
int remoting_connect(const struct sockaddr_in *address, int timeout_ms);
/* The masters (broker id 0) that a route reply names, with raw or quoted keys. Returns how many, or a negative errno.
 */
int remoting_route_masters(const struct frame *reply, struct sockaddr_in *ret_addresses, unsigned address_max);
