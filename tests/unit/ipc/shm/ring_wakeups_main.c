/* Wake-up rounds between two processes without a lost one.
 *     ring_wakeups [--rounds N]
 * One round: one side publishes (or releases) once and rings the bell if it sees a sleeper; the other side takes it,
 * and that is told back through a plain shared word for which nobody sleeps. So a lost wake-up is not covered up by the
 * next one: the sleeper would sleep for ever, and a minute's silence with something there is counted as lost. Both
 * sides wait a random moment before they publish and before they go to sleep, so that the two meet at every distance,
 * most often within some nanoseconds. Half of the rounds are the reader's sleep, half the writer's (for room). The rule
 * with the fences left out loses one within a second. */
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/panic.h"
#include "ring_pair.h"

enum {
    CAPACITY = 4096,
    SILENCE_MS = 60000,
    PAYLOAD = CAPACITY / 4 * 3 - 16, /* one record fills the ring: each needs the release of the one before */
};

struct tally {
    uint64_t announced; /* the flag was set because nothing was there */
    uint64_t slept;     /* … and the second look found nothing */
};

struct meeting {
    _Atomic uint64_t done; /* rounds that the sleeping side has finished */
    uint8_t pad[120];
    struct tally data, space;
};

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void wait_a_moment(uint64_t *random)
{
    uint64_t turns = next_random(random) % 64;
    for (volatile uint64_t i = 0; i < turns; i++)
        continue;
}

/* The side that is awake waits for the other one's word; it gives its core away now and then, for there may be one
 * only. */
static void await_done(struct meeting *meeting, uint64_t round)
{
    for (unsigned turns = 1; atomic_load_explicit(&meeting->done, memory_order_acquire) < round; turns++)
        if (turns % 4096 == 0)
            sched_yield();
}

static int watch(int fd)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    pn_assert(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0);
    return epoll;
}

/* True if the bell rang in time. Most rounds look for the bell a few times before they block in the kernel: the rule is
 * the same, but a round costs one microsecond and not ten. */
static bool sleep_on(int epoll, uint64_t round)
{
    struct epoll_event event;
    for (int looks = round % 16 ? 16 : 0; looks > 0; looks--)
        if (epoll_wait(epoll, &event, 1, 0) > 0)
            return true;
    int64_t end_ms = clock_monotonic_ms() + SILENCE_MS;
    for (;;) {
        int n = epoll_wait(epoll, &event, 1, SILENCE_MS);
        if (n > 0)
            return true;
        if ((n < 0 && errno != EINTR) || clock_monotonic_ms() >= end_ms)
            return false;
    }
}

static _Noreturn void lost(const char *whose, uint64_t round, bool there)
{
    fprintf(stderr, "%s wake-up of round %lu %s\n", whose, (unsigned long)round,
            there ? "is lost" : "did not come: the other side stood still");
    _exit(1);
}

/* Rounds first..last: the reader sleeps for records, the writer waits awake. */
static void read_asleep(struct ring_reader *reader, struct meeting *meeting, uint64_t first, uint64_t last)
{
    uint64_t random = 0x1234567;
    int epoll = watch(reader->fds.data);
    for (uint64_t round = first; round <= last; round++) {
        struct ring_view view;
        int r;
        while ((r = ring_peek(reader, &view)) == 0) {
            wait_a_moment(&random);
            meeting->data.announced++;
            if (!ring_may_sleep(reader))
                continue;
            meeting->data.slept++;
            if (!sleep_on(epoll, round))
                lost("a reader's", round, ring_peek(reader, &view) != 0);
        }
        pn_assert(r == 1);
        ring_next(reader, &view);
        ring_release_to(reader, reader->next_pos);
        atomic_store_explicit(&meeting->done, round, memory_order_release);
    }
    close(epoll);
}

static void write_awake(struct ring_writer *writer, struct meeting *meeting, uint64_t first, uint64_t last)
{
    uint64_t random = 0x7654321;
    for (uint64_t round = first; round <= last; round++) {
        pn_assert(ring_reserve(writer, 1, 0, 8, NULL));
        wait_a_moment(&random);
        ring_publish(writer);
        ring_wake_reader(writer);
        await_done(meeting, round);
    }
}

/* Rounds first..last: the writer sleeps for room, the reader waits awake until the writer has filled the ring. */
static void write_asleep(struct ring_writer *writer, struct meeting *meeting, uint64_t first, uint64_t last)
{
    uint64_t random = 0x2345678;
    int epoll = watch(writer->fds.space);
    for (uint64_t round = first; round <= last; round++) {
        while (!ring_reserve(writer, 1, 0, PAYLOAD, NULL)) {
            wait_a_moment(&random);
            meeting->space.announced++;
            if (ring_want_room(writer, PAYLOAD))
                continue;
            meeting->space.slept++;
            if (!sleep_on(epoll, round))
                lost("a writer's", round, ring_room(writer) >= PAYLOAD + 16);
        }
        ring_publish(writer);
        atomic_store_explicit(&meeting->done, round, memory_order_release);
    }
    close(epoll);
}

static void read_awake(struct ring_reader *reader, struct meeting *meeting, uint64_t first, uint64_t last)
{
    uint64_t random = 0x8765432;
    for (uint64_t round = first; round <= last; round++) {
        await_done(meeting, round);
        struct ring_view view;
        pn_assert(ring_peek(reader, &view) == 1);
        ring_next(reader, &view);
        wait_a_moment(&random);
        ring_release_to(reader, reader->next_pos);
    }
}

static void print_tally(const char *side, uint64_t rounds, const struct tally *tally, int64_t duration_ns)
{
    printf("ring wake-ups, %s: %lu rounds, %lu announced, %lu slept, 0 lost; %.1f s, %.2f us a round\n", side,
           (unsigned long)rounds, (unsigned long)tally->announced, (unsigned long)tally->slept,
           (double)duration_ns / 1e9, (double)duration_ns / 1e3 / (double)rounds);
}

static int run(uint64_t rounds)
{
    struct meeting *meeting = mmap(NULL, sizeof *meeting, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pn_assert(meeting != MAP_FAILED);
    struct ring_pair pair;
    ring_pair_open(&pair, CAPACITY);
    uint64_t half = rounds / 2;
    int64_t began_ns = clock_monotonic_ns();
    fflush(NULL);
    pid_t writer = fork();
    pn_assert(writer >= 0);
    if (writer == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        write_awake(&pair.writer, meeting, 1, half);
        write_asleep(&pair.writer, meeting, half + 1, rounds);
        _exit(0);
    }
    pid_t reader = fork();
    pn_assert(reader >= 0);
    if (reader == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        read_asleep(&pair.reader, meeting, 1, half);
        int64_t half_ns = clock_monotonic_ns();
        print_tally("reader asleep", half, &meeting->data, half_ns - began_ns);
        read_awake(&pair.reader, meeting, half + 1, rounds);
        print_tally("writer asleep", rounds - half, &meeting->space, clock_monotonic_ns() - half_ns);
        fflush(NULL);
        _exit(0);
    }
    /* One failed child ends the run: the other would wait for it for ever. */
    int failed = 0;
    for (int left = 2; left > 0; left--) {
        int status;
        pid_t pid = waitpid(-1, &status, 0);
        pn_assert(pid > 0);
        if (status != 0 && !failed) {
            failed = 1;
            kill(pid == writer ? reader : writer, SIGKILL);
        }
    }
    if (!failed && atomic_load(&meeting->done) == rounds)
        printf("%lu wake-up rounds, 0 lost, in %.1f s\n", (unsigned long)rounds,
               (double)(clock_monotonic_ns() - began_ns) / 1e9);
    ring_pair_close(&pair);
    return failed;
}

int main(int argc, char **argv)
{
#if defined __SANITIZE_THREAD__ || defined __SANITIZE_ADDRESS__
    unsigned long rounds = 400000;
#else
    unsigned long rounds = 10000000; /* half a minute where nothing else runs */
#endif
    static const struct option options[] = {{"rounds", required_argument, NULL, 'r'}, {NULL, 0, NULL, 0}};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option != 'r') {
            fprintf(stderr, "usage: %s [--rounds N]\n", argv[0]);
            return 64;
        }
        rounds = strtoul(optarg, NULL, 10);
    }
    if (rounds < 2)
        rounds = 2;
    return run(rounds);
}
