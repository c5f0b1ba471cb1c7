/* Image: the home of a store's metadata that survives the store (topics, groups, consumer offsets, queue locks with their
 * leases, data versions). One object per broker, made by the supervisor, mapped by its store alone. It is sparse: a page
 * that no record reached costs nothing.
 *
 *     0                 struct image_layout (one page)
 *     4096              half 0, IMAGE_HALF_SIZE bytes
 *     4096 + half size  half 1
 *
 * `active` is 0 while there is no image; else a turn number that grows by one with each flip, and half `active & 1` is the
 * one in use. A half is an append-only run of records, one behind the other, each starting on 8 bytes; `end_pos[half]`
 * (bytes from the half's start) is the end of the published ones. A change is: record bytes, then one release store of
 * end_pos. Bytes behind end_pos mean nothing. So a store killed at any instruction leaves the state after its last
 * published record.
 *
 * When the active half is full, the whole state is written as records into the other half, its end_pos is stored, then
 * `active` (release), then the old half's pages are given back. A store killed in between leaves the old half in use.
 *
 * A record is valid if its size lies within the published bytes, its number is that of its predecessor plus one (the
 * first of a half has 1) and its CRC holds. An image with an invalid record, an end_pos between records or another version
 * is not believed as a whole: the store then starts cold, from its JSON files, as it does when `active` is 0.
 * Record types and payloads: broker/store/image.h. Host byte order. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "shm/segment.h"

#define IMAGE_VERSION   1
#define IMAGE_SIZE      (128u << 20)
#define IMAGE_PAGE      4096u
#define IMAGE_HALF_SIZE ((IMAGE_SIZE / 2) - IMAGE_PAGE)

struct image_record {
    uint32_t size;  /* header and payload, not rounded up */
    uint16_t type;  /* enum image_type */
    uint16_t reserved;
    uint32_t number; /* 1, 2, … within its half */
    uint32_t crc32;  /* of the 12 bytes before it and the payload */
};
_Static_assert(sizeof(struct image_record) == 16, "layout");

struct image_layout {
    struct segment_header header;
    _Atomic uint64_t active;
    _Atomic uint64_t end_pos[2];
    uint8_t pad[IMAGE_PAGE - 64 - 24];
};
_Static_assert(sizeof(struct image_layout) == IMAGE_PAGE, "layout");
_Static_assert(IMAGE_PAGE + 2 * (uint64_t)IMAGE_HALF_SIZE <= IMAGE_SIZE, "both halves fit");
_Static_assert(IMAGE_HALF_SIZE % IMAGE_PAGE == 0, "a half can be given back in pages");
