/*
 * The load generator's insides, shared by its modes: options, connections, outstanding requests, results.
 * One thread and one epoll own everything here. A request occupies a slot of its connection from the moment it is
 * written until its answer is read; the opaque id is slot and generation, so that an answer that nobody waits for (or a
 * second one) is noticed and counted, never mistaken for another.
 */
#pragma once

#include "histogram.h"
#include "remoting.h"

enum {
    LOAD_BROKERS_MAX = 8,
    LOAD_CODES_MAX = 16,
    LOAD_QUEUES_MAX = 8, /* one digit in the header, and what TBW102 lets a client create */
    LOAD_OUTSTANDING_MAX = 1024,
    LOAD_CONNECTIONS_MAX = 20000,
};

struct options {
    const char *mode, *namesrv, *topic, *group;
    struct sockaddr_in broker[LOAD_BROKERS_MAX];
    unsigned broker_count;
    unsigned connection_count, outstanding, queue_count, pull_batch;
    size_t body_size;
    uint64_t message_count; /* 0: until the time is over */
    unsigned many;          /* routes: of how many topics */
    double seconds;
    int pin_cpu; /* -1: wherever the kernel likes */
    int timeout_ms;
};

struct slot {
    bool busy;
    uint32_t generation;
    int64_t sent_ns;
    uint32_t queue_id;
    int64_t queue_offset; /* pull: where the next request begins */
    int64_t min_offset;
};

struct connection {
    int fd;
    unsigned index, broker;
    bool wants_write;
    struct slot *slots;
    unsigned busy_count;
    char *in, *out;
    size_t in_len, in_size, out_pos, out_len, out_size;
    char *template; /* send: a whole frame, patched for each message */
    size_t template_len;
};

struct load {
    struct options options;
    const struct mode *mode;
    struct connection *connections;
    int epoll_fd;
    bool stopping;
    int64_t now_ns, wall_ms, begin_ns, end_ns, own_cpu_ns;
    struct histogram latency;

    uint64_t requested;       /* requests written */
    uint64_t answered;        /* answers matched to a request */
    uint64_t messages;        /* messages sent and acknowledged, or pulled and checked */
    uint64_t body_bytes;      /* of those messages */
    uint64_t not_found;       /* pulls that met the end of their queue */
    uint64_t server_requests; /* what the server asked by itself: passed over */
    uint64_t bad;             /* answers that say success but do not hold it */
    uint64_t stray;           /* answers that nobody waits for */
    uint64_t unanswered;
    struct {
        int code;
        uint64_t count;
    } errors[LOAD_CODES_MAX];
    unsigned error_kinds;
    char first_error[256];
};

struct mode {
    const char *name;
    /* Before the clock runs: what must exist, templates, start offsets. */
    int (*prepare)(struct load *load);
    /* Appends one request for a free slot to connection->out; false when there is nothing more to ask for. */
    bool (*request)(struct load *load, struct connection *connection, unsigned slot_index);
    /* Checks one answer with code and body, and counts it. */
    void (*answer)(struct load *load, struct connection *connection, struct slot *slot, const struct frame *frame);
};

extern const struct mode mode_send, mode_pull, mode_topics, mode_groups, mode_routes;
int mode_first_ack(const struct options *options);
int mode_new_route(const struct options *options);
int mode_idle(const struct options *options, bool consumers);

/* The first opaque is ten digits long and so is the last: a template's header keeps its length. */
#define OPAQUE_BASE 1000000000u

int64_t clock_now_ns(clockid_t clock);
unsigned load_opaque(const struct slot *slot, unsigned slot_index);
void load_count_error(struct load *load, int code, const char *text, size_t text_len);
void load_count_bad(struct load *load, const char *text);
void put_digits(char *out, unsigned digit_count, uint64_t value);

/* Send headers are needed by two modes: the load and the first acknowledged message. */
size_t send_header_format(char *out, size_t out_size, const struct options *options, unsigned opaque);

/* A consumer's requests, for the load and for consumers that only wait. */
enum { PULL_HEADER_MAX = 768, PULL_FLAG_SUSPEND = 2, PULL_FLAG_SUBSCRIPTION = 4 };
struct pull_place {
    uint32_t queue_id;
    int64_t queue_offset;
    int sys_flag, suspend_ms;
    unsigned opaque;
};
size_t pull_header_format(char *out, size_t out_size, const struct options *options, const struct pull_place *place);
int pull_heartbeat(const struct options *options, struct connection *connection);
int pull_query_offset(const struct options *options, unsigned broker, int code, unsigned queue_id, int64_t *ret_offset);
