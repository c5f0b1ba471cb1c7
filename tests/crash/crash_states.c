/* Cuts the power of a store at every moment, in every way that the disk allows, and recovers what is left.
 *
 *   crash_states [--states N] [--lives N] [--seed N] [--long] [--broken WAY] [--verbose]
 *
 * A life: the real store runs in this process on a folder, while every change of the folder is recorded: sends of several
 * topics and queues under SYNC_FLUSH or ASYNC_FLUSH, rolls of small files, checkpoints, commits, restarts. Then, for many
 * moments, a disk is made as a cut may leave it (trace.h), recovered with the real code, and judged (check.h); recovered
 * again, it must stay as it is. The next life begins with one of these disks, so that recoveries are cut, too.
 * --broken: the store is made to break its promise in one way, and the program expects to see that. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "broker/store/commit_log.h"
#include "check.h"
#include "trace_inside.h"

enum { CHAIN = 4, CHILD_STATES = 250, SHOWN = 5, ROUNDS = 60, CHILD_TIMEOUT_S = 300, DELAYED = 3, CODE_NO_QUEUE = 29 };

static const struct {
    const char *name, *text;
    const char *site, *behind; /* NULL: left out */
} broken_ways[] = {
    {"log-sync", "the commit log is not synced before its answers", "flush.log_file_sync.sync", NULL},
    {"queue-sync", "the checkpoint counts queue files that are not synced", "flush.queues_sync.sync", NULL},
    {"checkpoint-first", "the checkpoint is written before the queue files are synced", "flush.queues_sync.sync",
     "checkpoint.checkpoint_write.sync"},
    {"names", "no folder is synced", "", NULL},
};
enum { WAYS = sizeof broken_ways / sizeof *broken_ways };

static struct {
    uint64_t seed, states, lives, states_done, violations, changes, syncs, messages, recoveries;
    int broken; /* −1: not */
    bool verbose;
    char dir[64], state_dir[64], kept[96];
    /* the life */
    struct stage stage;
    struct trace *trace;
    struct expected expected;
    uint64_t random;
} g = {.seed = 1, .states = 20000, .lives = 40, .broken = -1};

/* What a checking process tells. */
static struct shared {
    uint64_t states, violations;
    size_t upto;
    uint64_t seed;
    char phase[32];
} *shared;

static void promises_note(void)
{
    /* First what was promised, then when: never too early. */
    int64_t pos = atomic_load(&g.stage.store.queue_table->log_flushed_pos);
    expected_promise(&g.expected, trace_count(g.trace), pos);
}

static void on_answer(void *context, const struct stage_answer *answer)
{
    if (answer->code == CODE_NO_QUEUE) /* a queue of a topic whose configuration went with the power */
        return;
    if (answer->code != 0) {
        fprintf(stderr, "crash_states: a send was refused: %d %s\n", answer->code, answer->remark);
        exit(1);
    }
    g.messages++;
    if (g.stage.sync) /* the record's end is not told, one byte of it is enough */
        expected_promise(&g.expected, trace_count(g.trace), answer->log_pos + 1);
}

static void settle(void)
{
    int64_t until_ms = stage_real_ms() + 60000;
    while (stage_step(&g.stage, on_answer, NULL) || g.stage.answered < g.stage.sent) {
        promises_note();
        if (stage_real_ms() > until_ms) {
            fprintf(stderr, "crash_states: no answer to %" PRIu64 " sends\n", g.stage.sent - g.stage.answered);
            exit(1);
        }
        usleep(20);
    }
    promises_note();
}

static void start(enum start_cause cause)
{
    const char *what = "";
    int r = stage_start(&g.stage, cause, &what);
    if (r < 0) {
        fprintf(stderr, "crash_states: start: %s: %s\n", what, strerror(-r));
        exit(1);
    }
    promises_note();
    stage_group(&g.stage);
}

/* One of: clean stop and start; the process's death; the death of all processes. */
static void restart(void)
{
    uint64_t dice = mix_below(&g.random, 3);
    if (dice == 0)
        TRACE_MUST(stage_stop(&g.stage) == 0);
    stage_die(&g.stage);
    if (dice != 1)
        stage_forget(&g.stage);
    start(dice == 1 ? START_AFTER_OUTSIDE : START_FIRST);
}

static void send_some(void)
{
    static const char *const properties[] = {"TAGS\1A\2", "TAGS\1B\2KEYS\1k1 k2\2", "", "KEYS\1x\2"};
    uint64_t count = 1 + mix_below(&g.random, mix_below(&g.random, 4) ? 6 : 40);
    unsigned topics = 1 + (unsigned)mix_below(&g.random, STAGE_TOPICS), one = (unsigned)mix(&g.random);
    bool one_queue = mix_below(&g.random, 2);
    for (uint64_t i = 0; i < count; i++) {
        size_t size = 1 + mix_below(&g.random, mix_below(&g.random, 5) ? 400 : 9000);
        unsigned topic = (unsigned)mix_below(&g.random, topics);
        int32_t queue_id = (int32_t)mix_below(&g.random, STAGE_QUEUES);
        if (one_queue) { /* the others are quiet */
            topic = one % STAGE_TOPICS;
            queue_id = (int32_t)(one / STAGE_TOPICS % STAGE_QUEUES);
        }
        stage_send(&g.stage, topic, queue_id, size, properties[mix_below(&g.random, 4)]);
    }
}

static void round_run(void)
{
    send_some();
    if (mix_below(&g.random, 3) == 0)
        stage_commit(&g.stage, (unsigned)mix_below(&g.random, STAGE_TOPICS), (int32_t)mix_below(&g.random, STAGE_QUEUES),
                     (int64_t)mix_below(&g.random, 20));
    settle();
    if (mix_below(&g.random, 2))
        usleep((useconds_t)mix_below(&g.random, 1500)); /* flush threads and timers have their turn */
    stage_pass_time((int64_t)mix_below(&g.random, mix_below(&g.random, 4) ? 1200 : 9000));
    if (mix_below(&g.random, 25) == 0)
        restart();
}

static void life_run(void)
{
    stage_begin(&g.stage, g.dir, mix_below(&g.random, 3) != 0);
    g.trace = trace_begin(g.stage.root);
    start(START_FIRST);
    uint64_t rounds = ROUNDS / 2 + mix_below(&g.random, ROUNDS);
    for (uint64_t i = 0; i < rounds; i++)
        round_run();
    if (mix_below(&g.random, 4) == 0)
        TRACE_MUST(stage_stop(&g.stage) == 0);
    int64_t log_end = commit_log_end(g.stage.store.commit_log);
    trace_end(g.trace);
    stage_die(&g.stage);
    expected_load(&g.expected, g.stage.root, log_end);
    stage_end(&g.stage);
    g.changes += trace_count(g.trace);
    g.syncs += trace_syncs(g.trace);
}

/* Checking. Runs in a process of its own: a violation may be an abort. */

static bool recover_and_check(struct stage *stage, size_t upto, uint64_t *ret_sum, char *text, size_t size)
{
    const char *what = "";
    int r = stage_recover(stage, &what);
    if (r < 0)
        snprintf(text, size, "it does not recover: %s: %s", what, strerror(-r));
    bool good = r == 0 && check_recovered(&g.expected, stage, upto, text, size);
    stage_die(stage);
    *ret_sum = check_files_sum(stage->root);
    return good;
}

static bool state_check(size_t upto, uint64_t seed, char *text, size_t size)
{
    static struct stage stage;
    uint64_t first, second;
    stage_folder_empty(g.state_dir);
    stage_begin(&stage, g.state_dir, g.stage.sync);
    trace_materialize(g.trace, upto, seed, stage.root);
    snprintf(shared->phase, sizeof shared->phase, "recovery");
    bool good = recover_and_check(&stage, upto, &first, text, size);
    stage_forget(&stage);
    if (good) {
        snprintf(shared->phase, sizeof shared->phase, "second recovery");
        good = recover_and_check(&stage, upto, &second, text, size);
        if (good && first != second) {
            snprintf(text, size, "a second recovery changed files");
            good = false;
        }
    }
    stage_end(&stage);
    return good;
}

static void violation_show(size_t upto, uint64_t seed, const char *text)
{
    shared->violations++;
    if (g.broken >= 0 ? !g.verbose : g.violations + shared->violations > SHOWN)
        return;
    fprintf(stderr, "violation: cut behind change %zu, seed %" PRIu64 ", %s: %s\n", upto, seed, shared->phase, text);
    if (g.broken >= 0 || *g.kept)
        return;
    snprintf(g.kept, sizeof g.kept, "/tmp/pintle-crash-violation-XXXXXX");
    TRACE_MUST(mkdtemp(g.kept));
    trace_materialize(g.trace, upto, seed, g.kept);
    fprintf(stderr, "that disk is kept in %s; the last changes before the cut:\n", g.kept);
    trace_print(g.trace, upto > 40 ? upto - 40 : 0, upto > 40 ? 40 : upto);
}

static void choose(uint64_t number, size_t *ret_upto, uint64_t *ret_seed)
{
    uint64_t random = g.random ^ number * 0x9E3779B97F4A7C15u;
    mix(&random);
    *ret_upto = trace_choose(g.trace, &random);
    *ret_seed = mix(&random) | 1;
}

static void child_run(uint64_t from, uint64_t to)
{
    alarm(CHILD_TIMEOUT_S);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody waits for it any more */
    if (!g.verbose)
        log_set_level(LOG_LEVEL_FATAL);
    for (uint64_t i = from; i < to; i++) {
        char text[512] = "";
        choose(i, &shared->upto, &shared->seed);
        if (!state_check(shared->upto, shared->seed, text, sizeof text))
            violation_show(shared->upto, shared->seed, text);
        shared->states++;
    }
    _exit(0);
}

static void states_check(uint64_t count)
{
    for (uint64_t done = 0; done < count;) {
        uint64_t to = done + CHILD_STATES < count ? done + CHILD_STATES : count;
        int status;
        *shared = (struct shared){0};
        fflush(NULL);
        pid_t pid = fork();
        TRACE_MUST(pid >= 0);
        if (pid == 0)
            child_run(done, to);
        TRACE_MUST(waitpid(pid, &status, 0) == pid);
        if (status != 0) { /* in the middle of a state */
            char text[128];
            snprintf(text, sizeof text, "the process ended by %s %d", WIFSIGNALED(status) ? "signal" : "exit code",
                     WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
            violation_show(shared->upto, shared->seed, text);
            shared->states++;
        }
        done += shared->states;
        g.states_done += shared->states;
        g.violations += shared->violations;
    }
}

static void life(uint64_t number)
{
    size_t upto;
    uint64_t seed;
    char root[96];
    life_run();
    if (g.broken >= 0) {
        if (broken_ways[g.broken].behind)
            trace_delay(g.trace, broken_ways[g.broken].site, broken_ways[g.broken].behind, DELAYED);
        else
            trace_leave_out(g.trace, broken_ways[g.broken].site);
    }
    states_check((g.states - g.states_done) / (g.lives - number));
    choose(UINT64_MAX, &upto, &seed);
    stage_folder_empty(g.dir);
    snprintf(root, sizeof root, "%s/store", g.dir);
    mkdir(root, 0755);
    if ((number + 1) % CHAIN != 0 && g.broken < 0)
        trace_materialize(g.trace, upto, seed, root);
    trace_free(g.trace);
    expected_free(&g.expected);
}

static int usage(void)
{
    fprintf(stderr, "usage: crash_states [--states N] [--lives N] [--seed N] [--long] [--broken WAY] [--verbose]\n");
    for (int i = 0; i < WAYS; i++)
        fprintf(stderr, "    --broken %-18s %s\n", broken_ways[i].name, broken_ways[i].text);
    return 64;
}

static bool arguments_take(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--verbose") == 0) {
            g.verbose = true;
            continue;
        }
        if (strcmp(argv[i], "--long") == 0) {
            g.states = 100000;
            g.lives = 200;
            continue;
        }
        if (!value)
            return false;
        if (strcmp(argv[i], "--states") == 0)
            g.states = strtoull(value, NULL, 10);
        else if (strcmp(argv[i], "--lives") == 0)
            g.lives = strtoull(value, NULL, 10);
        else if (strcmp(argv[i], "--seed") == 0)
            g.seed = strtoull(value, NULL, 10);
        else if (strcmp(argv[i], "--broken") == 0)
            for (g.broken = WAYS; g.broken-- > 0 && strcmp(broken_ways[g.broken].name, value) != 0;)
                ;
        if (strcmp(argv[i], "--broken") == 0 && g.broken < 0)
            return false;
        i++;
    }
    return g.lives > 0;
}

int main(int argc, char **argv)
{
    if (!arguments_take(argc, argv))
        return usage();
    int64_t begin_ms = stage_real_ms();
    signal(SIGPIPE, SIG_IGN);
    log_init("crash_states", g.verbose ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    TRACE_MUST(shared != MAP_FAILED);
    stage_folder_make(g.dir, sizeof g.dir, "crash");
    stage_folder_make(g.state_dir, sizeof g.state_dir, "crash-state");
    g.random = g.seed * 0x9E3779B97F4A7C15u;
    for (uint64_t n = 0; n < g.lives && (g.broken < 0 || g.violations == 0 || g.verbose); n++)
        life(n);
    stage_folder_remove(g.dir);
    stage_folder_remove(g.state_dir);
    printf("crash_states: seed %" PRIu64 "%s%s: %" PRIu64 " states of %" PRIu64 " changes (%" PRIu64 " syncs, %" PRIu64
           " messages), %" PRIu64 " violations, %" PRId64 " ms\n",
           g.seed, g.broken >= 0 ? ", broken: " : "", g.broken >= 0 ? broken_ways[g.broken].name : "", g.states_done,
           g.changes, g.syncs, g.messages, g.violations, stage_real_ms() - begin_ms);
    return g.broken >= 0 ? g.violations == 0 : g.violations != 0;
}
