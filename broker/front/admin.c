/* Jobs of administrators' requests: see admin.h. The front's one thread; only admin_look_up's reading runs elsewhere. A
 * client that goes away does not stop its job: what it asked for is done. Out of memory is fatal. */
#include "admin.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/panic.h"
#include "msg/msg.h"
#include "pending.h"
#include "search.h"
#include "store_link.h"
#include "wire/codes.h"

enum {
    JOBS_MAX = 1024,
    BODY_MAX = FRAME_SIZE_MAX - 4096, /* the rest is for the header */
};

struct admin {
    struct admin_job *waiting, **waiting_end; /* for room in the control ring */
    unsigned jobs;
};

int admin_new(struct front *front)
{
    front->admin = calloc(1, sizeof *front->admin);
    if (!front->admin)
        return -ENOMEM;
    front->admin->waiting_end = &front->admin->waiting;
    return 0;
}

static void *allocate(size_t size)
{
    void *p = calloc(1, size);
    if (!p)
        PANIC("out of memory");
    return p;
}

char *admin_copy(struct bytes text)
{
    char *copy = text.size ? strndup((const char *)text.data, text.size) : strdup("");
    if (!copy)
        PANIC("out of memory");
    return copy;
}

static void *grow(void *list, unsigned *room, size_t item)
{
    *room = *room ? *room * 2 : 16;
    list = realloc(list, *room * item);
    if (!list)
        PANIC("out of memory");
    return list;
}

static void forget_offsets(struct offset_list *list)
{
    for (unsigned i = 0; i < list->count; i++) {
        free(list->entries[i].topic);
        free(list->entries[i].group);
        free(list->entries[i].queues);
    }
    free(list->entries);
    *list = (struct offset_list){0};
}

static void job_free(struct admin_job *job)
{
    while (job->records) {
        struct admin_record *next = job->records->next;
        free(job->records);
        job->records = next;
    }
    forget_offsets(&job->offsets);
    text_free(&job->body);
    free(job->rows);
    free(job->after);
    free(job->topic);
    free(job->group);
    free(job->text);
    free(job->compare);
    free(job->filter);
    free(job);
}

void admin_free(struct admin *admin)
{
    if (!admin)
        return;
    for (struct admin_job *job = admin->waiting, *next; job; job = next) {
        next = job->next;
        job_free(job);
    }
    free(admin);
}

bool admin_may(struct front *front, struct channel *channel, const struct frame *frame)
{
    struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6};
    struct sockaddr_in ipv4 = {.sin_family = AF_INET};
    memcpy(&ipv6.sin6_addr, channel->peer_ip, 16);
    memcpy(&ipv4.sin_addr, channel->peer_ip, 4);
    const struct sockaddr *peer = channel->peer_ipv6 ? (const struct sockaddr *)&ipv6 : (const struct sockaddr *)&ipv4;
    if (address_list_has(&front->config.admin_from, peer))
        return true;
    board_add(front->board, COUNTER_REQUESTS_FORBIDDEN, 1);
    char address[INET6_ADDRSTRLEN] = "?";
    inet_ntop(channel->peer_ipv6 ? AF_INET6 : AF_INET, channel->peer_ip, address, sizeof address);
    reply_error(channel, frame, RESPONSE_NO_PERMISSION,
                "%s is taken only from the addresses that adminFrom names, not from %s", request_code_name(frame->code),
                address);
    return false;
}

/* Jobs. */

bool admin_is_full(const struct front *front)
{
    return front->admin->jobs >= JOBS_MAX;
}

struct admin_job *admin_begin(struct front *front, struct channel *channel, const struct frame *frame)
{
    struct admin_job *job = allocate(sizeof *job);
    struct bytes topic = admin_field(frame, "topic");
    job->channel = channel->ref;
    job->opaque = frame->opaque;
    job->oneway = frame->flag & FRAME_FLAG_ONEWAY;
    job->config = &front->config;
    job->records_end = &job->records;
    job->after_queue = -1;
    job->search_ms = -1;
    job->topic = admin_copy(topic);
    channel->outstanding++;
    front->admin->jobs++;
    return job;
}

static struct reply_to finish(struct front *front, struct admin_job *job)
{
    struct channel *channel = connections_find(front, job->channel);
    if (channel)
        channel_answered(channel);
    if (front->admin->jobs-- == JOBS_MAX)
        front->resume_wanted = true;
    return (struct reply_to){channel, job->opaque, job->oneway};
}

void admin_end(struct front *front, struct admin_job *job, int32_t code, const char *remark)
{
    reply_plain(finish(front, job), code, bytes_of(remark));
    job_free(job);
}

static void reply_body(struct reply_to to, const struct text *text)
{
    struct reply reply;
    if (text->size > BODY_MAX) {
        reply_plain(to, RESPONSE_SYSTEM_ERROR,
                    bytes_of("the answer is larger than a frame may be: ask for less at once"));
        return;
    }
    if (reply_begin(&reply, to, RESPONSE_SUCCESS, (struct bytes){NULL, 0}, 0, 0))
        reply_end(&reply, (struct bytes){(const uint8_t *)text->data, text->size});
}

void admin_end_body(struct front *front, struct admin_job *job)
{
    reply_body(finish(front, job), &job->body);
    job_free(job);
}

void admin_reply_body(struct channel *channel, const struct frame *frame, struct text *text)
{
    reply_body(reply_to(channel, frame), text);
    text_free(text);
}

struct bytes admin_field(const struct frame *frame, const char *key)
{
    const struct bytes *value = frame_get(frame, key);
    return value ? *value : (struct bytes){(const uint8_t *)"", 0};
}

bool admin_queue_range(struct front *front, const struct topic_entry *topic, int32_t queue_id, int64_t *ret_min,
                       int64_t *ret_max)
{
    *ret_min = *ret_max = 0;
    if (queue_id < 0 || (uint32_t)queue_id >= topic->slot_count)
        return false;
    struct queue_slot *slot = &front->queue_table->slots[topic->slot_base + (uint32_t)queue_id];
    if (atomic_load_explicit(&slot->generation, memory_order_acquire) != topic->slot_generation)
        return false;
    *ret_max = atomic_load_explicit(&slot->max_offset, memory_order_acquire);
    *ret_min = atomic_load_explicit(&slot->min_offset, memory_order_acquire);
    return true;
}

/* Records for the store. */

void admin_add_record(struct admin_job *job, uint16_t kind, const void *fixed, size_t fixed_size,
                      const struct bytes *strings, unsigned count)
{
    size_t size = fixed_size;
    for (unsigned i = 0; i < count; i++)
        size += 2 + strings[i].size;
    struct admin_record *record = allocate(sizeof *record + size);
    record->kind = kind;
    record->size = (uint32_t)size;
    memcpy(record->payload, fixed, fixed_size);
    struct cursor cursor = cursor_over(record->payload + fixed_size, size - fixed_size);
    for (unsigned i = 0; i < count; i++)
        cursor_put_string(&cursor, strings[i]);
    pn_assert(!cursor.bad); /* the handler has checked the sizes */
    *job->records_end = record;
    job->records_end = &record->next;
}

static void wait_for_room(struct front *front, struct admin_job *job)
{
    job->next = NULL;
    *front->admin->waiting_end = job;
    front->admin->waiting_end = &job->next;
}

/* The question for the next part of a listing; it stays the job's only record. */
static void make_question(struct admin_job *job)
{
    struct msg_offset_list list = {.after_queue = job->after_queue};
    struct bytes strings[] = {bytes_of(job->group ? job->group : ""), bytes_of(job->text ? job->text : ""),
                              bytes_of(job->after ? job->after : "")};
    admin_add_record(job, MSG_OFFSET_LIST, &list, sizeof list, strings, 3);
}

/* Sends the first record, or does what comes behind the last one. */
static void go_on(struct front *front, struct admin_job *job)
{
    struct admin_record *record = job->records;
    if (!record) {
        job->then(front, job);
        return;
    }
    if (record->size > store_link_control_max(front->link)) {
        admin_end(front, job, RESPONSE_SYSTEM_ERROR, "the request is too large");
        return;
    }
    uint8_t *payload = store_link_reserve_control(front, record->kind, record->size);
    if (!payload) {
        wait_for_room(front, job);
        return;
    }
    struct pending_request request = {
        .channel = job->channel, .opaque = job->opaque, .kind = PENDING_ADMIN, .extra = job};
    uint64_t token = pending_add(front->pending, &request);
    memcpy(payload, record->payload, record->size);
    memcpy(payload, &token, sizeof token);
    job->records = record->next;
    if (!job->records)
        job->records_end = &job->records;
    free(record);
    if (!token)
        admin_end(front, job, RESPONSE_SYSTEM_BUSY, "[REJECTREQUEST]too many requests are outstanding");
}

void admin_turn(struct front *front)
{
    struct admin *admin = front->admin;
    struct admin_job *job = admin->waiting;
    admin->waiting = NULL;
    admin->waiting_end = &admin->waiting;
    for (struct admin_job *next; job; job = next) {
        next = job->next;
        go_on(front, job);
    }
}

bool admin_waiting(const struct front *front)
{
    return front->admin->waiting;
}

void admin_send(struct front *front, struct admin_job *job, admin_then then)
{
    job->collecting = false;
    job->then = then;
    go_on(front, job);
}

void admin_answered(struct front *front, struct admin_job *job, int32_t code, struct bytes remark)
{
    if (code != RESPONSE_SUCCESS) {
        reply_plain(finish(front, job), code, remark);
        job_free(job);
        return;
    }
    go_on(front, job);
}

/* Listings. `group` and `text` of the job are the filter until the end. */

void admin_collect(struct front *front, struct admin_job *job, struct bytes group, struct bytes topic, admin_then then)
{
    free(job->group);
    free(job->text);
    job->group = admin_copy(group);
    job->text = admin_copy(topic);
    job->collecting = true;
    job->then = then;
    make_question(job);
    go_on(front, job);
}

static struct listed_offsets *listed_entry(struct offset_list *list, struct bytes key)
{
    const uint8_t *at = memchr(key.data, '@', key.size);
    pn_assert(at); /* the store's keys have it */
    struct bytes topic = {key.data, (size_t)(at - key.data)};
    struct bytes group = {at + 1, key.size - topic.size - 1};
    struct listed_offsets *last = list->count ? &list->entries[list->count - 1] : NULL;
    if (last && bytes_equal_text(topic, last->topic) && bytes_equal_text(group, last->group))
        return last; /* goes on where the answer before was full */
    if (list->count == list->room)
        list->entries = grow(list->entries, &list->room, sizeof *list->entries);
    last = &list->entries[list->count++];
    *last = (struct listed_offsets){.topic = admin_copy(topic), .group = admin_copy(group)};
    return last;
}

void admin_listed(struct front *front, struct admin_job *job, const uint8_t *payload, uint32_t size)
{
    struct msg_offset_list_answer answer;
    memcpy(&answer, payload, sizeof answer);
    struct cursor cursor = cursor_over(payload + sizeof answer, size - sizeof answer);
    if (answer.start_over)
        forget_offsets(&job->offsets);
    for (uint32_t i = 0; i < answer.count; i++) {
        struct listed_offsets *entry = listed_entry(&job->offsets, cursor_get_string(&cursor));
        uint32_t count = cursor_get_u32(&cursor);
        for (uint32_t q = 0; q < count; q++) {
            if (entry->count == entry->room)
                entry->queues = grow(entry->queues, &entry->room, sizeof *entry->queues);
            struct listed_queue *queue = &entry->queues[entry->count++];
            queue->queue_id = cursor_get_i32(&cursor);
            queue->offset = cursor_get_i64(&cursor);
        }
    }
    struct bytes after = cursor_get_string(&cursor);
    pn_assert(!cursor.bad);
    job->offsets.version = answer.version;
    free(job->after);
    job->after = admin_copy(after);
    job->after_queue = answer.start_over ? -1 : answer.after_queue;
    if (answer.more)
        make_question(job);
    go_on(front, job);
}

const struct listed_offsets *offset_list_find(const struct offset_list *list, const char *topic, const char *group)
{
    for (unsigned i = 0; i < list->count; i++)
        if (strcmp(topic, list->entries[i].topic) == 0 && strcmp(group, list->entries[i].group) == 0)
            return &list->entries[i];
    return NULL;
}

int64_t listed_offset(const struct listed_offsets *entry, int32_t queue_id)
{
    unsigned low = 0, high = entry ? entry->count : 0;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (entry->queues[middle].queue_id < queue_id)
            low = middle + 1;
        else
            high = middle;
    }
    return entry && low < entry->count && entry->queues[low].queue_id == queue_id ? entry->queues[low].offset : -1;
}

/* Store times. */

struct queue_times *admin_add_row(struct admin_job *job, const char *topic, int32_t queue_id)
{
    if (job->row_count == job->row_room)
        job->rows = grow(job->rows, &job->row_room, sizeof *job->rows);
    struct queue_times *row = &job->rows[job->row_count++];
    *row = (struct queue_times){.topic = topic, .queue_id = queue_id, .offset = -1};
    return row;
}

static int64_t time_of(const struct admin_job *job, const struct queue_times *row, int64_t offset)
{
    if (offset < row->min_offset || offset >= row->max_offset)
        return -1;
    return search_store_time(job->config, row->topic, row->queue_id, offset);
}

static void look_up_run(struct helper_job *helper)
{
    struct admin_job *job = (struct admin_job *)helper;
    for (unsigned i = 0; i < job->row_count; i++) {
        struct queue_times *row = &job->rows[i];
        row->first_ms = time_of(job, row, row->min_offset);
        row->last_ms = time_of(job, row, row->max_offset - 1);
        row->before_ms = time_of(job, row, row->offset - 1);
        row->at_ms = time_of(job, row, row->offset);
        if (job->search_ms >= 0)
            row->found_offset = search_offset(job->config, row->topic, row->queue_id, row->min_offset, row->max_offset,
                                              job->search_ms, false);
    }
}

static void look_up_done(struct helper_job *helper, struct front *front)
{
    struct admin_job *job = (struct admin_job *)helper;
    job->then(front, job);
}

void admin_look_up(struct front *front, struct admin_job *job, admin_then then)
{
    job->then = then;
    job->helper.run = look_up_run;
    job->helper.done = look_up_done;
    helper_submit(front->helper, &job->helper);
}
