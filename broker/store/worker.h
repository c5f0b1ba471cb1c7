/* The store as a worker of the supervisor (ipc/contract.h): the descriptors it is given, the bus, the life line. */
#pragma once

#include "store.h"

/* What the initial grants hold; descriptors are −1 where none came. Rings and interests go straight to store->peers. */
struct worker_grants {
    int config, fault_page, board, queue_table, ledger, image, life_line;
    uint32_t worker_number;
};

/* Receives grants until GRANT_DONE, at most CONTRACT_GRANTS_TIMEOUT_MS. Rings are attached as they come. */
int worker_receive(struct store *store, struct worker_grants *ret_grants);
/* From now on later grants, the life line and SIGTERM are events; the bus says hello. */
int worker_begin(struct store *store, struct worker_grants *grants);
void worker_ready(struct worker *worker);
void worker_status(struct worker *worker, const char *text);
/* Last words: why this store cannot serve. */
void worker_failed(struct worker *worker, int exit_code, const char *text);
void worker_free(struct worker *worker);
