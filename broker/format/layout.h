/* Bytes of the store's files: Apache RocketMQ's, big-endian. Words and rules in FORMAT.md; here only the numbers. */
#pragma once

#include <stdint.h>

/* Commit log record. Offsets up to the born host are fixed; each host is an address of 4 or 16 bytes and an i32 port.
 */
#define RECORD_MAGIC_V1    0xDAA320A7u
#define RECORD_MAGIC_V2    0xDAA320ABu /* the topic's length is an i16 */
#define RECORD_MAGIC_BLANK 0xCBD43194u

enum {
    RECORD_SIZE_AT = 0,
    RECORD_MAGIC_AT = 4,
    RECORD_BODY_CRC_AT = 8,
    RECORD_QUEUE_ID_AT = 12,
    RECORD_FLAG_AT = 16,
    RECORD_QUEUE_OFFSET_AT = 20,
    RECORD_POS_AT = 28,
    RECORD_SYS_FLAG_AT = 36,
    RECORD_BORN_MS_AT = 40,
    RECORD_BORN_HOST_AT = 48,
    RECORD_HOST_V4_SIZE = 8,
    RECORD_HOST_V6_SIZE = 20,
    RECORD_FIXED_SIZE = 91, /* both hosts IPv4, V1: everything but body, topic, properties */
    RECORD_BLANK_SIZE = 8,  /* a file ends with at least this much: no record spans files */
    RECORD_TOPIC_V1_MAX = 127,
    RECORD_PROPERTIES_MAX = 32767,
    RECORD_OVER_BODY_MAX = 65536, /* a record is at most maxMessageSize and this */
};
_Static_assert(RECORD_BORN_HOST_AT + RECORD_HOST_V4_SIZE + 8 + RECORD_HOST_V4_SIZE + 4 + 8 + 4 + 1 + 2 ==
                   RECORD_FIXED_SIZE,
               "layout");

enum {
    SYS_FLAG_MULTI_TAGS = 0x2,
    SYS_FLAG_TRANSACTION = 0xC, /* 4 prepared, 8 commit, 12 rollback */
    SYS_FLAG_COMMIT = 0x8,
    SYS_FLAG_BORN_IPV6 = 0x10,
    SYS_FLAG_STORE_IPV6 = 0x20,
};

/* The last bytes of a record that carries a CRC of all bytes before them: a property of fixed size. */
#define RECORD_WHOLE_CRC_NAME "__CRC32#"
enum {
    RECORD_WHOLE_CRC_SIZE = 20,      /* name, 0x01, ten digits, 0x02 */
    RECORD_WHOLE_CRC_DIGITS_AT = 9,  /* least significant first */
    RECORD_WHOLE_CRC_DIGITS = 10,
};

/* One item of a batch's body: i32 size, i32 magic, i32 crc, i32 flag, i32 body size, body, i16 properties size, … */
enum { BATCH_ITEM_FIXED_SIZE = 22 };

/* Consume queue entry: i64 log position, i32 size, i64 tags code. */
enum { QUEUE_ENTRY_SIZE = 20 };
#define QUEUE_ENTRY_PREBLANK_SIZE 0x7FFFFFFF
#define QUEUE_TAGS_LOST           INT64_MIN /* no hash and no time: the entry's message is damaged or gone, for good */

/* Index file: header, i32 slots (newest entry of the chain, 0: none), entries. Entry 0 is never used. */
enum {
    INDEX_BEGIN_MS_AT = 0,
    INDEX_END_MS_AT = 8,
    INDEX_BEGIN_POS_AT = 16,
    INDEX_END_POS_AT = 24,
    INDEX_SLOTS_USED_AT = 32,
    INDEX_COUNT_AT = 36, /* entries and 1 */
    INDEX_HEADER_SIZE = 40,
    INDEX_SLOT_SIZE = 4,
    INDEX_ENTRY_HASH_AT = 0,
    INDEX_ENTRY_POS_AT = 4,
    INDEX_ENTRY_SECONDS_AT = 12, /* since begin */
    INDEX_ENTRY_BEFORE_AT = 16,  /* the entry before in its slot's chain */
    INDEX_ENTRY_SIZE = 20,
    INDEX_NAME_DIGITS = 17, /* yyyyMMddHHmmssSSS, local time */
};

/* Checkpoint file. */
enum {
    CHECKPOINT_SIZE = 4096,
    CHECKPOINT_PHYSIC_AT = 0,
    CHECKPOINT_LOGICS_AT = 8,
    CHECKPOINT_INDEX_AT = 16,
    CHECKPOINT_MASTER_FLUSHED_AT = 24,
    CHECKPOINT_CONFIRM_AT = 32,
    /* Ours, in bytes that Apache leaves alone: how much of the newest index file is on the disk. One sector, so never torn. */
    CHECKPOINT_INDEX_NOTE_AT = 64,
    CHECKPOINT_INDEX_NOTE_SIZE = 48, /* u64 magic, i64 name, count, full name, full time, u32 CRC-32 of these, u32 0 */
    /* Ours, too: the five times and positions above once more, so that damage to them is seen. */
    CHECKPOINT_COPY_AT = 128,
    CHECKPOINT_COPY_SIZE = 56, /* u64 magic, 5 × i64, u32 CRC-32 of these, u32 0 */
};
#define CHECKPOINT_INDEX_NOTE_MAGIC 0x50494E544C454958u
#define CHECKPOINT_COPY_MAGIC       0x50494E544C454350u
#define FILE_NAME_DIGITS 20
