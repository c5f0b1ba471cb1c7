/* Who takes which request. A code that is not in the table is refused by name and the connection lives; one that
 * changes something for everybody is taken only from the peers that adminFrom names. Registration is not among these:
 * whoever reaches the port may bring a broker, as with Apache, but cannot take the place of one of this host. Runs in
 * the name server. */
#include "query.h"

#include "base/log.h"
#include "query_admin.h"
#include "query_config.h"
#include "query_register.h"
#include "query_route.h"

static const struct row {
    int32_t code;
    void (*take)(struct query *query);
    bool wants_admin;
} rows[] = {
    {REQUEST_PUT_KV_CONFIG, query_config_put, true},
    {REQUEST_GET_KV_CONFIG, query_config_get, false},
    {REQUEST_DELETE_KV_CONFIG, query_config_delete, true},
    {REQUEST_REGISTER_BROKER, query_register_broker, false},
    {REQUEST_UNREGISTER_BROKER, query_register_leave, false},
    {REQUEST_GET_ROUTEINFO_BY_TOPIC, query_route_topic, false},
    {REQUEST_GET_BROKER_CLUSTER_INFO, query_route_clusters, false},
    {REQUEST_WIPE_WRITE_PERM_OF_BROKER, query_admin_wipe_write, true},
    {REQUEST_GET_ALL_TOPIC_LIST_FROM_NAMESERVER, query_route_all_topics, false},
    {REQUEST_DELETE_TOPIC_IN_NAMESRV, query_admin_delete_topic, true},
    {REQUEST_REGISTER_TOPIC_IN_NAMESRV, query_admin_put_topic, true},
    {REQUEST_GET_KVLIST_BY_NAMESPACE, query_config_list, false},
    {REQUEST_GET_TOPICS_BY_CLUSTER, query_route_topics_of_cluster, false},
    {REQUEST_GET_SYSTEM_TOPIC_LIST_FROM_NS, query_route_system_topics, false},
    {REQUEST_GET_UNIT_TOPIC_LIST, query_route_unit_topics, false},
    {REQUEST_GET_HAS_UNIT_SUB_TOPIC_LIST, query_route_unit_sub_topics, false},
    {REQUEST_GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST, query_route_unit_sub_ununit_topics, false},
    {REQUEST_UPDATE_NAMESRV_CONFIG, query_config_update_own, true},
    {REQUEST_GET_NAMESRV_CONFIG, query_config_get_own, false},
    {REQUEST_QUERY_DATA_VERSION, query_register_version, false},
    {REQUEST_ADD_WRITE_PERM_OF_BROKER, query_admin_add_write, true},
    {REQUEST_GET_BROKER_MEMBER_GROUP, query_route_member_group, false},
    {REQUEST_BROKER_HEARTBEAT, query_register_heartbeat, false},
};

static void refuse_code(struct query *query)
{
    char why[256];
    board_add(query->namesrv->board, COUNTER_REQUESTS_UNSUPPORTED, 1);
    request_code_refusal(query->frame->code, SERVER_NAMESRV, why, sizeof why);
    answer_refuse(query, RESPONSE_REQUEST_CODE_NOT_SUPPORTED, "%s", why);
}

static void refuse_peer(struct query *query)
{
    board_add(query->namesrv->board, COUNTER_REQUESTS_FORBIDDEN, 1);
    if (!query->peer->was_refused)
        log_warning("%s asked for %s and is not in adminFrom: refused", query->peer->address,
                    request_code_name(query->frame->code));
    query->peer->was_refused = true;
    answer_refuse(query, RESPONSE_NO_PERMISSION, "%s is taken only from the addresses that adminFrom names",
                  request_code_name(query->frame->code));
}

void query_take(struct namesrv *namesrv, struct connection *connection, const struct frame *frame,
                struct query_peer *peer)
{
    struct query query = {namesrv, connection, frame, peer};
    const struct row *row = NULL;
    if (frame->flag & FRAME_FLAG_RESPONSE) /* we ask nobody anything */
        return;
    board_add(namesrv->board, COUNTER_REQUESTS, 1);
    for (size_t i = 0; i < sizeof rows / sizeof *rows && !row; i++)
        if (rows[i].code == frame->code)
            row = &rows[i];
    if (!row)
        refuse_code(&query);
    else if (row->wants_admin && !peer->is_admin)
        refuse_peer(&query);
    else
        row->take(&query);
}

void query_peer_gone(struct namesrv *namesrv, const struct query_peer *peer)
{
    char text[512];
    while (peer->is_broker && route_table_drop_connection(namesrv->routes, peer->number, text, sizeof text))
        log_warning("broker %s is removed: its connection has ended", text);
}
