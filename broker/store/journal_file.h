/* The bytes of the metadata journal, STORE/config/metadata.journal: how they are made, and what they say after any death
 * or damage. Pure functions over memory; no file is touched here.
 *
 *     0    struct journal_header (64 bytes)
 *     64   records, one behind the other, each starting on 8 bytes, zeros between them
 *
 * A record is valid if its size lies within the file, its `pos` is where it stands, its `file_id` is the header's and its
 * CRC holds. So a record of another file, or of another place, is never taken for one. Payloads are those of the image
 * (image.h), of the kinds that outlive the host; and notes of the JSON files that were written.
 *
 * Records are only ever appended; a file that has grown is replaced by a new one with a new id: written under another name,
 * synced, renamed, folder synced. What a host that loses its power leaves is therefore a file whose tail may be torn: it is
 * cut. Invalid bytes with a valid record behind them are damage: what they said is lost, what is behind them counts.
 *
 * Integers: little-endian, the host order of every machine that this runs on. A file of another version is not read. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "data_version.h"

#define JOURNAL_NAME    "metadata.journal"
#define JOURNAL_VERSION 1

enum {
    JOURNAL_RECORD_MAX = 160 * 1024,
    JOURNAL_NOTE = 256, /* other types are enum image_type */
};

struct journal_header {
    char magic[8]; /* "PNTLMETA" */
    uint32_t version, size;
    uint64_t file_id;
    int64_t made_ms;
    uint8_t zero[28];
    uint32_t crc32; /* of the 60 bytes before it */
};
_Static_assert(sizeof(struct journal_header) == 64, "layout");

struct journal_record {
    uint32_t crc32; /* of everything behind it, payload included */
    uint32_t size;  /* header and payload, not rounded up */
    uint64_t pos;   /* in the file */
    uint64_t file_id;
    uint16_t type, zero[3];
};
_Static_assert(sizeof(struct journal_record) == 32, "layout");

/* A JSON file as it was when we wrote or read it. One that is none of those was written by somebody else. */
struct journal_note {
    uint8_t file; /* enum config_file */
    uint32_t crc32;
    uint64_t size;
    int64_t time_ms; /* when it was noted, before it got its name */
    struct data_version version;
    uint64_t covers_pos; /* records of this journal before it are in the file */
};

/* Growing bytes; a failed allocation aborts. */
struct journal_bytes {
    uint8_t *data;
    size_t size, room;
};
void journal_bytes_free(struct journal_bytes *bytes);

void journal_file_begin(struct journal_bytes *bytes, uint64_t file_id);
/* `base_pos`: where in the file the first of `bytes` will stand. */
void journal_file_add(struct journal_bytes *bytes, uint64_t base_pos, uint64_t file_id, uint16_t type,
                      struct bytes payload);
void journal_file_add_note(struct journal_bytes *bytes, uint64_t base_pos, uint64_t file_id,
                           const struct journal_note *note);
bool journal_file_note(struct bytes payload, struct journal_note *ret_note);

struct journal_scan {
    uint64_t file_id;
    int64_t made_ms;
    uint64_t end_pos;     /* behind the last valid record */
    uint64_t torn;        /* bytes behind it */
    unsigned damages;     /* stretches of invalid bytes before it; a bad header is one */
    uint64_t damage_pos;  /* of the first */
    unsigned records;
};
/* Returns 0 to go on. `pos`: where the record stands. */
typedef int (*journal_visit)(void *context, uint64_t pos, uint16_t type, struct bytes payload);
/* -EPROTONOSUPPORT: a file of another version. -EBADMSG: nothing of a journal in it. What visit() returns below 0. */
int journal_file_scan(const uint8_t *data, size_t size, journal_visit visit, void *context, struct journal_scan *ret_scan);
/* The header alone: its file id, or 0. */
uint64_t journal_file_id(const uint8_t *data, size_t size);
