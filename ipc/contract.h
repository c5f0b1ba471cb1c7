/* What a worker may assume when the supervisor has exec'ed it, and nothing else. One header is the whole contract
 * between parent and child: fixed descriptors, environment, exit codes, time limits. Which worker gets which channel is
 * the table in supervisor/plan.c; how a grant looks is ipc/fd/fd_channel.h. */
#pragma once

/* The only open descriptors above stderr. Everything else arrives over the fd channel as a grant. */
#define CONTRACT_FD_CHANNEL 3

/* Environment. */
#define CONTRACT_ENV_WORKER      "PINTLE_WORKER"      /* "store broker-a/0": role, broker or name server, index */
#define CONTRACT_ENV_GENERATION  "PINTLE_GENERATION"  /* decimal; grows by one with each start of this worker */
#define CONTRACT_ENV_RUNTIME_DIR "PINTLE_RUNTIME_DIR" /* 0700; holds the bus sockets */

/* A worker's start: receive grants until GRANT_DONE; map them; connect the bus; send hello; when it serves, send ready. */

enum exit_code {
    EXIT_CODE_OK = 0,
    EXIT_CODE_USAGE = 64,  /* wrong command line */
    EXIT_CODE_IO = 74,     /* port taken, store locked, unusable folder or file: restarting will not help */
    EXIT_CODE_CONFIG = 78, /* bad configuration: restarting will not help */
};

enum {
    CONTRACT_GRANTS_TIMEOUT_MS = 5000, /* a worker that did not get its grants in this time exits */
    CONTRACT_STOP_TIMEOUT_MS = 10000,  /* after stop, a worker has this long to drain and flush before SIGKILL */
};

/* Memory that the supervisor makes for a store without knowing what is in it (segment.h: SEGMENT_LEDGER, SEGMENT_IMAGE).
 * The layout versions are the store's; a page that was never touched costs nothing. */
#define CONTRACT_LEDGER_VERSION 1
#define CONTRACT_LEDGER_SIZE    (16ull << 20)
#define CONTRACT_IMAGE_VERSION  1
#define CONTRACT_IMAGE_SIZE     (256ull << 20)

/* Bus sockets in the runtime folder (ipc://). */
#define CONTRACT_BUS_SUPERVISOR "bus"    /* supervisor binds ROUTER; each worker connects DEALER, identity = worker */
#define CONTRACT_BUS_NAMESRV    "ns-%s"  /* name server NAME binds ROUTER; each store connects DEALER */
#define CONTRACT_CONTROL_SOCKET "control.sock" /* supervisor's command socket (Unix SEQPACKET, one JSON text each way) */
#define CONTRACT_ATTACH_SOCKET  "attach-%s.sock" /* native clients of broker NAME (Unix SEQPACKET) */
