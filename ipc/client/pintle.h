/* libpintle: the native client of Pintle, for programs on the broker's own host that need microseconds. The one public
 * header. A producer has its own pair of rings in shared memory with the broker's store; sending is a copy into the ring
 * and, if the store sleeps, one wake-up.
 *
 * Threads: a pintle_producer belongs to one thread at a time. Errors: 0 or a negative errno; codes of the broker come in
 * struct pintle_receipt.code (RocketMQ response codes, 0 = stored). Ownership: bytes passed in are copied before the call
 * returns. Integers are host order; nothing here leaves the host. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PINTLE_API __attribute__((visibility("default")))

typedef struct pintle_producer pintle_producer;

typedef struct pintle_message {
    const char *topic;      /* NUL-terminated, [%|a-zA-Z0-9_-]+, at most 127 bytes */
    const char *tags;       /* or NULL */
    const char *keys;       /* space separated, or NULL */
    const void *body;
    size_t body_size;
    int32_t queue_id;       /* −1: the broker chooses */
    int32_t flag;           /* opaque user flag */
} pintle_message;

typedef struct pintle_receipt {
    uint64_t ticket;        /* as pintle_send gave it */
    int32_t code;           /* 0: stored and, under SYNC_FLUSH, on disk */
    int32_t queue_id;
    int64_t queue_offset;
    int64_t log_position;   /* commit log position, bytes */
    int64_t store_time_ms;  /* Unix time */
} pintle_receipt;

/* runtime_dir: the broker's runtime folder (/run/pintle, or DIR/run of `pintle up --dir DIR`); broker: its name. */
PINTLE_API int pintle_producer_open(const char *runtime_dir, const char *broker, const char *group,
                                    pintle_producer **ret_producer);
PINTLE_API void pintle_producer_close(pintle_producer *producer);

/* Puts the message into the ring. -EAGAIN: the ring is full (take receipts, or wait); -EMSGSIZE; -EINVAL; -EPIPE: the
 * broker gave this client up. `ret_ticket` identifies the receipt. */
PINTLE_API int pintle_send(pintle_producer *producer, const pintle_message *message, uint64_t *ret_ticket);
/* Next receipt, in order of completion. timeout_us: 0 = do not wait, −1 = for ever; it spins a little first where more
 * than one processor is there. -ETIMEDOUT / -EAGAIN: none; -EPIPE: nobody will answer any more. */
PINTLE_API int pintle_receive(pintle_producer *producer, pintle_receipt *ret_receipt, int64_t timeout_us);
/* Send and wait for this message's receipt. */
PINTLE_API int pintle_send_wait(pintle_producer *producer, const pintle_message *message, pintle_receipt *ret_receipt,
                                int64_t timeout_us);
/* Readable when receipts may be waiting (for poll); call pintle_receive until -EAGAIN before polling. */
PINTLE_API int pintle_fd(pintle_producer *producer);

#ifdef __cplusplus
}
#endif
