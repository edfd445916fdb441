/* Process 1 of the new pid namespace: starts the payload, reaps, forwards signals, and ends with
 * the payload; the kernel then ends everything else in the namespace. It holds no descriptor but
 * the link, cannot be traced, and wakes up for nothing but signals. */

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "executor.h"
#include "syscalls.h"

#define WAKE_SIZE 8 /* bytes of a signal set, for the kernel */

ON_OTHER_STACK static int payload_main(void *argument)
{
    payload_run(argument);
}

/* Started as vfork(2) does it: this process sleeps until the payload is executed or has failed. */
static pid_t start(struct context *c)
{
    pid_t pid = clone(payload_main, c->stack_top, CLONE_VM | CLONE_VFORK | SIGCHLD, c);
    return pid < 0 ? fail(c, WIRE_STEP_CLONE3, errno) : pid;
}

static void account(struct context *c, int status, const struct rusage *usage)
{
    struct ended *ended = &c->shared->ended;
    bool signalled = WIFSIGNALED(status);
    *ended = (struct ended){
        .ending = signalled ? WIRE_ENDING_SIGNAL : WIRE_ENDING_EXIT,
        .value = signalled ? WTERMSIG(status) : WEXITSTATUS(status),
        .user_us = (uint64_t)usage->ru_utime.tv_sec * 1000000 + (uint64_t)usage->ru_utime.tv_usec,
        .system_us = (uint64_t)usage->ru_stime.tv_sec * 1000000 + (uint64_t)usage->ru_stime.tv_usec,
        .max_rss_kib = (uint64_t)usage->ru_maxrss,
    };
    __atomic_store_n(&c->shared->has_ended, 1, __ATOMIC_RELEASE);
}

/* Everything that was adopted, and the payload, whose end is ours. */
static void reap(struct context *c, pid_t payload)
{
    for (;;) {
        int status;
        struct rusage usage;
        pid_t pid = wait4(-1, &status, WNOHANG, &usage);
        if (pid < 0 && errno == EINTR)
            continue;
        if (pid <= 0)
            return;
        if (pid != payload)
            continue;
        account(c, status, &usage);
        _exit(0);
    }
}

/* A SIGIO of our own: the link says something, which can only be its end. */
static int watch_link(struct context *c)
{
    if (fcntl(c->link, F_SETOWN, getpid()) < 0 || fcntl(c->link, F_SETFL, O_ASYNC) < 0)
        return fail(c, WIRE_STEP_SIGNAL, errno);
    return 0;
}

/* The terminal gives a signal to the whole foreground group, the payload included, unless that has
 * a session of its own. */
static _Noreturn void serve(struct context *c, pid_t payload, bool new_session)
{
    const uint64_t all = ~UINT64_C(0);
    for (;;) {
        siginfo_t info;
        long number = syscall(SYS_rt_sigtimedwait, &all, &info, NULL, WAKE_SIZE);
        if (number < 0)
            continue;
        if (number == SIGCHLD)
            reap(c, payload);
        else if (number == SIGIO && peer_gone(c->link))
            _exit(EXIT_SETUP);
        else if (info.si_code != SI_KERNEL || new_session)
            kill(payload, (int)number);
    }
}

_Noreturn void init_run(struct context *c)
{
    bool new_session = setting(c, WIRE_SETTING_NEW_SESSION) || setting(c, WIRE_SETTING_TERMINAL);
    signal_mask(SIG_BLOCK, ~UINT64_C(0), NULL);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) {
        fail(c, WIRE_STEP_PDEATHSIG, errno);
        _exit(EXIT_SETUP);
    }
    if (peer_gone(c->link))
        _exit(EXIT_SETUP);
    int link = c->link; /* the payload's start may move its own copy */
    pid_t payload = start(c);
    c->link = link;
    if (payload < 0 || c->shared->failure.noted)
        _exit(EXIT_SETUP);
    if (c->announce && say(c, link, WIRE_MESSAGE_RUNNING, 0, -1) < 0)
        _exit(EXIT_SETUP);
    close_all_but(&link, 1, 0);
    sys_close_range(0, 2, 0);
    munmap(c->arena, c->arena_size);
    c->plan = NULL;
    if (watch_link(c) < 0 || peer_gone(c->link))
        _exit(EXIT_SETUP);
    serve(c, payload, new_session);
}
