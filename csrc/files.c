/* Directories, files and links in the new root. The last component is never followed: what is
 * written and whose owner is changed is what was created here, by descriptor. */

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include "mounts.h"
#include "syscalls.h"

/* chmod by an O_PATH descriptor: fchmod(2) refuses that, and fchmodat2(2) came with Linux 6.6. */
static int change_mode(int fd, mode_t mode)
{
    char name[NUMBER_PATH];
    if (sys_fchmodat2(fd, "", mode, AT_EMPTY_PATH) == 0)
        return 0;
    if (errno != ENOSYS)
        return -1;
    return chmod(descriptor_path(name, fd), mode);
}

/* The owner first: chown(2) takes set-user-ID bits away. */
int owner_and_mode(struct context *c, int fd, operation op)
{
    if ((op->uid != WIRE_NONE || op->gid != WIRE_NONE) &&
        fchownat(fd, "", op->uid, op->gid, AT_EMPTY_PATH) < 0)
        return fail(c, WIRE_STEP_FCHOWN, errno);
    if (op->mode != WIRE_NONE && change_mode(fd, op->mode & 07777) < 0)
        return fail(c, WIRE_STEP_FCHMOD, errno);
    return 0;
}

/* mkdirat found something: a directory, or a link to one inside the root, is left as it is. */
static int directory_exists(struct mounts *m, operation op)
{
    if (has(op, WIRE_OPERATION_FLAG_EXCLUSIVE))
        return fail(m->c, WIRE_STEP_MKDIRAT, EEXIST);
    int fd = resolve(m, target_of(m, op), O_PATH | O_DIRECTORY);
    if (fd < 0)
        return fail(m->c, WIRE_STEP_MKDIRAT, errno == ENOENT ? EEXIST : errno);
    close(fd);
    return 0;
}

int directory_create(struct mounts *m, operation op)
{
    struct context *c = m->c;
    const char *name;
    if (is_root(target_of(m, op)))
        return directory_exists(m, op);
    int parent = parent_open(m, op, &name);
    if (parent < 0)
        return -1;
    if (mkdirat(parent, name, op->mode == WIRE_NONE ? 0755 : op->mode & 0777) < 0)
        return errno == EEXIST ? directory_exists(m, op) : fail(c, WIRE_STEP_MKDIRAT, errno);
    if (op->mode == WIRE_NONE && op->uid == WIRE_NONE && op->gid == WIRE_NONE)
        return 0;
    int fd = openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return fail(c, WIRE_STEP_OPEN, errno);
    int result = owner_and_mode(c, fd, op);
    close(fd);
    return result;
}

static int write_all(struct context *c, int fd, const uint8_t *bytes, size_t length)
{
    while (length > 0) {
        ssize_t done = write(fd, bytes, length);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return fail(c, WIRE_STEP_WRITE, errno);
        bytes += done;
        length -= (size_t)done;
    }
    return 0;
}

/* Copy what the descriptor still holds, from its position on, as from a pipe. */
static int copy_rest(struct context *c, int from, int to)
{
    uint8_t buffer[16384];
    ssize_t got;
    do {
        got = sendfile(to, from, NULL, 1 << 30);
    } while (got > 0 || (got < 0 && errno == EINTR));
    if (got == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return fail(c, WIRE_STEP_WRITE, errno);
    while ((got = read(from, buffer, sizeof buffer)) != 0) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail(c, WIRE_STEP_READ, errno);
        if (write_all(c, to, buffer, (size_t)got) < 0)
            return -1;
    }
    return 0;
}

static int write_content(struct context *c, int fd, operation op)
{
    if (op->slot != WIRE_NONE)
        return copy_rest(c, c->slots[op->slot], fd);
    return write_all(c, fd, c->plan->data + op->content_offset, op->content_length);
}

static int create_file(int parent, const char *name, mode_t mode)
{
    return openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
}

/* Open an existing regular file, and nothing else, for rewriting. Not blocking on a FIFO. A file
 * with further names, which may lie outside the root, leaves this one to a new file. */
static int reopen(struct context *c, int parent, const char *name, mode_t mode)
{
    struct stat st;
    int fd = openat(parent, name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return fail(c, WIRE_STEP_OPEN, errno);
    if (fstat(fd, &st) < 0)
        return fail(c, WIRE_STEP_FSTAT, errno);
    if (!S_ISREG(st.st_mode))
        return fail(c, WIRE_STEP_OPEN, EEXIST);
    if (st.st_nlink > 1) {
        close(fd);
        if (unlinkat(parent, name, 0) < 0)
            return fail(c, WIRE_STEP_UNLINK, errno);
        fd = create_file(parent, name, mode);
        return fd < 0 ? fail(c, WIRE_STEP_OPEN, errno) : fd;
    }
    if (ftruncate(fd, 0) < 0)
        return fail(c, WIRE_STEP_WRITE, errno);
    return fd;
}

int file_create(struct mounts *m, operation op)
{
    struct context *c = m->c;
    const char *name;
    int parent = parent_open(m, op, &name);
    if (parent < 0)
        return -1;
    mode_t mode = op->mode == WIRE_NONE ? 0644 : op->mode & 0777;
    int fd = create_file(parent, name, mode);
    if (fd < 0) {
        if (errno != EEXIST || has(op, WIRE_OPERATION_FLAG_EXCLUSIVE))
            return fail(c, WIRE_STEP_OPEN, errno);
        if (has(op, WIRE_OPERATION_FLAG_IF_MISSING))
            return 0;
        fd = reopen(c, parent, name, mode);
        if (fd < 0)
            return -1;
    }
    if (write_content(c, fd, op) < 0 || owner_and_mode(c, fd, op) < 0)
        return -1;
    close(fd);
    return 0;
}

int symlink_create(struct mounts *m, operation op)
{
    struct context *c = m->c;
    const char *text = plan_string(c->plan, op->text);
    const char *name;
    int parent = parent_open(m, op, &name);
    if (parent < 0)
        return -1;
    if (symlinkat(text, parent, name) == 0)
        return 0;
    if (errno != EEXIST || has(op, WIRE_OPERATION_FLAG_EXCLUSIVE))
        return fail(c, WIRE_STEP_SYMLINKAT, errno);
    if (has(op, WIRE_OPERATION_FLAG_IF_MISSING))
        return 0;
    char present[PATH_MAX];
    ssize_t length = readlinkat(parent, name, present, sizeof present);
    if (length < 0 || (size_t)length != strlen(text) || memcmp(present, text, (size_t)length) != 0)
        return fail(c, WIRE_STEP_SYMLINKAT, EEXIST);
    return 0;
}

/* All files of bind_file lie in one tmpfs that is attached nowhere; each is mounted alone. */
static int files_open(struct mounts *m)
{
    struct context *c = m->c;
    if (m->files >= 0)
        return m->files;
    int fs = filesystem_open(c, "tmpfs");
    if (fs < 0 || filesystem_set(c, fs, "mode", "0700") < 0)
        return -1;
    m->files = filesystem_make(c, fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    return m->files;
}

static int clone_file(struct mounts *m, int fd)
{
    struct context *c = m->c;
    int mount = sys_open_tree(fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE);
    if (mount >= 0 || errno != EINVAL || !privately(c))
        return mount < 0 ? fail(c, WIRE_STEP_OPEN_TREE, errno) : mount;
    int directory;
    if (hold_attached(c, m->files, &directory) < 0)
        return -1;
    mount = clone_mount(c, fd);
    if (mount < 0 || release_attached(c, m->files, directory) < 0)
        return -1;
    close(m->files); /* a mount that was detached again can be attached no more */
    m->files = -1;
    return mount;
}

int file_bind(struct mounts *m, operation op)
{
    struct context *c = m->c;
    char number[NUMBER_TEXT];
    int files = files_open(m);
    if (files < 0)
        return -1;
    const char *name = number_text(number, c->operation, 10);
    mode_t mode = op->mode == WIRE_NONE ? 0644 : op->mode & 0777;
    int fd = openat(files, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return fail(c, WIRE_STEP_OPEN, errno);
    if (write_content(c, fd, op) < 0)
        return -1;
    int mount = clone_file(m, fd);
    close(fd);
    if (mount < 0 || set_flags(c, mount, op->attributes_set) < 0)
        return -1;
    return attach(m, op, mount, false, true);
}
