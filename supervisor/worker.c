/* Does what the state table says: starts a worker's process, waits for its end, decides what its end means, starts the
 * next. Runs in the supervisor. A process that cannot be started is treated like one that died before it was ready. */
#include "worker.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/panic.h"
#include "bus/bus_msg.h"
#include "contract.h"
#include "faults.h"
#include "grants.h"
#include "hang.h"
#include "reload.h"
#include "shm/segment.h"
#include "spawn.h"
#include "supervisor.h"

uint32_t worker_peer_id(const struct worker *front)
{
    return front->index + 1;
}

static int make_board(struct worker *worker)
{
    PN_CLOSE int readonly = -1;
    int r = board_create(worker->name, worker->number, &worker->board_fd);
    if (r == 0)
        r = segment_reopen_readonly(worker->board_fd, &readonly);
    if (r == 0)
        r = board_attach(readonly, false, &worker->board);
    if (r == 0)
        TAKE_FD(readonly);
    return r < 0 ? r : segment_reopen_readonly(worker->board_fd, &worker->board_readonly_fd);
}

int worker_create(struct supervisor *supervisor, enum worker_role role, const char *subject, unsigned index,
                  struct worker **ret_worker, struct failure *failure)
{
    struct worker *worker = calloc(1, sizeof *worker);
    if (!worker)
        return failure_set(failure, EXIT_CODE_IO, "out of memory");
    *worker = (struct worker){.supervisor = supervisor, .kind = &plan_kinds[role], .index = index, .listen_fd = -1,
                              .pidfd = -1, .board_fd = -1, .board_readonly_fd = -1, .interest_fd = -1, .interest_readonly_fd = -1};
    worker->number = supervisor->worker_count + 1;
    worker->subject = strdup(subject);
    if (!worker->subject || asprintf(&worker->name, "%s %s/%u", worker->kind->name, subject, index) < 0) {
        worker_free(worker);
        return failure_set(failure, EXIT_CODE_IO, "out of memory");
    }
    int r = spawn_find_program(worker->kind->program, &worker->program);
    if (r < 0)
        failure_set(failure, EXIT_CODE_IO, "the program %s is neither beside pintle-supervisor nor in %s",
                    worker->kind->program, PINTLE_LIBEXEC);
    else if ((r = make_board(worker)) < 0)
        failure_set(failure, EXIT_CODE_IO, "cannot make the board of %s: %s", worker->name, strerror(-r));
    if (r < 0) {
        worker_free(worker);
        return r;
    }
    *ret_worker = worker;
    return 0;
}

static void close_front_channels(struct worker *worker)
{
    channels_ring_set_close(&worker->ring_sets[0]);
    channels_ring_set_close(&worker->ring_sets[1]);
    pn_close_p(&worker->interest_fd);
    pn_close_p(&worker->interest_readonly_fd);
    worker->interest_fd = worker->interest_readonly_fd = -1;
}

/* Forgets the process, which is gone or never was. */
static void forget_process(struct worker *worker)
{
    worker->gone_source = sd_event_source_disable_unref(worker->gone_source);
    outbox_free(worker->outbox);
    worker->outbox = NULL;
    pn_close_p(&worker->pidfd);
    worker->pidfd = -1;
    worker->pid = 0;
}

void worker_free(struct worker *worker)
{
    if (!worker)
        return;
    forget_process(worker);
    sd_event_source_disable_unref(worker->timer);
    close_front_channels(worker);
    board_detach(worker->board);
    pn_close_p(&worker->board_fd);
    pn_close_p(&worker->board_readonly_fd);
    pn_close_p(&worker->listen_fd);
    free(worker->program);
    free(worker->subject);
    free(worker->name);
    free(worker);
}

/* What a death says about the process, for whoever comes next. */
static enum start_cause cause_of(const siginfo_t *info, bool hung)
{
    if (hung)
        return START_AFTER_OWN_FAULT;
    if (info->si_code == CLD_EXITED)
        return START_AFTER_OUTSIDE;
    switch (info->si_status) {
    case SIGSEGV:
    case SIGBUS:
    case SIGABRT:
    case SIGFPE:
    case SIGILL:
    case SIGSYS:
    case SIGTRAP:
        return START_AFTER_OWN_FAULT;
    default:
        return START_AFTER_OUTSIDE;
    }
}

static void log_last_words(const struct worker *worker)
{
    char words[sizeof worker->board->last_words];
    memcpy(words, worker->board->last_words, sizeof words - 1);
    words[sizeof words - 1] = 0;
    if (words[0])
        log_error("%s: last words: %s", worker->name, words);
}

static void log_death(const struct worker *worker, const siginfo_t *info)
{
    const char *state = child_state_name(worker->state);
    if (info->si_code == CLD_EXITED && worker->state == CHILD_STOPPING && info->si_status == 0)
        log_info("%s ended", worker->name);
    else if (info->si_code == CLD_EXITED)
        log_warning("%s (pid %d, %s) exited with status %d", worker->name, (int)worker->pid, state, info->si_status);
    else
        log_warning("%s (pid %d, %s) died by SIG%s%s", worker->name, (int)worker->pid, state,
                    sigabbrev_np(info->si_status) ? sigabbrev_np(info->si_status) : "?",
                    worker->was_killed_as_hung ? ", killed because it hung" : "");
    if (info->si_code != CLD_EXITED && (info->si_status == SIGABRT || info->si_status == SIGSYS))
        log_last_words(worker);
}

/* A store that is killed in its own stop leaves memory that no file has: whoever comes next finishes it. */
static bool is_cut_short(const struct worker *worker, const siginfo_t *info)
{
    return worker->kind->role == ROLE_STORE && worker->state == CHILD_STOPPING && info->si_code != CLD_EXITED &&
           !worker->was_killed && !worker->stop_was_cut;
}

static enum child_event meaning_of(const struct worker *worker, const siginfo_t *info)
{
    if (is_cut_short(worker, info))
        return CHILD_EVENT_CUT_SHORT;
    if (info->si_code == CLD_EXITED && (info->si_status == EXIT_CODE_USAGE || info->si_status == EXIT_CODE_IO ||
                                        info->si_status == EXIT_CODE_CONFIG))
        return CHILD_EVENT_REFUSED;
    if (worker->state == CHILD_READY &&
        atomic_load_explicit(&worker->board->progress, memory_order_relaxed) == worker->progress_at_ready)
        return CHILD_EVENT_DIED_USELESS;
    return CHILD_EVENT_DIED;
}

/* The pidfd says that the process is gone, all its threads included: only from here on may a successor get its rings. */
static int on_gone(sd_event_source *source, int fd, uint32_t events, void *context)
{
    struct worker *worker = context;
    siginfo_t info = {0};
    if (waitid(P_PIDFD, (id_t)worker->pidfd, &info, WEXITED | WNOHANG) < 0)
        PANIC("cannot wait for %s: %s", worker->name, strerror(errno));
    if (info.si_pid == 0)
        return 0;
    log_death(worker, &info);
    worker->cause = cause_of(&info, worker->was_killed_as_hung);
    enum child_event event = meaning_of(worker, &info);
    worker->stop_was_cut = event == CHILD_EVENT_CUT_SHORT;
    if (event == CHILD_EVENT_REFUSED && worker->status[0] == 0)
        snprintf(worker->status, sizeof worker->status, "exited with status %d", info.si_status);
    worker->exit_code = info.si_code == CLD_EXITED ? info.si_status : 0;

    faults_target_died(worker->supervisor->fault_page, worker);
    forget_process(worker);
    if (worker->kind->role == ROLE_FRONT) {
        grants_drop_peer(worker->broker->store, worker_peer_id(worker), worker->generation, worker->name);
        close_front_channels(worker);
    }
    worker_event(worker, event);
    return 0;
}

/* Everything but the state. On failure nothing is left running. */
static int start_process(struct worker *worker)
{
    struct spawn_request request = {worker->program, worker->name, ++worker->generation,
                                    worker->supervisor->cluster->runtime_dir};
    struct spawned spawned;
    worker->said_hello = worker->was_killed_as_hung = worker->was_killed = false;
    worker->status[0] = 0;
    hang_reset(worker);
    if (worker->kind->role == ROLE_FRONT) {
        int r = grants_renew_front(worker);
        if (r < 0)
            return r;
    }
    int r = spawn_worker(&request, &spawned);
    if (r < 0)
        return r;
    worker->pid = spawned.pid;
    worker->pidfd = spawned.pidfd;
    r = outbox_create(worker->supervisor->event, spawned.channel, &worker->outbox);
    if (r < 0)
        close(spawned.channel);
    if (r == 0)
        r = sd_event_add_io(worker->supervisor->event, &worker->gone_source, worker->pidfd, EPOLLIN, on_gone, worker);
    if (r >= 0)
        r = grants_send_initial(worker);
    if (r < 0) {
        kill(worker->pid, SIGKILL);
        waitpid(worker->pid, NULL, 0);
    }
    return r;
}

static void spawn(struct worker *worker)
{
    int r = start_process(worker);
    if (r >= 0) {
        log_debug("%s started, pid %d", worker->name, (int)worker->pid);
        return;
    }
    log_error("%s cannot be started: %s", worker->name, strerror(-r));
    forget_process(worker);
    if (worker->kind->role == ROLE_FRONT) {
        grants_drop_peer(worker->broker->store, worker_peer_id(worker), worker->generation, worker->name);
        close_front_channels(worker);
    }
    worker_event(worker, CHILD_EVENT_DIED);
}

static int on_waited(sd_event_source *source, uint64_t usec, void *context)
{
    worker_event(context, CHILD_EVENT_WAITED);
    return 0;
}

static int on_stop_late(sd_event_source *source, uint64_t usec, void *context)
{
    worker_event(context, CHILD_EVENT_STOP_LATE);
    return 0;
}

static void set_timer(struct worker *worker, uint64_t wait_ms, sd_event_time_handler_t handler)
{
    worker->timer = sd_event_source_disable_unref(worker->timer);
    int r = sd_event_add_time_relative(worker->supervisor->event, &worker->timer, CLOCK_MONOTONIC, wait_ms * 1000, 1000,
                                       handler, worker);
    if (r < 0)
        PANIC("no timer: %s", strerror(-r));
}

static void wait_for_next_start(struct worker *worker)
{
    worker->early_deaths++;
    worker->restarts++;
    uint64_t wait_ms = child_backoff_ms(worker->early_deaths);
    set_timer(worker, wait_ms, on_waited);
    enum { START_DEATHS_MAX = 5 };
    if (worker->supervisor->phase == PHASE_STARTING && worker->early_deaths >= START_DEATHS_MAX) {
        char text[128];
        snprintf(text, sizeof text, "died %u times before it was ready", worker->early_deaths);
        supervisor_worker_failed(worker->supervisor, worker, EXIT_CODE_IO, text);
    }
}

void worker_ask_stop(struct worker *worker)
{
    struct bytes message;
    if (bus_msg_encode_plain(BUS_STOP, &message) < 0)
        return; /* without memory: the stop timeout takes it */
    bus_send(worker->supervisor->bus, bytes_of(worker->name), message);
    free((void *)message.data);
}

void worker_said_hello(struct worker *worker, uint64_t generation, pid_t pid)
{
    if (generation != worker->generation || pid != worker->pid) {
        log_warning("%s: hello of generation %llu, pid %d refused", worker->name, (unsigned long long)generation,
                    (int)pid);
        return;
    }
    worker->said_hello = true;
    if (worker->supervisor->was_reloaded) /* it may have been away when others were told */
        reload_tell(worker);
    if (worker->state == CHILD_STOPPING)
        worker_ask_stop(worker);
}

void worker_kill(struct worker *worker, bool hung)
{
    if (worker->pid == 0)
        return;
    worker->was_killed_as_hung = hung;
    worker->was_killed = true;
    syscall(SYS_pidfd_send_signal, worker->pidfd, SIGKILL, NULL, 0);
}

static void serve(struct worker *worker)
{
    worker->progress_at_ready = atomic_load_explicit(&worker->board->progress, memory_order_relaxed);
    worker->status[0] = 0;
    hang_reset(worker);
    log_debug("%s is ready", worker->name);
    supervisor_worker_ready(worker->supervisor, worker);
}

void worker_event(struct worker *worker, enum child_event event)
{
    struct child_step step = child_step(worker->state, event);
    log_debug("%s: %s, %s: %s, %s", worker->name, child_state_name(worker->state), child_event_name(event),
              child_state_name(step.next), child_action_name(step.action));
    worker->state = step.next;
    switch (step.action) {
    case CHILD_ACTION_NONE:
        return;
    case CHILD_ACTION_RESPAWN:
        worker->early_deaths = 0;
        worker->restarts++;
        spawn(worker);
        return;
    case CHILD_ACTION_SPAWN:
        spawn(worker);
        return;
    case CHILD_ACTION_WAIT:
        wait_for_next_start(worker);
        return;
    case CHILD_ACTION_SERVE:
        serve(worker);
        return;
    case CHILD_ACTION_ASK_STOP:
        worker_ask_stop(worker);
        set_timer(worker, worker->supervisor->stop_timeout_ms, on_stop_late);
        return;
    case CHILD_ACTION_KILL:
        log_warning("%s did not stop in %llu ms: killed", worker->name,
                    (unsigned long long)worker->supervisor->stop_timeout_ms);
        worker_kill(worker, false);
        return;
    case CHILD_ACTION_GIVE_UP:
        supervisor_worker_failed(worker->supervisor, worker, worker->exit_code, worker->status);
        return;
    case CHILD_ACTION_GONE:
        worker->timer = sd_event_source_disable_unref(worker->timer);
        supervisor_worker_gone(worker->supervisor, worker);
        return;
    case CHILD_ACTION_BUG:
    case CHILD_ACTION_COUNT:
        break;
    }
    PANIC("%s: %s in state %s", worker->name, child_event_name(event), child_state_name(worker->state));
}
