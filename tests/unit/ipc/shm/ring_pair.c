#include "ring_pair.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/panic.h"

struct ring_fds ring_fds_dup(const struct ring_fds *fds)
{
    struct ring_fds copy = {fcntl(fds->memory, F_DUPFD_CLOEXEC, 3), fcntl(fds->data, F_DUPFD_CLOEXEC, 3),
                            fcntl(fds->space, F_DUPFD_CLOEXEC, 3)};
    pn_assert(copy.memory >= 0 && copy.data >= 0 && copy.space >= 0);
    return copy;
}

void ring_pair_open(struct ring_pair *pair, size_t capacity)
{
    pn_assert(ring_create("test", capacity, 1, &pair->fds) == 0);
    struct ring_fds writer_fds = ring_fds_dup(&pair->fds), reader_fds = ring_fds_dup(&pair->fds);
    pn_assert(ring_writer_attach(&pair->writer, &writer_fds) == 0);
    pn_assert(ring_reader_attach(&pair->reader, &reader_fds) == 0);
    ring_bell_count(pair->fds.data);
    ring_bell_count(pair->fds.space);
}

void ring_pair_close(struct ring_pair *pair)
{
    ring_writer_detach(&pair->writer);
    ring_reader_detach(&pair->reader);
    ring_fds_close(&pair->fds);
}

uint64_t ring_bell_count(int eventfd)
{
    uint64_t count = 0;
    ssize_t n = read(eventfd, &count, sizeof count);
    pn_assert(n == (ssize_t)sizeof count || (n < 0 && errno == EAGAIN));
    return n < 0 ? 0 : count;
}

static uint64_t pattern(uint64_t pos, uint64_t index)
{
    uint64_t z = (pos + 1) * 0x9E3779B97F4A7C15u + index * 0xBF58476D1CE4E5B9u;
    return z ^ (z >> 29);
}

void ring_fill(void *payload, size_t size, uint64_t pos)
{
    uint8_t *bytes = payload;
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word = pattern(pos, i);
        memcpy(bytes + i, &word, size - i < 8 ? size - i : 8);
    }
}

int ring_filled(const void *payload, size_t size, uint64_t pos)
{
    const uint8_t *bytes = payload;
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word = pattern(pos, i);
        if (memcmp(bytes + i, &word, size - i < 8 ? size - i : 8) != 0)
            return 0;
    }
    return 1;
}
