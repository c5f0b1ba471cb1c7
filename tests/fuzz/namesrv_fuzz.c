/* The name server's whole table of requests (namesrv/query.c) without its sockets: a text of requests (case.h) is asked
 * of a fresh name server. Each request that wants an answer gets one, a frame with a strict header whose JSON body can
 * be read; the others get none. */
#include <string.h>
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "case.h"
#include "json/json_body.h"
#include "namesrv/query.h"

static char folder[] = "/tmp/pintle-fuzz-namesrv-XXXXXX";
static struct board *board;

static void remove_folder(void)
{
    char path[128];
    static const char *const names[] = {"kvConfig.json", "namesrv.properties", "kvConfig.json.damaged"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    int fd;
    log_init("fuzz", LOG_LEVEL_FATAL);
    FUZZ_CHECK(mkdtemp(folder));
    atexit(remove_folder);
    FUZZ_CHECK(board_create("board", 1, &fd) == 0 && board_attach(fd, true, &board) == 0);
    return 0;
}

static ssize_t no_read(struct stream *stream, void *buffer, size_t size)
{
    return -EAGAIN;
}

static void no_close(struct stream *stream)
{
}

/* Output is collected. */
static struct text output;

static ssize_t collect(struct stream *stream, const struct iovec *parts, int count)
{
    ssize_t size = 0;
    for (int i = 0; i < count; i++) {
        text_add_bytes(&output, (struct bytes){parts[i].iov_base, parts[i].iov_len});
        size += (ssize_t)parts[i].iov_len;
    }
    return size;
}

static const struct stream_hooks hooks = {no_read, collect, no_close};

static void check_answer(const struct case_request *request, int32_t opaque)
{
    static struct frame frame;
    bool wanted = !request->oneway && !request->response;
    FUZZ_CHECK(wanted == (output.size > 0));
    if (!wanted)
        return;
    case_check_header((struct bytes){(uint8_t *)output.data + 8, be32_load(output.data + 4) & 0xffffff});
    FUZZ_CHECK(frame_parse((uint8_t *)output.data, output.size, &frame) == FRAME_OK);
    FUZZ_CHECK(frame.total_size == output.size && frame.opaque == opaque && frame.flag == FRAME_FLAG_RESPONSE);
    if (frame.body.size && frame.body.data[0] == '{') {
        const char *error;
        uint8_t *body = fuzz_copy(frame.body.data, frame.body.size);
        for (size_t i = 0; i < frame.body.size; i++)
            body[i] = body[i] < 0x80 ? body[i] : '?';
        json_t *json = json_body_parse((struct bytes){body, frame.body.size}, &error);
        FUZZ_CHECK(json);
        json_decref(json);
        free(body);
    }
}

static void ask(struct namesrv *namesrv, struct connection *connection, struct query_peer *peer,
                const struct case_request *request, int32_t opaque)
{
    static struct frame frame;
    struct bytes bytes = case_frame(request, opaque);
    enum frame_result result = frame_parse((uint8_t *)bytes.data, bytes.size, &frame);
    peer->is_admin = !request->foreign;
    output.size = 0;
    if (result == FRAME_OK) {
        query_take(namesrv, connection, &frame, peer);
        FUZZ_CHECK(connection_flush(connection) == 0);
        check_answer(request, opaque);
    }
    free((void *)bytes.data);
}

static void begin(struct namesrv *namesrv)
{
    char text[256], *error = NULL;
    *namesrv = (struct namesrv){.board = board, .listen_fd = -1};
    int size = snprintf(text, sizeof text, "pintle.name=a\nstorePathRootDir=%s\nadminFrom=loopback\n", folder);
    FUZZ_CHECK(config_load(&namesrv->config, text, (size_t)size, &error) == 0);
    FUZZ_CHECK(kv_config_load(&namesrv->kv, namesrv->config.values[CONFIG_KV_PATH]) == 0);
    namesrv->routes = route_table_new();
    FUZZ_CHECK(namesrv->routes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct case_request request;
    struct namesrv namesrv;
    struct connection connections[CASE_CONNECTIONS] = {0};
    struct query_peer peers[CASE_CONNECTIONS] = {0};
    uint8_t *copy = fuzz_copy(data, size);
    struct bytes rest = {copy, size};
    remove_folder(); /* what the input before has kept */
    FUZZ_CHECK(mkdir(folder, 0700) == 0);
    begin(&namesrv);
    for (uint64_t i = 0; i < CASE_CONNECTIONS; i++) {
        connections[i].stream.hooks = &hooks;
        peers[i] = (struct query_peer){.number = i + 1, .own_host = bytes_of("127.0.0.1"), .address = "127.0.0.1"};
    }
    for (int32_t n = 1; n <= CASE_REQUESTS_MAX && case_next(&rest, &request); n++) {
        struct query_peer *peer = &peers[request.connection];
        if (request.hang_up) {
            query_peer_gone(&namesrv, peer);
            peer->number += CASE_CONNECTIONS;
            peer->is_broker = false;
        } else {
            ask(&namesrv, &connections[request.connection], peer, &request, n);
        }
    }
    for (unsigned i = 0; i < CASE_CONNECTIONS; i++)
        connection_close(&connections[i]);
    route_table_free(namesrv.routes);
    kv_config_free(&namesrv.kv);
    config_free(&namesrv.config);
    free(copy);
    return 0;
}
