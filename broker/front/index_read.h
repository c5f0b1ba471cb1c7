/* Looks keys up in the store's index files, as they lie on the disk and grow. For helper threads: pages may be cold. */
#pragma once

#include "front.h"

enum { INDEX_HITS_MAX = 64 };

struct index_query {
    struct bytes topic, key;
    unsigned most; /* ≤ INDEX_HITS_MAX */
    int64_t begin_ms, end_ms;
};

struct index_hits {
    int64_t pos[INDEX_HITS_MAX]; /* ascending; of messages whose keys have this hash */
    unsigned count;
    int64_t last_ms, last_pos; /* of the newest message that is indexed */
};

void index_read_find(const struct front_config *config, const struct index_query *query, struct index_hits *ret_hits);
