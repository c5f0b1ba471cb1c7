/* Lets each place at which a store changes its disk fail in each way, and prints what came of it.
 *
 *   write_sites [--site NAME] [--verbose]
 *
 * The places come from the file layer's own table: those that a run of the workload passes. Faults: EIO, ENOSPC, EINTR, a short
 * write followed by ENOSPC. From a chosen pass on the fault stays until it is lifted; the front goes on sending meanwhile. For
 * each (place, fault, mode), in a process of its own:
 *   - every request is answered, in bounded time: stored, stored and late (FLUSH_DISK_TIMEOUT), or refused by name;
 *   - EINTR and short writes are invisible, ENOSPC goes away with its cause, after a failed sync or write of the log nothing is
 *     acknowledged until the store is started anew;
 *   - then the store is stopped, the disk is well again, and a new one finds every acknowledged message, once, where it was
 *     told, and nothing that was refused; the next message is taken. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "broker/format/record.h"
#include "broker/store/codes.h"
#include "broker/store/commit_log.h"
#include "broker/store/file_layer.h"
#include "stage.h"
#include "trace_inside.h"

enum { SITES_MAX = 400, TOKENS_MAX = 4096, ROUNDS = 30, MANY = 16, ANSWERS_TIMEOUT_MS = 60000, CASE_TIMEOUT_S = 200 };

static const struct {
    const char *name;
    int error;
    bool part;
} faults[] = {{"EIO", -EIO, false}, {"ENOSPC", -ENOSPC, false}, {"EINTR", -EINTR, false}, {"short", -ENOSPC, true}};
enum { FAULTS = sizeof faults / sizeof *faults };

/* Told by the process of a case. */
static struct shared {
    unsigned passed[SITES_MAX]; /* by the workload, per place */
    unsigned hits, stored, refused, late;
    char text[256]; /* of a refusal that names the disk */
    char wrong[512];
} *shared;

static struct {
    const struct file_site *site; /* NULL: only count */
    unsigned fault, skip;
    _Atomic unsigned passes;
    _Atomic bool lifted;
    bool interrupted; /* EINTR comes once, then the call goes through */
    bool was_short;
    struct stage stage;
    char dir[64];
    int64_t stored_pos[TOKENS_MAX]; /* by token: log position + 1 */
    uint8_t answers[TOKENS_MAX];
    bool after_lift;
    unsigned refused_after_lift;
} g;

static int wrong(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
static int wrong(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(shared->wrong, sizeof shared->wrong, format, arguments);
    va_end(arguments);
    _exit(1);
}

static bool changes_disk(enum file_op op)
{
    return op != FILE_READ && op != FILE_WRITE_BACK && op != FILE_MAP && op != FILE_MAP_STORE && op != FILE_UNMAP;
}

static int before(void *context, const struct file_event *event, size_t *most)
{
    unsigned count;
    if (!g.site) {
        struct file_site *const *sites = file_layer_sites(&count);
        for (unsigned i = 0; i < count && i < SITES_MAX; i++)
            if (sites[i] == event->site)
                __atomic_fetch_add(&shared->passed[i], 1, __ATOMIC_RELAXED);
        return 0;
    }
    if (event->site != g.site || atomic_load(&g.lifted) || atomic_fetch_add(&g.passes, 1) < g.skip)
        return 0;
    __atomic_fetch_add(&shared->hits, 1, __ATOMIC_RELAXED);
    if (faults[g.fault].error == -EINTR) {
        g.interrupted = !g.interrupted;
        return g.interrupted ? -EINTR : 0;
    }
    if (faults[g.fault].part && event->op == FILE_WRITE && !g.was_short && event->size > 1) {
        g.was_short = true;
        *most = event->size / 2;
        return 0;
    }
    g.was_short = false;
    return faults[g.fault].error;
}

static void after(void *context, const struct file_event *event, int64_t result)
{
}

static void on_answer(void *context, const struct stage_answer *answer)
{
    if (answer->token >= TOKENS_MAX || g.answers[answer->token])
        wrong("request %" PRIu64 " was answered twice", answer->token);
    g.answers[answer->token] = 1;
    shared->late += answer->code == CODE_FLUSH_DISK_TIMEOUT; /* the message is kept all the same */
    if (answer->code == 0 || answer->code == CODE_FLUSH_DISK_TIMEOUT) {
        g.stored_pos[answer->token] = answer->log_pos + 1;
        shared->stored++;
        return;
    }
    shared->refused++;
    g.refused_after_lift += g.after_lift;
    if (!*answer->remark)
        wrong("request %" PRIu64 " was refused with code %d and no word why", answer->token, answer->code);
    snprintf(shared->text, sizeof shared->text, "%d %.200s", answer->code, answer->remark);
}

static void settle(void)
{
    int64_t until_ms = stage_real_ms() + ANSWERS_TIMEOUT_MS;
    while (stage_step(&g.stage, on_answer, NULL) || g.stage.answered < g.stage.sent) {
        if (stage_real_ms() > until_ms)
            wrong("%" PRIu64 " requests are not answered", g.stage.sent - g.stage.answered);
        stage_pass_time(20); /* retries come with the clock */
        usleep(100);
    }
}

static void send_round(unsigned round)
{
    for (unsigned i = 0; i < 4; i++)
        if (!stage_send(&g.stage, round + i, (int32_t)(i % STAGE_QUEUES), 200 + round * 977 % 5000, "TAGS\1A\2KEYS\1k\2"))
            wrong("no room in the ring");
    stage_commit(&g.stage, round, 0, round);
    settle();
    stage_pass_time(700);
    usleep(500);
}

static void start(void)
{
    const char *what = "";
    int r = stage_start(&g.stage, START_FIRST, &what);
    if (r < 0 && !g.site)
        wrong("start: %s: %s", what, strerror(-r));
    if (r < 0 && !*what)
        wrong("a start failed and did not say where");
    if (r < 0) { /* the place is on the way to service: named, and well again later */
        snprintf(shared->text, sizeof shared->text, "start: %.120s: %.60s", what, strerror(-r));
        stage_die(&g.stage);
        stage_forget(&g.stage);
        atomic_store(&g.lifted, true);
        r = stage_start(&g.stage, START_FIRST, &what);
        if (r < 0)
            wrong("start on a disk that is well again: %s: %s", what, strerror(-r));
    }
    stage_group(&g.stage);
}

/* Every record of the log is one that was sent, and each acknowledged one is where it was told to be, and nowhere else. */
static void log_judge(void)
{
    struct commit_log *log = g.stage.store.commit_log;
    struct log_reader reader;
    struct record record;
    int64_t found[TOKENS_MAX] = {0};
    log_reader_init(&reader, log);
    for (int64_t pos = 0; pos < commit_log_end(log); pos += record.size) {
        int kind = log_reader_record(&reader, pos, true, &record);
        if (kind != RECORD_MESSAGE && kind != RECORD_BLANK)
            wrong("no record at %" PRId64, pos);
        if (kind == RECORD_BLANK)
            continue;
        uint64_t token = 1;
        for (uint64_t random = token; token < TOKENS_MAX; random = ++token) {
            size_t i = 0;
            while (i < record.body.size && i < 8 && record.body.data[i] == (uint8_t)mix(&random))
                i++;
            if (i == 8)
                break;
        }
        if (token == TOKENS_MAX || token > g.stage.sent)
            wrong("the record at %" PRId64 " was never sent", pos);
        if (found[token])
            wrong("message %" PRIu64 " is stored twice", token);
        found[token] = pos + 1;
    }
    for (uint64_t token = 1; token <= g.stage.sent; token++)
        if (g.stored_pos[token] && found[token] != g.stored_pos[token])
            wrong("message %" PRIu64 " was acknowledged at %" PRId64 " and is at %" PRId64, token, g.stored_pos[token] - 1,
                  found[token] - 1);
    log_reader_done(&reader);
}

static void queues_judge(void)
{
    int64_t in_queues = 0, in_log = 0;
    struct record record;
    struct log_reader reader;
    log_reader_init(&reader, g.stage.store.commit_log);
    for (int64_t pos = 0; pos < commit_log_end(g.stage.store.commit_log); pos += record.size)
        in_log += log_reader_record(&reader, pos, false, &record) == RECORD_MESSAGE;
    log_reader_done(&reader);
    for (uint32_t slot = 0; slot < QUEUE_TABLE_SLOTS; slot++)
        in_queues += atomic_load(&g.stage.store.queue_table->slots[slot].max_offset);
    if (in_log != in_queues)
        wrong("%" PRId64 " messages in the log, %" PRId64 " in queues", in_log, in_queues);
}

static bool is_final(void)
{
    return commit_log_error(g.stage.store.commit_log) != 0;
}

static void case_run(bool sync)
{
    const struct file_watch watch = {before, after, NULL};
    alarm(CASE_TIMEOUT_S);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody waits for it any more */
    stage_begin(&g.stage, g.dir, sync);
    g.stage.flush_timeout_ms = 5000;
    file_layer_watch(&watch);
    start();
    for (unsigned i = 0; i < ROUNDS; i++)
        send_round(i);
    unsigned stored = shared->stored, late = shared->late;
    atomic_store(&g.lifted, true);
    int64_t until_ms = stage_real_ms() + ANSWERS_TIMEOUT_MS;
    do { /* threads have a rhythm of their own in which they try again */
        g.refused_after_lift = 0;
        g.after_lift = true;
        stage_pass_time(2000);
        send_round(ROUNDS);
    } while (!is_final() && g.refused_after_lift && stage_real_ms() < until_ms);
    if (!is_final() && g.refused_after_lift)
        wrong("the disk is well again, and messages are refused: %s", shared->text);
    if (is_final() && shared->stored - shared->late != stored - late)
        wrong("messages are acknowledged after a failure that is final");
    if (is_final() && faults[g.fault].error != -EIO && g.site->op != FILE_SYNC && g.site->op != FILE_SYNC_FOLDER)
        wrong("%s is taken for final", faults[g.fault].name);
    bool final = is_final(), clean = stage_stop(&g.stage) == 0;
    stage_die(&g.stage);
    stage_forget(&g.stage);
    if (clean && final)
        wrong("a clean stop after a failure that is final");
    start();
    log_judge();
    queues_judge();
    unsigned before_last = shared->stored;
    send_round(ROUNDS + 5);
    if (shared->stored != before_last + 4)
        wrong("a new store does not take messages: %s", shared->text);
    TRACE_MUST(stage_stop(&g.stage) == 0);
    file_layer_watch(NULL);
    stage_die(&g.stage);
    stage_end(&g.stage);
    _exit(0);
}

/* False: it failed; shared->wrong says how. */
static bool case_fork(const struct file_site *site, unsigned fault, unsigned skip, bool sync, bool verbose)
{
    int status;
    struct shared kept = *shared;
    *shared = (struct shared){0};
    memcpy(shared->passed, kept.passed, sizeof kept.passed);
    stage_folder_empty(g.dir);
    fflush(NULL);
    pid_t pid = fork();
    TRACE_MUST(pid >= 0);
    if (pid == 0) {
        log_set_level(verbose ? LOG_LEVEL_INFO : LOG_LEVEL_FATAL);
        g.site = site;
        g.fault = fault;
        g.skip = skip;
        case_run(sync);
    }
    TRACE_MUST(waitpid(pid, &status, 0) == pid);
    if (status != 0 && !*shared->wrong)
        snprintf(shared->wrong, sizeof shared->wrong, "the process ended by %s %d", WIFSIGNALED(status) ? "signal" : "exit code",
                 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    return status == 0;
}

static bool fault_fits(const struct file_site *site, unsigned fault)
{
    return !faults[fault].part || site->op == FILE_WRITE;
}

int main(int argc, char **argv)
{
    const char *only = NULL;
    bool verbose = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--verbose") == 0)
            verbose = true;
        else if (strcmp(argv[i], "--site") == 0 && i + 1 < argc)
            only = argv[++i];
        else {
            fprintf(stderr, "usage: write_sites [--site NAME] [--verbose]\n");
            return 64;
        }
    }
    unsigned count, sites_run = 0, cases = 0, reached = 0, bad = 0;
    struct file_site *const *sites = file_layer_sites(&count);
    signal(SIGPIPE, SIG_IGN);
    log_init("write_sites", LOG_LEVEL_ERROR);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    TRACE_MUST(shared != MAP_FAILED && count <= SITES_MAX);
    stage_folder_make(g.dir, sizeof g.dir, "sites");
    for (int sync = 0; sync < 2; sync++)
        if (!case_fork(NULL, 0, 0, sync, verbose)) {
            fprintf(stderr, "without any fault: %s\n", shared->wrong);
            return 1;
        }
    printf("%-62s %-7s %-5s %6s %6s %5s %7s  %s\n", "place", "fault", "mode", "hits", "stored", "late", "refused",
           "last refusal");
    for (unsigned i = 0; i < count; i++) {
        char name[256];
        file_site_name(sites[i], name, sizeof name);
        if (!changes_disk(sites[i]->op) || shared->passed[i] == 0 || (only && strcmp(only, name) != 0))
            continue;
        sites_run++;
        for (unsigned n = 0; n < 2 * FAULTS; n++) {
            unsigned fault = n / 2;
            bool sync = n % 2;
            if (!fault_fits(sites[i], fault))
                continue;
            cases++;
            bool good = case_fork(sites[i], fault, shared->passed[i] > MANY ? 3 : 0, sync, verbose);
            printf("%-62s %-7s %-5s %6u %6u %5u %7u  %s\n", name, faults[fault].name, sync ? "SYNC" : "ASYNC", shared->hits,
                   shared->stored, shared->late, shared->refused, shared->text);
            if (!good)
                printf("    WRONG: %s\n", shared->wrong);
            bad += !good;
            reached += shared->hits > 0;
        }
    }
    stage_folder_remove(g.dir);
    printf("write_sites: %u places of %u in the table change the disk in this workload, %u cases (%u reached), %u wrong\n", sites_run,
           count, cases, reached, bad);
    return bad != 0 || sites_run == 0;
}
