/* A commit log record as read back: by recovery, by the indexing of queues, and where an answer is made again. */
#pragma once

#include "base/bytes.h"
#include "layout.h"

struct record {
    uint32_t size;
    uint32_t body_crc;
    int32_t queue_id, sys_flag;
    int64_t queue_offset, pos, store_ms, prepared_pos;
    struct bytes body, topic, properties;
};

/* What a record says of where it comes from; `data` has been parsed. ret_born_ip: 4 or 16 bytes of it. */
void record_origin(const uint8_t *data, int32_t *ret_flag, int64_t *ret_born_ms, const uint8_t **ret_born_ip,
                   uint16_t *ret_born_port, int32_t *ret_reconsume_times);

enum record_kind {
    RECORD_MESSAGE = 1,
    RECORD_BLANK, /* ret->size bytes to the end of the file */
    RECORD_SHORT, /* more bytes are needed to tell: at least ret->size */
    RECORD_BAD,
};

/* The property at a record's end with a CRC of everything before it (Apache's enabledAppendPropCRC). `data` is the whole
 * record; put writes its last RECORD_WHOLE_CRC_SIZE bytes. */
enum record_whole_crc {
    RECORD_WHOLE_CRC_NONE = 1, /* the record has none */
    RECORD_WHOLE_CRC_GOOD,
    RECORD_WHOLE_CRC_BAD, /* it differs, or these bytes are that property but for some damage */
};
void record_whole_crc_put(uint8_t *data, size_t size);
enum record_whole_crc record_whole_crc(const uint8_t *data, size_t size);

/* Looks at the bytes from `data`, which are the log's from `pos` on; `file_left`: bytes to the end of its file. */
enum record_kind record_parse(const uint8_t *data, size_t size, int64_t pos, int64_t file_left, bool check_crc,
                              struct record *ret_record);
