/* What the supervisor knows at work (supervise.c) and says at the end (outcome.c). */

#ifndef SUBLET_SUPERVISE_H
#define SUBLET_SUPERVISE_H

#include <sys/resource.h>

#include "executor.h"

struct supervisor {
    uint16_t state; /* of the dialogue with the launcher */
    bool timed_out;
    bool gone;       /* the child was waited for */
    bool hurried;    /* it is to end now: a reader that does not read is not waited for */
    int interrupted; /* signal that ended set-up */
    int status;
    struct rusage usage;
};

uint64_t monotonic(void);              /* nanoseconds */
bool running(const struct context *c); /* set-up is complete */
int conclude(struct context *c,
             const struct supervisor *s); /* tell who is there to be told; the exit status */

#endif
