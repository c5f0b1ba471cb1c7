/* Statistics of the broker: messages put and delivered, by topic and group, and rates of the whole. Puts are read off
 * the queue table and the store's board, so that a send pays nothing; deliveries are counted here, per answered pull.
 */
#pragma once

#include "reply.h"
#include "stats.h"
#include "wire/frame.h"

struct broker_stats;

int broker_stats_new(struct front *front, struct broker_stats **ret_stats);
void broker_stats_free(struct broker_stats *stats);
/* A GRANT_PEER_BOARD; takes the descriptor. */
int broker_stats_add_board(struct broker_stats *stats, const struct fd_grant *grant, int *fd);

/* The store's board; NULL: not granted. */
const struct board *broker_stats_store(const struct broker_stats *stats);

void broker_stats_got(struct broker_stats *stats, struct bytes topic, struct bytes group, unsigned count, size_t bytes);
/* What another front delivered. */
void broker_stats_told(struct front *front, struct bytes body);
/* A send was answered after so long. */
void broker_stats_put_latency(struct broker_stats *stats, int64_t ms);
/* A pull waited for the disk so long; the others take less than a millisecond. */
void broker_stats_got_latency(struct broker_stats *stats, int64_t ms);
/* The catalogue is whole: what stands in the queues now is not news. */
void broker_stats_catalogue(struct front *front);
/* Each housekeeping. */
void broker_stats_tick(struct front *front);

struct broker_totals {
    uint64_t put, put_bytes, put_refused, got, found, missed;
};
struct broker_totals broker_stats_totals(const struct broker_stats *stats);
/* Since about so long ago; *ret_elapsed_ms is how long it really is. */
struct broker_totals broker_stats_since(const struct broker_stats *stats, int64_t now_ms, int64_t length_ms,
                                        int64_t *ret_elapsed_ms);

struct broker_latency {
    int64_t longest_ms, p99_ms, p999_ms; /* the longest of all, the others of the last minute or two */
    int64_t longest_get_ms;
};
struct broker_latency broker_stats_latency(const struct broker_stats *stats);
struct broker_mornings {
    uint64_t put_yesterday, put_today, got_yesterday, got_today; /* totals at midnight */
};
struct broker_mornings broker_stats_mornings(const struct broker_stats *stats);
int64_t broker_stats_start_ms(const struct broker_stats *stats); /* wall clock */

/* Messages a second over the last minute, as TopicStatsTable and ConsumeStats tell them. */
double broker_stats_put_tps(struct front *front, struct bytes topic);
double broker_stats_got_tps(struct front *front, const char *topic, const char *group);

/* VIEW_BROKER_STATS_DATA */
int broker_stats_view(struct front *front, struct channel *channel, const struct frame *frame);
