/* See places.h. */
#include "places.h"

#include <stdlib.h>
#include <string.h>

#include "broker/format/record.h"
#include "broker/store/journal_file.h"
#include "tests/fuzz/fuzz.h"

static void find_in(struct messages *messages, const struct file *file, int64_t file_size)
{
    struct record record;
    for (int64_t at = 0; at < (int64_t)file->size; at += record.size) {
        enum record_kind kind = record_parse(file->bytes + at, file->size - (size_t)at, file->first + at,
                                             (int64_t)file->size - at, true, &record);
        if (kind == RECORD_MESSAGE || kind == RECORD_BLANK)
            messages->end_pos = file->first + at + record.size;
        if (kind != RECORD_MESSAGE)
            return;
        messages->list = realloc(messages->list, (messages->count + 1) * sizeof *messages->list);
        FUZZ_CHECK(messages->list);
        messages->list[messages->count++] =
            (struct message){.topic = record.topic, .queue_id = record.queue_id, .queue_offset = record.queue_offset,
                             .pos = record.pos, .record = {file->bytes + at, record.size}, .body = record.body};
    }
}

void messages_find(struct messages *messages, const struct files *files, int64_t file_size)
{
    *messages = (struct messages){0};
    for (unsigned i = 0; i < files->count; i++)
        if (files->list[i].kind == FILE_LOG)
            find_in(messages, &files->list[i], file_size);
}

struct message *messages_get(struct messages *messages, struct bytes topic, int32_t queue_id, int64_t queue_offset)
{
    for (unsigned i = 0; i < messages->count; i++) {
        struct message *message = &messages->list[i];
        if (message->queue_offset == queue_offset && message->queue_id == queue_id && bytes_equal(message->topic, topic))
            return message;
    }
    return NULL;
}

bool places_hits(const struct files *files, const struct damage_place *place, const struct message *message)
{
    const struct file *file = &files->list[place->file];
    if (file->kind != FILE_LOG)
        return false;
    int64_t from = file->first + (int64_t)place->at, to = from + (int64_t)place->size;
    return from < message->pos + (int64_t)message->record.size && message->pos < to;
}

static struct place_name in_record(const struct message *message, int64_t at)
{
    static const struct {
        int64_t end;
        struct place_name name;
    } head[] = {{4, {"record: size", PROMISE_FULL}},          {8, {"record: magic", PROMISE_FULL}},
                {12, {"record: body CRC", PROMISE_FULL}},     {16, {"record: queue id", PROMISE_FULL}},
                {20, {"record: flag", PROMISE_NOT_YET}},      {28, {"record: queue offset", PROMISE_FULL}},
                {36, {"record: position", PROMISE_FULL}},     {40, {"record: sysFlag", PROMISE_NOT_YET}},
                {48, {"record: born time", PROMISE_NOT_YET}}, {56, {"record: born host", PROMISE_NOT_YET}},
                {64, {"record: store time", PROMISE_NOT_YET}}, {72, {"record: store host", PROMISE_NOT_YET}},
                {76, {"record: times consumed", PROMISE_NOT_YET}}, {84, {"record: prepared position", PROMISE_NOT_YET}},
                {88, {"record: body size", PROMISE_FULL}}};
    for (size_t i = 0; i < sizeof head / sizeof *head; i++)
        if (at < head[i].end) {
            struct place_name name = head[i].name;
            if (at >= 8 && at < 12 && message->body.size == 0)
                return (struct place_name){"record: body CRC of no body", PROMISE_NOT_YET};
            return name;
        }
    if (at < 88 + (int64_t)message->body.size)
        return (struct place_name){"record: body", PROMISE_FULL};
    if (at < 88 + (int64_t)message->body.size + 3 + (int64_t)message->topic.size)
        return (struct place_name){"record: topic and lengths", PROMISE_FULL};
    return (struct place_name){"record: properties", PROMISE_NOT_YET};
}

static struct place_name in_log(const struct file *file, const struct messages *messages, size_t at)
{
    int64_t pos = file->first + (int64_t)at;
    for (unsigned i = 0; i < messages->count; i++)
        if (pos >= messages->list[i].pos && pos < messages->list[i].pos + (int64_t)messages->list[i].record.size)
            return in_record(&messages->list[i], pos - messages->list[i].pos);
    if (pos >= messages->end_pos)
        return (struct place_name){"log: behind its end", PROMISE_NONE};
    int64_t last = file->first; /* the file is full: a blank record of eight bytes, then nothing */
    for (unsigned i = 0; i < messages->count; i++)
        if (messages->list[i].pos >= file->first && messages->list[i].pos < file->first + (int64_t)file->size)
            last = messages->list[i].pos + (int64_t)messages->list[i].record.size;
    return pos < last + 8 ? (struct place_name){"log: blank record", PROMISE_NONE} /* a search finds the next file */
                          : (struct place_name){"log: behind a blank record", PROMISE_NONE};
}

static struct place_name in_queue(const struct file *file, size_t at)
{
    const uint8_t *entry = file->bytes + at / QUEUE_ENTRY_SIZE * QUEUE_ENTRY_SIZE;
    if (be32_load(entry + 8) == 0)
        return (struct place_name){"queue: behind its end", PROMISE_NONE};
    return at % QUEUE_ENTRY_SIZE < 8    ? (struct place_name){"queue: position", PROMISE_FULL}
           : at % QUEUE_ENTRY_SIZE < 12 ? (struct place_name){"queue: size", PROMISE_FULL}
                                        : (struct place_name){"queue: tags code", PROMISE_SEARCH};
}

/* Records of the journal begin on 8 bytes. */
static struct place_name in_journal(const struct file *file, size_t at)
{
    for (size_t pos = sizeof(struct journal_header); pos + sizeof(struct journal_record) <= file->size;) {
        struct journal_record record;
        memcpy(&record, file->bytes + pos, sizeof record);
        if (record.size < sizeof record)
            return (struct place_name){"journal: behind its end", PROMISE_NONE};
        size_t next = pos + (record.size + 7) / 8 * 8;
        if (at >= pos + record.size && at < next)
            return (struct place_name){"journal: between records", PROMISE_NONE};
        if (at < next)
            break;
        pos = next;
    }
    return (struct place_name){"journal: header and records", PROMISE_FULL};
}

static struct place_name in_checkpoint(size_t at)
{
    return at >= CHECKPOINT_COPY_AT && at < CHECKPOINT_COPY_AT + CHECKPOINT_COPY_SIZE
               ? (struct place_name){"checkpoint: copy of the times", PROMISE_FULL}
           : at < CHECKPOINT_CONFIRM_AT + 8 ? (struct place_name){"checkpoint: times", PROMISE_FULL}
           : at >= CHECKPOINT_INDEX_NOTE_AT && at < CHECKPOINT_INDEX_NOTE_AT + CHECKPOINT_INDEX_NOTE_SIZE
               ? (struct place_name){"checkpoint: note of the index", PROMISE_SEARCH}
               : (struct place_name){"checkpoint: unused", PROMISE_NONE};
}

struct place_name places_name(const struct files *files, const struct messages *messages, const struct damage_place *place,
                              int64_t log_file_size)
{
    const struct file *file = &files->list[place->file];
    switch (file->kind) {
    case FILE_LOG:
        return place->bit < 0 ? (struct place_name){"log: a page of zeros", PROMISE_FULL}
                              : in_log(file, messages, place->at);
    case FILE_QUEUE:
        return place->bit < 0 ? (struct place_name){"queue: a page of zeros", PROMISE_FULL} : in_queue(file, place->at);
    case FILE_INDEX:
        return place->bit < 0          ? (struct place_name){"index: a page of zeros", PROMISE_SEARCH}
               : place->at < INDEX_HEADER_SIZE ? (struct place_name){"index: header", PROMISE_SEARCH}
                                               : (struct place_name){"index: slots and entries", PROMISE_SEARCH};
    case FILE_CHECKPOINT:
        return place->bit < 0 ? (struct place_name){"checkpoint: all zeros", PROMISE_FULL} : in_checkpoint(place->at);
    case FILE_JOURNAL:
        return place->bit < 0 ? (struct place_name){"journal: a page of zeros", PROMISE_FULL} : in_journal(file, place->at);
    case FILE_JSON:
        return (struct place_name){place->bit < 0 ? "config: a page of zeros" : "config: a bit", PROMISE_FULL};
    default:
        return (struct place_name){"lock, abort: content", PROMISE_NONE};
    }
}

size_t places_used(const struct files *files, const struct messages *messages, unsigned file)
{
    const struct file *f = &files->list[file];
    size_t used = f->size;
    while (used > 0 && f->bytes[used - 1] == 0)
        used--;
    return used;
}
