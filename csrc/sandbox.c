/* The child's way: namespaces entered and made, maps, identity, mounts, root; then it is init, or
 * becomes the payload. */

#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "executor.h"
#include "syscalls.h"

int peer_gone(int link)
{
    struct pollfd one = {.fd = link};
    return poll(&one, 1, 0) > 0 && (one.revents & (POLLHUP | POLLERR)) != 0;
}

/* Let the supervisor write the maps; it sends no more than its word that it is done. */
static int maps_by_supervisor(struct context *c, bool ask)
{
    struct wire_message message;
    if (ask && say(c, c->link, WIRE_MESSAGE_MAPS_WANTED, 0, -1) < 0)
        return -1;
    int got = message_receive(c->link, &message, NULL);
    if (got == 0)
        _exit(EXIT_SETUP); /* it failed and said so, or died */
    if (got < 0 || message.kind != WIRE_MESSAGE_MAPS_WRITTEN)
        return fail(c, WIRE_STEP_RECVMSG, got < 0 ? errno : EPROTO);
    return maps_readback(c);
}

static int take_maps(struct context *c, bool ask)
{
    uint16_t writer = c->plan->settings->writer;
    if (writer == WIRE_WRITER_NONE)
        return 0;
    enter_phase(c, WIRE_PHASE_MAPS);
    c->inside = true;
    return writer == WIRE_WRITER_SELF ? maps_write_self(c) : maps_by_supervisor(c, ask);
}

/* The user namespace first, for it gives the right to enter the others; pid last: it is only the
 * children's. */
static int enter_joined(struct context *c)
{
    static const uint32_t order[] = {
        WIRE_NAMESPACE_USER, WIRE_NAMESPACE_CGROUP, WIRE_NAMESPACE_IPC,   WIRE_NAMESPACE_UTS,
        WIRE_NAMESPACE_NET,  WIRE_NAMESPACE_TIME,   WIRE_NAMESPACE_MOUNT, WIRE_NAMESPACE_PID};
    const struct plan *p = c->plan;
    enter_phase(c, WIRE_PHASE_JOIN);
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        for (uint32_t j = 0; j < p->counts[WIRE_SECTION_JOINS]; j++)
            if (p->joins[j].namespace == order[i] &&
                setns(c->slots[p->joins[j].slot], (int)order[i]) < 0)
                return fail(c, WIRE_STEP_SETNS, errno);
    return 0;
}

static bool joins_pid(const struct plan *p)
{
    for (uint32_t i = 0; i < p->counts[WIRE_SECTION_JOINS]; i++)
        if (p->joins[i].namespace == WIRE_NAMESPACE_PID)
            return true;
    return false;
}

/* A new or joined pid namespace, and a new time namespace, are the next child's. That is made a
 * child of the supervisor, which is told; this process was only a way there. */
static int hand_over(struct context *c)
{
    int pidfd = -1;
    struct sys_clone_args args = {
        .flags = CLONE_PARENT | CLONE_PIDFD,
        .pidfd = (uint64_t)(uintptr_t)&pidfd,
    };
    pid_t pid = sys_clone3(&args);
    if (pid < 0)
        return fail(c, WIRE_STEP_CLONE3, errno);
    if (pid == 0)
        return 0;
    if (say(c, c->link, WIRE_MESSAGE_STARTED, pid, pidfd) < 0)
        sys_pidfd_send_signal(pidfd, SIGKILL);
    _exit(0);
}

static int join(struct context *c)
{
    const struct wire_settings *s = c->plan->settings;
    /* From inside a running sandbox nobody may look into this process. */
    if (s->writer == WIRE_WRITER_NONE && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return fail(c, WIRE_STEP_DUMPABLE, errno);
    if (enter_joined(c) < 0)
        return -1;
    enter_phase(c, WIRE_PHASE_CLONE);
    if (s->namespaces && unshare((int)s->namespaces) < 0)
        return fail(c, WIRE_STEP_UNSHARE, errno);
    if (take_maps(c, true) < 0)
        return -1;
    enter_phase(c, WIRE_PHASE_JOIN);
    if (joins_pid(c->plan) || (s->namespaces & (WIRE_NAMESPACE_PID | WIRE_NAMESPACE_TIME)))
        return hand_over(c);
    /* The supervisor waits for a word either way. */
    return say(c, c->link, WIRE_MESSAGE_STARTED, 0, -1);
}

/* The caller's session keyring, and the keys in it, are nobody's business inside. Filters refuse
 * keyctl(2) as a rule; without one a fresh keyring is joined, as far as the caller's quota of keys
 * allows it: with hundreds of sandboxes at once it may not. */
static void leave_keyring(const struct plan *p)
{
    if (p->settings->seccomp_length == 0)
        syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
}

static int identity(struct context *c)
{
    const struct plan *p = c->plan;
    enter_phase(c, WIRE_PHASE_IDENTITY);
    if (setup_identity(c) < 0)
        return -1;
    /* Its files in /proc were needed until here. */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return fail(c, WIRE_STEP_DUMPABLE, errno);
    leave_keyring(p);
    const char *name = plan_string(p, p->settings->hostname);
    if (name && sethostname(name, strlen(name)) < 0)
        return fail(c, WIRE_STEP_SETHOSTNAME, errno);
    name = plan_string(p, p->settings->domainname);
    if (name && setdomainname(name, strlen(name)) < 0)
        return fail(c, WIRE_STEP_SETDOMAINNAME, errno);
    return 0;
}

/* Any socket does to reach the devices of its network namespace. */
static int loopback(struct context *c)
{
    if (!setting(c, WIRE_SETTING_LOOPBACK))
        return 0;
    enter_phase(c, WIRE_PHASE_NETWORK);
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail(c, WIRE_STEP_SOCKET, errno);
    if (ioctl(fd, SIOCSIFFLAGS, &request) < 0)
        return fail(c, WIRE_STEP_IOCTL, errno);
    close(fd);
    return 0;
}

/* No operation needs a user namespace any more, apart from those that are made here. */
static int make_map_namespaces(struct context *c)
{
    for (uint32_t i = 0; i < c->plan->counts[WIRE_SECTION_OPERATIONS]; i++) {
        uint32_t map = c->plan->operations[i].map;
        c->operation = i;
        if (map != WIRE_NONE && c->outside[i] == -1 && map_namespace(c, map) < 0)
            return -1;
    }
    c->operation = WIRE_NONE;
    return 0;
}

/* The limit is the namespace's own: what it forbids here is forbidden below as well. It is set
 * before the mounts are made, for those may leave the machine's /proc read-only. */
static int lock_namespaces(struct context *c)
{
    char text[4];
    if (!setting(c, WIRE_SETTING_LOCK_NAMESPACES))
        return 0;
    if (make_map_namespaces(c) < 0)
        return -1;
    int fd = openat(c->proc, "sys/user/max_user_namespaces", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return fail(c, WIRE_STEP_OPEN, errno);
    if (pwrite(fd, "0", 1, 0) != 1)
        return fail(c, WIRE_STEP_WRITE, errno);
    if (pread(fd, text, sizeof text, 0) != 2 || text[0] != '0' || text[1] != '\n')
        return fail(c, WIRE_STEP_READBACK, EBADMSG);
    close(fd);
    return 0;
}

static int terminal(struct context *c)
{
    if (!setting(c, WIRE_SETTING_TERMINAL))
        return 0;
    enter_phase(c, WIRE_PHASE_TERMINAL);
    if (terminal_open(c) < 0 || say(c, c->link, WIRE_MESSAGE_TERMINAL, 0, c->master) < 0)
        return -1;
    close(c->master);
    c->master = -1;
    return 0;
}

static int set_up(struct context *c)
{
    bool joins = c->plan->counts[WIRE_SECTION_JOINS] > 0;
    if ((joins ? join(c) : take_maps(c, false)) < 0)
        return -1;
    if (identity(c) < 0 || loopback(c) < 0)
        return -1;
    enter_phase(c, WIRE_PHASE_MOUNTS);
    if (lock_namespaces(c) < 0 || mounts_inside(c) < 0)
        return -1;
    c->operation = WIRE_NONE;
    /* The machine's /dev/ptmx is out of sight afterwards. */
    if (terminal(c) < 0)
        return -1;
    enter_phase(c, WIRE_PHASE_ROOT);
    return root_enter(c);
}

_Noreturn void sandbox_main(struct context *c)
{
    if (set_up(c) < 0)
        _exit(EXIT_SETUP);
    if (setting(c, WIRE_SETTING_INIT))
        init_run(c);
    payload_run(c);
}
