/* Fresh file systems: configured key by key, never by one string of options, so that no comma or
 * backslash in a value means anything. */

#include <errno.h>
#include <string.h>

#include "mounts.h"
#include "syscalls.h"

const char *number_text(char buffer[NUMBER_TEXT], uint64_t value, unsigned int base)
{
    char *start = buffer + NUMBER_TEXT - 1;
    *start = '\0';
    do {
        *--start = (char)('0' + value % base);
        value /= base;
    } while (value != 0);
    return start;
}

const char *descriptor_path(char buffer[NUMBER_PATH], int fd)
{
    char number[NUMBER_TEXT];
    strcpy(buffer, "/proc/self/fd/");
    return strcat(buffer, number_text(number, (uint64_t)fd, 10));
}

int filesystem_open(struct context *c, const char *type)
{
    int fs = sys_fsopen(type);
    if (fs < 0)
        return fail(c, WIRE_STEP_FSOPEN, errno);
    return filesystem_set(c, fs, "source", type) < 0 ? -1 : fs;
}

int filesystem_set(struct context *c, int fs, const char *key, const char *value)
{
    unsigned int command = value ? SYS_FSCONFIG_SET_STRING : SYS_FSCONFIG_SET_FLAG;
    if (sys_fsconfig(fs, command, key, value, 0) < 0)
        return fail(c, WIRE_STEP_FSCONFIG, errno);
    return 0;
}

int filesystem_number(struct context *c, int fs, const char *key, uint64_t value, unsigned int base)
{
    char text[NUMBER_TEXT];
    return filesystem_set(c, fs, key, number_text(text, value, base));
}

/* The operation's own words, "key=value" or "key". */
int filesystem_options(struct context *c, int fs, operation op)
{
    for (uint32_t i = 0; i < op->options_count; i++) {
        const char *word = plan_string(c->plan, c->plan->words[op->options_first + i]);
        const char *equals = strchr(word, '=');
        char key[64];
        size_t length = equals ? (size_t)(equals - word) : strlen(word);
        if (length >= sizeof key)
            return fail(c, WIRE_STEP_CHECK, ENAMETOOLONG);
        memcpy(key, word, length);
        key[length] = '\0';
        if (filesystem_set(c, fs, key, equals ? equals + 1 : NULL) < 0)
            return -1;
    }
    return 0;
}

int filesystem_make(struct context *c, int fs, uint64_t attributes)
{
    if (sys_fsconfig(fs, SYS_FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return fail(c, WIRE_STEP_FSCONFIG, errno);
    return filesystem_detached(c, fs, attributes);
}

int filesystem_detached(struct context *c, int fs, uint64_t attributes)
{
    int mount = sys_fsmount(fs, (unsigned int)attributes);
    if (mount < 0)
        return fail(c, WIRE_STEP_FSMOUNT, errno);
    close(fs);
    return mount;
}

static int set_id(struct context *c, int fs, const char *key, uint32_t id)
{
    return id == WIRE_NONE ? 0 : filesystem_number(c, fs, key, id, 10);
}

static int set_mode(struct context *c, int fs, const char *key, uint32_t mode)
{
    return mode == WIRE_NONE ? 0 : filesystem_number(c, fs, key, mode, 8);
}

static int configure(struct context *c, int fs, operation op)
{
    if (op->kind == WIRE_OPERATION_DEVPTS && set_mode(c, fs, "ptmxmode", 0666) < 0)
        return -1;
    if (op->kind == WIRE_OPERATION_TMPFS || op->kind == WIRE_OPERATION_DEVPTS) {
        if (set_mode(c, fs, "mode", op->mode) < 0 || set_id(c, fs, "uid", op->uid) < 0 ||
            set_id(c, fs, "gid", op->gid) < 0)
            return -1;
    }
    if (op->kind == WIRE_OPERATION_TMPFS && op->size != 0 &&
        filesystem_number(c, fs, "size", op->size, 10) < 0)
        return -1;
    return filesystem_options(c, fs, op);
}

static const char *type_of(operation op)
{
    switch (op->kind) {
    case WIRE_OPERATION_TMPFS:
        return "tmpfs";
    case WIRE_OPERATION_PROC:
        return "proc";
    case WIRE_OPERATION_SYSFS:
        return "sysfs";
    case WIRE_OPERATION_DEVPTS:
        return "devpts";
    case WIRE_OPERATION_MQUEUE:
        return "mqueue";
    default:
        return "cgroup2";
    }
}

/* A link as the last component is refused: a root file system whose /proc or /dev leads elsewhere
 * would get them where nobody looks, and show its own in their place. */
int filesystem_mount(struct mounts *m, operation op)
{
    struct context *c = m->c;
    int fs = filesystem_open(c, type_of(op));
    if (fs < 0 || configure(c, fs, op) < 0)
        return -1;
    int mount = filesystem_make(c, fs, op->attributes_set);
    if (mount < 0)
        return -1;
    if (op->kind == WIRE_OPERATION_DEVPTS && setting(c, WIRE_SETTING_TERMINAL)) {
        if (c->devpts >= 0)
            close(c->devpts);
        c->devpts = fcntl(mount, F_DUPFD_CLOEXEC, 0);
        if (c->devpts < 0)
            return fail(c, WIRE_STEP_DUP, errno);
    }
    return attach(m, op, mount, true, false);
}
