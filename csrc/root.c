/* The new root: stacked on the present "/", entered with pivot_root(2). */

#include <errno.h>
#include <sys/mount.h>

#include "mounts.h"
#include "syscalls.h"

/* The whole old tree, in one atomic step, before anything is mounted: from here on nothing that
 * the sandbox mounts is seen outside. Fails (EINVAL) where the present root is no mount, in a
 * chroot; there pivot_root would not work either. */
int root_propagate(struct context *c)
{
    struct sys_mount_attr attr = {.propagation = c->plan->settings->root_propagation};
    if (attr.propagation == WIRE_PROPAGATION_KEEP)
        return 0;
    if (sys_mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &attr) < 0)
        return fail(c, WIRE_STEP_MOUNT_SETATTR, errno);
    return 0;
}

/* "/" leads to the topmost mount there, so every further root covers the one before. What is
 * below stays in reach of this process only: its own root is still the old one. */
int root_attach(struct mounts *m, int mount, bool directory)
{
    struct context *c = m->c;
    if (!setting(c, WIRE_SETTING_PIVOT))
        return fail(c, WIRE_STEP_CHECK, EINVAL);
    if (!directory)
        return fail(c, WIRE_STEP_CHECK, ENOTDIR);
    if (sys_move_mount(mount, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return fail(c, WIRE_STEP_MOVE_MOUNT, errno);
    parent_remember(m, NULL, -1);
    if (c->root >= 0)
        close(c->root);
    c->root = mount;
    c->root_in_place = false;
    return 0;
}

/* Is the new root all of the present tree ("/" bound recursively at "/", first of all)? The mount
 * namespace already has a copy of its own of that tree: another copy, and to take this one down
 * again, would cost more than all other mounts. Only together with a new user namespace: that the
 * kernel refuses in a chroot (EPERM), where the present root could be left upwards. */
bool root_is_present(const struct context *c, operation op)
{
    const struct plan *p = c->plan;
    uint32_t both = WIRE_NAMESPACE_USER | WIRE_NAMESPACE_MOUNT;
    return op == p->operations && op->kind == WIRE_OPERATION_BIND &&
           op->flags == WIRE_OPERATION_FLAG_RECURSIVE && op->map == WIRE_NONE &&
           op->source != WIRE_NONE && is_root(plan_string(p, op->source)) &&
           is_root(plan_string(p, op->target)) && (p->settings->namespaces & both) == both &&
           (p->settings->flags & WIRE_SETTING_PIVOT) != 0;
}

int root_in_place(struct mounts *m, operation op)
{
    struct context *c = m->c;
    c->root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (c->root < 0)
        return fail(c, WIRE_STEP_OPEN, errno);
    c->root_in_place = true;
    return set_attributes(c, c->root, op, -1, AT_RECURSIVE);
}

bool privately(const struct context *c)
{
    return c->phase != WIRE_PHASE_OUTSIDE &&
           (c->plan->settings->namespaces & WIRE_NAMESPACE_MOUNT) != 0;
}

/* Kernels before 6.15 neither clone from a detached mount nor take it as an overlay's upper layer.
 * For a moment it is attached on top of "/", where only this process, in its own mount namespace,
 * could see it. `directory` keeps the working directory meanwhile. */
int hold_attached(struct context *c, int mount, int *directory)
{
    *directory = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (*directory < 0)
        return fail(c, WIRE_STEP_OPEN, errno);
    if (sys_move_mount(mount, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return fail(c, WIRE_STEP_MOVE_MOUNT, errno);
    return 0;
}

int release_attached(struct context *c, int mount, int directory)
{
    if (fchdir(mount) < 0)
        return fail(c, WIRE_STEP_FCHDIR, errno);
    if (umount2(".", MNT_DETACH) < 0)
        return fail(c, WIRE_STEP_UMOUNT, errno);
    if (fchdir(directory) < 0)
        return fail(c, WIRE_STEP_FCHDIR, errno);
    close(directory);
    return 0;
}

/* pivot_root(".", ".") puts the old root on top of the new one, where "." finds it next
 * (pivot_root(2), NOTES); with it goes all that was stacked between. */
int root_enter(struct context *c)
{
    if (!setting(c, WIRE_SETTING_PIVOT))
        return 0;
    if (c->root < 0)
        return fail(c, WIRE_STEP_CHECK, EINVAL);
    if (c->root_in_place)
        return chdir("/") < 0 ? fail(c, WIRE_STEP_CHDIR, errno) : 0;
    if (fchdir(c->root) < 0)
        return fail(c, WIRE_STEP_FCHDIR, errno);
    if (sys_pivot_root(".", ".") < 0)
        return fail(c, WIRE_STEP_PIVOT_ROOT, errno);
    if (umount2(".", MNT_DETACH) < 0)
        return fail(c, WIRE_STEP_UMOUNT, errno);
    if (chdir("/") < 0)
        return fail(c, WIRE_STEP_CHDIR, errno);
    return 0;
}
