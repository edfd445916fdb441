/* What the executor's parts share. Convention: a function that can fail returns 0 (or a descriptor)
 * on success and -1 on failure, after noting phase, step, operation and errno with fail(). Nothing
 * is allocated after decoding. */

#ifndef SUBLET_EXECUTOR_H
#define SUBLET_EXECUTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "wire.h"

/* A decoded plan: pointers into one private, checked copy. Strings are NUL-terminated inside it. */
struct plan {
    const uint8_t *base;
    size_t size;
    const struct wire_settings *settings;
    const char *strings;
    const uint8_t *data;
    const uint32_t *words;
    const uint32_t *groups;
    const struct wire_map *maps;
    const struct wire_extent *extents;
    const uint32_t *slots;
    const struct wire_join *joins;
    const struct wire_operation *operations;
    const struct wire_rlimit *rlimits;
    const struct wire_descriptor *descriptors;
    uint32_t counts[WIRE_SECTION_COUNT];
    char **argv;        /* NULL-terminated, made while decoding */
    char **environment; /* NULL-terminated */
    char **reporter;    /* NULL-terminated, with room for four more */
    uint32_t wrong;     /* index of the operation that decoding failed in, or WIRE_NONE */
};

struct failure {
    uint32_t noted; /* 0: none */
    uint16_t phase;
    uint16_t step;
    uint32_t operation;
    int32_t error;
    int64_t value; /* exit status of newuidmap or newgidmap */
};

struct ended {
    uint32_t ending;
    int32_t value;
    uint64_t user_us;
    uint64_t system_us;
    uint64_t max_rss_kib;
};

/* The page that supervisor, child and init share. It says what the channel between them would have
 * to say otherwise, without a system call: where set-up is, what went wrong, how the payload ended.
 */
struct shared {
    uint16_t phase;
    uint16_t executing; /* set-up is complete; execve is the next call, or was */
    uint32_t proc_fd;   /* of map_namespace's child */
    struct failure failure;
    uint32_t has_ended;
    struct ended ended; /* init's account of the payload */
};

struct context {
    const struct plan *plan;
    struct shared *shared;
    uint16_t phase;            /* where we are, for fail(); set by enter_phase() */
    uint32_t operation;        /* index, or WIRE_NONE */
    int slots[WIRE_MAX_SLOTS]; /* descriptor of each slot, -1: not given */
    int *outside;        /* per operation: the detached mount made in phase `outside`, or -1 */
    int *sources;        /* per operation: its source, opened before set-up became another, or -1 */
    int *works;          /* per operation: likewise an overlay's work directory */
    int *lowers;         /* per word of the plan: likewise an overlay's lower layer */
    int *map_namespaces; /* per map: descriptor of a user namespace with that map, or -1 */
    int root;            /* O_PATH descriptor of the new (or present) root */
    bool root_in_place;  /* the new root is the present tree, changed in place */
    int devpts;          /* root of the new devpts mount where the plan has a terminal, or -1 */
    int terminal;        /* slave of the plan's pty, or -1 */
    int master;          /* its master, or -1 */
    int procfs;          /* private procfs for sysctl, or -1 */
    uid_t caller_uid;    /* fsuid and fsgid with which sources are opened, */
    gid_t caller_gid;    /* as seen inside; WIRE_NONE where set-up acts as the caller */

    bool opened;      /* sources_open() was called: sources, works and lowers are filled */
    bool inside;      /* this process has the sandbox's own user namespace */
    bool announce;    /* `ready` and `running` are to be said */
    bool ready;       /* payload_ready() was called */
    int proc;         /* O_PATH descriptor of the machine's /proc, or -1 */
    int null;         /* the machine's /dev/null, or -1 */
    int plan_file;    /* where the plan was read from */
    int channel;      /* to the launcher, or -1 */
    int link;         /* to the other one of the executor's own processes, or -1 */
    int signals;      /* supervisor: its signalfd */
    int child;        /* supervisor: pidfd of the sandbox's first process */
    pid_t pid;        /* and its PID */
    uint64_t started; /* monotonic nanoseconds */
    uint64_t mask;    /* the signal mask that the executor was started with */
    void *arena;      /* the plan, what decoding made of it, the stack of the payload's start */
    size_t arena_size;
    uint8_t *stack_top;
};

/* For functions that end a process that runs on a stack of its own: ASan would not know that stack.
 */
#define ON_OTHER_STACK __attribute__((no_sanitize_address))

static inline bool setting(const struct context *c, uint32_t flag)
{
    return (c->plan->settings->flags & flag) != 0;
}

/* proto.c */
int fail(struct context *c, uint16_t step,
         int error); /* the first one counts; error 0: own check, EINVAL */
int fail_status(struct context *c, uint16_t step,
                int64_t status); /* a helper program's exit status */
void enter_phase(struct context *c, uint16_t phase);
int message_send(int fd, const struct wire_message *message,
                 int descriptor); /* -1: none; errno only */
int message_receive(int fd, struct wire_message *message,
                    int *descriptor); /* 1, 0: end of file, -1 */
int say(struct context *c, int fd, uint16_t kind, int64_t value, int descriptor); /* fails */
bool legal(uint16_t *state, uint8_t sender, uint16_t kind, bool sync_start);

/* report.c */
void report_failure(const struct context *c,
                    const struct wire_message *message); /* one terse line */
int report_exec(
    struct context *c,
    const struct wire_message *message); /* the plan's reporter; only returns on failure */
void complain(const char *what, const char *which); /* one line, before there is a plan */

/* decode.c and check.c */
size_t
plan_arena(size_t size); /* bytes that decoding a plan of `size` bytes needs, the plan included */
int plan_decode(struct plan *out, uint8_t *arena,
                size_t size); /* 0, or -1 with errno; the plan is at the arena's start */
const char *plan_string(const struct plan *p, uint32_t reference); /* NULL for WIRE_NONE */
int plan_check(struct plan *p); /* what the tables cannot say; called by plan_decode */

/* protect.c */
int program_protect(struct context *c, char **argv); /* may start the program anew */

/* mount.c: make mounts (detached), resolve targets, attach; one entry for each phase */
int mounts_outside(
    struct context *c); /* phase outside: operations with that flag, in the supervisor */
int sources_open(struct context *c);  /* before set-up gives up an ID that has no name inside */
int mounts_inside(struct context *c); /* phase mounts: propagation, then all operations in order */
int root_enter(struct context *c);    /* phase root: pivot, detach the old root; chdir("/") */

/* userns.c and helpers.c */
int map_namespace(struct context *c,
                  uint32_t map); /* descriptor of a user namespace with that map, cached */
int maps_write(struct context *c, pid_t pid); /* writers direct and helpers, in the supervisor */
int maps_write_self(struct context *c);
int maps_readback(struct context *c);
int maps_write_into(struct context *c, int proc,
                    const struct wire_map *map); /* of the process with that /proc directory */
int helpers_run(struct context *c, pid_t pid);

/* sandbox.c: the child's way through the phases */
_Noreturn void sandbox_main(struct context *c);
int peer_gone(int link); /* has the other side hung up? */

/* terminal.c */
int terminal_open(
    struct context *c); /* sets terminal and master; does nothing where they are open */
struct pollfd;
#define RELAY_FDS 4
void relay_start(struct context *c);                      /* the caller's terminal: raw */
int relay_prepare(struct context *c, struct pollfd *fds); /* how many of the RELAY_FDS are in use */
void relay_work(struct context *c, const struct pollfd *fds);
bool relay_drained(const struct context *c); /* nothing is left to be written */
void relay_closing(void); /* the payload is gone: what is in the pty is the rest */
void relay_abandon(void); /* nobody reads it: what is left is lost */
void relay_resize(const struct context *c);
void relay_stop(void); /* the caller's terminal: as it was */

/* credentials.c */
int setup_identity(struct context *c);   /* setup_uid and setup_gid, capabilities kept */
int credentials_take(struct context *c); /* phases credentials, directory, seccomp */

/* payload.c */
_Noreturn void payload_run(struct context *c);
int payload_ready(struct context *c); /* once: what a seccomp filter might forbid to do after it */

/* descriptors.c */
void close_all_but(int *keep, int count,
                   unsigned int flags); /* from 3 up; sorts keep; -1 in keep is ignored */
int payload_descriptors(struct context *c);

/* init.c */
_Noreturn void init_run(struct context *c);

/* supervise.c */
int supervise(struct context *c); /* the exit status */

/* Signals that are neither blocked nor forwarded: those of the processor, and of job control. */
#define SIGNAL_BIT(n) (UINT64_C(1) << ((n)-1))
int signal_mask(int how, uint64_t set, uint64_t *old);

#define EXIT_TIMEOUT 124
#define EXIT_SETUP 125
#define EXIT_NO_EXEC 126
#define EXIT_NOT_FOUND 127

#endif
