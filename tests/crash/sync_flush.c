/* SYNC_FLUSH with a disk that does not come back from a sync: who waits is told after syncFlushTimeout that the disk is late
 * (the message is kept), WAIT=false is answered at once, and when the disk comes back all goes on. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "broker/store/codes.h"
#include "broker/store/commit_log.h"
#include "broker/store/file_layer.h"
#include "stage.h"
#include "trace_inside.h"

enum { TIMEOUT_MS = 5000, GIVEN_UP_MS = 60000, TOKENS = 64 };

static struct stage stage;
static _Atomic bool stuck;
static _Atomic unsigned waiting;
static struct stage_answer answers[TOKENS];

static int before(void *context, const struct file_event *event, size_t *most)
{
    char name[256];
    file_site_name(event->site, name, sizeof name);
    if (strcmp(name, "flush.log_file_sync.sync") != 0)
        return 0;
    atomic_fetch_add(&waiting, 1);
    while (atomic_load(&stuck))
        usleep(100);
    return 0;
}

static void after(void *context, const struct file_event *event, int64_t result)
{
}

static void on_answer(void *context, const struct stage_answer *answer)
{
    TRACE_MUST(answer->token < TOKENS && answers[answer->token].token == 0);
    answers[answer->token] = *answer;
}

static bool answered(uint64_t token)
{
    return answers[token].token == token;
}

static uint64_t send(const char *properties)
{
    TRACE_MUST(stage_send(&stage, 0, 0, 100, properties));
    return stage.sent;
}

static void step_until_answered(uint64_t token)
{
    int64_t until_ms = stage_real_ms() + GIVEN_UP_MS;
    while (!answered(token)) {
        TRACE_MUST(stage_real_ms() < until_ms);
        if (!stage_step(&stage, on_answer, NULL))
            usleep(100);
    }
}

int main(void)
{
    const struct file_watch watch = {before, after, NULL};
    const char *what = "";
    char dir[64];
    log_init("sync_flush", LOG_LEVEL_WARNING);
    stage_folder_make(dir, sizeof dir, "sync");
    stage_begin(&stage, dir, true);
    stage.flush_timeout_ms = TIMEOUT_MS;
    TRACE_MUST(stage_start(&stage, START_FIRST, &what) == 0);
    uint64_t first = send("KEYS\1k\2");
    step_until_answered(first); /* the topic is made, and that is on the disk, too */
    TRACE_MUST(answers[first].code == 0);

    file_layer_watch(&watch);
    atomic_store(&stuck, true);
    uint64_t waits = send("KEYS\1a\2"), waits_not = send("WAIT\1false\2"), waits_too = send("WAIT\1true\2");
    step_until_answered(waits_not);
    TRACE_MUST(answers[waits_not].code == 0 && !answered(waits) && !answered(waits_too));
    TRACE_MUST(answers[waits_not].queue_offset == 2);
    while (atomic_load(&waiting) == 0) /* the disk has it, and does not come back */
        stage_step(&stage, on_answer, NULL);
    stage_pass_time(TIMEOUT_MS);
    step_until_answered(waits_too);
    TRACE_MUST(answers[waits].code == CODE_FLUSH_DISK_TIMEOUT && answers[waits_too].code == CODE_FLUSH_DISK_TIMEOUT);
    TRACE_MUST(answers[waits].log_pos < answers[waits_not].log_pos && answers[waits_not].log_pos < answers[waits_too].log_pos);
    /* Late or not asked for: nobody may read them yet. */
    TRACE_MUST(atomic_load(&stage.store.queue_table->log_readable_pos) <= answers[waits].log_pos);

    uint64_t last = send("KEYS\1b\2");
    stage_step(&stage, on_answer, NULL);
    TRACE_MUST(!answered(last));
    atomic_store(&stuck, false);
    step_until_answered(last);
    TRACE_MUST(answers[last].code == 0 && answers[last].queue_offset == 4);
    TRACE_MUST(atomic_load(&stage.store.queue_table->log_readable_pos) > answers[last].log_pos);
    int64_t end = commit_log_end(stage.store.commit_log);
    file_layer_watch(NULL);
    stage_die(&stage);
    stage_forget(&stage);
    TRACE_MUST(stage_start(&stage, START_FIRST, &what) == 0);
    TRACE_MUST(commit_log_end(stage.store.commit_log) == end);
    TRACE_MUST(stage_stop(&stage) == 0);
    stage_die(&stage);
    stage_end(&stage);
    stage_folder_remove(dir);
    printf("sync_flush: late after %d ms and kept; WAIT=false at once; the disk came back\n", TIMEOUT_MS);
    return 0;
}
