/* Makes commit log records out of requests: Apache's bytes, written straight into the batch that goes to the disk. */
#pragma once

#include "base/bytes.h"
#include "broker/format/layout.h"
#include "broker/format/properties.h"
#include "store.h"

/* What is the same in every record of this broker; made once from its configuration. */
struct encode_host {
    uint8_t store_host[RECORD_HOST_V6_SIZE];
    size_t store_host_size;
    struct bytes region, cluster;
    bool whole_crc; /* each record ends with a CRC of all of it */
    uint8_t *common; /* MSG_REGION, TRACE_ON and CLUSTER as text */
    size_t common_size;
    uint8_t uniq_ip[16];
    size_t uniq_ip_size;
    uint32_t uniq_pid, uniq_hash;
    uint16_t uniq_counter;
    int64_t uniq_month_ms; /* start of this month */
    int64_t uniq_next_month_ms;
};
int encode_host_init(struct encode_host *host, const struct store_config *config);
void encode_host_done(struct encode_host *host);

struct encode_message {
    struct bytes topic, body, properties; /* as the client sent them */
    const struct properties *found;
    int32_t queue_id, flag, sys_flag, reconsume_times;
    int64_t born_ms, store_ms;
    const uint8_t *born_ip;
    uint16_t born_port;
    bool born_ipv6;
    bool is_copy; /* of a record of this store: its properties stay as they are */
    /* filled by encode_prepare */
    uint8_t added[1024]; /* the broker's properties */
    size_t added_size, properties_size, record_size;
};

enum { ENCODE_UNIQ_KEY_MAX = 56 };
/* Upper hex as clients make it: address, pid, a hash, milliseconds of the month, counter. Returns its length. */
size_t encode_uniq_key(struct encode_host *host, int64_t now_ms, char *to);

/* Decides the broker's properties and the record's size. With `must_fit` the broker's properties are needed, else they are
 * left out where they have no room. -EMSGSIZE: the properties are too long. */
int encode_prepare(struct encode_host *host, struct encode_message *message, bool must_fit);
/* Writes record_size bytes. */
void encode_record(const struct encode_host *host, const struct encode_message *message, int64_t queue_offset,
                   int64_t log_pos, uint8_t *to);
void encode_blank(uint8_t *to, int64_t file_left);
