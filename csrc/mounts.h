/* What the parts of the mount phases share (mount.c, resolve.c, bind.c, filesystem.c, overlay.c,
 * devices.c, files.c, change.c, root.c).
 *
 * Every mount is made in two steps: *make* yields the descriptor of a detached mount that has all
 * its attributes already, *attach* resolves or creates the target below the new root and moves the
 * mount there by descriptor. Nobody sees a mount before its attributes are set. */

#ifndef SUBLET_MOUNTS_H
#define SUBLET_MOUNTS_H

#include "executor.h"

/* In context.outside[]: the source is missing, which was allowed; the operation is skipped. */
#define MOUNT_SKIPPED (-2)

struct mounts {
    struct context *c;
    const char *parent_path; /* the directory that the last target lies in: a place in the plan, */
    size_t parent_length;
    int parent;     /* and its descriptor, or -1 */
    int null;       /* the machine's /dev/null, verified, or -1 */
    int files;      /* a detached tmpfs for the files of bind_file, or -1 */
    bool as_caller; /* fsuid and fsgid are the caller's */
};

typedef const struct wire_operation *operation;

/* resolve.c: targets. All lookups stay below c->root, whatever symbolic links say. */
int resolve(struct mounts *m, const char *path, uint64_t flags);     /* fd, or -1 with errno only */
int parent_open(struct mounts *m, operation op, const char **name);  /* not to be closed */
void parent_remember(struct mounts *m, const char *path, int fd);    /* takes fd; -1: forget */
int target_existing(struct mounts *m, operation op, uint64_t flags); /* MOUNT_SKIPPED: optional */
int target_directory(struct mounts *m, operation op, bool follow);
int target_file(struct mounts *m, operation op);
bool is_root(const char *path);

/* mount.c */
int attach(struct mounts *m, operation op, int mount, bool directory,
           bool follow); /* takes mount */
int act_as_caller(struct mounts *m, bool on);
int set_attributes(struct context *c, int mount, operation op, int userns, unsigned int flags);
int set_flags(struct context *c, int mount, uint64_t flags);

/* bind.c */
int bind_make(struct mounts *m, operation op); /* fd, MOUNT_SKIPPED or -1 */
int bind_attach(struct mounts *m, operation op, int mount);
int clone_mount(struct context *c, int fd); /* the one mount that fd lies in, from fd on */
int verify_idmapped(struct context *c, int fd);

/* filesystem.c */
#define NUMBER_TEXT 24 /* 2^64 in octal */
#define NUMBER_PATH 40
const char *number_text(char buffer[NUMBER_TEXT], uint64_t value, unsigned int base);
const char *descriptor_path(char buffer[NUMBER_PATH], int fd); /* /proc/self/fd/N */
int filesystem_mount(struct mounts *m,
                     operation op); /* tmpfs, proc, sysfs, devpts, mqueue, cgroup2 */
int filesystem_open(struct context *c, const char *type);
int filesystem_set(struct context *c, int fs, const char *key, const char *value);
int filesystem_number(struct context *c, int fs, const char *key, uint64_t value,
                      unsigned int base);
int filesystem_options(struct context *c, int fs, operation op);
int filesystem_make(struct context *c, int fs, uint64_t attributes); /* takes fs */
int filesystem_detached(struct context *c, int fs,
                        uint64_t attributes); /* the same, once created */

/* overlay.c */
int overlay_make(struct mounts *m, operation op); /* fd or -1 */

/* devices.c */
int device_make(struct mounts *m, operation op); /* the machine's: fd, MOUNT_SKIPPED or -1 */
int device_node(struct mounts *m, operation op); /* mknod */
int null_open(struct mounts *m);                 /* not to be closed */
int console_bind(struct mounts *m, operation op);

/* files.c */
int directory_create(struct mounts *m, operation op);
int file_create(struct mounts *m, operation op);
int file_bind(struct mounts *m, operation op);
int symlink_create(struct mounts *m, operation op);
int owner_and_mode(struct context *c, int fd, operation op);

/* change.c */
int mode_change(struct mounts *m, operation op);
int mask_cover(struct mounts *m, operation op);
int remount_change(struct mounts *m, operation op);
int sysctl_write(struct mounts *m, operation op);

/* root.c */
int root_propagate(struct context *c);
int root_attach(struct mounts *m, int mount, bool directory); /* takes mount */
bool root_is_present(const struct context *c, operation op);
int root_in_place(struct mounts *m, operation op);
bool privately(const struct context *c); /* is the mount namespace the sandbox's own? */
int hold_attached(struct context *c, int mount, int *directory); /* for kernels before 6.15 */
int release_attached(struct context *c, int mount, int directory);

static inline const char *target_of(const struct mounts *m, operation op)
{
    return plan_string(m->c->plan, op->target);
}

static inline bool has(operation op, unsigned int flag)
{
    return (op->flags & flag) != 0;
}

#endif
