/* Tells whoever started us: systemd (sd_notify), or the pipe of `pintle up --detach`; and the terminal. */
#pragma once

#include <systemd/sd-event.h>

struct supervisor;
struct failure;

/* The pipe on which `pintle up --detach` waits for one text; −1: there is none. */
void notify_set_starter(int fd);
void notify_set_log(void); /* stderr is the log file now, no longer the starter's */
void notify_ready(struct supervisor *supervisor);
void notify_status(struct supervisor *supervisor); /* one line for `systemctl status` */
void notify_progress(void); /* a long start goes on: systemd's patience is for those that do not */
void notify_reloading(void); /* until the next notify_reloaded */
void notify_reloaded(struct supervisor *supervisor);
void notify_stopping(struct supervisor *supervisor);
/* Why the start failed, to stderr and, detached, to the waiting `pintle up`. */
void notify_failure(const struct failure *failure);
/* systemd's watchdog is fed while the loop turns. */
int notify_watchdog(sd_event *event);
