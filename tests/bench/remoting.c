/*
 * See remoting.h. The header scanner walks the JSON once, in whatever order the keys come: Apache writes them sorted,
 * so the opaque id follows the whole extFields object, others write them as they like. It is strict about what ends a
 * value (a header that runs out is -EBADMSG) and indifferent to keys that it does not know.
 */
#include "remoting.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

struct cursor {
    const char *p, *end;
};

struct text {
    const char *p;
    size_t len;
};

static bool cursor_skip_space(struct cursor *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\t' || *c->p == '\n' || *c->p == '\r'))
        c->p++;
    return c->p < c->end;
}

static bool cursor_take(struct cursor *c, char wanted)
{
    if (!cursor_skip_space(c) || *c->p != wanted)
        return false;
    c->p++;
    return true;
}

/* The raw bytes between the quotes; escapes stay as they are, none of the names and numbers read here has any. */
static bool cursor_string(struct cursor *c, struct text *ret_text)
{
    if (!cursor_take(c, '"'))
        return false;
    ret_text->p = c->p;
    while (c->p < c->end && *c->p != '"')
        c->p += *c->p == '\\' ? 2 : 1;
    if (c->p >= c->end)
        return false;
    ret_text->len = (size_t)(c->p - ret_text->p);
    c->p++;
    return true;
}

/* A string without its quotes, a bare word or number, or a whole object or array passed over. */
static bool cursor_value(struct cursor *c, struct text *ret_text)
{
    int depth = 0;

    if (!cursor_skip_space(c))
        return false;
    if (*c->p == '"')
        return cursor_string(c, ret_text);
    ret_text->p = c->p;
    while (c->p < c->end) {
        char ch = *c->p;
        if (ch == '"') {
            struct text inner;
            if (!cursor_string(c, &inner))
                return false;
            continue;
        }
        if (ch == '{' || ch == '[')
            depth++;
        else if (depth == 0 && (ch == ',' || ch == '}' || ch == ']'))
            break;
        else if (ch == '}' || ch == ']')
            depth--;
        c->p++;
    }
    ret_text->len = (size_t)(c->p - ret_text->p);
    return c->p < c->end && ret_text->len > 0;
}

static int64_t text_number(const struct text *t)
{
    int64_t value = 0;
    size_t i = 0;
    bool negative = t->len > 1 && t->p[0] == '-';

    for (i = negative; i < t->len && t->p[i] >= '0' && t->p[i] <= '9'; i++)
        value = (int64_t)((uint64_t)value * 10 + (uint64_t)(t->p[i] - '0'));
    return negative ? -value : value;
}

static bool text_is(const struct text *t, const char *word, size_t word_len)
{
    return t->len == word_len && memcmp(t->p, word, word_len) == 0;
}

#define TEXT_IS(t, literal) text_is(t, literal, sizeof(literal) - 1)

static void take_ext_field(struct frame *f, const struct text *key, const struct text *value)
{
    if (TEXT_IS(key, "queueId"))
        f->queue_id = text_number(value);
    else if (TEXT_IS(key, "queueOffset"))
        f->queue_offset = text_number(value);
    else if (TEXT_IS(key, "nextBeginOffset"))
        f->next_begin_offset = text_number(value);
    else if (TEXT_IS(key, "minOffset"))
        f->min_offset = text_number(value);
    else if (TEXT_IS(key, "maxOffset"))
        f->max_offset = text_number(value);
    else if (TEXT_IS(key, "offset"))
        f->offset = text_number(value);
    else if (TEXT_IS(key, "msgId"))
        f->has_message_id = value->len > 0;
}

static void take_top_field(struct frame *f, const struct text *key, const struct text *value)
{
    if (TEXT_IS(key, "code"))
        f->code = (int)text_number(value);
    else if (TEXT_IS(key, "opaque"))
        f->opaque = text_number(value);
    else if (TEXT_IS(key, "flag"))
        f->flag = (int)text_number(value);
    else if (TEXT_IS(key, "remark")) {
        f->remark = value->p;
        f->remark_len = value->len;
    }
}

/* Reads the fields of the object at the cursor; extFields is entered once, from the top level only. */
static bool scan_object(struct cursor *c, struct frame *f, bool top)
{
    struct text key, value;

    if (!cursor_take(c, '{'))
        return false;
    if (cursor_take(c, '}'))
        return true;
    do {
        if (!cursor_string(c, &key) || !cursor_take(c, ':') || !cursor_skip_space(c))
            return false;
        if (top && *c->p == '{' && TEXT_IS(&key, "extFields")) {
            if (!scan_object(c, f, false))
                return false;
        } else if (!cursor_value(c, &value))
            return false;
        else if (top)
            take_top_field(f, &key, &value);
        else
            take_ext_field(f, &key, &value);
    } while (cursor_take(c, ','));
    return cursor_take(c, '}');
}

int64_t remoting_parse(const char *buffer, size_t len, struct frame *ret_frame)
{
    if (len < REMOTING_FRAME_FIXED)
        return 0;
    uint32_t frame_len = remoting_read_be32(buffer), header_word = remoting_read_be32(buffer + 4);
    uint32_t header_len = header_word & 0xffffff;
    if (frame_len > REMOTING_FRAME_MAX || frame_len < 4 || header_word >> 24 != 0 || header_len > frame_len - 4)
        return -EBADMSG;
    if (len < 4 + (size_t)frame_len)
        return 0;

    struct cursor c = {buffer + REMOTING_FRAME_FIXED, buffer + REMOTING_FRAME_FIXED + header_len};
    *ret_frame = (struct frame){
        .code = -1,
        .flag = 0,
        .opaque = INT64_MIN,
        .queue_id = -1,
        .queue_offset = -1,
        .next_begin_offset = -1,
        .min_offset = -1,
        .max_offset = -1,
        .offset = -1,
        .remark = "",
        .body = c.end,
        .body_len = frame_len - 4 - header_len,
    };
    if (!scan_object(&c, ret_frame, true) || ret_frame->code < 0)
        return -EBADMSG;
    return 4 + (int64_t)frame_len;
}

size_t remoting_put_header(char *out, size_t out_size, const char *header, size_t body_len)
{
    size_t header_len = strlen(header);

    if (REMOTING_FRAME_FIXED + header_len > out_size)
        abort();
    uint32_t words[2] = {__builtin_bswap32((uint32_t)(4 + header_len + body_len)),
                         __builtin_bswap32((uint32_t)header_len)};
    memcpy(out, words, sizeof(words));
    memcpy(out + REMOTING_FRAME_FIXED, header, header_len);
    return REMOTING_FRAME_FIXED + header_len;
}

static int write_all(int fd, const char *p, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? -ETIMEDOUT : -errno;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Requests that the server makes by itself (flag bit 0 clear) are passed over. */
static int read_answer(int fd, char *buffer, size_t buffer_size, struct frame *ret_frame)
{
    size_t len = 0;

    for (;;) {
        int64_t size = remoting_parse(buffer, len, ret_frame);
        if (size < 0)
            return (int)size;
        if (size > 0 && ret_frame->flag & 1)
            return 0;
        if (size > 0) {
            len -= (size_t)size;
            memmove(buffer, buffer + size, len);
            continue;
        }
        if (len == buffer_size)
            return -EMSGSIZE;
        ssize_t n = recv(fd, buffer + len, buffer_size - len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0 ? -ECONNRESET : errno == EAGAIN ? -ETIMEDOUT : -errno;
        len += (size_t)n;
    }
}

int remoting_call(int fd, const char *header, const void *body, size_t body_len, char *buffer, size_t buffer_size,
                  struct frame *ret_frame)
{
    size_t head_len = remoting_put_header(buffer, buffer_size, header, body_len);

    int r = write_all(fd, buffer, head_len);
    if (r >= 0 && body_len > 0)
        r = write_all(fd, body, body_len);
    if (r >= 0)
        r = read_answer(fd, buffer, buffer_size, ret_frame);
    return r;
}

int remoting_parse_address(const char *text, struct sockaddr_in *ret_address)
{
    const char *colon = strrchr(text, ':');
    char host[64];

    if (!colon || (size_t)(colon - text) >= sizeof(host))
        return -EINVAL;
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = '\0';
    char *end;
    unsigned long port = strtoul(colon + 1, &end, 10);
    if (end == colon + 1 || port == 0 || port > 65535)
        return -EINVAL;
    *ret_address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    return inet_pton(AF_INET, host, &ret_address->sin_addr) == 1 ? 0 : -EINVAL;
}

/*
 * Who connects again and again to a port where nobody listens yet will, if it lies in the kernel's range for clients,
 * one day be given that very port as his own and meet himself; and the server then finds it taken.
 */
static bool met_itself(int fd, const struct sockaddr_in *address)
{
    struct sockaddr_in own;
    socklen_t own_len = sizeof(own);
    const struct linger no_time_wait = {1, 0};

    if (getsockname(fd, (struct sockaddr *)&own, &own_len) < 0 || own.sin_port != address->sin_port ||
        own.sin_addr.s_addr != address->sin_addr.s_addr)
        return false;
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &no_time_wait, sizeof(no_time_wait));
    return true;
}

int remoting_connect(const struct sockaddr_in *address, int timeout_ms)
{
    const struct timeval timeout = {timeout_ms / 1000, timeout_ms % 1000 * 1000};
    const int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0) {
        int r = -errno;
        close(fd);
        return r;
    }
    if (met_itself(fd, address)) {
        close(fd);
        return -ECONNREFUSED;
    }
    return fd;
}

/* In {"1":"10.0.0.2:10911","0":"10.0.0.1:10911"} the value of key 0; its key may stand without quotes. */
static int master_of(struct cursor *c, struct sockaddr_in *ret_address)
{
    struct text key, value;
    int r = -ENOENT;

    if (!cursor_take(c, '{') || cursor_take(c, '}'))
        return -ENOENT;
    do {
        cursor_take(c, '"');
        key.p = c->p;
        while (c->p < c->end && *c->p >= '0' && *c->p <= '9')
            c->p++;
        key.len = (size_t)(c->p - key.p);
        cursor_take(c, '"');
        char address[64] = "";
        if (!cursor_take(c, ':') || !cursor_string(c, &value) || value.len >= sizeof(address))
            return -EBADMSG;
        memcpy(address, value.p, value.len);
        if (TEXT_IS(&key, "0"))
            r = remoting_parse_address(address, ret_address);
    } while (cursor_take(c, ','));
    return r;
}

int remoting_route_masters(const struct frame *reply, struct sockaddr_in *ret_addresses, unsigned address_max)
{
    static const char mark[] = "\"brokerAddrs\":";
    struct cursor c = {reply->body, reply->body + reply->body_len};
    unsigned count = 0;

    while (count < address_max && (c.p = memmem(c.p, (size_t)(c.end - c.p), mark, sizeof(mark) - 1))) {
        c.p += sizeof(mark) - 1;
        int r = master_of(&c, &ret_addresses[count]);
        if (r < 0 && r != -ENOENT)
            return r;
        count += r >= 0;
    }
    return (int)count;
}

int remoting_find_masters(const struct sockaddr_in *namesrv, const char *topic, int timeout_ms,
                          struct sockaddr_in *ret_addresses, unsigned address_max)
{
    const char *const topics[] = {topic, "TBW102"};
    char header[512], buffer[64 * 1024];
    struct frame frame;
    int fd = remoting_connect(namesrv, timeout_ms), r = 0;

    if (fd < 0)
        return fd;
    for (unsigned i = 0; r == 0 && i < 2; i++) {
        snprintf(header, sizeof(header),
                 "{\"code\":105,\"extFields\":{\"acceptStandardJsonOnly\":\"true\",\"topic\":\"%s\"},\"flag\":0,"
                 "\"language\":\"OTHER\",\"opaque\":%u,\"serializeTypeCurrentRPC\":\"JSON\",\"version\":479}",
                 topics[i], i + 1);
        r = remoting_call(fd, header, NULL, 0, buffer, sizeof(buffer), &frame);
        if (r >= 0 && frame.code == REMOTING_SUCCESS)
            r = remoting_route_masters(&frame, ret_addresses, address_max);
    }
    close(fd);
    return r == 0 ? -ENOENT : r;
}
