/* The supervisor: makes the sandbox's first process, writes its maps, and stands outside until the
 * end: forwards signals, relays the terminal, counts the time, tells the launcher. */

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "supervise.h"
#include "syscalls.h"

#define SIGNAL_SET_SIZE 8 /* bytes, for the kernel */

/* Never blocked: what the processor raises, and job control, which does its work on us as on
 * everybody in the foreground group. */
#define UNBLOCKED                                                                                  \
    (SIGNAL_BIT(SIGSEGV) | SIGNAL_BIT(SIGBUS) | SIGNAL_BIT(SIGFPE) | SIGNAL_BIT(SIGILL) |          \
     SIGNAL_BIT(SIGTRAP) | SIGNAL_BIT(SIGSYS) | SIGNAL_BIT(SIGTSTP) | SIGNAL_BIT(SIGTTIN) |        \
     SIGNAL_BIT(SIGTTOU) | SIGNAL_BIT(SIGCONT))
#define DEADLY (SIGNAL_BIT(SIGHUP) | SIGNAL_BIT(SIGINT) | SIGNAL_BIT(SIGQUIT) | SIGNAL_BIT(SIGTERM))

/* Nanoseconds for who reads our output to go on, when all is over but that. */
#define PATIENCE 100000000

enum slot { POLL_CHILD, POLL_SIGNALS, POLL_LINK, POLL_CHANNEL, POLL_FIXED };

int signal_mask(int how, uint64_t set, uint64_t *old)
{
    return (int)syscall(SYS_rt_sigprocmask, how, &set, old, SIGNAL_SET_SIZE);
}

uint64_t monotonic(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static int tell(struct context *c, struct supervisor *s, uint16_t kind, int64_t value,
                int descriptor)
{
    if (c->channel < 0 ||
        !legal(&s->state, WIRE_SENDER_EXECUTOR, kind, setting(c, WIRE_SETTING_SYNC_START)))
        return 0;
    return say(c, c->channel, kind, value, descriptor);
}

static void kill_child(struct context *c, struct supervisor *s)
{
    if (c->child >= 0 && !s->gone)
        sys_pidfd_send_signal(c->child, SIGKILL);
}

/* Take the child's end, if it has come; `block`: wait for it. */
static void reap(struct context *c, struct supervisor *s, bool block)
{
    pid_t pid;
    if (s->gone || c->pid <= 0)
        return;
    do
        pid = wait4(c->pid, &s->status, block ? 0 : WNOHANG, &s->usage);
    while (pid < 0 && errno == EINTR);
    s->gone = pid != 0;
}

static int start(struct context *c)
{
    int pair[2];
    enter_phase(c, WIRE_PHASE_CLONE);
    if (signal_mask(SIG_BLOCK, ~(uint64_t)UNBLOCKED, &c->mask) < 0)
        return fail(c, WIRE_STEP_SIGNAL, errno);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return fail(c, WIRE_STEP_SOCKETPAIR, errno);
    c->caller_uid = getuid();
    c->caller_gid = getgid();
    bool joins = c->plan->counts[WIRE_SECTION_JOINS] > 0;
    struct sys_clone_args args = {
        .flags = CLONE_PIDFD | (joins ? 0 : c->plan->settings->namespaces),
        .pidfd = (uint64_t)(uintptr_t)&c->child,
        .exit_signal = SIGCHLD,
    };
    c->started = monotonic();
    c->pid = sys_clone3(&args);
    if (c->pid < 0)
        return fail(c, WIRE_STEP_CLONE3, errno);
    c->link = pair[c->pid == 0];
    close(pair[c->pid != 0]);
    if (c->pid == 0)
        sandbox_main(c);
    return 0;
}

/* A child that was killed hears nothing; its end says so. */
static void tell_child(struct context *c, uint16_t kind)
{
    const struct wire_message message = {
        .version = WIRE_VERSION, .kind = kind, .operation = WIRE_NONE};
    message_send(c->link, &message, -1);
}

static int write_maps(struct context *c)
{
    enter_phase(c, WIRE_PHASE_MAPS);
    if (maps_write(c, c->pid) < 0)
        return -1;
    tell_child(c, WIRE_MESSAGE_MAPS_WRITTEN);
    return 0;
}

/* The child joins namespaces: it asks for its maps where it makes a user namespace, and says who
 * goes on, itself or a child that it has made ours. */
static int follow(struct context *c)
{
    struct wire_message message;
    int descriptor;
    for (;;) {
        int got = message_receive(c->link, &message, &descriptor);
        if (got == 0)
            return -1;
        if (got < 0)
            return fail(c, WIRE_STEP_RECVMSG, errno);
        if (message.kind == WIRE_MESSAGE_MAPS_WANTED && descriptor < 0) {
            if (write_maps(c) < 0)
                return -1;
            continue;
        }
        if (message.kind != WIRE_MESSAGE_STARTED || (message.value > 0) != (descriptor >= 0))
            return fail(c, WIRE_STEP_RECVMSG, EPROTO);
        break;
    }
    if (descriptor < 0)
        return 0;
    int status;
    while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
        continue;
    close(c->child);
    c->child = descriptor;
    c->pid = (pid_t)message.value;
    return 0;
}

/* A slot that nothing in the plan uses is to be held until the end: a lock, a place for the report.
 */
static int held_slots(const struct context *c, int *held)
{
    const struct plan *p = c->plan;
    bool used[WIRE_MAX_SLOTS] = {false};
    for (uint32_t i = 0; i < p->counts[WIRE_SECTION_OPERATIONS]; i++)
        if (p->operations[i].slot != WIRE_NONE)
            used[p->operations[i].slot] = true;
    for (uint32_t i = 0; i < p->counts[WIRE_SECTION_JOINS]; i++)
        used[p->joins[i].slot] = true;
    for (uint32_t i = 0; i < p->counts[WIRE_SECTION_DESCRIPTORS]; i++)
        used[p->descriptors[i].slot] = true;
    int count = 0;
    for (uint32_t i = 0; i < p->counts[WIRE_SECTION_SLOTS]; i++)
        if (!used[i])
            held[count++] = c->slots[i];
    return count;
}

/* What is not needed any more is let go, while the child works: a reader of our standard output
 * sees its end when the payload closes it, not when we do. */
static int retire(struct context *c, struct supervisor *s)
{
    uint16_t writer = c->plan->settings->writer;
    if (c->plan->counts[WIRE_SECTION_JOINS] > 0) {
        if (follow(c) < 0)
            return -1;
    } else if (writer == WIRE_WRITER_DIRECT || writer == WIRE_WRITER_HELPERS) {
        if (write_maps(c) < 0)
            return -1;
    }
    if (tell(c, s, WIRE_MESSAGE_STARTED, c->pid, c->child) < 0)
        return -1;
    const uint64_t wanted = ~(uint64_t)UNBLOCKED;
    c->signals =
        (int)syscall(SYS_signalfd4, -1, &wanted, SIGNAL_SET_SIZE, SFD_CLOEXEC | SFD_NONBLOCK);
    if (c->signals < 0)
        return fail(c, WIRE_STEP_SIGNAL, errno);
    if (!setting(c, WIRE_SETTING_TERMINAL) && c->null >= 0) {
        dup2(c->null, 0);
        dup2(c->null, 1);
    }
    int keep[WIRE_MAX_SLOTS + 5];
    int count = held_slots(c, keep);
    keep[count++] = c->channel;
    keep[count++] = c->link;
    keep[count++] = c->signals;
    keep[count++] = c->child;
    keep[count++] = c->plan->settings->reporter_count > 0 ? c->plan_file : -1;
    close_all_but(keep, count, 0);
    /* Not only inside: whoever has the same ID may not look into this process either. */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return fail(c, WIRE_STEP_DUMPABLE, errno);
    return 0;
}

bool running(const struct context *c)
{
    return __atomic_load_n(&c->shared->executing, __ATOMIC_ACQUIRE) != 0;
}

/* To the child, which is init or the payload. What the terminal sent has reached the payload
 * itself, unless that has a session of its own; then init, in our group, has it already. */
static void forward(struct context *c, struct supervisor *s, const struct signalfd_siginfo *info)
{
    bool apart = setting(c, WIRE_SETTING_NEW_SESSION) && !setting(c, WIRE_SETTING_INIT);
    int number = (int)info->ssi_signo;
    s->hurried = s->hurried || (SIGNAL_BIT(number) & DEADLY) != 0;
    if (number == SIGWINCH && setting(c, WIRE_SETTING_TERMINAL))
        relay_resize(c);
    else if (!running(c) && (SIGNAL_BIT(number) & DEADLY)) {
        s->interrupted = number;
        kill_child(c, s);
    } else if (number != SIGCHLD && (info->ssi_code != SI_KERNEL || apart))
        sys_pidfd_send_signal(c->child, number);
}

static void read_signals(struct context *c, struct supervisor *s)
{
    struct signalfd_siginfo info;
    while (read(c->signals, &info, sizeof info) == sizeof info)
        forward(c, s, &info);
}

static int hear_link(struct context *c, struct supervisor *s)
{
    struct wire_message message;
    int descriptor;
    int got = message_receive(c->link, &message, &descriptor);
    if (got <= 0) {
        close(c->link);
        c->link = -1;
        if (got < 0)
            return fail(c, WIRE_STEP_RECVMSG, errno);
        /* Closed by execve, where the child is the payload itself. */
        if (setting(c, WIRE_SETTING_INIT) || c->shared->failure.noted || !running(c))
            return 0;
        return tell(c, s, WIRE_MESSAGE_RUNNING, 0, -1);
    }
    if (message.kind == WIRE_MESSAGE_TERMINAL && descriptor >= 0 && c->master < 0) {
        c->master = descriptor;
        relay_start(c);
        return 0;
    }
    if ((message.kind == WIRE_MESSAGE_READY || message.kind == WIRE_MESSAGE_RUNNING) &&
        descriptor < 0)
        return tell(c, s, message.kind, 0, -1);
    return fail(c, WIRE_STEP_RECVMSG, EPROTO);
}

/* The launcher may say one thing, once. Its end is no order to stop, except where the payload waits
 * for a word that can come no more. */
static int hear_channel(struct context *c, struct supervisor *s)
{
    struct wire_message message;
    bool sync = setting(c, WIRE_SETTING_SYNC_START);
    int got = message_receive(c->channel, &message, NULL);
    if (got > 0 && legal(&s->state, WIRE_SENDER_LAUNCHER, message.kind, sync)) {
        tell_child(c, WIRE_MESSAGE_GO);
        return 0;
    }
    int error = got < 0 ? errno : EPROTO;
    bool waited_for = sync && s->state <= WIRE_STATE_READY;
    close(c->channel);
    c->channel = -1;
    if (got == 0)
        return waited_for ? fail(c, WIRE_STEP_RECVMSG, EPIPE) : 0;
    return fail(c, WIRE_STEP_RECVMSG, error);
}

static int time_left(const struct context *c, struct timespec *left)
{
    uint64_t limit = c->plan->settings->timeout_ms;
    if (limit == 0)
        return -1;
    if (limit > UINT64_MAX / 2000000)
        limit = UINT64_MAX / 2000000;
    uint64_t passed = monotonic() - c->started;
    uint64_t nanoseconds = passed < limit * 1000000 ? limit * 1000000 - passed : 0;
    left->tv_sec = (time_t)(nanoseconds / 1000000000);
    left->tv_nsec = (long)(nanoseconds % 1000000000);
    return nanoseconds > 0;
}

/* Where nothing is to be relayed, the link says nothing that the shared page does not: its end is
 * no reason to wake up just before the child's. */
static int heard_link(const struct context *c)
{
    return c->announce || setting(c, WIRE_SETTING_TERMINAL) ? c->link : -1;
}

/* One round: wait for anything, and do what it asks. */
static int turn(struct context *c, struct supervisor *s)
{
    struct pollfd fds[POLL_FIXED + RELAY_FDS] = {
        [POLL_CHILD] = {.fd = s->gone ? -1 : c->child, .events = POLLIN},
        [POLL_SIGNALS] = {.fd = c->signals, .events = POLLIN},
        [POLL_LINK] = {.fd = heard_link(c), .events = POLLIN},
        [POLL_CHANNEL] = {.fd = c->channel, .events = POLLIN},
    };
    nfds_t count = POLL_FIXED;
    if (c->master >= 0)
        count += (nfds_t)relay_prepare(c, fds + POLL_FIXED);
    struct timespec left;
    int limited = s->timed_out ? -1 : time_left(c, &left);
    if (limited == 0) {
        s->timed_out = s->hurried = true;
        kill_child(c, s);
        return 0;
    }
    bool last = s->gone && s->hurried;
    if (last)
        left = (struct timespec){.tv_nsec = PATIENCE};
    int ready = ppoll(fds, count, last || limited > 0 ? &left : NULL, NULL);
    if (ready < 0)
        return errno == EINTR ? 0 : fail(c, WIRE_STEP_POLL, errno);
    if (ready == 0 && last)
        relay_abandon();
    if (fds[POLL_SIGNALS].revents)
        read_signals(c, s);
    if (fds[POLL_LINK].revents && hear_link(c, s) < 0)
        return -1;
    if (fds[POLL_CHANNEL].revents && hear_channel(c, s) < 0)
        return -1;
    if (c->master >= 0)
        relay_work(c, fds + POLL_FIXED);
    if (fds[POLL_CHILD].revents) {
        reap(c, s, false);
        relay_closing();
    }
    return 0;
}

static void wait_for_end(struct context *c, struct supervisor *s)
{
    enter_phase(c, c->shared->phase); /* it is the child's from now on */
    while (!s->gone || heard_link(c) >= 0 || !relay_drained(c)) {
        if (turn(c, s) < 0) {
            c->phase = WIRE_PHASE_SUPERVISE;
            break;
        }
    }
    kill_child(c, s);
    reap(c, s, true);
}

int supervise(struct context *c)
{
    struct supervisor s = {.state = WIRE_STATE_STARTING};
    if (!c->shared->failure.noted) {
        enter_phase(c, WIRE_PHASE_OUTSIDE);
        if (mounts_outside(c) == 0 && start(c) == 0) {
            if (retire(c, &s) == 0)
                wait_for_end(c, &s);
            kill_child(c, &s);
            reap(c, &s, true);
        }
    }
    return conclude(c, &s);
}
