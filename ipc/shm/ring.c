/* The ring: writer's and reader's side. LAYOUT.md has the drawing and the argument why nothing is lost or torn; this
 * file keeps to it line by line, and each atomic access names the one it pairs with.
 *
 * Runs in every process that holds an end. Positions of the own side are private and trusted; everything that the other
 * side writes is checked at each use, because the other side may be hostile: it maps the same pages writable. So
 * nothing that is read back from the ring is ever asserted, and every address is `data + (position & mask)` with a
 * length that was checked against the capacity, which lies in front of the end of the double map whatever the words
 * say. */
#include "shm/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/panic.h"

enum {
    RECORD_ALIGN = 8,
    RING_CAPACITY_MIN = RING_PAGE,
    RING_CAPACITY_MAX = 1 << 30,
};

static uint64_t round_up(uint64_t size)
{
    return (size + RECORD_ALIGN - 1) & ~(uint64_t)(RECORD_ALIGN - 1);
}

static bool capacity_fits(uint64_t capacity)
{
    return capacity >= RING_CAPACITY_MIN && capacity <= RING_CAPACITY_MAX && (capacity & (capacity - 1)) == 0;
}

/* ---- the wake-up rule -------------------------------------------------------------------------------------------- */

/* ThreadSanitizer does not see fences. There the same order is made with read-modify-writes on the flag itself: if the
 * waker's comes first, the sleeper's exchange reads from it and so sees what was published; else the waker sees the
 * flag. The fence is cheaper: the waker's hot path only reads the sleeper's cache line. */
static void announce_sleep(_Atomic uint32_t *flag)
{
#ifdef __SANITIZE_THREAD__
    atomic_exchange_explicit(flag, 1, memory_order_seq_cst);
#else
    atomic_store_explicit(flag, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst); /* pairs with the fence of somebody_sleeps */
#endif
}

static bool somebody_sleeps(_Atomic uint32_t *flag)
{
#ifdef __SANITIZE_THREAD__
    bool asleep = atomic_fetch_or_explicit(flag, 0, memory_order_seq_cst) != 0;
#else
    atomic_thread_fence(memory_order_seq_cst); /* pairs with the fence of announce_sleep */
    bool asleep = atomic_load_explicit(flag, memory_order_relaxed) != 0;
#endif
    /* The exchange makes one wake-up of one sleep, also if the sleeper takes its flag back at the same moment. */
    return asleep && atomic_exchange_explicit(flag, 0, memory_order_relaxed) != 0;
}

/* An eventfd is non-blocking and never read; a full counter (2^64 - 2 wake-ups) would still be readable. A socket that
 * is full is readable too: a wake-up is pending. One whose listener is gone has nobody to wake. */
static void ring_bell(int fd, bool is_socket)
{
    const uint64_t one = 1;
    ssize_t n = is_socket ? send(fd, &one, 1, MSG_DONTWAIT | MSG_NOSIGNAL) : write(fd, &one, sizeof one);
    (void)n;
}

/* The first ring of an end that has just attached tells which kind its bell is. */
static bool ring_first_bell(int fd)
{
    bool is_socket = send(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 || errno != ENOTSOCK;
    if (!is_socket)
        ring_bell(fd, false);
    return is_socket;
}

int ring_bell_guard(int *bell, int *ret_listener)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0)
        return -errno;
    close(*bell);
    *bell = ends[0];
    *ret_listener = ends[1];
    return 0;
}

void ring_bell_hang_up(int bell)
{
    (void)shutdown(bell, SHUT_RDWR);
}

void ring_bell_clear(int listener)
{
    uint64_t
        rung[64]; /* an eventfd gives its counter at once; of a socket, what less than this leaves nothing behind */
    ssize_t n;
    do {
        n = read(listener, rung, sizeof rung);
    } while (n == (ssize_t)sizeof rung || (n < 0 && errno == EINTR));
}

/* ---- making and mapping ------------------------------------------------------------------------------------------ */

int ring_create(const char *name, size_t capacity, uint64_t owner, struct ring_fds *ret_fds)
{
    pn_assert(capacity_fits(capacity));
    struct ring_fds fds = {-1, -1, -1};
    int r = segment_create(name, SEGMENT_RING, RING_VERSION, RING_PAGE + capacity, owner, &fds.memory);
    if (r < 0)
        return r;
    const uint64_t stored_capacity = capacity;
    r = -ENOSPC;
    if (pwrite(fds.memory, &stored_capacity, sizeof stored_capacity, offsetof(struct ring_layout, capacity)) !=
        (ssize_t)sizeof stored_capacity)
        goto fail;
    r = -EMFILE;
    fds.data = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    fds.space = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (fds.data < 0 || fds.space < 0)
        goto fail;
    *ret_fds = fds;
    return 0;
fail:
    ring_fds_close(&fds);
    return r;
}

void ring_fds_close(struct ring_fds *fds)
{
    if (fds->memory >= 0)
        close(fds->memory);
    if (fds->data >= 0)
        close(fds->data);
    if (fds->space >= 0)
        close(fds->space);
    *fds = (struct ring_fds){-1, -1, -1};
}

struct ring_map {
    struct ring_layout *shared;
    uint8_t *data;
    size_t capacity;
};

static void unmap(struct ring_layout *shared, size_t capacity)
{
    if (shared)
        munmap(shared, RING_PAGE + 2 * capacity);
}

/* Header page, data, data again. The address range is reserved first, so that the second map cannot land elsewhere. */
static int map_twice(int fd, size_t capacity, int data_protection, struct ring_map *ret_map)
{
    uint8_t *base = mmap(NULL, RING_PAGE + 2 * capacity, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return -errno;
    uint8_t *data = base + RING_PAGE;
    if (mmap(base, RING_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED ||
        mmap(data, capacity, data_protection, MAP_SHARED | MAP_FIXED, fd, RING_PAGE) == MAP_FAILED ||
        mmap(data + capacity, capacity, data_protection, MAP_SHARED | MAP_FIXED, fd, RING_PAGE) == MAP_FAILED) {
        int r = -errno;
        unmap((struct ring_layout *)base, capacity);
        return r;
    }
    *ret_map = (struct ring_map){(struct ring_layout *)base, data, capacity};
    return 0;
}

static int map_ring(int fd, int data_protection, struct ring_map *ret_map)
{
    struct segment segment;
    int r = segment_attach(fd, SEGMENT_RING, RING_VERSION, true, &segment);
    if (r < 0)
        return r;
    /* Copied once: from here on only the copy counts, and it was checked against the sealed size. */
    uint64_t capacity = segment.size >= RING_PAGE ? ((volatile struct ring_layout *)segment.base)->capacity : 0;
    munmap(segment.base, segment.size);
    if (!capacity_fits(capacity) || segment.size != RING_PAGE + capacity)
        return -EPROTO;
    return map_twice(fd, capacity, data_protection, ret_map);
}

/* Both positions of a ring whose two sides may be at work: write_pos is loaded first if we are the writer (it stands
 * still then), read_pos first if we are the reader, so that the moving one is never behind. */
static bool positions_fit(uint64_t read_pos, uint64_t write_pos, size_t capacity)
{
    return write_pos - read_pos <= capacity && read_pos % RECORD_ALIGN == 0 && write_pos % RECORD_ALIGN == 0;
}

int ring_writer_attach(struct ring_writer *writer, const struct ring_fds *fds)
{
    struct ring_map map;
    int r = map_ring(fds->memory, PROT_READ | PROT_WRITE, &map);
    if (r < 0)
        return r;
    /* Our predecessor's last word; it is dead, so nothing races. */
    uint64_t write_pos = atomic_load_explicit(&map.shared->write_pos, memory_order_relaxed);
    /* Pairs with the release store of ring_release_to. */
    uint64_t read_pos = atomic_load_explicit(&map.shared->read_pos, memory_order_acquire);
    if (!positions_fit(read_pos, write_pos, map.capacity)) {
        unmap(map.shared, map.capacity);
        return -EBADMSG;
    }
    *writer = (struct ring_writer){.shared = map.shared,
                                   .data = map.data,
                                   .capacity = map.capacity,
                                   .published_pos = write_pos,
                                   .reserve_pos = write_pos,
                                   .read_pos = read_pos,
                                   .fds = *fds};
    writer->bell_is_socket = ring_first_bell(writer->fds.data);
    return 0;
}

void ring_writer_detach(struct ring_writer *writer)
{
    if (!writer->shared)
        return;
    unmap(writer->shared, writer->capacity);
    ring_fds_close(&writer->fds);
    *writer = (struct ring_writer){.fds = {-1, -1, -1}};
}

int ring_reader_attach(struct ring_reader *reader, const struct ring_fds *fds)
{
    struct ring_map map;
    int r = map_ring(fds->memory, PROT_READ, &map);
    if (r < 0)
        return r;
    /* Our predecessor's last word. */
    uint64_t read_pos = atomic_load_explicit(&map.shared->read_pos, memory_order_relaxed);
    /* Pairs with the release store of ring_publish. */
    uint64_t write_pos = atomic_load_explicit(&map.shared->write_pos, memory_order_acquire);
    if (!positions_fit(read_pos, write_pos, map.capacity)) {
        unmap(map.shared, map.capacity);
        return -EBADMSG;
    }
    *reader = (struct ring_reader){.shared = map.shared,
                                   .data = map.data,
                                   .capacity = map.capacity,
                                   .next_pos = read_pos,
                                   .write_pos = write_pos,
                                   .fds = *fds};
    reader->bell_is_socket = ring_first_bell(reader->fds.space);
    return 0;
}

void ring_reader_detach(struct ring_reader *reader)
{
    if (!reader->shared)
        return;
    unmap(reader->shared, reader->capacity);
    ring_fds_close(&reader->fds);
    *reader = (struct ring_reader){.fds = {-1, -1, -1}};
}

/* ---- writer ------------------------------------------------------------------------------------------------------ */

size_t ring_payload_max(size_t capacity)
{
    return capacity / 4 * 3 - sizeof(struct ring_record);
}

/* Looks at the reader's position again. Nonsense is not believed: the old one stays, and the ring looks full. */
static void refresh_read_pos(struct ring_writer *writer)
{
    /* Pairs with the release store of ring_release_to: the reader's loads of the bytes come before our new stores. */
    uint64_t read_pos = atomic_load_explicit(&writer->shared->read_pos, memory_order_acquire);
    if (writer->published_pos - read_pos <= writer->published_pos - writer->read_pos)
        writer->read_pos = read_pos;
}

static uint64_t free_bytes(const struct ring_writer *writer)
{
    return writer->capacity - (writer->reserve_pos - writer->read_pos);
}

void *ring_reserve(struct ring_writer *writer, uint16_t kind, uint16_t flags, size_t size, uint64_t *ret_pos)
{
    if (size > ring_payload_max(writer->capacity))
        return NULL;
    uint64_t needed = round_up(sizeof(struct ring_record) + size);
    if (needed > free_bytes(writer)) {
        refresh_read_pos(writer);
        if (needed > free_bytes(writer))
            return NULL;
    }
    uint64_t pos = writer->reserve_pos;
    uint8_t *place = writer->data + (pos & (writer->capacity - 1));
    *(struct ring_record *)place = (struct ring_record){
        .size = (uint32_t)(sizeof(struct ring_record) + size), .kind = kind, .flags = flags, .pos = pos};
    writer->reserve_pos = pos + needed;
    if (ret_pos)
        *ret_pos = pos;
    return place + sizeof(struct ring_record);
}

void ring_shrink_last(struct ring_writer *writer, uint64_t pos, size_t size)
{
    uint64_t end_pos = pos + round_up(sizeof(struct ring_record) + size);
    pn_assert(pos >= writer->published_pos && end_pos <= writer->reserve_pos);
    struct ring_record *record = (struct ring_record *)(writer->data + (pos & (writer->capacity - 1)));
    record->size = (uint32_t)(sizeof *record + size);
    writer->reserve_pos = end_pos;
}

void ring_abandon(struct ring_writer *writer)
{
    writer->reserve_pos = writer->published_pos;
}

size_t ring_room(struct ring_writer *writer)
{
    refresh_read_pos(writer);
    return free_bytes(writer);
}

void ring_publish(struct ring_writer *writer)
{
    if (writer->reserve_pos == writer->published_pos)
        return;
    /* Pairs with the acquire loads of ring_peek and ring_reader_attach. */
    atomic_store_explicit(&writer->shared->write_pos, writer->reserve_pos, memory_order_release);
    writer->published_pos = writer->reserve_pos;
}

void ring_wake_reader(struct ring_writer *writer)
{
    if (somebody_sleeps(&writer->shared->reader_asleep))
        ring_call_reader(writer);
}

void ring_call_reader(struct ring_writer *writer)
{
    ring_bell(writer->fds.data, writer->bell_is_socket);
}

bool ring_want_room(struct ring_writer *writer, size_t size)
{
    announce_sleep(&writer->shared->writer_asleep);
    if (round_up(sizeof(struct ring_record) + size) > ring_room(writer))
        return false;
    atomic_store_explicit(&writer->shared->writer_asleep, 0, memory_order_relaxed);
    return true;
}

/* Whole pages of [from, to), which does not cross the end of the data. */
static void punch(int fd, uint64_t from, uint64_t to)
{
    from = (from + RING_PAGE - 1) & ~(uint64_t)(RING_PAGE - 1);
    to &= ~(uint64_t)(RING_PAGE - 1);
    if (from < to)
        /* Failure costs memory only. */
        (void)!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(RING_PAGE + from), (off_t)(to - from));
}

void ring_writer_trim(struct ring_writer *writer)
{
    refresh_read_pos(writer);
    /* Both positions only grow, so their sum stands still only if both do: then there is nothing new to give. */
    uint64_t seen = writer->reserve_pos + writer->read_pos + 1;
    if (writer->idle_given_pos == seen)
        return;
    writer->idle_given_pos = seen;

    /* The reader looks at nothing outside [read_pos, write_pos), so what is behind reserve_pos, up to read_pos one turn
     * later, is ours; pages that also hold a byte of the reader's stay. */
    uint64_t free_size = free_bytes(writer);
    uint64_t from = writer->reserve_pos & (writer->capacity - 1);
    if (from + free_size <= writer->capacity) {
        punch(writer->fds.memory, from, from + free_size);
    } else {
        punch(writer->fds.memory, from, writer->capacity);
        punch(writer->fds.memory, 0, from + free_size - writer->capacity);
    }
}

/* ---- reader ------------------------------------------------------------------------------------------------------ */

/* The record at `pos`, copied once; its checks hold for the copy. `limit` bytes are published from there on. */
static int load_record(const uint8_t *data, size_t capacity, uint64_t pos, uint64_t limit,
                       struct ring_record *ret_record)
{
    const volatile uint64_t *words = (const volatile uint64_t *)(data + (pos & (capacity - 1)));
    if (limit < sizeof *ret_record)
        return -EBADMSG;
    const uint64_t copy[2] = {words[0], words[1]};
    memcpy(ret_record, copy, sizeof *ret_record);
    if (ret_record->pos != pos || ret_record->size < sizeof *ret_record || round_up(ret_record->size) > limit)
        return -EBADMSG;
    return 0;
}

int ring_peek(struct ring_reader *reader, struct ring_view *ret_view)
{
    if (reader->next_pos == reader->write_pos) {
        /* Pairs with the release store of ring_publish: the records before write_pos are whole. */
        uint64_t write_pos = atomic_load_explicit(&reader->shared->write_pos, memory_order_acquire);
        if (write_pos == reader->next_pos)
            return 0;
        if (!positions_fit(reader->next_pos, write_pos, reader->capacity))
            return -EBADMSG;
        reader->write_pos = write_pos;
    }
    int r = load_record(reader->data, reader->capacity, reader->next_pos, reader->write_pos - reader->next_pos,
                        &ret_view->record);
    if (r < 0)
        return r;
    ret_view->payload = reader->data + (reader->next_pos & (reader->capacity - 1)) + sizeof(struct ring_record);
    ret_view->payload_size = ret_view->record.size - (uint32_t)sizeof(struct ring_record);
    return 1;
}

void ring_next(struct ring_reader *reader, const struct ring_view *view)
{
    pn_assert(view->record.pos == reader->next_pos); /* our own copy, not the ring's */
    reader->next_pos += round_up(view->record.size);
    pn_assert(reader->write_pos - reader->next_pos <= reader->capacity);
}

int ring_reader_seek(struct ring_reader *reader, uint64_t pos)
{
    uint64_t read_pos = atomic_load_explicit(&reader->shared->read_pos, memory_order_relaxed); /* only we write it */
    /* Pairs with the release store of ring_publish. */
    uint64_t write_pos = atomic_load_explicit(&reader->shared->write_pos, memory_order_acquire);
    if (!positions_fit(read_pos, write_pos, reader->capacity))
        return -EBADMSG;
    if (pos - read_pos > write_pos - read_pos || pos % RECORD_ALIGN != 0)
        return -ERANGE;
    reader->next_pos = pos;
    reader->write_pos = write_pos;
    return 0;
}

void ring_release_to(struct ring_reader *reader, uint64_t pos)
{
    pn_assert(reader->next_pos - pos <= reader->capacity);
    /* Pairs with the acquire load of refresh_read_pos. */
    atomic_store_explicit(&reader->shared->read_pos, pos, memory_order_release);
    if (somebody_sleeps(&reader->shared->writer_asleep))
        ring_bell(reader->fds.space, reader->bell_is_socket);
}

bool ring_may_sleep(struct ring_reader *reader)
{
    announce_sleep(&reader->shared->reader_asleep);
    /* Relaxed is enough: if it moved, ring_peek loads it again with acquire. */
    if (atomic_load_explicit(&reader->shared->write_pos, memory_order_relaxed) == reader->next_pos)
        return true;
    ring_awake(reader);
    return false;
}

void ring_awake(struct ring_reader *reader)
{
    atomic_store_explicit(&reader->shared->reader_asleep, 0, memory_order_relaxed);
}

/* ---- inspection -------------------------------------------------------------------------------------------------- */

int ring_check(const struct ring_fds *fds)
{
    struct ring_map map;
    int r = map_ring(fds->memory, PROT_READ, &map);
    if (r < 0)
        return r;
    uint64_t pos = atomic_load_explicit(&map.shared->read_pos, memory_order_relaxed);
    /* Pairs with the release store of ring_publish, if the writer still lives. */
    uint64_t write_pos = atomic_load_explicit(&map.shared->write_pos, memory_order_acquire);
    r = positions_fit(pos, write_pos, map.capacity) ? 0 : -EBADMSG;
    while (r == 0 && pos != write_pos) {
        struct ring_record record;
        r = load_record(map.data, map.capacity, pos, write_pos - pos, &record);
        if (r == 0)
            pos += round_up(record.size);
    }
    unmap(map.shared, map.capacity);
    return r;
}
