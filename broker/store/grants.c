/* The store's own grants (see grants.h): queue table, ledger, image, and its peers' rings and interest pages. Deciding
 * thread. A peer whose rings cannot be used is its own loss, told in the log; memory that cannot be mapped ends the
 * start. */
#include "grants.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "peers.h"
#include "shm/ledger.h"

static void give_away(int *fds, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        fds[i] = -1;
}

/* Grants of peers, at any time. 1: it was one. */
static int take_peer(struct store *store, const struct fd_grant *grant, int *fds, unsigned count)
{
    int r;
    switch (grant->kind) {
    case GRANT_RING_SET:
        if (count != 6)
            return -EBADMSG;
        r = peers_grant_rings(store, grant, fds);
        give_away(fds, count);
        if (r < 0)
            log_warning("peer %u (%s): its rings cannot be used: %s", grant->index, grant->name, strerror(-r));
        return 1;
    case GRANT_INTEREST:
        if (count != 1)
            return -EBADMSG;
        r = peers_grant_interest(store, grant, fds[0]);
        give_away(fds, count);
        if (r < 0)
            log_warning("peer %u: its interest page cannot be used: %s", grant->index, strerror(-r));
        return 1;
    case GRANT_RING_DROP:
        peers_drop(store, grant->index, grant->generation);
        return 1;
    default:
        return 0;
    }
}

int grants_take(void *context, const struct fd_grant *grant, int *fds, unsigned count)
{
    struct store *store = context;
    int r = take_peer(store, grant, fds, count);
    if (r != 0)
        return r < 0 ? r : 0;
    if (count != 1)
        return -EBADMSG;
    switch (grant->kind) {
    case GRANT_QUEUE_TABLE:
        r = store->queue_table ? -EBADMSG : queue_table_attach(fds[0], true, &store->queue_table);
        break;
    case GRANT_LEDGER:
        r = store->ledger ? -EBADMSG : ledger_attach(fds[0], &store->ledger);
        break;
    case GRANT_IMAGE:
        if (store->image_fd >= 0)
            return -EBADMSG;
        store->image_fd = fds[0];
        break;
    default:
        return -EBADMSG;
    }
    if (r == 0)
        fds[0] = -1;
    return r;
}

void grants_take_later(void *context, const struct fd_grant *grant, int *fds, unsigned count)
{
    if (take_peer(context, grant, fds, count) == 0)
        log_warning("grant of kind %u came too late", grant->kind);
}
