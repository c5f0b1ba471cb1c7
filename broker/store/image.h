/* Image: the home of a store's metadata that survives the store (topics, groups, consumer offsets, queue locks with
 * their leases, data versions). One object per broker, made by the supervisor, mapped by its store alone. It is sparse:
 * a page that no record reached costs nothing. This file is its layout and image.c the only code that touches it.
 *
 *     0                 struct image_layout (one page)
 *     4096              half 0, IMAGE_HALF_SIZE bytes
 *     4096 + half size  half 1
 *
 * `active` is 0 while there is no image; else a turn number that grows by one with each flip, and half `active & 1` is
 * the one in use. A half is an append-only run of records, one behind the other, each starting on 8 bytes;
 * `end_pos[half]` (bytes from the half's start) is the end of the published ones. A change is: record bytes, then one
 * release store of end_pos. Bytes behind end_pos mean nothing. So a store killed at any instruction leaves the state
 * after its last published record.
 *
 * When the active half is full, the whole state is written as records into the other half, its end_pos is stored, then
 * `active` (release), then the old half's pages are given back. A store killed in between leaves the old half in use.
 *
 * A record is valid if its size lies within the published bytes, its number is that of its predecessor plus one (the
 * first of a half has 1) and its CRC holds. An image with an invalid record, an end_pos between records or another
 * version is not believed as a whole: the store then starts cold, from its JSON files, as it does when `active` is 0.
 * The page also holds what a successor must know of the metadata journal (journal.h), which follows the image: how far it
 * has come, and where its file ends. A mark is a place in the image as one growing number: turn << 28 | bytes.
 *
 * Host byte order. One thread writes; the journal's thread follows what is published. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "contract.h"
#include "shm/segment.h"

#define IMAGE_PAGE      4096u
#define IMAGE_HALF_SIZE ((uint64_t)(CONTRACT_IMAGE_SIZE / 2) - IMAGE_PAGE)

struct image_record {
    uint32_t size; /* header and payload, not rounded up */
    uint16_t type; /* enum image_type */
    uint16_t reserved;
    uint32_t number; /* 1, 2, … within its half */
    uint32_t crc32;  /* of the 12 bytes before it, then the payload */
};
_Static_assert(sizeof(struct image_record) == 16, "layout");

/* Written by the journal's thread alone, each word behind the bytes that it speaks of. Zero: there is no journal. */
struct image_journal {
    _Atomic uint64_t file_id;       /* of the file whose end_pos this is */
    _Atomic uint64_t end_pos;       /* behind its last whole record */
    _Atomic uint64_t mark;          /* records of promised kinds before it are in the file */
    _Atomic uint64_t offsets_mark;  /* and offsets before this one */
    _Atomic uint64_t snapshot_size; /* the file's, when it was made */
};

struct image_layout {
    struct segment_header header;
    _Atomic uint64_t active;
    _Atomic uint64_t end_pos[2];
    struct image_journal journal;
    uint8_t pad[IMAGE_PAGE - 64 - 24 - 40];
};
_Static_assert(sizeof(struct image_layout) == IMAGE_PAGE, "layout");
_Static_assert(IMAGE_PAGE + 2 * IMAGE_HALF_SIZE <= CONTRACT_IMAGE_SIZE, "both halves fit");
_Static_assert(IMAGE_HALF_SIZE % IMAGE_PAGE == 0, "a half can be given back in pages");

/* Payloads are cursor fields (base/bytes.h); the module that owns a kind of state writes and reads its own types. */
enum image_type {
    IMAGE_TOPIC_PUT = 1,   /* topics.c */
    IMAGE_TOPIC_DROP,      /* topics.c */
    IMAGE_TOPICS_VERSION,  /* topics.c: data version alone, in snapshots */
    IMAGE_GROUP_PUT,       /* groups.c */
    IMAGE_GROUP_DROP,      /* groups.c */
    IMAGE_GROUPS_VERSION,  /* groups.c */
    IMAGE_OFFSET,          /* offsets.c: one commit */
    IMAGE_OFFSETS_VERSION, /* offsets.c */
    IMAGE_LOCK,            /* queue_locks.c: taken or renewed */
    IMAGE_UNLOCK,          /* queue_locks.c */
    IMAGE_RESET,           /* offsets.c: an offset and its reset mark */
    IMAGE_RESET_SEEN,      /* offsets.c: the mark is gone */
    IMAGE_DELAY,           /* delay.c: how far each level is delivered, all of them */
    IMAGE_RUN_TIME_CONFIG = 32, /* run_time_config.c: all that was changed */
};

struct image;

/* Writes the whole state with image_begin/image_end; called when a half is full. */
typedef void (*image_snapshot)(struct image *image, void *context);
/* Returns 0, or a negative errno if the payload makes no sense (the image is then not believed). */
typedef int (*image_apply)(void *context, enum image_type type, struct bytes payload);

/* Takes `fd` in every case. -EPROTO, -EPROTONOSUPPORT: not an image of this version. */
int image_open(int fd, image_snapshot snapshot, void *context, struct image **ret_image);
void image_free(struct image *image);

/* Hands every published record to `apply`. -ENODATA: there is no image; -EBADMSG: it does not check out. */
int image_replay(struct image *image, image_apply apply, void *context);
/* Forgets what is there; from now on the image is what the next image_flip() writes. */
void image_forget(struct image *image);
/* Writes a snapshot into the other half and makes it the active one. -ENOSPC: the state is too large. */
int image_flip(struct image *image);

/* Before a change: 0 if records with payloads of `size` bytes in all, at most `count` of them, will fit (flips if they
 * would not); -ENOSPC: refuse the change. */
int image_make_room(struct image *image, unsigned count, size_t size);
/* One record: put the payload's fields, then image_end() publishes it. Room was made before. */
struct cursor image_begin(struct image *image, enum image_type type);
void image_end(struct image *image, struct cursor *payload);

/* Bytes published in the active half. */
uint64_t image_end_pos(const struct image *image);

/* Marks. Of the end of what is published; and behind the last record of a kind that the journal promises to keep. */
enum { IMAGE_MARK_BITS = 28, IMAGE_POS_MASK = (1 << IMAGE_MARK_BITS) - 1 };
uint64_t image_mark(const struct image *image);
uint64_t image_promised_mark(const struct image *image);
bool image_is_promised(enum image_type type);
struct image_journal *image_journal(struct image *image);

/* For the journal's thread: hands over each record from *mark on up to `end_mark`, in copies that are checked, and moves
 * *mark. -ESTALE: the image has been flipped since, and the state is to be read from image_turn_mark() on. What visit()
 * returns below 0 ends it. */
int image_follow(struct image *image, uint64_t *mark, uint64_t end_mark, image_apply visit, void *context);
/* Where the half in use begins, and where what is published of it ends; any thread. */
uint64_t image_turn_mark(const struct image *image);
uint64_t image_published_mark(const struct image *image);
