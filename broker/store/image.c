/* Image of the store's metadata in shared memory: see image.h for the layout and the proof. Store process, its one
 * thread; the bytes belong to this module, what they mean to the modules that write them. An image that does not check
 * out is never fatal: the caller goes to its files. Running out of room while a record is written is, because the
 * caller has asked for room before. */
#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <isa-l/crc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/panic.h"
#include "fault/fault.h"

enum {
    IMAGE_FULL_RETRY_MS = 1000, /* a state that did not fit is not tried again at each change: a flip walks it all */
};

struct image {
    struct segment segment;
    struct image_layout *shared;
    image_snapshot snapshot;
    void *context;
    uint64_t turn; /* the half written now is turn & 1; = shared->active but during a flip */
    uint64_t pos;  /* where the next record of that half starts */
    uint32_t number;
    bool flipping;
    bool overrun; /* a flip's snapshot did not fit */
    int64_t full_until_ms;
    struct image_record *open; /* between image_begin and image_end */
    enum image_type open_type;
    bool discard;                                            /* the open record goes nowhere */
    uint64_t promised_mark;
    _Alignas(struct image_record) uint8_t spill[128 * 1024]; /* where it is made; more than any record has */
};

static uint8_t *half_data(const struct image *image, uint64_t turn)
{
    return (uint8_t *)image->segment.base + IMAGE_PAGE + (turn & 1) * IMAGE_HALF_SIZE;
}

static uint64_t round_up_8(uint64_t size)
{
    return (size + 7) & ~(uint64_t)7;
}

static uint32_t record_crc(const struct image_record *record, size_t size)
{
    uint32_t crc = crc32_gzip_refl(0, (const uint8_t *)record, offsetof(struct image_record, crc32));
    return crc32_gzip_refl(crc, (const uint8_t *)(record + 1), size - sizeof *record);
}

int image_open(int fd, image_snapshot snapshot, void *context, struct image **ret_image)
{
    struct image *image = calloc(1, sizeof *image);
    if (!image) {
        close(fd);
        return -ENOMEM;
    }
    int r = segment_attach(fd, SEGMENT_IMAGE, CONTRACT_IMAGE_VERSION, true, &image->segment);
    if (r < 0) {
        close(fd);
        free(image);
        return r;
    }
    if (image->segment.size != CONTRACT_IMAGE_SIZE) {
        image_free(image);
        return -EPROTO;
    }
    image->shared = image->segment.base;
    image->snapshot = snapshot;
    image->context = context;
    *ret_image = image;
    return 0;
}

void image_free(struct image *image)
{
    if (!image)
        return;
    if (image->segment.base)
        segment_detach(&image->segment);
    free(image);
}

static uint64_t mark_of(uint64_t turn, uint64_t pos)
{
    return turn << IMAGE_MARK_BITS | pos;
}

bool image_is_promised(enum image_type type)
{
    switch (type) {
    case IMAGE_TOPIC_PUT:
    case IMAGE_TOPIC_DROP:
    case IMAGE_TOPICS_VERSION:
    case IMAGE_GROUP_PUT:
    case IMAGE_GROUP_DROP:
    case IMAGE_GROUPS_VERSION:
    case IMAGE_RESET:
    case IMAGE_RUN_TIME_CONFIG:
        return true;
    case IMAGE_OFFSET:
    case IMAGE_OFFSETS_VERSION:
    case IMAGE_LOCK:
    case IMAGE_UNLOCK:
    case IMAGE_RESET_SEEN:
    case IMAGE_DELAY:
        return false;
    }
    return false;
}

/* The record at `pos`, or NULL if it is not one. */
static const struct image_record *checked_record(const uint8_t *data, uint64_t pos, uint64_t end_pos, uint32_t number)
{
    if (end_pos - pos < sizeof(struct image_record))
        return NULL;
    const struct image_record *record = (const void *)(data + pos);
    if (record->size < sizeof *record || record->size > end_pos - pos || record->number != number)
        return NULL;
    return record_crc(record, record->size) == record->crc32 ? record : NULL;
}

int image_replay(struct image *image, image_apply apply, void *context)
{
    uint64_t turn = atomic_load_explicit(&image->shared->active, memory_order_acquire);
    if (turn == 0)
        return -ENODATA;
    uint64_t end_pos = atomic_load_explicit(&image->shared->end_pos[turn & 1], memory_order_acquire);
    if (end_pos > IMAGE_HALF_SIZE || end_pos % 8)
        return -EBADMSG;
    const uint8_t *data = half_data(image, turn);
    uint64_t pos = 0;
    uint32_t number = 0;
    while (pos < end_pos) {
        const struct image_record *record = checked_record(data, pos, end_pos, number + 1);
        if (!record)
            return -EBADMSG;
        struct bytes payload = {(const uint8_t *)(record + 1), record->size - sizeof *record};
        if (apply(context, record->type, payload) < 0)
            return -EBADMSG;
        pos += round_up_8(record->size);
        number++;
        if (image_is_promised(record->type))
            image->promised_mark = mark_of(turn, pos);
    }
    if (pos != end_pos)
        return -EBADMSG;
    image->turn = turn;
    image->pos = pos;
    image->number = number;
    return 0;
}

/* Memory of a half that is not in use; a failure only costs memory. */
static void give_back(struct image *image, uint64_t turn)
{
    (void)fallocate(image->segment.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                    (off_t)(IMAGE_PAGE + (turn & 1) * IMAGE_HALF_SIZE), (off_t)IMAGE_HALF_SIZE);
}

void image_forget(struct image *image)
{
    /* Turn numbers go on from where they were, so that a flip always changes the active word. */
    image->turn = atomic_load_explicit(&image->shared->active, memory_order_relaxed);
    atomic_store_explicit(&image->shared->active, 0, memory_order_release);
    give_back(image, 0);
    give_back(image, 1);
    image->pos = 0;
    image->number = 0;
    image->promised_mark = 0;
    atomic_store_explicit(&image->shared->journal.file_id, 0, memory_order_relaxed);
}

int image_flip(struct image *image)
{
    pn_assert(!image->flipping && !image->open);
    uint64_t old_turn = image->turn, old_pos = image->pos;
    uint32_t old_number = image->number;

    image->turn = old_turn + 1;
    image->pos = 0;
    image->number = 0;
    image->flipping = true;
    image->overrun = false;
    image->snapshot(image, image->context);
    image->flipping = false;
    /* A half that starts nearly full would flip at each change. */
    if (image->overrun || image->pos > IMAGE_HALF_SIZE / 8 * 7) {
        give_back(image, image->turn);
        image->turn = old_turn;
        image->pos = old_pos;
        image->number = old_number;
        return -ENOSPC;
    }
    /* Pairs with the acquire loads of image_replay() in a successor. */
    atomic_store_explicit(&image->shared->end_pos[image->turn & 1], image->pos, memory_order_release);
    atomic_store_explicit(&image->shared->active, image->turn, memory_order_release);
    image->promised_mark = mark_of(image->turn, image->pos);
    give_back(image, old_turn);
    return 0;
}

/* Until the first flip there is nothing to append to: what changes while files are loaded, the flip writes. */
static bool is_live(const struct image *image)
{
    return image->turn != 0 && atomic_load_explicit(&image->shared->active, memory_order_relaxed) == image->turn;
}

static bool has_room(const struct image *image, unsigned count, size_t size)
{
    uint64_t need = size + count * (sizeof(struct image_record) + 8);
    return IMAGE_HALF_SIZE - image->pos >= need;
}

int image_make_room(struct image *image, unsigned count, size_t size)
{
    if (!is_live(image) || has_room(image, count, size))
        return 0;
    if (clock_monotonic_ms() < image->full_until_ms)
        return -ENOSPC;
    int r = image_flip(image);
    if (r < 0 || !has_room(image, count, size)) {
        image->full_until_ms = clock_monotonic_ms() + IMAGE_FULL_RETRY_MS;
        return -ENOSPC;
    }
    return 0;
}

struct cursor image_begin(struct image *image, enum image_type type)
{
    pn_assert(!image->open);
    uint8_t *place = half_data(image, image->turn) + image->pos;
    uint64_t room = IMAGE_HALF_SIZE - image->pos;
    if (image->flipping && room < sizeof image->spill)
        image->overrun = true;
    image->discard = image->flipping ? image->overrun : !is_live(image);
    if (image->discard) {
        place = image->spill;
        room = sizeof image->spill;
    }
    pn_assert(room >= sizeof(struct image_record));
    image->open = (struct image_record *)place;
    image->open_type = type;
    return cursor_over(place + sizeof(struct image_record), room - sizeof(struct image_record));
}

void image_end(struct image *image, struct cursor *payload)
{
    struct image_record *record = image->open;
    pn_assert(record && !payload->bad);
    size_t size = (size_t)(payload->pos - (uint8_t *)record);
    image->open = NULL;
    if (image->discard)
        return;
    *record =
        (struct image_record){.size = (uint32_t)size, .type = (uint16_t)image->open_type, .number = ++image->number};
    record->crc32 = record_crc(record, size);
    image->pos += round_up_8(size);
    if (image->flipping)
        return;
    FAULT_POINT(STORE_METADATA);
    atomic_store_explicit(&image->shared->end_pos[image->turn & 1], image->pos, memory_order_release);
    if (image_is_promised(image->open_type))
        image->promised_mark = mark_of(image->turn, image->pos);
}

uint64_t image_end_pos(const struct image *image)
{
    return atomic_load_explicit(&image->shared->end_pos[image->turn & 1], memory_order_relaxed);
}

/* Marks and followers. */

uint64_t image_mark(const struct image *image)
{
    return is_live(image) ? mark_of(image->turn, image->pos) : 0;
}

uint64_t image_promised_mark(const struct image *image)
{
    return image->promised_mark;
}

struct image_journal *image_journal(struct image *image)
{
    return &image->shared->journal;
}

uint64_t image_turn_mark(const struct image *image)
{
    return mark_of(atomic_load_explicit(&image->shared->active, memory_order_acquire), 0);
}

uint64_t image_published_mark(const struct image *image)
{
    uint64_t turn = atomic_load_explicit(&image->shared->active, memory_order_acquire);
    return mark_of(turn, atomic_load_explicit(&image->shared->end_pos[turn & 1], memory_order_acquire));
}

/* One record into `copy`, since a flip may give the half's pages back at any moment; then its bytes are zeros. */
static bool copy_record(const uint8_t *data, uint64_t pos, uint64_t end_pos, struct image_record *copy, size_t room)
{
    struct image_record header;
    if (end_pos - pos < sizeof header)
        return false;
    memcpy(&header, data + pos, sizeof header);
    if (header.size < sizeof header || header.size > end_pos - pos || header.size > room)
        return false;
    memcpy(copy, data + pos, header.size);
    return copy->size == header.size && record_crc(copy, header.size) == copy->crc32;
}

int image_follow(struct image *image, uint64_t *mark, uint64_t end_mark, image_apply visit, void *context)
{
    const uint64_t pos_mask = (1ull << IMAGE_MARK_BITS) - 1;
    uint64_t turn = *mark >> IMAGE_MARK_BITS, pos = *mark & pos_mask, end_pos = end_mark & pos_mask;
    uint64_t active = atomic_load_explicit(&image->shared->active, memory_order_acquire);
    if (turn != active || end_mark >> IMAGE_MARK_BITS != turn)
        return -ESTALE;
    const size_t room = sizeof image->spill;
    struct image_record *copy = malloc(room);
    if (!copy)
        return -ENOMEM;
    int r = 0;
    /* Pairs with the release of image_end(): the caller's end_mark was published before it was handed over. */
    uint64_t published = atomic_load_explicit(&image->shared->end_pos[turn & 1], memory_order_acquire);
    while (r >= 0 && pos < end_pos && end_pos <= published) {
        if (!copy_record(half_data(image, turn), pos, end_pos, copy, room)) {
            r = atomic_load_explicit(&image->shared->active, memory_order_acquire) == turn ? -EBADMSG : -ESTALE;
            break;
        }
        r = visit(context, copy->type, (struct bytes){(const uint8_t *)(copy + 1), copy->size - sizeof *copy});
        pos += round_up_8(copy->size);
    }
    free(copy);
    if (r >= 0)
        *mark = mark_of(turn, pos);
    return r < 0 ? r : 0;
}
