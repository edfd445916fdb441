/* ID maps: written once by whoever may, read back, and namespaces that hold one for ID-mapped
 * mounts. */

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "executor.h"
#include "syscalls.h"

#define MAP_TEXT 4096      /* the kernel takes less than a page */
#define READBACK_TEXT 1024 /* 340 lines of 33 bytes, read in pieces */

static size_t add_number(char *at, uint32_t number)
{
    char digits[10];
    size_t length = 0;
    do
        digits[length++] = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    for (size_t i = 0; i < length; i++)
        at[i] = digits[length - 1 - i];
    return length;
}

/* The lines of a map; 0 where they are longer than the kernel takes. */
static size_t map_text(char text[MAP_TEXT], const struct wire_extent *extents, uint32_t count)
{
    size_t length = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (length + 33 > MAP_TEXT)
            return 0;
        length += add_number(text + length, extents[i].inside);
        text[length++] = ' ';
        length += add_number(text + length, extents[i].outside);
        text[length++] = ' ';
        length += add_number(text + length, extents[i].count);
        text[length++] = '\n';
    }
    return length;
}

/* One write, as the kernel wants it. */
static int write_once(struct context *c, int proc, const char *name, const char *text,
                      size_t length, uint16_t step)
{
    int fd = openat(proc, name, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return fail(c, step, errno);
    ssize_t done = write(fd, text, length);
    int error = errno;
    close(fd);
    if (done != (ssize_t)length)
        return fail(c, step, done < 0 ? error : EIO);
    return 0;
}

static int write_map(struct context *c, int proc, bool groups, const struct wire_map *map)
{
    char text[MAP_TEXT];
    const struct wire_extent *extents =
        c->plan->extents + (groups ? map->gid_first : map->uid_first);
    uint16_t step = groups ? WIRE_STEP_GID_MAP : WIRE_STEP_UID_MAP;
    size_t length = map_text(text, extents, groups ? map->gid_count : map->uid_count);
    if (length == 0)
        return fail(c, step, E2BIG);
    return write_once(c, proc, groups ? "gid_map" : "uid_map", text, length, step);
}

int maps_write_into(struct context *c, int proc, const struct wire_map *map)
{
    return write_map(c, proc, false, map) < 0 ? -1 : write_map(c, proc, true, map);
}

static int deny_setgroups(struct context *c, int proc)
{
    if (c->plan->settings->setgroups != WIRE_SETGROUPS_DENY)
        return 0;
    return write_once(c, proc, "setgroups", "deny", 4, WIRE_STEP_SETGROUPS_FILE);
}

/* The directory of a process below the machine's /proc; pid 0: our own. */
static int process_directory(struct context *c, pid_t pid)
{
    char name[12] = "self";
    if (pid > 0)
        name[add_number(name, (uint32_t)pid)] = '\0';
    if (c->proc < 0)
        c->proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (c->proc < 0)
        return fail(c, WIRE_STEP_OPEN, errno);
    int fd = openat(c->proc, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? fail(c, WIRE_STEP_OPEN, errno) : fd;
}

int maps_write_self(struct context *c)
{
    int proc = process_directory(c, 0);
    if (proc < 0 || deny_setgroups(c, proc) < 0)
        return -1;
    int result = maps_write_into(c, proc, &c->plan->maps[0]);
    close(proc);
    return result;
}

int maps_write(struct context *c, pid_t pid)
{
    int proc = process_directory(c, pid);
    if (proc < 0 || deny_setgroups(c, proc) < 0)
        return -1;
    int result = c->plan->settings->writer == WIRE_WRITER_HELPERS
                     ? helpers_run(c, pid)
                     : maps_write_into(c, proc, &c->plan->maps[0]);
    close(proc);
    return result;
}

/* A map that is being read back: the numbers of a line, as they come. */
struct lines {
    const struct wire_extent *extents;
    uint32_t count, seen;
    uint32_t numbers[3];
    int index;
    bool within;
};

/* The kernel sorts a map of more than five extents, so every line is looked for. */
static bool line_known(const struct lines *lines)
{
    for (uint32_t i = 0; i < lines->count; i++) {
        const struct wire_extent *one = &lines->extents[i];
        if (one->inside == lines->numbers[0])
            return one->outside == lines->numbers[1] && one->count == lines->numbers[2];
    }
    return false;
}

static bool take_byte(struct lines *lines, char byte)
{
    if (byte >= '0' && byte <= '9') {
        if (!lines->within)
            lines->numbers[lines->index] = 0;
        lines->within = true;
        lines->numbers[lines->index] = lines->numbers[lines->index] * 10 + (uint32_t)(byte - '0');
        return true;
    }
    if (lines->within) {
        lines->within = false;
        lines->index++;
    }
    if (byte != '\n')
        return byte == ' ' && lines->index < 3;
    bool known = lines->index == 3 && line_known(lines);
    lines->index = 0;
    lines->seen++;
    return known;
}

static int readback(struct context *c, int proc, const char *name, uint32_t first, uint32_t count)
{
    char text[READBACK_TEXT];
    struct lines lines = {.extents = c->plan->extents + first, .count = count};
    int fd = openat(proc, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail(c, WIRE_STEP_OPEN, errno);
    ssize_t length;
    while ((length = read(fd, text, sizeof text)) > 0)
        for (ssize_t i = 0; i < length; i++)
            if (lines.index > 2 && text[i] != '\n')
                return fail(c, WIRE_STEP_READBACK, EBADMSG);
            else if (!take_byte(&lines, text[i]))
                return fail(c, WIRE_STEP_READBACK, EBADMSG);
    int error = errno;
    close(fd);
    if (length < 0)
        return fail(c, WIRE_STEP_READ, error);
    /* Extents do not overlap: as many known lines as extents are all of them, each once. */
    return lines.seen == count ? 0 : fail(c, WIRE_STEP_READBACK, EBADMSG);
}

int maps_readback(struct context *c)
{
    const struct wire_map *map = &c->plan->maps[0];
    int proc = process_directory(c, 0);
    if (proc < 0 || readback(c, proc, "uid_map", map->uid_first, map->uid_count) < 0 ||
        readback(c, proc, "gid_map", map->gid_first, map->gid_count) < 0)
        return -1;
    close(proc);
    return 0;
}

/* The child of map_namespace: it holds a user namespace and its own /proc directory, which it opens
 * in the descriptor table that both share: its PID here may not be its PID in that /proc. */
static _Noreturn void hold_namespace(struct context *c)
{
    /* Its files in /proc belong to it only while it is dumpable. */
    if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0)
        _exit(1);
    int proc = openat(c->proc, "self", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (proc < 0)
        _exit(1);
    c->shared->proc_fd = (uint32_t)proc;
    kill(getpid(), SIGSTOP);
    _exit(0);
}

static int wait_stopped(struct context *c, pid_t pid)
{
    siginfo_t info = {0};
    while (waitid(P_PID, (id_t)pid, &info, WSTOPPED | WEXITED | WNOWAIT) < 0)
        if (errno != EINTR)
            return fail(c, WIRE_STEP_WAIT, errno);
    return info.si_code == CLD_STOPPED ? 0 : fail(c, WIRE_STEP_CLONE3, ECHILD);
}

int map_namespace(struct context *c, uint32_t map)
{
    int *cached = &c->map_namespaces[map];
    if (*cached >= 0)
        return *cached;
    int proc = process_directory(c, 0); /* opens c->proc as well */
    if (proc < 0)
        return -1;
    bool own = map == 0 && c->inside;
    pid_t pid = -1;
    if (!own) {
        close(proc);
        proc = -1;
        struct sys_clone_args args = {.flags = CLONE_NEWUSER | CLONE_FILES, .exit_signal = SIGCHLD};
        pid = sys_clone3(&args);
        if (pid == 0)
            hold_namespace(c);
        if (pid < 0)
            return fail(c, WIRE_STEP_CLONE3, errno);
        if (wait_stopped(c, pid) == 0) {
            proc = (int)c->shared->proc_fd;
            if (maps_write_into(c, proc, &c->plan->maps[map]) < 0) {
                close(proc);
                proc = -1;
            }
        }
    }
    if (proc >= 0) {
        *cached = openat(proc, "ns/user", O_RDONLY | O_CLOEXEC);
        if (*cached < 0)
            fail(c, WIRE_STEP_OPEN, errno);
        close(proc);
    }
    if (pid > 0) {
        kill(pid, SIGKILL);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            continue;
    }
    return *cached < 0 ? -1 : *cached;
}
