/* A producer for kill loops: sends numbered messages, each exactly once (never again after a broken connection), and
 * writes down what became of each, so that "acknowledged and lost" and "stored twice" can be told from outside.
 *     kill_producer tcp NAMESRVS TOPIC PREFIX [WINDOW [RATE]]
 *     kill_producer native RUNTIME_DIR/BROKER TOPIC PREFIX [WINDOW [RATE]]
 * RATE is messages per second, 0 = as fast as answers come. Lines on standard output, flushed after each round:
 * "acked KEY PLACE QUEUE OFFSET WAITED_US AT_US" (PLACE = broker address or "native"; AT_US = monotonic clock at the
 * answer), "refused KEY CODE REMARK", "unknown KEY" (the connection broke before an answer), "unanswered KEY" (at the
 * end: no answer on a connection that lives), "broken" (a connection broke). KEY = PREFIX-number is the message's key and
 * body. Runs until standard input ends; then waits for the answers under way, prints "end LONGEST_WAIT_US", exits 0. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "client/pintle.h"
#include "supervisor/cli/remote.h"
#include "supervisor/cli/route.h"

enum { WINDOW_MAX = 1024, LINKS_MAX = 16, DRAIN_MS = 20000 };

struct slot {
    uint64_t number;
    int64_t start_ns;
    bool busy;
};

struct link {
    struct remote *remote;
    char address[128];
    struct slot slots[WINDOW_MAX]; /* place = opaque modulo WINDOW_MAX */
    unsigned under_way;
};

static const char *topic, *prefix;
static unsigned window = 16;
static uint64_t next_number;
static int64_t longest_ns;
static int64_t interval_ns, due_ns; /* of RATE */
static struct link links[LINKS_MAX];
static unsigned link_count;

static bool input_ended(void)
{
    struct pollfd fd = {.fd = STDIN_FILENO, .events = POLLIN};
    char c;
    return poll(&fd, 1, 0) == 1 && read(STDIN_FILENO, &c, 1) <= 0;
}

static bool is_due(void)
{
    return interval_ns == 0 || clock_monotonic_ns() >= due_ns;
}

/* What was missed while nothing could be sent is not made up for: a burst would hide the time of the next answer. */
static void sent_one(void)
{
    int64_t now_ns = clock_monotonic_ns();
    next_number++;
    due_ns = due_ns + interval_ns > now_ns - interval_ns ? due_ns + interval_ns : now_ns;
}

/* How long a wait for answers may take without delaying the next send. */
static int64_t until_due_us(int64_t most_us)
{
    int64_t left_us = (due_ns - clock_monotonic_ns()) / 1000;
    return interval_ns == 0 || left_us > most_us ? most_us : left_us < 0 ? 0 : left_us;
}

static void acked(const struct slot *slot, const char *place, int64_t queue, int64_t offset)
{
    int64_t now_ns = clock_monotonic_ns(), waited_ns = now_ns - slot->start_ns;
    if (waited_ns > longest_ns)
        longest_ns = waited_ns;
    printf("acked %s-%" PRIu64 " %s %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 "\n", prefix, slot->number, place, queue,
           offset, waited_ns / 1000, now_ns / 1000);
}

/* ---- TCP ---- */

static void on_frame(void *context, struct remote *remote, const struct frame *frame)
{
    struct link *link = NULL;
    for (unsigned i = 0; i < link_count; i++)
        if (links[i].remote == remote)
            link = &links[i];
    struct slot *slot = link ? &link->slots[(uint32_t)frame->opaque % WINDOW_MAX] : NULL;
    if (!slot || !slot->busy || !(frame->flag & FRAME_FLAG_RESPONSE))
        return;
    int64_t queue = -1, offset = -1;
    frame_get_i64(frame, "queueId", -1, &queue);
    frame_get_i64(frame, "queueOffset", -1, &offset);
    if (frame->code == RESPONSE_SUCCESS)
        acked(slot, link->address, queue, offset);
    else
        printf("refused %s-%" PRIu64 " %d %.*s\n", prefix, slot->number, frame->code, (int)frame->remark.size,
               (const char *)frame->remark.data);
    slot->busy = false;
    link->under_way--;
}

static void send_tcp(struct link *link, int queue_id)
{
    char key[128], properties[256];
    int body_size = snprintf(key, sizeof key, "%s-%" PRIu64, prefix, next_number);
    int size = snprintf(properties, sizeof properties, "KEYS\x01%s\x02TAGS\x01%c\x02", key, (int)('A' + next_number % 3));
    struct remote_request request;
    remote_begin(link->remote, &request, REQUEST_SEND_MESSAGE_V2, 0, strlen(topic) + (size_t)size + 64, 13, sizeof key);
    struct frame_writer *w = &request.writer;
    frame_write_text(w, "a", bytes_of("kill_producer"));
    frame_write_text(w, "b", bytes_of(topic));
    frame_write_text(w, "c", bytes_of("TBW102"));
    frame_write_i64(w, "d", 4);
    frame_write_i64(w, "e", queue_id);
    frame_write_i64(w, "f", 0);
    frame_write_i64(w, "g", clock_realtime_ms());
    frame_write_i64(w, "h", 0);
    frame_write_text(w, "i", (struct bytes){(uint8_t *)properties, (size_t)size});
    frame_write_i64(w, "j", 0);
    frame_write_bool(w, "k", false);
    int32_t opaque = remote_end(link->remote, &request, (struct bytes){(uint8_t *)key, (size_t)body_size});
    link->slots[(uint32_t)opaque % WINDOW_MAX] = (struct slot){next_number, clock_monotonic_ns(), true};
    link->under_way++;
    sent_one();
}

static void print_open_slots(const struct slot *slots, const char *what)
{
    for (unsigned i = 0; i < WINDOW_MAX; i++)
        if (slots[i].busy)
            printf("%s %s-%" PRIu64 "\n", what, prefix, slots[i].number);
}

static void reopen(struct link *link)
{
    if (link->remote) {
        printf("broken\n");
        remote_close(link->remote);
        link->remote = NULL;
    }
    print_open_slots(link->slots, "unknown");
    memset(link->slots, 0, sizeof link->slots);
    link->under_way = 0;
    while (remote_open(link->address, on_frame, NULL, &link->remote) < 0)
        usleep(2000);
}

static struct link *link_to(const char *address)
{
    for (unsigned i = 0; i < link_count; i++)
        if (strcmp(links[i].address, address) == 0)
            return &links[i];
    if (link_count == LINKS_MAX)
        exit(64);
    snprintf(links[link_count].address, sizeof links[link_count].address, "%s", address);
    reopen(&links[link_count]);
    return &links[link_count++];
}

static unsigned under_way(void)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < link_count; i++)
        sum += links[i].under_way;
    return sum;
}

static int run_tcp(const char *namesrvs)
{
    struct route route;
    char *error;
    int64_t give_up_ms = clock_monotonic_ms() + 10000;
    while (route_find(namesrvs, topic, true, &route, &error) < 0) {
        if (clock_monotonic_ms() > give_up_ms) {
            fprintf(stderr, "kill_producer: %s\n", error);
            return 74;
        }
        free(error);
        usleep(10000);
    }
    unsigned queue = 0;
    int64_t end_ms = 0;
    for (unsigned i = 0; i < route.count; i++)
        link_to(route.queues[i].address);
    while (end_ms == 0 || (under_way() > 0 && clock_monotonic_ms() < end_ms)) {
        for (unsigned i = 0; i < link_count; i++)
            if (links[i].remote->broken)
                reopen(&links[i]);
        for (unsigned i = 0; end_ms == 0 && i < route.count && is_due(); i++, queue = (queue + 1) % route.count) {
            struct link *link = link_to(route.queues[queue].address);
            if (link->under_way < window && !link->remote->broken)
                send_tcp(link, route.queues[queue].queue_id);
        }
        struct remote *remotes[LINKS_MAX];
        for (unsigned i = 0; i < link_count; i++)
            remotes[i] = links[i].remote;
        remote_poll(remotes, link_count, (int)((until_due_us(100000) + 999) / 1000));
        fflush(stdout);
        if (end_ms == 0 && input_ended())
            end_ms = clock_monotonic_ms() + DRAIN_MS;
    }
    for (unsigned i = 0; i < link_count; i++) {
        print_open_slots(links[i].slots, "unanswered");
        remote_close(links[i].remote);
    }
    route_free(&route);
    return 0;
}

/* ---- native ---- */

static struct slot native_slots[WINDOW_MAX]; /* place = ticket modulo WINDOW_MAX */

static void take_receipts(pintle_producer *producer, unsigned *waiting, int64_t timeout_us)
{
    pintle_receipt receipt;
    while (*waiting && pintle_receive(producer, &receipt, timeout_us) == 0) {
        struct slot *slot = &native_slots[receipt.ticket % WINDOW_MAX];
        timeout_us = 0;
        if (!slot->busy)
            continue;
        if (receipt.code == 0)
            acked(slot, "native", receipt.queue_id, receipt.queue_offset);
        else
            printf("refused %s-%" PRIu64 " %d\n", prefix, slot->number, receipt.code);
        slot->busy = false;
        --*waiting;
    }
}

static int run_native(char *place)
{
    char *slash = strrchr(place, '/');
    if (!slash)
        return 64;
    *slash = '\0';
    pintle_producer *producer;
    int r = pintle_producer_open(place, slash + 1, "kill_producer", &producer);
    if (r < 0) {
        fprintf(stderr, "kill_producer: attach: %s\n", strerror(-r));
        return 74;
    }
    unsigned waiting = 0;
    int64_t end_ms = 0;
    while (end_ms == 0 || (waiting && clock_monotonic_ms() < end_ms)) {
        while (end_ms == 0 && waiting < window && is_due()) {
            char key[128];
            int size = snprintf(key, sizeof key, "%s-%" PRIu64, prefix, next_number);
            pintle_message message = {.topic = topic, .tags = "N", .keys = key, .body = key, .body_size = (size_t)size,
                                      .queue_id = -1};
            uint64_t ticket;
            int64_t start_ns = clock_monotonic_ns();
            r = pintle_send(producer, &message, &ticket);
            if (r == -EAGAIN)
                break;
            if (r < 0)
                return fprintf(stderr, "kill_producer: send: %s\n", strerror(-r)), 74;
            native_slots[ticket % WINDOW_MAX] = (struct slot){next_number, start_ns, true};
            waiting++;
            sent_one();
        }
        if (waiting)
            take_receipts(producer, &waiting, waiting < window ? until_due_us(20000) : 20000);
        else
            usleep((useconds_t)until_due_us(20000));
        fflush(stdout);
        if (end_ms == 0 && input_ended())
            end_ms = clock_monotonic_ms() + DRAIN_MS;
    }
    print_open_slots(native_slots, "unanswered");
    pintle_producer_close(producer);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: kill_producer tcp NAMESRVS|native RUNTIME_DIR/BROKER TOPIC PREFIX [WINDOW [RATE]]\n");
        return 64;
    }
    topic = argv[3];
    prefix = argv[4];
    if (argc > 5)
        window = (unsigned)atoi(argv[5]);
    if (argc > 6 && atoi(argv[6]) > 0)
        interval_ns = 1000000000 / atoi(argv[6]);
    if (window == 0 || window > WINDOW_MAX / 2)
        return 64;
    int r = strcmp(argv[1], "tcp") == 0 ? run_tcp(argv[2]) : strcmp(argv[1], "native") == 0 ? run_native(argv[2]) : 64;
    printf("end %" PRId64 "\n", longest_ns / 1000);
    return r;
}
