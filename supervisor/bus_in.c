/* Takes hello, ready, status and failed from workers. Runs in the supervisor. Workers are our own programs, but a message
 * may be late, of a process that is gone, or of nobody we know: then it is refused and logged, never more. */
#include "bus_in.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "bus/bus_msg.h"
#include "notify.h"
#include "supervisor.h"

static void keep_status(struct worker *worker, struct bytes text)
{
    int size = (int)(text.size < sizeof worker->status - 1 ? text.size : sizeof worker->status - 1);
    snprintf(worker->status, sizeof worker->status, "%.*s", size, (const char *)text.data);
    notify_status(worker->supervisor);
}

static int take(struct worker *worker, enum bus_msg_kind kind, struct bytes message)
{
    struct bus_hello hello;
    struct bus_failed failed;
    struct bytes text;
    int r = 0;
    switch (kind) {
    case BUS_HELLO:
        r = bus_msg_decode_hello(message, &hello);
        if (r == 0)
            worker_said_hello(worker, hello.generation, (pid_t)hello.pid);
        return r;
    case BUS_READY:
        /* Only of the process that said hello: a last word of its predecessor is none. */
        if (worker->said_hello)
            worker_event(worker, CHILD_EVENT_SAID_READY);
        return 0;
    case BUS_STATUS:
        r = bus_msg_decode_text(message, &text);
        if (r == 0)
            keep_status(worker, text);
        return r;
    case BUS_FAILED:
        r = bus_msg_decode_failed(message, &failed);
        if (r == 0)
            keep_status(worker, failed.text);
        return r;
    default:
        return -EBADMSG;
    }
}

void bus_in_message(void *context, struct bytes peer, struct bytes message)
{
    struct supervisor *supervisor = context;
    char name[160];
    enum bus_msg_kind kind;
    if (message.size == 0) /* a socket connected; it says hello when it sees that, too */
        return;
    snprintf(name, sizeof name, "%.*s", (int)(peer.size < sizeof name ? peer.size : sizeof name - 1), peer.data);
    struct worker *worker = supervisor_find_worker(supervisor, name);
    int r = worker ? bus_msg_kind(message, &kind) : -ENOENT;
    if (r == 0)
        r = take(worker, kind, message);
    if (r < 0)
        log_warning("bus: a message of '%s' refused: %s", name, strerror(-r));
}
