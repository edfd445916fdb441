/* newuidmap(1) and newgidmap(1): run at once, waited for together. */

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#include "executor.h"
#include "syscalls.h"

#define MAX_EXTENTS 340
#define HELPER_STACK 16384

struct helper {
    const char *path;
    char *argv[3 * MAX_EXTENTS + 3];
    char text[11 * (3 * MAX_EXTENTS + 1)];
    size_t length;
    const struct context *c;
    int quiet; /* where its output goes, or -1: to the caller */
    pid_t pid;
};

static char *number(struct helper *helper, uint32_t value)
{
    char digits[10];
    size_t length = 0;
    char *start = helper->text + helper->length;
    do
        digits[length++] = (char)('0' + value % 10);
    while ((value /= 10) > 0);
    while (length > 0)
        helper->text[helper->length++] = digits[--length];
    helper->text[helper->length++] = '\0';
    return start;
}

ON_OTHER_STACK static int helper_main(void *argument)
{
    static char *const environment[] = {NULL};
    struct helper *helper = argument;
    if (helper->quiet >= 0) {
        dup2(helper->quiet, 1);
        dup2(helper->quiet, 2);
    }
    signal_mask(SIG_SETMASK, 0, NULL);
    execve(helper->path, helper->argv, environment);
    _exit(EXIT_NOT_FOUND);
}

/* Started as vfork(2) does it, on a stack of its own: the buffers of both are on ours. */
static int start(struct context *c, struct helper *helper, pid_t pid, bool groups)
{
    const struct wire_map *map = &c->plan->maps[0];
    const struct wire_extent *extents =
        c->plan->extents + (groups ? map->gid_first : map->uid_first);
    uint32_t count = groups ? map->gid_count : map->uid_count;
    const struct wire_settings *s = c->plan->settings;
    size_t argc = 0;
    helper->c = c;
    helper->length = 0;
    helper->path = plan_string(c->plan, groups ? s->newgidmap : s->newuidmap);
    /* Its own words are of use to people, but not where somebody else explains. */
    helper->quiet = c->channel >= 0 || s->reporter_count > 0 ? c->null : -1;
    helper->argv[argc++] = (char *)(uintptr_t)helper->path;
    helper->argv[argc++] = number(helper, (uint32_t)pid);
    for (uint32_t i = 0; i < count; i++) {
        helper->argv[argc++] = number(helper, extents[i].inside);
        helper->argv[argc++] = number(helper, extents[i].outside);
        helper->argv[argc++] = number(helper, extents[i].count);
    }
    helper->argv[argc] = NULL;
    _Alignas(16) uint8_t stack[HELPER_STACK];
    helper->pid =
        clone(helper_main, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, helper);
    return helper->pid < 0 ? fail(c, WIRE_STEP_FORK, errno) : 0;
}

static int finish(struct context *c, const struct helper *helper, uint16_t step)
{
    int status;
    while (waitpid(helper->pid, &status, 0) < 0)
        if (errno != EINTR)
            return fail(c, WIRE_STEP_WAIT, errno);
    if (status == 0)
        return 0;
    return fail_status(c, step, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

int helpers_run(struct context *c, pid_t pid)
{
    struct helper users, groups;
    if (start(c, &users, pid, false) < 0)
        return -1;
    int result = start(c, &groups, pid, true);
    if (finish(c, &users, WIRE_STEP_NEWUIDMAP) < 0)
        result = -1;
    /* Also where the first one failed: nothing is left behind. */
    if (groups.pid > 0 && finish(c, &groups, WIRE_STEP_NEWGIDMAP) < 0)
        result = -1;
    return result;
}
