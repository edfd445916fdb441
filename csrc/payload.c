/* The last steps before execve, in the process that becomes the payload. With an init it shares
 * init's memory until then, so nothing here leaves anything behind that init would miss. */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "executor.h"
#include "syscalls.h"

/* Say `ready`, and wait for `go` where that was asked for. */
ON_OTHER_STACK static int announce(struct context *c)
{
    struct wire_message message;
    if (say(c, c->link, WIRE_MESSAGE_READY, 0, -1) < 0)
        return -1;
    if (!setting(c, WIRE_SETTING_SYNC_START))
        return 0;
    int got = message_receive(c->link, &message, NULL);
    if (got == 0)
        _exit(EXIT_SETUP); /* nobody is left */
    if (got < 0 || message.kind != WIRE_MESSAGE_GO)
        return fail(c, WIRE_STEP_RECVMSG, got < 0 ? errno : EPROTO);
    return 0;
}

ON_OTHER_STACK int payload_ready(struct context *c)
{
    if (c->ready)
        return 0;
    c->ready = true;
    if (!setting(c, WIRE_SETTING_INIT)) {
        /* The kernel forgets it with every change of IDs, so it is asked for after the last. */
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
            return fail(c, WIRE_STEP_PDEATHSIG, errno);
        if (peer_gone(c->link))
            _exit(EXIT_SETUP);
    }
    if (c->announce && announce(c) < 0)
        return -1;
    if (signal_mask(SIG_SETMASK, c->mask, NULL) < 0)
        return fail(c, WIRE_STEP_SIGNAL, errno);
    return 0;
}

static int session(struct context *c)
{
    if (!setting(c, WIRE_SETTING_NEW_SESSION) && c->terminal < 0)
        return 0;
    /* EPERM: it leads a session already, as process 1 of a join may */
    if (setsid() < 0 && getsid(0) != getpid())
        return fail(c, WIRE_STEP_SETSID, errno);
    if (c->terminal < 0)
        return 0;
    enter_phase(c, WIRE_PHASE_TERMINAL);
    if (ioctl(c->terminal, TIOCSCTTY, 0) < 0)
        return fail(c, WIRE_STEP_IOCTL, errno);
    for (int fd = 0; fd < 3; fd++)
        if (dup2(c->terminal, fd) < 0)
            return fail(c, WIRE_STEP_DUP, errno);
    return 0;
}

static int limits(struct context *c)
{
    enter_phase(c, WIRE_PHASE_LIMITS);
    const struct plan *p = c->plan;
    for (uint32_t i = 0; i < p->counts[WIRE_SECTION_RLIMITS]; i++) {
        const uint64_t pair[2] = {p->rlimits[i].soft, p->rlimits[i].hard};
        if (syscall(SYS_prlimit64, 0, p->rlimits[i].resource, pair, NULL) < 0)
            return fail(c, WIRE_STEP_SETRLIMIT, errno);
    }
    if (p->settings->umask != WIRE_NONE)
        umask((mode_t)p->settings->umask);
    return 0;
}

/* Only execve itself says whether something can be executed; but "not found" is also what it says
 * of a script whose interpreter is missing. */
static bool is_there(const char *path)
{
    return faccessat(AT_FDCWD, path, F_OK, 0) == 0;
}

/* Try one directory of a search; 0: not there, go on. An empty one is the working directory. */
static int try_directory(struct context *c, const char *directory, size_t length,
                         const char *command, bool *forbidden)
{
    char path[PATH_MAX];
    size_t rest = strlen(command) + 1;
    if (length + 1 + rest > sizeof path)
        return 0;
    memcpy(path, directory, length);
    if (length > 0)
        path[length++] = '/';
    memcpy(path + length, command, rest);
    execve(path, c->plan->argv, c->plan->environment);
    int error = errno;
    if (error == EACCES)
        *forbidden = true;
    else if (error == ENOENT ? is_there(path) : error != ENOTDIR)
        return fail(c, WIRE_STEP_EXECVE, error);
    return 0;
}

/* As a shell searches: the first directory that has it. What is there but may not be executed is
 * remembered, and counts if nothing else is found. */
static int search(struct context *c, const char *command)
{
    const char *at = plan_string(c->plan, c->plan->settings->search_path);
    bool forbidden = false;
    for (;;) {
        size_t length = strcspn(at, ":");
        if (try_directory(c, at, length, command, &forbidden) < 0)
            return -1;
        at += length;
        if (*at++ == '\0')
            break;
    }
    return forbidden ? fail(c, WIRE_STEP_EXECVE, EACCES) : fail(c, WIRE_STEP_SEARCH, ENOENT);
}

static int execute(struct context *c)
{
    const struct plan *p = c->plan;
    const char *command =
        p->settings->command == WIRE_NONE ? p->argv[0] : plan_string(p, p->settings->command);
    enter_phase(c, WIRE_PHASE_EXEC);
    __atomic_store_n(&c->shared->executing, 1, __ATOMIC_RELEASE);
    if (!strchr(command, '/'))
        return search(c, command);
    execve(command, p->argv, p->environment);
    return fail(c, WIRE_STEP_EXECVE, errno);
}

static int prepare(struct context *c)
{
    enter_phase(c, WIRE_PHASE_DESCRIPTORS);
    if (session(c) < 0)
        return -1;
    enter_phase(c, WIRE_PHASE_DESCRIPTORS);
    if (payload_descriptors(c) < 0 || limits(c) < 0 || credentials_take(c) < 0)
        return -1;
    return payload_ready(c);
}

ON_OTHER_STACK _Noreturn void payload_run(struct context *c)
{
    if (prepare(c) == 0)
        execute(c);
    _exit(EXIT_SETUP);
}
