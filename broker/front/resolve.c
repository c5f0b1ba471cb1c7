/* Lookups of names: see resolve.h. The front's one thread starts and takes them; the lookup's thread fills in the result
 * and rings an eventfd. Both hold a reference, whoever lets go last frees. */
#include "resolve.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"

struct resolve {
    _Atomic int references;
    char *host, *port;
    int fd;
    /* written by the thread before it rings */
    struct addrinfo *found;
    int error;
    /* the loop's */
    sd_event_source *source;
    resolve_done done;
    void *context;
};

static void let_go(struct resolve *resolve)
{
    if (atomic_fetch_sub(&resolve->references, 1) > 1)
        return;
    if (resolve->found)
        freeaddrinfo(resolve->found);
    if (resolve->fd >= 0)
        close(resolve->fd);
    free(resolve->host);
    free(resolve->port);
    free(resolve);
}

static struct addrinfo *look_up(const char *host, const char *port, int flags, int *ret_error)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = flags};
    struct addrinfo *found = NULL;
    *ret_error = getaddrinfo(host, port, &hints, &found);
    return *ret_error ? NULL : found;
}

static void *run(void *context)
{
    struct resolve *resolve = context;
    resolve->found = look_up(resolve->host, resolve->port, AI_NUMERICSERV, &resolve->error);
    uint64_t one = 1;
    while (write(resolve->fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
    let_go(resolve);
    return NULL;
}

static int on_done(sd_event_source *source, int fd, uint32_t events, void *context)
{
    struct resolve *resolve = context;
    uint64_t count;
    if (read(fd, &count, sizeof count) < 0)
        return 0;
    resolve_done done = resolve->done;
    sd_event_source_disable_unref(TAKE_PTR(resolve->source));
    done(resolve->context, resolve->found, resolve->found ? NULL : gai_strerror(resolve->error));
    let_go(resolve);
    return 0;
}

static int start_thread(struct resolve *resolve)
{
    pthread_t thread;
    atomic_store(&resolve->references, 2);
    int r = pthread_create(&thread, NULL, run, resolve);
    if (r != 0) {
        atomic_store(&resolve->references, 1);
        return -r;
    }
    pthread_detach(thread);
    return 0;
}

int resolve_start(sd_event *event, const char *host, const char *port, resolve_done done, void *context,
                  struct resolve **ret_resolve)
{
    struct resolve *resolve = calloc(1, sizeof *resolve);
    if (!resolve)
        return -ENOMEM;
    *resolve = (struct resolve){.references = 1,
                                .host = strdup(host),
                                .port = strdup(port),
                                .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
                                .done = done,
                                .context = context};
    int r = resolve->fd < 0 ? -errno : resolve->host && resolve->port ? 0 : -ENOMEM;
    if (r == 0)
        r = sd_event_add_io(event, &resolve->source, resolve->fd, EPOLLIN, on_done, resolve);
    if (r >= 0)
        r = start_thread(resolve);
    if (r < 0) {
        resolve_cancel(resolve);
        return r;
    }
    *ret_resolve = resolve;
    return 0;
}

void resolve_cancel(struct resolve *resolve)
{
    if (!resolve)
        return;
    sd_event_source_disable_unref(TAKE_PTR(resolve->source));
    let_go(resolve);
}

struct addrinfo *resolve_digits(const char *host, const char *port)
{
    int error;
    return look_up(host, port, AI_NUMERICHOST | AI_NUMERICSERV, &error);
}
