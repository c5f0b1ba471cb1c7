/* The link to the store: two ring sets (data: sends; control: everything else that changes something). The front writes
 * the request rings and reads the reply rings. Rings outlive a store; a new one is seen by its generation in the queue
 * table, and is told the members of every live connection before it answers anything about groups. */
#pragma once

#include "connections.h"
#include "msg/msg.h"
#include "shm/ring.h"

struct store_link;

int store_link_new(struct store_link **ret_link);
void store_link_free(struct store_link *link);
/* A GRANT_RING_SET; takes the descriptors. */
int store_link_attach(struct store_link *link, const struct fd_grant *grant, int *fds, unsigned fd_count);
bool store_link_complete(const struct store_link *link);
/* Wake-ups of both sets arrive through the connections' epoll. */
int store_link_watch(struct front *front);

/* Room for one request record in the data or control ring; NULL = full: the caller returns -EAGAIN, its channel pauses
 * and is resumed when there is room. The record is published at the end of the turn. */
void *store_link_reserve_data(struct front *front, uint16_t kind, size_t size);
void *store_link_reserve_control(struct front *front, uint16_t kind, size_t size);
/* Largest payloads; a request over them can never be passed on. */
size_t store_link_data_max(const struct store_link *link);
size_t store_link_control_max(const struct store_link *link);
/* Bytes free in the control ring now; asks for a wake-up if there are fewer than `wanted`. */
bool store_link_control_has_room(struct front *front, size_t wanted);

/* The data ring: how far the store has taken it, bytes that it has not, whether somebody waits for room. */
uint64_t store_link_data_taken(const struct store_link *link);
size_t store_link_data_waiting(const struct store_link *link);
bool store_link_data_wanted(const struct store_link *link);

/* Asks the store for a snapshot of the catalogue, as soon as there is room. */
void store_link_ask_catalogue(struct front *front);

/* Steps of a turn: look for a new store and answers; publish requests. */
void store_link_receive(struct front *front);
void store_link_publish(struct front *front);
/* There was room again since the last turn. */
void store_link_space(struct front *front);
/* True: nothing came in, the loop may sleep. Call last before sleeping. */
bool store_link_may_sleep(struct front *front);
void store_link_awake(struct front *front);
/* After 5 s of idleness the rings' memory goes back. */
void store_link_trim(struct front *front);

/* One record of a reply ring (reply.c). */
void reply_take(struct front *front, uint16_t kind, const uint8_t *payload, uint32_t size);
