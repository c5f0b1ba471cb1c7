/* The order in which the parts of a store come and go (see lifecycle.h). Deciding thread. A failed start leaves the ledger
 * ended: the next one recovers from files. */
#include "lifecycle.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "checkpoint.h"
#include "commit_log.h"
#include "config.h"
#include "consume_queue.h"
#include "delay.h"
#include "file_layer.h"
#include "flush.h"
#include "index.h"
#include "metadata.h"
#include "peers.h"
#include "queue_mend.h"
#include "recover.h"
#include "retention.h"
#include "shm/ledger.h"
#include "turn.h"

static int folder_open(struct store *store, const char **ret_what)
{
    char *root = store->config.store_root;
    int r = 0;
    *ret_what = root;
    for (char *slash = root; r == 0 && (slash = strchr(slash + 1, '/'));) {
        *slash = 0;
        r = file_layer_mkdir_kept(root);
        *slash = '/';
    }
    if (r == 0)
        r = file_layer_mkdir_kept(root);
    if (r < 0)
        return r;
    r = checkpoint_lock_take(root, &store->lock_fd);
    *ret_what = r == -EBUSY ? "another broker uses the store's folder" : "lock file";
    if (r < 0)
        return r;
    r = commit_log_open(&store->config, &store->commit_log);
    *ret_what = r == -EUCLEAN ? "the commit log's folder holds files of another size or name" : "commit log";
    return r;
}

int lifecycle_recover(struct store *store, void (*progress)(struct store *store, int64_t pos, int64_t end),
                      struct checkpoint *ret_checkpoint, const char **ret_what)
{
    int r = folder_open(store, ret_what);
    if (r < 0)
        return r;
    bool clean = !checkpoint_abort_exists(store->config.store_root);
    bool warm = recover_is_warm(store);
    if (!warm)
        ledger_end(store->ledger); /* a death from here on starts over from files */
    *ret_what = "checkpoint or abort file";
    r = checkpoint_read(store->config.store_root, ret_checkpoint);
    if (r == 0 && !commit_log_is_empty(store->commit_log) && ret_checkpoint->physic_ms == 0)
        log_warning("the checkpoint says nothing of the messages that are there");
    if (r == 0 && clean) /* else the predecessor's file says it as well, and is not written behind a busy disk */
        r = checkpoint_abort_make(store->config.store_root);
    if (r < 0)
        return r;
    *ret_what = "metadata";
    r = metadata_open(store, TAKE_FD(store->image_fd), warm);
    if (r < 0)
        return r;
    *ret_what = "recovery";
    int64_t trusted_pos = INT64_MAX;
    if (!warm && !clean)
        r = recover_trusted_pos(store, ret_checkpoint, &trusted_pos);
    if (r == 0)
        r = consume_queues_open(store, warm, commit_log_min_pos(store->commit_log), trusted_pos);
    /* Whoever has not yet looked through the index after a cold start leaves it as unsure as it was. */
    store->index_unsure = warm ? atomic_load(&store->queue_table->indexed_pos) < 0 : !clean;
    if (!warm)
        atomic_store(&store->queue_table->indexed_pos, -1);
    if (r == 0)
        r = warm ? recover_warm(store) : recover_cold(store, trusted_pos, ret_checkpoint->physic_ms, progress);
    if (r == 0)
        r = delay_recover(store, warm, trusted_pos);
    if (r < 0)
        ledger_end(store->ledger);
    return r;
}

int lifecycle_serve(struct store *store, const struct checkpoint *checkpoint, const char **ret_what)
{
    int64_t flushed_pos = atomic_load(&store->queue_table->log_flushed_pos);
    *ret_what = "recovery";
    int r = flush_start(store, flushed_pos, checkpoint, true, &store->flush);
    if (r == 0)
        r = index_start(store, store->index_unsure ? INDEX_TRUST_SYNCED : INDEX_TRUST_ALL, checkpoint, store->flush,
                        &store->index);
    if (r == 0)
        r = queue_mend_new(store, &store->queue_mend);
    if (r == 0)
        r = turn_new(store, &store->turn);
    if (r == 0)
        r = turn_resume(store);
    if (r == 0)
        r = retention_start(store);
    if (r == 0)
        r = delay_start(store);
    if (r < 0) {
        ledger_end(store->ledger);
        return r;
    }
    *ret_what = "metadata";
    r = metadata_start(store);
    if (r == 0)
        peers_announce(store);
    return r;
}

int lifecycle_stop(struct store *store)
{
    delay_stop(store);
    metadata_stop(store);
    int r = turn_flush_all(store);
    index_stop(TAKE_PTR(store->index));
    bool queues_failed = false;
    flush_stop(TAKE_PTR(store->flush), &queues_failed); /* writes the checkpoint */
    if (r == 0 && queues_failed)
        r = -EIO;
    if (r == 0)
        r = checkpoint_abort_remove(store->config.store_root);
    if (r < 0)
        return r;
    ledger_end(store->ledger);
    log_info("stopped; log ends at %" PRId64, commit_log_end(store->commit_log));
    return 0;
}

void lifecycle_free(struct store *store)
{
    retention_free(TAKE_PTR(store->retention));
    index_stop(TAKE_PTR(store->index));
    flush_stop(TAKE_PTR(store->flush), NULL);
    turn_free(TAKE_PTR(store->turn));
    queue_mend_free(TAKE_PTR(store->queue_mend));
    peers_free(store);
    metadata_free(store);
    consume_queues_free(TAKE_PTR(store->consume_queues));
    commit_log_free(TAKE_PTR(store->commit_log));
    ledger_detach(TAKE_PTR(store->ledger));
    config_free(&store->config);
    queue_table_detach(TAKE_PTR(store->queue_table));
    pn_close_p(&store->image_fd);
    pn_close_p(&store->lock_fd);
}
