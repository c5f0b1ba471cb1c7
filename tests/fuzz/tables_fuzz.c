/* The tables that Apache's brokers leave in config/ (broker/store/config_tables), first byte: t topics, g groups,
 * o offsets. What a store has read it writes so that another store reads the same. */
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "broker/store/config_tables.h"
#include "broker/store/metadata.h"
#include "contract.h"
#include "fuzz.h"

static const struct table {
    char letter;
    int (*load)(struct store *store, json_t *json);
    void (*print)(struct store *store, struct text *text);
} tables[] = {
    {'t', config_tables_load_topics, config_tables_print_topics},
    {'g', config_tables_load_groups, config_tables_print_groups},
    {'o', config_tables_load_offsets, config_tables_print_offsets},
};

static char folder[] = "/tmp/pintle-fuzz-tables-XXXXXX"; /* stays empty: nothing here writes a file */
static struct board *board;

static void remove_folder(void)
{
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

static void begin(struct store *store, struct peers *peers)
{
    int image, table;
    *peers = (struct peers){0};
    *store = (struct store){.generation = 1, .peers = peers, .board = board};
    store->config = (struct store_config){.broker_name = "broker-a", .cluster_name = "C", .broker_ip1 = "127.0.0.1",
                                          .listen_port = 10911, .store_root = folder, .auto_create_topic = true,
                                          .auto_create_group = true, .default_topic_queues = 8, .broker_permission = 6};
    FUZZ_CHECK(segment_create("image", SEGMENT_IMAGE, CONTRACT_IMAGE_VERSION, CONTRACT_IMAGE_SIZE, 1, &image) == 0);
    FUZZ_CHECK(queue_table_create("queues", 1, &table) == 0);
    FUZZ_CHECK(queue_table_attach(table, true, &store->queue_table) == 0);
    FUZZ_CHECK(metadata_open(store, image, false) == 0);
}

static void end(struct store *store)
{
    metadata_free(store);
    queue_table_detach(store->queue_table);
}

/* The table as a fresh store that has read `text` would write it; false: it refuses it. */
static bool load(const struct table *table, struct bytes text, struct text *ret_printed)
{
    struct store store;
    struct peers peers;
    const char *error;
    json_t *json = json_body_parse(text, &error);
    bool taken = false;
    if (json_is_object(json)) {
        begin(&store, &peers);
        taken = table->load(&store, json) == 0;
        if (taken)
            table->print(&store, ret_printed);
        end(&store);
    }
    json_decref(json);
    return taken;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct table *table = NULL;
    for (size_t i = 0; i < sizeof tables / sizeof *tables && size; i++)
        if (tables[i].letter == data[0])
            table = &tables[i];
    if (!table)
        return 0;
    uint8_t *copy = fuzz_copy(data + 1, size - 1);
    struct text once = {NULL, 0, 0}, twice = {NULL, 0, 0};
    if (load(table, (struct bytes){copy, size - 1}, &once)) {
        FUZZ_CHECK(load(table, (struct bytes){(uint8_t *)once.data, once.size}, &twice));
        FUZZ_CHECK(once.size == twice.size && memcmp(once.data, twice.data, once.size) == 0);
    }
    text_free(&once);
    text_free(&twice);
    free(copy);
    return 0;
}
