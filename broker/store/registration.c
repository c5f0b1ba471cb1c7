/* Registration over the bus: see registration.h. A name server that starts is greeted by the bus itself (an empty
 * message on connect) and asks for the table; the heartbeat finds whatever else was missed. So a message that could not
 * be sent is never repeated here. Nothing is fatal after the start. */
#include "registration.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/panic.h"
#include "bus/bus.h"
#include "bus/bus_msg.h"
#include "fault/fault.h"
#include "shm/board.h"

enum {
    HEARTBEAT_MS = 1000,
    WHOLE_SOON_MS = 100, /* many topics that are dropped one after the other are one table */
    /* A store may be busy with a disk for 30 s before it is killed (supervisor); routes should live as long. */
    HEARTBEAT_TIMEOUT_MS = 30000,
    PERM_READ_WRITE = 6,
};

struct name_server {
    struct registration *registration;
    struct bus *bus;
    char *name;
    bool knows; /* has confirmed a whole table of ours, at some time */
};

struct registration {
    struct store *store;
    struct name_server *servers;
    unsigned server_count;
    sd_event_source *heartbeat_timer, *whole_timer, *patience_timer;
    void (*known)(struct store *store); /* NULL: nobody waits */
    char address[300], ha_address[300];
};

static struct bus_data_version wire_version(const struct store *store)
{
    struct data_version version = topics_version(store->topics);
    return (struct bus_data_version){version.state_version, version.timestamp_ms, version.counter};
}

/* Apache: a broker that may not be read or written says so of each topic. */
static struct bus_topic wire_topic(const struct store *store, const struct topic *topic)
{
    int broker_perm = store->config.broker_permission;
    return (struct bus_topic){
        .name = bytes_of(topic->name),
        .read_queues = topic->read_queues,
        .write_queues = topic->write_queues,
        .perm = (broker_perm & PERM_READ_WRITE) == PERM_READ_WRITE ? topic->perm : topic->perm & broker_perm,
        .topic_sys_flag = topic->sys_flag,
        .order = topic->order,
    };
}

static void send_to(struct name_server *server, struct bytes message)
{
    int r = bus_send(server->bus, (struct bytes){NULL, 0}, message);
    if (r < 0 && r != -EAGAIN)
        log_warning("name server %s: %s", server->name, strerror(-r));
}

/* To one name server, or to all of them. */
static void send_out(struct registration *registration, struct name_server *only, struct bytes message)
{
    if (only) {
        send_to(only, message);
        return;
    }
    for (unsigned i = 0; i < registration->server_count; i++)
        send_to(&registration->servers[i], message);
}

static void send_topics(struct registration *registration, struct name_server *only, struct bus_topic *topics,
                        uint32_t count, bool whole)
{
    const struct store *store = registration->store;
    const struct store_config *config = &store->config;
    struct bus_registration table = {
        .cluster = bytes_of(config->cluster_name),
        .broker_name = bytes_of(config->broker_name),
        .broker_addr = bytes_of(registration->address),
        .ha_addr = bytes_of(registration->ha_address),
        .broker_id = config->broker_id,
        .heartbeat_timeout_ms = HEARTBEAT_TIMEOUT_MS,
        .version = wire_version(store),
        .whole = whole,
        .topic_count = count,
        .topics = topics,
    };
    struct bytes message;
    int r = bus_msg_encode_registration(&table, &message);
    if (r < 0) {
        log_error("cannot encode a registration: %s", strerror(-r));
        return;
    }
    FAULT_POINT(STORE_REGISTER);
    send_out(registration, only, message);
    board_add(store->board, COUNTER_REGISTRATIONS, 1);
    free((void *)message.data);
}

struct collect {
    const struct store *store;
    struct bus_topic *topics;
    uint32_t count, room;
};

static int collect_topic(struct topic *topic, void *context)
{
    struct collect *collect = context;
    if (collect->count == collect->room) {
        collect->room = collect->room ? collect->room * 2 : 64;
        collect->topics = realloc(collect->topics, collect->room * sizeof *collect->topics);
        pn_assert(collect->topics);
    }
    collect->topics[collect->count++] = wire_topic(collect->store, topic);
    return 0;
}

static void send_whole(struct registration *registration, struct name_server *only)
{
    struct collect collect = {.store = registration->store};
    topics_each(registration->store->topics, collect_topic, &collect);
    send_topics(registration, only, collect.topics, collect.count, true);
    free(collect.topics);
}

static void send_plain(struct registration *registration, enum bus_msg_kind kind)
{
    const struct store_config *config = &registration->store->config;
    struct bus_heartbeat heartbeat = {
        .cluster = bytes_of(config->cluster_name),
        .broker_name = bytes_of(config->broker_name),
        .broker_addr = bytes_of(registration->address),
        .broker_id = config->broker_id,
        .version = wire_version(registration->store),
    };
    struct bytes message;
    int r = bus_msg_encode_heartbeat(kind, &heartbeat, &message);
    if (r < 0) {
        log_error("cannot encode a heartbeat: %s", strerror(-r));
        return;
    }
    send_out(registration, NULL, message);
    free((void *)message.data);
}

void registration_topic(struct store *store, const struct topic *topic)
{
    if (!store->registration)
        return;
    struct bus_topic one = wire_topic(store, topic);
    send_topics(store->registration, NULL, &one, 1, false);
}

static int again(sd_event_source *source, int64_t after_ms)
{
    int r = sd_event_source_set_time_relative(source, (uint64_t)after_ms * 1000);
    return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

void registration_topics(struct store *store)
{
    if (store->registration)
        again(store->registration->whole_timer, WHOLE_SOON_MS);
}

static void known(struct registration *registration)
{
    void (*call)(struct store *store) = registration->known;
    registration->known = NULL;
    registration->patience_timer = sd_event_source_disable_unref(registration->patience_timer);
    if (call)
        call(registration->store);
}

static int on_patience(sd_event_source *source, uint64_t usec, void *userdata)
{
    log_warning("not every name server has confirmed this broker; it serves all the same");
    known(userdata);
    return 0;
}

static void on_registered(struct name_server *server)
{
    struct registration *registration = server->registration;
    server->knows = true;
    for (unsigned i = 0; i < registration->server_count; i++)
        if (!registration->servers[i].knows)
            return;
    known(registration);
}

int registration_when_known(struct store *store, unsigned patience_ms, void (*call)(struct store *store))
{
    struct registration *registration = store->registration;
    registration->known = call;
    if (registration->server_count == 0) {
        known(registration);
        return 0;
    }
    int r = sd_event_add_time_relative(store->event, &registration->patience_timer, CLOCK_MONOTONIC,
                                       (uint64_t)patience_ms * 1000, 1000, on_patience, registration);
    return r < 0 ? r : 0;
}

static void on_message(void *context, struct bytes peer, struct bytes message)
{
    struct name_server *server = context;
    enum bus_msg_kind kind;
    if (message.size == 0) /* the bus: it has connected; the name server asks for what it needs */
        return;
    int r = bus_msg_kind(message, &kind);
    if (r == 0 && kind == BUS_REGISTER_AGAIN)
        send_whole(server->registration, server);
    else if (r == 0 && kind == BUS_REGISTERED)
        on_registered(server);
    else
        log_warning("name server %s: a message that is not for a store", server->name);
}

static int on_heartbeat(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct registration *registration = userdata;
    send_plain(registration, BUS_HEARTBEAT);
    return again(source, HEARTBEAT_MS);
}

static int on_whole(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct registration *registration = userdata;
    send_whole(registration, NULL);
    return again(source, registration->store->config.register_interval_ms);
}

static void registration_free(struct registration *registration)
{
    if (!registration)
        return;
    sd_event_source_disable_unref(registration->heartbeat_timer);
    sd_event_source_disable_unref(registration->whole_timer);
    sd_event_source_disable_unref(registration->patience_timer);
    for (unsigned i = 0; i < registration->server_count; i++) {
        bus_free(registration->servers[i].bus);
        free(registration->servers[i].name);
    }
    free(registration->servers);
    free(registration);
}

static void registration_free_p(struct registration **registration)
{
    registration_free(*registration);
}

static int connect_one(struct registration *registration, const char *name)
{
    const struct store *store = registration->store;
    struct name_server *server = &registration->servers[registration->server_count];
    char endpoint[256], identity[256];
    snprintf(endpoint, sizeof endpoint, CONTRACT_BUS_NAMESRV, name);
    /* With the id, so that a master and its slaves on one host are not one for a ROUTER. */
    snprintf(identity, sizeof identity, "%s/%lld", store->config.broker_name, (long long)store->config.broker_id);
    server->registration = registration;
    server->name = strdup(name);
    if (!server->name)
        return -ENOMEM;
    int r = bus_connect(store->event, store->runtime_dir, endpoint, identity, on_message, server, &server->bus);
    if (r < 0) {
        free(server->name);
        return r;
    }
    registration->server_count++;
    return 0;
}

int registration_start(struct store *store)
{
    const struct store_config *config = &store->config;
    PN_CLEANUP(registration_free_p) struct registration *registration = calloc(1, sizeof *registration);
    if (!registration)
        return -ENOMEM;
    registration->store = store;
    snprintf(registration->address, sizeof registration->address, "%s:%d", config->broker_ip1 ? config->broker_ip1 : "",
             config->listen_port);
    const char *ha_ip = config->ha_ip ? config->ha_ip : config->broker_ip1 ? config->broker_ip1 : "";
    snprintf(registration->ha_address, sizeof registration->ha_address, "%s:%d", ha_ip, config->ha_listen_port);
    unsigned count = 0;
    while (config->namesrvs && config->namesrvs[count])
        count++;
    /* The array never moves: each bus holds a pointer into it. */
    registration->servers = calloc(count + 1, sizeof *registration->servers);
    if (!registration->servers)
        return -ENOMEM;
    for (unsigned i = 0; i < count; i++) {
        int r = connect_one(registration, config->namesrvs[i]);
        if (r < 0) {
            log_error("cannot connect to name server %s: %s", config->namesrvs[i], strerror(-r));
            return r;
        }
    }
    int r = sd_event_add_time_relative(store->event, &registration->heartbeat_timer, CLOCK_MONOTONIC,
                                       HEARTBEAT_MS * 1000, 10000, on_heartbeat, registration);
    if (r < 0)
        return r;
    r = sd_event_add_time_relative(store->event, &registration->whole_timer, CLOCK_MONOTONIC,
                                   (uint64_t)config->register_interval_ms * 1000, 100000, on_whole, registration);
    if (r < 0)
        return r;
    store->registration = TAKE_PTR(registration);
    send_whole(store->registration, NULL);
    return 0;
}

void registration_stop(struct store *store)
{
    if (!store->registration)
        return;
    send_plain(store->registration, BUS_UNREGISTER);
    registration_free(TAKE_PTR(store->registration));
}
