/* The command line's end of the control socket. Runs in the pintle program; the answer comes from a supervisor of our own
 * user (the folder is 0700), its shape is checked all the same. */
#include "supervisor/cli/control_client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "contract.h"

#define SYSTEM_RUNTIME_DIR "/run/pintle"

enum { ANSWER_MAX = 1 << 20, ANSWER_TIMEOUT_S = 10 };

int control_client_open(const char *dir, struct control_client *ret_client)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval timeout = {.tv_sec = ANSWER_TIMEOUT_S};
    const char *given = getenv("RUNTIME_DIRECTORY"); /* ExecReload= of an instance of the service */
    ret_client->socket = -1;
    if (dir && dir[0] == '@')
        snprintf(ret_client->runtime_dir, sizeof ret_client->runtime_dir, SYSTEM_RUNTIME_DIR "%s", dir);
    else if (!dir && given && given[0] == '/' && !strchr(given, ':'))
        snprintf(ret_client->runtime_dir, sizeof ret_client->runtime_dir, "%s", given);
    else if (dir)
        snprintf(ret_client->runtime_dir, sizeof ret_client->runtime_dir, "%s/run", dir);
    else
        snprintf(ret_client->runtime_dir, sizeof ret_client->runtime_dir, SYSTEM_RUNTIME_DIR);
    /* The folder's path may be longer than a Unix socket address; its descriptor's is not. */
    PN_CLOSE int folder = open(ret_client->runtime_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return -errno;
    PN_CLOSE int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/" CONTRACT_CONTROL_SOCKET, folder);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) < 0)
        return -errno;
    ret_client->socket = TAKE_FD(fd);
    return 0;
}

void control_client_close(struct control_client *client)
{
    pn_close_p(&client->socket);
    client->socket = -1;
}

int control_client_ask(struct control_client *client, json_t *request, json_t **ret_answer)
{
    PN_FREE char *text = json_dumps(request, JSON_COMPACT), *answer = malloc(ANSWER_MAX);
    json_decref(request);
    if (!text || !answer)
        return -ENOMEM;
    if (send(client->socket, text, strlen(text), MSG_NOSIGNAL) < 0)
        return -errno;
    ssize_t size = recv(client->socket, answer, ANSWER_MAX, 0);
    if (size < 0)
        return errno == EAGAIN ? -ETIMEDOUT : -errno;
    if (size == 0)
        return -EPIPE;
    *ret_answer = json_loadb(answer, (size_t)size, 0, NULL);
    return json_is_object(*ret_answer) ? 0 : -EBADMSG;
}

int control_client_run(const char *command, const char *dir, json_t *request, struct control_client *ret_client,
                       json_t **ret_answer)
{
    int r = control_client_open(dir, ret_client);
    if (r < 0) {
        json_decref(request);
        bool nobody = r == -ENOENT || r == -ECONNREFUSED;
        fprintf(stderr, "pintle %s: %s %s%s%s%s\n", command, nobody ? "no supervisor runs in" : "cannot reach",
                ret_client->runtime_dir, nobody ? "" : ": ", nobody ? "" : strerror(-r),
                nobody && !dir ? "; give --dir DIR" : "");
        return EXIT_CODE_IO;
    }
    r = control_client_ask(ret_client, request, ret_answer);
    if (r < 0) {
        fprintf(stderr, "pintle %s: no answer from the supervisor in %s: %s\n", command, ret_client->runtime_dir,
                strerror(-r));
        control_client_close(ret_client);
        return EXIT_CODE_IO;
    }
    const char *error = json_string_value(json_object_get(*ret_answer, "error"));
    if (!error)
        return 0;
    int code = (int)json_integer_value(json_object_get(*ret_answer, "code"));
    fprintf(stderr, "pintle %s: %s\n", command, error);
    json_decref(*ret_answer);
    control_client_close(ret_client);
    return code ? code : EXIT_CODE_IO;
}
