/* Messages of the bus, as msgpack arrays [kind, version, fields…]; one pair of functions per message. Decoders check
 * types and bounds and refuse with -EBADMSG; strings they return point into the message or into `arena`. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

#define BUS_MSG_VERSION 1

enum bus_msg_kind {
    BUS_HELLO = 1,      /* worker → supervisor: first word after the grants */
    BUS_READY,          /* worker → supervisor: serves */
    BUS_STATUS,         /* worker → supervisor: one line for people (recovery progress, …) */
    BUS_FAILED,         /* worker → supervisor: cannot serve; exit code and one line */
    BUS_STOP,           /* supervisor → worker: drain, flush, end */
    BUS_RELOAD,         /* supervisor → worker: its configuration as it would be granted now, whole */
    BUS_REGISTER,       /* store → name server: whole table or changed topics */
    BUS_UNREGISTER,     /* store → name server: this broker stops */
    BUS_HEARTBEAT,      /* store → name server, each second: alive, and the data version it should have */
    BUS_REGISTER_AGAIN, /* name server → store: I do not know you or not this version; send the whole table */
    BUS_NAMESRV_HELLO,  /* store → name server, on connect, so that a ROUTER learns its identity */
    BUS_REGISTERED = 13, /* name server → store: your whole table is in the routes */
};

struct bus_hello {
    struct bytes worker; /* CONTRACT_ENV_WORKER */
    uint64_t generation;
    int64_t pid;
};

struct bus_failed {
    int32_t exit_code;
    struct bytes text;
};

struct bus_data_version {
    int64_t state_version, timestamp_ms, counter;
};

struct bus_topic {
    struct bytes name;
    int32_t read_queues, write_queues, perm, topic_sys_flag;
    bool order;
};

struct bus_registration {
    struct bytes cluster, broker_name, broker_addr,
        ha_addr; /* addresses "ip:port"; "" host part = name server decides */
    int64_t broker_id;
    int64_t heartbeat_timeout_ms;
    struct bus_data_version version;
    bool whole; /* topics are the whole table; else only the changed ones */
    uint32_t topic_count;
    struct bus_topic *topics; /* decode: malloc'ed, freed by bus_registration_free */
};

struct bus_heartbeat {
    struct bytes cluster, broker_name, broker_addr;
    int64_t broker_id;
    struct bus_data_version version;
};

/* Encoders return malloc'ed bytes in `ret_message` (free its data). */
int bus_msg_encode_plain(enum bus_msg_kind kind, struct bytes *ret_message); /* READY STOP REGISTER_AGAIN REGISTERED … */
int bus_msg_encode_hello(const struct bus_hello *hello, struct bytes *ret_message);
int bus_msg_encode_status(const char *text, struct bytes *ret_message);
int bus_msg_encode_reload(const char *text, struct bytes *ret_message);
int bus_msg_encode_failed(const struct bus_failed *failed, struct bytes *ret_message);
int bus_msg_encode_registration(const struct bus_registration *registration, struct bytes *ret_message);
int bus_msg_encode_heartbeat(enum bus_msg_kind kind, const struct bus_heartbeat *heartbeat, struct bytes *ret_message);

int bus_msg_kind(struct bytes message, enum bus_msg_kind *ret_kind);
int bus_msg_decode_hello(struct bytes message, struct bus_hello *ret_hello);
int bus_msg_decode_text(struct bytes message, struct bytes *ret_text); /* STATUS */
int bus_msg_decode_reload(struct bytes message, struct bytes *ret_text);
int bus_msg_decode_failed(struct bytes message, struct bus_failed *ret_failed);
int bus_msg_decode_registration(struct bytes message, struct bus_registration *ret_registration);
void bus_registration_free(struct bus_registration *registration);
int bus_msg_decode_heartbeat(struct bytes message, struct bus_heartbeat *ret_heartbeat); /* HEARTBEAT, UNREGISTER */
