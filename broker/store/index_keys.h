/* Which keys of a record are indexed, and as what: see FORMAT.md. Pure. */
#pragma once

#include "broker/format/properties.h"
#include "broker/format/record.h"

/* Records of one topic mostly come together. */
struct index_topic {
    uint8_t name[256];
    size_t size;
    uint32_t hash; /* of the name and "#" */
};

struct index_keys {
    uint32_t topic_hash;
    struct bytes uniq_key, rest;
};

void index_keys_begin(struct index_keys *keys, struct index_topic *topic, const struct record *record,
                      const struct properties *found);
/* The next key's hash, never negative as i32; false: that was all. */
bool index_keys_next(struct index_keys *keys, uint32_t *ret_hash);
