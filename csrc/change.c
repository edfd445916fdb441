/* What changes things that are there already: modes, masks, attributes of mounts, sysctls. */

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "mounts.h"
#include "syscalls.h"

#define PROC_MAGIC 0x9fa0

int mode_change(struct mounts *m, operation op)
{
    struct context *c = m->c;
    struct stat st;
    int fd = target_existing(m, op, O_NOFOLLOW);
    if (fd < 0)
        return -1;
    if (fstat(fd, &st) < 0)
        return fail(c, WIRE_STEP_FSTAT, errno);
    if (S_ISLNK(st.st_mode))
        return fail(c, WIRE_STEP_FCHMOD, ELOOP);
    int result = owner_and_mode(c, fd, op);
    close(fd);
    return result;
}

static int empty_directory(struct context *c)
{
    int fs = filesystem_open(c, "tmpfs");
    if (fs < 0 || filesystem_set(c, fs, "mode", "0555") < 0 ||
        filesystem_set(c, fs, "size", "4096") < 0)
        return -1;
    return filesystem_make(
        c, fs, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
}

static int empty_file(struct mounts *m)
{
    int null = null_open(m);
    int mount = null < 0 ? -1 : clone_mount(m->c, null);
    if (mount < 0 || set_flags(m->c, mount, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC) < 0)
        return -1;
    return mount;
}

/* Attach a mount to what is open already. Takes both. */
static int cover(struct mounts *m, int mount, int target)
{
    unsigned int flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    if (sys_move_mount(mount, "", target, "", flags) < 0)
        return fail(m->c, WIRE_STEP_MOVE_MOUNT, errno);
    close(mount);
    close(target);
    parent_remember(m, NULL, -1); /* it may be hidden now */
    return 0;
}

int mask_cover(struct mounts *m, operation op)
{
    struct context *c = m->c;
    struct stat st;
    int target = target_existing(m, op, 0);
    if (target < 0)
        return target == MOUNT_SKIPPED ? 0 : -1;
    if (fstat(target, &st) < 0)
        return fail(c, WIRE_STEP_FSTAT, errno);
    int mount = S_ISDIR(st.st_mode) ? empty_directory(c) : empty_file(m);
    return mount < 0 ? -1 : cover(m, mount, target);
}

/* What is no mount becomes one, bound over itself with all that is mounted below: an attribute
 * cannot be given to less than a mount. */
static int bind_itself(struct mounts *m, operation op, int target, unsigned int recursive)
{
    struct context *c = m->c;
    int mount = sys_open_tree(target, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | AT_RECURSIVE);
    if (mount < 0)
        return fail(c, WIRE_STEP_OPEN_TREE, errno);
    return set_attributes(c, mount, op, -1, recursive) < 0 ? -1 : cover(m, mount, target);
}

int remount_change(struct mounts *m, operation op)
{
    struct context *c = m->c;
    struct sys_statx st;
    unsigned int recursive = has(op, WIRE_OPERATION_FLAG_RECURSIVE) ? AT_RECURSIVE : 0;
    int target = target_existing(m, op, 0);
    if (target < 0)
        return target == MOUNT_SKIPPED ? 0 : -1;
    if (sys_statx(target, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &st) < 0)
        return fail(c, WIRE_STEP_FSTAT, errno);
    bool mounted = (st.attributes & STATX_ATTR_MOUNT_ROOT) != 0;
    if (!mounted && (op->attributes_set | op->attributes_clear) != 0)
        return bind_itself(m, op, target, recursive);
    int result = set_attributes(c, target, op, -1, recursive);
    close(target);
    return result;
}

/* A procfs of our own, attached nowhere: nothing in the new root can stand in for it. */
static int procfs_open(struct context *c)
{
    struct statfs st;
    if (c->procfs >= 0)
        return 0;
    int fs = filesystem_open(c, "proc");
    if (fs < 0)
        return -1;
    c->procfs = filesystem_make(c, fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    if (c->procfs < 0)
        return -1;
    if (fstatfs(c->procfs, &st) < 0 || st.f_type != PROC_MAGIC)
        return fail(c, WIRE_STEP_STATFS, EINVAL);
    return 0;
}

static const char *skip_space(const char *text)
{
    return text + strspn(text, " \t\n");
}

/* Compare word by word: the kernel puts tabs between the numbers of "1 2 3", and a newline. */
static bool same_words(const char *a, const char *b)
{
    for (;;) {
        a = skip_space(a);
        b = skip_space(b);
        size_t length = strcspn(a, " \t\n");
        if (length != strcspn(b, " \t\n") || memcmp(a, b, length) != 0)
            return false;
        if (length == 0)
            return true;
        a += length;
        b += length;
    }
}

static int write_and_compare(struct context *c, int fd, const char *text)
{
    char present[4096];
    ssize_t length = (ssize_t)strlen(text);
    ssize_t done = pwrite(fd, text, (size_t)length, 0);
    if (done != length)
        return fail(c, WIRE_STEP_WRITE, done < 0 ? errno : EIO);
    length = pread(fd, present, sizeof present - 1, 0);
    if (length < 0)
        return fail(c, WIRE_STEP_READ, errno);
    present[length] = '\0';
    return same_words(present, text) ? 0 : fail(c, WIRE_STEP_READBACK, EINVAL);
}

int sysctl_write(struct mounts *m, operation op)
{
    struct context *c = m->c;
    char path[512] = "sys/";
    const char *name = target_of(m, op);
    while (*name == '/')
        name++;
    if (*name == '\0' || strlen(name) + sizeof "sys/" > sizeof path)
        return fail(c, WIRE_STEP_CHECK, EINVAL);
    strcat(path, name);
    if (procfs_open(c) < 0)
        return -1;
    int fd = sys_openat2(c->procfs, path, O_RDWR, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
    if (fd < 0)
        return fail(c, WIRE_STEP_OPENAT2, errno);
    int result = write_and_compare(c, fd, plan_string(c->plan, op->text));
    close(fd);
    return result;
}
