/* Pulls; see pull.h. The front's one thread. Checks and codes in the order of Apache's PullMessageProcessor and
 * DefaultMessageStore.getMessage (remoting facts 4.1). */
#include "pull.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/panic.h"
#include "broker_stats.h"
#include "catalogue.h"
#include "damage.h"
#include "helper.h"
#include "long_poll.h"
#include "msg/names.h"
#include "offset.h"
#include "store_link.h"
#include "wire/codes.h"

enum {
    COUNT_DEFAULT = 32,     /* of a request that says no number */
    SCAN_MAX = 800,         /* queue entries looked at for one answer */
    COLD_AT_ONCE = 64,
    MEND_LOOK_MS = 5,       /* until an entry is looked at again that the store makes anew */
    COPY_BELOW = 4096,      /* a small body is copied behind its header: cheaper than a piece of its own */
};

struct pull_checked {
    int32_t code;
    const char *remark;
    const struct topic_entry *topic;
    const struct tag_filter *filter;
    struct tag_filter own; /* from the request's text */
    int forbidden_type;    /* Apache's ForbiddenType, with code 16 */
    struct group_entry *group;
};
enum { FORBIDDEN_BROKER = 1, FORBIDDEN_GROUP = 2, FORBIDDEN_TOPIC = 3, FORBIDDEN_BROADCAST = 4, FORBIDDEN_SUBSCRIPTION = 5 };

static bool is_tag(struct bytes type)
{
    return !type.size || bytes_equal_text(type, "TAG");
}

static int32_t check_subscription(struct front *front, const struct pull *pull, const struct group_entry *group,
                                  struct pull_checked *checked)
{
    if (pull->sys_flag & PULL_SUBSCRIPTION) {
        checked->remark = "the subscription has no tag in it";
        checked->filter = &checked->own;
        if (is_tag(pull->expression_type) && tag_filter_compile(pull->expression, &checked->own) < 0)
            return RESPONSE_SUBSCRIPTION_PARSE_FAILED;
        checked->remark = "the broker does not filter by message property";
        return is_tag(pull->expression_type) ? RESPONSE_SUCCESS : RESPONSE_SYSTEM_ERROR;
    }
    checked->remark = "the consumer group has no consumer here";
    if (!group || !group->consumers)
        return RESPONSE_SUBSCRIPTION_NOT_EXIST;
    checked->remark = "the consumer group may not consume by broadcast";
    checked->forbidden_type = FORBIDDEN_BROADCAST;
    if (group->message_model == MESSAGE_MODEL_BROADCASTING && group->known && !group->consume_broadcast_enable)
        return RESPONSE_NO_PERMISSION;
    checked->remark = "the consumer group may not read this topic";
    checked->forbidden_type = FORBIDDEN_SUBSCRIPTION;
    if (catalogue_is_forbidden(group, pull->topic))
        return RESPONSE_NO_PERMISSION;
    checked->remark = "the consumer group does not subscribe this topic";
    const struct subscription_entry *subscription = catalogue_subscription(group, pull->topic);
    if (!subscription)
        return RESPONSE_SUBSCRIPTION_NOT_EXIST;
    checked->remark = "the broker's subscription is older than the request's";
    if (subscription->version < pull->subscription_version)
        return RESPONSE_SUBSCRIPTION_NOT_LATEST;
    checked->remark = "the broker does not filter by message property";
    if (subscription->type != MSG_EXPRESSION_TAG)
        return RESPONSE_SYSTEM_ERROR;
    checked->remark = "the subscription has no tag in it";
    if (subscription->unparsable)
        return RESPONSE_SUBSCRIPTION_PARSE_FAILED;
    checked->filter = &subscription->filter;
    return RESPONSE_SUCCESS;
}

/* As Apache does on a pull. Nobody waits for it; while the ring is full the next pull asks again. */
static void group_auto_create(struct front *front, struct bytes name)
{
    size_t size = sizeof(struct msg_group_put) + 4 + name.size;
    struct msg_group_put *put = store_link_reserve_control(front, MSG_GROUP_PUT, size);
    if (!put)
        return;
    *put = (struct msg_group_put){.flags = MSG_GROUP_AUTO};
    struct cursor cursor = cursor_over(put + 1, size - sizeof *put);
    cursor_put_string(&cursor, name);
    cursor_put_string(&cursor, (struct bytes){NULL, 0});
}

static int32_t check(struct front *front, const struct pull *pull, struct pull_checked *checked)
{
    checked->remark = "the broker may not be read";
    checked->forbidden_type = FORBIDDEN_BROKER;
    if (!(front->config.broker_permission & FRONT_PERM_READ))
        return RESPONSE_NO_PERMISSION;
    struct group_entry *group = checked->group = catalogue_group(front->catalogue, pull->group);
    checked->remark = "the consumer group does not exist";
    if ((!group || !group->known) && (!front->config.auto_create_group || !name_group_valid(pull->group)))
        return RESPONSE_SUBSCRIPTION_GROUP_NOT_EXIST;
    if (!group || !group->known)
        group_auto_create(front, pull->group);
    checked->remark = "the consumer group may not consume";
    checked->forbidden_type = FORBIDDEN_GROUP;
    if (group && group->known && !group->consume_enable)
        return RESPONSE_NO_PERMISSION;
    checked->remark = "the topic does not exist";
    checked->topic = catalogue_topic(front->catalogue, pull->topic);
    if (!checked->topic)
        return RESPONSE_TOPIC_NOT_EXIST;
    checked->remark = "the topic may not be read";
    checked->forbidden_type = FORBIDDEN_TOPIC;
    if (!(checked->topic->perm & FRONT_PERM_READ))
        return RESPONSE_NO_PERMISSION;
    checked->remark = "the queue does not exist";
    if (pull->queue_id < 0 || pull->queue_id >= checked->topic->read_queues)
        return RESPONSE_INVALID_PARAMETER;
    return check_subscription(front, pull, group, checked);
}

static void answer(struct front *front, struct channel *channel, const struct pull *pull,
                   const struct pull_found *found)
{
    struct reply reply;
    struct reply_to to = {channel, pull->opaque, pull->oneway};
    struct bytes remark = bytes_of(found->remark ? found->remark : "");
    bool copied = found->size <= COPY_BELOW;
    uint8_t copy[COPY_BELOW];
    size_t used = 0;
    FAULT_POINT(FRONT_PULL);
    if (copied)
        for (unsigned i = 0; i < found->range_count; used += found->ranges[i++].size)
            if (!read_log_copy(copy + used, found->ranges[i].data, found->ranges[i].size)) {
                board_add(front->board, COUNTER_DISK_ERRORS, 1);
                reply_plain(to, RESPONSE_SYSTEM_ERROR, bytes_of("the message could not be read from the disk"));
                return;
            }
    if (!reply_begin(&reply, to, found->code, remark, 128, 5))
        return;
    if (found->forbidden_type)
        frame_write_i64(&reply.writer, "forbiddenType", found->forbidden_type);
    frame_write_i64(&reply.writer, "suggestWhichBrokerId", 0);
    frame_write_i64(&reply.writer, "nextBeginOffset", found->next_offset);
    frame_write_i64(&reply.writer, "minOffset", found->min_offset);
    frame_write_i64(&reply.writer, "maxOffset", found->max_offset);
    board_add(front->board, COUNTER_PULLS, 1);
    board_add(front->board, COUNTER_PULL_MESSAGES, found->count);
    board_add(front->board, COUNTER_PULL_BYTES, found->size);
    if (found->count)
        broker_stats_got(front->stats, pull->topic, pull->group, found->count, found->size);
    else
        board_add(front->board, COUNTER_PULLS_MISSED, 1);
    if (copied) {
        reply_end(&reply, (struct bytes){copy, used});
        return;
    }
    reply_end_with_body_to_come(&reply, found->size);
    for (unsigned i = 0; i < found->range_count; i++) {
        log_file_hold(found->ranges[i].file);
        if (connection_add_foreign(&channel->wire, found->ranges[i].data, found->ranges[i].size, log_file_release,
                                   found->ranges[i].file) < 0)
            PANIC("out of memory");
    }
}

/* Which code an offset outside the queue gets, as Apache's store status says; true: nothing more to look up. */
static bool check_range(const struct pull *pull, struct pull_found *found)
{
    bool from_start = pull->requested_offset == 0;
    if (found->max_offset == 0) {
        found->code = from_start ? RESPONSE_PULL_NOT_FOUND : RESPONSE_PULL_OFFSET_MOVED;
        found->remark = "NO_MESSAGE_IN_QUEUE";
        found->next_offset = 0;
    } else if (pull->offset < found->min_offset) {
        found->code = RESPONSE_PULL_OFFSET_MOVED;
        found->remark = "OFFSET_TOO_SMALL";
        found->next_offset = found->min_offset;
    } else if (pull->offset == found->max_offset) {
        found->code = RESPONSE_PULL_NOT_FOUND;
        found->remark = "OFFSET_OVERFLOW_ONE";
        found->next_offset = pull->offset;
    } else if (pull->offset > found->max_offset) {
        found->code = RESPONSE_PULL_OFFSET_MOVED;
        found->remark = "OFFSET_OVERFLOW_BADLY";
        found->next_offset = found->max_offset;
    } else {
        return false;
    }
    return true;
}

enum taken { TAKEN, SKIPPED, FULL, COLD, MENDED };

static void add_range(struct pull_found *found, struct log_file *file, const uint8_t *data, size_t size)
{
    unsigned last = found->range_count;
    if (last && found->ranges[last - 1].file == file &&
        found->ranges[last - 1].data + found->ranges[last - 1].size == data) {
        found->ranges[last - 1].size += size;
    } else {
        found->ranges[last].file = file;
        found->ranges[last].data = data;
        found->ranges[last].size = size;
        found->range_count++;
    }
    found->count++;
    found->size += size;
}

/* No entry says so, whatever its message is. What is below max_offset is below the watermark, too. */
static bool is_nonsense(const struct front *front, const struct queue_entry *entry)
{
    return entry->size < RECORD_FIXED_SIZE ||
           entry->pos > atomic_load_explicit(&front->queue_table->log_readable_pos, memory_order_acquire) - entry->size;
}

static enum taken take_entry(struct front *front, const struct pull *pull, const struct queue_ref *queue, int64_t offset,
                             const struct queue_entry *entry, struct pull_found *found)
{
    if (entry->size == QUEUE_ENTRY_PREBLANK_SIZE && entry->pos == 0)
        return SKIPPED; /* Apache's filler before a queue's first entry */
    if (entry->pos >= 0 && entry->size > 0 &&
        entry->pos < atomic_load_explicit(&front->queue_table->log_min_pos, memory_order_acquire))
        return SKIPPED; /* its file is gone */
    if (is_nonsense(front, entry) || entry->tags_code == QUEUE_TAGS_LOST)
        return damage_found(front, queue, offset, entry, READ_ASTRAY) == DAMAGE_WAIT ? MENDED : SKIPPED;
    if (found->count && found->size + (size_t)entry->size > (size_t)front->config.pull_bytes_max)
        return FULL;
    struct log_file *file;
    const uint8_t *data;
    int r = read_log_record(front->read_log, entry, pull->waited && !found->count, &file, &data, &found->cold);
    if (r == -EAGAIN)
        return COLD;
    if (r == 0 || r == -EBADMSG) {
        enum read_check check = r < 0 ? READ_ASTRAY : read_log_check(front->read_log, queue, offset, entry, data);
        if (check == READ_GOOD) {
            add_range(found, file, data, (size_t)entry->size);
            return TAKEN;
        }
        if (check != READ_ERROR)
            return damage_found(front, queue, offset, entry, check) == DAMAGE_WAIT ? MENDED : SKIPPED;
    }
    board_add(front->board, COUNTER_DISK_ERRORS, 1);
    return SKIPPED;
}

static unsigned least(int64_t a, int64_t b)
{
    return (unsigned)(a < b ? a : b);
}

/* No such queue file, though there should be one: on to the next. */
static int64_t next_file_offset(const struct front *front, int64_t offset)
{
    int64_t per_file = front->config.consume_queue_file_size / QUEUE_ENTRY_SIZE;
    return (offset / per_file + 1) * per_file;
}

/* One line for a queue's error, however often its consumers ask. */
static void tell_unreadable(struct front *front, const struct queue_ref *queue, int error)
{
    static struct {
        uint32_t slot, generation;
        int error;
    } told;
    if (told.slot == queue->slot && told.generation == queue->generation && told.error == error)
        return;
    told.slot = queue->slot;
    told.generation = queue->generation;
    told.error = error;
    log_error("consume queue %s/%d cannot be read: %s; its pulls are answered with SYSTEM_ERROR", queue->topic,
              queue->queue_id, strerror(-error));
}

int pull_lookup(struct front *front, const struct pull *pull, const struct queue_ref *queue,
                const struct tag_filter *filter, struct pull_found *ret_found)
{
    struct pull_found *found = ret_found;
    enum { CHUNK = 128 };
    struct queue_entry entries[CHUNK];
    struct queue_slot *slot = &front->queue_table->slots[queue->slot];
    found->code = RESPONSE_SUCCESS;
    found->remark = "FOUND";
    found->forbidden_type = 0;
    found->count = found->range_count = 0;
    found->size = 0;
    found->cold.fd = -1;
    found->max_offset = atomic_load_explicit(&slot->max_offset, memory_order_acquire);
    found->min_offset = atomic_load_explicit(&slot->min_offset, memory_order_acquire);
    if (check_range(pull, found))
        return 0;
    int64_t at = pull->offset, end = at + SCAN_MAX < found->max_offset ? at + SCAN_MAX : found->max_offset;
    unsigned count_max = pull->max_count < 1 ? 1 : least(pull->max_count, (int)front->config.pull_count_max);
    enum taken taken = TAKEN;
    int error = 0;
    while (at < end && found->count < count_max && (taken == TAKEN || taken == SKIPPED)) {
        unsigned wanted = least(end - at, filter->all ? count_max - found->count : CHUNK);
        int n = read_log_entries(front->read_log, queue, at, found->max_offset, wanted, entries, &found->cold);
        if (n == -EAGAIN) {
            taken = COLD;
            break;
        }
        if (n < 0) {
            board_add(front->board, COUNTER_DISK_ERRORS, 1);
            if (n != -ENOENT)
                error = n;
            else
                at = next_file_offset(front, at) < found->max_offset ? next_file_offset(front, at) : found->max_offset;
            break;
        }
        for (int i = 0; i < n; i++)
            if (tag_filter_matches(filter, entries[i].tags_code))
                read_log_prefetch(front->read_log, &entries[i]);
        for (int i = 0; i < n && found->count < count_max; i++) {
            taken = SKIPPED;
            if (tag_filter_matches(filter, entries[i].tags_code) || is_nonsense(front, &entries[i]))
                taken = take_entry(front, pull, queue, at, &entries[i], found);
            if (taken != TAKEN && taken != SKIPPED)
                break;
            at++;
        }
    }
    found->next_offset = at;
    if (taken == COLD && !found->count)
        return -EAGAIN;
    if (taken == MENDED && !found->count)
        return -EINPROGRESS;
    if (found->cold.fd >= 0)
        close(found->cold.fd); /* what is hot goes now; the rest is asked for again */
    if (!found->count && error) {
        tell_unreadable(front, queue, error);
        found->code = RESPONSE_SYSTEM_ERROR;
        found->remark = "the consume queue could not be read from the disk";
    } else if (!found->count) {
        found->code = RESPONSE_PULL_RETRY_IMMEDIATELY;
        found->remark = "NO_MATCHED_MESSAGE";
    }
    return 0;
}

enum outcome { OUTCOME_DONE, OUTCOME_PARK, OUTCOME_COLD, OUTCOME_MEND, OUTCOME_HOLD, OUTCOME_NO_ROOM };

static void refuse(struct front *front, struct channel *channel, const struct pull *pull,
                   const struct pull_checked *checked)
{
    /* A header all the same: C++ clients look into it whatever the code. */
    struct pull_found found = {.code = checked->code, .remark = checked->remark, .next_offset = pull->requested_offset};
    if (checked->code == RESPONSE_NO_PERMISSION)
        found.forbidden_type = checked->forbidden_type;
    answer(front, channel, pull, &found);
}

/* Could this answer wait? Only "nothing new": also what a woken poll found but does not want. */
static bool may_park(struct front *front, struct pull *pull, const struct pull_found *found)
{
    bool nothing =
        found->code == RESPONSE_PULL_NOT_FOUND ||
        (pull->again && found->code == RESPONSE_PULL_RETRY_IMMEDIATELY && found->next_offset == found->max_offset);
    return nothing && pull->sys_flag & PULL_SUSPEND && !pull->oneway && !front->stopping &&
           pull->deadline_ms > front->now_ms;
}

/* An administrator has sent the group elsewhere: this pull tells its client, once. The mark goes when the store is told,
 * so a full ring only puts it off. */
static bool answer_reset(struct front *front, struct channel *channel, const struct pull *pull,
                         struct group_entry *group, uint32_t slot)
{
    const struct reset_mark *mark = catalogue_reset(group, pull->topic, pull->queue_id);
    if (!mark || offset_reset_seen(front, pull->group, pull->topic, pull->queue_id, mark->offset) < 0)
        return false;
    struct queue_slot *shared = &front->queue_table->slots[slot];
    struct pull_found found = {.code = RESPONSE_PULL_OFFSET_MOVED,
                               .remark = "OFFSET_RESET",
                               .next_offset = mark->offset,
                               .min_offset = atomic_load_explicit(&shared->min_offset, memory_order_acquire),
                               .max_offset = atomic_load_explicit(&shared->max_offset, memory_order_acquire)};
    catalogue_reset_seen(group, mark);
    answer(front, channel, pull, &found);
    return true;
}

static enum outcome run_checked(struct front *front, struct channel *channel, struct pull *pull,
                                struct pull_checked *checked, struct pull_found *found)
{
    const struct topic_entry *topic = checked->topic;
    uint32_t slot = topic->slot_base + (uint32_t)pull->queue_id;
    struct queue_table *table = front->queue_table;
    if ((uint32_t)pull->queue_id >= topic->slot_count ||
        atomic_load_explicit(&table->slots[slot].generation, memory_order_acquire) != topic->slot_generation) {
        catalogue_doubt(front);
        return OUTCOME_HOLD;
    }
    if (checked->group && checked->group->resets && answer_reset(front, channel, pull, checked->group, slot))
        return OUTCOME_DONE;
    if (!pull->again && pull->sys_flag & PULL_COMMIT_OFFSET &&
        offset_commit(front, pull->group, pull->topic, pull->queue_id, pull->commit_offset) == -EAGAIN)
        return OUTCOME_NO_ROOM;
    struct queue_ref queue = {slot, topic->slot_generation, topic->name, pull->queue_id};
    pull->slot = slot;
    enum outcome outcome = OUTCOME_DONE;
    read_log_begin(front->read_log);
    int r = pull_lookup(front, pull, &queue, checked->filter, found);
    if (r == -EAGAIN) {
        outcome = OUTCOME_COLD;
    } else if (r == -EINPROGRESS) {
        outcome = OUTCOME_MEND;
    } else if (may_park(front, pull, found)) {
        pull->offset = found->next_offset;
        pull->min_offset = found->min_offset;
        pull->max_offset = found->max_offset;
        pull->has_min_max = true;
        outcome = OUTCOME_PARK;
    } else {
        answer(front, channel, pull, found);
    }
    read_log_end(front->read_log);
    return outcome;
}

/* The client has told a newer subscription with a heartbeat that the store has not answered, perhaps because it is just
 * dead: its word is waited for. (Clients pull with the new version without waiting for their heartbeat.) */
static bool heartbeat_may_help(const struct channel *channel, const struct pull *pull, int32_t code)
{
    return channel->heartbeats > 0 && !pull->oneway &&
           (code == RESPONSE_SUBSCRIPTION_NOT_LATEST || code == RESPONSE_SUBSCRIPTION_NOT_EXIST);
}

static enum outcome run(struct front *front, struct channel *channel, struct pull *pull, struct pull_found *found)
{
    struct pull_checked checked = {0};
    enum outcome outcome = OUTCOME_DONE;
    checked.code = check(front, pull, &checked);
    if (heartbeat_may_help(channel, pull, checked.code))
        outcome = OUTCOME_HOLD;
    else if (checked.code)
        refuse(front, channel, pull, &checked);
    else
        outcome = run_checked(front, channel, pull, &checked, found);
    tag_filter_free(&checked.own);
    return outcome;
}

static struct bytes keep_text(char **at, struct bytes text)
{
    struct bytes kept = {(const uint8_t *)*at, text.size};
    if (text.size)
        memcpy(*at, text.data, text.size);
    *at += text.size;
    return kept;
}

static struct pull *pull_keep(const struct pull *pull)
{
    struct pull *kept =
        malloc(sizeof *kept + pull->group.size + pull->topic.size + pull->expression.size + pull->expression_type.size);
    if (!kept)
        PANIC("out of memory");
    *kept = *pull;
    char *at = kept->text;
    kept->group = keep_text(&at, pull->group);
    kept->topic = keep_text(&at, pull->topic);
    kept->expression = keep_text(&at, pull->expression);
    kept->expression_type = keep_text(&at, pull->expression_type);
    kept->again = true;
    return kept;
}

/* A pull whose bytes a helper brings in. */
struct cold_job {
    struct helper_job job;
    struct pull *pull;
    struct cold_range range;
    int64_t since_ms;
};

static void cold_run(struct helper_job *job)
{
    struct cold_job *cold = (struct cold_job *)job;
    uint8_t scratch[65536];
    size_t done = 0;
    /* Read, not touched: an error is a number here, not a signal. The answer itself finds out. */
    while (done < cold->range.size) {
        size_t size = cold->range.size - done < sizeof scratch ? cold->range.size - done : sizeof scratch;
        ssize_t n = pread(cold->range.fd, scratch, size, cold->range.offset + (int64_t)done);
        if (n <= 0)
            break;
        done += (size_t)n;
    }
}

static void cold_done(struct helper_job *job, struct front *front);

/* Each of them holds a descriptor, so few are under way; the others wait in a line, and are looked up anew. */
static void go_cold(struct front *front, struct channel *channel, struct pull *pull, struct cold_range range)
{
    channel->outstanding++;
    if (front->cold.count >= COLD_AT_ONCE) {
        close(range.fd);
        pull->slot_next = NULL;
        *front->cold.last = pull;
        front->cold.last = &pull->slot_next;
        return;
    }
    struct cold_job *cold = calloc(1, sizeof *cold);
    if (!cold)
        PANIC("out of memory");
    cold->job.run = cold_run;
    cold->job.done = cold_done;
    cold->pull = pull;
    cold->range = range;
    cold->since_ms = front->now_ms;
    front->cold.count++;
    board_add(front->board, COUNTER_PULLS_COLD, 1);
    helper_submit(front->helper, &cold->job);
}

static void run_waiting(struct front *front)
{
    struct pull *pull = front->cold.first;
    if (!pull)
        return;
    if (!(front->cold.first = pull->slot_next))
        front->cold.last = &front->cold.first;
    struct channel *channel = connections_find(front, pull->channel);
    if (channel)
        channel_answered(channel);
    pull_again(front, pull);
}

static void cold_done(struct helper_job *job, struct front *front)
{
    struct cold_job *cold = (struct cold_job *)job;
    struct channel *channel = connections_find(front, cold->pull->channel);
    close(cold->range.fd);
    front->cold.count--;
    if (channel)
        channel_answered(channel);
    broker_stats_got_latency(front->stats, front->now_ms - cold->since_ms);
    cold->pull->waited = cold->range.is_record; /* behind a cold entry the record has not been asked for yet */
    pull_again(front, cold->pull);
    free(cold);
    /* One that is hot by now frees no place, so that the line would stand still: on until one is cold. */
    while (front->cold.first && front->cold.count < COLD_AT_ONCE)
        run_waiting(front);
}

void pull_init(struct front *front)
{
    front->cold.last = &front->cold.first;
}

void pull_done(struct front *front)
{
    for (struct pull *pull = front->cold.first, *next; pull; pull = next) {
        next = pull->slot_next;
        free(pull);
    }
}

/* A pull whose next entry the store makes again. */
struct mend_job {
    struct helper_job job;
    struct pull *pull;
};

static void mend_run(struct helper_job *job)
{
    usleep(MEND_LOOK_MS * 1000);
}

static void mend_done(struct helper_job *job, struct front *front)
{
    struct mend_job *mend = (struct mend_job *)job;
    struct channel *channel = connections_find(front, mend->pull->channel);
    if (channel)
        channel_answered(channel);
    read_log_forget_entries(front->read_log);
    pull_again(front, mend->pull);
    free(mend);
}

static void go_mend(struct front *front, struct channel *channel, struct pull *pull)
{
    struct mend_job *mend = calloc(1, sizeof *mend);
    if (!mend)
        PANIC("out of memory");
    mend->job.run = mend_run;
    mend->job.done = mend_done;
    mend->pull = pull;
    channel->outstanding++;
    helper_submit(front->helper, &mend->job);
}

/* Where a pull goes that is not answered now. */
static void wait_for(struct front *front, struct channel *channel, struct pull *kept, enum outcome outcome,
                     struct cold_range cold)
{
    if (outcome == OUTCOME_COLD)
        go_cold(front, channel, kept, cold);
    else if (outcome == OUTCOME_MEND)
        go_mend(front, channel, kept);
    else if (outcome == OUTCOME_HOLD)
        long_poll_hold(front, channel, kept);
    else
        long_poll_park(front, channel, kept);
}

void pull_again(struct front *front, struct pull *pull)
{
    struct pull_found found;
    struct channel *channel = connections_find(front, pull->channel);
    if (!channel) {
        free(pull);
        return;
    }
    /* Its client does not take what it has been given already. */
    if (channel_reads_too_slowly(channel)) {
        long_poll_put_off(channel, pull);
        return;
    }
    enum outcome outcome = OUTCOME_HOLD;
    if (catalogue_is_whole(front->catalogue))
        outcome = run(front, channel, pull, &found);
    if (outcome == OUTCOME_DONE)
        free(pull);
    else
        wait_for(front, channel, pull, outcome, outcome == OUTCOME_COLD ? found.cold : (struct cold_range){.fd = -1});
}

void pull_give_up(struct front *front, struct pull *pull)
{
    struct channel *channel = connections_find(front, pull->channel);
    struct pull_found found = {.code = RESPONSE_PULL_NOT_FOUND,
                               .remark = "OFFSET_OVERFLOW_ONE",
                               .next_offset = pull->offset,
                               .min_offset = pull->min_offset,
                               .max_offset = pull->max_offset};
    if (channel)
        answer(front, channel, pull, &found);
    free(pull);
}

void pull_refuse(struct front *front, struct pull *pull, const char *remark)
{
    struct channel *channel = connections_find(front, pull->channel);
    struct pull_found found = {.code = RESPONSE_SYSTEM_BUSY, .remark = remark, .next_offset = pull->offset};
    if (channel)
        answer(front, channel, pull, &found);
    free(pull);
}

static struct bytes text_of(const struct frame *frame, const char *key)
{
    const struct bytes *value = frame_get(frame, key);
    return value ? *value : (struct bytes){NULL, 0};
}

static const char *parse(const struct frame *frame, struct pull *pull)
{
    pull->group = text_of(frame, "consumerGroup");
    pull->topic = text_of(frame, "topic");
    pull->expression = text_of(frame, "subscription");
    pull->expression_type = text_of(frame, "expressionType");
    if (frame_get_i32(frame, "queueId", -1, &pull->queue_id) < 0)
        return "queueId";
    if (frame_get_i64(frame, "queueOffset", 0, &pull->requested_offset) < 0)
        return "queueOffset";
    if (frame_get_i32(frame, "maxMsgNums", COUNT_DEFAULT, &pull->max_count) < 0)
        return "maxMsgNums";
    if (frame_get_i32(frame, "sysFlag", 0, &pull->sys_flag) < 0)
        return "sysFlag";
    if (frame_get_i64(frame, "commitOffset", 0, &pull->commit_offset) < 0)
        return "commitOffset";
    if (frame_get_i64(frame, "suspendTimeoutMillis", 0, &pull->suspend_ms) < 0)
        return "suspendTimeoutMillis";
    if (frame_get_i64(frame, "subVersion", 0, &pull->subscription_version) < 0)
        return "subVersion";
    return NULL;
}

int pull_message(struct front *front, struct channel *channel, const struct frame *frame)
{
    enum { SUSPEND_MAX_MS = 24 * 3600 * 1000 };
    struct pull_found found;
    struct pull pull = {
        .channel = channel->ref, .opaque = frame->opaque, .oneway = (frame->flag & FRAME_FLAG_ONEWAY) != 0};
    const char *bad_field = parse(frame, &pull);
    if (bad_field) {
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "the header field %s is not a number", bad_field);
        return 0;
    }
    pull.offset = pull.requested_offset;
    pull.deadline_ms = front->now_ms + (pull.suspend_ms < SUSPEND_MAX_MS ? pull.suspend_ms : SUSPEND_MAX_MS);
    enum outcome outcome = run(front, channel, &pull, &found);
    if (outcome == OUTCOME_NO_ROOM)
        return -EAGAIN;
    if (outcome != OUTCOME_DONE)
        wait_for(front, channel, pull_keep(&pull), outcome,
                 outcome == OUTCOME_COLD ? found.cold : (struct cold_range){.fd = -1});
    return 0;
}
