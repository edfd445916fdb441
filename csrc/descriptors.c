/* Which descriptors stay open where. */

#include <errno.h>
#include <fcntl.h>

#include "executor.h"
#include "syscalls.h"

void close_all_but(int *keep, int count, unsigned int flags)
{
    for (int i = 1; i < count; i++)
        for (int j = i; j > 0 && keep[j - 1] > keep[j]; j--) {
            int other = keep[j];
            keep[j] = keep[j - 1];
            keep[j - 1] = other;
        }
    unsigned int from = 3;
    for (int i = 0; i < count; i++) {
        if (keep[i] < (int)from)
            continue;
        if ((unsigned int)keep[i] > from)
            sys_close_range(from, (unsigned int)keep[i] - 1, flags);
        from = (unsigned int)keep[i] + 1;
    }
    sys_close_range(from, ~0U, flags);
}

/* Move a descriptor that stands where the payload gets another one. */
static int lift(struct context *c, int fd, int floor)
{
    int lifted = fcntl(fd, F_DUPFD_CLOEXEC, floor);
    return lifted < 0 ? fail(c, WIRE_STEP_DUP, errno) : lifted;
}

/* Each slot's descriptor at its number; everything else but 0, 1, 2 is closed, gaps included, and
 * not by execve: /proc/self/fd/N as working directory would lead to what set-up has left open, such
 * as the machine's /proc (CVE-2024-21626). Only the link stays until then. Sources are first moved
 * above all numbers, so that none is overwritten. */
int payload_descriptors(struct context *c)
{
    const struct plan *p = c->plan;
    uint32_t count = p->counts[WIRE_SECTION_DESCRIPTORS];
    int numbers[count + 1];
    int sources[count + 1];
    int keep[count + 1];
    int floor = 3;
    for (uint32_t i = 0; i < count; i++) {
        numbers[i] = (int)p->descriptors[i].number;
        keep[i] = c->slots[p->descriptors[i].slot];
        if (numbers[i] >= floor)
            floor = numbers[i] + 1;
    }
    /* set before anything is opened at a number that stays */
    if (sys_close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
        return fail(c, WIRE_STEP_CLOSE_RANGE, errno);
    keep[count] = c->link;
    close_all_but(keep, (int)count + 1, 0);
    if (count == 0)
        return 0;
    if (c->link < floor && (c->link = lift(c, c->link, floor)) < 0)
        return -1;
    for (uint32_t i = 0; i < count; i++)
        if ((sources[i] = lift(c, c->slots[p->descriptors[i].slot], floor)) < 0)
            return -1;
    for (uint32_t i = 0; i < count; i++)
        if (dup2(sources[i], numbers[i]) < 0)
            return fail(c, WIRE_STEP_DUP, errno);
    return 0;
}
