/* Making and mapping of shared memory objects. The supervisor makes them; every process maps what it was granted. The
 * header is written once, by the maker, before anybody else has the descriptor; a mapper believes nothing in it before
 * the checks of segment_attach. The seals make the size trustworthy: a sealed object cannot shrink under a map, so a
 * map of it never raises SIGBUS (unless the machine is out of memory). */
#include "shm/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/panic.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* Linux 6.3; before it the object may be mapped executable, nothing else is lost */
#endif

#define SEGMENT_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static int create_memory(const char *name)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL)
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return fd < 0 ? -errno : fd;
}

int segment_create(const char *name, enum segment_kind kind, uint16_t version, size_t size, uint64_t owner, int *ret_fd)
{
    pn_assert(version != 0);
    pn_assert(size >= sizeof(struct segment_header) && size % (size_t)sysconf(_SC_PAGESIZE) == 0);
    PN_CLOSE int fd = create_memory(name);
    if (fd < 0)
        return fd;
    if (fchmod(fd, 0600) < 0 || ftruncate(fd, (off_t)size) < 0)
        return -errno;

    /* pwrite, not a map: it touches the one page and cannot raise SIGBUS when memory is short. The version goes last,
     * as everywhere, although nobody can look yet. */
    struct segment_header header = {.magic = SEGMENT_MAGIC, .kind = (uint16_t)kind, .size = size, .owner = owner};
    ssize_t n = pwrite(fd, &header, sizeof header, 0);
    if (n == (ssize_t)sizeof header)
        n = pwrite(fd, &version, sizeof version, offsetof(struct segment_header, version));
    if (n != (ssize_t)sizeof version)
        return n < 0 ? -errno : -ENOSPC;
    if (fcntl(fd, F_ADD_SEALS, SEGMENT_SEALS) < 0)
        return -errno;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int segment_reopen_readonly(int fd, int *ret_fd)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int readonly = open(path, O_RDONLY | O_CLOEXEC);
    if (readonly < 0)
        return -errno;
    *ret_fd = readonly;
    return 0;
}

/* What the kernel vouches for: a sealed memory object, and its size. */
static int check_object(int fd, size_t *ret_size)
{
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0)
        return errno == EINVAL ? -EPROTO : -errno; /* EINVAL: not a memfd */
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    if ((seals & SEGMENT_SEALS) != SEGMENT_SEALS || st.st_size < (off_t)sizeof(struct segment_header))
        return -EPROTO;
    *ret_size = (size_t)st.st_size;
    return 0;
}

static int check_header(const struct segment_header *header, enum segment_kind kind, uint16_t version, size_t size)
{
    if (header->magic != SEGMENT_MAGIC || header->kind != kind || header->size != size)
        return -EPROTO;
    return header->version == version ? 0 : -EPROTONOSUPPORT;
}

int segment_attach(int fd, enum segment_kind kind, uint16_t version, bool writable, struct segment *ret_segment)
{
    size_t size = 0;
    int r = check_object(fd, &size);
    if (r < 0)
        return r;
    void *base = mmap(NULL, size, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, fd, 0);
    if (base == MAP_FAILED)
        return -errno;
    struct segment_header header = *(const volatile struct segment_header *)base;
    r = check_header(&header, kind, version, size);
    if (r < 0) {
        munmap(base, size);
        return r;
    }
    *ret_segment = (struct segment){.base = base, .size = size, .fd = fd};
    return 0;
}

void segment_detach(struct segment *segment)
{
    if (!segment->base)
        return;
    munmap(segment->base, segment->size);
    if (segment->fd >= 0)
        close(segment->fd);
    *segment = (struct segment){.fd = -1};
}
