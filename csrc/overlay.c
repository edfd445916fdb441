/* Overlays. Layers are opened first and given to the kernel as descriptors, or as the names that
 * /proc/self/fd has for them: no colon, comma or backslash in a path can change its meaning, and no
 * path is resolved twice. */

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "mounts.h"
#include "syscalls.h"

#define MAX_LOWER 500 /* the kernel's own limit */

struct layers {
    uint32_t count;
    int upper;
    int work;
    int scratch; /* the detached tmpfs that upper and work lie in */
    int lower[MAX_LOWER];
};

/* `opened`: -1, or the layer's descriptor, opened before. */
static int open_layer(struct context *c, const char *path, int opened)
{
    if (opened >= 0)
        return opened;
    int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? fail(c, WIRE_STEP_OPEN, errno) : fd;
}

/* The merged root looks as the upper directory does: give it owner and mode of the topmost lower.
 * An owner without an inside ID cannot be given; then it is ours. */
static int make_upper(struct context *c, int scratch, int lower)
{
    struct stat st;
    if (fstat(lower, &st) < 0)
        return fail(c, WIRE_STEP_FSTAT, errno);
    if (mkdirat(scratch, "upper", 0700) < 0 || mkdirat(scratch, "work", 0700) < 0)
        return fail(c, WIRE_STEP_MKDIRAT, errno);
    int fd = openat(scratch, "upper", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return fail(c, WIRE_STEP_OPEN, errno);
    if (fchown(fd, st.st_uid, st.st_gid) < 0 && errno != EINVAL && errno != EPERM)
        return fail(c, WIRE_STEP_FCHOWN, errno);
    if (fchmod(fd, st.st_mode & 07777) < 0)
        return fail(c, WIRE_STEP_FCHMOD, errno);
    return fd;
}

static int make_scratch(struct context *c, operation op, struct layers *l)
{
    int fs = filesystem_open(c, "tmpfs");
    if (fs < 0 || filesystem_set(c, fs, "mode", "0700") < 0 ||
        (op->size != 0 && filesystem_number(c, fs, "size", op->size, 10) < 0))
        return -1;
    l->scratch = filesystem_make(c, fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    if (l->scratch < 0)
        return -1;
    l->upper = make_upper(c, l->scratch, l->lower[0]);
    if (l->upper < 0)
        return -1;
    l->work = openat(l->scratch, "work", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return l->work < 0 ? fail(c, WIRE_STEP_OPEN, errno) : 0;
}

static int open_layers(struct mounts *m, operation op, struct layers *l)
{
    struct context *c = m->c;
    if (op->lower_count == 0 || op->lower_count > MAX_LOWER)
        return fail(c, WIRE_STEP_CHECK, E2BIG);
    if (act_as_caller(m, true) < 0)
        return -1;
    for (; l->count < op->lower_count; l->count++) {
        uint32_t word = c->plan->words[op->lower_first + l->count];
        int fd = open_layer(c, plan_string(c->plan, word),
                            c->opened ? c->lowers[op->lower_first + l->count] : -1);
        if (fd < 0)
            return -1;
        l->lower[l->count] = fd;
    }
    if (op->source != WIRE_NONE) {
        l->upper = open_layer(c, plan_string(c->plan, op->source),
                              c->opened ? c->sources[c->operation] : -1);
        if (l->upper < 0)
            return -1;
    }
    if (op->work != WIRE_NONE) {
        l->work =
            open_layer(c, plan_string(c->plan, op->work), c->opened ? c->works[c->operation] : -1);
        if (l->work < 0)
            return -1;
    }
    /* What the overlay does to its layers later, it does as who makes it: set-up, not the caller.
     */
    if (act_as_caller(m, false) < 0)
        return -1;
    return has(op, WIRE_OPERATION_FLAG_SCRATCH) ? make_scratch(c, op, l) : 0;
}

static void close_layers(struct layers *l)
{
    for (uint32_t i = 0; i < l->count; i++)
        close(l->lower[i]);
    if (l->upper >= 0)
        close(l->upper);
    if (l->work >= 0)
        close(l->work);
    if (l->scratch >= 0)
        close(l->scratch);
}

/* Descriptors are taken since Linux 6.13; before, a name is. errno only. */
static int give_layer(int fs, const char *key, int fd)
{
    char name[NUMBER_PATH];
    if (sys_fsconfig(fs, SYS_FSCONFIG_SET_FD, key, NULL, fd) == 0)
        return 0;
    if (errno != EINVAL)
        return -1;
    return sys_fsconfig(fs, SYS_FSCONFIG_SET_STRING, key, descriptor_path(name, fd), 0);
}

/* Before Linux 6.7 all lower layers come in one value, of at most 255 bytes. */
static int give_lowers_at_once(struct context *c, int fs, const struct layers *l)
{
    char names[256] = "";
    char name[NUMBER_PATH];
    size_t length = 0;
    for (uint32_t i = 0; i < l->count; i++) {
        descriptor_path(name, l->lower[i]);
        if (length + strlen(name) + 2 > sizeof names)
            return fail(c, WIRE_STEP_FSCONFIG, E2BIG);
        if (i > 0)
            names[length++] = ':';
        strcpy(names + length, name);
        length += strlen(name);
    }
    return filesystem_set(c, fs, "lowerdir", names);
}

static int give_layers(struct context *c, int fs, const struct layers *l)
{
    for (uint32_t i = 0; i < l->count; i++) {
        if (give_layer(fs, "lowerdir+", l->lower[i]) == 0)
            continue;
        if (i > 0 || errno != EINVAL)
            return fail(c, WIRE_STEP_FSCONFIG, errno);
        if (give_lowers_at_once(c, fs, l) < 0)
            return -1;
        break;
    }
    if (l->upper >= 0 && give_layer(fs, "upperdir", l->upper) < 0)
        return fail(c, WIRE_STEP_FSCONFIG, errno);
    if (l->work >= 0 && give_layer(fs, "workdir", l->work) < 0)
        return fail(c, WIRE_STEP_FSCONFIG, errno);
    return 0;
}

static int configure(struct context *c, operation op, const struct layers *l)
{
    int fs = filesystem_open(c, "overlay");
    if (fs < 0)
        return -1;
    if (has(op, WIRE_OPERATION_FLAG_USERXATTR) && filesystem_set(c, fs, "userxattr", NULL) < 0)
        return -1;
    if (has(op, WIRE_OPERATION_FLAG_VOLATILE) && filesystem_set(c, fs, "volatile", NULL) < 0)
        return -1;
    if (filesystem_options(c, fs, op) < 0 || give_layers(c, fs, l) < 0)
        return -1;
    return fs;
}

static int create(int fs)
{
    return sys_fsconfig(fs, SYS_FSCONFIG_CMD_CREATE, NULL, NULL, 0);
}

/* Again, with the scratch tmpfs attached: a kernel before 6.15 may have refused it for being
 * detached. The overlay keeps a mount of its own of it. */
static int create_held(struct context *c, operation op, const struct layers *l)
{
    int directory;
    if (hold_attached(c, l->scratch, &directory) < 0)
        return -1;
    int fs = configure(c, op, l);
    if (fs < 0)
        return -1;
    if (create(fs) < 0)
        return fail(c, WIRE_STEP_FSCONFIG, errno);
    return release_attached(c, l->scratch, directory) < 0 ? -1 : fs;
}

static int merge(struct context *c, operation op, const struct layers *l)
{
    int fs = configure(c, op, l);
    if (fs < 0)
        return -1;
    if (create(fs) < 0) {
        if (errno != EINVAL || l->scratch < 0 || !privately(c))
            return fail(c, WIRE_STEP_FSCONFIG, errno);
        close(fs);
        fs = create_held(c, op, l);
        if (fs < 0)
            return -1;
    }
    return filesystem_detached(c, fs, op->attributes_set);
}

/* One layer with nothing to write to is no overlay to the kernel; it is the layer, read-only. */
static int show_layer(struct context *c, operation op, int lower)
{
    int mount = clone_mount(c, lower);
    if (mount < 0 || set_flags(c, mount, op->attributes_set | WIRE_ATTRIBUTE_READ_ONLY) < 0)
        return -1;
    return mount;
}

int overlay_make(struct mounts *m, operation op)
{
    struct layers l = {.upper = -1, .work = -1, .scratch = -1};
    if (open_layers(m, op, &l) < 0)
        return -1;
    int mount;
    if (l.upper < 0 && l.count == 1)
        mount = show_layer(m->c, op, l.lower[0]);
    else
        mount = merge(m->c, op, &l);
    close_layers(&l);
    return mount;
}
