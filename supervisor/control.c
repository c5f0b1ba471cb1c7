/* Serves `pintle status`, `down` and `fault`. Runs in the supervisor. Only our own user reaches the socket (the folder is
 * 0700); a request is still checked like any foreign text, and a bad one gets an answer that says what was wrong:
 * {"ok":false,"code":64,"error":"…"}. */
#include "control.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/conf.h"
#include "base/log.h"
#include "contract.h"
#include "faults.h"
#include "reload.h"
#include "status.h"
#include "supervisor.h"

enum { CONTROL_REQUEST_MAX = 65536 };

struct connection {
    struct connection *next;
    struct control *control;
    int fd;
    sd_event_source *source;
};

struct control {
    struct supervisor *supervisor;
    int listen_fd;
    sd_event_source *source;
    struct connection *connections;
};

__attribute__((format(printf, 2, 3))) static json_t *refuse(int code, const char *format, ...)
{
    PN_FREE char *text = NULL;
    va_list args;
    va_start(args, format);
    if (vasprintf(&text, format, args) < 0)
        text = NULL;
    va_end(args);
    return json_pack("{s:b, s:i, s:s}", "ok", 0, "code", code, "error", text ? text : "out of memory");
}

static json_t *do_status(struct supervisor *supervisor, json_t *request)
{
    return status_json(supervisor);
}

static json_t *do_down(struct supervisor *supervisor, json_t *request)
{
    if (supervisor->phase != PHASE_STOPPING)
        supervisor_stop(supervisor);
    return json_pack("{s:b}", "ok", 1);
}

/* "store/broker-a" or "front/broker-a/1" → the worker's number. */
static uint32_t find_target(struct supervisor *supervisor, const char *target)
{
    for (unsigned i = 0; i < supervisor->worker_count; i++) {
        const struct worker *worker = supervisor->workers[i];
        PN_FREE char *full = NULL, *text = NULL;
        if (asprintf(&full, "%s/%s/%u", worker->kind->name, worker->subject, worker->index) < 0 ||
            asprintf(&text, "%s/%s", worker->kind->name, worker->subject) < 0)
            return 0;
        if (strcmp(full, target) == 0 || (worker->index == 0 && strcmp(text, target) == 0))
            return worker->number;
    }
    return 0;
}

static json_t *unknown_point(const char *point)
{
    const char *names[FAULT_POINT_COUNT + 1] = {0};
    memcpy(names, fault_point_names, sizeof fault_point_names);
    const char *nearest = conf_nearest(point, names);
    return refuse(EXIT_CODE_USAGE, "unknown fault point '%s'%s%s%s", point, nearest ? "; did you mean '" : "",
                  nearest ? nearest : "", nearest ? "'?" : "");
}

static json_t *do_fault(struct supervisor *supervisor, json_t *request)
{
    const char *what = NULL, *name = NULL, *action_name = "kill", *target_name = NULL, *wrong;
    json_int_t skip = 0, argument = 0;
    json_error_t error;
    if (!supervisor->cluster->faults)
        return refuse(EXIT_CODE_CONFIG, "faults are not allowed in this cluster; start it with --allow-faults or "
                                        "`faults = on` in the cluster file");
    if (json_unpack_ex(request, &error, 0, "{s:s, s:s, s?s, s?s, s?I, s?I}", "do", &what, "point", &name, "action",
                       &action_name, "target", &target_name, "skip", &skip, "argument", &argument) < 0)
        return refuse(EXIT_CODE_USAGE, "bad fault request: %s", error.text);
    enum fault_point point = fault_point_find(name);
    if (point == FAULT_POINT_COUNT)
        return unknown_point(name);
    if (strcmp(what, "disarm") == 0) {
        fault_page_disarm(supervisor->fault_page, point);
        return json_pack("{s:b}", "ok", 1);
    }
    uint64_t number = (uint64_t)argument;
    enum fault_action action = faults_action_find(action_name, &number);
    uint32_t target = target_name ? find_target(supervisor, target_name) : 0;
    wrong = strcmp(what, "arm") != 0                            ? what
            : action == FAULT_ACTION_NONE                       ? action_name
            : target_name && target == 0                        ? target_name
            : skip < 0 || skip > INT32_MAX || argument < 0      ? "a negative or huge number"
                                                                : NULL;
    if (wrong)
        return refuse(EXIT_CODE_USAGE, "'%s' is not possible; actions are kill, abort, stall, match and try-…, targets "
                                       "ROLE/NAME or ROLE/NAME/INDEX as in `pintle status`", wrong);
    fault_page_arm(supervisor->fault_page, point, action, target, (uint32_t)skip, number);
    log_info("fault point %s armed: %s, target %s", name, action_name, target_name ? target_name : "any");
    return json_pack("{s:b}", "ok", 1);
}

static json_t *do_reload(struct supervisor *supervisor, json_t *request)
{
    struct failure failure = {0};
    json_t *changes = NULL;
    if (reload(supervisor, &changes, &failure) < 0) {
        json_decref(changes);
        return refuse(failure.exit_code, "%s; everything stays as it was", failure.text);
    }
    return json_pack("{s:b, s:o}", "ok", 1, "changes", changes);
}

static const struct {
    const char *name;
    json_t *(*run)(struct supervisor *supervisor, json_t *request);
} commands[] = {{"status", do_status}, {"down", do_down}, {"fault", do_fault}, {"reload", do_reload}};

static json_t *answer_to(struct supervisor *supervisor, const char *text, size_t size)
{
    json_error_t error;
    const char *command = NULL;
    json_t *answer = NULL;
    json_t *request = json_loadb(text, size, 0, &error);
    if (!request || json_unpack(request, "{s:s}", "command", &command) < 0)
        answer = refuse(EXIT_CODE_USAGE, "a request is {\"command\":\"…\"}");
    for (size_t i = 0; command && !answer && i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(commands[i].name, command) == 0)
            answer = commands[i].run(supervisor, request);
    if (!answer)
        answer = refuse(EXIT_CODE_USAGE, "unknown command '%s'", command ? command : "");
    json_decref(request);
    return answer;
}

static void connection_free(struct connection *connection)
{
    sd_event_source_disable_unref(connection->source);
    close(connection->fd);
    free(connection);
}

static int on_request(sd_event_source *source, int fd, uint32_t events, void *context)
{
    struct connection *connection = context;
    struct control *control = connection->control;
    PN_FREE char *text = malloc(CONTROL_REQUEST_MAX), *answer_text = NULL;
    ssize_t size = text ? recv(fd, text, CONTROL_REQUEST_MAX, 0) : -1;
    if (size > 0) {
        json_t *answer = answer_to(control->supervisor, text, (size_t)size);
        answer_text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
        json_decref(answer);
    }
    if (answer_text && send(fd, answer_text, strlen(answer_text), MSG_NOSIGNAL) > 0)
        return 0;
    struct connection **link = &control->connections;
    while (*link != connection)
        link = &(*link)->next;
    *link = connection->next;
    connection_free(connection);
    return 0;
}

static int on_connect(sd_event_source *source, int listen_fd, uint32_t events, void *context)
{
    struct control *control = context;
    int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return 0;
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection) {
        close(fd);
        return 0;
    }
    connection->control = control;
    connection->fd = fd;
    if (sd_event_add_io(control->supervisor->event, &connection->source, fd, EPOLLIN, on_request, connection) < 0) {
        connection_free(connection);
        return 0;
    }
    connection->next = control->connections;
    control->connections = connection;
    return 0;
}

int control_create(struct supervisor *supervisor, struct control **ret_control)
{
    struct control *control = calloc(1, sizeof *control);
    if (!control)
        return -ENOMEM;
    control->supervisor = supervisor;
    control->listen_fd = -1;
    int r = runtime_dir_listen(supervisor->runtime_dir, CONTRACT_CONTROL_SOCKET, &control->listen_fd);
    if (r == 0)
        r = sd_event_add_io(supervisor->event, &control->source, control->listen_fd, EPOLLIN, on_connect, control);
    if (r < 0) {
        control_free(control);
        return r;
    }
    *ret_control = control;
    return 0;
}

void control_free(struct control *control)
{
    if (!control)
        return;
    while (control->connections) {
        struct connection *connection = control->connections;
        control->connections = connection->next;
        connection_free(connection);
    }
    sd_event_source_disable_unref(control->source);
    if (control->listen_fd >= 0)
        runtime_dir_unlink(control->supervisor->runtime_dir, CONTRACT_CONTROL_SOCKET);
    pn_close_p(&control->listen_fd);
    free(control);
}
