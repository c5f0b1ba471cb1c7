/* Connection: a stream with an input buffer that yields frames and an output queue of owned and foreign pieces. Knows
 * no request code and no event loop: its owner watches the descriptor and calls fill, next, flush. One thread. Buffers
 * of an idle connection cost nothing: they are freed when empty. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/frame.h"
#include "wire/stream.h"

struct connection_piece;
struct connection {
    struct stream stream;
    uint8_t *in;
    size_t in_start, in_end, in_capacity;
    struct connection_piece *out_first, *out_last;
    size_t out_size; /* bytes that wait to be sent: the owner's limit is on this */
    size_t out_owned; /* memory that the pieces take, foreign bytes not counted */
    uint64_t bytes_in, bytes_out;
};

void connection_init(struct connection *connection, int fd);
/* Closes the stream, frees buffers, calls the release function of every piece not sent. */
void connection_close(struct connection *connection);

/* One read of what is there (at most the room of the buffer, 64 KiB or the frame under way). > 0; 0 = end of stream;
 * -EAGAIN (also when the buffer is full of whole frames that were not consumed); -errno. */
ssize_t connection_fill(struct connection *connection);
/* Next frame in the buffer. It points into the buffer and is valid until connection_consume. */
enum frame_result connection_next(struct connection *connection, struct frame *ret_frame);
void connection_consume(struct connection *connection, const struct frame *frame);

/* Memory in use: what has arrived and not been consumed, and what is ours of the output. */
size_t connection_memory(const struct connection *connection);

/* Bytes that the peer has confirmed; 0 if the kernel does not say. Sockets tell us of room only now and then, so this is
 * what shows that a slow client is alive. */
uint64_t connection_confirmed(const struct connection *connection);

/* Output. `connection_reserve` gives contiguous room of at least `size`; `connection_commit` says how much was used. */
uint8_t *connection_reserve(struct connection *connection, size_t size);
void connection_commit(struct connection *connection, size_t size);
/* Foreign bytes (a mapped log file): not copied; `release` (may be NULL) is called once, sent or not. */
int connection_add_foreign(struct connection *connection, const void *data, size_t size, void (*release)(void *context),
                           void *context);
/* Sends what it can with writev. 0: all sent; 1: the rest waits for EPOLLOUT; -errno: close. */
int connection_flush(struct connection *connection);
