/* The metadata half of the store: opens it, hands each control record to the module that serves it, answers. Store
 * process, its one thread.
 *
 * Warm: the image is replayed and no file is read; an image that does not check out makes the start cold. Cold: files →
 * tables → one image. Each request's effect is in the image before its answer is in the ring, and the catalogue records
 * that it caused are before its answer, as far as the ring has room. */
#include "metadata.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/panic.h"
#include "catalogue.h"
#include "codes.h"
#include "cold_load.h"
#include "config_files.h"
#include "consume_queue.h"
#include "delay.h"
#include "groups.h"
#include "held_answers.h"
#include "image.h"
#include "journal.h"
#include "members.h"
#include "offsets.h"
#include "queue_locks.h"
#include "queue_mend.h"
#include "registration.h"
#include "relay.h"
#include "retention.h"
#include "run_time_config.h"
#include "shm/board.h"
#include "topics.h"

enum {
    SWEEP_MS = 10000,
    IMAGE_OFFSET_SIZE = 96, /* about what one takes there */
};
_Static_assert(MSG_OFFSET_LIST_MAX <= PEER_CONTROL_ANSWER_ROOM / 2, "an answer has room");

struct metadata {
    sd_event_source *sweep_timer;
    bool locks_looked; /* locks of clients that did not come back are released */
    struct journal_note notes[CONFIG_FILE_COUNT]; /* files that a cold start has read */
    unsigned note_count;
    bool warm;
};

/* Opening. */

static void write_everything(struct image *image, void *context)
{
    struct store *store = context;
    topics_write_image(store->topics, image);
    groups_write_image(store->groups, image);
    offsets_write_image(store->offsets, image);
    queue_locks_write_image(store->queue_locks, image);
    run_time_config_write_image(store->run_time_config, image);
    delay_write_image(store->delay, image);
}

static int apply_record(void *context, enum image_type type, struct bytes payload)
{
    struct store *store = context;
    switch (type) {
    case IMAGE_TOPIC_PUT:
    case IMAGE_TOPIC_DROP:
    case IMAGE_TOPICS_VERSION:
        return topics_apply_image(store, type, payload);
    case IMAGE_GROUP_PUT:
    case IMAGE_GROUP_DROP:
    case IMAGE_GROUPS_VERSION:
        return groups_apply_image(store, type, payload);
    case IMAGE_OFFSET:
    case IMAGE_OFFSETS_VERSION:
    case IMAGE_RESET:
    case IMAGE_RESET_SEEN:
        return offsets_apply_image(store, type, payload);
    case IMAGE_LOCK:
    case IMAGE_UNLOCK:
        return queue_locks_apply_image(store, type, payload);
    case IMAGE_RUN_TIME_CONFIG:
        return run_time_config_apply_image(store, payload);
    case IMAGE_DELAY:
        return delay_apply_image(store, payload);
    }
    return -EBADMSG;
}

static int make_tables(struct store *store)
{
    int r = topics_new(&store->topics);
    if (r == 0)
        r = groups_new(&store->groups);
    if (r == 0)
        r = offsets_new(&store->offsets);
    if (r == 0)
        r = queue_locks_new(&store->queue_locks);
    if (r == 0)
        r = run_time_config_new(store, &store->run_time_config);
    if (r == 0)
        r = delay_new(store, &store->delay);
    return r;
}

static void free_tables(struct store *store)
{
    topics_free(store->topics);
    groups_free(store->groups);
    offsets_free(store->offsets);
    queue_locks_free(store->queue_locks);
    run_time_config_free(store->run_time_config);
    delay_free(TAKE_PTR(store->delay));
    store->run_time_config = NULL;
    store->topics = NULL;
    store->groups = NULL;
    store->offsets = NULL;
    store->queue_locks = NULL;
}

static int load_image(struct store *store)
{
    offsets_expect(store->offsets, (image_published_mark(store->image) & IMAGE_POS_MASK) / IMAGE_OFFSET_SIZE);
    int r = image_replay(store->image, apply_record, store);
    if (r == 0)
        r = topics_loaded(store);
    if (r == 0)
        queue_locks_sweep(store->queue_locks, clock_monotonic_ms());
    return r;
}

static int load_cold(struct store *store)
{
    free_tables(store);
    int r = make_tables(store);
    if (r < 0)
        return r;
    image_forget(store->image);
    r = cold_load(store, store->metadata->notes, &store->metadata->note_count);
    if (r < 0)
        return r;
    return image_flip(store->image);
}

int metadata_open(struct store *store, int image_fd, bool warm)
{
    int r = image_open(image_fd, write_everything, store, &store->image);
    if (r < 0) {
        log_error("cannot use the metadata image: %s", strerror(-r));
        return r;
    }
    store->metadata = calloc(1, sizeof *store->metadata);
    if (!store->metadata)
        return -ENOMEM;
    r = make_tables(store);
    if (r == 0)
        r = members_new(&store->members);
    if (r == 0)
        r = catalogue_new(&store->catalogue);
    if (r < 0)
        return r;
    board_set(store->board, COUNTER_MEMBERS, 0); /* the predecessor's members come again */
    r = warm ? load_image(store) : -ENODATA;
    store->metadata->warm = r == 0;
    if (warm && r < 0)
        log_warning("the metadata image is not usable (%s): reading config/", strerror(-r));
    if (r < 0)
        r = load_cold(store);
    if (r == 0)
        r = topics_make_system(store);
    if (r == 0)
        r = delay_topic_ensure(store);
    if (r == 0)
        r = groups_make_system(store);
    return r;
}

static int on_sweep(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct store *store = userdata;
    queue_locks_sweep(store->queue_locks, clock_monotonic_ms());
    int r = sd_event_source_set_time_relative(source, SWEEP_MS * 1000);
    return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

int metadata_start(struct store *store)
{
    int r = journal_start(store, store->metadata->notes, store->metadata->note_count, &store->journal);
    if (r == 0)
        r = held_answers_new(store, &store->held_answers);
    if (r == 0) {
        if (store->metadata->warm) /* what the predecessor did not get there; what files say is safe */
            held_answers_batch(store, 0);
        r = config_files_start(store);
    }
    if (r == 0)
        r = registration_start(store);
    if (r == 0)
        r = sd_event_add_time_relative(store->event, &store->metadata->sweep_timer, CLOCK_MONOTONIC, SWEEP_MS * 1000,
                                       1000000, on_sweep, store);
    if (r < 0)
        log_error("cannot start the metadata half: %s", strerror(-r));
    return r;
}

void metadata_stop(struct store *store)
{
    registration_stop(store);
    /* First what is a store's alone: files take their time. */
    if (store->journal)
        journal_want_offsets(store->journal, image_mark(store->image));
    config_files_stop(store);
    held_answers_free(TAKE_PTR(store->held_answers));
    journal_stop(TAKE_PTR(store->journal));
}

void metadata_free(struct store *store)
{
    metadata_stop(store);
    if (store->metadata)
        sd_event_source_disable_unref(store->metadata->sweep_timer);
    free(store->metadata);
    store->metadata = NULL;
    catalogue_free(store->catalogue);
    store->catalogue = NULL;
    members_free(store->members);
    store->members = NULL;
    free_tables(store);
    image_free(store->image);
    store->image = NULL;
}

void metadata_clamp_offsets(struct store *store)
{
    if (topics_forget_dropped(store->topics) && image_flip(store->image) < 0)
        log_warning("the metadata image is full: it still names topics that were dropped");
    offsets_clamp(store);
}

/* The journal, and who waits for it. */

bool metadata_answer_held(struct store *store)
{
    return held_answers_turn(store);
}

uint64_t metadata_release_pos(const struct store *store, const struct peer *peer)
{
    uint64_t held_pos = held_answers_release_pos(store->held_answers, peer);
    return held_pos < peer->control_in.next_pos ? held_pos : peer->control_in.next_pos;
}

void metadata_batch_taken(struct store *store, int64_t base_pos)
{
    held_answers_batch(store, base_pos);
}

int64_t metadata_stable_pos(struct store *store)
{
    return held_answers_stable_pos(store);
}

bool metadata_holds_answers(const struct store *store)
{
    return held_answers_any(store->held_answers);
}

/* Peers. */

/* Some front has replayed or is gone. When the last one has, the locks of clients that did not come back are free. */
static void look_at_replays(struct store *store)
{
    if (!catalogue_all_replayed(store))
        return;
    if (!store->metadata->locks_looked)
        queue_locks_release_absent(store);
    store->metadata->locks_looked = true;
    catalogue_look(store);
}

void metadata_peer_added(struct store *store, struct peer *peer)
{
    catalogue_peer_added(store, peer);
}

void metadata_peer_gone(struct store *store, struct peer *peer)
{
    held_answers_drop_peer(store->held_answers, peer);
    catalogue_peer_gone(store, peer);
    members_drop_peer(store, peer);
    /* It holds nobody up any more, also while it is still in the list of peers. */
    peer->replayed = true;
    look_at_replays(store);
}

void metadata_feed_catalogue(struct store *store)
{
    catalogue_feed(store);
    relay_feed(store);
}

/* Requests. */

struct request {
    struct store *store;
    struct peer *peer;
    const void *payload;
    size_t size;
    uint64_t pos;
    enum { PROMISES_NOTHING, PROMISES, PROMISES_IF_IT_CAN } promise;
    uint64_t promised_before; /* mark */
};

/* What is answered only when the journal has it. Heartbeats and pulls that make a group go on without it where it fails. */
static void set_promise(struct request *request, enum msg_kind kind)
{
    struct msg_group_put put;
    request->promised_before = image_promised_mark(request->store->image);
    switch (kind) {
    case MSG_TOPIC_PUT:
    case MSG_TOPIC_DROP:
    case MSG_GROUP_DROP:
    case MSG_GROUP_FORBID:
    case MSG_CONFIG_PUT:
        request->promise = PROMISES;
        break;
    case MSG_GROUP_PUT:
        memcpy(&put, request->payload, sizeof put);
        request->promise = put.flags & MSG_GROUP_AUTO ? PROMISES_IF_IT_CAN : PROMISES;
        break;
    case MSG_MEMBER_PUT:
    case MSG_OFFSET_RESET:
        request->promise = PROMISES_IF_IT_CAN;
        break;
    default:
        request->promise = PROMISES_NOTHING;
    }
}

/* Also of what was there already: a predecessor may have died between image and journal. */
static bool is_to_wait(const struct request *request)
{
    struct store *store = request->store;
    if (held_answers_are_due(store))
        return false;
    return request->promise == PROMISES ||
           (request->promise == PROMISES_IF_IT_CAN && image_promised_mark(store->image) > request->promised_before);
}

static void answer(const struct request *request, uint64_t token, int32_t code, int64_t value, const char *remark)
{
    if (token == 0)
        return;
    catalogue_feed_peer(request->store, request->peer);
    if (code == CODE_SUCCESS && is_to_wait(request)) {
        pn_assert(value == 0);
        struct held_answer held = {request->peer, token, request->pos, request->promise == PROMISES_IF_IT_CAN, remark};
        held_answers_add(request->store, &held);
        return;
    }
    peer_answer(request->peer, token, request->pos, code, value, remark);
}

static struct cursor strings_behind(const struct request *request, size_t fixed_size)
{
    pn_assert(request->size >= fixed_size);
    return cursor_over((const uint8_t *)request->payload + fixed_size, request->size - fixed_size);
}

static void take_member_put(const struct request *request)
{
    struct msg_member_put put;
    memcpy(&put, request->payload, sizeof put);
    int r = members_put(request->store, request->peer, request->payload, request->size);
    if (r == -EBADMSG)
        board_add(request->store->board, COUNTER_RECORDS_REFUSED, 1);
    if (put.flags & MSG_MEMBER_ANSWER)
        answer(request, put.token, r < 0 ? CODE_SYSTEM_ERROR : CODE_SUCCESS, 0,
               r < 0 ? "the heartbeat has an unusable name or subscription" : "");
}

static void take_member_drop(const struct request *request)
{
    struct msg_member_drop drop;
    memcpy(&drop, request->payload, sizeof drop);
    struct cursor c = strings_behind(request, sizeof drop);
    struct bytes group = cursor_get_string(&c);
    members_drop(request->store, request->peer, drop.connection, group, drop.is_producer);
    answer(request, drop.token, CODE_SUCCESS, 0, "");
}

static void take_replay_end(const struct request *request)
{
    struct msg_replay replay;
    memcpy(&replay, request->payload, sizeof replay);
    bool mine = replay.store_generation == request->store->generation;
    if (mine) {
        request->peer->replayed = true;
        look_at_replays(request->store);
    }
    answer(request, replay.token, mine ? CODE_SUCCESS : CODE_SYSTEM_ERROR, 0,
           mine ? "" : "the replay was for another store");
}

static void take_catalogue_ask(const struct request *request)
{
    struct msg_replay ask;
    memcpy(&ask, request->payload, sizeof ask);
    catalogue_ask(request->store, request->peer);
    answer(request, ask.token, CODE_SUCCESS, 0, "");
}

static void take_offset(const struct request *request, bool is_commit)
{
    struct msg_offset offset;
    memcpy(&offset, request->payload, sizeof offset);
    struct cursor c = strings_behind(request, sizeof offset);
    struct bytes group = cursor_get_string(&c), topic = cursor_get_string(&c);
    const char *remark;
    int64_t value = 0;
    int32_t code;
    if (is_commit)
        code = offsets_commit(request->store, group, topic, offset.queue_id, offset.offset, &remark);
    else
        code = offsets_query(request->store, group, topic, offset.queue_id,
                             offset.flags & MSG_OFFSET_ZERO_IF_NOT_FOUND_OFF ? OFFSET_NO_GUESS
                             : offset.flags & MSG_OFFSET_EMPTY_IS_ZERO       ? OFFSET_GUESS_ALSO_EMPTY
                                                                             : OFFSET_GUESS,
                             &value, &remark);
    answer(request, offset.token, code, value, remark);
}

static void take_queue_lock(const struct request *request)
{
    struct msg_lock lock;
    memcpy(&lock, request->payload, sizeof lock);
    struct cursor c = strings_behind(request, sizeof lock);
    struct bytes client_id = cursor_get_string(&c), group = cursor_get_string(&c);
    catalogue_feed_peer(request->store, request->peer);
    struct msg_lock_answer *out = NULL;
    size_t size = sizeof *out + lock.count;
    pn_assert(lock.count <= MSG_LOCK_COUNT_MAX && size <= PEER_CONTROL_ANSWER_ROOM / 2);
    if (lock.token) {
        out = ring_reserve(&request->peer->control_out, MSG_LOCK_ANSWER, 0, size, NULL);
        pn_assert(out); /* the turn takes a request only while there is room for its answer */
        *out = (struct msg_lock_answer){
            .token = lock.token, .request_pos = request->pos, .code = CODE_SUCCESS, .count = lock.count};
    }
    int64_t now_ms = clock_monotonic_ms();
    for (uint32_t i = 0; i < lock.count; i++) {
        int32_t queue_id = cursor_get_i32(&c);
        struct bytes topic = cursor_get_string(&c);
        bool held = queue_locks_take(request->store, client_id, group, topic, queue_id, now_ms);
        if (out)
            ((uint8_t *)(out + 1))[i] = held;
    }
    pn_assert(!c.bad);
}

static void take_queue_unlock(const struct request *request)
{
    struct msg_lock lock;
    memcpy(&lock, request->payload, sizeof lock);
    struct cursor c = strings_behind(request, sizeof lock);
    struct bytes client_id = cursor_get_string(&c), group = cursor_get_string(&c);
    for (uint32_t i = 0; i < lock.count; i++) {
        int32_t queue_id = cursor_get_i32(&c);
        queue_locks_release(request->store, client_id, group, cursor_get_string(&c), queue_id);
    }
    pn_assert(!c.bad);
    answer(request, lock.token, CODE_SUCCESS, 0, "");
}

static void take_topic_put(const struct request *request)
{
    struct msg_topic_put put;
    memcpy(&put, request->payload, sizeof put);
    struct cursor c = strings_behind(request, sizeof put);
    struct bytes name = cursor_get_string(&c), attributes = cursor_get_string(&c);
    const char *remark;
    int32_t code = topics_admin_put(request->store, &put, name, attributes, &remark);
    answer(request, put.token, code, 0, remark);
}

static struct msg_admin admin_of(const struct request *request, struct cursor *ret_strings)
{
    struct msg_admin admin;
    memcpy(&admin, request->payload, sizeof admin);
    *ret_strings = strings_behind(request, sizeof admin);
    return admin;
}

static void take_topic_drop(const struct request *request)
{
    struct cursor c;
    struct msg_admin admin = admin_of(request, &c);
    const char *remark;
    int32_t code = topics_admin_drop(request->store, cursor_get_string(&c), &remark);
    answer(request, admin.token, code, 0, remark);
}

static void take_group_put(const struct request *request)
{
    struct msg_group_put put;
    memcpy(&put, request->payload, sizeof put);
    struct cursor c = strings_behind(request, sizeof put);
    struct bytes name = cursor_get_string(&c), extra = cursor_get_string(&c);
    const char *remark;
    int32_t code = groups_admin_put(request->store, &put, name, extra, &remark);
    answer(request, put.token, code, 0, remark);
}

static void take_group_drop(const struct request *request)
{
    struct cursor c;
    struct msg_admin admin = admin_of(request, &c);
    const char *remark;
    int32_t code =
        groups_admin_drop(request->store, cursor_get_string(&c), admin.flags & MSG_ADMIN_CLEAN_OFFSETS, &remark);
    answer(request, admin.token, code, 0, remark);
}

static void take_group_forbid(const struct request *request)
{
    struct cursor c;
    struct msg_admin admin = admin_of(request, &c);
    struct bytes group = cursor_get_string(&c), topic = cursor_get_string(&c);
    const char *remark;
    int32_t code = groups_forbid(request->store, group, topic, admin.flags & MSG_ADMIN_FORBIDDEN, &remark);
    answer(request, admin.token, code, 0, remark);
}

static void take_offset_reset(const struct request *request, bool is_seen)
{
    struct msg_offset offset;
    memcpy(&offset, request->payload, sizeof offset);
    struct cursor c = strings_behind(request, sizeof offset);
    struct bytes group = cursor_get_string(&c), topic = cursor_get_string(&c);
    const char *remark = "";
    int32_t code = CODE_SUCCESS;
    if (is_seen)
        offsets_reset_seen(request->store, group, topic, offset.queue_id, offset.offset);
    else
        code = offsets_reset(request->store, group, topic, offset.queue_id, offset.offset, &remark);
    answer(request, offset.token, code, 0, remark);
}

static void take_queue_mend(const struct request *request)
{
    struct msg_offset offset;
    memcpy(&offset, request->payload, sizeof offset);
    struct cursor c = strings_behind(request, sizeof offset);
    cursor_get_string(&c); /* no group */
    if (request->store->queue_mend)
        queue_mend_ask(request->store->queue_mend, cursor_get_string(&c), offset.queue_id, offset.offset);
}

static void take_offset_clone(const struct request *request)
{
    struct cursor c;
    struct msg_admin admin = admin_of(request, &c);
    struct bytes from = cursor_get_string(&c), to = cursor_get_string(&c), topic = cursor_get_string(&c);
    const char *remark;
    int32_t code = offsets_clone(request->store, from, to, topic, &remark);
    answer(request, admin.token, code, 0, remark);
}

static void take_offset_list(const struct request *request)
{
    struct msg_offset_list list;
    memcpy(&list, request->payload, sizeof list);
    struct cursor c = strings_behind(request, sizeof list);
    struct bytes group = cursor_get_string(&c), topic = cursor_get_string(&c), after = cursor_get_string(&c);
    if (!list.token)
        return;
    uint8_t payload[MSG_OFFSET_LIST_MAX];
    size_t size = offsets_list(request->store, &list, group, topic, after, payload);
    struct msg_offset_list_answer *out =
        ring_reserve(&request->peer->control_out, MSG_OFFSET_LIST_ANSWER, 0, size, NULL);
    pn_assert(out); /* the turn takes a request only while there is room for its answer */
    memcpy(out, payload, size);
    out->token = list.token;
    out->request_pos = request->pos;
}

static void take_clean(const struct request *request)
{
    struct cursor c;
    struct msg_admin admin = admin_of(request, &c);
    int r = 0;
    if (admin.flags & MSG_ADMIN_UNUSED_QUEUES)
        r = consume_queues_clean_unused(request->store);
    if (r == 0 && admin.flags & MSG_ADMIN_EXPIRED_QUEUES)
        r = consume_queues_clean_expired(request->store);
    if (r == 0 && admin.flags & MSG_ADMIN_EXPIRED_LOG && request->store->retention)
        retention_clean_now(request->store->retention);
    answer(request, admin.token, r < 0 ? CODE_SYSTEM_ERROR : CODE_SUCCESS, 0, r < 0 ? strerror(-r) : "");
}

static void take_config_put(const struct request *request)
{
    struct msg_request put;
    memcpy(&put, request->payload, sizeof put);
    struct cursor c = strings_behind(request, sizeof put);
    const char *remark;
    int32_t code = run_time_config_put(request->store, cursor_get_string(&c), &remark);
    answer(request, put.token, code, 0, remark);
}

/* While the journal fails nothing new is promised. */
static bool refused_by_journal(const struct request *request)
{
    struct journal *journal = request->store->journal;
    if (request->promise != PROMISES || !journal || journal_error(journal) == 0)
        return false;
    struct msg_request common;
    memcpy(&common, request->payload, sizeof common);
    answer(request, common.token, CODE_SYSTEM_ERROR, 0, journal_error_text(journal));
    return true;
}

void metadata_take(struct store *store, struct peer *peer, const struct ring_view *view)
{
    struct request request = {store, peer, view->payload, view->payload_size, view->record.pos, PROMISES_NOTHING, 0};
    set_promise(&request, view->record.kind);
    if (refused_by_journal(&request))
        return;
    switch (view->record.kind) {
    case MSG_MEMBER_PUT:
        take_member_put(&request);
        break;
    case MSG_MEMBER_DROP:
        take_member_drop(&request);
        break;
    case MSG_REPLAY_END:
        take_replay_end(&request);
        break;
    case MSG_CATALOGUE_ASK:
        take_catalogue_ask(&request);
        break;
    case MSG_OFFSET_COMMIT:
    case MSG_OFFSET_QUERY:
        take_offset(&request, view->record.kind == MSG_OFFSET_COMMIT);
        break;
    case MSG_QUEUE_LOCK:
        take_queue_lock(&request);
        break;
    case MSG_QUEUE_UNLOCK:
        take_queue_unlock(&request);
        break;
    case MSG_TOPIC_PUT:
        take_topic_put(&request);
        break;
    case MSG_TOPIC_DROP:
        take_topic_drop(&request);
        break;
    case MSG_GROUP_PUT:
        take_group_put(&request);
        break;
    case MSG_GROUP_DROP:
        take_group_drop(&request);
        break;
    case MSG_GROUP_FORBID:
        take_group_forbid(&request);
        break;
    case MSG_OFFSET_LIST:
        take_offset_list(&request);
        break;
    case MSG_OFFSET_RESET:
    case MSG_OFFSET_RESET_SEEN:
        take_offset_reset(&request, view->record.kind == MSG_OFFSET_RESET_SEEN);
        break;
    case MSG_QUEUE_MEND:
        take_queue_mend(&request);
        break;
    case MSG_OFFSET_CLONE:
        take_offset_clone(&request);
        break;
    case MSG_CLEAN:
        take_clean(&request);
        break;
    case MSG_CONFIG_PUT:
        take_config_put(&request);
        break;
    case MSG_RELAY:
    case MSG_RELAY_ANSWER:
        relay_take(store, peer, view->record.kind, view->payload, view->payload_size);
        break;
    default:
        PANIC("%s: record of kind %u came to the metadata half", peer->name, view->record.kind);
    }
}
