/* Consumer: a member of a consumer group, as the stock push consumer is one: heartbeats to every broker of the topic, takes
 * its share of the queues (averagely, by sorted client ids), pulls with long polling, commits what was handed out, gives
 * the group up politely. Single-threaded. */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

struct consumer_message {
    const char *broker;
    int queue_id;
    int64_t queue_offset, born_ms, store_ms;
    struct bytes body, properties;
};

struct consumer_options {
    const char *namesrvs, *topic, *group, *expression; /* tag expression: "*", "A", "A || B" */
    bool from_last;        /* where a group begins that has no offset yet; else at the first message */
    int64_t idle_stop_ms;  /* end when nothing came for so long; 0 = never */
    bool (*take)(void *context, const struct consumer_message *message); /* false: enough, stop behind this one */
    void (*idle)(void *context); /* called now and then */
    void *context;
    volatile sig_atomic_t *stop; /* set from a signal handler */
};

/* Runs until told to stop. 0 or an enum exit_code; messages for people on standard error. */
int consumer_run(const struct consumer_options *options);

/* Value of a property in the text form, empty if absent. */
struct bytes consumer_property(struct bytes properties, const char *name);
