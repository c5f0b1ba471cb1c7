/* Closes a worker in: the table below is the "never" column of the rooms as the kernel understands it. Runs in each worker
 * between its grants and its first foreign byte, on the only thread there is.
 *
 * Two filters, because the stricter answer wins: one knows every call that a room may make and answers ENOSYS to the rest,
 * as an older kernel would, which is what libraries are prepared for; the other kills for calls that a room must never
 * make. A forbidden call is a bug or a break-in: an error code could be swallowed and the process would go on with
 * somebody else at the wheel, so it dies (SIGSYS, a death by its own fault), and its last words name the call. Calls
 * without a condition on arguments cost nothing: the kernel keeps a bitmap of them (5.11).
 *
 * Folders are Landlock's: outside of them a call fails with EACCES. Fatal here: what the kernel has but refuses. */
#include "worker/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/kernel.h"
#include "base/log.h"
#include "base/panic.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED 1 /* their runtimes fork, trace and personalize */
#else
#define IS_SANITIZED 0
#endif

/* Calls. */

/* What every room may do: memory, threads, time, waiting, descriptors it has, reading files, Unix sockets of the bus.
 * Hot ones need no place at the front: see above. */
static const char *const common_calls[] = {
    /* memory, threads */
    "brk", "mmap", "munmap", "mprotect", "mremap", "madvise", "mincore", "msync", "mlock", "mlock2", "munlock", "futex",
    "futex_waitv", "set_robust_list", "get_robust_list", "rseq", "set_tid_address", "clone", "exit", "exit_group",
    "sched_yield", "sched_getaffinity", "sched_setaffinity", "sched_getparam", "sched_getscheduler", "sched_setparam",
    "sched_setscheduler", /* libzmq aborts without the last two */
    "sched_get_priority_max", "sched_get_priority_min", "getpriority", "setpriority", "membarrier", "arch_prctl", "prctl",
    "prlimit64", "getrlimit", "setrlimit", "getrusage", "getcpu", "restart_syscall",
    /* identity, time */
    "getpid", "gettid", "getppid", "getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid", "getpgrp", "getpgid",
    "getsid", "uname", "sysinfo", "getrandom", "times", "time", "gettimeofday", "clock_gettime", "clock_getres",
    "clock_nanosleep", "nanosleep", "pause", "alarm", "getitimer", "setitimer", "timer_create", "timer_settime",
    "timer_gettime", "timer_delete", "timerfd_create", "timerfd_settime", "timerfd_gettime",
    /* signals: to itself only, see `never` */
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigpending", "rt_sigtimedwait", "rt_sigsuspend", "sigaltstack",
    "kill", "tgkill", "signalfd4", "signalfd",
    /* waiting */
    "epoll_create1", "epoll_create", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select",
    "pselect6", "eventfd2", "eventfd", "pipe2", "pipe", "inotify_init1", "inotify_add_watch", "inotify_rm_watch",
    /* descriptors */
    "read", "readv", "pread64", "preadv", "preadv2", "write", "writev", "close", "close_range", "dup", "dup2", "dup3",
    "fcntl", "ioctl", "flock", "lseek", "fstat", "newfstatat", "stat", "lstat", "statx", "fstatfs", "statfs", "access",
    "faccessat", "faccessat2", "readlink", "readlinkat", "getcwd", "getdents64", "getdents", "open", "openat", "fadvise64",
    "readahead", "sendfile", "splice", "tee", "fallocate", "pwrite64", "pwritev", "pwritev2", "ftruncate",
    /* sockets that it has, and of the bus */
    "socket", "socketpair", "connect", "getsockopt", "setsockopt", "getsockname", "getpeername", "sendto", "recvfrom",
    "sendmsg", "recvmsg", "sendmmsg", "recvmmsg", "shutdown",
    NULL,
};

static const char *const write_calls[] = {
    "creat", "mkdir", "mkdirat", "rmdir", "unlink", "unlinkat", "rename", "renameat", "renameat2", "link", "linkat",
    "symlink", "symlinkat", "truncate", "chmod", "fchmod", "fchmodat", "utimensat", "fsync", "fdatasync", "syncfs",
    "sync_file_range", "copy_file_range", "umask", "fsetxattr", "fgetxattr", NULL,
};
static const char *const accept_calls[] = {"accept", "accept4", NULL};
static const char *const bind_calls[] = {"bind", "listen", NULL};

/* A call that kills: always, where (argument & mask) == value, where the argument is not this value, or where it is not
 * our own process. */
struct never {
    const char *call;
    enum { ALWAYS, MASKED, DIFFERS, DIFFERS_PID } when;
    unsigned argument;
    uint64_t mask, value;
};

/* open(2) as the front may use it only reads. */
#define OPENS_TO_WRITE(call, at)                                                                                       \
    {call, MASKED, at, O_ACCMODE, O_WRONLY}, {call, MASKED, at, O_ACCMODE, O_RDWR},                                    \
        {call, MASKED, at, O_ACCMODE, O_ACCMODE}, {call, MASKED, at, O_CREAT, O_CREAT},                                \
        {call, MASKED, at, O_TRUNC, O_TRUNC}

static const struct never never_common[] = {
    {"execve", ALWAYS, 0, 0, 0},
    {"execveat", ALWAYS, 0, 0, 0},
    {"fork", ALWAYS, 0, 0, 0},
    {"vfork", ALWAYS, 0, 0, 0},
    {"clone", MASKED, 0, CLONE_THREAD, 0}, /* threads are made; clone3, whose flags nobody sees, is not there at all */
    {"kill", DIFFERS_PID, 0, 0, 0},
    {"tgkill", DIFFERS_PID, 0, 0, 0},
    {"prlimit64", DIFFERS, 0, 0, 0},
    {"ptrace", ALWAYS, 0, 0, 0},
    {"process_vm_readv", ALWAYS, 0, 0, 0},
    {"process_vm_writev", ALWAYS, 0, 0, 0},
    {"pidfd_getfd", ALWAYS, 0, 0, 0},
    {"io_uring_setup", ALWAYS, 0, 0, 0}, /* would do all of this behind the filter's back */
    {"open_by_handle_at", ALWAYS, 0, 0, 0},
    {"bpf", ALWAYS, 0, 0, 0},
    {"mount", ALWAYS, 0, 0, 0},
    {"chroot", ALWAYS, 0, 0, 0},
    {"setns", ALWAYS, 0, 0, 0},
    {"unshare", ALWAYS, 0, 0, 0},
    {"setuid", ALWAYS, 0, 0, 0},
    {"init_module", ALWAYS, 0, 0, 0},
    {"finit_module", ALWAYS, 0, 0, 0},
    {NULL, ALWAYS, 0, 0, 0},
};

/* A front: no file. What it may write are sockets and memory, whose descriptors it was given. */
static const struct never never_front[] = {
    OPENS_TO_WRITE("openat", 2),
    OPENS_TO_WRITE("open", 1),
    {"creat", ALWAYS, 0, 0, 0},
    {"truncate", ALWAYS, 0, 0, 0},
    {"mkdir", ALWAYS, 0, 0, 0},
    {"mkdirat", ALWAYS, 0, 0, 0},
    {"rmdir", ALWAYS, 0, 0, 0},
    {"unlink", ALWAYS, 0, 0, 0},
    {"unlinkat", ALWAYS, 0, 0, 0},
    {"rename", ALWAYS, 0, 0, 0},
    {"renameat", ALWAYS, 0, 0, 0},
    {"renameat2", ALWAYS, 0, 0, 0},
    {"link", ALWAYS, 0, 0, 0},
    {"linkat", ALWAYS, 0, 0, 0},
    {"symlink", ALWAYS, 0, 0, 0},
    {"symlinkat", ALWAYS, 0, 0, 0},
    {"mknod", ALWAYS, 0, 0, 0},
    {"mknodat", ALWAYS, 0, 0, 0},
    {"chmod", ALWAYS, 0, 0, 0},
    {"fchmod", ALWAYS, 0, 0, 0},
    {"fchmodat", ALWAYS, 0, 0, 0},
    {"chown", ALWAYS, 0, 0, 0},
    {NULL, ALWAYS, 0, 0, 0},
};

/* A store: no network. Its sockets are the bus and its fd channel. */
static const struct never never_store[] = {
    {"socket", DIFFERS, 0, 0, AF_UNIX},
    {"accept", ALWAYS, 0, 0, 0},
    {"accept4", ALWAYS, 0, 0, 0},
    {"bind", ALWAYS, 0, 0, 0},
    {"listen", ALWAYS, 0, 0, 0},
    {NULL, ALWAYS, 0, 0, 0},
};

/* A name server: accepts on the socket that it was given and binds its end of the bus; it goes to nobody over TCP. */
static const struct never never_namesrv[] = {
    {"socket", DIFFERS, 0, 0, AF_UNIX},
    {NULL, ALWAYS, 0, 0, 0},
};

/* Folders. */

enum folder_use {
    FOLDER_END,
    FOLDER_READ,
    FOLDER_WRITE,
    FOLDER_WRITE_AROUND, /* the folder in which this file is replaced */
};

/* `key` of the granted text; a path if it starts with '/'; "" is the runtime folder. */
struct folder {
    enum folder_use use;
    const char *key;
};

/* For the C library: names of hosts, time zones, what sysconf asks. */
static const struct folder folders_common[] = {
    {FOLDER_READ, "/etc"},  {FOLDER_READ, "/usr"}, {FOLDER_READ, "/lib"},      {FOLDER_READ, "/lib64"},
    {FOLDER_READ, "/proc"}, {FOLDER_READ, "/sys"}, {FOLDER_READ, "/dev/null"}, {FOLDER_READ, "/dev/urandom"},
    {FOLDER_READ, "/run/systemd/resolve"},         {FOLDER_END, NULL},
};

static const struct room {
    const char *name;
    const char *const *calls[4]; /* beside the common ones */
    const struct never *never;
    struct folder folders[5];
    bool connects; /* over TCP */
} rooms[SANDBOX_ROOM_COUNT] = {
    [SANDBOX_FRONT] = {"front",
                       {accept_calls},
                       never_front,
                       {{FOLDER_READ, "storePathRootDir"}, {FOLDER_READ, "storePathCommitLog"}},
                       true},
    [SANDBOX_STORE] = {"store",
                       {write_calls},
                       never_store,
                       /* around: a file of the log that goes is renamed into a folder beside the log's own */
                       {{FOLDER_WRITE, "storePathRootDir"},
                        {FOLDER_WRITE, "storePathCommitLog"},
                        {FOLDER_WRITE_AROUND, "storePathCommitLog"}},
                       false},
    [SANDBOX_NAMESRV] = {"namesrv",
                         {write_calls, accept_calls, bind_calls},
                         never_namesrv,
                         {{FOLDER_WRITE, "storePathRootDir"},
                          {FOLDER_WRITE_AROUND, "kvConfigPath"},
                          {FOLDER_WRITE_AROUND, "configStorePath"},
                          {FOLDER_WRITE, ""}}, /* its socket of the bus */
                         false},
};

/* Landlock. Our own words for what the headers of Debian 12 do not have. */

enum {
    FS_EXECUTE = 1,
    FS_WRITE_FILE = 2,
    FS_READ_FILE = 4,
    FS_READ_DIR = 8,
    FS_LEVEL_1 = (1 << 13) - 1, /* everything up to MAKE_SYM */
    FS_REFER = 1 << 13,         /* level 2 */
    FS_TRUNCATE = 1 << 14,      /* level 3 */
    FS_OF_FILES = FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE,
    NET_BIND_TCP = 1, /* level 4 */
    NET_CONNECT_TCP = 2,
    SCOPE_ABSTRACT_SOCKET = 1, /* level 6 */
    SCOPE_SIGNAL = 2,
    RULE_PATH_BENEATH = 1,
};
struct landlock_ruleset {
    uint64_t fs, net, scoped;
};
struct landlock_path {
    uint64_t allowed;
    int32_t fd;
} __attribute__((packed));

/* The folder may not be there yet: then its nearest parent that is. */
static int open_nearest(const char *path)
{
    char at[PATH_MAX];
    if (snprintf(at, sizeof at, "%s", path) >= (int)sizeof at)
        return -ENAMETOOLONG;
    for (;;) {
        int fd = open(at, O_PATH | O_CLOEXEC);
        if (fd >= 0)
            return fd;
        char *slash = strrchr(at, '/');
        if ((errno != ENOENT && errno != ENOTDIR) || !slash || slash == at)
            return -errno;
        *slash = 0;
    }
}

static int allow_path(int ruleset, uint64_t handled, const char *path, enum folder_use use, bool nearest)
{
    struct stat st;
    PN_CLOSE int fd = nearest ? open_nearest(path) : open(path, O_PATH | O_CLOEXEC);
    if (fd < 0 && !nearest)
        return 0; /* this system has none */
    if (fd < 0)
        return fd;
    uint64_t allowed = use == FOLDER_READ ? FS_READ_FILE | FS_READ_DIR : handled & ~(uint64_t)FS_EXECUTE;
    if (fstat(fd, &st) == 0 && !S_ISDIR(st.st_mode))
        allowed &= FS_OF_FILES;
    struct landlock_path rule = {allowed, fd};
    return syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &rule, 0) < 0 ? -errno : 0;
}

static int allow_folder(int ruleset, uint64_t handled, const struct folder *folder, struct conf *granted,
                        const char *runtime_dir)
{
    const char *path = folder->key[0] == 0 ? runtime_dir : conf_get(granted, "", folder->key);
    char parent[PATH_MAX];
    if (!path || !*path)
        return 0;
    if (folder->use == FOLDER_WRITE_AROUND) {
        const char *slash = strrchr(path, '/');
        snprintf(parent, sizeof parent, "%.*s", slash && slash > path ? (int)(slash - path) : 1, slash ? path : ".");
        path = parent;
    }
    return allow_path(ruleset, handled, path, folder->use, true);
}

static int close_folders(const struct room *room, struct conf *granted, const char *runtime_dir)
{
    int level = kernel_landlock_level();
    if (level < 1)
        return 0;
    struct landlock_ruleset attributes = {
        .fs = FS_LEVEL_1 | (level >= 2 ? FS_REFER : 0) | (level >= 3 ? FS_TRUNCATE : 0),
        .net = level < 4 ? 0 : (uint64_t)(room->connects ? NET_BIND_TCP : NET_BIND_TCP | NET_CONNECT_TCP),
        .scoped = level < 6 ? 0 : SCOPE_ABSTRACT_SOCKET | SCOPE_SIGNAL,
    };
    size_t size = level >= 6 ? sizeof attributes : level >= 4 ? 2 * sizeof(uint64_t) : sizeof(uint64_t);
    PN_CLOSE int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attributes, size, 0);
    int r = ruleset < 0 ? -errno : 0;
    for (const struct folder *folder = folders_common; r == 0 && folder->use; folder++)
        r = allow_path(ruleset, attributes.fs, folder->key, folder->use, false);
    for (const struct folder *folder = room->folders; r == 0 && folder->use; folder++)
        r = allow_folder(ruleset, attributes.fs, folder, granted, runtime_dir);
    if (r == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
        r = -errno;
    return r;
}

/* seccomp. */

/* Names of the calls that kill, for last words: the handler must not allocate. */
enum { FORBIDDEN_MAX = 128 };
static struct {
    int number;
    const char *call;
} forbidden[FORBIDDEN_MAX];
static unsigned forbidden_count;

static const char *forbidden_name(int number)
{
    for (unsigned i = 0; i < forbidden_count; i++)
        if (forbidden[i].number == number)
            return forbidden[i].call;
    return "?";
}

static void on_forbidden(int signal_number, siginfo_t *info, void *context)
{
    char words[128];
    snprintf(words, sizeof words, "forbidden system call %d (%s)", info->si_syscall, forbidden_name(info->si_syscall));
    panic_leave_last_words(words);
    signal(signal_number, SIG_DFL); /* and again, so that it is this signal that ends the process */
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal_number);
    syscall(SYS_tgkill, getpid(), gettid(), signal_number);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    _exit(EXIT_FAILURE);
}

/* A call that this architecture or library does not know cannot be made either. */
static int number_of(const char *call)
{
    return seccomp_syscall_resolve_name(call);
}

static int allow_calls(scmp_filter_ctx filter, const char *const *calls)
{
    int r = 0;
    for (; calls && *calls && r == 0; calls++) {
        int number = number_of(*calls);
        if (number >= 0)
            r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0);
    }
    return r;
}

static int forbid(scmp_filter_ctx filter, const struct never *never)
{
    int number = number_of(never->call);
    if (number < 0)
        return 0;
    pn_assert(forbidden_count < FORBIDDEN_MAX);
    forbidden[forbidden_count].number = number;
    forbidden[forbidden_count++].call = never->call;
    struct scmp_arg_cmp condition = {.arg = never->argument};
    switch (never->when) {
    case ALWAYS:
        return seccomp_rule_add(filter, SCMP_ACT_TRAP, number, 0);
    case MASKED:
        condition.op = SCMP_CMP_MASKED_EQ;
        condition.datum_a = never->mask;
        condition.datum_b = never->value;
        break;
    case DIFFERS:
    case DIFFERS_PID:
        condition.op = SCMP_CMP_NE;
        condition.datum_a = never->when == DIFFERS ? never->value : (uint64_t)getpid();
        break;
    }
    return seccomp_rule_add_array(filter, SCMP_ACT_TRAP, number, 1, &condition);
}

static int load(scmp_filter_ctx filter)
{
    seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 1);
    return seccomp_load(filter);
}

static int load_forbidden(const struct room *room)
{
    struct sigaction action = {.sa_sigaction = on_forbidden, .sa_flags = SA_SIGINFO};
    sigaction(SIGSYS, &action, NULL);
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    int r = filter ? 0 : -ENOMEM;
    for (const struct never *never = never_common; r == 0 && never->call; never++)
        r = forbid(filter, never);
    for (const struct never *never = room->never; r == 0 && never->call; never++)
        r = forbid(filter, never);
    if (r == 0)
        r = load(filter);
    seccomp_release(filter);
    return r;
}

static int load_known(const struct room *room)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
    int r = filter ? allow_calls(filter, common_calls) : -ENOMEM;
    for (unsigned i = 0; r == 0 && i < sizeof room->calls / sizeof *room->calls; i++)
        r = allow_calls(filter, room->calls[i]);
    if (r == 0) /* the other filter comes after this one */
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(seccomp), 0);
    if (r == 0)
        r = load(filter);
    seccomp_release(filter);
    return r;
}

/* Debugging tools that run a program themselves do not know seccomp; a sandbox there protects nobody. */
static bool has_seccomp(void)
{
    uint32_t action = SECCOMP_RET_TRAP;
    return syscall(SYS_seccomp, 2 /* SECCOMP_GET_ACTION_AVAIL */, 0, &action) == 0;
}

int sandbox_enter(enum sandbox_room room, struct conf *granted, const char *runtime_dir)
{
    const struct room *row = &rooms[room];
    const char *wanted = conf_get(granted, "", "sandbox");
    if (room == SANDBOX_NONE)
        return 0;
    if (IS_SANITIZED || (wanted && strcmp(wanted, "false") == 0)) {
        log_info("sandbox: off%s", IS_SANITIZED ? " in this build: the sanitizer needs what it forbids" : "");
        return 0;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    if (!has_seccomp()) {
        log_warning("sandbox: there is no seccomp here; nothing keeps a %s from what it must not do", row->name);
        return 0;
    }
    int r = close_folders(row, granted, runtime_dir);
    if (r == 0)
        r = load_known(row);
    return r < 0 ? r : load_forbidden(row);
}
