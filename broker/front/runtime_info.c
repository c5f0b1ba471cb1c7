/* The table of GET_BROKER_RUNTIME_INFO (remoting facts 6.5). What may wait for a disk (file systems, the oldest record)
 * is asked on a helper thread, the rest is read off boards and queue table when that is back. A key whose value nobody
 * here measures is not in the answer; one that Apache counts in queues of threads counts requests that wait. */
#include "runtime_info.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/panic.h"
#include "broker_stats.h"
#include "catalogue.h"
#include "helper.h"
#include "json/json_body.h"
#include "pending.h"
#include "read_log.h"
#include "search.h"
#include "wire/codes.h"

#define VERSION_NAME    "V5_3_3" /* whose protocol we speak */
#define VERSION_ORDINAL 479

struct info_job {
    struct helper_job job;
    const struct front_config *config; /* lives as long as the front */
    struct channel_ref channel;
    int32_t opaque;
    int64_t log_min_pos, log_end_pos;
    /* found */
    int64_t earliest_ms; /* −1: the log is empty or unreadable */
    struct statvfs log_disk, queue_disk;
    bool has_log_disk, has_queue_disk;
};

/* Helper thread. */

static void info_run(struct helper_job *job)
{
    struct info_job *info = (struct info_job *)job;
    info->has_log_disk = statvfs(info->config->commit_log_dir, &info->log_disk) == 0;
    info->has_queue_disk = statvfs(info->config->store_root, &info->queue_disk) == 0;
    info->earliest_ms =
        info->log_min_pos < info->log_end_pos ? search_record_time(info->config, info->log_min_pos) : -1;
}

/* Loop's thread. */

__attribute__((format(printf, 3, 4))) static void add(struct text *text, const char *key, const char *format, ...)
{
    char value[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(value, sizeof value, format, arguments);
    va_end(arguments);
    text_add(text, "%s", text->size > 10 ? "," : "");
    text_add_json_string(text, bytes_of(key));
    text_add(text, ":");
    text_add_json_string(text, bytes_of(value));
}

static void add_number(struct text *text, const char *key, int64_t value)
{
    add(text, key, "%" PRId64, value);
}

/* What is kept for root counts neither as used nor as free. */
static double used_part(const struct statvfs *disk)
{
    double used = (double)(disk->f_blocks - disk->f_bfree), reach = used + (double)disk->f_bavail;
    return reach > 0 ? used / reach : 0;
}

static void human(char *text, size_t size, double bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    unsigned unit = 0;
    for (; bytes >= 1024 && unit < 5; unit++)
        bytes /= 1024;
    snprintf(text, size, unit ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
}

static void add_disks(struct text *text, const struct info_job *info)
{
    char total[32], left[32], key[4200];
    if (info->has_log_disk) {
        human(total, sizeof total, (double)info->log_disk.f_blocks * (double)info->log_disk.f_frsize);
        human(left, sizeof left, (double)info->log_disk.f_bavail * (double)info->log_disk.f_frsize);
        add(text, "commitLogDirCapacity", "Total : %s, Free : %s.", total, left);
        add(text, "commitLogDiskRatio", "%.2f", used_part(&info->log_disk));
        snprintf(key, sizeof key, "commitLogDiskRatio_%s", info->config->commit_log_dir);
        add(text, key, "%.2f", used_part(&info->log_disk));
    }
    if (info->has_queue_disk)
        add(text, "consumeQueueDiskRatio", "%.2f", used_part(&info->queue_disk));
}

static void add_positions(struct text *text, const struct front *front, const struct info_job *info)
{
    const struct queue_table *table = front->queue_table;
    int64_t written = atomic_load_explicit(&table->log_written_pos, memory_order_relaxed);
    int64_t flushed = atomic_load_explicit(&table->log_flushed_pos, memory_order_relaxed);
    int64_t dispatched = atomic_load_explicit(&table->dispatched_pos, memory_order_relaxed);
    char left[32];
    human(left, sizeof left, written > flushed ? (double)(written - flushed) : 0);
    add_number(text, "commitLogMinOffset", atomic_load_explicit(&table->log_min_pos, memory_order_relaxed));
    add_number(text, "commitLogMaxOffset", written);
    add_number(text, "dispatchBehindBytes", written > dispatched ? written - dispatched : 0);
    add_number(text, "dispatchMaxBuffer", 0);
    add(text, "remainHowManyDataToFlush", "%s", left);
    add_number(text, "remainTransientStoreBufferNumbs", INT32_MAX); /* as Apache without such a pool */
    add_number(text, "earliestMessageTimeStamp", info->earliest_ms);
}

/* Requests that wait for the store stand in for the queue of send threads, those for a disk for that of pull threads;
 * the other kinds wait nowhere. */
static void add_queues(struct text *text, struct front *front)
{
    static const char *const empty[] = {"litePull", "query", "ack"};
    char key[64];
    int64_t oldest_ms = pending_oldest_ms(front->pending, PENDING_SEND);
    add_number(text, "sendThreadPoolQueueSize", pending_count(front->pending));
    add_number(text, "sendThreadPoolQueueCapacity", PENDING_MAX);
    add_number(text, "sendThreadPoolQueueHeadWaitTimeMills", oldest_ms ? front->now_ms - oldest_ms : 0);
    add_number(text, "pullThreadPoolQueueSize", helper_outstanding(front->helper));
    add_number(text, "pullThreadPoolQueueCapacity", PENDING_MAX);
    add_number(text, "pullThreadPoolQueueHeadWaitTimeMills", 0);
    for (unsigned i = 0; i < sizeof empty / sizeof *empty; i++) {
        snprintf(key, sizeof key, "%sThreadPoolQueueSize", empty[i]);
        add_number(text, key, 0);
        snprintf(key, sizeof key, "%sThreadPoolQueueCapacity", empty[i]);
        add_number(text, key, PENDING_MAX);
        snprintf(key, sizeof key, "%sThreadPoolQueueHeadWaitTimeMills", empty[i]);
        add_number(text, key, 0);
    }
    add_number(text, "EndTransactionQueueSize", 0);
    add_number(text, "EndTransactionThreadPoolQueueCapacity", PENDING_MAX);
    add_number(text, "pageCacheLockTimeMills", 0); /* nobody holds a lock while it writes */
    /* Timed messages are refused by name: there is nothing behind. */
    add_number(text, "timerReadBehind", 0);
    add_number(text, "timerOffsetBehind", 0);
    add_number(text, "timerCongestNum", 0);
    add(text, "timerEnqueueTps", "0.0");
    add(text, "timerDequeueTps", "0.0");
}

static void add_rates(struct text *text, struct front *front)
{
    static const int64_t lengths_ms[] = {10 * 1000, 60 * 1000, 600 * 1000};
    enum { PUT, TRANSFERRED, FOUND, MISSED, TOTAL, RATES };
    static const char *const keys[RATES] = {"putTps", "getTransferredTps", "getFoundTps", "getMissTps", "getTotalTps"};
    double rates[RATES][3];
    for (unsigned i = 0; i < 3; i++) {
        int64_t elapsed_ms;
        struct broker_totals since = broker_stats_since(front->stats, front->now_ms, lengths_ms[i], &elapsed_ms);
        double s = (double)elapsed_ms / 1000;
        rates[PUT][i] = (double)since.put / s;
        rates[TRANSFERRED][i] = (double)since.got / s;
        rates[FOUND][i] = (double)since.found / s;
        rates[MISSED][i] = (double)since.missed / s;
        rates[TOTAL][i] = (double)(since.found + since.missed) / s;
    }
    for (unsigned i = 0; i < RATES; i++)
        add(text, keys[i], "%.3f %.3f %.3f", rates[i][0], rates[i][1], rates[i][2]);
}

static void add_totals(struct text *text, struct front *front)
{
    struct broker_totals totals = broker_stats_totals(front->stats);
    struct broker_mornings mornings = broker_stats_mornings(front->stats);
    struct broker_latency latency = broker_stats_latency(front->stats);
    add_number(text, "putMessageTimesTotal", (int64_t)totals.put);
    add_number(text, "putMessageFailedTimes", (int64_t)totals.put_refused);
    add_number(text, "putMessageSizeTotal", (int64_t)totals.put_bytes);
    add(text, "putMessageAverageSize", "%.1f", totals.put ? (double)totals.put_bytes / (double)totals.put : 0.0);
    add_number(text, "putMessageEntireTimeMax", latency.longest_ms);
    add_number(text, "getMessageEntireTimeMax", latency.longest_get_ms);
    add(text, "putLatency99", "%.2f", (double)latency.p99_ms);
    add(text, "putLatency999", "%.2f", (double)latency.p999_ms);
    add_number(text, "msgPutTotalYesterdayMorning", (int64_t)mornings.put_yesterday);
    add_number(text, "msgPutTotalTodayMorning", (int64_t)mornings.put_today);
    add_number(text, "msgPutTotalTodayNow", (int64_t)totals.put);
    add_number(text, "msgGetTotalYesterdayMorning", (int64_t)mornings.got_yesterday);
    add_number(text, "msgGetTotalTodayMorning", (int64_t)mornings.got_today);
    add_number(text, "msgGetTotalTodayNow", (int64_t)totals.got);
}

static void add_life(struct text *text, struct front *front)
{
    int64_t start_ms = broker_stats_start_ms(front->stats), s = (clock_realtime_ms() - start_ms) / 1000;
    add(text, "brokerVersionDesc", VERSION_NAME);
    add_number(text, "brokerVersion", VERSION_ORDINAL);
    add(text, "brokerActive", front->stopping ? "false" : "true");
    add_number(text, "bootTimestamp", start_ms);
    add_number(text, "startAcceptSendRequestTimeStamp", 0);
    add(text, "runtime", "[ %" PRId64 " days, %" PRId64 " hours, %" PRId64 " minutes, %" PRId64 " seconds ]", s / 86400,
        s / 3600 % 24, s / 60 % 60, s % 60);
}

static void info_done(struct helper_job *job, struct front *front)
{
    struct info_job *info = (struct info_job *)job;
    struct channel *channel = connections_find(front, info->channel);
    if (channel) {
        struct text text = {NULL, 0, 0};
        struct reply reply;
        channel_answered(channel);
        text_add(&text, "{\"table\":{");
        add_life(&text, front);
        add_positions(&text, front, info);
        add_disks(&text, info);
        add_queues(&text, front);
        add_rates(&text, front);
        add_totals(&text, front);
        text_add(&text, "}}");
        if (reply_begin(&reply, (struct reply_to){channel, info->opaque, false}, RESPONSE_SUCCESS,
                        (struct bytes){NULL, 0}, 0, 0))
            reply_end(&reply, (struct bytes){(const uint8_t *)text.data, text.size});
        text_free(&text);
    }
    free(info);
}

int runtime_info(struct front *front, struct channel *channel, const struct frame *frame)
{
    if (frame->flag & FRAME_FLAG_ONEWAY)
        return 0;
    struct info_job *info = calloc(1, sizeof *info);
    if (!info)
        PANIC("out of memory");
    info->job = (struct helper_job){.run = info_run, .done = info_done};
    info->config = &front->config;
    info->channel = channel->ref;
    info->opaque = frame->opaque;
    info->log_min_pos = atomic_load_explicit(&front->queue_table->log_min_pos, memory_order_relaxed);
    info->log_end_pos = atomic_load_explicit(&front->queue_table->log_readable_pos, memory_order_acquire);
    channel->outstanding++;
    helper_submit(front->helper, &info->job);
    return 0;
}
