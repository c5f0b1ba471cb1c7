/* Shared memory objects: memfds that the supervisor makes, sealed against shrinking, growing and further sealing at
 * birth, mode 0600, without a name in /dev/shm. Every object begins with a segment_header, so that whoever maps one can
 * tell what it holds, in which layout version and whose generation. Read-only views are O_RDONLY descriptors: reopened
 * through /proc/self/fd, so the holder cannot map them writable. Host byte order: they never leave the host. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum segment_kind {
    SEGMENT_RING = 1,
    SEGMENT_BOARD,       /* one per worker: state, counters, last words */
    SEGMENT_QUEUE_TABLE, /* one per store: watermarks and the table of queues; fronts map it read-only */
    SEGMENT_INTEREST,    /* one per front: which queues its parked polls wait for; the store maps it read-only */
    SEGMENT_LEDGER,      /* one per store, mapped by nobody else */
    SEGMENT_IMAGE,       /* one per store: memory image of its metadata changes, mapped by nobody else */
    SEGMENT_FAULT_PAGE,  /* one per cluster: written by the supervisor, read-only to workers */
};

#define SEGMENT_MAGIC 0x4c544e50u /* "PNTL" */

struct segment_header {
    uint32_t magic;
    uint16_t kind;    /* enum segment_kind */
    uint16_t version; /* of the layout behind the header; written last, 0 = not made up yet */
    uint64_t size;    /* of the whole object, bytes */
    uint64_t owner;   /* free for the creator: which broker, front, ring id */
    uint8_t reserved[40];
};
_Static_assert(sizeof(struct segment_header) == 64, "one cache line");

struct segment {
    void *base;
    size_t size;
    int fd; /* owned by the segment */
};

/* Makes a sealed, zero-filled object of `size` bytes (a multiple of the page size) with its header. The pages behind the
 * header are not touched: an untouched page costs no memory. */
int segment_create(const char *name, enum segment_kind kind, uint16_t version, size_t size, uint64_t owner, int *ret_fd);

/* Another descriptor of the same object that can be mapped read-only at most. */
int segment_reopen_readonly(int fd, int *ret_fd);

/* Maps the whole object after checking seals, magic, kind, version and size; takes ownership of fd on success.
 * -EPROTO: not ours or another kind; -EPROTONOSUPPORT: another version. */
int segment_attach(int fd, enum segment_kind kind, uint16_t version, bool writable, struct segment *ret_segment);
void segment_detach(struct segment *segment);
