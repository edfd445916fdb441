/* Targets and operations against trees that somebody hostile has made. Beside each stands a victim
 * directory that must stay as it is. */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "../mounts.h"
#include "../syscalls.h"
#include "test.h"

/* A plan of a few operations, a context for it, and a folder with root/ and victim/. */
struct fixture {
    struct wire_settings settings;
    struct wire_operation operations[8];
    char strings[4096];
    uint32_t strings_used;
    uint32_t words[8];
    int outside[8];
    struct plan plan;
    struct shared shared;
    struct context c;
    struct mounts m;
    char folder[64];
    char root[96];
    char victim[96];
};

static uint32_t put_string(struct fixture *f, const char *text)
{
    uint32_t at = f->strings_used;
    memcpy(f->strings + at, text, strlen(text) + 1);
    f->strings_used += (uint32_t)strlen(text) + 1;
    return at;
}

static struct wire_operation *add(struct fixture *f, uint16_t kind, const char *target,
                                  uint16_t flags)
{
    struct wire_operation *op = &f->operations[f->plan.counts[WIRE_SECTION_OPERATIONS]++];
    op->kind = kind;
    op->flags = flags;
    op->target = put_string(f, target);
    op->source = op->slot = op->mode = op->uid = op->gid = WIRE_NONE;
    op->map = op->text = op->work = WIRE_NONE;
    return op;
}

static void set_up(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    f->settings.flags = WIRE_SETTING_PIVOT;
    f->settings.namespaces = WIRE_NAMESPACE_MOUNT;
    f->settings.root_propagation = WIRE_PROPAGATION_PRIVATE;
    f->plan.settings = &f->settings;
    f->plan.operations = f->operations;
    f->plan.strings = f->strings;
    f->plan.words = f->words;
    f->plan.counts[WIRE_SECTION_STRINGS] = sizeof f->strings;
    f->c.plan = &f->plan;
    f->c.shared = &f->shared;
    f->c.phase = WIRE_PHASE_MOUNTS;
    f->c.outside = f->outside;
    f->c.root = f->c.devpts = f->c.terminal = f->c.master = f->c.procfs = f->c.null = -1;
    f->c.caller_uid = f->c.caller_gid = WIRE_NONE;
    for (size_t i = 0; i < WIRE_MAX_SLOTS; i++)
        f->c.slots[i] = -1;
    for (size_t i = 0; i < 8; i++)
        f->outside[i] = -1;
    f->m = (struct mounts){.c = &f->c, .parent = -1, .null = -1, .files = -1};
    snprintf(f->folder, sizeof f->folder, "/tmp/sublet-mount-XXXXXX");
    CHECK(mkdtemp(f->folder) != NULL);
    snprintf(f->root, sizeof f->root, "%s/root", f->folder);
    snprintf(f->victim, sizeof f->victim, "%s/victim", f->folder);
    CHECK(mkdir(f->root, 0755) == 0 && mkdir(f->victim, 0755) == 0);
    f->c.root = open(f->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* Removing fails where anything was created in the victim. */
static void tear_down(struct fixture *f)
{
    char command[256];
    parent_remember(&f->m, NULL, -1);
    close(f->c.root);
    CHECK(rmdir(f->victim) == 0);
    snprintf(command, sizeof command, "rm -rf '%s'", f->folder);
    CHECK(system(command) == 0);
}

static void link_in_root(struct fixture *f, const char *text, const char *name)
{
    CHECK(symlinkat(text, f->c.root, name) == 0);
}

static bool failed_with(const struct fixture *f, uint16_t step, int error)
{
    const struct failure *failure = &f->shared.failure;
    bool so = failure->step == step && failure->error == error;
    if (!so)
        fprintf(stderr, "failed at step %u with %s\n", failure->step, strerror(failure->error));
    return so;
}

static bool present(struct fixture *f, const char *name, mode_t type)
{
    struct stat st;
    return fstatat(f->c.root, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && (st.st_mode & S_IFMT) == type;
}

TEST(mount_number_text)
{
    char text[NUMBER_TEXT];
    char path[NUMBER_PATH];
    CHECK(strcmp(number_text(text, 0, 10), "0") == 0);
    CHECK(strcmp(number_text(text, 01777, 8), "1777") == 0);
    CHECK(strcmp(number_text(text, UINT64_MAX, 10), "18446744073709551615") == 0);
    CHECK(strcmp(number_text(text, UINT64_MAX, 8), "1777777777777777777777") == 0);
    CHECK(strcmp(descriptor_path(path, INT_MAX), "/proc/self/fd/2147483647") == 0);
}

TEST(mount_target_is_created_with_parents)
{
    struct fixture f;
    set_up(&f);
    int fd = target_directory(
        &f.m, add(&f, WIRE_OPERATION_TMPFS, "/a/b/c", WIRE_OPERATION_FLAG_PARENTS), false);
    CHECK(fd >= 0 && present(&f, "a/b/c", S_IFDIR));
    close(fd);
    fd = target_file(&f.m, add(&f, WIRE_OPERATION_DEVICE, "/a/b/null", 0));
    CHECK(fd >= 0 && present(&f, "a/b/null", S_IFREG));
    close(fd);
    CHECK(target_file(&f.m, add(&f, WIRE_OPERATION_DEVICE, "/x/null", 0)) == -1);
    CHECK(failed_with(&f, WIRE_STEP_OPENAT2, ENOENT) && !present(&f, "x", S_IFDIR));
    tear_down(&f);
}

TEST(mount_target_must_exist_where_asked)
{
    struct fixture f;
    set_up(&f);
    operation op = add(&f, WIRE_OPERATION_BIND, "/a", WIRE_OPERATION_FLAG_EXISTING);
    CHECK(target_directory(&f.m, op, true) == -1);
    CHECK(failed_with(&f, WIRE_STEP_OPENAT2, ENOENT) && !present(&f, "a", S_IFDIR));
    tear_down(&f);
}

TEST(mount_target_of_wrong_type_is_told_apart)
{
    struct fixture f;
    set_up(&f);
    CHECK(mkdirat(f.c.root, "directory", 0755) == 0 && mknodat(f.c.root, "file", S_IFREG, 0) == 0);
    CHECK(target_file(&f.m, add(&f, WIRE_OPERATION_BIND, "/directory", 0)) == -1);
    CHECK(failed_with(&f, WIRE_STEP_OPENAT2, EISDIR));
    memset(&f.shared, 0, sizeof f.shared);
    CHECK(target_directory(&f.m, add(&f, WIRE_OPERATION_BIND, "/file", 0), true) == -1);
    CHECK(failed_with(&f, WIRE_STEP_OPENAT2, ENOTDIR));
    tear_down(&f);
}

/* Links through which something might be created outside: none is, and where they lead to a place
 * inside the root, that place is used. */
TEST(mount_target_stays_inside)
{
    struct fixture f;
    set_up(&f);
    char inside[128];
    link_in_root(&f, f.victim, "absolute");
    link_in_root(&f, "../victim", "relative");
    operation file = add(&f, WIRE_OPERATION_FILE, "/absolute/x", 0);
    CHECK(target_file(&f.m, file) == -1 && failed_with(&f, WIRE_STEP_OPENAT2, ENOENT));
    memset(&f.shared, 0, sizeof f.shared);
    file = add(&f, WIRE_OPERATION_FILE, "/relative/x", WIRE_OPERATION_FLAG_PARENTS);
    CHECK(target_file(&f.m, file) == -1 && failed_with(&f, WIRE_STEP_OPEN, ENOTDIR));
    /* The same links, once they lead somewhere inside. */
    CHECK(mkdirat(f.c.root, "victim", 0755) == 0);
    int fd = target_file(&f.m, file);
    CHECK(fd >= 0 && present(&f, "victim/x", S_IFREG));
    close(fd);
    snprintf(inside, sizeof inside, "%s/x", f.victim);
    CHECK(access(inside, F_OK) == -1 && errno == ENOENT);
    tear_down(&f);
}

/* A link as the last component: refused for what must not be elsewhere, followed for a bind. */
TEST(mount_target_link_is_refused_or_followed)
{
    struct fixture f;
    set_up(&f);
    link_in_root(&f, "/", "dev");
    link_in_root(&f, "../../victim", "proc");
    link_in_root(&f, "real", "alias");
    CHECK(mkdirat(f.c.root, "real", 0755) == 0);
    CHECK(target_directory(&f.m, add(&f, WIRE_OPERATION_TMPFS, "/dev", 0), false) == -1);
    CHECK(failed_with(&f, WIRE_STEP_OPENAT2, ELOOP));
    memset(&f.shared, 0, sizeof f.shared);
    CHECK(target_directory(&f.m, add(&f, WIRE_OPERATION_PROC, "/proc", 0), false) == -1);
    CHECK(failed_with(&f, WIRE_STEP_OPENAT2, ELOOP));
    int fd = target_directory(&f.m, add(&f, WIRE_OPERATION_BIND, "/alias", 0), true);
    struct stat alias;
    struct stat real;
    CHECK(fd >= 0 && fstat(fd, &alias) == 0 && fstatat(f.c.root, "real", &real, 0) == 0);
    CHECK(alias.st_ino == real.st_ino);
    close(fd);
    tear_down(&f);
}

TEST(mount_file_target_goes_through_dangling_link)
{
    struct fixture f;
    set_up(&f);
    CHECK(mkdirat(f.c.root, "etc", 0755) == 0);
    link_in_root(&f, "../run/stub/resolv.conf", "etc/resolv.conf");
    operation op = add(&f, WIRE_OPERATION_BIND, "/etc/resolv.conf", 0);
    CHECK(target_file(&f.m, op) == -1 && failed_with(&f, WIRE_STEP_OPENAT2, ENOENT));
    op = add(&f, WIRE_OPERATION_BIND, "/etc/resolv.conf", WIRE_OPERATION_FLAG_PARENTS);
    int fd = target_file(&f.m, op);
    CHECK(fd >= 0 && present(&f, "run/stub/resolv.conf", S_IFREG));
    close(fd);
    tear_down(&f);
}

TEST(mount_names_that_are_none_are_refused)
{
    static const char *const bad[] = {"/..", "/a/..", "/a/.", "/a/"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct fixture f;
        const char *name;
        set_up(&f);
        CHECK(parent_open(&f.m, add(&f, WIRE_OPERATION_FILE, bad[i], 0), &name) == -1);
        CHECK(failed_with(&f, WIRE_STEP_CHECK, EINVAL));
        tear_down(&f);
    }
}

TEST(mount_file_never_follows)
{
    struct fixture f;
    char decoy[128];
    struct stat st;
    set_up(&f);
    snprintf(decoy, sizeof decoy, "%s/decoy", f.folder);
    CHECK(mknod(decoy, S_IFREG | 0600, 0) == 0);
    link_in_root(&f, decoy, "link");
    f.plan.data = (const uint8_t *)"evil";
    struct wire_operation *op = add(&f, WIRE_OPERATION_FILE, "/link", 0);
    op->content_length = 4;
    CHECK(file_create(&f.m, op) == -1 && failed_with(&f, WIRE_STEP_OPEN, ELOOP));
    memset(&f.shared, 0, sizeof f.shared);
    op = add(&f, WIRE_OPERATION_CHMOD, "/link", 0);
    op->mode = 0777;
    CHECK(mode_change(&f.m, op) == -1 && failed_with(&f, WIRE_STEP_FCHMOD, ELOOP));
    CHECK(stat(decoy, &st) == 0 && st.st_size == 0 && (st.st_mode & 0777) == 0600);
    tear_down(&f);
}

TEST(mount_file_is_rewritten_or_left)
{
    struct fixture f;
    char text[16] = "";
    struct stat st;
    set_up(&f);
    f.plan.data = (const uint8_t *)"longer";
    struct wire_operation *op = add(&f, WIRE_OPERATION_FILE, "/f", 0);
    op->mode = 04751;
    op->content_length = 6;
    CHECK(file_create(&f.m, op) == 0);
    CHECK(fstatat(f.c.root, "f", &st, 0) == 0 && (st.st_mode & 07777) == 04751);
    op->content_length = 4;
    CHECK(file_create(&f.m, op) == 0);
    op->flags = WIRE_OPERATION_FLAG_IF_MISSING;
    op->content_length = 1;
    CHECK(file_create(&f.m, op) == 0);
    int fd = openat(f.c.root, "f", O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0 && read(fd, text, sizeof text) == 4 && strcmp(text, "long") == 0);
    close(fd);
    op->flags = WIRE_OPERATION_FLAG_EXCLUSIVE;
    CHECK(file_create(&f.m, op) == -1 && failed_with(&f, WIRE_STEP_OPEN, EEXIST));
    tear_down(&f);
}

TEST(mount_file_spares_its_other_names)
{
    struct fixture f;
    char other[128];
    struct stat st;
    set_up(&f);
    snprintf(other, sizeof other, "%s/other", f.folder);
    f.plan.data = (const uint8_t *)"text";
    struct wire_operation *op = add(&f, WIRE_OPERATION_FILE, "/f", 0);
    op->content_length = 4;
    CHECK(file_create(&f.m, op) == 0 && linkat(f.c.root, "f", AT_FDCWD, other, 0) == 0);
    op->content_length = 1;
    CHECK(file_create(&f.m, op) == 0);
    CHECK(stat(other, &st) == 0 && st.st_size == 4 && st.st_nlink == 1);
    CHECK(fstatat(f.c.root, "f", &st, 0) == 0 && st.st_size == 1);
    tear_down(&f);
}

TEST(mount_file_is_copied_from_a_pipe)
{
    struct fixture f;
    int ends[2];
    char text[16] = "";
    set_up(&f);
    CHECK(pipe2(ends, O_CLOEXEC) == 0 && write(ends[1], "piped", 5) == 5);
    close(ends[1]);
    f.c.slots[0] = ends[0];
    struct wire_operation *op = add(&f, WIRE_OPERATION_FILE, "/f", 0);
    op->slot = 0;
    CHECK(file_create(&f.m, op) == 0);
    close(ends[0]);
    int fd = openat(f.c.root, "f", O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0 && read(fd, text, sizeof text) == 5 && strcmp(text, "piped") == 0);
    close(fd);
    tear_down(&f);
}

TEST(mount_symlink_may_be_there)
{
    struct fixture f;
    set_up(&f);
    struct wire_operation *op = add(&f, WIRE_OPERATION_SYMLINK, "/s", 0);
    op->text = put_string(&f, "one");
    CHECK(symlink_create(&f.m, op) == 0 && symlink_create(&f.m, op) == 0);
    op->text = put_string(&f, "onex");
    op->flags = WIRE_OPERATION_FLAG_IF_MISSING;
    CHECK(symlink_create(&f.m, op) == 0);
    op->flags = 0;
    CHECK(symlink_create(&f.m, op) == -1 && failed_with(&f, WIRE_STEP_SYMLINKAT, EEXIST));
    tear_down(&f);
}

static void build_and_enter(void *argument)
{
    struct fixture *f = argument;
    if (!test_private_mounts())
        return;
    close(f->c.root);
    f->c.root = -1;
    add(f, WIRE_OPERATION_TMPFS, "/", 0)->mode = 0755;
    struct wire_operation *op =
        add(f, WIRE_OPERATION_DEVICE, "/dev/null", WIRE_OPERATION_FLAG_PARENTS);
    op->source = put_string(f, "/dev/null");
    op->device_major = 1;
    op->device_minor = 3;
    op = add(f, WIRE_OPERATION_BIND, "/old", 0);
    op->source = put_string(f, f->root);
    op->attributes_set = WIRE_ATTRIBUTE_READ_ONLY;
    op = add(f, WIRE_OPERATION_BIND, "/never", WIRE_OPERATION_FLAG_OPTIONAL);
    op->source = put_string(f, "/nonexistent/source");
    op = add(f, WIRE_OPERATION_BIND_FILE, "/note", 0);
    op->content_length = 4;
    f->plan.data = (const uint8_t *)"note";
    op = add(f, WIRE_OPERATION_MASK, "/old", 0);
    op = add(f, WIRE_OPERATION_REMOUNT, "/", 0);
    op->attributes_set = WIRE_ATTRIBUTE_READ_ONLY;
    mode_t mask = umask(077);
    if (!CHECK(mounts_inside(&f->c) == 0 && root_enter(&f->c) == 0)) {
        failed_with(f, 0, 0);
        return;
    }
    CHECK(umask(mask) == 077);
    struct stat st;
    CHECK(stat("/dev/null", &st) == 0 && st.st_rdev == makedev(1, 3));
    CHECK(stat("/dev", &st) == 0 && (st.st_mode & 0777) == 0755);
    CHECK(stat("/note", &st) == 0 && st.st_size == 4 && (st.st_mode & 0777) == 0644);
    CHECK(access("/never", F_OK) == -1 && errno == ENOENT);
    CHECK(access("/tmp", F_OK) == -1 && errno == ENOENT);
    CHECK(access("/old/mark", F_OK) == -1 && errno == ENOENT);
    CHECK(mkdir("/new", 0755) == -1 && errno == EROFS);
    CHECK(mkdir("/old/new", 0755) == -1 && errno == EROFS);
}

TEST(mount_builds_and_enters_a_root)
{
    struct fixture f;
    set_up(&f);
    CHECK(mkdirat(f.c.root, "mark", 0755) == 0);
    test_in_child(build_and_enter, &f);
    tear_down(&f);
}

static void refuse_device(void *argument)
{
    struct fixture *f = argument;
    if (!test_private_mounts())
        return;
    add(f, WIRE_OPERATION_TMPFS, "/", 0);
    struct wire_operation *op = add(f, WIRE_OPERATION_DEVICE, "/null", 0);
    op->source = put_string(f, "/dev/zero");
    op->device_major = 1;
    op->device_minor = 3;
    CHECK(mounts_inside(&f->c) == -1 && failed_with(f, WIRE_STEP_CHECK, ENODEV));
    CHECK(f->shared.failure.operation == 1);
}

TEST(mount_refuses_another_device)
{
    struct fixture f;
    set_up(&f);
    test_in_child(refuse_device, &f);
    tear_down(&f);
}

static void need_root(void *argument)
{
    struct fixture *f = argument;
    if (!test_private_mounts())
        return;
    close(f->c.root);
    f->c.root = -1;
    add(f, WIRE_OPERATION_TMPFS, "/tmp", 0);
    CHECK(mounts_inside(&f->c) == -1 && failed_with(f, WIRE_STEP_CHECK, ENOENT));
}

TEST(mount_needs_a_root_first)
{
    struct fixture f;
    set_up(&f);
    test_in_child(need_root, &f);
    f.c.root = open(f.root, O_PATH | O_CLOEXEC);
    tear_down(&f);
}
