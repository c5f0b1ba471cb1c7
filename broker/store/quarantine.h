/* Requests that crashed the store twice: their bytes are kept for people, in STORE/quarantine/. */
#pragma once

#include "peers.h"
#include "store.h"

void quarantine_keep(struct store *store, const struct peer *peer, uint64_t ring_pos, const uint8_t *payload, size_t size);
