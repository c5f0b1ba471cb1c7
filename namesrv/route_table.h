/* Route table of a name server: brokers with their addresses, topics with their queues. Pure data, no I/O: the callers
 * bring the time. Filled by registrations (bus_in.c, query_register.c), read by
 * queries (query_route.c). */
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
    uint64_t connection; /* on which it registered; 0: a store of this host, over the bus */
};

struct route_broker {
    struct bytes name, cluster, zone; /* zone "": none */
    bool acting;                      /* a slave may stand in for the master (enableActingMaster) */
    struct route_member *members;     /* by id; never empty */
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
    size_t queue_count; /* of all topics: what bounds the memory */
    uint64_t mark;
};

enum route_answer {
    ROUTE_OK,
    ROUTE_ASK_WHOLE, /* not known, or something was missed: the broker should send its whole table */
    ROUTE_IGNORED,   /* the id belongs to another address with a newer state, or to a store of this host */
    ROUTE_TOO_EARLY, /* over TCP: one changed topic cannot be the first that is said of a broker */
};

/* What a registration over TCP says beyond that of a store. */
struct route_remote {
    uint64_t connection; /* not 0 */
    bool knows_acting;   /* the field was there: a broker of 5.x */
    bool acting;
    bool is_whole; /* topics that it does not name leave this broker (deleteTopicWithBrokerRegistration) */
    struct bytes zone;
};

struct route_table *route_table_new(void);
void route_table_free(struct route_table *table);

enum route_answer route_table_register(struct route_table *table, const struct bus_registration *registration,
                                       int64_t now_ms);
enum route_answer route_table_heartbeat(struct route_table *table, const struct bus_heartbeat *heartbeat,
                                        int64_t now_ms);
/* True if it was there. The name leaves its cluster and all topics with its last member. */
bool route_table_unregister(struct route_table *table, const struct bus_heartbeat *who);
/* Removes one member that was silent for longer than its time; its names are copied (cut to size) for the log, its
 * connection is for the caller to close. False: no more. */
bool route_table_expire(struct route_table *table, int64_t now_ms, char *ret_text, size_t text_size,
                        uint64_t *ret_connection);
/* We slept ourselves for this long: nobody could be heard. */
void route_table_forgive(struct route_table *table, int64_t slept_ms);

/* Brokers of other hosts, over TCP (Apache's rules; `whole` of the registration is not looked at). They cannot touch
 * what a store of this host has said over the bus. */
enum route_answer route_table_register_remote(struct route_table *table, const struct bus_registration *registration,
                                              const struct route_remote *remote, int64_t now_ms);
bool route_table_unregister_remote(struct route_table *table, struct bytes broker_name, struct bytes addr);
/* What is known of a broker's address; NULL: nothing. */
const struct route_member *route_table_member_at(const struct route_table *table, struct bytes cluster,
                                                 struct bytes addr);
/* It is alive. False: not known, or it speaks over the bus. */
bool route_table_touch(struct route_table *table, struct bytes cluster, struct bytes addr, int64_t now_ms);
/* The connection has ended: removes one member that registered on it, as route_table_expire does. */
bool route_table_drop_connection(struct route_table *table, uint64_t connection, char *ret_text, size_t text_size);

/* By hand; both last until the broker registers something else. Number of topics, whether changed or not. */
unsigned route_table_wipe_write(struct route_table *table, struct bytes broker_name);
unsigned route_table_add_write(struct route_table *table, struct bytes broker_name);
/* From all brokers, or only those of a cluster. */
void route_table_delete_topic(struct route_table *table, struct bytes name, const struct bytes *cluster);
/* False: no such broker. */
bool route_table_put_queue(struct route_table *table, const struct bus_topic *topic, struct bytes broker_name);

const struct route_topic *route_table_topic(const struct route_table *table, struct bytes name);
const struct route_broker *route_table_broker(const struct route_table *table, struct bytes name);
