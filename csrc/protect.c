/* The executor's own file, kept out of the sandbox's reach.
 *
 * A process can name the program that it runs, /proc/self/exe, and so can whoever may look into it.
 * In the moments between clone and execve that is this program, from the machine's own, writable
 * mount: a command that is a link to it, or has it in its first line, gets hold of the file, and
 * overwrites it once nobody runs it any more (CVE-2019-5736). Where somebody inside could write to
 * the file, it is therefore executed again first, from a copy in memory that nobody can change. */

#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include "executor.h"
#include "syscalls.h"

#define NAME "sublet-exec"
#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

#ifndef MFD_EXEC
#define MFD_EXEC 0x10U /* Linux 6.3 */
#endif

extern char **environ;

/* Its owner can always come to write it. Who is meant is told by the plan alone: the map's outside
 * IDs are those that this process sees. */
static bool within_reach(const struct plan *p, const struct stat *st)
{
    if (st->st_mode & (S_IWGRP | S_IWOTH))
        return true;
    if (p->counts[WIRE_SECTION_JOINS] > 0)
        return true;
    if (p->settings->writer == WIRE_WRITER_NONE)
        return st->st_uid == geteuid() || geteuid() == 0;
    const struct wire_map *map = &p->maps[0];
    for (uint32_t i = 0; i < map->uid_count; i++) {
        const struct wire_extent *one = &p->extents[map->uid_first + i];
        if (st->st_uid - one->outside < one->count)
            return true;
    }
    return false;
}

static int copy_of(struct context *c, int self)
{
    unsigned int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int copy = sys_memfd_create(NAME, flags | MFD_EXEC);
    if (copy < 0 && errno == EINVAL)
        copy = sys_memfd_create(NAME, flags);
    if (copy < 0)
        return fail(c, WIRE_STEP_MEMFD, errno);
    ssize_t part;
    while ((part = sendfile(copy, self, NULL, 1 << 30)) > 0)
        continue;
    if (part < 0)
        return fail(c, WIRE_STEP_READ, errno);
    if (fcntl(copy, F_ADD_SEALS, SEALS) < 0)
        return fail(c, WIRE_STEP_MEMFD, errno);
    return copy;
}

int program_protect(struct context *c, char **argv)
{
    struct stat st;
    int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (self < 0)
        return fail(c, WIRE_STEP_OPEN, errno);
    int seals = fcntl(self, F_GET_SEALS);
    bool copied = seals >= 0 && (seals & SEALS) == SEALS;
    if (!copied && fstat(self, &st) < 0)
        return fail(c, WIRE_STEP_FSTAT, errno);
    if (!copied && within_reach(c->plan, &st)) {
        int copy = copy_of(c, self);
        if (copy < 0)
            return -1;
        sys_execveat(copy, "", argv, environ, AT_EMPTY_PATH);
        return fail(c, WIRE_STEP_EXECVE, errno);
    }
    close(self);
    /* Executed by descriptor, it has a number for a name. */
    if (copied)
        prctl(PR_SET_NAME, NAME);
    return 0;
}
