/* Two threads and two lists under one lock; see helper.h. Jobs are rare (cold pages, searches by time), so the lock is
 * not on any hot path. A failed thread start is fatal at start-up: without helpers the loop would wait for disks. */
#include "helper.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/thread.h"

enum { HELPER_THREADS = 2 };

struct job_list {
    struct helper_job *first, **last;
};

struct helper {
    pthread_mutex_t lock;
    pthread_cond_t wanted;
    struct job_list waiting, done;
    bool ending;
    int event_fd;
    unsigned thread_count;
    pthread_t threads[HELPER_THREADS];
    unsigned outstanding; /* loop's thread only */
};

static void list_init(struct job_list *list)
{
    list->first = NULL;
    list->last = &list->first;
}

static void list_add(struct job_list *list, struct helper_job *job)
{
    job->next = NULL;
    *list->last = job;
    list->last = &job->next;
}

static struct helper_job *list_take(struct job_list *list)
{
    struct helper_job *job = list->first;
    if (job && !(list->first = job->next))
        list->last = &list->first;
    return job;
}

static void *helper_main(void *context)
{
    struct helper *helper = context;
    pthread_mutex_lock(&helper->lock);
    for (;;) {
        struct helper_job *job = list_take(&helper->waiting);
        if (!job) {
            if (helper->ending)
                break;
            pthread_cond_wait(&helper->wanted, &helper->lock);
            continue;
        }
        pthread_mutex_unlock(&helper->lock);
        job->run(job);
        pthread_mutex_lock(&helper->lock);
        list_add(&helper->done, job);
        uint64_t one = 1;
        if (write(helper->event_fd, &one, sizeof one) < 0) {
            /* Only a counter at its end refuses, and then the descriptor is readable anyway. */
        }
    }
    pthread_mutex_unlock(&helper->lock);
    return NULL;
}

int helper_new(struct helper **ret_helper)
{
    struct helper *helper = calloc(1, sizeof *helper);
    if (!helper)
        return -ENOMEM;
    list_init(&helper->waiting);
    list_init(&helper->done);
    pthread_mutex_init(&helper->lock, NULL);
    pthread_cond_init(&helper->wanted, NULL);
    helper->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int r = helper->event_fd < 0 ? -errno : 0;
    for (; r == 0 && helper->thread_count < HELPER_THREADS; helper->thread_count += r == 0)
        r = thread_start(&helper->threads[helper->thread_count], helper_main, helper);
    if (r < 0) {
        helper_free(helper);
        return r;
    }
    *ret_helper = helper;
    return 0;
}

void helper_free(struct helper *helper)
{
    if (!helper)
        return;
    pthread_mutex_lock(&helper->lock);
    helper->ending = true;
    pthread_cond_broadcast(&helper->wanted);
    pthread_mutex_unlock(&helper->lock);
    for (unsigned i = 0; i < helper->thread_count; i++)
        pthread_join(helper->threads[i], NULL);
    if (helper->event_fd >= 0)
        close(helper->event_fd);
    pthread_cond_destroy(&helper->wanted);
    pthread_mutex_destroy(&helper->lock);
    free(helper);
}

void helper_submit(struct helper *helper, struct helper_job *job)
{
    helper->outstanding++;
    pthread_mutex_lock(&helper->lock);
    list_add(&helper->waiting, job);
    pthread_cond_signal(&helper->wanted);
    pthread_mutex_unlock(&helper->lock);
}

int helper_event_fd(const struct helper *helper)
{
    return helper->event_fd;
}

void helper_collect(struct helper *helper, struct front *front)
{
    pthread_mutex_lock(&helper->lock);
    struct helper_job *job = helper->done.first;
    list_init(&helper->done);
    pthread_mutex_unlock(&helper->lock);
    while (job) {
        struct helper_job *next = job->next;
        helper->outstanding--;
        job->done(job, front);
        job = next;
    }
}

unsigned helper_outstanding(const struct helper *helper)
{
    return helper->outstanding;
}
