/* What stands at each byte of a store: the messages that were stored, and names of places for the table. */
#pragma once

#include "base/bytes.h"
#include "files.h"

struct message {
    struct bytes topic;
    int32_t queue_id;
    int64_t queue_offset, pos;
    struct bytes record, body; /* in the files' memory */
    unsigned seen;
};

struct messages {
    struct message *list;
    unsigned count;
    int64_t end_pos;
};
void messages_find(struct messages *messages, const struct files *files, int64_t file_size);
struct message *messages_get(struct messages *messages, struct bytes topic, int32_t queue_id, int64_t queue_offset);

enum promise {
    PROMISE_NONE = 1,  /* unused bytes */
    PROMISE_NOT_YET,   /* a field that only enabledAppendPropCRC covers */
    PROMISE_SEARCH,    /* what only searches by key or a filter by tag would miss, and fsck finds */
    PROMISE_FULL,
};
struct place_name {
    const char *text;
    enum promise promise;
};
/* Of the first byte of the place. */
struct place_name places_name(const struct files *files, const struct messages *messages, const struct damage_place *place,
                              int64_t log_file_size);
/* The damage lies in this message's record. */
bool places_hits(const struct files *files, const struct damage_place *place, const struct message *message);
/* A byte behind everything that is used in its file. */
size_t places_used(const struct files *files, const struct messages *messages, unsigned file);
