/* Statistics of the broker; see broker_stats.h. The front's one thread. Other workers' boards are read as they are. A
 * front that starts begins its windows anew; what other fronts delivered by topic and group they tell (relay_far.h). */
#include "broker_stats.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/panic.h"
#include "catalogue.h"
#include "json/json_body.h"
#include "relay_far.h"
#include "wire/codes.h"

enum {
    RATE_STEP_MS = 5000,
    RATE_SAMPLES = 124, /* ten minutes and a bit */
    BOARDS_MAX = 32,
    LATENCY_FINE = 64, /* one bucket per ms, then eight per doubling */
    LATENCY_BUCKETS = 256,
    LATENCY_TURN_MS = 60 * 1000,
    FORGET_MS = 3600 * 1000,
    GOT_KEYS_MAX = 100000,
};

struct rate_sample {
    int64_t ms;
    struct broker_totals totals;
};

struct broker_stats {
    struct front *front;
    struct board *store, *fronts[BOARDS_MAX];
    unsigned front_count;
    struct stats put, got; /* key "": the broker */
    bool scanned;
    uint64_t scanned_activity;
    struct rate_sample rates[RATE_SAMPLES];
    unsigned rate_head;
    uint32_t latency[2][LATENCY_BUCKETS]; /* of this minute and of the one before */
    int64_t latency_turned_ms, latency_longest_ms, get_longest_ms, forgotten_ms, start_ms;
    struct broker_mornings mornings;
    int day; /* of the year, to find midnight */
};

static const struct bytes whole_broker = {(const uint8_t *)"", 0};

static int today(void)
{
    time_t now = time(NULL);
    struct tm local;
    return localtime_r(&now, &local) ? local.tm_yday : 0;
}

int broker_stats_new(struct front *front, struct broker_stats **ret_stats)
{
    struct broker_stats *stats = calloc(1, sizeof *stats);
    if (!stats)
        return -ENOMEM;
    int64_t now_ms = clock_monotonic_ms();
    stats->front = front;
    stats_init(&stats->put, now_ms);
    stats_init(&stats->got, now_ms);
    stats->start_ms = clock_realtime_ms();
    stats->latency_turned_ms = stats->forgotten_ms = now_ms;
    stats->day = today();
    *ret_stats = stats;
    return 0;
}

void broker_stats_free(struct broker_stats *stats)
{
    if (!stats)
        return;
    stats_done(&stats->put);
    stats_done(&stats->got);
    board_detach(stats->store);
    for (unsigned i = 0; i < stats->front_count; i++)
        board_detach(stats->fronts[i]);
    free(stats);
}

int broker_stats_add_board(struct broker_stats *stats, const struct fd_grant *grant, int *fd)
{
    struct board **to = grant->arg == BOARD_OF_STORE ? &stats->store : &stats->fronts[stats->front_count];
    if (*to || stats->front_count == BOARDS_MAX - 1)
        return -EBADMSG;
    int r = board_attach(*fd, false, to);
    if (r < 0)
        return r;
    *fd = -1;
    stats->front_count += grant->arg != BOARD_OF_STORE;
    return 0;
}

const struct board *broker_stats_store(const struct broker_stats *stats)
{
    return stats ? stats->store : NULL;
}

/* Totals and rates of the whole broker. */

static uint64_t counter(const struct board *board, enum board_counter which)
{
    return board ? board_get(board, which) : 0;
}

static void add_front(struct broker_totals *totals, const struct board *board)
{
    uint64_t missed = counter(board, COUNTER_PULLS_MISSED);
    totals->got += counter(board, COUNTER_PULL_MESSAGES);
    totals->missed += missed;
    totals->found += counter(board, COUNTER_PULLS) - missed;
}

struct broker_totals broker_stats_totals(const struct broker_stats *stats)
{
    struct broker_totals totals = {
        .put = counter(stats->store, COUNTER_MESSAGES_STORED),
        .put_bytes = counter(stats->store, COUNTER_MESSAGE_BYTES_STORED),
        .put_refused = counter(stats->store, COUNTER_MESSAGES_REFUSED),
    };
    add_front(&totals, stats->front->board);
    for (unsigned i = 0; i < stats->front_count; i++)
        add_front(&totals, stats->fronts[i]);
    return totals;
}

struct broker_totals broker_stats_since(const struct broker_stats *stats, int64_t now_ms, int64_t length_ms,
                                        int64_t *ret_elapsed_ms)
{
    unsigned at = stats->rate_head;
    for (unsigned i = 1; i < RATE_SAMPLES && stats->rates[at].ms > now_ms - length_ms; i++) {
        unsigned before = (at + RATE_SAMPLES - 1) % RATE_SAMPLES;
        if (!stats->rates[before].ms)
            break;
        at = before;
    }
    const struct rate_sample *base = &stats->rates[at];
    struct broker_totals totals = broker_stats_totals(stats);
    *ret_elapsed_ms = base->ms && now_ms - base->ms > 1000 ? now_ms - base->ms : 1000;
    if (!base->ms)
        return (struct broker_totals){0};
    totals.put -= base->totals.put;
    totals.put_bytes -= base->totals.put_bytes;
    totals.put_refused -= base->totals.put_refused;
    totals.got -= base->totals.got;
    totals.found -= base->totals.found;
    totals.missed -= base->totals.missed;
    return totals;
}

struct broker_mornings broker_stats_mornings(const struct broker_stats *stats)
{
    return stats->mornings;
}

int64_t broker_stats_start_ms(const struct broker_stats *stats)
{
    return stats->start_ms;
}

/* Latency of sends. */

static unsigned bucket_of(int64_t ms)
{
    if (ms < LATENCY_FINE)
        return ms < 0 ? 0 : (unsigned)ms;
    unsigned log2 = 63 - (unsigned)__builtin_clzll((unsigned long long)ms); /* ≥ 6 */
    unsigned bucket = LATENCY_FINE + (log2 - 6) * 8 + (unsigned)(ms >> (log2 - 3) & 7);
    return bucket < LATENCY_BUCKETS ? bucket : LATENCY_BUCKETS - 1;
}

static int64_t bucket_ms(unsigned bucket)
{
    if (bucket < LATENCY_FINE)
        return bucket;
    unsigned log2 = 6 + (bucket - LATENCY_FINE) / 8;
    return (int64_t)(8 + (bucket - LATENCY_FINE) % 8) << (log2 - 3);
}

void broker_stats_put_latency(struct broker_stats *stats, int64_t ms)
{
    stats->latency[0][bucket_of(ms)]++;
    if (ms > stats->latency_longest_ms)
        stats->latency_longest_ms = ms;
}

static int64_t percentile_ms(const struct broker_stats *stats, uint64_t count, unsigned per_mille)
{
    uint64_t seen = 0, wanted = (count * per_mille + 999) / 1000;
    for (unsigned i = 0; i < LATENCY_BUCKETS && wanted; i++) {
        seen += (uint64_t)stats->latency[0][i] + stats->latency[1][i];
        if (seen >= wanted)
            return bucket_ms(i);
    }
    return 0;
}

struct broker_latency broker_stats_latency(const struct broker_stats *stats)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < LATENCY_BUCKETS; i++)
        count += (uint64_t)stats->latency[0][i] + stats->latency[1][i];
    return (struct broker_latency){stats->latency_longest_ms, percentile_ms(stats, count, 990),
                                   percentile_ms(stats, count, 999), stats->get_longest_ms};
}

void broker_stats_got_latency(struct broker_stats *stats, int64_t ms)
{
    if (stats && ms > stats->get_longest_ms)
        stats->get_longest_ms = ms;
}

/* By topic and group. */

void broker_stats_got(struct broker_stats *stats, struct bytes topic, struct bytes group, unsigned count, size_t bytes)
{
    uint8_t key[2 * UINT8_MAX + 4];
    if (!stats || topic.size + group.size + 1 > sizeof key)
        return;
    memcpy(key, topic.data, topic.size);
    key[topic.size] = '@';
    memcpy(key + topic.size + 1, group.data, group.size);
    struct bytes name = {key, topic.size + 1 + group.size};
    struct stats_item *item = stats_find(&stats->got, name);
    if (!item) {
        if (HASH_COUNT(stats->got.items) >= GOT_KEYS_MAX)
            return;
        item = stats_get(&stats->got, name);
    }
    item->now.nums += count;
    item->now.bytes += bytes;
    item->now.calls++;
}

/* The other fronts' windows are to hold our deliveries too: each tells the others what it counted since it last did. What
 * is lost with a store is missing in their windows and nowhere else. */

static void tell(struct front *front, const struct cursor *news, const uint8_t *body)
{
    if (news->pos > body)
        relay_far_ask(front, 0, 0, REQUEST_VIEW_BROKER_STATS_DATA, NULL, 0,
                      (struct bytes){body, (size_t)(news->pos - body)});
}

static void tell_others(struct front *front)
{
    uint8_t body[MSG_RELAY_MAX / 2];
    struct cursor news = cursor_over(body, sizeof body);
    struct stats_item *item, *next;
    HASH_ITER(hh, front->stats->got.items, item, next)
    {
        size_t size = strlen(item->key);
        if (size == 0 || item->now.calls == item->told.calls)
            continue; /* the whole broker's deliveries stand on boards */
        if ((size_t)(news.end - news.pos) < 2 + size + 3 * sizeof(int64_t)) {
            tell(front, &news, body);
            news = cursor_over(body, sizeof body);
        }
        cursor_put_string(&news, bytes_of(item->key));
        cursor_put_i64(&news, (int64_t)(item->now.nums - item->told.nums));
        cursor_put_i64(&news, (int64_t)(item->now.bytes - item->told.bytes));
        cursor_put_i64(&news, (int64_t)(item->now.calls - item->told.calls));
        item->told = item->now;
    }
    pn_assert(!news.bad);
    tell(front, &news, body);
}

static void add(struct stats_value *value, const struct stats_value *more)
{
    value->nums += more->nums;
    value->bytes += more->bytes;
    value->calls += more->calls;
}

void broker_stats_told(struct front *front, struct bytes body)
{
    struct stats *got = &front->stats->got;
    struct cursor news = cursor_over(body.data, body.size);
    while (news.pos < news.end) {
        struct bytes key = cursor_get_string(&news);
        struct stats_value more;
        more.nums = (uint64_t)cursor_get_i64(&news);
        more.bytes = (uint64_t)cursor_get_i64(&news);
        more.calls = (uint64_t)cursor_get_i64(&news);
        if (news.bad || key.size == 0)
            return;
        struct stats_item *item = stats_find(got, key);
        if (!item && HASH_COUNT(got->items) >= GOT_KEYS_MAX)
            continue;
        if (!item)
            item = stats_get(got, key);
        add(&item->now, &more);
        add(&item->told, &more);
    }
}

/* What stands in a topic's queues; false: not to be had now. */
static bool topic_state(const struct front *front, const struct topic_entry *topic, struct stats_value *ret_state)
{
    *ret_state = (struct stats_value){0};
    for (uint32_t i = 0; i < topic->slot_count; i++) {
        const struct queue_slot *slot = &front->queue_table->slots[topic->slot_base + i];
        if (atomic_load_explicit(&slot->generation, memory_order_acquire) != topic->slot_generation)
            return false;
        ret_state->nums += (uint64_t)atomic_load_explicit(&slot->max_offset, memory_order_relaxed);
        ret_state->bytes += atomic_load_explicit(&slot->put_bytes, memory_order_relaxed);
    }
    return true;
}

/* A topic that was dropped and made again begins at 0. */
static uint64_t growth(uint64_t *seen, uint64_t now)
{
    uint64_t more = now >= *seen ? now - *seen : now;
    *seen = now;
    return more;
}

static void look_at_topic(struct front *front, const struct topic_entry *topic, bool is_news)
{
    struct stats_value state;
    struct bytes name = bytes_of(topic->name);
    if (!topic_state(front, topic, &state))
        return;
    struct stats_item *item = stats_find(&front->stats->put, name);
    if (!item && state.nums == 0)
        return;
    if (!item)
        item = stats_get(&front->stats->put, name);
    uint64_t nums = growth(&item->seen.nums, state.nums), bytes = growth(&item->seen.bytes, state.bytes);
    if (!is_news)
        return;
    item->now.nums += nums;
    item->now.calls += nums;
    item->now.bytes += bytes;
}

static void look_at_topics(struct front *front, bool is_news)
{
    for (const struct topic_entry *topic = catalogue_topics(front->catalogue); topic; topic = topic->hh.next)
        look_at_topic(front, topic, is_news);
}

static void look_at_broker(struct broker_stats *stats)
{
    struct broker_totals totals = broker_stats_totals(stats);
    struct stats_item *put = stats_get(&stats->put, whole_broker), *got = stats_get(&stats->got, whole_broker);
    put->now.nums += growth(&put->seen.nums, totals.put);
    put->now.bytes += growth(&put->seen.bytes, totals.put_bytes);
    put->now.calls = put->now.nums;
    got->now.nums += growth(&got->seen.nums, totals.got);
    got->now.calls += growth(&got->seen.calls, totals.found);
}

void broker_stats_catalogue(struct front *front)
{
    struct broker_stats *stats = front->stats;
    if (!stats || stats->scanned)
        return;
    look_at_topics(front, false);
    stats->scanned = true;
}

static void sample_rates(struct broker_stats *stats, int64_t now_ms)
{
    stats->rate_head = (stats->rate_head + 1) % RATE_SAMPLES;
    stats->rates[stats->rate_head] = (struct rate_sample){now_ms, broker_stats_totals(stats)};
    if (now_ms - stats->latency_turned_ms < LATENCY_TURN_MS)
        return;
    stats->latency_turned_ms = now_ms;
    memcpy(stats->latency[1], stats->latency[0], sizeof stats->latency[1]);
    memset(stats->latency[0], 0, sizeof stats->latency[0]);
}

static void look_for_midnight(struct broker_stats *stats)
{
    int day = today();
    if (day == stats->day)
        return;
    struct broker_totals totals = broker_stats_totals(stats);
    stats->day = day;
    stats->mornings =
        (struct broker_mornings){stats->mornings.put_today, totals.put, stats->mornings.got_today, totals.got};
}

void broker_stats_tick(struct front *front)
{
    struct broker_stats *stats = front->stats;
    sample_rates(stats, front->now_ms);
    look_for_midnight(stats);
    struct broker_totals totals = broker_stats_totals(stats);
    uint64_t activity = totals.put + totals.found;
    if (!stats->scanned || !catalogue_is_whole(front->catalogue) || activity == stats->scanned_activity)
        return; /* an idle broker costs nothing; its windows stay right, see stats.c */
    stats->scanned_activity = activity;
    if (stats->front_count)
        tell_others(front);
    look_at_topics(front, true);
    look_at_broker(stats);
    stats_tick(&stats->put, front->now_ms);
    stats_tick(&stats->got, front->now_ms);
    if (front->now_ms - stats->forgotten_ms < FORGET_MS)
        return;
    stats->forgotten_ms = front->now_ms;
    stats_forget_idle(&stats->got);
}

/* VIEW_BROKER_STATS_DATA. */

enum measure { MEASURE_NUMS, MEASURE_SIZE };

static void add_window(struct text *text, const char *name, const struct stats_sum *sum, enum measure measure)
{
    uint64_t total = measure == MEASURE_NUMS ? sum->value.nums : sum->value.bytes;
    text_add(text, "\"%s\":{\"avgpt\":%.3f,\"sum\":%llu,\"tps\":%.3f}", name,
             sum->value.calls ? (double)total / (double)sum->value.calls : 0.0, (unsigned long long)total,
             (double)total * 1000 / (double)sum->elapsed_ms);
}

static struct text view_text(const struct stats *stats, const struct stats_item *item, enum measure measure,
                             int64_t now_ms)
{
    static const char *const names[STATS_WINDOWS] = {
        [STATS_MINUTE] = "statsMinute", [STATS_HOUR] = "statsHour", [STATS_DAY] = "statsDay"};
    struct text text = {NULL, 0, 0};
    for (unsigned w = 0; w < STATS_WINDOWS; w++) {
        struct stats_sum sum = stats_sum(stats, item, w, now_ms);
        text_add(&text, w ? "," : "{");
        add_window(&text, names[w], &sum, measure);
    }
    text_add(&text, "}");
    return text;
}

static struct stats_item *find_view(struct front *front, struct bytes name, struct bytes key, struct stats **ret_stats,
                                    enum measure *ret_measure)
{
    struct broker_stats *stats = front->stats;
    bool is_put = bytes_equal_text(name, "TOPIC_PUT_NUMS") || bytes_equal_text(name, "TOPIC_PUT_SIZE");
    bool is_got = bytes_equal_text(name, "GROUP_GET_NUMS") || bytes_equal_text(name, "GROUP_GET_SIZE");
    bool is_broker = bytes_equal_text(name, "BROKER_PUT_NUMS") || bytes_equal_text(name, "BROKER_GET_NUMS");
    *ret_measure = name.size > 4 && memcmp(name.data + name.size - 4, "SIZE", 4) == 0 ? MEASURE_SIZE : MEASURE_NUMS;
    *ret_stats = is_put || bytes_equal_text(name, "BROKER_PUT_NUMS") ? &stats->put : &stats->got;
    look_at_broker(stats);
    if (is_broker)
        return bytes_equal_text(key, front->config.cluster_name) ? stats_find(*ret_stats, whole_broker) : NULL;
    if ((!is_put && !is_got) || key.size == 0)
        return NULL;
    const struct topic_entry *topic = is_put ? catalogue_topic(front->catalogue, key) : NULL;
    if (topic)
        look_at_topic(front, topic, true);
    return stats_find(*ret_stats, key);
}

static double minute_tps(struct front *front, struct bytes name, struct bytes key)
{
    struct stats *stats;
    enum measure measure;
    const struct stats_item *item = find_view(front, name, key, &stats, &measure);
    if (!item)
        return 0;
    struct stats_sum sum = stats_sum(stats, item, STATS_MINUTE, front->now_ms);
    return (double)sum.value.nums * 1000 / (double)sum.elapsed_ms;
}

double broker_stats_put_tps(struct front *front, struct bytes topic)
{
    return minute_tps(front, bytes_of("TOPIC_PUT_NUMS"), topic);
}

double broker_stats_got_tps(struct front *front, const char *topic, const char *group)
{
    struct text key = {NULL, 0, 0};
    text_add(&key, "%s@%s", topic, group);
    double tps = minute_tps(front, bytes_of("GROUP_GET_NUMS"), (struct bytes){(const uint8_t *)key.data, key.size});
    text_free(&key);
    return tps;
}

int broker_stats_view(struct front *front, struct channel *channel, const struct frame *frame)
{
    static const struct bytes none = {(const uint8_t *)"", 0};
    const struct bytes *name = frame_get(frame, "statsName"), *key = frame_get(frame, "statsKey");
    struct stats *stats;
    enum measure measure;
    name = name ? name : &none;
    key = key ? key : &none;
    const struct stats_item *item = find_view(front, *name, *key, &stats, &measure);
    if (!item) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "The stats <%.*s> <%.*s> not exist", (int)name->size,
                    (const char *)name->data, (int)key->size, (const char *)key->data);
        return 0;
    }
    struct text text = view_text(stats, item, measure, front->now_ms);
    struct reply reply;
    if (reply_begin(&reply, reply_to(channel, frame), RESPONSE_SUCCESS, (struct bytes){NULL, 0}, 0, 0))
        reply_end(&reply, (struct bytes){(const uint8_t *)text.data, text.size});
    text_free(&text);
    return 0;
}
