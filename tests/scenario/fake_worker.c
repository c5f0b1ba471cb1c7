/* A worker that does nothing but keep the contract: takes its grants, says hello and ready, turns its loop, stops when
 * asked. It stands for every kind of worker, so that the supervisor can be tested alone (copies of it are named
 * pintle-store, pintle-front, pintle-namesrv). It writes each grant as a line to $FAKE_TRACE. A file
 * $FAKE_ORDERS/ROLE holds one word that tells how this process misbehaves: exit-74 (cannot start), die (before ready),
 * mute (never says ready), abort (a second after ready), spin (hangs after ready), deaf (ignores stop). */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/panic.h"
#include "bus/bus.h"
#include "bus/bus_msg.h"
#include "contract.h"
#include "fd/fd_channel.h"
#include "shm/board.h"

struct fake {
    sd_event *event;
    struct bus *bus;
    struct board *board;
    const char *name;
    uint64_t generation;
    char order[32];
    FILE *trace;
    int life_line;
    bool done;
};

static void read_order(struct fake *fake)
{
    const char *folder = getenv("FAKE_ORDERS");
    char path[4096];
    snprintf(path, sizeof path, "%s/%.*s", folder ? folder : "", (int)strcspn(fake->name, " "), fake->name);
    FILE *file = fopen(path, "r");
    if (!file)
        return;
    if (fscanf(file, "%31s", fake->order) != 1)
        fake->order[0] = 0;
    fclose(file);
}

static bool is_ordered(const struct fake *fake, const char *order)
{
    return strcmp(fake->order, order) == 0;
}

/* 1: took one, 0: closed. */
static int take_grant(struct fake *fake)
{
    struct fd_grant grant;
    int fds[FD_GRANT_FDS_MAX];
    unsigned count = 0;
    int r = fd_channel_receive(CONTRACT_FD_CHANNEL, &grant, fds, &count);
    if (r <= 0)
        return r;
    fprintf(fake->trace, "%s gen=%llu %s index=%u generation=%llu arg=%llu fds=%u name=%s\n", fake->name,
            (unsigned long long)fake->generation, grant_kind_name(grant.kind), grant.index,
            (unsigned long long)grant.generation, (unsigned long long)grant.arg, count, grant.name);
    fflush(fake->trace);
    if (grant.kind == GRANT_BOARD && board_attach(fds[0], true, &fake->board) < 0)
        exit(EXIT_CODE_IO);
    if (grant.kind == GRANT_LIFE_LINE)
        fake->life_line = fds[0];
    fake->done |= grant.kind == GRANT_DONE;
    return 1;
}

static int say(struct fake *fake, struct bytes message)
{
    int r = bus_send(fake->bus, (struct bytes){0}, message);
    free((void *)message.data);
    return r;
}

static int say_hello(struct fake *fake)
{
    struct bus_hello hello = {bytes_of(fake->name), fake->generation, getpid()};
    struct bytes message;
    pn_assert(bus_msg_encode_hello(&hello, &message) == 0);
    return say(fake, message);
}

static void say_ready(struct fake *fake)
{
    struct bytes message;
    pn_assert(bus_msg_encode_plain(BUS_READY, &message) == 0);
    say(fake, message);
}

static void on_message(void *context, struct bytes peer, struct bytes message)
{
    struct fake *fake = context;
    enum bus_msg_kind kind;
    if (bus_msg_kind(message, &kind) == 0 && kind == BUS_STOP && !is_ordered(fake, "deaf"))
        sd_event_exit(fake->event, 0);
}

static int on_grant(sd_event_source *source, int fd, uint32_t events, void *context)
{
    return take_grant(context) == 0 ? sd_event_source_set_enabled(source, SD_EVENT_OFF) : 0;
}

/* The only sign by which a worker learns that nobody will come back. */
static int on_life_line(sd_event_source *source, int fd, uint32_t events, void *context)
{
    return sd_event_exit(sd_event_source_get_event(source), 0);
}

/* Until the bus is there. */
static int on_hello_timer(sd_event_source *source, uint64_t usec, void *context)
{
    struct fake *fake = context;
    if (say_hello(fake) == 0) {
        if (!is_ordered(fake, "mute"))
            say_ready(fake);
        return 0;
    }
    sd_event_source_set_time_relative(source, 1000);
    return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static int on_tick(sd_event_source *source, uint64_t usec, void *context)
{
    struct fake *fake = context;
    atomic_fetch_add(&fake->board->progress, 1);
    if (is_ordered(fake, "abort"))
        PANIC("ordered to abort");
    if (is_ordered(fake, "spin")) {
        board_set_state(fake->board, BOARD_RUNNING);
        for (;;)
            atomic_fetch_add_explicit(&fake->board->counters[0], 1, memory_order_relaxed);
    }
    sd_event_source_set_time_relative(source, 200000);
    return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

int main(void)
{
    struct fake fake = {.name = getenv(CONTRACT_ENV_WORKER)};
    const char *generation = getenv(CONTRACT_ENV_GENERATION), *trace = getenv("FAKE_TRACE");
    if (!fake.name || !generation)
        return EXIT_CODE_USAGE;
    log_init(fake.name, LOG_LEVEL_INFO);
    fake.generation = strtoull(generation, NULL, 10);
    fake.trace = fopen(trace ? trace : "/dev/null", "a");
    read_order(&fake);
    if (is_ordered(&fake, "exit-74"))
        log_fatal(EXIT_CODE_IO, "ordered to refuse");
    if (is_ordered(&fake, "die"))
        raise(SIGKILL);
    while (!fake.done) {
        struct pollfd poll_fd = {.fd = CONTRACT_FD_CHANNEL, .events = POLLIN};
        poll(&poll_fd, 1, CONTRACT_GRANTS_TIMEOUT_MS);
        if (take_grant(&fake) <= 0)
            return EXIT_CODE_IO;
    }
    board_begin(fake.board, fake.generation);
    panic_set_last_words(fake.board->last_words, sizeof fake.board->last_words);
    board_set_state(fake.board, BOARD_ASLEEP);
    if (sd_event_default(&fake.event) < 0 ||
        bus_connect(fake.event, getenv(CONTRACT_ENV_RUNTIME_DIR), CONTRACT_BUS_SUPERVISOR, fake.name, on_message, &fake,
                    &fake.bus) < 0)
        return EXIT_CODE_IO;
    sd_event_add_io(fake.event, NULL, CONTRACT_FD_CHANNEL, EPOLLIN, on_grant, &fake);
    sd_event_add_io(fake.event, NULL, fake.life_line, EPOLLHUP, on_life_line, &fake);
    sd_event_add_time_relative(fake.event, NULL, CLOCK_MONOTONIC, 200000, 0, on_tick, &fake);
    sd_event_add_time_relative(fake.event, NULL, CLOCK_MONOTONIC, 0, 1, on_hello_timer, &fake);
    int r = sd_event_loop(fake.event);
    bus_free(fake.bus);
    return r < 0 ? 1 : r;
}
