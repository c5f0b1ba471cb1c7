/*
 * loadgen: the project's own load generator. One thread, one epoll, the remoting protocol by itself; so little work per
 * message that the servers are what is measured, and nothing taken for granted: each answer is matched to its request
 * and checked by the mode. Prints one line of JSON. Exit status: 0 all answers good, 2 some were not, 1 no result.
 *
 *   loadgen send      (--namesrv H:P | --broker H:P [--broker H:P ...]) --topic T (--seconds S | --count N)
 *                     [--connections 8] [--outstanding 16] [--body 1024] [--queues 4] [--pin CPU]
 *   loadgen pull      the same; --batch 32
 *   loadgen topics|groups|routes, with --many N for routes: see mode_admin.c
 *   loadgen first-ack --namesrv H:P --topic T [--timeout-ms 60000]
 *   loadgen new-route --namesrv H:P --topic T --count N
 *   loadgen idle|idle-consumers --connections N: holds them until its standard input ends
 *
 * The load ends when its time or count is over; what is outstanding then is waited for (--timeout-ms) and belongs to
 * the result. Fatal: a connection that breaks, a frame that is none; a benchmark has nothing to say about those.
 */
#include "load.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    IN_SIZE_START = 512 * 1024, /* more than a pull of 256 KiB, the most that servers put into one answer */
    EVENTS_PER_TURN = 64,
    EXIT_BAD_ANSWERS = 2,
    EXIT_USAGE = 64,
    TOPIC_LEN_MAX = 127,
};

static _Noreturn void die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("loadgen: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

int64_t clock_now_ns(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

void put_digits(char *out, unsigned digit_count, uint64_t value)
{
    for (unsigned i = digit_count; i-- > 0; value /= 10)
        out[i] = (char)('0' + value % 10);
}

unsigned load_opaque(const struct slot *slot, unsigned slot_index)
{
    return OPAQUE_BASE + slot->generation % 1000000 * LOAD_OUTSTANDING_MAX + slot_index;
}

static void note_first_error(struct load *load, const char *text, size_t text_len)
{
    if (load->first_error[0])
        return;
    if (text_len >= sizeof(load->first_error))
        text_len = sizeof(load->first_error) - 1;
    for (size_t i = 0; i < text_len; i++) /* goes into a JSON string as it is */
        load->first_error[i] = (char)(text[i] == '"' || text[i] == '\\' || text[i] < ' ' ? '.' : text[i]);
}

void load_count_error(struct load *load, int code, const char *text, size_t text_len)
{
    unsigned i = 0;

    note_first_error(load, text_len ? text : "(no remark)", text_len ? text_len : 11);
    while (i < load->error_kinds && load->errors[i].code != code)
        i++;
    if (i == LOAD_CODES_MAX)
        die("answers with more than %d different codes", LOAD_CODES_MAX);
    if (i == load->error_kinds)
        load->errors[load->error_kinds++].code = code;
    load->errors[i].count++;
}

void load_count_bad(struct load *load, const char *text)
{
    note_first_error(load, text, strlen(text));
    load->bad++;
}

static void read_clocks(struct load *load)
{
    load->now_ns = clock_now_ns(CLOCK_MONOTONIC);
    load->wall_ms = clock_now_ns(CLOCK_REALTIME_COARSE) / 1000000;
}

static void open_connections(struct load *load)
{
    const struct options *o = &load->options;

    load->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    load->connections = calloc(o->connection_count, sizeof(*load->connections));
    if (load->epoll_fd < 0 || !load->connections)
        die("no epoll or no memory");
    for (unsigned i = 0; i < o->connection_count; i++) {
        struct connection *c = &load->connections[i];
        c->index = i;
        c->broker = i % o->broker_count;
        c->in_size = IN_SIZE_START;
        c->in = malloc(c->in_size);
        c->slots = calloc(o->outstanding, sizeof(*c->slots));
        c->fd = remoting_connect(&o->broker[c->broker], o->timeout_ms);
        if (!c->in || !c->slots)
            die("out of memory");
        if (c->fd < 0)
            die("connect: %s", strerror(-c->fd));
    }
}

static void watch(struct load *load, struct connection *c, int operation, bool wants_write)
{
    struct epoll_event event = {.events = EPOLLIN | (wants_write ? EPOLLOUT : 0), .data.ptr = c};

    if (epoll_ctl(load->epoll_fd, operation, c->fd, &event) < 0)
        die("epoll_ctl: %s", strerror(errno));
    c->wants_write = wants_write;
}

static void flush_out(struct load *load, struct connection *c)
{
    while (c->out_pos < c->out_len) {
        ssize_t n = send(c->fd, c->out + c->out_pos, c->out_len - c->out_pos, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0 && errno != EINTR)
            die("connection %u: send: %s", c->index, strerror(errno));
        c->out_pos += n > 0 ? (size_t)n : 0;
    }
    if (c->out_pos == c->out_len)
        c->out_pos = c->out_len = 0;
    if (c->wants_write != (c->out_len > 0))
        watch(load, c, EPOLL_CTL_MOD, c->out_len > 0);
}

static void fill(struct load *load, struct connection *c)
{
    const struct options *o = &load->options;

    /* Only an empty buffer is filled: so it needs room for each slot once and never moves bytes. */
    if (c->out_len > 0 || load->stopping || c->busy_count == o->outstanding)
        return;
    for (unsigned i = 0; i < o->outstanding; i++) {
        struct slot *slot = &c->slots[i];
        if (slot->busy)
            continue;
        if (o->message_count > 0 && load->requested == o->message_count)
            break;
        slot->generation++;
        if (!load->mode->request(load, c, i))
            break;
        slot->busy = true;
        slot->sent_ns = load->now_ns;
        c->busy_count++;
        load->requested++;
    }
}

static void take_frame(struct load *load, struct connection *c, const struct frame *frame)
{
    if (!(frame->flag & 1)) {
        load->server_requests++;
        return;
    }
    int64_t slot_index = (frame->opaque - OPAQUE_BASE) % LOAD_OUTSTANDING_MAX;
    struct slot *slot = slot_index >= 0 && slot_index < load->options.outstanding ? &c->slots[slot_index] : NULL;
    if (!slot || !slot->busy || frame->opaque != load_opaque(slot, (unsigned)slot_index)) {
        load->stray++;
        return;
    }
    histogram_record(&load->latency, load->now_ns - slot->sent_ns);
    load->mode->answer(load, c, slot, frame);
    slot->busy = false;
    c->busy_count--;
    load->answered++;
}

static void read_in(struct load *load, struct connection *c)
{
    ssize_t n = recv(c->fd, c->in + c->in_len, c->in_size - c->in_len, MSG_DONTWAIT);
    size_t pos = 0;

    if (n == 0)
        die("connection %u: closed by the server", c->index);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0)
        die("connection %u: recv: %s", c->index, strerror(errno));
    read_clocks(load);
    c->in_len += (size_t)n;
    for (;;) {
        struct frame frame;
        int64_t size = remoting_parse(c->in + pos, c->in_len - pos, &frame);
        if (size < 0)
            die("connection %u: an answer that is no frame", c->index);
        if (size == 0)
            break;
        take_frame(load, c, &frame);
        pos += (size_t)size;
    }
    c->in_len -= pos;
    memmove(c->in, c->in + pos, c->in_len);
    if (c->in_len == c->in_size) {
        c->in_size *= 2;
        c->in = realloc(c->in, c->in_size);
        if (!c->in || c->in_size > 2 * (size_t)REMOTING_FRAME_MAX)
            die("out of memory");
    }
}

static uint64_t outstanding_total(const struct load *load)
{
    return load->requested - load->answered;
}

static bool time_is_over(const struct load *load)
{
    const struct options *o = &load->options;

    return (o->seconds > 0 && load->now_ns - load->begin_ns >= (int64_t)(o->seconds * 1e9)) ||
           (o->message_count > 0 && load->requested == o->message_count);
}

static void run(struct load *load)
{
    struct epoll_event events[EVENTS_PER_TURN];
    int64_t stop_ns = 0;

    for (unsigned i = 0; i < load->options.connection_count; i++)
        watch(load, &load->connections[i], EPOLL_CTL_ADD, false);
    int64_t cpu_begin_ns = clock_now_ns(CLOCK_PROCESS_CPUTIME_ID);
    read_clocks(load);
    load->begin_ns = load->now_ns;
    for (unsigned i = 0; i < load->options.connection_count; i++) {
        fill(load, &load->connections[i]);
        flush_out(load, &load->connections[i]);
    }
    for (;;) {
        int n = epoll_wait(load->epoll_fd, events, EVENTS_PER_TURN, 100);
        if (n < 0 && errno != EINTR)
            die("epoll_wait: %s", strerror(errno));
        read_clocks(load);
        if (!load->stopping && time_is_over(load)) {
            load->stopping = true;
            stop_ns = load->now_ns;
        }
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (events[i].events & ~(unsigned)EPOLLOUT)
                read_in(load, c);
            fill(load, c);
            flush_out(load, c);
        }
        if (load->stopping && outstanding_total(load) == 0)
            break;
        if (load->stopping && load->now_ns - stop_ns > (int64_t)load->options.timeout_ms * 1000000)
            break;
    }
    read_clocks(load);
    load->end_ns = load->now_ns;
    load->own_cpu_ns = clock_now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_begin_ns;
    load->unanswered = outstanding_total(load);
}

static double latency_us(const struct load *load, double share)
{
    return (double)histogram_percentile(&load->latency, share) / 1e3;
}

static void report(const struct load *load)
{
    const struct options *o = &load->options;
    double seconds = (double)(load->end_ns - load->begin_ns) / 1e9;

    printf("{\"mode\":\"%s\",\"connections\":%u,\"outstanding\":%u,\"body_bytes\":%zu,\"queues\":%u,\"pin_cpu\":%d,"
           "\"seconds\":%.3f,\"requests\":%llu,\"messages\":%llu,\"rate_per_s\":%.0f,\"mib_per_s\":%.1f,",
           load->mode->name, o->connection_count, o->outstanding, o->body_size, o->queue_count, o->pin_cpu, seconds,
           (unsigned long long)load->answered, (unsigned long long)load->messages, (double)load->messages / seconds,
           (double)load->body_bytes / seconds / 1048576);
    printf("\"latency_us\":{\"p50\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f},\"own_cpu_us_per_message\":%.3f,",
           latency_us(load, 0.5), latency_us(load, 0.99), latency_us(load, 0.999), (double)load->latency.max_ns / 1e3,
           (double)load->own_cpu_ns / 1e3 / (double)(load->messages ? load->messages : 1));
    printf("\"not_found\":%llu,\"server_requests\":%llu,\"bad\":%llu,\"stray\":%llu,\"unanswered\":%llu,\"errors\":{",
           (unsigned long long)load->not_found, (unsigned long long)load->server_requests,
           (unsigned long long)load->bad, (unsigned long long)load->stray, (unsigned long long)load->unanswered);
    for (unsigned i = 0; i < load->error_kinds; i++)
        printf("%s\"%d\":%llu", i ? "," : "", load->errors[i].code, (unsigned long long)load->errors[i].count);
    printf("},\"first_error\":\"%s\"}\n", load->first_error);
}

static int mode_load(const struct options *options, const struct mode *mode)
{
    static struct load load;

    load.options = *options;
    load.mode = mode;
    read_clocks(&load);
    open_connections(&load);
    int r = mode->prepare(&load);
    if (r < 0)
        die("cannot prepare: %s", strerror(-r));
    run(&load);
    report(&load);
    if (load.messages == 0)
        return 1;
    return load.error_kinds || load.bad || load.stray || load.unanswered ? EXIT_BAD_ANSWERS : 0;
}

static _Noreturn void usage(const char *why)
{
    fprintf(stderr,
            "loadgen: %s\n"
            "usage: loadgen send|pull (--namesrv H:P | --broker H:P ...) --topic T (--seconds S | --count N) "
            "[--connections N]\n"
            "               [--outstanding N] [--body BYTES] [--queues 1-8] [--batch N] [--group G] [--pin CPU]\n"
            "               [--timeout-ms N]\n"
            "       loadgen topics|groups|routes ... --count N [--many N]\n"
            "       loadgen first-ack --namesrv H:P --topic T [--timeout-ms N]\n"
            "       loadgen new-route --namesrv H:P --topic T --count N\n"
            "       loadgen idle|idle-consumers --namesrv H:P --topic T --connections N\n",
            why);
    exit(EXIT_USAGE);
}

static unsigned long number(const char *text, unsigned long min, unsigned long max, const char *name)
{
    char *end, why[128];
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);

    if (end == text || *end || errno || *text == '-' || value < min || value > max) {
        snprintf(why, sizeof(why), "--%s takes a number from %lu to %lu", name, min, max);
        usage(why);
    }
    return value;
}

static void take_option(struct options *o, int which, const char *name, const char *text)
{
    switch (which) {
    case 'B':
        if (o->broker_count == LOAD_BROKERS_MAX || remoting_parse_address(text, &o->broker[o->broker_count++]) < 0)
            usage("--broker takes 127.0.0.1:10911, up to eight times");
        break;
    case 'n':
        o->namesrv = text;
        break;
    case 't':
        o->topic = text;
        break;
    case 'g':
        o->group = text;
        break;
    case 'c':
        o->connection_count = (unsigned)number(text, 1, LOAD_CONNECTIONS_MAX, name);
        break;
    case 'o':
        o->outstanding = (unsigned)number(text, 1, LOAD_OUTSTANDING_MAX, name);
        break;
    case 'b':
        o->body_size = number(text, 1, 8 * 1024 * 1024, name);
        break;
    case 'q':
        o->queue_count = (unsigned)number(text, 1, LOAD_QUEUES_MAX, name);
        break;
    case 'm':
        o->pull_batch = (unsigned)number(text, 1, 1024, name);
        break;
    case 'N':
        o->message_count = number(text, 1, 1ul << 40, name);
        break;
    case 'M':
        o->many = (unsigned)number(text, 1, 1000000, name);
        break;
    case 's':
        o->seconds = (double)number(text, 1, 86400, name);
        break;
    case 'p':
        o->pin_cpu = (int)number(text, 0, 1023, name);
        break;
    case 'T':
        o->timeout_ms = (int)number(text, 1, 3600000, name);
        break;
    default:
        usage("unknown option");
    }
}

static struct options parse_options(int argc, char **argv)
{
    static const struct option table[] = {
        {"broker", 1, 0, 'B'},     {"namesrv", 1, 0, 'n'},
        {"topic", 1, 0, 't'},      {"group", 1, 0, 'g'},
        {"body", 1, 0, 'b'},       {"connections", 1, 0, 'c'},
        {"queues", 1, 0, 'q'},     {"outstanding", 1, 0, 'o'},
        {"batch", 1, 0, 'm'},      {"seconds", 1, 0, 's'},
        {"count", 1, 0, 'N'},      {"pin", 1, 0, 'p'},
        {"timeout-ms", 1, 0, 'T'}, {"many", 1, 0, 'M'},
        {0},
    };
    struct options o = {
        .group = "bench_group",
        .connection_count = 8,
        .outstanding = 16,
        .queue_count = 4,
        .pull_batch = 32,
        .many = 1,
        .body_size = 1024,
        .pin_cpu = -1,
        .timeout_ms = 10000,
    };
    int which, index = 0;

    while ((which = getopt_long(argc, argv, "", table, &index)) != -1)
        take_option(&o, which, which == '?' ? "" : table[index].name, optarg);
    if (optind != argc - 1)
        usage("one mode is wanted");
    o.mode = argv[optind];
    if (!o.topic || !*o.topic || strlen(o.topic) > TOPIC_LEN_MAX || strlen(o.group) > TOPIC_LEN_MAX)
        usage("--topic is missing, or a name is too long");
    return o;
}

static void find_brokers(struct options *o)
{
    struct sockaddr_in namesrv;

    if (remoting_parse_address(o->namesrv, &namesrv) < 0)
        usage("--namesrv takes 127.0.0.1:9876");
    int r = remoting_find_masters(&namesrv, o->topic, o->timeout_ms, o->broker, LOAD_BROKERS_MAX);
    if (r < 0)
        die("no route from %s: %s", o->namesrv, strerror(-r));
    o->broker_count = (unsigned)r;
}

static const struct mode *const modes[] = {&mode_send, &mode_pull, &mode_topics, &mode_groups, &mode_routes};

int main(int argc, char **argv)
{
    struct options o = parse_options(argc, argv);

    if (o.pin_cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(o.pin_cpu, &set);
        if (sched_setaffinity(0, sizeof(set), &set) < 0)
            die("--pin %d: %s", o.pin_cpu, strerror(errno));
    }
    if (strcmp(o.mode, "first-ack") == 0) {
        if (!o.namesrv)
            usage("first-ack needs --namesrv");
        return mode_first_ack(&o);
    }
    if (o.broker_count == 0 && o.namesrv)
        find_brokers(&o);
    if (o.broker_count == 0)
        usage("--broker or --namesrv is missing");
    if (strcmp(o.mode, "idle") == 0)
        return mode_idle(&o, false);
    if (strcmp(o.mode, "idle-consumers") == 0)
        return mode_idle(&o, true);
    if (o.seconds == 0 && o.message_count == 0)
        usage("--seconds or --count is missing");
    if (strcmp(o.mode, "new-route") == 0 && o.namesrv)
        return mode_new_route(&o);
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
        if (strcmp(o.mode, modes[i]->name) == 0)
            return mode_load(&o, modes[i]);
    usage("there is no such mode");
}
