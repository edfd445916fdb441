/* Who set-up is, and who the payload is: IDs, groups, capabilities, securebits, seccomp. */

#include <errno.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <string.h>
#include <sys/prctl.h>

#include "executor.h"
#include "syscalls.h"

#define LAST_CAPABILITY 63
#define SECURE_SETUP (SECBIT_NO_SETUID_FIXUP | SECBIT_KEEP_CAPS)

#ifndef PR_CAP_AMBIENT
#define PR_CAP_AMBIENT 47
#define PR_CAP_AMBIENT_RAISE 2
#define PR_CAP_AMBIENT_CLEAR_ALL 4
#endif

struct capabilities {
    uint64_t effective, permitted, inheritable;
};

static int capabilities_get(struct context *c, struct capabilities *out)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &header, data) < 0)
        return fail(c, WIRE_STEP_CAPSET, errno);
    out->effective = data[0].effective | (uint64_t)data[1].effective << 32;
    out->permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
    out->inheritable = data[0].inheritable | (uint64_t)data[1].inheritable << 32;
    return 0;
}

static int capabilities_set(struct context *c, const struct capabilities *set)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    for (int i = 0; i < 2; i++) {
        data[i].effective = (uint32_t)(set->effective >> 32 * i);
        data[i].permitted = (uint32_t)(set->permitted >> 32 * i);
        data[i].inheritable = (uint32_t)(set->inheritable >> 32 * i);
    }
    return syscall(SYS_capset, &header, data) < 0 ? fail(c, WIRE_STEP_CAPSET, errno) : 0;
}

/* Only where it changes something: without CAP_SETPCAP even what holds already may not be asked
 * for. */
static int secure_bits(struct context *c, unsigned long bits)
{
    int present = prctl(PR_GET_SECUREBITS);
    if (present >= 0 && (unsigned long)present == bits)
        return 0;
    if (prctl(PR_SET_SECUREBITS, bits) < 0)
        return fail(c, WIRE_STEP_SECUREBITS, errno);
    return 0;
}

static int take_ids(struct context *c, uint32_t uid, uint32_t gid)
{
    if (gid != WIRE_NONE && syscall(SYS_setresgid, gid, gid, gid) < 0)
        return fail(c, WIRE_STEP_SETRESGID, errno);
    if (uid != WIRE_NONE && syscall(SYS_setresuid, uid, uid, uid) < 0)
        return fail(c, WIRE_STEP_SETRESUID, errno);
    return 0;
}

/* The caller's ID as the new namespace sees it, which map 0 tells; none: it has no name inside. */
static uint32_t seen_inside(const struct context *c, uint32_t outside, bool groups)
{
    const struct wire_settings *s = c->plan->settings;
    if (!(s->namespaces & WIRE_NAMESPACE_USER))
        return c->plan->counts[WIRE_SECTION_JOINS] ? WIRE_NONE : outside;
    const struct wire_map *map = &c->plan->maps[0];
    const struct wire_extent *one = c->plan->extents + (groups ? map->gid_first : map->uid_first);
    for (uint32_t i = 0; i < (groups ? map->gid_count : map->uid_count); i++)
        if (outside - one[i].outside < one[i].count)
            return one[i].inside + (outside - one[i].outside);
    return WIRE_NONE;
}

int setup_identity(struct context *c)
{
    const struct wire_settings *s = c->plan->settings;
    uint32_t uid = seen_inside(c, c->caller_uid, false);
    uint32_t gid = seen_inside(c, c->caller_gid, true);
    bool same = (s->setup_uid == WIRE_NONE || s->setup_uid == uid) &&
                (s->setup_gid == WIRE_NONE || s->setup_gid == gid);
    bool named = uid != WIRE_NONE && gid != WIRE_NONE;
    c->caller_uid = same || !named ? WIRE_NONE : uid;
    c->caller_gid = same || !named ? WIRE_NONE : gid;
    if (s->setup_uid == WIRE_NONE && s->setup_gid == WIRE_NONE)
        return 0;
    /* An ID without a name inside cannot be taken again: what only it may reach is opened now. */
    if (!same && !named && c->plan->counts[WIRE_SECTION_JOINS] == 0 && sources_open(c) < 0)
        return -1;
    if (secure_bits(c, SECURE_SETUP) < 0)
        return -1;
    return take_ids(c, s->setup_uid, s->setup_gid);
}

static int drop_bounding(struct context *c, uint64_t keep)
{
    for (unsigned long one = 0; one <= LAST_CAPABILITY; one++) {
        if (keep & UINT64_C(1) << one)
            continue;
        if (prctl(PR_CAPBSET_DROP, one) == 0)
            continue;
        if (errno == EINVAL)
            return 0; /* the kernel knows no more */
        /* Nothing is lost where it is not there to be dropped. */
        if (prctl(PR_CAPBSET_READ, one) != 0)
            return fail(c, WIRE_STEP_CAPBSET_DROP, EPERM);
    }
    return 0;
}

static int raise_ambient(struct context *c, uint64_t ambient)
{
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return fail(c, WIRE_STEP_AMBIENT, errno);
    for (unsigned long one = 0; one <= LAST_CAPABILITY; one++)
        if (ambient & UINT64_C(1) << one &&
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, one, 0, 0) < 0)
            return fail(c, WIRE_STEP_AMBIENT, errno);
    return 0;
}

/* Into the working directory, as the payload: what it may not enter, it is not put into. And not
 * one that lies outside the root, however it was reached. */
static int enter_directory(struct context *c)
{
    char path[4096];
    uint16_t before = c->phase;
    const char *directory = plan_string(c->plan, c->plan->settings->directory);
    enter_phase(c, WIRE_PHASE_DIRECTORY);
    if (directory && chdir(directory) < 0)
        return fail(c, WIRE_STEP_CHDIR, errno);
    /* The system call, not the C library's search through parents. */
    if (syscall(SYS_getcwd, path, sizeof path) < 0)
        return fail(c, WIRE_STEP_GETCWD, errno);
    if (path[0] != '/')
        return fail(c, WIRE_STEP_GETCWD, ENOENT);
    enter_phase(c, before);
    return 0;
}

static int install_filter(struct context *c)
{
    const struct wire_settings *s = c->plan->settings;
    if (s->seccomp_length == 0)
        return 0;
    /* What else is to be done, but execve, the filter may well forbid. */
    if (payload_ready(c) < 0)
        return -1;
    uint16_t before = c->phase;
    enter_phase(c, WIRE_PHASE_SECCOMP);
    struct sock_fprog program = {
        .len = (unsigned short)(s->seccomp_length / sizeof(struct sock_filter)),
        .filter = (struct sock_filter *)(uintptr_t)(c->plan->data + s->seccomp_offset),
    };
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0)
        return fail(c, WIRE_STEP_SECCOMP, errno);
    enter_phase(c, before);
    return 0;
}

static int no_new_privs(struct context *c)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return fail(c, WIRE_STEP_NO_NEW_PRIVS, errno);
    return 0;
}

/* Without no_new_privs a filter needs CAP_SYS_ADMIN, so it is installed while that is permitted;
 * the directory was entered before, with the payload's own effective set. */
static int filter_with_privilege(struct context *c, const struct capabilities *last)
{
    struct capabilities now, less;
    if (capabilities_get(c, &now) < 0)
        return -1;
    less = now;
    less.effective = last->effective & now.permitted;
    if (capabilities_set(c, &less) < 0 || enter_directory(c) < 0 || capabilities_set(c, &now) < 0)
        return -1;
    return install_filter(c);
}

static int set_groups(struct context *c)
{
    const struct wire_settings *s = c->plan->settings;
    if (!(s->flags & WIRE_SETTING_SET_GROUPS))
        return 0;
    const uint32_t *groups = c->plan->groups + s->groups_first;
    if (syscall(SYS_setgroups, s->groups_count, groups) < 0)
        return fail(c, WIRE_STEP_SETGROUPS, errno);
    return 0;
}

int credentials_take(struct context *c)
{
    const struct wire_settings *s = c->plan->settings;
    enter_phase(c, WIRE_PHASE_CREDENTIALS);
    if (!(s->flags & WIRE_SETTING_SET_CREDENTIALS)) {
        /* Set-up's own bits must not stay behind. */
        if (s->setup_uid != WIRE_NONE || s->setup_gid != WIRE_NONE)
            if (secure_bits(c, 0) < 0)
                return -1;
        return enter_directory(c) < 0 ? -1 : install_filter(c);
    }
    struct capabilities last = {s->effective, s->permitted, s->inheritable};
    struct capabilities now;
    bool changes =
        (s->uid != WIRE_NONE && s->uid != getuid()) || (s->gid != WIRE_NONE && s->gid != getgid());
    if (set_groups(c) < 0)
        return -1;
    /* Capabilities outlive the change of IDs, to be set exactly below. */
    if (changes &&
        (capabilities_get(c, &now) < 0 || (now.permitted != 0 && secure_bits(c, SECURE_SETUP) < 0)))
        return -1;
    if (take_ids(c, s->uid, s->gid) < 0 || drop_bounding(c, s->bounding) < 0)
        return -1;
    /* A change of IDs sets it to fs.suid_dumpable, for init too, with whom memory is shared. */
    if (changes && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return fail(c, WIRE_STEP_DUMPABLE, errno);
    if (s->ambient) {
        /* They must be inheritable before they can be ambient. */
        if (capabilities_get(c, &now) < 0)
            return -1;
        now.inheritable = s->inheritable;
        if (capabilities_set(c, &now) < 0)
            return -1;
    }
    if (raise_ambient(c, s->ambient) < 0 || secure_bits(c, s->securebits) < 0)
        return -1;
    bool privileged = !(s->flags & WIRE_SETTING_NO_NEW_PRIVS) && s->seccomp_length > 0;
    if (privileged && filter_with_privilege(c, &last) < 0)
        return -1;
    if (capabilities_set(c, &last) < 0)
        return -1;
    if (privileged)
        return 0;
    if (enter_directory(c) < 0)
        return -1;
    enter_phase(c, WIRE_PHASE_CREDENTIALS);
    if ((s->flags & WIRE_SETTING_NO_NEW_PRIVS) && no_new_privs(c) < 0)
        return -1;
    return install_filter(c);
}
