/* Messages by key; see query.h. A helper thread looks into the index files and reads the records. Hashes collide: a record is
 * given out only if it is the topic's and has the key. (Apache gives collisions out too, and clients drop them.)
 *
 * The index follows the log by some milliseconds. Who asks for what was just acknowledged would miss it, so the helper waits a
 * little for the index to reach what is readable when the request comes; not long, for it is wanted elsewhere too. */
#include "query.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/panic.h"
#include "damage.h"
#include "helper.h"
#include "index_read.h"
#include "view.h"
#include "wire/codes.h"

enum {
    UNIQUE_MAX = 32,      /* Apache's defaultQueryMaxNum */
    BODY_MAX = 12 << 20,  /* a frame is at most 16 MiB; the first message always goes */
    TRIES = 3,
    WAIT_MS = 100,
    NEAR = 16 << 20, /* bytes of log; an index further behind is being made again */
};

struct query_job {
    struct helper_job job;
    const struct front_config *config; /* lives as long as the front */
    const struct queue_table *table;
    struct channel_ref channel;
    int32_t opaque;
    char *topic, *key;
    struct index_query query;
    int64_t wanted_pos, end_pos; /* end_pos: of what may be read */
    struct index_hits hits;
    int64_t damaged_pos; /* a hit that is damaged; −1: none */
    uint8_t *body;
    size_t size;
};

static void wait_for_index(const struct query_job *job)
{
    for (unsigned i = 0; job->config->index && i < WAIT_MS; i++) {
        int64_t indexed = atomic_load_explicit(&job->table->indexed_pos, memory_order_acquire);
        if (indexed >= job->wanted_pos || job->wanted_pos - indexed > NEAR)
            return;
        usleep(1000);
    }
}

/* The value of the last property of this name, as a map would have it. */
static struct bytes property(struct bytes properties, const char *name)
{
    struct bytes found = {NULL, 0};
    size_t name_size = strlen(name);
    while (properties.size > 0) {
        const uint8_t *stop = memchr(properties.data, 2, properties.size);
        size_t size = stop ? (size_t)(stop - properties.data) : properties.size, step = stop ? size + 1 : size;
        if (size > name_size + 1 && memcmp(properties.data, name, name_size) == 0 && properties.data[name_size] == 1)
            found = (struct bytes){properties.data + name_size + 1, size - name_size - 1};
        properties.data += step;
        properties.size -= step;
    }
    return found;
}

static bool keys_hold(struct bytes keys, struct bytes key)
{
    while (keys.size > 0) {
        const uint8_t *stop = memchr(keys.data, ' ', keys.size);
        size_t size = stop ? (size_t)(stop - keys.data) : keys.size, step = stop ? size + 1 : size;
        if (bytes_equal((struct bytes){keys.data, size}, key))
            return true;
        keys.data += step;
        keys.size -= step;
    }
    return false;
}

static bool is_wanted(const struct query_job *job, const uint8_t *record, size_t size)
{
    struct bytes topic, properties;
    view_record_parts(record, size, &topic, &properties);
    return bytes_equal(topic, job->query.topic) && (bytes_equal(property(properties, "UNIQ_KEY"), job->query.key) ||
                                                    keys_hold(property(properties, "KEYS"), job->query.key));
}

static void body_add(struct query_job *job, const uint8_t *record, size_t size)
{
    if (job->size > 0 && job->size + size > BODY_MAX)
        return;
    uint8_t *grown = realloc(job->body, job->size + size);
    if (!grown)
        PANIC("out of memory");
    memcpy(grown + job->size, record, size);
    job->body = grown;
    job->size += size;
}

/* When everything that was found is gone from the log, older ones are looked for, as Apache does. */
static void query_run(struct helper_job *helper_job)
{
    struct query_job *job = (struct query_job *)helper_job;
    wait_for_index(job);
    for (int i = 0; i < TRIES && job->size == 0 && job->query.end_ms >= job->query.begin_ms; i++) {
        struct index_hits hits;
        index_read_find(job->config, &job->query, &hits);
        if (hits.count == 0)
            return;
        job->hits = hits;
        for (unsigned n = 0; n < hits.count; n++) {
            size_t size;
            PN_FREE uint8_t *record = NULL;
            int r = hits.pos[n] < 0 ? -EBADMSG : view_read(job->config, hits.pos[n], job->end_pos, &record, &size);
            if (r == -EUCLEAN)
                job->damaged_pos = hits.pos[n];
            if (r < 0)
                continue;
            if (n == 0)
                job->query.end_ms = view_record_store_ms(record);
            if (is_wanted(job, record, size))
                body_add(job, record, size);
        }
    }
}

static void query_done(struct helper_job *helper_job, struct front *front)
{
    static const char not_found[] = "can not find message, maybe time range not correct";
    struct query_job *job = (struct query_job *)helper_job;
    struct channel *channel = connections_find(front, job->channel);
    if (job->damaged_pos >= 0)
        damage_record(front, job->damaged_pos);
    if (channel) {
        struct reply reply;
        bool some = job->size > 0;
        channel_answered(channel);
        if (reply_begin(&reply, (struct reply_to){channel, job->opaque, false}, some ? RESPONSE_SUCCESS : RESPONSE_QUERY_NOT_FOUND,
                        some ? (struct bytes){NULL, 0} : bytes_of(not_found), 128, 2)) {
            frame_write_i64(&reply.writer, "indexLastUpdateTimestamp", job->hits.last_ms);
            frame_write_i64(&reply.writer, "indexLastUpdatePhyoffset", job->hits.last_pos);
            reply_end(&reply, (struct bytes){job->body, job->size});
        }
    }
    free(job->topic);
    free(job->key);
    free(job->body);
    free(job);
}

static char *copy(struct bytes text)
{
    char *to = malloc(text.size + 1); /* a NUL in it is a byte as any other */
    if (!to)
        PANIC("out of memory");
    memcpy(to, text.data, text.size);
    return to;
}

int query_message(struct front *front, struct channel *channel, const struct frame *frame)
{
    const struct bytes *topic = frame_get(frame, "topic"), *key = frame_get(frame, "key");
    const struct bytes *unique = frame_get(frame, "_UNIQUE_KEY_QUERY");
    int32_t most;
    int64_t begin_ms, end_ms;
    if (!topic || !key || !frame_get(frame, "maxNum") || frame_get_i32(frame, "maxNum", 0, &most) < 0 ||
        !frame_get(frame, "beginTimestamp") || frame_get_i64(frame, "beginTimestamp", 0, &begin_ms) < 0 ||
        !frame_get(frame, "endTimestamp") || frame_get_i64(frame, "endTimestamp", 0, &end_ms) < 0) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR,
                    "topic, key, maxNum, beginTimestamp or endTimestamp is missing or no number");
        return 0;
    }
    if (frame->flag & FRAME_FLAG_ONEWAY)
        return 0;
    if (unique && bytes_equal_text(*unique, "true"))
        most = UNIQUE_MAX;
    struct query_job *job = calloc(1, sizeof *job);
    if (!job)
        PANIC("out of memory");
    job->job = (struct helper_job){.run = query_run, .done = query_done};
    job->config = &front->config;
    job->table = front->queue_table;
    job->damaged_pos = -1;
    job->channel = channel->ref;
    job->opaque = frame->opaque;
    job->topic = copy(*topic);
    job->key = copy(*key);
    job->query = (struct index_query){.topic = {(const uint8_t *)job->topic, topic->size},
                                      .key = {(const uint8_t *)job->key, key->size},
                                      .begin_ms = begin_ms, .end_ms = end_ms};
    job->query.most = most < 0 ? 0 : most < INDEX_HITS_MAX ? (unsigned)most : (unsigned)INDEX_HITS_MAX;
    job->wanted_pos = atomic_load_explicit(&front->queue_table->dispatched_pos, memory_order_acquire);
    job->end_pos = atomic_load_explicit(&front->queue_table->log_readable_pos, memory_order_acquire);
    channel->outstanding++;
    helper_submit(front->helper, &job->job);
    return 0;
}
