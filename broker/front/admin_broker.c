/* The broker as a whole, for administrators; see admin_broker.h. The front's one thread. Nothing copies from this broker yet,
 * so it is a master without slaves; every group pulls, so only pulling can be asked for. */
#include "admin_broker.h"

#include <inttypes.h>

#include "admin.h"
#include "base/cleanup.h"
#include "msg/names.h"
#include "wire/codes.h"

int admin_broker_ha_status(struct front *front, struct channel *channel, const struct frame *frame)
{
    struct text text = {0};
    text_add(&text,
             "{\"haClientRuntimeInfo\":{\"activated\":false,\"lastReadTimestamp\":0,\"lastWriteTimestamp\":0,"
             "\"masterFlushOffset\":0,\"maxOffset\":0,\"transferredByteInSecond\":0},\"haConnectionInfo\":[],"
             "\"inSyncSlaveNums\":0,\"master\":true,\"masterCommitLogMaxOffset\":%" PRId64 "}",
             atomic_load_explicit(&front->queue_table->log_written_pos, memory_order_acquire));
    admin_reply_body(channel, frame, &text);
    return 0;
}

static void json_release(json_t **json)
{
    json_decref(*json);
}

int admin_broker_request_mode(struct front *front, struct channel *channel, const struct frame *frame)
{
    const char *error = NULL;
    PN_CLEANUP(json_release) json_t *json = json_body_parse(frame->body, &error);
    const char *topic = json_string_value(json_object_get(json, "topic"));
    const char *mode = json_string_value(json_object_get(json, "mode"));
    if (!topic || !mode)
        reply_error(channel, frame, RESPONSE_SYSTEM_ERROR, "request mode: %s", error ? error : "topic or mode is missing");
    else if (strncmp(topic, "%RETRY%", 7) == 0)
        reply_error(channel, frame, RESPONSE_NO_PERMISSION, "retry topic is not allowed to set mode");
    else if (strcmp(mode, "PULL") != 0)
        reply_error(channel, frame, RESPONSE_REQUEST_CODE_NOT_SUPPORTED,
                    "request mode %.20s is not supported: pop consumption is not there yet", mode);
    else
        reply_plain(reply_to(channel, frame), RESPONSE_SUCCESS, (struct bytes){NULL, 0});
    return 0;
}
