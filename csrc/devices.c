/* Device nodes: the machine's, verified and bound, or made; and the plan's terminal. */

#include <errno.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "mounts.h"
#include "syscalls.h"

static bool is_device(const struct stat *st, operation op)
{
    return S_ISCHR(st->st_mode) && st->st_rdev == makedev(op->device_major, op->device_minor);
}

/* What is verified is the very mount that will be attached, not a path. */
int device_make(struct mounts *m, operation op)
{
    struct context *c = m->c;
    if (act_as_caller(m, true) < 0)
        return -1;
    int mount = sys_open_tree(AT_FDCWD, plan_string(c->plan, op->source), OPEN_TREE_CLONE);
    if (mount < 0) {
        if (has(op, WIRE_OPERATION_FLAG_OPTIONAL) && (errno == ENOENT || errno == ENOTDIR))
            return MOUNT_SKIPPED;
        return fail(c, WIRE_STEP_OPEN_TREE, errno);
    }
    struct stat st;
    if (fstat(mount, &st) < 0)
        return fail(c, WIRE_STEP_FSTAT, errno);
    if (!is_device(&st, op))
        return fail(c, WIRE_STEP_CHECK, ENODEV);
    if (set_flags(c, mount, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC) < 0)
        return -1;
    return mount;
}

/* Change owner and mode of a node by descriptor: it may be replaced by a link at any time. */
static int finish_node(struct context *c, int parent, const char *name, operation op)
{
    struct stat st;
    int fd = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return fail(c, WIRE_STEP_OPEN, errno);
    if (fstat(fd, &st) < 0)
        return fail(c, WIRE_STEP_FSTAT, errno);
    if (!is_device(&st, op))
        return fail(c, WIRE_STEP_MKNODAT, EEXIST);
    int result = owner_and_mode(c, fd, op);
    close(fd);
    return result;
}

int device_node(struct mounts *m, operation op)
{
    struct context *c = m->c;
    const char *name;
    int parent = parent_open(m, op, &name);
    if (parent < 0)
        return -1;
    mode_t mode = op->mode == WIRE_NONE ? 0666 : op->mode & 0777;
    dev_t device = makedev(op->device_major, op->device_minor);
    if (mknodat(parent, name, S_IFCHR | mode, device) < 0 && errno != EEXIST)
        return fail(c, WIRE_STEP_MKNODAT, errno);
    return finish_node(c, parent, name, op);
}

int null_open(struct mounts *m)
{
    struct context *c = m->c;
    struct stat st;
    if (m->null >= 0)
        return m->null;
    m->null = open("/dev/null", O_PATH | O_CLOEXEC);
    if (m->null < 0)
        return fail(c, WIRE_STEP_OPEN, errno);
    if (fstat(m->null, &st) < 0)
        return fail(c, WIRE_STEP_FSTAT, errno);
    if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3))
        return fail(c, WIRE_STEP_CHECK, ENODEV);
    return m->null;
}

/* The slave is bound by the descriptor that came from the kernel, never by a name in /dev/pts. */
int console_bind(struct mounts *m, operation op)
{
    struct context *c = m->c;
    if (!setting(c, WIRE_SETTING_TERMINAL))
        return 0;
    if (c->terminal < 0 && terminal_open(c) < 0)
        return -1;
    int mount = clone_mount(c, c->terminal);
    if (mount < 0 || set_flags(c, mount, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC) < 0)
        return -1;
    return attach(m, op, mount, false, true);
}
