/* Route table of a name server: brokers with their addresses, topics with their queues. Pure data, no I/O: the callers
 * bring the time. Filled by registrations (bus_in.c), read by queries (query.c). */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>

#include "base/bytes.h"
#include "bus/bus_msg.h"

/* One process behind a broker name: id 0 is the master. */
struct route_member {
    int64_t id;
    struct bytes addr, ha_addr;
    struct bus_data_version version;
    int64_t last_ms, timeout_ms;
};

struct route_broker {
    struct bytes name, cluster;
    struct route_member *members; /* by id; never empty */
    unsigned member_count;
    UT_hash_handle hh;
};

struct route_queue {
    struct route_broker *broker;
    int32_t read_queues, write_queues, perm, topic_sys_flag;
    uint64_t mark; /* of the registration that said it last */
};

struct route_topic {
    struct bytes name;
    struct route_queue *queues; /* one per broker name, never empty */
    unsigned queue_count;
    UT_hash_handle hh;
};

struct route_table {
    struct route_broker *brokers; /* uthash by name, in the order of their first registration */
    struct route_topic *topics;
    uint64_t mark;
};

enum route_answer {
    ROUTE_OK,
    ROUTE_ASK_WHOLE, /* not known, or something was missed: the broker should send its whole table */
    ROUTE_IGNORED,   /* the id belongs to another address with a newer state */
};

struct route_table *route_table_new(void);
void route_table_free(struct route_table *table);

enum route_answer route_table_register(struct route_table *table, const struct bus_registration *registration,
                                       int64_t now_ms);
enum route_answer route_table_heartbeat(struct route_table *table, const struct bus_heartbeat *heartbeat,
                                        int64_t now_ms);
/* True if it was there. The name leaves its cluster and all topics with its last member. */
bool route_table_unregister(struct route_table *table, const struct bus_heartbeat *who);
/* Removes one member that was silent for longer than its time; its names are copied (cut to size) for the log. False:
 * no more. */
bool route_table_expire(struct route_table *table, int64_t now_ms, char *ret_text, size_t text_size);
/* We slept ourselves for this long: nobody could be heard. */
void route_table_forgive(struct route_table *table, int64_t slept_ms);

const struct route_topic *route_table_topic(const struct route_table *table, struct bytes name);
const struct route_broker *route_table_broker(const struct route_table *table, struct bytes name);
