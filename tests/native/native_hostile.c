/* A native client that misbehaves on purpose, to show that it harms only itself.
 *     native_hostile RUNTIME_DIR BROKER MODE
 * mid-record    half a record is written behind write_pos, never published; then it waits to be killed
 * bad-record    publishes a record whose sizes lie, then a good one
 * bad-position  moves write_pos to nonsense
 * deaf          sends thousands of messages and never reads an answer, then waits to be killed
 * block-wakeup  makes its bells blocking, fills them, and claims to sleep while the store answers it
 * Prints "done" when the deed is done. Then waits for its end (or for the broker to give it up: prints "given up"). */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/attach.h"
#include "msg/msg.h"

static uint8_t *reserve(struct ring_writer *ring, uint64_t token, size_t body_size)
{
    static const char topic[] = "native_hostile";
    size_t size = sizeof(struct msg_send) + sizeof topic - 1 + 6 + body_size;
    uint8_t *at = ring_reserve(ring, MSG_SEND, 0, size, NULL);
    if (!at)
        return NULL;
    *(struct msg_send *)at = (struct msg_send){.token = token,
                                               .max_reconsume_times = -1,
                                               .default_topic_queues = 4,
                                               .topic_size = sizeof topic - 1,
                                               .default_topic_size = 6,
                                               .body_size = (uint32_t)body_size,
                                               .born_ip = {127, 0, 0, 1}};
    uint8_t *p = mempcpy(at + sizeof(struct msg_send), topic, sizeof topic - 1);
    p = mempcpy(p, "TBW102", 6);
    memset(p, 'h', body_size);
    return at;
}

static void flush(struct ring_writer *ring)
{
    ring_publish(ring);
    ring_wake_reader(ring);
}

/* A bell that both ends share would from now on block whoever rings it. */
static void fill_bell(int fd)
{
    static const uint64_t most = UINT64_MAX - 1;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    ring_bell_clear(fd); /* the store's first ring, on which the counter would have no room for the rest */
    while (write(fd, &most, sizeof most) > 0)
        ;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
}

/* Often enough to fill any buffer that the store rings into, too. A store that blocks answers no more, so that the time
 * limit ends this. */
static void block_wakeups(struct attachment *attachment)
{
    struct ring_writer *request = &attachment->request;
    struct ring_reader *reply = &attachment->reply;
    fill_bell(request->fds.space);
    fill_bell(reply->fds.data);
    fill_bell(reply->fds.space);
    for (uint64_t token = 1, waited_ms = 0; token <= 1000 && waited_ms < 1000; token++) {
        uint64_t answered = atomic_load(&reply->shared->write_pos);
        atomic_store(&reply->shared->reader_asleep, 1);
        atomic_store(&request->shared->writer_asleep, 1);
        reserve(request, token, 100);
        flush(request);
        while (atomic_load(&reply->shared->write_pos) == answered && waited_ms < 1000) {
            usleep(1000);
            waited_ms++;
        }
        waited_ms = atomic_load(&reply->shared->write_pos) == answered ? waited_ms : 0;
    }
}

static void misbehave(struct attachment *attachment, const char *mode)
{
    struct ring_writer *ring = &attachment->request;
    if (strcmp(mode, "mid-record") == 0) {
        reserve(ring, 1, 1000);
        flush(ring); /* one whole message, then half of one */
        uint8_t *half = reserve(ring, 2, 1000);
        memset(half + 100, 0xee, 600);
    } else if (strcmp(mode, "bad-record") == 0) {
        uint8_t *bad = reserve(ring, 1, 100);
        ((struct msg_send *)bad)->body_size = 0x7fffffff;
        ((struct msg_send *)bad)->properties_size = 0xfffffff0;
        reserve(ring, 2, 100);
        flush(ring);
    } else if (strcmp(mode, "bad-position") == 0) {
        atomic_store(&ring->shared->write_pos, 0xfffffffffffff123ull);
        ring_wake_reader(ring);
    } else if (strcmp(mode, "deaf") == 0) {
        for (int token = 1, full = 0; full < 100;) {
            if (reserve(ring, (uint64_t)token, 200)) {
                token++;
                continue;
            }
            flush(ring);
            usleep(1000);
            full++;
        }
    } else if (strcmp(mode, "block-wakeup") == 0) {
        block_wakeups(attachment);
    } else {
        fprintf(stderr, "native_hostile: no mode %s\n", mode);
        exit(64);
    }
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr,
                "usage: native_hostile RUNTIME_DIR BROKER mid-record|bad-record|bad-position|deaf|block-wakeup\n");
        return 64;
    }
    struct attachment attachment;
    int r = attach_open(argv[1], argv[2], &attachment);
    if (r < 0) {
        fprintf(stderr, "native_hostile: attach: %s\n", strerror(-r));
        return 1;
    }
    misbehave(&attachment, argv[3]);
    puts("done");
    fflush(stdout);
    struct pollfd bell = {.fd = attachment.reply.fds.data, .events = 0};
    poll(&bell, 1, 60000);
    puts(bell.revents & POLLHUP ? "given up" : "left alone");
    attach_close(&attachment);
    return 0;
}
