/* Keys of a record (see index_keys.h): UNIQ_KEY first, then each part of KEYS between blanks. Runs in the store for every
 * message dispatched: no copies of keys, no allocation. The text is a client's: anything in it is allowed. */
#include "index_keys.h"

#include "base/java_hash.h"

static uint32_t topic_hash(struct index_topic *topic, struct bytes name)
{
    if (topic->size > 0 && topic->size == name.size && memcmp(topic->name, name.data, name.size) == 0)
        return topic->hash;
    uint32_t hash = java_hash_add(java_hash_add(0, name), bytes_of("#"));
    topic->size = name.size <= sizeof topic->name ? name.size : 0;
    memcpy(topic->name, name.data, topic->size);
    topic->hash = hash;
    return hash;
}

void index_keys_begin(struct index_keys *keys, struct index_topic *topic, const struct record *record,
                      const struct properties *found)
{
    *keys = (struct index_keys){.uniq_key = found->uniq_key, .rest = found->keys};
    if ((record->sys_flag & SYS_FLAG_TRANSACTION) == SYS_FLAG_TRANSACTION) { /* rolled back: it never was */
        keys->uniq_key.size = keys->rest.size = 0;
        return;
    }
    if (keys->uniq_key.size > 0 || keys->rest.size > 0)
        keys->topic_hash = topic_hash(topic, record->topic);
}

static uint32_t positive(uint32_t hash)
{
    int32_t value = (int32_t)hash;
    return value == INT32_MIN ? 0 : (uint32_t)(value < 0 ? -value : value);
}

bool index_keys_next(struct index_keys *keys, uint32_t *ret_hash)
{
    struct bytes key = keys->uniq_key;
    keys->uniq_key.size = 0;
    while (key.size == 0 && keys->rest.size > 0) {
        const uint8_t *stop = memchr(keys->rest.data, ' ', keys->rest.size);
        key = (struct bytes){keys->rest.data, stop ? (size_t)(stop - keys->rest.data) : keys->rest.size};
        size_t step = stop ? key.size + 1 : key.size;
        keys->rest.data += step;
        keys->rest.size -= step;
    }
    if (key.size == 0)
        return false;
    *ret_hash = positive(java_hash_add(keys->topic_hash, key));
    return true;
}
