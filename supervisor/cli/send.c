/* `pintle send`: messages from standard input, a file or a text, to a topic, over TCP as any producer sends them. A window
 * of messages is under way on each broker's connection; a connection that breaks (a front died) is opened again and what
 * was not acknowledged on it is sent again, as stock clients do, so a message may then be stored twice. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "contract.h"
#include "supervisor/cli/commands.h"
#include "supervisor/cli/progress.h"
#include "supervisor/cli/remote.h"
#include "supervisor/cli/route.h"

enum { WINDOW = 256, LINKS_MAX = 64, STALL_MS = 30000, RECONNECT_MS = 10000 };

struct slot {
    char *body;
    size_t size;
    unsigned queue; /* index into the route */
    uint64_t number;
    bool busy;
};

struct link {
    struct remote *remote;
    char address[128];
    struct slot slots[WINDOW]; /* place = opaque modulo WINDOW */
};

struct sender {
    const char *topic, *tags[16], *key, *group, *text;
    unsigned tag_count;
    FILE *input;
    uint64_t limit, taken, stored, refused, resent;
    char first_refusal[256];
    struct route route;
    struct link *links;
    unsigned link_count, next_queue;
    unsigned *link_of_queue;
    char *line; /* read but not sent: its connection's window was full */
    size_t line_capacity;
    ssize_t line_size;
    bool end;
};

static const char usage[] =
    "usage: pintle send --topic TOPIC [options]\n"
    "Sends one message per line of standard input.\n"
    "  --file FILE        read lines from FILE\n"
    "  --text TEXT        send TEXT instead of lines (%n in it becomes the message's number); once, or --count times\n"
    "  --count N          stop after N messages\n"
    "  --tag A[,B…]       tag; several are used in turn\n"
    "  --key KEY          key of every message (%n becomes the number)\n"
    "  --group GROUP      producer group (pintle-send)\n"
    "  --namesrv H:P[;…]  name servers (default: $NAMESRV_ADDR, or those of the cluster in --dir)\n"
    "  --dir DIR          folder of the cluster\n";

static void on_frame(void *context, struct remote *remote, const struct frame *frame);

static int open_links(struct sender *sender)
{
    sender->links = calloc(LINKS_MAX, sizeof *sender->links);
    sender->link_of_queue = calloc(sender->route.count, sizeof *sender->link_of_queue);
    if (!sender->links || !sender->link_of_queue)
        return -ENOMEM;
    for (unsigned q = 0; q < sender->route.count; q++) {
        unsigned i = 0;
        while (i < sender->link_count && strcmp(sender->links[i].address, sender->route.queues[q].address) != 0)
            i++;
        if (i == LINKS_MAX)
            return -E2BIG;
        if (i == sender->link_count) {
            struct link *link = &sender->links[sender->link_count++];
            snprintf(link->address, sizeof link->address, "%s", sender->route.queues[q].address);
            int r = remote_open(link->address, on_frame, sender, &link->remote);
            if (r < 0) {
                fprintf(stderr, "pintle send: broker %s: %s\n", link->address, strerror(-r));
                return r;
            }
        }
        sender->link_of_queue[q] = i;
    }
    return 0;
}

/* Copies `text` with each %n replaced by the number. */
static size_t expand(char *out, size_t size, const char *text, uint64_t number)
{
    size_t used = 0;
    for (const char *p = text; *p && used + 24 < size; p++) {
        if (p[0] == '%' && p[1] == 'n') {
            used += (size_t)snprintf(out + used, size - used, "%" PRIu64, number);
            p++;
        } else {
            out[used++] = *p;
        }
    }
    out[used] = '\0';
    return used;
}

static void put_message(struct sender *sender, struct link *link, const struct slot *message)
{
    char properties[1024], key[256];
    int n = snprintf(properties, sizeof properties, "WAIT\x01true\x02");
    if (sender->tag_count)
        n += snprintf(properties + n, sizeof properties - (size_t)n, "TAGS\x01%.200s\x02",
                      sender->tags[message->number % sender->tag_count]);
    if (sender->key) {
        expand(key, sizeof key, sender->key, message->number);
        n += snprintf(properties + n, sizeof properties - (size_t)n, "KEYS\x01%s\x02", key);
    }
    struct remote_request request;
    size_t texts = strlen(sender->group) + strlen(sender->topic) + (size_t)n + 32;
    remote_begin(link->remote, &request, REQUEST_SEND_MESSAGE_V2, 0, texts, 13, message->size);
    struct frame_writer *w = &request.writer;
    frame_write_text(w, "a", bytes_of(sender->group));
    frame_write_text(w, "b", bytes_of(sender->topic));
    frame_write_text(w, "c", bytes_of("TBW102"));
    frame_write_i64(w, "d", 4);
    frame_write_i64(w, "e", sender->route.queues[message->queue].queue_id);
    frame_write_i64(w, "f", 0);
    frame_write_i64(w, "g", clock_realtime_ms());
    frame_write_i64(w, "h", 0);
    frame_write_text(w, "i", (struct bytes){(const uint8_t *)properties, (size_t)n});
    frame_write_i64(w, "j", 0);
    frame_write_bool(w, "k", false);
    frame_write_bool(w, "m", false);
    int32_t opaque = remote_end(link->remote, &request, (struct bytes){(const uint8_t *)message->body, message->size});
    link->slots[(uint32_t)opaque % WINDOW] = *message;
}

static void on_frame(void *context, struct remote *remote, const struct frame *frame)
{
    struct sender *sender = context;
    struct link *link = NULL;
    for (unsigned i = 0; i < sender->link_count; i++)
        if (sender->links[i].remote == remote)
            link = &sender->links[i];
    struct slot *slot = link ? &link->slots[(uint32_t)frame->opaque % WINDOW] : NULL;
    if (!slot || !(frame->flag & FRAME_FLAG_RESPONSE) || !slot->busy)
        return;
    if (frame->code == RESPONSE_SUCCESS) {
        sender->stored++;
    } else {
        if (sender->refused++ == 0)
            snprintf(sender->first_refusal, sizeof sender->first_refusal, "%s (%d): %.*s",
                     response_code_name(frame->code) ? response_code_name(frame->code) : "code", frame->code,
                     (int)frame->remark.size, (const char *)frame->remark.data);
    }
    free(slot->body);
    *slot = (struct slot){0};
}

static bool next_line(struct sender *sender)
{
    if (sender->line_size > 0)
        return true; /* waits since the window was full */
    if (sender->end || (sender->limit && sender->taken >= sender->limit)) {
        sender->end = true;
        return false;
    }
    do {
        if (sender->text) {
            size_t need = strlen(sender->text) + 64;
            if (sender->line_capacity < need)
                sender->line = realloc(sender->line, sender->line_capacity = need);
            sender->line_size = (ssize_t)expand(sender->line, need, sender->text, sender->taken);
        } else {
            sender->line_size = getline(&sender->line, &sender->line_capacity, sender->input);
            if (sender->line_size > 0 && sender->line[sender->line_size - 1] == '\n')
                sender->line_size--;
        }
    } while (sender->line_size == 0 && !sender->text); /* an empty line is no message: RocketMQ has no empty bodies */
    sender->end = sender->line_size <= 0;
    return !sender->end;
}

/* Fills the windows. Returns whether anything was put. */
static bool put_more(struct sender *sender)
{
    bool put = false;
    while (next_line(sender)) {
        unsigned queue = sender->next_queue;
        struct link *link = &sender->links[sender->link_of_queue[queue]];
        if (link->remote->broken || link->slots[(uint32_t)(link->remote->last_opaque + 1) % WINDOW].busy)
            return put;
        struct slot message = {memcpy(malloc((size_t)sender->line_size), sender->line, (size_t)sender->line_size),
                               (size_t)sender->line_size, queue, sender->taken, true};
        put_message(sender, link, &message);
        sender->next_queue = (queue + 1) % sender->route.count;
        sender->taken++;
        sender->line_size = 0;
        put = true;
    }
    return put;
}

static int reopen(struct sender *sender, struct link *link)
{
    remote_close(link->remote);
    link->remote = NULL;
    int64_t deadline_ms = clock_monotonic_ms() + RECONNECT_MS;
    int r;
    while ((r = remote_open(link->address, on_frame, sender, &link->remote)) < 0 && clock_monotonic_ms() < deadline_ms)
        usleep(10000);
    if (r < 0) {
        fprintf(stderr, "pintle send: broker %s: %s\n", link->address, strerror(-r));
        return r;
    }
    PN_FREE struct slot *old = malloc(sizeof link->slots);
    memcpy(old, link->slots, sizeof link->slots);
    memset(link->slots, 0, sizeof link->slots);
    for (unsigned i = 0; i < WINDOW; i++) {
        if (old[i].busy) {
            put_message(sender, link, &old[i]);
            sender->resent++;
        }
    }
    return 0;
}

static int run(struct sender *sender)
{
    struct progress progress;
    progress_begin(&progress, "sending", sender->limit);
    struct remote *remotes[LINKS_MAX];
    int64_t moved_ms = clock_monotonic_ms();
    uint64_t answered_before = 0;
    for (;;) {
        put_more(sender);
        uint64_t answered = sender->stored + sender->refused;
        if (sender->end && answered == sender->taken)
            break;
        for (unsigned i = 0; i < sender->link_count; i++) {
            int r = sender->links[i].remote->broken ? reopen(sender, &sender->links[i]) : 0;
            if (r < 0)
                return r;
            remotes[i] = sender->links[i].remote;
        }
        int r = remote_poll(remotes, sender->link_count, 1000);
        if (r < 0)
            return r;
        progress_show(&progress, answered);
        int64_t now_ms = clock_monotonic_ms();
        if (answered != answered_before || sender->taken == answered)
            moved_ms = now_ms;
        answered_before = answered;
        if (now_ms - moved_ms > STALL_MS)
            return -ETIMEDOUT;
    }
    progress_end(&progress, sender->taken);
    return 0;
}

static int parse(struct sender *sender, int argc, char **argv, const char **ret_namesrv, const char **ret_dir)
{
    static const struct option options[] = {
        {"topic", 1, 0, 't'}, {"file", 1, 0, 'f'}, {"text", 1, 0, 'x'},    {"count", 1, 0, 'c'}, {"tag", 1, 0, 'g'},
        {"key", 1, 0, 'k'},   {"group", 1, 0, 'p'}, {"namesrv", 1, 0, 'n'}, {"dir", 1, 0, 'd'},   {"help", 0, 0, 'h'},
        {0, 0, 0, 0}};
    const char *file = NULL;
    int c;
    while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
        char *end = NULL, *tag;
        switch (c) {
        case 't': sender->topic = optarg; break;
        case 'f': file = optarg; break;
        case 'x': sender->text = optarg; break;
        case 'c':
            sender->limit = strtoull(optarg, &end, 10);
            if (*end || sender->limit == 0)
                return fprintf(stderr, "pintle send: --count %s is not a number above 0\n", optarg), EXIT_CODE_USAGE;
            break;
        case 'g':
            while ((tag = strsep(&optarg, ",")) && sender->tag_count < 16)
                if (*tag)
                    sender->tags[sender->tag_count++] = tag;
            break;
        case 'k': sender->key = optarg; break;
        case 'p': sender->group = optarg; break;
        case 'n': *ret_namesrv = optarg; break;
        case 'd': *ret_dir = optarg; break;
        case 'h': fputs(usage, stdout); return -1;
        default: fputs(usage, stderr); return EXIT_CODE_USAGE;
        }
    }
    if (!sender->topic || optind != argc) {
        fputs(usage, stderr);
        return EXIT_CODE_USAGE;
    }
    if (sender->text && sender->limit == 0)
        sender->limit = 1;
    sender->input = file ? fopen(file, "r") : stdin;
    if (!sender->input)
        return fprintf(stderr, "pintle send: %s: %s\n", file, strerror(errno)), EXIT_CODE_IO;
    return 0;
}

int command_send(int argc, char **argv)
{
    struct sender sender = {.group = "pintle-send"};
    const char *namesrv_given = NULL, *dir = NULL;
    int r = parse(&sender, argc, argv, &namesrv_given, &dir);
    if (r != 0)
        return r < 0 ? 0 : r;
    PN_FREE char *namesrvs = command_namesrvs(namesrv_given, dir);
    PN_FREE char *error = NULL;
    if (route_find(namesrvs, sender.topic, true, &sender.route, &error) < 0) {
        fprintf(stderr, "pintle send: %s\n", error);
        return EXIT_CODE_IO;
    }
    int64_t start_ms = clock_monotonic_ms();
    r = open_links(&sender);
    if (r == 0)
        r = run(&sender);
    int64_t took_ms = clock_monotonic_ms() - start_ms;
    if (r == 0 || sender.taken)
        fprintf(stderr, "%" PRIu64 " stored, %" PRIu64 " refused, %" PRIu64 " sent again, in %" PRId64 " ms (%" PRIu64 "/s)\n",
                sender.stored, sender.refused, sender.resent, took_ms,
                took_ms ? sender.stored * 1000 / (uint64_t)took_ms : sender.stored);
    if (sender.refused)
        fprintf(stderr, "pintle send: refused: %s\n", sender.first_refusal);
    if (r == -ETIMEDOUT)
        fprintf(stderr, "pintle send: no answer for %d s; %" PRIu64 " messages not acknowledged\n", STALL_MS / 1000,
                sender.taken - sender.stored - sender.refused);
    for (unsigned i = 0; i < sender.link_count; i++)
        remote_close(sender.links[i].remote);
    route_free(&sender.route);
    free(sender.links);
    free(sender.link_of_queue);
    free(sender.line);
    return r < 0 ? EXIT_CODE_IO : sender.refused ? 1 : 0;
}
