/* Answers that wait for the metadata journal: see held_answers.h. The bytes of a control request stay in its ring until it is
 * answered, so that a successor does it again; that is bounded by HELD_MAX_MS, or a stalled disk would fill the ring that
 * heartbeats and offset commits need. */
#include "held_answers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/panic.h"
#include "codes.h"
#include "image.h"
#include "journal.h"

enum { ANSWER_ROOM = 1024, BARRIERS_MAX = 64 };

struct waiting {
    struct held_answer answer;
    uint64_t mark;
    int64_t until_ms;
};

struct barrier {
    int64_t log_pos;
    uint64_t mark;
    int64_t until_ms;
};

struct held_answers {
    struct waiting *list; /* in order of marks */
    unsigned count, room;
    struct barrier barriers[BARRIERS_MAX]; /* likewise, and of log positions */
    unsigned barrier_count;
    uint64_t batch_mark; /* promised records before it belong to earlier batches, or to no batch */
    uint64_t told_mark;
    sd_event_source *timer;
};

static int on_timer(sd_event_source *source, uint64_t usec, void *context)
{
    return 0; /* the turn looks */
}

int held_answers_new(struct store *store, struct held_answers **ret_held)
{
    struct held_answers *held = calloc(1, sizeof *held);
    if (!held)
        return -ENOMEM;
    if (store->event) {
        int r = sd_event_add_time_relative(store->event, &held->timer, CLOCK_MONOTONIC, 0, 10000, on_timer, NULL);
        if (r < 0) {
            free(held);
            return r;
        }
    }
    *ret_held = held;
    return 0;
}

void held_answers_free(struct held_answers *held)
{
    if (!held)
        return;
    for (unsigned i = 0; i < held->count; i++)
        free((char *)held->list[i].answer.remark);
    free(held->list);
    sd_event_source_disable_unref(held->timer);
    free(held);
}

bool held_answers_are_due(struct store *store)
{
    return !store->journal || image_promised_mark(store->image) <= journal_done_mark(store->journal);
}

static void arm(struct held_answers *held)
{
    if (!held->timer)
        return;
    sd_event_source_set_time_relative(held->timer, (uint64_t)HELD_MAX_MS * 1000);
    sd_event_source_set_enabled(held->timer, SD_EVENT_ONESHOT);
}

void held_answers_add(struct store *store, const struct held_answer *answer)
{
    struct held_answers *held = store->held_answers;
    if (held->count == held->room) {
        held->room = held->room ? held->room * 2 : 16;
        held->list = realloc(held->list, held->room * sizeof *held->list);
        pn_assert(held->list);
    }
    struct waiting *waiting = &held->list[held->count++];
    *waiting = (struct waiting){*answer, image_promised_mark(store->image), clock_monotonic_ms() + HELD_MAX_MS};
    waiting->answer.remark = strdup(answer->remark);
    pn_assert(waiting->answer.remark);
    arm(held);
}

/* A journal that fails, or is slow: what we say of it. NULL: go on waiting. */
static const char *excuse(struct store *store, int64_t until_ms, int64_t now_ms)
{
    if (journal_error(store->journal) < 0)
        return journal_error_text(store->journal);
    return now_ms >= until_ms ? "the metadata journal is not on the disk in 3 s: it may hold or not" : NULL;
}

static bool post(struct store *store, const struct waiting *waiting, uint64_t done, int64_t now_ms)
{
    const struct held_answer *answer = &waiting->answer;
    const char *failed = waiting->mark <= done ? NULL : excuse(store, waiting->until_ms, now_ms);
    if (waiting->mark > done && !failed)
        return false;
    if (ring_room(&answer->peer->control_out) < ANSWER_ROOM)
        return false;
    bool holds = !failed || answer->anyway;
    peer_answer(answer->peer, answer->token, answer->request_pos, holds ? CODE_SUCCESS : CODE_SYSTEM_ERROR, 0,
                holds ? answer->remark : failed);
    return true;
}

bool held_answers_turn(struct store *store)
{
    struct held_answers *held = store->held_answers;
    if (!held || !store->journal)
        return false;
    uint64_t promised = image_promised_mark(store->image);
    if (promised > held->told_mark) {
        journal_want(store->journal, promised);
        held->told_mark = promised;
    }
    held->batch_mark = promised;
    if (held->count == 0)
        return false;
    uint64_t done = journal_done_mark(store->journal);
    int64_t now_ms = clock_monotonic_ms();
    unsigned kept = 0;
    for (unsigned i = 0; i < held->count; i++) {
        if (post(store, &held->list[i], done, now_ms))
            free((char *)held->list[i].answer.remark);
        else
            held->list[kept++] = held->list[i];
    }
    bool any = kept < held->count;
    held->count = kept;
    if (kept)
        arm(held);
    return any;
}

void held_answers_drop_peer(struct held_answers *held, const struct peer *peer)
{
    unsigned kept = 0;
    for (unsigned i = 0; held && i < held->count; i++) {
        if (held->list[i].answer.peer == peer)
            free((char *)held->list[i].answer.remark);
        else
            held->list[kept++] = held->list[i];
    }
    if (held)
        held->count = kept;
}

uint64_t held_answers_release_pos(const struct held_answers *held, const struct peer *peer)
{
    uint64_t pos = UINT64_MAX;
    for (unsigned i = 0; held && i < held->count; i++)
        if (held->list[i].answer.peer == peer && held->list[i].answer.request_pos < pos)
            pos = held->list[i].answer.request_pos;
    return pos;
}

/* Messages. */

void held_answers_batch(struct store *store, int64_t base_pos)
{
    struct held_answers *held = store->held_answers;
    if (!held || !store->journal)
        return;
    uint64_t promised = image_promised_mark(store->image);
    if (promised <= held->batch_mark)
        return;
    held->batch_mark = held->told_mark = promised;
    journal_want(store->journal, promised);
    int64_t until_ms = clock_monotonic_ms() + HELD_MAX_MS;
    if (held->barrier_count == BARRIERS_MAX) { /* wait with the last one */
        held->barriers[BARRIERS_MAX - 1].mark = promised;
        return;
    }
    held->barriers[held->barrier_count++] = (struct barrier){base_pos, promised, until_ms};
    arm(held);
}

/* A message is in the log, and its topic comes back from there: a journal that fails holds no message up. */
int64_t held_answers_stable_pos(struct store *store)
{
    struct held_answers *held = store->held_answers;
    if (!held || held->barrier_count == 0)
        return INT64_MAX;
    uint64_t done = journal_done_mark(store->journal);
    int64_t now_ms = clock_monotonic_ms();
    unsigned gone = 0;
    while (gone < held->barrier_count &&
           (held->barriers[gone].mark <= done || excuse(store, held->barriers[gone].until_ms, now_ms)))
        gone++;
    held->barrier_count -= gone;
    memmove(held->barriers, held->barriers + gone, held->barrier_count * sizeof *held->barriers);
    return held->barrier_count ? held->barriers[0].log_pos : INT64_MAX;
}

bool held_answers_any(const struct held_answers *held)
{
    /* A barrier holds only messages that the ledger has open; it may outlive them, as behind a refused one. */
    return held && held->count > 0;
}
