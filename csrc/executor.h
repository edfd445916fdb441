/* What the executor's parts share. Convention: a function that can fail returns 0 (or a descriptor) on success and -1 on
 * failure, after noting phase, step, operation and errno with fail(). Nothing is allocated after decoding. */

#ifndef SUBLET_EXECUTOR_H
#define SUBLET_EXECUTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "wire.h"

/* A decoded plan: pointers into one private, checked copy. Strings are NUL-terminated inside it. */
struct plan {
    const uint8_t *base;
    size_t size;
    const struct wire_settings *settings;
    const char *strings;
    const uint8_t *data;
    const uint32_t *words;
    const uint32_t *groups;
    const struct wire_map *maps;
    const struct wire_extent *extents;
    const uint32_t *slots;
    const struct wire_join *joins;
    const struct wire_operation *operations;
    const struct wire_rlimit *rlimits;
    const struct wire_descriptor *descriptors;
    uint32_t counts[WIRE_SECTION_COUNT];
    char **argv;        /* NULL-terminated, made while decoding */
    char **environment; /* NULL-terminated */
    char **reporter;    /* NULL-terminated, with room for four more */
};

struct context {
    const struct plan *plan;
    uint16_t phase;     /* where we are, for fail() */
    uint32_t operation; /* index, or WIRE_NONE */
    struct {
        uint16_t phase;
        uint16_t step;
        uint32_t operation;
        int32_t error;
    } failure;
    int slots[WIRE_MAX_SLOTS]; /* descriptor of each slot, -1: not given */
    int *outside;              /* per operation: the detached mount made in phase `outside`, or -1 */
    int *map_namespaces;       /* per map: descriptor of a user namespace with that map, or -1 */
    int root;                  /* O_PATH descriptor of the new (or present) root */
    int devpts;                /* root of the new devpts mount where the plan has a terminal, or -1 */
    int terminal;              /* slave of the plan's pty, or -1 */
    int procfs;                /* private procfs for sysctl, or -1 */
    uid_t caller_uid;          /* fsuid and fsgid with which sources are opened, */
    gid_t caller_gid;          /* as seen inside; WIRE_NONE where set-up acts as the caller */
};

/* Note a failure (the first one counts) and return -1. error 0 stands for the executor's own check: EINVAL is noted. */
int fail(struct context *c, uint16_t step, int error);

/* decode.c */
int plan_decode(struct plan *out, const uint8_t *bytes, size_t size); /* 0, or -1 with errno; bytes must stay */
const char *plan_string(const struct plan *p, uint32_t reference);    /* NULL for WIRE_NONE */

/* mount.c: make mounts (detached), resolve targets, attach; one entry for each phase */
int mounts_outside(struct context *c); /* phase outside: operations with that flag, in the supervisor */
int mounts_inside(struct context *c);  /* phase mounts: propagation, then all operations in order */
int root_enter(struct context *c);     /* phase root: pivot, detach the old root; chdir("/") */

/* userns.c: also used by mount.c for ID-mapped mounts */
int map_namespace(struct context *c, uint32_t map); /* descriptor of a user namespace with that map, cached */

#endif
