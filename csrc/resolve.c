/* Targets below the new root: found with openat2(RESOLVE_IN_ROOT), created one component at a time
 * relative to a descriptor, and never looked up again. A directory that somebody renames meanwhile
 * stays the directory that was found; a symbolic link that somebody puts in the way is resolved
 * inside the root, or refused. */

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "mounts.h"
#include "syscalls.h"

/* openat2 gives EAGAIN where a rename anywhere made it lose its way at a ".."; a loop of renames
 * can make that frequent, but not certain. */
#define ATTEMPTS 1000

static int open_inside(struct mounts *m, const char *path, uint64_t flags, uint64_t mode)
{
    for (int attempt = 0;; attempt++) {
        int fd =
            sys_openat2(m->c->root, path, flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
        if (fd >= 0 || errno != EAGAIN || attempt == ATTEMPTS)
            return fd;
    }
}

int resolve(struct mounts *m, const char *path, uint64_t flags)
{
    return open_inside(m, path, flags, 0);
}

bool is_root(const char *path)
{
    return path[0] == '/' && path[1] == '\0';
}

static bool is_name(const char *name)
{
    return name[0] != '\0' && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

void parent_remember(struct mounts *m, const char *path, int fd)
{
    if (m->parent >= 0)
        close(m->parent);
    m->parent = fd;
    m->parent_path = path;
    m->parent_length = fd >= 0 ? strlen(path) : 0;
}

/* Make the missing directories of path (length bytes, changed while at work) and open the last.
 * First the longest part that exists is looked for, then one name after the other is made in the
 * directory before it. */
static int make_directories(struct mounts *m, char *path, size_t length)
{
    struct context *c = m->c;
    size_t end = length;
    int fd = -1;
    while (fd < 0) {
        while (end > 0 && path[end - 1] != '/')
            end--;
        if (end <= 1)
            break;
        path[end - 1] = '\0';
        fd = resolve(m, path, O_PATH | O_DIRECTORY);
        path[end - 1] = '/';
        if (fd < 0 && errno != ENOENT)
            return fail(c, WIRE_STEP_OPENAT2, errno);
        if (fd < 0)
            end--;
    }
    if (fd < 0)
        fd = c->root;
    for (char *name = path + end; name < path + length;) {
        char *slash = strchrnul(name, '/');
        *slash = '\0';
        uint16_t step = WIRE_STEP_CHECK;
        int error = ENOENT;
        int child = -1;
        if (is_name(name)) {
            step = WIRE_STEP_MKDIRAT;
            if (mkdirat(fd, name, 0755) == 0 || errno == EEXIST) {
                step = WIRE_STEP_OPEN;
                child = openat(fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            }
            error = errno;
        }
        if (slash < path + length)
            *slash = '/';
        if (fd != c->root)
            close(fd);
        if (child < 0)
            return fail(c, step, error);
        fd = child;
        name = slash + 1;
    }
    return fd;
}

/* Open the directory `path` of length bytes, made where that is allowed. */
static int open_directory(struct mounts *m, operation op, const char *path, size_t length)
{
    char copy[PATH_MAX];
    if (length >= sizeof copy)
        return fail(m->c, WIRE_STEP_CHECK, ENAMETOOLONG);
    memcpy(copy, path, length);
    copy[length] = '\0';
    int fd = resolve(m, copy, O_PATH | O_DIRECTORY);
    if (fd < 0 && errno == ENOENT && has(op, WIRE_OPERATION_FLAG_PARENTS))
        return make_directories(m, copy, length);
    return fd < 0 ? fail(m->c, WIRE_STEP_OPENAT2, errno) : fd;
}

int parent_open(struct mounts *m, operation op, const char **name)
{
    const char *path = target_of(m, op);
    const char *slash = strrchr(path, '/');
    *name = slash ? slash + 1 : path;
    if (!is_name(*name))
        return fail(m->c, WIRE_STEP_CHECK, EINVAL);
    size_t length = slash ? (size_t)(slash - path) : 0;
    if (length == 0)
        return m->c->root;
    if (m->parent >= 0 && m->parent_length == length && memcmp(m->parent_path, path, length) == 0)
        return m->parent;
    int fd = open_directory(m, op, path, length);
    if (fd < 0)
        return -1;
    parent_remember(m, path, fd);
    m->parent_length = length;
    return fd;
}

int target_existing(struct mounts *m, operation op, uint64_t flags)
{
    int fd = resolve(m, target_of(m, op), O_PATH | flags);
    if (fd >= 0)
        return fd;
    if (has(op, WIRE_OPERATION_FLAG_OPTIONAL) && (errno == ENOENT || errno == ENOTDIR))
        return MOUNT_SKIPPED;
    return fail(m->c, WIRE_STEP_OPENAT2, errno);
}

/* Tell why a directory could not be opened without following: was it a link? */
static int link_or(struct mounts *m, const char *path, int error)
{
    struct stat st;
    int fd = error == ENOTDIR ? resolve(m, path, O_PATH | O_NOFOLLOW) : -1;
    if (fd < 0)
        return error;
    if (fstat(fd, &st) == 0 && S_ISLNK(st.st_mode))
        error = ELOOP;
    close(fd);
    return error;
}

/* Creation is tried first: it answers EEXIST before anything else, and most targets in a fresh
 * root are missing. */
int target_directory(struct mounts *m, operation op, bool follow)
{
    struct context *c = m->c;
    const char *path = target_of(m, op);
    bool create = !has(op, WIRE_OPERATION_FLAG_EXISTING);
    if (create) {
        const char *name;
        int parent = parent_open(m, op, &name);
        if (parent < 0)
            return -1;
        if (mkdirat(parent, name, 0755) == 0) {
            int fd = openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            return fd < 0 ? fail(c, WIRE_STEP_OPEN, errno) : fd;
        }
        if (errno != EEXIST)
            return fail(c, WIRE_STEP_MKDIRAT, errno);
    }
    int fd = resolve(m, path, O_PATH | O_DIRECTORY | (follow ? 0 : O_NOFOLLOW));
    if (fd >= 0)
        return fd;
    if (errno == ENOENT && create) /* a symbolic link that leads nowhere */
        return fail(c, WIRE_STEP_MKDIRAT, EEXIST);
    return fail(c, WIRE_STEP_OPENAT2, follow ? errno : link_or(m, path, errno));
}

/* Make the directory that the symbolic link parent/name points into: /etc/resolv.conf, say, leads
 * into a /run that is still empty. One link is followed here; all that exists is the kernel's. */
static int make_link_directory(struct mounts *m, operation op, int parent, const char *name)
{
    char path[2 * PATH_MAX];
    const char *target = target_of(m, op);
    size_t before = (size_t)(name - target);
    if (before >= PATH_MAX)
        return fail(m->c, WIRE_STEP_CHECK, ENAMETOOLONG);
    memcpy(path, target, before);
    ssize_t length = readlinkat(parent, name, path + before, PATH_MAX - 1);
    if (length < 0)
        return fail(m->c, WIRE_STEP_READLINK, errno);
    char *text = path + before;
    text[length] = '\0';
    char *start = text[0] == '/' ? text : path;
    char *slash = strrchr(text, '/');
    if (slash == NULL || slash == start)
        return 0;
    int fd = open_directory(m, op, start, (size_t)(slash - start));
    if (fd < 0)
        return -1;
    if (fd != m->c->root)
        close(fd);
    return 0;
}

/* Create the file that the symbolic link `op->target` points to, inside the root: the kernel
 * follows it and creates in one step. Not blocking, should it have become something else. */
static int create_through_link(struct mounts *m, operation op, int parent, const char *name)
{
    if (has(op, WIRE_OPERATION_FLAG_PARENTS) && make_link_directory(m, op, parent, name) < 0)
        return -1;
    int fd = open_inside(m, target_of(m, op), O_RDONLY | O_CREAT | O_NONBLOCK | O_NOCTTY, 0644);
    return fd < 0 ? fail(m->c, WIRE_STEP_OPENAT2, errno) : fd;
}

int target_file(struct mounts *m, operation op)
{
    struct context *c = m->c;
    bool create = !has(op, WIRE_OPERATION_FLAG_EXISTING);
    const char *name = NULL;
    int parent = -1;
    if (create) {
        parent = parent_open(m, op, &name);
        if (parent < 0)
            return -1;
        int fd = openat(parent, name, O_RDONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
        if (fd >= 0)
            return fd;
        if (errno != EEXIST)
            return fail(c, WIRE_STEP_OPEN, errno);
    }
    int fd = resolve(m, target_of(m, op), O_PATH);
    if (fd < 0) {
        if (errno != ENOENT || !create)
            return fail(c, WIRE_STEP_OPENAT2, errno);
        fd = create_through_link(m, op, parent, name);
        if (fd < 0)
            return -1;
    }
    struct stat st;
    if (fstat(fd, &st) < 0)
        return fail(c, WIRE_STEP_FSTAT, errno);
    if (S_ISDIR(st.st_mode)) {
        close(fd);
        return fail(c, WIRE_STEP_OPENAT2, EISDIR);
    }
    return fd;
}
