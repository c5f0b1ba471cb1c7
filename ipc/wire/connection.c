/* A connection's two buffers. Input: one contiguous buffer of 64 KiB, or of exactly the frame under way if that is
 * larger; freed when empty. Output: a list of pieces, owned chunks and foreign bytes (mapped log pages), sent with
 * writev.
 *
 * A busy connection empties its buffers many times per second and an idle one should cost nothing, so each thread keeps
 * one spare input buffer, one spare chunk and some small pieces. Runs in front and name server. Peers are foreign: their frame length only
 * ever sizes a buffer up to FRAME_SIZE_MAX, untouched pages of which cost nothing. */
#include "wire/connection.h"

#include <errno.h>
#include <linux/tcp.h> /* the C library's own struct tcp_info ends too early */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/panic.h"

enum {
    IN_CAPACITY = 65536,
    IN_ROOM_LEAST = 8192, /* less room than this behind the data: move it to the front first */
    CHUNK_CAPACITY = 16384,
    PARTS_MAX = 64,
    SPARE_FOREIGN_MAX = 256, /* pieces of four answers of 64 records: 14 KiB */
};

struct connection_piece {
    struct connection_piece *next;
    const uint8_t *data; /* what is not sent yet */
    size_t size;
    void (*release)(void *context);
    void *context;
    size_t capacity, used; /* of an owned chunk; foreign: 0 */
    uint8_t chunk[];
};

static _Thread_local uint8_t *spare_in;
static _Thread_local struct connection_piece *spare_chunk;
static _Thread_local struct connection_piece *spare_foreign;
static _Thread_local unsigned spare_foreign_count;

void connection_init(struct connection *connection, int fd)
{
    *connection = (struct connection){0};
    stream_init_plain(&connection->stream, fd);
}

static void free_in(struct connection *connection)
{
    if (connection->in_capacity == IN_CAPACITY && !spare_in)
        spare_in = connection->in;
    else
        free(connection->in);
    connection->in = NULL;
    connection->in_start = connection->in_end = connection->in_capacity = 0;
}

static void free_piece(struct connection_piece *piece)
{
    if (piece->release)
        piece->release(piece->context);
    if (piece->capacity == CHUNK_CAPACITY && !spare_chunk) {
        spare_chunk = piece;
    } else if (!piece->capacity && spare_foreign_count < SPARE_FOREIGN_MAX) {
        piece->next = spare_foreign;
        spare_foreign = piece;
        spare_foreign_count++;
    } else {
        free(piece);
    }
}

static size_t piece_memory(const struct connection_piece *piece)
{
    return sizeof *piece + piece->capacity;
}

size_t connection_memory(const struct connection *connection)
{
    return connection->in_end + connection->out_owned;
}

uint64_t connection_confirmed(const struct connection *connection)
{
    struct tcp_info info = {0};
    socklen_t size = sizeof info;
    if (getsockopt(connection->stream.fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0)
        return 0;
    return size >= offsetof(struct tcp_info, tcpi_bytes_acked) + sizeof info.tcpi_bytes_acked ? info.tcpi_bytes_acked : 0;
}

static void drop_first(struct connection *connection)
{
    struct connection_piece *piece = connection->out_first;
    connection->out_first = piece->next;
    connection->out_owned -= piece_memory(piece);
    if (!connection->out_first)
        connection->out_last = NULL;
    free_piece(piece);
}

void connection_close(struct connection *connection)
{
    while (connection->out_first)
        drop_first(connection);
    connection->out_size = 0;
    if (connection->in)
        free_in(connection);
    connection->stream.hooks->close(&connection->stream);
}

/* Another buffer with the same content at its front. */
static int move_in(struct connection *connection, size_t capacity)
{
    size_t used = connection->in_end - connection->in_start;
    uint8_t *buffer;
    if (capacity == IN_CAPACITY && spare_in) {
        buffer = spare_in;
        spare_in = NULL;
    } else {
        buffer = malloc(capacity);
        if (!buffer)
            return -ENOMEM;
    }
    if (used)
        memcpy(buffer, connection->in + connection->in_start, used);
    if (connection->in)
        free_in(connection);
    connection->in = buffer;
    connection->in_end = used;
    connection->in_capacity = capacity;
    return 0;
}

/* Room for the frame under way and for at least one byte. */
static int make_room(struct connection *connection)
{
    size_t used = connection->in_end - connection->in_start;
    size_t wanted = used ? frame_wanted(connection->in + connection->in_start, used) : 0;
    if (wanted < IN_CAPACITY)
        wanted = IN_CAPACITY;
    if (connection->in_capacity < wanted)
        return move_in(connection, wanted);
    size_t room = connection->in_capacity - connection->in_end;
    if (connection->in_start > 0 && (room < IN_ROOM_LEAST || connection->in_capacity - connection->in_start < wanted)) {
        memmove(connection->in, connection->in + connection->in_start, used);
        connection->in_start = 0;
        connection->in_end = used;
    }
    return connection->in_end < connection->in_capacity ? 0 : -EAGAIN; /* full of whole frames: take them first */
}

ssize_t connection_fill(struct connection *connection)
{
    int r = make_room(connection);
    if (r < 0)
        return r;
    ssize_t n = connection->stream.hooks->read(&connection->stream, connection->in + connection->in_end,
                                               connection->in_capacity - connection->in_end);
    if (n > 0) {
        connection->in_end += (size_t)n;
        connection->bytes_in += (uint64_t)n;
    } else if (connection->in_start == connection->in_end) {
        free_in(connection);
    }
    return n;
}

enum frame_result connection_next(struct connection *connection, struct frame *ret_frame)
{
    if (connection->in_start == connection->in_end)
        return FRAME_MORE;
    return frame_parse(connection->in + connection->in_start, connection->in_end - connection->in_start, ret_frame);
}

void connection_consume(struct connection *connection, const struct frame *frame)
{
    pn_assert(frame->total_size <= connection->in_end - connection->in_start);
    connection->in_start += frame->total_size;
    if (connection->in_start == connection->in_end)
        free_in(connection);
}

static void append(struct connection *connection, struct connection_piece *piece)
{
    piece->next = NULL;
    connection->out_owned += piece_memory(piece);
    if (connection->out_last)
        connection->out_last->next = piece;
    else
        connection->out_first = piece;
    connection->out_last = piece;
}

static struct connection_piece *chunk_new(size_t size)
{
    struct connection_piece *piece = spare_chunk;
    if (size <= CHUNK_CAPACITY && piece) {
        spare_chunk = NULL;
    } else {
        size_t capacity = size < CHUNK_CAPACITY ? CHUNK_CAPACITY : size;
        piece = malloc(sizeof *piece + capacity);
        pn_assert(piece);
        piece->capacity = capacity;
        piece->release = NULL;
        piece->context = NULL;
    }
    piece->used = 0;
    piece->data = piece->chunk;
    piece->size = 0;
    return piece;
}

uint8_t *connection_reserve(struct connection *connection, size_t size)
{
    struct connection_piece *last = connection->out_last;
    if (!last || last->capacity - last->used < size) {
        last = chunk_new(size);
        append(connection, last);
    }
    return last->chunk + last->used;
}

void connection_commit(struct connection *connection, size_t size)
{
    struct connection_piece *last = connection->out_last;
    pn_assert(last && size <= last->capacity - last->used);
    last->used += size;
    last->size += size;
    connection->out_size += size;
}

int connection_add_foreign(struct connection *connection, const void *data, size_t size, void (*release)(void *context),
                           void *context)
{
    struct connection_piece *piece = spare_foreign;
    if (piece) {
        spare_foreign = piece->next;
        spare_foreign_count--;
    } else if (!(piece = malloc(sizeof *piece))) {
        return -ENOMEM;
    }
    *piece = (struct connection_piece){.data = data, .size = size, .release = release, .context = context};
    append(connection, piece);
    connection->out_size += size;
    return 0;
}

static void sent(struct connection *connection, size_t size)
{
    pn_assert(size <= connection->out_size);
    connection->out_size -= size;
    connection->bytes_out += size;
    while (connection->out_first && size >= connection->out_first->size) {
        size -= connection->out_first->size;
        drop_first(connection);
    }
    if (size) {
        connection->out_first->data += size;
        connection->out_first->size -= size;
    }
}

static int gather(const struct connection *connection, struct iovec parts[PARTS_MAX])
{
    int count = 0;
    for (const struct connection_piece *piece = connection->out_first; piece && count < PARTS_MAX; piece = piece->next)
        if (piece->size)
            parts[count++] = (struct iovec){(void *)piece->data, piece->size};
    return count;
}

int connection_flush(struct connection *connection)
{
    while (connection->out_size) {
        struct iovec parts[PARTS_MAX];
        int count = gather(connection, parts);
        ssize_t n = connection->stream.hooks->writev(&connection->stream, parts, count);
        if (n == -EAGAIN)
            return 1;
        if (n < 0)
            return (int)n;
        /* After a short write once more: it may have ended at a page that is gone, and only the next try says so. */
        sent(connection, (size_t)n);
    }
    while (connection->out_first) /* pieces of no size */
        drop_first(connection);
    return 0;
}
