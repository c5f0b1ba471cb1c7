/* Quarantine (see quarantine.h). Deciding thread of the store. Failing to keep the bytes does not stop the refusal. */
#include "quarantine.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "file_layer.h"

static int bytes_keep(struct store *store, const char *path, const uint8_t *payload, size_t size)
{
    char folder[4096];
    snprintf(folder, sizeof folder, "%s/quarantine", store->config.store_root);
    int r = file_layer_mkdir(folder);
    if (r < 0)
        return r;
    PN_CLOSE int fd = file_layer_open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0)
        return fd;
    r = file_layer_pwrite(fd, payload, size, 0);
    return r < 0 ? r : file_layer_fdatasync(fd);
}

void quarantine_keep(struct store *store, const struct peer *peer, uint64_t ring_pos, const uint8_t *payload, size_t size)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/quarantine/%" PRId64 "-peer%u-%" PRIu64 ".request", store->config.store_root,
             clock_realtime_ms(), peer->id, ring_pos);
    int r = bytes_keep(store, path, payload, size);
    board_add(store->board, COUNTER_MESSAGES_QUARANTINED, 1);
    if (r < 0)
        log_error("request %" PRIu64 " of %s crashed the store twice and is refused; cannot keep its bytes: %s", ring_pos,
                  peer->name, strerror(-r));
    else
        log_error("request %" PRIu64 " of %s crashed the store twice and is refused; its bytes are in %s", ring_pos,
                  peer->name, path);
}
