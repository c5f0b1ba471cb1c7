/* Writer and reader of one ring killed with -9 at random, thousands of times; nothing may be lost, torn or doubled.
 *     ring_kills [--rounds N] [--seed N]
 * The parent makes the ring and a home page and keeps both, as the supervisor does. A record is made of its position
 * alone (size and every byte), so a writer that starts again at write_pos knows what comes next, and whoever reads
 * knows what must be there.
 *
 * What the reader has consumed has a home that survives it: {position behind it, count, chained sum over every byte},
 * in two slots of which a selector names the valid one. So one store makes "position p is consumed" and its effects
 * true together, as the store's ledger does; only then are the bytes released. A reader killed between the two finds
 * its home ahead of read_pos and seeks over what it has consumed: the only re-reading there is. In the end count and
 * sum must be those of the whole sequence from position 0: a record lost or consumed twice changes both. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/panic.h"
#include "ring_pair.h"

enum {
    CAPACITY = 64 * 1024,
    PAYLOAD_MAX = 6000,
    SILENCE_MS = 30000,
    MOMENT_MAX_US = 8000,
};

enum child_exit { CHILD_DONE = 0, CHILD_BAD_RECORD = 10, CHILD_SILENCE = 11, CHILD_BAD_SEEK = 12 };

struct consumed {
    uint64_t end_pos, count, sum;
};

struct home {
    struct consumed slots[2];
    _Atomic uint32_t valid;   /* index of the slot that holds */
    _Atomic uint32_t stop;    /* parent → writer: publish what you have and end */
    _Atomic uint64_t end_pos; /* writer → reader, after stop: the last position; 0 while it runs */
    /* How often a death met an interesting place. */
    _Atomic uint64_t seeks, half_written;
};

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t z = (a ^ b) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static size_t payload_size(uint64_t pos)
{
    uint64_t z = mix(pos, 0x5157);
    return z % 16 ? z / 16 % 200 : z / 16 % PAYLOAD_MAX;
}

static uint64_t next_pos(uint64_t pos)
{
    return pos + (sizeof(struct ring_record) + payload_size(pos) + 7) / 8 * 8;
}

static uint64_t sum_record(uint64_t sum, uint64_t pos, const uint8_t *payload, size_t size)
{
    sum = mix(sum, pos);
    for (size_t i = 0; i < size; i++)
        sum = sum * 31 + payload[i];
    return sum;
}

static int watch(int fd)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    pn_assert(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0);
    return epoll;
}

static void sleep_on(int epoll)
{
    struct epoll_event event;
    int n = epoll_wait(epoll, &event, 1, SILENCE_MS);
    if (n == 0)
        _exit(CHILD_SILENCE); /* the peer lives or is restarted within milliseconds: a wake-up is lost */
}

/* Now and then a child lingers between two steps, so that many deaths fall exactly there. */
static void linger(uint64_t pos, uint64_t where)
{
    if (mix(pos, where) % 64 == 0)
        nanosleep(&(struct timespec){0, 300000}, NULL);
}

/* ---- children ---------------------------------------------------------------------------------------------------- */

static _Noreturn void write_records(const struct ring_fds *fds, struct home *home)
{
    struct ring_writer writer;
    pn_assert(ring_writer_attach(&writer, fds) == 0);
    int epoll = watch(writer.fds.space);
    /* What a predecessor made but did not publish lies behind write_pos and must not come to light. */
    uint64_t left_behind;
    memcpy(&left_behind, writer.data + (writer.published_pos & (CAPACITY - 1)) + 8, sizeof left_behind);
    if (left_behind == writer.published_pos && writer.published_pos != 0)
        atomic_fetch_add(&home->half_written, 1);

    while (!atomic_load_explicit(&home->stop, memory_order_relaxed)) {
        uint64_t pos = writer.reserve_pos, got_pos;
        size_t size = payload_size(pos);
        void *payload = ring_reserve(&writer, (uint16_t)mix(pos, 1), 0, size, &got_pos);
        if (payload) {
            pn_assert(got_pos == pos);
            ring_fill(payload, size, pos);
            if (mix(pos, 2) % 5)
                continue; /* more before it is published */
        }
        linger(pos, 5);
        ring_publish(&writer);
        linger(pos, 6);
        ring_wake_reader(&writer);
        if (!payload && !ring_want_room(&writer, size))
            sleep_on(epoll);
        if (mix(pos, 3) % 64 == 0)
            ring_writer_trim(&writer);
    }
    ring_publish(&writer);
    atomic_store(&home->end_pos, writer.published_pos);
    uint64_t one = 1;
    pn_assert(write(writer.fds.data, &one, sizeof one) == sizeof one);
    _exit(CHILD_DONE);
}

static struct consumed read_home(const struct home *home)
{
    return home->slots[atomic_load_explicit(&home->valid, memory_order_acquire)];
}

static void write_home(struct home *home, const struct consumed *consumed)
{
    uint32_t other = !atomic_load_explicit(&home->valid, memory_order_relaxed);
    home->slots[other] = *consumed;
    atomic_store_explicit(&home->valid, other, memory_order_release);
}

static _Noreturn void read_records(const struct ring_fds *fds, struct home *home)
{
    struct ring_reader reader;
    pn_assert(ring_reader_attach(&reader, fds) == 0);
    int epoll = watch(reader.fds.data);
    struct consumed consumed = read_home(home);
    if (consumed.end_pos != reader.next_pos)
        atomic_fetch_add(&home->seeks, 1);
    if (ring_reader_seek(&reader, consumed.end_pos) < 0)
        _exit(CHILD_BAD_SEEK); /* released without being consumed, or consumed without being published */
    ring_release_to(&reader, consumed.end_pos);

    for (unsigned batch = 0;;) {
        struct ring_view view;
        int r = ring_peek(&reader, &view);
        if (r < 0)
            _exit(CHILD_BAD_RECORD);
        if (r == 1) {
            uint64_t pos = consumed.end_pos;
            if (view.record.pos != pos || view.record.kind != (uint16_t)mix(pos, 1) ||
                view.payload_size != payload_size(pos) || !ring_filled(view.payload, view.payload_size, pos))
                _exit(CHILD_BAD_RECORD);
            consumed = (struct consumed){next_pos(pos), consumed.count + 1,
                                         sum_record(consumed.sum, pos, view.payload, view.payload_size)};
            ring_next(&reader, &view);
            if (++batch < 1 + mix(pos, 4) % 8)
                continue;
        }
        if (batch > 0) {
            linger(consumed.end_pos, 7);
            write_home(home, &consumed);
            linger(consumed.end_pos, 8);
            ring_release_to(&reader, consumed.end_pos);
            batch = 0;
            continue;
        }
        uint64_t end_pos = atomic_load(&home->end_pos);
        if (end_pos && end_pos == consumed.end_pos)
            _exit(CHILD_DONE);
        if (ring_may_sleep(&reader))
            sleep_on(epoll);
    }
}

/* ---- parent ------------------------------------------------------------------------------------------------------ */

struct run {
    struct ring_fds fds;
    struct home *home;
    pid_t writer, reader;
    uint64_t random;
    unsigned long writer_kills, reader_kills;
};

static uint64_t next_random(struct run *run)
{
    return run->random = mix(run->random, 0x9E3779B97F4A7C15u);
}

static pid_t start(struct run *run, void (*work)(const struct ring_fds *, struct home *))
{
    pid_t pid = fork();
    pn_assert(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        work(&run->fds, run->home);
    }
    return pid;
}

static const char *exit_text(int status)
{
    static char text[64];
    if (WIFSIGNALED(status))
        snprintf(text, sizeof text, "died of signal %d", WTERMSIG(status));
    else
        snprintf(text, sizeof text, "%s",
                 WEXITSTATUS(status) == CHILD_BAD_RECORD ? "found a wrong record"
                 : WEXITSTATUS(status) == CHILD_SILENCE  ? "was never woken"
                 : WEXITSTATUS(status) == CHILD_BAD_SEEK ? "found its home outside the ring"
                                                         : "ended");
    return text;
}

static _Noreturn void fail(struct run *run, const char *who, const char *what)
{
    fprintf(stderr, "after %lu + %lu kills: %s %s (consumed %lu records)\n", run->writer_kills, run->reader_kills, who,
            what, (unsigned long)read_home(run->home).count);
    if (run->writer > 0)
        kill(run->writer, SIGKILL);
    if (run->reader > 0)
        kill(run->reader, SIGKILL);
    exit(1);
}

/* A child that ended before our signal has found something. */
static void kill_child(struct run *run, pid_t *pid, const char *who)
{
    pid_t victim = *pid;
    int status;
    kill(victim, SIGKILL);
    pn_assert(waitpid(victim, &status, 0) == victim);
    *pid = 0;
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        fail(run, who, exit_text(status));
}

static void one_round(struct run *run)
{
    unsigned moment_us = (unsigned)(next_random(run) % MOMENT_MAX_US);
    nanosleep(&(struct timespec){0, moment_us * 1000L}, NULL);
    uint64_t victims = next_random(run) % 5; /* 0, 1: writer; 2, 3: reader; 4: both */
    if (victims <= 1 || victims == 4) {
        kill_child(run, &run->writer, "the writer");
        run->writer_kills++;
    }
    if (victims >= 2) {
        kill_child(run, &run->reader, "the reader");
        run->reader_kills++;
    }
    /* Whichever side is left: nothing is overwritten while we look, for either nobody writes or nobody releases. */
    if (ring_check(&run->fds) < 0)
        fail(run, "the ring", "does not pass its check");
    if (run->writer == 0)
        run->writer = start(run, write_records);
    if (run->reader == 0)
        run->reader = start(run, read_records);
}

static void finish(struct run *run)
{
    atomic_store(&run->home->stop, 1);
    int status;
    for (int i = 0; i < 2; i++) {
        pid_t pid = i == 0 ? run->writer : run->reader;
        pn_assert(waitpid(pid, &status, 0) == pid);
        *(i == 0 ? &run->writer : &run->reader) = 0;
        if (!WIFEXITED(status) || WEXITSTATUS(status) != CHILD_DONE)
            fail(run, i == 0 ? "the writer" : "the reader", exit_text(status));
    }
}

/* The whole sequence again, without a ring. */
static void compare(struct run *run)
{
    struct consumed got = read_home(run->home), expected = {0};
    static uint8_t payload[PAYLOAD_MAX];
    while (expected.end_pos < got.end_pos) {
        uint64_t pos = expected.end_pos;
        ring_fill(payload, payload_size(pos), pos);
        expected = (struct consumed){next_pos(pos), expected.count + 1,
                                     sum_record(expected.sum, pos, payload, payload_size(pos))};
    }
    if (got.end_pos != atomic_load(&run->home->end_pos) || expected.end_pos != got.end_pos)
        fail(run, "the reader", "did not end where the writer did");
    if (expected.count != got.count)
        fail(run, "the reader", "consumed another number of records than were written");
    if (expected.sum != got.sum)
        fail(run, "the reader", "consumed other bytes than were written");
}

int main(int argc, char **argv)
{
#if defined __SANITIZE_THREAD__ || defined __SANITIZE_ADDRESS__
    unsigned long rounds = 400;
#else
    unsigned long rounds = 2000;
#endif
    struct run run = {.random = (uint64_t)clock_realtime_ms()};
    static const struct option options[] = {
        {"rounds", required_argument, NULL, 'r'}, {"seed", required_argument, NULL, 's'}, {NULL, 0, NULL, 0}};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'r')
            rounds = strtoul(optarg, NULL, 10);
        else if (option == 's')
            run.random = strtoull(optarg, NULL, 10);
        else
            return fprintf(stderr, "usage: %s [--rounds N] [--seed N]\n", argv[0]), 64;
    }
    printf("seed %lu\n", (unsigned long)run.random);
    fflush(stdout);
    pn_assert(ring_create("kills", CAPACITY, 1, &run.fds) == 0);
    run.home = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pn_assert(run.home != MAP_FAILED);

    int64_t began_ms = clock_monotonic_ms();
    run.writer = start(&run, write_records);
    run.reader = start(&run, read_records);
    for (unsigned long i = 0; i < rounds; i++)
        one_round(&run);
    finish(&run);
    compare(&run);
    struct consumed got = read_home(run.home);
    if (got.count < rounds)
        fail(&run, "the ring", "hardly moved");
    printf(
        "%lu kills of the writer (%lu left a record unpublished), %lu of the reader (%lu had consumed more than it had "
        "released); %lu records, %lu MiB: 0 lost, 0 torn, 0 doubled; %.1f s\n",
        run.writer_kills, (unsigned long)run.home->half_written, run.reader_kills, (unsigned long)run.home->seeks,
        (unsigned long)got.count, (unsigned long)(got.end_pos >> 20), (double)(clock_monotonic_ms() - began_ms) / 1e3);
    return 0;
}
