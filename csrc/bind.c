/* Parts of the machine's tree: cloned from a path or a descriptor, ID-mapped where asked. */

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "mounts.h"
#include "syscalls.h"

int clone_mount(struct context *c, int fd)
{
    int mount = sys_open_tree(fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE);
    return mount < 0 ? fail(c, WIRE_STEP_OPEN_TREE, errno) : mount;
}

/* A descriptor that was opened in another mount namespace cannot be cloned (EINVAL). The same
 * place is looked up in this one by the path that the kernel knows, and must be the same file. */
static int clone_namesake(struct context *c, int slot, unsigned int flags)
{
    char link[NUMBER_PATH];
    char path[PATH_MAX];
    ssize_t length = readlink(descriptor_path(link, slot), path, sizeof path - 1);
    if (length < 0)
        return fail(c, WIRE_STEP_READLINK, errno);
    path[length] = '\0';
    int mount = sys_open_tree(AT_FDCWD, path, flags);
    if (mount < 0)
        return fail(c, WIRE_STEP_OPEN_TREE, errno);
    struct stat given;
    struct stat found;
    if (fstat(slot, &given) < 0 || fstat(mount, &found) < 0)
        return fail(c, WIRE_STEP_FSTAT, errno);
    if (given.st_dev != found.st_dev || given.st_ino != found.st_ino)
        return fail(c, WIRE_STEP_CHECK, ESTALE);
    return mount;
}

static int clone_source(struct mounts *m, operation op)
{
    struct context *c = m->c;
    unsigned int flags = OPEN_TREE_CLONE;
    if (has(op, WIRE_OPERATION_FLAG_RECURSIVE))
        flags |= AT_RECURSIVE;
    int mount;
    if (op->slot != WIRE_NONE) {
        int slot = c->slots[op->slot];
        mount = sys_open_tree(slot, "", flags | AT_EMPTY_PATH);
        if (mount < 0 && errno == EINVAL)
            return clone_namesake(c, slot, flags);
    } else if (c->opened) {
        if (c->sources[c->operation] < 0)
            return MOUNT_SKIPPED;
        mount = sys_open_tree(c->sources[c->operation], "", flags | AT_EMPTY_PATH);
    } else {
        mount = sys_open_tree(AT_FDCWD, plan_string(c->plan, op->source), flags);
        if (mount < 0 && has(op, WIRE_OPERATION_FLAG_OPTIONAL) &&
            (errno == ENOENT || errno == ENOTDIR))
            return MOUNT_SKIPPED;
    }
    return mount < 0 ? fail(c, WIRE_STEP_OPEN_TREE, errno) : mount;
}

int bind_make(struct mounts *m, operation op)
{
    struct context *c = m->c;
    if (act_as_caller(m, true) < 0)
        return -1;
    int mount = clone_source(m, op);
    if (mount < 0)
        return mount;
    int userns = -1;
    uint32_t map = has(op, WIRE_OPERATION_FLAG_OWN_MAP) ? 0 : op->map;
    if (map != WIRE_NONE) {
        userns = act_as_caller(m, false) < 0 ? -1 : map_namespace(c, map);
        if (userns < 0)
            return -1;
    }
    unsigned int flags = has(op, WIRE_OPERATION_FLAG_RECURSIVE) ? AT_RECURSIVE : 0;
    if (set_attributes(c, mount, op, userns, flags) < 0)
        return -1;
    return mount;
}

/* For kernels before 6.8: the mount's options (the sixth field) in /proc/self/mountinfo. */
static int mountinfo_says(struct context *c, uint64_t id, const char *option)
{
    int fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail(c, WIRE_STEP_OPEN, errno);
    char buffer[4096];
    char word[32];
    size_t length = 0;
    unsigned int field = 0;
    uint64_t number = 0;
    int said = 0;
    ssize_t got;
    while ((got = read(fd, buffer, sizeof buffer)) > 0) {
        for (ssize_t i = 0; i < got; i++) {
            char ch = buffer[i];
            if (field == 0 && ch >= '0' && ch <= '9')
                number = number * 10 + (uint64_t)(ch - '0');
            if (field == 5 && (ch == ',' || ch == ' ')) {
                word[length] = '\0';
                if (number == id && strcmp(word, option) == 0)
                    said = 1;
                length = 0;
            } else if (field == 5 && length < sizeof word - 1) {
                word[length++] = ch;
            }
            if (ch == ' ') {
                field++;
            } else if (ch == '\n') {
                field = 0;
                number = 0;
                length = 0;
            }
        }
    }
    if (got < 0)
        return fail(c, WIRE_STEP_READ, errno);
    close(fd);
    return said;
}

/* Read back what the kernel made of MOUNT_ATTR_IDMAP: a sandbox whose files belong to other IDs
 * than planned must not start. The mount has to be attached, for statmount(2) to find it. */
int verify_idmapped(struct context *c, int fd)
{
    struct sys_statx st;
    struct sys_statmount mount;
    int said;
    int flags = AT_EMPTY_PATH | AT_STATX_DONT_SYNC;
    if (sys_statx(fd, "", flags, STATX_MNT_ID_UNIQUE, &st) == 0 &&
        (st.mask & STATX_MNT_ID_UNIQUE) &&
        sys_statmount(st.mount, SYS_STATMOUNT_MNT_BASIC, &mount) == 0 &&
        (mount.mask & SYS_STATMOUNT_MNT_BASIC)) {
        said = (mount.attributes & MOUNT_ATTR_IDMAP) != 0;
    } else {
        if (sys_statx(fd, "", flags, STATX_MNT_ID, &st) < 0)
            return fail(c, WIRE_STEP_FSTAT, errno);
        said = mountinfo_says(c, st.mount, "idmapped");
        if (said < 0)
            return -1;
    }
    return said ? 0 : fail(c, WIRE_STEP_READBACK, EINVAL);
}

int bind_attach(struct mounts *m, operation op, int mount)
{
    struct context *c = m->c;
    struct stat st;
    if (fstat(mount, &st) < 0)
        return fail(c, WIRE_STEP_FSTAT, errno);
    bool directory = S_ISDIR(st.st_mode);
    if (op->map == WIRE_NONE && !has(op, WIRE_OPERATION_FLAG_OWN_MAP))
        return attach(m, op, mount, directory, true);
    int kept = fcntl(mount, F_DUPFD_CLOEXEC, 0);
    if (kept < 0)
        return fail(c, WIRE_STEP_DUP, errno);
    if (attach(m, op, mount, directory, true) < 0 || verify_idmapped(c, kept) < 0)
        return -1;
    close(kept);
    return 0;
}
