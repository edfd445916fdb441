/* What must hold in a plan that its tables cannot say. Python's validation names the same mistakes
 * to people; this one stands where it cannot be bypassed. */

#include <errno.h>
#include <string.h>

#include "executor.h"

#define MAX_MAP_EXTENTS 340
#define MAX_NAME 64 /* bytes of a host or domain name */
#define MAX_DESCRIPTOR 1024
#define MAX_RESOURCES 16
#define FILTER_BYTES 8 /* struct sock_filter */
#define MAX_FILTERS 4096

static bool one_bit_or_none(uint64_t value)
{
    return (value & (value - 1)) == 0;
}

static bool absolute(const struct plan *p, uint32_t reference)
{
    return reference == WIRE_NONE || p->strings[reference] == '/';
}

/* Components without "", "." and "..", separated by single slashes. */
static bool normalised(const char *path)
{
    for (;;) {
        size_t length = strcspn(path, "/");
        if (length == 0 || (length == 1 && path[0] == '.') ||
            (length == 2 && path[0] == '.' && path[1] == '.'))
            return false;
        if (path[length] == '\0')
            return true;
        path += length + 1;
    }
}

static bool target_valid(const char *target, uint16_t kind)
{
    if (kind == WIRE_OPERATION_SYSCTL)
        return normalised(target);
    return target[0] == '/' && (target[1] == '\0' || normalised(target + 1));
}

/* What can be mounted on, or done to, the root itself. */
static bool root_is_a_place(uint16_t kind)
{
    return (kind >= WIRE_OPERATION_BIND && kind <= WIRE_OPERATION_CGROUP2) ||
           kind == WIRE_OPERATION_REMOUNT || kind == WIRE_OPERATION_CHMOD;
}

static bool makes_root(const struct plan *p, const struct wire_operation *op)
{
    return op->kind <= WIRE_OPERATION_TMPFS && p->strings[op->target + 1] == '\0';
}

static bool overlay_valid(const struct plan *p, const struct wire_operation *op)
{
    bool scratch = (op->flags & WIRE_OPERATION_FLAG_SCRATCH) != 0;
    for (uint32_t i = 0; i < op->lower_count; i++)
        if (!absolute(p, p->words[op->lower_first + i]))
            return false;
    return (op->source == WIRE_NONE) == (op->work == WIRE_NONE) && absolute(p, op->work) &&
           (scratch ? op->source == WIRE_NONE : op->size == 0);
}

static bool words_present(const struct plan *p, uint32_t first, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (p->strings[p->words[first + i]] == '\0')
            return false;
    return true;
}

static bool operation_consistent(const struct plan *p, const struct wire_operation *op)
{
    const char *target = plan_string(p, op->target);
    uint32_t exclusive = WIRE_OPERATION_FLAG_EXCLUSIVE | WIRE_OPERATION_FLAG_IF_MISSING;
    if (!target_valid(target, op->kind) || (strcmp(target, "/") == 0 && !root_is_a_place(op->kind)))
        return false;
    if (!one_bit_or_none(op->propagation) || (op->attributes_set & op->attributes_clear) != 0 ||
        !absolute(p, op->source) || (op->flags & exclusive) == exclusive)
        return false;
    uint64_t atime = WIRE_ATTRIBUTE_NOATIME | WIRE_ATTRIBUTE_STRICTATIME;
    if ((op->attributes_set & atime) == atime)
        return false;
    if (op->mode != WIRE_NONE && op->mode > 07777)
        return false;
    if (op->device_major > 0xfff || op->device_minor > 0xfffff)
        return false;
    if (op->content_length > 0 && op->slot != WIRE_NONE)
        return false;
    if (op->text != WIRE_NONE && *plan_string(p, op->text) == '\0')
        return false;
    if (!words_present(p, op->options_first, op->options_count))
        return false;
    if (op->flags & WIRE_OPERATION_FLAG_OWN_MAP &&
        (op->map != WIRE_NONE || p->counts[WIRE_SECTION_MAPS] == 0))
        return false;
    return op->kind != WIRE_OPERATION_OVERLAY || overlay_valid(p, op);
}

static bool operations_consistent(struct plan *p)
{
    bool root = !(p->settings->flags & WIRE_SETTING_PIVOT);
    for (uint32_t i = 0; i < p->counts[WIRE_SECTION_OPERATIONS]; i++) {
        p->wrong = i;
        if (!operation_consistent(p, &p->operations[i]))
            return false;
        root = root || makes_root(p, &p->operations[i]);
    }
    p->wrong = WIRE_NONE;
    return root;
}

/* The kernel's own rules for a map (user_namespaces(7)), the text's length excepted. */
static bool map_valid(const struct plan *p, uint32_t first, uint32_t count)
{
    if (count == 0 || count > MAX_MAP_EXTENTS)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        const struct wire_extent *a = &p->extents[first + i];
        if (a->count == 0 || (uint64_t)a->inside + a->count > WIRE_NONE ||
            (uint64_t)a->outside + a->count > WIRE_NONE)
            return false;
        for (uint32_t j = 0; j < i; j++) {
            const struct wire_extent *b = &p->extents[first + j];
            /* no sum overflows: it was checked above, for each when it was `a` */
            if ((a->inside < b->inside + b->count && b->inside < a->inside + a->count) ||
                (a->outside < b->outside + b->count && b->outside < a->outside + a->count))
                return false;
        }
    }
    return true;
}

static bool single(const struct plan *p, uint32_t first, uint32_t count)
{
    return count == 1 && p->extents[first].count == 1;
}

static bool maps_consistent(const struct plan *p)
{
    const struct wire_settings *s = p->settings;
    bool makes = (s->namespaces & WIRE_NAMESPACE_USER) != 0;
    /* Every map is looked at once per pair of extents: many maps over the same extents would make
     * that long without being of use. */
    if (p->counts[WIRE_SECTION_MAPS] > p->counts[WIRE_SECTION_EXTENTS])
        return false;
    for (uint32_t i = 0; i < p->counts[WIRE_SECTION_MAPS]; i++)
        if (!map_valid(p, p->maps[i].uid_first, p->maps[i].uid_count) ||
            !map_valid(p, p->maps[i].gid_first, p->maps[i].gid_count))
            return false;
    if (makes != (s->writer != WIRE_WRITER_NONE) || (makes && p->counts[WIRE_SECTION_MAPS] == 0))
        return false;
    if (s->writer == WIRE_WRITER_SELF && (!single(p, p->maps[0].uid_first, p->maps[0].uid_count) ||
                                          !single(p, p->maps[0].gid_first, p->maps[0].gid_count)))
        return false;
    if (s->writer == WIRE_WRITER_HELPERS)
        return s->newuidmap != WIRE_NONE && s->newgidmap != WIRE_NONE &&
               absolute(p, s->newuidmap) && absolute(p, s->newgidmap);
    return true;
}

static bool slots_valid(const struct plan *p)
{
    for (uint32_t i = 0; i < p->counts[WIRE_SECTION_SLOTS]; i++) {
        const char *name = p->strings + p->slots[i];
        if (*name == '\0' || strchr(name, '='))
            return false;
        for (uint32_t j = 0; j < i; j++)
            if (strcmp(name, p->strings + p->slots[j]) == 0)
                return false;
    }
    return true;
}

static bool name_valid(const struct plan *p, uint32_t reference, uint32_t uts)
{
    return reference == WIRE_NONE || (uts && strlen(p->strings + reference) <= MAX_NAME);
}

static bool namespaces_consistent(const struct plan *p)
{
    const struct wire_settings *s = p->settings;
    uint32_t joined = 0;
    for (uint32_t i = 0; i < p->counts[WIRE_SECTION_JOINS]; i++) {
        const struct wire_join *join = &p->joins[i];
        if (join->namespace == 0 || !one_bit_or_none(join->namespace) || join->slot == WIRE_NONE ||
            ((s->namespaces | joined) & join->namespace) != 0)
            return false;
        joined |= join->namespace;
    }
    static const struct {
        uint32_t setting, needs;
    } needs[] = {
        {WIRE_SETTING_PIVOT, WIRE_NAMESPACE_MOUNT},
        {WIRE_SETTING_LOOPBACK, WIRE_NAMESPACE_NET},
        {WIRE_SETTING_LOCK_NAMESPACES, WIRE_NAMESPACE_USER},
        {WIRE_SETTING_INIT, WIRE_NAMESPACE_PID},
    };
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++)
        if ((s->flags & needs[i].setting) && !(s->namespaces & needs[i].needs))
            return false;
    uint32_t all = s->namespaces | joined;
    /* Whatever is mounted must not show up outside. */
    return one_bit_or_none(s->root_propagation) &&
           (s->root_propagation == WIRE_PROPAGATION_KEEP || (all & WIRE_NAMESPACE_MOUNT)) &&
           name_valid(p, s->hostname, all & WIRE_NAMESPACE_UTS) &&
           name_valid(p, s->domainname, all & WIRE_NAMESPACE_UTS);
}

static bool credentials_consistent(const struct wire_settings *s)
{
    uint32_t needs = WIRE_SETTING_SET_GROUPS | WIRE_SETTING_NO_NEW_PRIVS;
    if (!(s->flags & WIRE_SETTING_SET_CREDENTIALS))
        return (s->flags & needs) == 0 && s->uid == WIRE_NONE && s->gid == WIRE_NONE &&
               s->groups_count == 0 && s->securebits == 0 &&
               (s->effective | s->permitted | s->inheritable | s->ambient | s->bounding) == 0;
    if (!(s->flags & WIRE_SETTING_SET_GROUPS) && s->groups_count != 0)
        return false;
    return (s->effective & ~s->permitted) == 0 &&
           (s->ambient & ~(s->permitted & s->inheritable)) == 0;
}

static bool command_valid(const struct plan *p)
{
    const struct wire_settings *s = p->settings;
    if (s->argv_count == 0)
        return false;
    const char *command = s->command == WIRE_NONE ? p->argv[0] : plan_string(p, s->command);
    if (*command == '\0' || (!strchr(command, '/') && s->search_path == WIRE_NONE))
        return false;
    for (uint32_t i = 0; i < s->environment_count; i++) {
        const char *equals = strchr(p->environment[i], '=');
        if (!equals || equals == p->environment[i])
            return false;
    }
    if (s->reporter_count > 0 && p->reporter[0][0] != '/')
        return false;
    if ((s->flags & WIRE_SETTING_REPORT_ALWAYS) && s->reporter_count == 0)
        return false;
    return absolute(p, s->directory) && (s->umask == WIRE_NONE || s->umask <= 0777);
}

static bool descriptors_valid(const struct plan *p)
{
    uint64_t seen[MAX_DESCRIPTOR / 64] = {0};
    for (uint32_t i = 0; i < p->counts[WIRE_SECTION_DESCRIPTORS]; i++) {
        const struct wire_descriptor *one = &p->descriptors[i];
        if (one->slot == WIRE_NONE || one->number >= MAX_DESCRIPTOR)
            return false;
        if (one->number < 3 && (p->settings->flags & WIRE_SETTING_TERMINAL))
            return false;
        uint64_t bit = UINT64_C(1) << one->number % 64;
        if (seen[one->number / 64] & bit)
            return false;
        seen[one->number / 64] |= bit;
    }
    return true;
}

static bool rlimits_valid(const struct plan *p)
{
    uint32_t seen = 0;
    for (uint32_t i = 0; i < p->counts[WIRE_SECTION_RLIMITS]; i++) {
        const struct wire_rlimit *one = &p->rlimits[i];
        if (one->resource >= MAX_RESOURCES || (seen & (1U << one->resource)) != 0 ||
            one->soft > one->hard)
            return false;
        seen |= 1U << one->resource;
    }
    return true;
}

int plan_check(struct plan *p)
{
    const struct wire_settings *s = p->settings;
    bool valid = slots_valid(p) && namespaces_consistent(p) && maps_consistent(p) &&
                 credentials_consistent(s) && command_valid(p) && descriptors_valid(p) &&
                 rlimits_valid(p) && s->seccomp_length % FILTER_BYTES == 0 &&
                 s->seccomp_offset % FILTER_BYTES == 0 &&
                 s->seccomp_length <= MAX_FILTERS * FILTER_BYTES && operations_consistent(p);
    errno = EINVAL;
    return valid ? 0 : -1;
}
