/* What a worker gives up for good once it has its grants: one row per room, in sandbox.c. Three layers, each without any
 * privilege: no_new_privs; system calls (seccomp); folders (Landlock, where the kernel has it, base/kernel.h). */
#pragma once

#include "base/conf.h"

enum sandbox_room { SANDBOX_NONE, SANDBOX_FRONT, SANDBOX_STORE, SANDBOX_NAMESRV, SANDBOX_ROOM_COUNT };

/* Called while the process has one thread: those that come later inherit everything. `granted` names the folders and may
 * say sandbox=off. A layer that the kernel does not have is told once and done without. Negative errno: the room is not
 * closed and nothing foreign must be read. */
int sandbox_enter(enum sandbox_room room, struct conf *granted, const char *runtime_dir);
