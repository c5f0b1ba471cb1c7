/* Record encoder (see encode.h, format/FORMAT.md). Runs in the store for every message: one pass over the bytes, no allocation.
 * The caller has checked every limit but that of the properties. */
#include "encode.h"

#include <arpa/inet.h>
#include <errno.h>
#include <isa-l/crc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/java_hash.h"
#include "base/panic.h"
#include "broker/format/record.h"

static int host_parse(const char *text, uint8_t *to, size_t *ret_size)
{
    if (inet_pton(AF_INET, text, to) == 1)
        *ret_size = 4;
    else if (inet_pton(AF_INET6, text, to) == 1)
        *ret_size = 16;
    else
        return -EINVAL;
    return 0;
}

int encode_host_init(struct encode_host *host, const struct store_config *config)
{
    *host = (struct encode_host){0};
    const char *ip = config->broker_ip1 && *config->broker_ip1 ? config->broker_ip1 : "127.0.0.1";
    size_t size;
    int r = host_parse(ip, host->store_host, &size);
    if (r < 0)
        return r;
    memcpy(host->uniq_ip, host->store_host, size);
    host->uniq_ip_size = size;
    be32_store(host->store_host + size, (uint32_t)config->listen_port);
    host->store_host_size = size + 4;
    host->whole_crc = config->whole_crc;
    host->region = bytes_of(config->region_id);
    host->cluster = bytes_of(config->cluster_name);
    char *common;
    int n = asprintf(&common, "MSG_REGION\1%s\2TRACE_ON\1true\2CLUSTER\1%s\2", config->region_id, config->cluster_name);
    if (n < 0)
        return -ENOMEM;
    if (n > (int)sizeof ((struct encode_message *)0)->added - 128) {
        free(common);
        return -ENAMETOOLONG;
    }
    host->common = (uint8_t *)common;
    host->common_size = (size_t)n;
    host->uniq_pid = (uint32_t)getpid();
    host->uniq_hash = (uint32_t)java_hash(bytes_of(config->broker_name)) ^ (uint32_t)clock_monotonic_ns();
    return 0;
}

void encode_host_done(struct encode_host *host)
{
    free(host->common);
    *host = (struct encode_host){0};
}

static char *hex_put(char *to, const uint8_t *data, size_t size)
{
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < size; i++) {
        *to++ = digits[data[i] >> 4];
        *to++ = digits[data[i] & 15];
    }
    return to;
}

static void month_find(struct encode_host *host, int64_t now_ms)
{
    time_t now = (time_t)(now_ms / 1000);
    struct tm tm;
    localtime_r(&now, &tm);
    tm = (struct tm){.tm_year = tm.tm_year, .tm_mon = tm.tm_mon, .tm_mday = 1, .tm_isdst = -1};
    struct tm next = tm;
    next.tm_mon++;
    host->uniq_month_ms = (int64_t)mktime(&tm) * 1000;
    host->uniq_next_month_ms = (int64_t)mktime(&next) * 1000;
}

size_t encode_uniq_key(struct encode_host *host, int64_t now_ms, char *to)
{
    if (now_ms < host->uniq_month_ms || now_ms >= host->uniq_next_month_ms)
        month_find(host, now_ms);
    uint8_t raw[16 + 12];
    size_t size = host->uniq_ip_size;
    memcpy(raw, host->uniq_ip, size);
    be16_store(raw + size, (uint16_t)host->uniq_pid);
    be32_store(raw + size + 2, host->uniq_hash);
    be32_store(raw + size + 6, (uint32_t)(now_ms - host->uniq_month_ms));
    be16_store(raw + size + 10, host->uniq_counter++);
    return (size_t)(hex_put(to, raw, size + 12) - to);
}

static uint8_t *added_put(uint8_t *to, const char *name, struct bytes value)
{
    size_t size = strlen(name);
    memcpy(to, name, size);
    to[size] = 1;
    memcpy(to + size + 1, value.data, value.size);
    to[size + 1 + value.size] = 2;
    return to + size + 2 + value.size;
}

static int record_size_set(const struct encode_host *host, struct encode_message *m)
{
    if (m->properties_size > RECORD_PROPERTIES_MAX)
        return -EMSGSIZE;
    m->record_size = RECORD_FIXED_SIZE + (m->born_ipv6 ? 12 : 0) + (host->store_host_size - RECORD_HOST_V4_SIZE) +
                     (m->topic.size > RECORD_TOPIC_V1_MAX ? 1 : 0) + m->body.size + m->topic.size + m->properties_size;
    return 0;
}

int encode_prepare(struct encode_host *host, struct encode_message *m, bool must_fit)
{
    const struct properties *found = m->found;
    uint8_t *to = m->added;
    const size_t crc_size = host->whole_crc ? RECORD_WHOLE_CRC_SIZE : 0;
    if (m->is_copy) {
        m->added_size = 0;
        m->properties_size = m->properties.size + crc_size;
        return record_size_set(host, m);
    }
    const bool closes = found->ends_open && !found->has_reserved;
    if (closes)
        *to++ = 2;
    uint8_t *own = to;
    if (found->uniq_key.size == 0) {
        char key[ENCODE_UNIQ_KEY_MAX];
        size_t size = encode_uniq_key(host, m->store_ms, key);
        to = added_put(to, "UNIQ_KEY", (struct bytes){(const uint8_t *)key, size});
    }
    if (found->region.size == 0 && found->trace_on.size == 0 && found->cluster.size == 0) {
        memcpy(to, host->common, host->common_size);
        to += host->common_size;
    } else {
        if (!bytes_equal(found->region, host->region))
            to = added_put(to, "MSG_REGION", host->region);
        if (!bytes_equal_text(found->trace_on, "true"))
            to = added_put(to, "TRACE_ON", bytes_of("true"));
        if (!bytes_equal(found->cluster, host->cluster))
            to = added_put(to, "CLUSTER", host->cluster);
    }
    if (to == own && !host->whole_crc)
        to = m->added; /* nothing added: the client's text stays as it is */
    m->added_size = (size_t)(to - m->added);
    size_t text_size = m->properties.size;
    if (found->has_reserved) {
        uint8_t *clean = malloc(text_size + 1);
        if (!clean)
            return -ENOMEM;
        text_size = properties_copy_clean(m->properties, clean);
        free(clean);
    }
    m->properties_size = text_size + m->added_size + crc_size;
    if (m->properties_size > RECORD_PROPERTIES_MAX && !must_fit) {
        m->added_size = closes && host->whole_crc ? 1 : 0; /* what closes the client's text */
        m->properties_size = text_size + m->added_size + crc_size;
    }
    return record_size_set(host, m);
}

static uint8_t *put_bytes(uint8_t *to, const void *data, size_t size)
{
    if (size)
        memcpy(to, data, size);
    return to + size;
}

void encode_record(const struct encode_host *host, const struct encode_message *m, int64_t queue_offset, int64_t log_pos,
                   uint8_t *to)
{
    bool v2 = m->topic.size > RECORD_TOPIC_V1_MAX;
    int32_t sys_flag = m->sys_flag & ~(SYS_FLAG_BORN_IPV6 | SYS_FLAG_STORE_IPV6);
    sys_flag |= m->born_ipv6 ? SYS_FLAG_BORN_IPV6 : 0;
    sys_flag |= host->store_host_size == RECORD_HOST_V6_SIZE ? SYS_FLAG_STORE_IPV6 : 0;
    uint32_t crc = m->body.size ? crc32_gzip_refl(0, m->body.data, m->body.size) & 0x7FFFFFFFu : 0;
    uint8_t *start = to;
    be32_store(to + RECORD_SIZE_AT, (uint32_t)m->record_size);
    be32_store(to + RECORD_MAGIC_AT, v2 ? RECORD_MAGIC_V2 : RECORD_MAGIC_V1);
    be32_store(to + RECORD_BODY_CRC_AT, crc);
    be32_store(to + RECORD_QUEUE_ID_AT, (uint32_t)m->queue_id);
    be32_store(to + RECORD_FLAG_AT, (uint32_t)m->flag);
    be64_store(to + RECORD_QUEUE_OFFSET_AT, (uint64_t)queue_offset);
    be64_store(to + RECORD_POS_AT, (uint64_t)log_pos);
    be32_store(to + RECORD_SYS_FLAG_AT, (uint32_t)sys_flag);
    be64_store(to + RECORD_BORN_MS_AT, (uint64_t)m->born_ms);
    to = put_bytes(to + RECORD_BORN_HOST_AT, m->born_ip, m->born_ipv6 ? 16 : 4);
    be32_store(to, m->born_port);
    be64_store(to + 4, (uint64_t)m->store_ms);
    to = put_bytes(to + 12, host->store_host, host->store_host_size);
    be32_store(to, (uint32_t)m->reconsume_times);
    be64_store(to + 4, 0); /* no prepared transaction */
    be32_store(to + 12, (uint32_t)m->body.size);
    to = put_bytes(to + 16, m->body.data, m->body.size);
    if (v2) {
        be16_store(to, (uint16_t)m->topic.size);
        to += 2;
    } else {
        *to++ = (uint8_t)m->topic.size;
    }
    to = put_bytes(to, m->topic.data, m->topic.size);
    be16_store(to, (uint16_t)m->properties_size);
    to += 2;
    if (m->found->has_reserved)
        to += properties_copy_clean(m->properties, to);
    else
        to = put_bytes(to, m->properties.data, m->properties.size);
    to = put_bytes(to, m->added, m->added_size);
    if (host->whole_crc) {
        record_whole_crc_put(start, m->record_size);
        to += RECORD_WHOLE_CRC_SIZE;
    }
    pn_assert((size_t)(to - start) == m->record_size);
}

void encode_blank(uint8_t *to, int64_t file_left)
{
    be32_store(to, (uint32_t)file_left);
    be32_store(to + 4, RECORD_MAGIC_BLANK);
}
