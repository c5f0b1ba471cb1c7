/* See broker_stage.h. */
#include "broker_stage.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "broker/front/admin.h"
#include "broker/front/catalogue.h"
#include "broker/front/connections.h"
#include "broker/front/helper.h"
#include "broker/front/lifecycle.h"
#include "broker/front/pending.h"
#include "broker_store.h"
#include "contract.h"
#include "fuzz.h"
#include "shm/ledger.h"

enum { SETTLE_MS = 20000 };

static char base[64], folder[96];
static struct front front;
static struct fuzz_store_fds memory;
static int front_table_fd;

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    return walk->level > 0 || strcmp(path, base) == 0 ? remove(path) : 0;
}

static void empty_folder(void)
{
    nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void remove_base(void)
{
    empty_folder();
    rmdir(folder);
    rmdir(base);
}

void broker_stage_init(void)
{
    log_init("fuzz", LOG_LEVEL_FATAL);
    snprintf(base, sizeof base, "%s/pintle-fuzz-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    FUZZ_CHECK(mkdtemp(base));
    snprintf(folder, sizeof folder, "%s/store", base);
    FUZZ_CHECK(mkdir(folder, 0700) == 0);
    atexit(remove_base);
}

static void make_memory(void)
{
    FUZZ_CHECK(segment_create("image", SEGMENT_IMAGE, CONTRACT_IMAGE_VERSION, CONTRACT_IMAGE_SIZE, 1, &memory.image) == 0);
    FUZZ_CHECK(queue_table_create("queues", 1, &memory.table) == 0);
    FUZZ_CHECK(segment_reopen_readonly(memory.table, &front_table_fd) == 0);
    FUZZ_CHECK(ledger_create("ledger", 1, &memory.ledger) == 0);
    FUZZ_CHECK(board_create("board", 1, &memory.board) == 0);
    FUZZ_CHECK(interest_create("interest", 1, &memory.interest) == 0);
    FUZZ_CHECK(ring_create("request", 8 << 20, 1, &memory.data_request) == 0);
    FUZZ_CHECK(ring_create("reply", 1 << 20, 1, &memory.data_reply) == 0);
    FUZZ_CHECK(ring_create("request", 256 << 10, 1, &memory.control_request) == 0);
    FUZZ_CHECK(ring_create("reply", 1 << 20, 1, &memory.control_reply) == 0);
}

static void free_memory(void)
{
    const int fds[] = {memory.image, memory.table, memory.ledger, memory.board, memory.interest,
                       front_table_fd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        close(fds[i]);
    ring_fds_close(&memory.data_request);
    ring_fds_close(&memory.data_reply);
    ring_fds_close(&memory.control_request);
    ring_fds_close(&memory.control_reply);
}

static void give(enum grant_kind kind, uint32_t index, uint64_t arg, const int *fds, unsigned count)
{
    struct fd_grant grant = fd_grant_make(kind, index, FUZZ_FRONT_GENERATION, arg, "stage");
    int copies[6];
    for (unsigned i = 0; i < count; i++)
        copies[i] = dup(fds[i]);
    FUZZ_CHECK(lifecycle_grant(&front, &grant, copies, count) == 0);
    for (unsigned i = 0; i < count; i++)
        if (copies[i] >= 0)
            close(copies[i]);
}

static void give_rings(enum ring_set_role role, const struct ring_fds *request, const struct ring_fds *reply)
{
    const int fds[6] = {request->memory, request->data, request->space, reply->memory, reply->data, reply->space};
    give(GRANT_RING_SET, 1, role, fds, 6);
}

static void configure(void)
{
    char *error = NULL;
    int fd = memfd_create("config", MFD_CLOEXEC);
    FUZZ_CHECK(fd >= 0);
    FUZZ_CHECK(dprintf(fd, "brokerName=broker-a\nbrokerClusterName=C\nbrokerIP1=127.0.0.1\nlistenPort=10911\n"
                           "storePathRootDir=%s\nmappedFileSizeCommitLog=%d\nmappedFileSizeConsumeQueue=%d\n%s",
                       folder, fuzz_store_settings.log_file_size, fuzz_store_settings.queue_file_size,
                       fuzz_store_settings.more) > 0);
    FUZZ_CHECK(front_config_load(&front.config, fd, &error) == 0);
    close(fd);
}

/* As pintle-front's main. */
static void begin_front(void)
{
    int board_fd;
    memset(&front, 0, sizeof front);
    FUZZ_CHECK(sd_event_new(&front.worker.event) >= 0);
    front.worker.generation = FUZZ_FRONT_GENERATION;
    FUZZ_CHECK(board_create("front", 1, &board_fd) == 0 && board_attach(board_fd, true, &front.board) == 0);
    front.worker.board = front.board;
    FUZZ_CHECK(lifecycle_build(&front) == 0);
    give_rings(RING_SET_DATA, &memory.data_request, &memory.data_reply);
    give_rings(RING_SET_CONTROL, &memory.control_request, &memory.control_reply);
    give(GRANT_QUEUE_TABLE, 0, 0, &front_table_fd, 1);
    give(GRANT_INTEREST, 1, 0, &memory.interest, 1);
    give(GRANT_PEER_BOARD, 0, 0, &memory.board, 1);
    configure();
    FUZZ_CHECK(lifecycle_start(&front) == 0);
}

struct front *broker_stage_try(const char **ret_what, int *ret_error)
{
    make_memory();
    *ret_error = fuzz_store_begin(folder, &memory, ret_what);
    if (*ret_error < 0) {
        fuzz_store_end(false);
        free_memory();
        return NULL;
    }
    begin_front();
    broker_stage_settle();
    FUZZ_CHECK(catalogue_is_whole(front.catalogue));
    return &front;
}

struct front *broker_stage_begin(void)
{
    const char *what;
    int error;
    FUZZ_CHECK(broker_stage_try(&what, &error));
    return &front;
}

const char *broker_stage_folder(void)
{
    return folder;
}

static bool is_quiet(void)
{
    return pending_count(front.pending) == 0 && helper_outstanding(front.helper) == 0 && !admin_waiting(&front) &&
           !connections_waiting(&front) && catalogue_is_whole(front.catalogue);
}

void broker_stage_settle(void)
{
    int64_t until_ms = clock_monotonic_ms() + SETTLE_MS;
    for (unsigned quiet = 0; quiet < 2;) {
        front_turn(&front);
        fuzz_store_run();
        front_turn(&front);
        if (helper_outstanding(front.helper)) {
            struct pollfd wait = {.fd = helper_event_fd(front.helper), .events = POLLIN};
            poll(&wait, 1, 100);
        }
        quiet = is_quiet() ? quiet + 1 : 0;
        FUZZ_CHECK(clock_monotonic_ms() < until_ms); /* somebody waits for what never comes */
    }
}

void broker_stage_leave(bool clean)
{
    lifecycle_free(&front);
    board_detach(front.board);
    sd_event_unref(front.worker.event);
    fuzz_store_end(clean);
    free_memory();
}

void broker_stage_end(void)
{
    broker_stage_leave(false);
    empty_folder();
}

uint64_t broker_stage_counter(enum board_counter counter)
{
    struct board *board;
    FUZZ_CHECK(board_attach(dup(memory.board), false, &board) == 0);
    uint64_t value = board_get(board, counter) + board_get(front.board, counter);
    board_detach(board);
    return value;
}

int broker_stage_connect(bool fast, struct channel_ref *ret_channel)
{
    int pair[2];
    FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
    FUZZ_CHECK(connections_add(&front, pair[0], fast) == 0);
    for (uint32_t slot = 0; slot < connections_slots(front.connections); slot++) {
        struct channel *channel = connections_at(front.connections, slot);
        if (!channel || channel->peer_port)
            continue;
        memcpy(channel->peer_ip, "\x7f\0\0\1", 4);
        channel->peer_port = (uint16_t)(40000 + slot);
        *ret_channel = channel->ref;
    }
    return pair[1];
}
