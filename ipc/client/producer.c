/* Producer of the native client: messages go into its own request ring, receipts come out of its own reply ring. Runs
 * in the client's process and shares memory with the store only; the store treats everything written here as hostile,
 * and we check what comes back because a store may be killed and replaced at any time: its successor may answer a
 * request a second time, so a receipt whose ticket is not outstanding is dropped. */
#include "client/pintle.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "client/attach.h"
#include "msg/msg.h"
#include "msg/msg_check.h"

enum {
    OUTSTANDING_MAX = 16384, /* power of two; more than the request ring holds of the smallest records is no use */
    SPIN_NS = 50000,         /* a sleeping peer costs a hundred times the work; longer spins only burn the core */
};

struct pintle_producer {
    struct attachment attachment;
    char *group;
    uint64_t next_ticket;
    unsigned outstanding_count;
    bool spin;
    bool fd_in_use; /* the caller polls: leave the sleep flag set whenever we return empty-handed */
    uint64_t outstanding[OUTSTANDING_MAX]; /* ticket, 0 = free; place = ticket modulo size */
};

int pintle_producer_open(const char *runtime_dir, const char *broker, const char *group,
                         struct pintle_producer **ret_producer)
{
    if (!runtime_dir || !broker || !group || strlen(group) > MSG_GROUP_MAX)
        return -EINVAL;
    PN_FREE struct pintle_producer *producer = calloc(1, sizeof *producer);
    if (!producer)
        return -ENOMEM;
    PN_FREE char *group_copy = strdup(group);
    if (!group_copy)
        return -ENOMEM;
    int r = attach_open(runtime_dir, broker, &producer->attachment);
    if (r < 0)
        return r;
    producer->group = TAKE_PTR(group_copy);
    producer->next_ticket = 1;
    producer->spin = sysconf(_SC_NPROCESSORS_ONLN) > 1;
    *ret_producer = TAKE_PTR(producer);
    return 0;
}

void pintle_producer_close(struct pintle_producer *producer)
{
    if (!producer)
        return;
    attach_close(&producer->attachment);
    free(producer->group);
    free(producer);
}

static size_t property_size(const char *name, const char *value)
{
    return value && *value ? strlen(name) + strlen(value) + 2 : 0;
}

static uint8_t *property_put(uint8_t *at, const char *name, const char *value)
{
    if (!value || !*value)
        return at;
    at = mempcpy(at, name, strlen(name));
    *at++ = 0x01;
    at = mempcpy(at, value, strlen(value));
    *at++ = 0x02;
    return at;
}

static bool property_clean(const char *value)
{
    return !value || !strpbrk(value, "\x01\x02");
}

static int check_message(const struct pintle_message *message)
{
    if (!message || !message->topic || !*message->topic || strlen(message->topic) > 127)
        return -EINVAL;
    if (!message->body || message->body_size == 0 || !property_clean(message->tags) || !property_clean(message->keys))
        return -EINVAL;
    if (message->body_size > MSG_BODY_MAX ||
        property_size("TAGS", message->tags) + property_size("KEYS", message->keys) > MSG_PROPERTIES_MAX)
        return -EMSGSIZE;
    return 0;
}

int pintle_send(struct pintle_producer *producer, const struct pintle_message *message, uint64_t *ret_ticket)
{
    int r = check_message(message);
    if (r < 0)
        return r;
    uint64_t ticket = producer->next_ticket;
    uint64_t *place = &producer->outstanding[ticket % OUTSTANDING_MAX];
    if (*place)
        return -EAGAIN;

    size_t topic = strlen(message->topic), group = strlen(producer->group);
    size_t properties = property_size("TAGS", message->tags) + property_size("KEYS", message->keys);
    static const char default_topic[] = "TBW102";
    size_t size = sizeof(struct msg_send) + topic + sizeof default_topic - 1 + group + properties + message->body_size;
    struct ring_writer *ring = &producer->attachment.request;
    if (size > ring_payload_max(ring->capacity))
        return -EMSGSIZE;
    uint8_t *at = ring_reserve(ring, MSG_SEND, 0, size, NULL);
    if (!at)
        return -EAGAIN;

    struct msg_send *send = (struct msg_send *)at;
    *send = (struct msg_send){
        .token = ticket,
        .born_ms = clock_realtime_ms(),
        .queue_id = message->queue_id,
        .flag = message->flag,
        .max_reconsume_times = -1,
        .default_topic_queues = 4,
        .topic_size = (uint16_t)topic,
        .default_topic_size = sizeof default_topic - 1,
        .group_size = (uint16_t)group,
        .properties_size = (uint32_t)properties,
        .body_size = (uint32_t)message->body_size,
        .born_ip = {127, 0, 0, 1},
    };
    at = mempcpy(at + sizeof *send, message->topic, topic);
    at = mempcpy(at, default_topic, sizeof default_topic - 1);
    at = mempcpy(at, producer->group, group);
    at = property_put(at, "TAGS", message->tags);
    at = property_put(at, "KEYS", message->keys);
    memcpy(at, message->body, message->body_size);

    *place = ticket;
    producer->outstanding_count++;
    producer->next_ticket++;
    ring_publish(ring);
    ring_wake_reader(ring);
    if (ret_ticket)
        *ret_ticket = ticket;
    return 0;
}

/* One record of the reply ring. 1: a receipt; 0: none waits or it was not for us. */
static int take_receipt(struct pintle_producer *producer, struct pintle_receipt *ret_receipt)
{
    struct ring_reader *ring = &producer->attachment.reply;
    struct ring_view view;
    for (;;) {
        int r = ring_peek(ring, &view);
        if (r <= 0)
            return r;
        struct msg_send_answer answer;
        bool good = view.record.kind == MSG_SEND_ANSWER &&
                    msg_check_answer(view.record.kind, view.payload, view.payload_size) == MSG_OK;
        if (good)
            memcpy(&answer, view.payload, sizeof answer);
        ring_next(ring, &view);
        ring_release_to(ring, ring->next_pos);
        if (!good)
            return -EBADMSG;
        uint64_t *place = &producer->outstanding[answer.token % OUTSTANDING_MAX];
        if (answer.token == 0 || *place != answer.token)
            continue;
        *place = 0;
        producer->outstanding_count--;
        *ret_receipt = (struct pintle_receipt){answer.token,        answer.code,    answer.queue_id,
                                               answer.queue_offset, answer.log_pos, answer.store_ms};
        return 1;
    }
}

/* Sleeps on the reply ring's bell and on the attach connection, whose end means that nobody will answer. */
static int sleep_for_receipt(struct pintle_producer *producer, int64_t deadline_ns)
{
    struct ring_reader *ring = &producer->attachment.reply;
    ring_bell_clear(ring->fds.data);
    if (!ring_may_sleep(ring))
        return 0;
    struct pollfd fds[2] = {{.fd = ring->fds.data, .events = POLLIN},
                            {.fd = producer->attachment.socket, .events = POLLIN}};
    struct timespec timeout, *timeout_p = NULL;
    if (deadline_ns >= 0) {
        int64_t left = deadline_ns - clock_monotonic_ns();
        if (left < 0)
            left = 0;
        timeout = (struct timespec){left / 1000000000, left % 1000000000};
        timeout_p = &timeout;
    }
    int r = ppoll(fds, 2, timeout_p, NULL);
    if (r < 0 && errno != EINTR)
        return -errno;
    if (!producer->fd_in_use)
        ring_awake(ring);
    if (r > 0 && (fds[0].revents & POLLHUP)) /* the store gave us up, or there is neither store nor supervisor */
        return -EPIPE;
    return r > 0 && fds[1].revents && !fds[0].revents ? -EPIPE : 0;
}

/* For a caller that polls: a bell that was hung up is readable for ever and never rings. */
static bool is_hung_up(const struct pintle_producer *producer)
{
    struct pollfd bell = {.fd = producer->attachment.reply.fds.data};
    return poll(&bell, 1, 0) > 0 && (bell.revents & POLLHUP);
}

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

int pintle_receive(struct pintle_producer *producer, struct pintle_receipt *ret_receipt, int64_t timeout_us)
{
    int r = take_receipt(producer, ret_receipt);
    if (r != 0)
        return r < 0 ? r : 0;
    if (timeout_us == 0) {
        if (!producer->fd_in_use)
            return -EAGAIN;
        ring_bell_clear(producer->attachment.reply.fds.data);
        if (ring_may_sleep(&producer->attachment.reply))
            return is_hung_up(producer) ? -EPIPE : -EAGAIN;
        r = take_receipt(producer, ret_receipt);
        return r == 0 ? -EAGAIN : r < 0 ? r : 0;
    }

    int64_t start_ns = clock_monotonic_ns();
    int64_t deadline_ns = timeout_us < 0 ? -1 : start_ns + timeout_us * 1000;
    int64_t spin_until_ns = producer->spin ? start_ns + SPIN_NS : start_ns;
    for (;;) {
        r = take_receipt(producer, ret_receipt);
        if (r != 0)
            return r < 0 ? r : 0;
        int64_t now_ns = clock_monotonic_ns();
        if (deadline_ns >= 0 && now_ns >= deadline_ns)
            return -ETIMEDOUT;
        if (now_ns < spin_until_ns) {
            relax();
            continue;
        }
        r = sleep_for_receipt(producer, deadline_ns);
        if (r < 0) {
            int last = take_receipt(producer, ret_receipt); /* what was answered before the end still counts */
            return last > 0 ? 0 : r;
        }
    }
}

int pintle_send_wait(struct pintle_producer *producer, const struct pintle_message *message,
                     struct pintle_receipt *ret_receipt, int64_t timeout_us)
{
    uint64_t ticket;
    int r = pintle_send(producer, message, &ticket);
    if (r < 0)
        return r;
    do {
        r = pintle_receive(producer, ret_receipt, timeout_us);
    } while (r == 0 && ret_receipt->ticket != ticket);
    return r;
}

int pintle_fd(struct pintle_producer *producer)
{
    producer->fd_in_use = true;
    return producer->attachment.reply.fds.data;
}
