/* Queue table and interest bitmap: making and mapping. What the words mean and who may write them is queue_table.h; the
 * writers are the store (table) and a front (its interest). 8.4 MiB of address space, of which only touched pages cost.
 */
#include "shm/queue_table.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

static int attach_sized(int fd, enum segment_kind kind, uint16_t version, bool writable, size_t size, void **ret_base)
{
    struct segment segment;
    int r = segment_attach(fd, kind, version, writable, &segment);
    if (r < 0)
        return r;
    if (segment.size != size) {
        munmap(segment.base, segment.size);
        return -EPROTO;
    }
    close(segment.fd); /* the map stays; the size is known */
    *ret_base = segment.base;
    return 0;
}

int queue_table_create(const char *name, uint64_t owner, int *ret_fd)
{
    return segment_create(name, SEGMENT_QUEUE_TABLE, QUEUE_TABLE_VERSION, sizeof(struct queue_table), owner, ret_fd);
}

int queue_table_attach(int fd, bool writable, struct queue_table **ret_table)
{
    void *base;
    int r = attach_sized(fd, SEGMENT_QUEUE_TABLE, QUEUE_TABLE_VERSION, writable, sizeof(struct queue_table), &base);
    if (r == 0)
        *ret_table = base;
    return r;
}

void queue_table_detach(struct queue_table *table)
{
    if (table)
        munmap(table, sizeof *table);
}

int interest_create(const char *name, uint64_t owner, int *ret_fd)
{
    int fd;
    int r = segment_create(name, SEGMENT_INTEREST, INTEREST_VERSION, sizeof(struct interest), owner, &fd);
    if (r < 0)
        return r;
    const int64_t reads_nothing = INT64_MAX;
    if (pwrite(fd, &reads_nothing, sizeof reads_nothing, offsetof(struct interest, read_low_pos)) !=
        (ssize_t)sizeof reads_nothing) {
        close(fd);
        return -ENOSPC;
    }
    *ret_fd = fd;
    return 0;
}

int interest_attach(int fd, bool writable, struct interest **ret_interest)
{
    void *base;
    int r = attach_sized(fd, SEGMENT_INTEREST, INTEREST_VERSION, writable, sizeof(struct interest), &base);
    if (r == 0)
        *ret_interest = base;
    return r;
}

void interest_detach(struct interest *interest)
{
    if (interest)
        munmap(interest, sizeof *interest);
}
