/* The real pintle-namesrv: this program plays its supervisor (grants, bus), a store (bus) and a client (TCP). */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "bus/bus.h"
#include "bus/bus_msg.h"
#include "contract.h"
#include "fault/fault.h"
#include "fd/fd_channel.h"
#include "shm/board.h"
#include "wire/codes.h"
#include "wire/frame.h"

enum { PATIENCE_US = 30000000, WORKER_NUMBER = 3, READ_TIMEOUT_S = 30 };

static struct {
    char dir[64], program[4096];
    sd_event *event;
    struct bus *bus, *store_bus;
    int listen_fd, board_fd, fault_fd, fault_read_fd, channel, life_line;
    uint16_t port;
    uint64_t generation;
    pid_t pid;
    unsigned hellos, readies, asked; /* what we were told */
    bool is_current;
    struct board *board;
} t = {.channel = -1, .life_line = -1};

#define RUN_UNTIL(condition)                                                                                           \
    while (!(condition))                                                                                               \
        if (sd_event_run(t.event, PATIENCE_US) <= 0)                                                                   \
            fail_msg("line %d: nothing came: %s", __LINE__, #condition);

static void on_worker(void *context, struct bytes peer, struct bytes message)
{
    enum bus_msg_kind kind;
    struct bus_hello hello;
    if (message.size == 0)
        return;
    assert_true(bytes_equal_text(peer, "namesrv test"));
    assert_int_equal(bus_msg_kind(message, &kind), 0);
    if (kind == BUS_HELLO) {
        assert_int_equal(bus_msg_decode_hello(message, &hello), 0);
        assert_true(bytes_equal_text(hello.worker, "namesrv test"));
        t.is_current = hello.generation == t.generation; /* not the last word of one that was killed */
        if (!t.is_current)
            return;
        assert_int_equal(hello.pid, t.pid);
        t.hellos++;
    } else if (kind == BUS_READY && t.is_current) {
        t.readies++;
    }
}

static void on_namesrv(void *context, struct bytes peer, struct bytes message)
{
    enum bus_msg_kind kind;
    if (message.size == 0)
        return;
    assert_int_equal(bus_msg_kind(message, &kind), 0);
    if (kind == BUS_REGISTER_AGAIN)
        t.asked++;
}

static void grant(int socket, enum grant_kind kind, uint32_t index, int fd)
{
    struct fd_grant g = fd_grant_make(kind, index, t.generation, 0, "test");
    assert_int_equal(fd_channel_send(socket, &g, &fd, fd >= 0 ? 1 : 0), 0);
}

static void send_grants(int life_line)
{
    static const char config[] = "pintle.name=test\nlisten=127.0.0.1\nlistenPort=0\nsomething.unknown=1\n";
    int config_fd = memfd_create("config", MFD_CLOEXEC);
    assert_int_equal(write(config_fd, config, sizeof config - 1), sizeof config - 1);
    grant(t.channel, GRANT_LIFE_LINE, 0, life_line);
    grant(t.channel, GRANT_CONFIG, 0, config_fd);
    grant(t.channel, GRANT_START, WORKER_NUMBER, -1);
    grant(t.channel, GRANT_FAULT_PAGE, 0, t.fault_read_fd);
    grant(t.channel, GRANT_BOARD, WORKER_NUMBER, t.board_fd);
    grant(t.channel, GRANT_LISTEN, 0, t.listen_fd);
    grant(t.channel, GRANT_DONE, 0, -1);
    close(config_fd);
}

static void start(void)
{
    int child, life_line[2];
    char generation[32];
    t.generation++;
    snprintf(generation, sizeof generation, "%llu", (unsigned long long)t.generation);
    assert_int_equal(fd_channel_pair(&t.channel, &child), 0);
    assert_int_equal(pipe2(life_line, O_CLOEXEC), 0);
    t.life_line = life_line[1];
    t.pid = fork();
    if (t.pid == 0) {
        setenv(CONTRACT_ENV_WORKER, "namesrv test", 1);
        setenv(CONTRACT_ENV_GENERATION, generation, 1);
        setenv(CONTRACT_ENV_RUNTIME_DIR, t.dir, 1);
        if (child == CONTRACT_FD_CHANNEL)
            fcntl(child, F_SETFD, 0);
        else
            dup2(child, CONTRACT_FD_CHANNEL);
        execl(t.program, t.program, (char *)NULL);
        _exit(127);
    }
    assert_true(t.pid > 0);
    close(child);
    send_grants(life_line[0]);
    close(life_line[0]);
}

/* Waits for the end of the process and gives its channels back. */
static int end(void)
{
    int status;
    assert_int_equal(waitpid(t.pid, &status, 0), t.pid);
    close(t.channel);
    if (t.life_line >= 0)
        close(t.life_line);
    t.pid = 0;
    return status;
}

static void start_and_wait(void)
{
    unsigned hellos = t.hellos, readies = t.readies;
    start();
    RUN_UNTIL(t.readies > readies);
    assert_int_equal(t.hellos, hellos + 1);
}

static void say(struct bytes message)
{
    assert_int_equal(bus_send(t.store_bus, (struct bytes){NULL, 0}, message), 0);
    free((void *)message.data);
}

static void register_store(int64_t counter)
{
    struct bus_topic topics[] = {
        {bytes_of("T"), 4, 8, 6, 0, false},
        {bytes_of("quote\"\001"), 1, 1, 4, 3, false},
    };
    struct bus_registration registration = {
        .cluster = bytes_of("C"),
        .broker_name = bytes_of("broker-a"),
        .broker_addr = bytes_of(":10911"),
        .ha_addr = bytes_of(":10912"),
        .broker_id = 0,
        .heartbeat_timeout_ms = 60000,
        .version = {0, 1, counter},
        .whole = true,
        .topic_count = 2,
        .topics = topics,
    };
    struct bytes message;
    assert_int_equal(bus_msg_encode_registration(&registration, &message), 0);
    say(message);
}

static void say_heartbeat(enum bus_msg_kind kind, int64_t counter)
{
    struct bus_heartbeat heartbeat = {bytes_of("C"), bytes_of("broker-a"), bytes_of(":10911"), 0, {0, 1, counter}};
    struct bytes message;
    assert_int_equal(bus_msg_encode_heartbeat(kind, &heartbeat, &message), 0);
    say(message);
}

/* The client's side. */
struct client {
    int fd;
    size_t size;
    uint8_t data[65536];
    struct frame frame; /* the last answer; valid until the next */
};

static struct client *connect_client(void)
{
    struct client *client = calloc(1, sizeof *client);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(t.port)};
    struct timeval timeout = {.tv_sec = READ_TIMEOUT_S};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout), 0);
    assert_int_equal(connect(client->fd, (struct sockaddr *)&address, sizeof address), 0);
    return client;
}

static void close_client(struct client *client)
{
    close(client->fd);
    free(client);
}

static void put_frame(struct client *client, const char *header)
{
    uint8_t data[1024];
    size_t size = strlen(header);
    be32_store(data, (uint32_t)size + 4);
    be32_store(data + 4, (uint32_t)size);
    memcpy(data + 8, header, size);
    assert_int_equal(send(client->fd, data, size + 8, MSG_NOSIGNAL), size + 8);
}

/* False: the connection ended. */
static bool get_frame(struct client *client)
{
    if (client->frame.total_size) {
        client->size -= client->frame.total_size;
        memmove(client->data, client->data + client->frame.total_size, client->size);
    }
    client->frame.total_size = 0;
    for (;;) {
        enum frame_result result = frame_parse(client->data, client->size, &client->frame);
        if (result == FRAME_OK)
            return true;
        assert_int_equal(result, FRAME_MORE);
        ssize_t n = recv(client->fd, client->data + client->size, sizeof client->data - client->size, 0);
        if (n == 0 || (n < 0 && errno == ECONNRESET))
            return false;
        assert_true(n > 0);
        client->size += (size_t)n;
    }
}

static void check(const char *header, int32_t code, const char *body)
{
    struct client *client = connect_client();
    put_frame(client, header);
    assert_true(get_frame(client));
    assert_int_equal(client->frame.code, code);
    assert_int_equal(client->frame.flag, FRAME_FLAG_RESPONSE);
    assert_int_equal(client->frame.field_count, 0);
    if (!bytes_equal_text(client->frame.body, body))
        fail_msg("%s: %.*s", header, (int)client->frame.body.size, client->frame.body.data);
    close_client(client);
}

/* What a store says comes some time before or after what a client asks. */
static void wait_for_code(const char *header, int32_t code)
{
    int64_t deadline_ms = clock_monotonic_ms() + PATIENCE_US / 1000;
    struct client *client = connect_client();
    do {
        if (clock_monotonic_ms() > deadline_ms)
            fail_msg("still not %d: %s", code, header);
        put_frame(client, header);
        assert_true(get_frame(client));
    } while (client->frame.code != code);
    close_client(client);
}

#define ROUTE_OF_T "{\"code\":105,\"opaque\":1,\"version\":479,\"extFields\":{\"topic\":\"T\"}}"

static int setup(void **state)
{
    unsigned asked = t.asked;
    start_and_wait();
    assert_int_equal(bus_connect(t.event, t.dir, "ns-test", "store broker-a/0", on_namesrv, NULL, &t.store_bus), 0);
    RUN_UNTIL(t.asked > asked);
    register_store(1);
    wait_for_code(ROUTE_OF_T, RESPONSE_SUCCESS);
    return 0;
}

static int teardown(void **state)
{
    bus_free(t.store_bus);
    if (t.pid) {
        kill(t.pid, SIGKILL);
        end();
    }
    return 0;
}

static void test_queries(void **state)
{
#define QUEUES                                                                                                         \
    "\"filterServerTable\":{},\"queueDatas\":[{\"brokerName\":\"broker-a\",\"perm\":6,\"readQueueNums\":4,"            \
    "\"topicSysFlag\":0,\"writeQueueNums\":8}]}"
    static const char quoted[] =
        "{\"brokerDatas\":[{\"brokerAddrs\":{\"0\":\"127.0.0.1:10911\"},\"brokerName\":\"broker-a\","
        "\"cluster\":\"C\",\"enableActingMaster\":false}]," QUEUES;
    static const char raw[] = "{\"brokerDatas\":[{\"brokerAddrs\":{0:\"127.0.0.1:10911\"},\"brokerName\":\"broker-a\","
                              "\"cluster\":\"C\",\"enableActingMaster\":false}]," QUEUES;
    check(ROUTE_OF_T, 0, quoted);
    check("{\"code\":105,\"version\":401,\"extFields\":{\"topic\":\"T\"}}", 0, quoted);
    check("{\"code\":105,\"version\":400,\"extFields\":{\"topic\":\"T\"}}", 0, raw);
    check("{\"code\":105,\"extFields\":{\"topic\":\"T\",\"acceptStandardJsonOnly\":true}}", 0, quoted);
    check("{\"code\":105,\"extFields\":{\"topic\":\"T\",\"acceptStandardJsonOnly\":false}}", 0, raw);
    check("{\"code\":105,\"extFields\":{\"topic\":\"none\"}}", RESPONSE_TOPIC_NOT_EXIST, "");
    check("{\"code\":105}", RESPONSE_SYSTEM_ERROR, "");
    check("{\"code\":106,\"version\":479}", 0,
          "{\"brokerAddrTable\":{\"broker-a\":{\"brokerAddrs\":{0:\"127.0.0.1:10911\"},\"brokerName\":\"broker-a\","
          "\"cluster\":\"C\",\"enableActingMaster\":false}},\"clusterAddrTable\":{\"C\":[\"broker-a\"]}}");
    check("{\"code\":206}", 0, "{\"topicList\":[\"T\",\"quote\\\"\\u0001\"]}");
    check("{\"code\":224,\"extFields\":{\"cluster\":\"C\"}}", 0, "{\"topicList\":[\"T\",\"quote\\\"\\u0001\"]}");
    check("{\"code\":224,\"extFields\":{\"cluster\":\"D\"}}", 0, "{\"topicList\":[]}");
    check("{\"code\":901,\"extFields\":{\"clusterName\":\"C\",\"brokerName\":\"broker-a\"}}", 0,
          "{\"brokerMemberGroup\":{\"brokerAddrs\":{0:\"127.0.0.1:10911\"},\"brokerName\":\"broker-a\",\"cluster\":"
          "\"C\"}}");
    check("{\"code\":901,\"extFields\":{\"clusterName\":\"C\",\"brokerName\":\"x\"}}", 0,
          "{\"brokerMemberGroup\":{\"brokerAddrs\":{},\"brokerName\":\"x\",\"cluster\":\"C\"}}");
}

static void test_one_connection(void **state)
{
    uint64_t unsupported = board_get(t.board, COUNTER_REQUESTS_UNSUPPORTED);
    struct client *client = connect_client();
    put_frame(client, "{\"code\":34,\"opaque\":1}");
    put_frame(client, "{\"code\":105,\"opaque\":2,\"flag\":2,\"extFields\":{\"topic\":\"T\"}}"); /* oneway: no answer */
    put_frame(client, "{\"code\":0,\"opaque\":3,\"flag\":1}"); /* an answer to nothing */
    put_frame(client, "[]");
    put_frame(client, "{\"code\":-7,\"opaque\":4}");
    for (int32_t i = 5; i < 300; i++) {
        char header[128];
        snprintf(header, sizeof header, "{\"code\":105,\"opaque\":%d,\"extFields\":{\"topic\":\"T\"}}", i);
        put_frame(client, header);
    }
    assert_true(get_frame(client));
    assert_int_equal(client->frame.opaque, 1);
    assert_int_equal(client->frame.code, RESPONSE_REQUEST_CODE_NOT_SUPPORTED);
    char remark[128];
    snprintf(remark, sizeof remark, "%.*s", (int)client->frame.remark.size, client->frame.remark.data);
    assert_non_null(strstr(remark, "HEART_BEAT"));
    for (int32_t i = 4; i < 300; i++) {
        assert_true(get_frame(client));
        assert_int_equal(client->frame.opaque, i);
        assert_int_equal(client->frame.code, i == 4 ? RESPONSE_REQUEST_CODE_NOT_SUPPORTED : 0);
    }
    put_frame(client, "{nonsense");
    assert_false(get_frame(client));
    close_client(client);
    assert_int_equal(board_get(t.board, COUNTER_REQUESTS_UNSUPPORTED), unsupported + 2);
    assert_true(board_get(t.board, COUNTER_FRAMES_BAD) > 0);
}

static void test_heartbeat_and_farewell(void **state)
{
    unsigned asked = t.asked;
    say_heartbeat(BUS_HEARTBEAT, 1); /* as registered: nothing to ask */
    say_heartbeat(BUS_HEARTBEAT, 2);
    RUN_UNTIL(t.asked > asked);
    register_store(2);
    say_heartbeat(BUS_HEARTBEAT, 3);
    RUN_UNTIL(t.asked > asked + 1);
    assert_int_equal(t.asked, asked + 2);
    say_heartbeat(BUS_UNREGISTER, 2);
    wait_for_code(ROUTE_OF_T, RESPONSE_TOPIC_NOT_EXIST);
    say_heartbeat(BUS_HEARTBEAT, 2);
    RUN_UNTIL(t.asked > asked + 2);
}

/* Killed and started again: whole without a word of the store but its answer to "register again". */
static void test_restart(void **state)
{
    for (int i = 0; i < 5; i++) {
        unsigned asked = t.asked;
        kill(t.pid, SIGKILL);
        assert_true(WIFSIGNALED(end()));
        int64_t begin_ns = clock_monotonic_ns();
        start();
        RUN_UNTIL(t.asked > asked);
        register_store(1);
        wait_for_code(ROUTE_OF_T, RESPONSE_SUCCESS);
        print_message("whole %.1f ms after its start\n", (double)(clock_monotonic_ns() - begin_ns) / 1e6);
    }
}

static void test_fault_points(void **state)
{
    struct fault_page *page;
    assert_int_equal(fault_page_map_writable(t.fault_fd, &page), 0);
    fault_page_arm(page, FAULT_NAMESRV_QUERY, FAULT_ACTION_KILL, WORKER_NUMBER, 0, 0);
    struct client *client = connect_client();
    put_frame(client, ROUTE_OF_T);
    assert_false(get_frame(client));
    close_client(client);
    int status = end();
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    fault_page_disarm(page, FAULT_NAMESRV_QUERY);

    unsigned asked = t.asked;
    start_and_wait();
    RUN_UNTIL(t.asked > asked);
    fault_page_arm(page, FAULT_NAMESRV_REGISTER, FAULT_ACTION_KILL, WORKER_NUMBER, 0, 0);
    register_store(1);
    status = end();
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    fault_page_disarm(page, FAULT_NAMESRV_REGISTER);
    munmap(page, sizeof *page);
}

/* Another supervisor takes the bus: the name server says by itself who it is and that it serves, once to each. */
static void test_supervisor_changes(void **state)
{
    bus_free(t.store_bus); /* an endpoint's lock is held until a process has freed its last bus */
    for (int i = 0; i < 5; i++) {
        unsigned hellos = t.hellos, readies = t.readies;
        bus_free(t.bus);
        assert_int_equal(bus_bind(t.event, t.dir, CONTRACT_BUS_SUPERVISOR, on_worker, NULL, &t.bus), 0);
        RUN_UNTIL(t.readies > readies);
        assert_int_equal(t.hellos, hellos + 1);
        assert_int_equal(t.readies, readies + 1);
    }
    assert_int_equal(bus_connect(t.event, t.dir, "ns-test", "store broker-a/0", on_namesrv, NULL, &t.store_bus), 0);
}

static void test_stop(void **state)
{
    struct bytes message;
    assert_int_equal(bus_msg_encode_plain(BUS_STOP, &message), 0);
    assert_int_equal(bus_send(t.bus, bytes_of("namesrv test"), message), 0);
    free((void *)message.data);
    int status = end();
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_life_line(void **state)
{
    close(t.life_line);
    t.life_line = -1;
    int status = end();
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static int make_world(void **state)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    char self[4000];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = 0;
    snprintf(t.program, sizeof t.program, "%s/../bin/pintle-namesrv", dirname(self));
    if (access(t.program, X_OK) < 0)
        fail_msg("%s is not there: build it first", t.program);
    strcpy(t.dir, "/tmp/pintle-test-XXXXXX");
    assert_non_null(mkdtemp(t.dir));
    assert_true(sd_event_new(&t.event) >= 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    t.listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(t.listen_fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(t.listen_fd, 128), 0);
    assert_int_equal(getsockname(t.listen_fd, (struct sockaddr *)&address, &size), 0);
    t.port = ntohs(address.sin_port);
    assert_int_equal(board_create("test", WORKER_NUMBER, &t.board_fd), 0);
    assert_int_equal(board_attach(dup(t.board_fd), false, &t.board), 0);
    assert_int_equal(fault_page_create(&t.fault_fd), 0);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", t.fault_fd);
    t.fault_read_fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(t.fault_read_fd >= 0);
    assert_int_equal(bus_bind(t.event, t.dir, CONTRACT_BUS_SUPERVISOR, on_worker, NULL, &t.bus), 0);
    return 0;
}

static int end_world(void **state)
{
    char command[128];
    bus_free(t.bus);
    sd_event_unref(t.event);
    board_detach(t.board);
    snprintf(command, sizeof command, "rm -rf '%s'", t.dir);
    return system(command);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_queries), TEST(test_one_connection), TEST(test_heartbeat_and_farewell),
        TEST(test_restart), TEST(test_fault_points),   TEST(test_supervisor_changes),
        TEST(test_stop),    TEST(test_life_line),
    };
    return cmocka_run_group_tests(tests, make_world, end_world);
}
