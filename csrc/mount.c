/* The mount phases: sources first, then the operations in the order of the plan.
 *
 * All sources are opened before anything is attached. So they are the machine's paths as they were,
 * and no path can lead into the new root: once that is stacked on "/", the ".." of a link such as
 * /etc/resolv.conf -> ../run/... would. */

#include <errno.h>
#include <sys/fsuid.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "mounts.h"
#include "syscalls.h"

/* Sources are opened with the caller's own IDs where set-up acts as another one. Capabilities stay
 * (SECBIT_NO_SETUID_FIXUP). Neither call reports failure; asking for an impossible ID tells what is
 * in force (setfsuid(2)). */
int act_as_caller(struct mounts *m, bool on)
{
    struct context *c = m->c;
    if (m->as_caller == on || c->caller_uid == WIRE_NONE)
        return 0;
    uid_t uid = on ? c->caller_uid : geteuid();
    gid_t gid = on ? c->caller_gid : getegid();
    setfsuid(uid);
    if ((uid_t)setfsuid((uid_t)-1) != uid)
        return fail(c, WIRE_STEP_SETRESUID, EPERM);
    setfsgid(gid);
    if ((gid_t)setfsgid((gid_t)-1) != gid)
        return fail(c, WIRE_STEP_SETRESGID, EPERM);
    m->as_caller = on;
    return 0;
}

/* Set attributes, propagation and ID map in one call. mount_setattr(2) is atomic, with
 * AT_RECURSIVE over the whole tree: it changes all mounts or fails, so nothing is read back. */
int set_attributes(struct context *c, int mount, operation op, int userns, unsigned int flags)
{
    struct sys_mount_attr attr = {
        .attr_set = op->attributes_set,
        .attr_clr = op->attributes_clear,
        .propagation = op->propagation,
    };
    /* The access-time modes are one field of several bits, which is cleared as a whole. */
    if ((attr.attr_set | attr.attr_clr) & MOUNT_ATTR__ATIME)
        attr.attr_clr |= MOUNT_ATTR__ATIME;
    if (userns >= 0) {
        attr.attr_set |= MOUNT_ATTR_IDMAP;
        attr.userns_fd = (uint64_t)userns;
    }
    /* A mount made outside escapes the change of the whole tree: the same holds for it. */
    if (attr.propagation == WIRE_PROPAGATION_KEEP && c->phase == WIRE_PHASE_OUTSIDE) {
        attr.propagation = c->plan->settings->root_propagation;
        flags |= AT_RECURSIVE;
    }
    if (attr.attr_set == 0 && attr.attr_clr == 0 && attr.propagation == 0)
        return 0;
    if (sys_mount_setattr(mount, "", flags | AT_EMPTY_PATH, &attr) < 0)
        return fail(c, WIRE_STEP_MOUNT_SETATTR, errno);
    return 0;
}

int set_flags(struct context *c, int mount, uint64_t flags)
{
    struct sys_mount_attr attr = {.attr_set = flags};
    if (flags & MOUNT_ATTR__ATIME)
        attr.attr_clr = MOUNT_ATTR__ATIME;
    if (sys_mount_setattr(mount, "", AT_EMPTY_PATH, &attr) < 0)
        return fail(c, WIRE_STEP_MOUNT_SETATTR, errno);
    return 0;
}

int attach(struct mounts *m, operation op, int mount, bool directory, bool follow)
{
    struct context *c = m->c;
    const char *path = target_of(m, op);
    if (is_root(path))
        return root_attach(m, mount, directory);
    int target = directory ? target_directory(m, op, follow) : target_file(m, op);
    if (target < 0)
        return -1;
    unsigned int flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    if (sys_move_mount(mount, "", target, "", flags) < 0)
        return fail(c, WIRE_STEP_MOVE_MOUNT, errno);
    close(target);
    /* A directory may hide what was found before, and is where the next targets lie. */
    if (directory)
        parent_remember(m, path, mount);
    else
        close(mount);
    return 0;
}

/* Make what an operation takes from the machine: a descriptor, MOUNT_SKIPPED, or -1 with *failed
 * set where that means more than "nothing to make". */
static int make_source(struct mounts *m, operation op, bool *failed)
{
    int mount;
    if (root_is_present(m->c, op))
        return -1;
    if (op->kind == WIRE_OPERATION_BIND)
        mount = bind_make(m, op);
    else if (op->kind == WIRE_OPERATION_OVERLAY)
        mount = overlay_make(m, op);
    else if (op->kind == WIRE_OPERATION_DEVICE && !has(op, WIRE_OPERATION_FLAG_MKNOD))
        mount = device_make(m, op);
    else
        return -1;
    *failed = mount == -1;
    return mount;
}

static int make_sources(struct mounts *m, bool outside)
{
    struct context *c = m->c;
    uint32_t count = c->plan->counts[WIRE_SECTION_OPERATIONS];
    bool failed = false;
    for (c->operation = 0; c->operation < count; c->operation++) {
        operation op = &c->plan->operations[c->operation];
        if (has(op, WIRE_OPERATION_FLAG_OUTSIDE) != outside)
            continue;
        c->outside[c->operation] = make_source(m, op, &failed);
        if (failed)
            return -1;
    }
    c->operation = WIRE_NONE;
    return act_as_caller(m, false);
}

static int perform(struct mounts *m, operation op, int mount)
{
    switch (op->kind) {
    case WIRE_OPERATION_BIND:
        if (root_is_present(m->c, op))
            return root_in_place(m, op);
        return bind_attach(m, op, mount);
    case WIRE_OPERATION_OVERLAY:
        return attach(m, op, mount, true, true);
    case WIRE_OPERATION_DEVICE:
        if (has(op, WIRE_OPERATION_FLAG_MKNOD))
            return device_node(m, op);
        return attach(m, op, mount, false, true);
    case WIRE_OPERATION_TMPFS:
    case WIRE_OPERATION_PROC:
    case WIRE_OPERATION_SYSFS:
    case WIRE_OPERATION_DEVPTS:
    case WIRE_OPERATION_MQUEUE:
    case WIRE_OPERATION_CGROUP2:
        return filesystem_mount(m, op);
    case WIRE_OPERATION_DIRECTORY:
        return directory_create(m, op);
    case WIRE_OPERATION_FILE:
        return file_create(m, op);
    case WIRE_OPERATION_BIND_FILE:
        return file_bind(m, op);
    case WIRE_OPERATION_SYMLINK:
        return symlink_create(m, op);
    case WIRE_OPERATION_MASK:
        return mask_cover(m, op);
    case WIRE_OPERATION_REMOUNT:
        return remount_change(m, op);
    case WIRE_OPERATION_CHMOD:
        return mode_change(m, op);
    case WIRE_OPERATION_SYSCTL:
        return sysctl_write(m, op);
    case WIRE_OPERATION_CONSOLE:
        return console_bind(m, op);
    default:
        return fail(m->c, WIRE_STEP_CHECK, EINVAL);
    }
}

static int perform_all(struct mounts *m)
{
    struct context *c = m->c;
    uint32_t count = c->plan->counts[WIRE_SECTION_OPERATIONS];
    for (c->operation = 0; c->operation < count; c->operation++) {
        operation op = &c->plan->operations[c->operation];
        int mount = c->outside[c->operation];
        if (mount == MOUNT_SKIPPED)
            continue;
        /* Without a root only one can be made. A sysctl has its own tree. */
        if (c->root < 0 && op->kind != WIRE_OPERATION_SYSCTL && !is_root(target_of(m, op)))
            return fail(c, WIRE_STEP_CHECK, ENOENT);
        c->outside[c->operation] = -1;
        if (perform(m, op, mount) < 0)
            return -1;
    }
    c->operation = WIRE_NONE;
    return 0;
}

static int open_source(struct context *c, uint32_t path, int flags, bool optional)
{
    if (path == WIRE_NONE)
        return -1;
    int fd = open(plan_string(c->plan, path), O_PATH | O_CLOEXEC | flags);
    if (fd >= 0 || (optional && (errno == ENOENT || errno == ENOTDIR)))
        return fd;
    return fail(c, WIRE_STEP_OPEN, errno);
}

/* The paths of one operation, in the process that still has the caller's IDs. */
static int open_sources(struct context *c, operation op)
{
    uint32_t i = c->operation;
    bool overlay = op->kind == WIRE_OPERATION_OVERLAY;
    int flags = overlay ? O_DIRECTORY : 0;
    if ((op->kind != WIRE_OPERATION_BIND && !overlay) || has(op, WIRE_OPERATION_FLAG_OUTSIDE) ||
        root_is_present(c, op))
        return 0;
    c->sources[i] = open_source(c, op->source, flags, has(op, WIRE_OPERATION_FLAG_OPTIONAL));
    if (!overlay)
        return 0;
    c->works[i] = open_source(c, op->work, flags, false);
    for (uint32_t j = 0; j < op->lower_count; j++) {
        uint32_t word = op->lower_first + j;
        c->lowers[word] = open_source(c, c->plan->words[word], flags, false);
    }
    return 0;
}

int sources_open(struct context *c)
{
    uint16_t before = c->phase;
    enter_phase(c, WIRE_PHASE_MOUNTS);
    c->opened = true;
    for (uint32_t i = 0; i < c->plan->counts[WIRE_SECTION_OPERATIONS]; i++) {
        c->operation = i;
        if (open_sources(c, &c->plan->operations[i]) < 0 || c->shared->failure.noted)
            return -1;
    }
    c->operation = WIRE_NONE;
    enter_phase(c, before);
    return 0;
}

/* A descriptor is held for every source at once; a long plan may need more than is usual. */
static int allow_descriptors(struct context *c, struct rlimit *before)
{
    if (getrlimit(RLIMIT_NOFILE, before) < 0)
        return fail(c, WIRE_STEP_SETRLIMIT, errno);
    struct rlimit wide = {before->rlim_max, before->rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &wide) < 0)
        return fail(c, WIRE_STEP_SETRLIMIT, errno);
    return 0;
}

static struct mounts start(struct context *c)
{
    return (struct mounts){.c = c, .parent = -1, .null = -1, .files = -1};
}

static void finish(struct mounts *m)
{
    parent_remember(m, NULL, -1);
    if (m->null >= 0)
        close(m->null);
    if (m->files >= 0)
        close(m->files);
}

int mounts_outside(struct context *c)
{
    struct mounts m = start(c);
    /* Set-up has no other identity here: the caller's IDs are the process's own. */
    uid_t caller = c->caller_uid;
    c->caller_uid = WIRE_NONE;
    int result = make_sources(&m, true);
    c->caller_uid = caller;
    finish(&m);
    return result;
}

int mounts_inside(struct context *c)
{
    struct mounts m = start(c);
    struct rlimit limit;
    bool many = c->plan->counts[WIRE_SECTION_OPERATIONS] > 200;
    if (many && allow_descriptors(c, &limit) < 0)
        return -1;
    if (root_propagate(c) < 0)
        return -1;
    if (!setting(c, WIRE_SETTING_PIVOT)) {
        c->root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (c->root < 0)
            return fail(c, WIRE_STEP_OPEN, errno);
    }
    mode_t mask = umask(0); /* modes are what the plan says */
    if (make_sources(&m, false) < 0 || perform_all(&m) < 0)
        return -1;
    umask(mask);
    finish(&m);
    if (many && setrlimit(RLIMIT_NOFILE, &limit) < 0)
        return fail(c, WIRE_STEP_SETRLIMIT, errno);
    return 0;
}
