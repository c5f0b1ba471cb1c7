/* Asks a running supervisor over its control socket. */
#pragma once

#include <jansson.h>

struct control_client {
    int socket;
    char runtime_dir[4096]; /* as it was looked for, for messages */
};

/* The runtime folder of `dir` (DIR/run), or the system's for NULL. -ENOENT or -ECONNREFUSED: nobody runs there. */
int control_client_open(const char *dir, struct control_client *ret_client);
void control_client_close(struct control_client *client);
/* One request, one answer; consumes the request. -ETIMEDOUT, -EPIPE, -EBADMSG. */
int control_client_ask(struct control_client *client, json_t *request, json_t **ret_answer);

/* For commands: opens and asks; on failure prints one line and returns the exit code (also of a refusal by the
 * supervisor), else 0. */
int control_client_run(const char *command, const char *dir, json_t *request, struct control_client *ret_client,
                       json_t **ret_answer);
